//! Vectors of plain code: what a CPU without a level of its own runs, and the model of the others.
#![allow(clippy::cast_lossless, reason = "one macro for two widths")]

use std::array::from_fn;
use std::ops::{Add, Div, Mul, Sub};

use super::Vector;

/// `N` scalars.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub struct Lanes<T, const N: usize>([T; N]);

macro_rules! lanewise {
    ($scalar:ty, $n:literal, $($op:ident::$method:ident)*) => {$(
        impl $op for Lanes<$scalar, $n> {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self(from_fn(|i| self.0[i].$method(other.0[i])))
            }
        }
    )*};
}

macro_rules! portable {
    ($scalar:ident, $bits:ident, $n:literal, $mantissa:literal, $low:expr) => {
        lanewise!($scalar, $n, Add::add Sub::sub Mul::mul Div::div);

        impl Vector for Lanes<$scalar, $n> {
            type Scalar = $scalar;
            type Mask = [bool; $n];
            type Proof = ();
            const LANES: usize = $n;

            #[inline(always)]
            fn splat((): (), x: $scalar) -> Self {
                Self([x; $n])
            }

            #[inline(always)]
            fn proof(self) {}

            #[inline(always)]
            unsafe fn load((): (), at: *const $scalar) -> Self {
                // SAFETY: the caller vouches for these scalars; the read asks for no alignment.
                Self(unsafe { at.cast::<[$scalar; $n]>().read_unaligned() })
            }

            #[inline(always)]
            unsafe fn gather((): (), at: *const $scalar, step: isize) -> Self {
                // SAFETY: the caller vouches for these scalars.
                Self(from_fn(|i| unsafe { *at.offset(i as isize * step) }))
            }

            #[inline(always)]
            unsafe fn load_u8((): (), at: *const u8) -> Self {
                // SAFETY: the caller vouches for these bytes.
                Self(from_fn(|i| <$scalar>::from(unsafe { *at.add(i) })))
            }

            #[inline(always)]
            unsafe fn load_u32((): (), at: *const u32) -> Self {
                // SAFETY: the caller vouches for these integers.
                Self(from_fn(|i| unsafe { *at.add(i) } as $scalar))
            }

            #[inline(always)]
            unsafe fn store(self, at: *mut $scalar) {
                // SAFETY: the caller vouches for these scalars; the write asks for no alignment.
                unsafe { at.cast::<[$scalar; $n]>().write_unaligned(self.0) }
            }

            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                Self(from_fn(|i| self.0[i] * a.0[i] + b.0[i]))
            }

            #[inline(always)]
            fn abs(self) -> Self {
                Self(from_fn(|i| self.0[i].abs()))
            }

            #[inline(always)]
            fn sqrt(self) -> Self {
                Self(from_fn(|i| self.0[i].sqrt()))
            }

            #[inline(always)]
            fn round(self) -> Self {
                let magic = 1.5 / <$scalar>::EPSILON;
                Self(from_fn(|i| (self.0[i] + magic) - magic))
            }

            #[inline(always)]
            fn min(self, other: Self) -> Self {
                Self(from_fn(|i| {
                    if self.0[i] < other.0[i] { self.0[i] } else { other.0[i] }
                }))
            }

            #[inline(always)]
            fn max(self, other: Self) -> Self {
                Self(from_fn(|i| {
                    if self.0[i] > other.0[i] { self.0[i] } else { other.0[i] }
                }))
            }

            #[inline(always)]
            fn lt(self, other: Self) -> Self::Mask {
                from_fn(|i| self.0[i] < other.0[i])
            }

            #[inline(always)]
            fn le(self, other: Self) -> Self::Mask {
                from_fn(|i| self.0[i] <= other.0[i])
            }

            #[inline(always)]
            fn equal(self, other: Self) -> Self::Mask {
                from_fn(|i| self.0[i] == other.0[i])
            }

            #[inline(always)]
            fn and(a: Self::Mask, b: Self::Mask) -> Self::Mask {
                from_fn(|i| a[i] & b[i])
            }

            #[inline(always)]
            fn select(mask: Self::Mask, yes: Self, no: Self) -> Self {
                Self(from_fn(|i| if mask[i] { yes.0[i] } else { no.0[i] }))
            }

            #[inline(always)]
            fn all(mask: Self::Mask) -> bool {
                mask.iter().fold(true, |all, lane| all & lane)
            }

            #[inline(always)]
            fn any(mask: Self::Mask) -> bool {
                mask.iter().fold(false, |any, lane| any | lane)
            }

            #[inline(always)]
            fn split(self) -> (Self, Self) {
                const LOW: $bits = <$scalar>::to_bits($low);
                const FIELD: $bits = (1 << $mantissa) - 1;
                let tiny = |i: usize| self.0[i] < <$scalar>::MIN_POSITIVE;
                let lift = (1_u64 << ($mantissa + 2)) as $scalar;
                let lifted: [$bits; $n] =
                    from_fn(|i| (self.0[i] * if tiny(i) { lift } else { 1.0 }).to_bits());
                // One exponent more than the bias, so that the difference stays above 0.
                let shifted: [$bits; $n] =
                    from_fn(|i| lifted[i].wrapping_add(<$scalar>::to_bits(1.0)).wrapping_sub(LOW));
                let bias = (<$scalar>::to_bits(1.0) >> $mantissa) as $scalar;
                let exponent = from_fn(|i| {
                    let lift = if tiny(i) { $mantissa as $scalar + 2.0 } else { 0.0 };
                    (shifted[i] >> $mantissa) as $scalar - bias - lift
                });
                let m = from_fn(|i| <$scalar>::from_bits((shifted[i] & FIELD).wrapping_add(LOW)));
                (Self(m), Self(exponent))
            }

            #[inline(always)]
            fn scale(self, n: Self) -> Self {
                // In two factors, neither of which is subnormal; only the last product rounds.
                let half = (n * Self([0.5; $n])).round();
                self * half.pow2() * (n - half).pow2()
            }
        }

        impl Lanes<$scalar, $n> {
            /// `2^self` for whole lanes that a normal number can hold.
            #[inline(always)]
            fn pow2(self) -> Self {
                let bias = (<$scalar>::to_bits(1.0) >> $mantissa) as $scalar;
                let magic = (1_u64 << $mantissa) as $scalar;
                // The low bits of `magic + k` are `k`; shifted, they are an exponent.
                Self(from_fn(|i| {
                    <$scalar>::from_bits((self.0[i] + bias + magic).to_bits() << $mantissa)
                }))
            }
        }
    };
}

