//! NEON: 2 doubles or 4 singles.
#![allow(clippy::cast_lossless, reason = "one macro for two widths")]

use std::arch::aarch64::*;
use std::ops::{Add, Div, Mul, Sub};

use super::elementary::Float;
use super::{Vector, Work};

/// That the CPU has NEON.
#[derive(Clone, Copy, Debug)]
pub struct Proof(());

/// Runs `work` on these vectors.
///
/// # Safety
/// The CPU has NEON.
#[target_feature(enable = "neon")]
pub(super) fn run<T: Float, W: Work<T>>(work: W) -> W::Out {
    work.run::<T::Neon>(Proof(()))
}

/// 2 doubles.
#[derive(Clone, Copy, Debug)]
pub struct F64x2(float64x2_t);

/// 4 singles.
#[derive(Clone, Copy, Debug)]
pub struct F32x4(float32x4_t);

macro_rules! operators {
    ($v:ident, $($op:ident::$method:ident = $instruction:ident)*) => {$(
        impl $op for $v {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: a vector exists, so the CPU has its instructions.
                Self(unsafe { $instruction(self.0, other.0) })
            }
        }
    )*};
}

operators!(F64x2, Add::add = vaddq_f64 Sub::sub = vsubq_f64 Mul::mul = vmulq_f64 Div::div = vdivq_f64);
operators!(F32x4, Add::add = vaddq_f32 Sub::sub = vsubq_f32 Mul::mul = vmulq_f32 Div::div = vdivq_f32);

/// The methods that are an instruction or two, for both widths.
macro_rules! instructions {
    (
        $scalar:ident, $mask:ident, $lanes:literal,
        $set:ident $load:ident $store:ident $fma:ident $abs:ident $sqrt:ident $round:ident
        $lt:ident $le:ident $eq:ident $and:ident $select:ident $as_words:ident $least:ident $most:ident
    ) => {
        type Scalar = $scalar;
        type Mask = $mask;
        type Proof = Proof;
        const LANES: usize = $lanes;

        #[inline(always)]
        fn splat(_: Proof, x: $scalar) -> Self {
            // SAFETY: there is a proof.
            Self(unsafe { $set(x) })
        }

        #[inline(always)]
        fn proof(self) -> Proof {
            Proof(())
        }

        #[inline(always)]
        unsafe fn load(_: Proof, at: *const $scalar) -> Self {
            // SAFETY: there is a proof, and the caller vouches for the scalars.
            Self(unsafe { $load(at) })
        }

        #[inline(always)]
        unsafe fn gather(_: Proof, at: *const $scalar, step: isize) -> Self {
            let mut lanes = [0.0; $lanes];
            for (i, lane) in lanes.iter_mut().enumerate() {
                // SAFETY: the caller vouches for the scalars at these offsets.
                *lane = unsafe { *at.offset(i as isize * step) };
            }
            // SAFETY: there is a proof, and these are as many lanes.
            Self(unsafe { $load(lanes.as_ptr()) })
        }

        #[inline(always)]
        unsafe fn load_u8(_: Proof, at: *const u8) -> Self {
            let mut lanes = [0.0; $lanes];
            for (i, lane) in lanes.iter_mut().enumerate() {
                // SAFETY: the caller vouches for these bytes.
                *lane = <$scalar>::from(unsafe { *at.add(i) });
            }
            // SAFETY: there is a proof, and these are as many lanes.
            Self(unsafe { $load(lanes.as_ptr()) })
        }

        #[inline(always)]
        unsafe fn load_u32(_: Proof, at: *const u32) -> Self {
            let mut lanes = [0.0; $lanes];
            for (i, lane) in lanes.iter_mut().enumerate() {
                // SAFETY: the caller vouches for these integers.
                *lane = unsafe { *at.add(i) } as $scalar;
            }
            // SAFETY: there is a proof, and these are as many lanes.
            Self(unsafe { $load(lanes.as_ptr()) })
        }

        #[inline(always)]
        unsafe fn store(self, at: *mut $scalar) {
            // SAFETY: a vector exists, and the caller vouches for the scalars.
            unsafe { $store(at, self.0) }
        }

        #[inline(always)]
        fn mul_add(self, a: Self, b: Self) -> Self {
            // SAFETY: a vector exists.
            Self(unsafe { $fma(b.0, self.0, a.0) })
        }

        #[inline(always)]
        fn abs(self) -> Self {
            // SAFETY: a vector exists.
            Self(unsafe { $abs(self.0) })
        }

        #[inline(always)]
        fn sqrt(self) -> Self {
            // SAFETY: a vector exists.
            Self(unsafe { $sqrt(self.0) })
        }

        #[inline(always)]
        fn round(self) -> Self {
            // SAFETY: a vector exists.
            Self(unsafe { $round(self.0) })
        }

        #[inline(always)]
        fn min(self, other: Self) -> Self {
            Self::select(self.lt(other), self, other)
        }

        #[inline(always)]
        fn max(self, other: Self) -> Self {
            Self::select(other.lt(self), self, other)
        }

        #[inline(always)]
        fn lt(self, other: Self) -> $mask {
            // SAFETY: a vector exists.
            unsafe { $lt(self.0, other.0) }
        }

        #[inline(always)]
        fn le(self, other: Self) -> $mask {
            // SAFETY: a vector exists.
            unsafe { $le(self.0, other.0) }
        }

        #[inline(always)]
        fn equal(self, other: Self) -> $mask {
            // SAFETY: a vector exists.
            unsafe { $eq(self.0, other.0) }
        }

        #[inline(always)]
        fn and(a: $mask, b: $mask) -> $mask {
            // SAFETY: a vector exists.
            unsafe { $and(a, b) }
        }

        #[inline(always)]
        fn select(mask: $mask, yes: Self, no: Self) -> Self {
            // SAFETY: a vector exists.
            Self(unsafe { $select(mask, yes.0, no.0) })
        }

        #[inline(always)]
        fn all(mask: $mask) -> bool {
            // SAFETY: a vector exists.
            unsafe { $least($as_words(mask)) != 0 }
        }

        #[inline(always)]
        fn any(mask: $mask) -> bool {
            // SAFETY: a vector exists.
            unsafe { $most($as_words(mask)) != 0 }
        }

        #[inline(always)]
        fn split(self) -> (Self, Self) {
            let tiny = self.lt(self.same($scalar::MIN_POSITIVE));
            let (lift, digits) = (
                1.0 / $scalar::EPSILON,
                ($scalar::MANTISSA_DIGITS - 1) as $scalar,
            );
            let (m, e) = Self::select(tiny, self * self.same(lift), self).split_normal();
            (m, e - Self::select(tiny, self.same(digits), self.same(0.0)))
        }

        #[inline(always)]
        fn scale(self, n: Self) -> Self {
            // In two factors, neither of which is subnormal; only the last product rounds.
            let half = (n * self.same(0.5)).round();
            self * half.pow2() * (n - half).pow2()
        }
    };
}

