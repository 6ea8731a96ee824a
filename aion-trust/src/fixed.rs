//! The natural logarithm in integers: the same on every platform, rounded towards minus infinity.
//!
//! Floating-point logarithms differ in their last bit from one platform to another; whoever has to
//! agree on balances cannot use them.

/// Fractional bits of [`ln`].
pub const FRACTION_BITS: u32 = 56;

/// `ln 2` in 64 fractional bits, rounded down.
const LN_2: u128 = 0xB172_17F7_D1CF_79AB;

/// `ln n` in units of `2^-56`, for `n >= 1`; within 4 of those units of the truth. `None` for 0.
///
/// ```
/// use aion_trust::fixed::{FRACTION_BITS, ln};
///
/// let ten = ln(10).unwrap() as f64 / (1_u64 << FRACTION_BITS) as f64;
/// assert!((ten - std::f64::consts::LN_10).abs() < 1e-15);
/// assert_eq!(ln(1), Some(0));
/// assert_eq!(ln(0), None);
/// ```
///
/// # Sources
/// Digit by digit by repeated squaring: D. E. Knuth, The Art of Computer Programming, vol. 1,
/// section 1.2.2, exercise 25 and its answer (C. S. Turner's method).
pub const fn ln(n: u128) -> Option<i64> {
    if n == 0 {
        return None;
    }
    // log2 n is below 128, so in 56 bits it is below 2^63, and times ln 2 it fits 127 bits.
    Some(((log2(n) * LN_2) >> 64) as i64)
}

/// `log2 n` in units of `2^-56`, for `n >= 1`.
const fn log2(n: u128) -> u128 {
    let whole = 127 - n.leading_zeros();
    // The mantissa in [1, 2) with 63 fractional bits.
    let mut mantissa = if whole <= 63 {
        n << (63 - whole)
    } else {
        n >> (whole - 63)
    };
    let mut result = whole as u128;
    let mut bit = 0;
    while bit < FRACTION_BITS {
        mantissa = (mantissa * mantissa) >> 63;
        let carry = mantissa >> 64;
        mantissa >>= carry as u32;
        result = (result << 1) | carry;
        bit += 1;
    }
    result
}