portable!(f64, u64, 4, 52, std::f64::consts::FRAC_1_SQRT_2);
portable!(f32, u32, 8, 23, std::f32::consts::FRAC_1_SQRT_2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_and_scale_undo_each_other() {
        for x in [
            f64::MIN_POSITIVE / 8.0,
            5e-324,
            1e-3,
            0.75,
            1.0,
            1.4143,
            2.0,
            1e300,
        ] {
            let (m, e) = Lanes([x; 4]).split();
            assert!(
                m.0[0] >= 0.707 && m.0[0] < 1.4143,
                "{x} has the mantissa {}",
                m.0[0]
            );
            assert_eq!(
                m.0[0] * 2f64.powi(e.0[0] as i32 / 2) * 2f64.powi(e.0[0] as i32 - e.0[0] as i32 / 2),
                x
            );
        }
        for x in [1e-40_f32, 1e-45, 0.7, 1.0, 3e38] {
            let (m, e) = Lanes([x; 8]).split();
            assert!(f64::from(m.0[0]) * 2f64.powi(e.0[0] as i32) == f64::from(x));
        }
    }

    #[test]
    fn comparisons_are_false_for_nan_and_min_gives_the_other() {
        let (nan, one) = (Lanes([f64::NAN; 4]), Lanes([1.0; 4]));
        type V = Lanes<f64, 4>;
        assert!(!V::any(nan.lt(one)) && !V::any(nan.le(one)) && !V::any(nan.equal(nan)));
        assert!(nan.min(one).0[0] == 1.0 && one.min(nan).0[0].is_nan());
        assert!(nan.max(one).0[0] == 1.0 && one.max(nan).0[0].is_nan());
    }
}