/// A mask of doubles as four words, for the reductions.
#[target_feature(enable = "neon")]
fn words_of_doubles(mask: uint64x2_t) -> uint32x4_t {
    vreinterpretq_u32_u64(mask)
}

/// A mask of singles as it is.
#[target_feature(enable = "neon")]
fn words_of_singles(mask: uint32x4_t) -> uint32x4_t {
    mask
}

impl Vector for F64x2 {
    instructions! {
        f64, uint64x2_t, 2,
        vdupq_n_f64 vld1q_f64 vst1q_f64 vfmaq_f64 vabsq_f64 vsqrtq_f64 vrndnq_f64
        vcltq_f64 vcleq_f64 vceqq_f64 vandq_u64 vbslq_f64 words_of_doubles vminvq_u32 vmaxvq_u32
    }
}

impl Vector for F32x4 {
    instructions! {
        f32, uint32x4_t, 4,
        vdupq_n_f32 vld1q_f32 vst1q_f32 vfmaq_f32 vabsq_f32 vsqrtq_f32 vrndnq_f32
        vcltq_f32 vcleq_f32 vceqq_f32 vandq_u32 vbslq_f32 words_of_singles vminvq_u32 vmaxvq_u32
    }
}

impl F64x2 {
    /// [`Vector::split`] of normal numbers, the mantissa in `[sqrt 1/2, sqrt 2)`.
    #[inline(always)]
    fn split_normal(self) -> (Self, Self) {
        const LOW: i64 = std::f64::consts::FRAC_1_SQRT_2.to_bits() as i64;
        // SAFETY: a vector exists.
        unsafe {
            let low = vdupq_n_s64(LOW);
            let above = vsubq_s64(vreinterpretq_s64_f64(self.0), low);
            let exponent = vcvtq_f64_s64(vshrq_n_s64::<52>(above));
            let field = vandq_s64(above, vdupq_n_s64((1 << 52) - 1));
            (Self(vreinterpretq_f64_s64(vaddq_s64(field, low))), Self(exponent))
        }
    }

    /// `2^self` for whole lanes that a normal number can hold.
    #[inline(always)]
    fn pow2(self) -> Self {
        // SAFETY: a vector exists.
        unsafe {
            let biased = vaddq_s64(vcvtq_s64_f64(self.0), vdupq_n_s64(1023));
            Self(vreinterpretq_f64_s64(vshlq_n_s64::<52>(biased)))
        }
    }
}

impl F32x4 {
    /// [`Vector::split`] of normal numbers, the mantissa in `[sqrt 1/2, sqrt 2)`.
    #[inline(always)]
    fn split_normal(self) -> (Self, Self) {
        const LOW: i32 = std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32;
        // SAFETY: a vector exists.
        unsafe {
            let low = vdupq_n_s32(LOW);
            let above = vsubq_s32(vreinterpretq_s32_f32(self.0), low);
            let exponent = vcvtq_f32_s32(vshrq_n_s32::<23>(above));
            let field = vandq_s32(above, vdupq_n_s32((1 << 23) - 1));
            (Self(vreinterpretq_f32_s32(vaddq_s32(field, low))), Self(exponent))
        }
    }

    /// `2^self` for whole lanes that a normal number can hold.
    #[inline(always)]
    fn pow2(self) -> Self {
        // SAFETY: a vector exists.
        unsafe {
            let biased = vaddq_s32(vcvtq_s32_f32(self.0), vdupq_n_s32(127));
            Self(vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased)))
        }
    }
}
