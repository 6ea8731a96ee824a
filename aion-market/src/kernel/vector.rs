//! What a kernel may ask of a vector register.

use std::ops::{Add, Div, Mul, Sub};

use super::elementary::Float;

/// A vector of floating-point lanes.
///
/// Only `splat` and the loads make one from nothing, and they take the proof that the CPU has the
/// instructions; so every method on an existing vector is sound.
pub trait Vector:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// What a lane holds.
    type Scalar: Float;
    /// One truth value for each lane.
    type Mask: Copy;
    /// That the CPU has the instructions.
    type Proof: Copy;
    /// How many lanes.
    const LANES: usize;

    /// `x` in every lane.
    fn splat(proof: Self::Proof, x: Self::Scalar) -> Self;

    /// The proof that this vector stands for.
    fn proof(self) -> Self::Proof;

    /// The `LANES` scalars from `at`.
    ///
    /// # Safety
    /// They are readable.
    unsafe fn load(proof: Self::Proof, at: *const Self::Scalar) -> Self;

    /// The `LANES` scalars at `at`, `at + step`, `at + 2 step`, ...
    ///
    /// # Safety
    /// They are readable.
    unsafe fn gather(proof: Self::Proof, at: *const Self::Scalar, step: isize) -> Self;

    /// The scalar at `at[offset]` for each lane's `offset`, which is a whole number.
    ///
    /// # Safety
    /// They are readable.
    unsafe fn pick(self, at: *const Self::Scalar) -> Self {
        let mut offsets = [Self::Scalar::ZERO; 16];
        // SAFETY: no vector has more than 16 lanes; the caller vouches for what is read.
        unsafe {
            self.store(offsets.as_mut_ptr());
            let mut picked = [Self::Scalar::ZERO; 16];
            for (to, offset) in picked.iter_mut().zip(offsets).take(Self::LANES) {
                *to = *at.offset(offset.to_f64() as isize);
            }
            Self::load(self.proof(), picked.as_ptr())
        }
    }

    /// Four columns of `LANES` rows: row `i` is the four scalars from `at + i step`.
    ///
    /// # Safety
    /// They are readable.
    unsafe fn load_4(proof: Self::Proof, at: *const Self::Scalar, step: isize) -> [Self; 4] {
        // SAFETY: the same scalars, column by column.
        unsafe {
            [
                Self::gather(proof, at, step),
                Self::gather(proof, at.offset(1), step),
                Self::gather(proof, at.offset(2), step),
                Self::gather(proof, at.offset(3), step),
            ]
        }
    }

    /// `LANES` bytes as numbers.
    ///
    /// # Safety
    /// They are readable.
    unsafe fn load_u8(proof: Self::Proof, at: *const u8) -> Self;

    /// `LANES` integers as numbers; those above 2^24 may be rounded.
    ///
    /// # Safety
    /// They are readable.
    unsafe fn load_u32(proof: Self::Proof, at: *const u32) -> Self;

    /// `count` integers as numbers, exact within `2^51` of 0 in double precision; 0 in the lanes after them.
    ///
    /// # Safety
    /// They are readable, and no more than `LANES`.
    unsafe fn load_i64(proof: Self::Proof, at: *const i64, count: usize) -> Self {
        let mut lanes = [Self::Scalar::ZERO; 16];
        for (i, lane) in lanes.iter_mut().enumerate().take(count) {
            // SAFETY: the caller vouches for these integers.
            *lane = Self::Scalar::from_f64(unsafe { *at.add(i) } as f64);
        }
        // SAFETY: no vector has more than 16 lanes.
        unsafe { Self::load(proof, lanes.as_ptr()) }
    }

    /// Writes the lanes.
    ///
    /// # Safety
    /// `LANES` scalars from `at` are writable.
    unsafe fn store(self, at: *mut Self::Scalar);

    /// Writes the lanes past the caches.
    ///
    /// # Safety
    /// `LANES` scalars from `at` are writable, and `at` is a multiple of the vector's size.
    unsafe fn stream(self, at: *mut Self::Scalar) {
        // SAFETY: as this function's.
        unsafe { self.store(at) }
    }

    /// `self * a + b`, rounded once where there is an instruction for it.
    fn mul_add(self, a: Self, b: Self) -> Self;

    /// `self` without its sign.
    fn abs(self) -> Self;

    /// The square root.
    fn sqrt(self) -> Self;

    /// The nearest whole number, for numbers below 2^22 in size.
    fn round(self) -> Self;

    /// The smaller; `other` if one is NaN.
    fn min(self, other: Self) -> Self;

    /// The larger; `other` if one is NaN.
    fn max(self, other: Self) -> Self;

    /// Whether `self < other`; false if one is NaN.
    fn lt(self, other: Self) -> Self::Mask;

    /// Whether `self <= other`; false if one is NaN.
    fn le(self, other: Self) -> Self::Mask;

    /// Whether `self == other`; false if one is NaN.
    fn equal(self, other: Self) -> Self::Mask;

    /// Both.
    fn and(a: Self::Mask, b: Self::Mask) -> Self::Mask;

    /// `yes` in the lanes of the mask, `no` in the others.
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;

    /// Whether all lanes are set.
    fn all(mask: Self::Mask) -> bool;

    /// Whether a lane is set.
    fn any(mask: Self::Mask) -> bool;

    /// `(m, e)` with `self = m 2^e`, `e` whole and `m` in some fixed interval `[a, 2a)` that has 1
    /// well inside, for positive and finite lanes; subnormal ones too.
    fn split(self) -> (Self, Self);

    /// `self * 2^n` for a whole `n` in `[-1100, 1100]` and `self` in `[0.5, 2]`.
    fn scale(self, n: Self) -> Self;

    /// The sum of the lanes.
    #[inline(always)]
    fn sum(self) -> f64 {
        let mut lanes = [Self::Scalar::ZERO; 16];
        // SAFETY: no vector has more than 16 lanes.
        unsafe { self.store(lanes.as_mut_ptr()) };
        lanes[..Self::LANES].iter().map(|x| x.to_f64()).sum()
    }

    /// `x` in every lane.
    #[inline(always)]
    fn same(self, x: Self::Scalar) -> Self {
        Self::splat(self.proof(), x)
    }

    /// The natural logarithm: minus infinity at 0, NaN below.
    #[inline(always)]
    fn ln(self) -> Self {
        Self::Scalar::ln(self)
    }

    /// The exponential.
    #[inline(always)]
    fn exp(self) -> Self {
        Self::Scalar::exp(self)
    }
}
