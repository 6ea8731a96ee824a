//! AVX2 and FMA: 4 doubles or 8 singles.
#![allow(clippy::cast_lossless, reason = "one macro for two widths")]

use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Sub};

use super::elementary::Float;
use super::{Vector, Work};

/// That the CPU has AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub struct Proof(());

/// Runs `work` on these vectors.
///
/// # Safety
/// The CPU has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) fn run<T: Float, W: Work<T>>(work: W) -> W::Out {
    work.run::<T::Avx2>(Proof(()))
}

/// 4 doubles.
#[derive(Clone, Copy, Debug)]
pub struct F64x4(__m256d);

/// 8 singles.
#[derive(Clone, Copy, Debug)]
pub struct F32x8(__m256);

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

operators!(F64x4, Add::add = _mm256_add_pd Sub::sub = _mm256_sub_pd Mul::mul = _mm256_mul_pd Div::div = _mm256_div_pd);
operators!(F32x8, Add::add = _mm256_add_ps Sub::sub = _mm256_sub_ps Mul::mul = _mm256_mul_ps Div::div = _mm256_div_ps);

/// The methods that are an instruction or two, for both widths.
macro_rules! instructions {
    (
        $scalar:ident, $vector:ident, $lanes:literal,
        $set:ident $load:ident $store:ident $stream:ident $fma:ident $andnot:ident $sqrt:ident $round:ident
        $min:ident $max:ident $compare:ident $and:ident $select:ident $bits:ident
    ) => {
        type Scalar = $scalar;
        type Mask = $vector;
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
        unsafe fn store(self, at: *mut $scalar) {
            // SAFETY: a vector exists, and the caller vouches for the scalars.
            unsafe { $store(at, self.0) }
        }

        #[inline(always)]
        unsafe fn stream(self, at: *mut $scalar) {
            // SAFETY: a vector exists, and the caller vouches for the scalars and their alignment.
            unsafe { $stream(at, self.0) }
        }

        #[inline(always)]
        fn mul_add(self, a: Self, b: Self) -> Self {
            // SAFETY: a vector exists.
            Self(unsafe { $fma(self.0, a.0, b.0) })
        }

        #[inline(always)]
        fn abs(self) -> Self {
            // SAFETY: a vector exists.
            Self(unsafe { $andnot($set(-0.0), self.0) })
        }

        #[inline(always)]
        fn sqrt(self) -> Self {
            // SAFETY: a vector exists.
            Self(unsafe { $sqrt(self.0) })
        }

        #[inline(always)]
        fn round(self) -> Self {
            // SAFETY: a vector exists.
            Self(unsafe { $round::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
        }

        #[inline(always)]
        fn min(self, other: Self) -> Self {
            // SAFETY: a vector exists.
            Self(unsafe { $min(self.0, other.0) })
        }

        #[inline(always)]
        fn max(self, other: Self) -> Self {
            // SAFETY: a vector exists.
            Self(unsafe { $max(self.0, other.0) })
        }

        #[inline(always)]
        fn lt(self, other: Self) -> $vector {
            // SAFETY: a vector exists.
            unsafe { $compare::<_CMP_LT_OQ>(self.0, other.0) }
        }

        #[inline(always)]
        fn le(self, other: Self) -> $vector {
            // SAFETY: a vector exists.
            unsafe { $compare::<_CMP_LE_OQ>(self.0, other.0) }
        }

        #[inline(always)]
        fn equal(self, other: Self) -> $vector {
            // SAFETY: a vector exists.
            unsafe { $compare::<_CMP_EQ_OQ>(self.0, other.0) }
        }

        #[inline(always)]
        fn and(a: $vector, b: $vector) -> $vector {
            // SAFETY: a vector exists.
            unsafe { $and(a, b) }
        }

        #[inline(always)]
        fn select(mask: $vector, yes: Self, no: Self) -> Self {
            // SAFETY: a vector exists.
            Self(unsafe { $select(no.0, yes.0, mask) })
        }

        #[inline(always)]
        fn all(mask: $vector) -> bool {
            // SAFETY: a vector exists.
            unsafe { $bits(mask) == (1 << $lanes) - 1 }
        }

        #[inline(always)]
        fn any(mask: $vector) -> bool {
            // SAFETY: a vector exists.
            unsafe { $bits(mask) != 0 }
        }

        #[inline(always)]
        fn split(self) -> (Self, Self) {
            let tiny = self.lt(self.same($scalar::MIN_POSITIVE));
            if !Self::any(tiny) {
                return self.split_normal();
            }
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

impl Vector for F64x4 {
    instructions! {
        f64, __m256d, 4,
        _mm256_set1_pd _mm256_loadu_pd _mm256_storeu_pd _mm256_stream_pd _mm256_fmadd_pd _mm256_andnot_pd
        _mm256_sqrt_pd _mm256_round_pd _mm256_min_pd _mm256_max_pd _mm256_cmp_pd _mm256_and_pd
        _mm256_blendv_pd _mm256_movemask_pd
    }

    #[inline(always)]
    unsafe fn gather(_: Proof, at: *const f64, step: isize) -> Self {
        // SAFETY: there is a proof, and the caller vouches for the scalars at these offsets.
        unsafe {
            Self(_mm256_set_pd(
                *at.offset(3 * step),
                *at.offset(2 * step),
                *at.offset(step),
                *at,
            ))
        }
    }

    #[inline(always)]
    unsafe fn pick(self, at: *const f64) -> Self {
        // SAFETY: a vector exists, and the caller vouches for the scalars at these offsets.
        unsafe { Self(_mm256_i32gather_pd::<8>(at, _mm256_cvtpd_epi32(self.0))) }
    }

    #[inline(always)]
    unsafe fn load_4(_: Proof, at: *const f64, step: isize) -> [Self; 4] {
        // SAFETY: there is a proof, and the caller vouches for four scalars in each of four rows.
        unsafe {
            let row = |i: isize| _mm256_loadu_pd(at.offset(i * step));
            let rows = [row(0), row(1), row(2), row(3)];
            let even_01 = _mm256_unpacklo_pd(rows[0], rows[1]);
            let odd_01 = _mm256_unpackhi_pd(rows[0], rows[1]);
            let even_23 = _mm256_unpacklo_pd(rows[2], rows[3]);
            let odd_23 = _mm256_unpackhi_pd(rows[2], rows[3]);
            [
                Self(_mm256_permute2f128_pd::<0x20>(even_01, even_23)),
                Self(_mm256_permute2f128_pd::<0x20>(odd_01, odd_23)),
                Self(_mm256_permute2f128_pd::<0x31>(even_01, even_23)),
                Self(_mm256_permute2f128_pd::<0x31>(odd_01, odd_23)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn load_u8(_: Proof, at: *const u8) -> Self {
        // SAFETY: there is a proof, and the caller vouches for four bytes.
        unsafe {
            let bytes = _mm_cvtsi32_si128(at.cast::<i32>().read_unaligned());
            Self(_mm256_cvtepi32_pd(_mm_cvtepu8_epi32(bytes)))
        }
    }

    #[inline(always)]
    unsafe fn load_u32(_: Proof, at: *const u32) -> Self {
        // SAFETY: there is a proof, and the caller vouches for four integers.
        unsafe {
            // 2^52 + k holds k in its low bits.
            let whole = _mm256_cvtepu32_epi64(_mm_loadu_si128(at.cast()));
            let magic = _mm256_set1_pd((1_u64 << 52) as f64);
            let sum = _mm256_or_pd(_mm256_castsi256_pd(whole), magic);
            Self(_mm256_sub_pd(sum, magic))
        }
    }

    #[inline(always)]
    unsafe fn load_i64(_: Proof, at: *const i64, count: usize) -> Self {
        // SAFETY: there is a proof, the caller vouches for `count` integers, and no other is touched.
        unsafe {
            let first = _mm256_cmpgt_epi64(_mm256_set1_epi64x(count as i64), _mm256_set_epi64x(3, 2, 1, 0));
            let whole = _mm256_maskload_epi64(at, first);
            // 1.5 2^52 + k holds k in its low bits.
            let magic = _mm256_set1_pd(1.5 * (1_u64 << 52) as f64);
            let sum = _mm256_add_epi64(whole, _mm256_castpd_si256(magic));
            Self(_mm256_sub_pd(_mm256_castsi256_pd(sum), magic))
        }
    }
}

impl F64x4 {
    /// [`Vector::split`] of normal numbers, the mantissa in `[sqrt 1/2, sqrt 2)`.
    #[inline(always)]
    fn split_normal(self) -> (Self, Self) {
        const LOW: i64 = std::f64::consts::FRAC_1_SQRT_2.to_bits() as i64;
        const ONE: i64 = 1_f64.to_bits() as i64;
        // SAFETY: a vector exists.
        unsafe {
            let bits = _mm256_castpd_si256(self.0);
            let shifted = _mm256_add_epi64(bits, _mm256_set1_epi64x(ONE - LOW));
            let field = _mm256_and_si256(shifted, _mm256_set1_epi64x((1 << 52) - 1));
            let m = _mm256_castsi256_pd(_mm256_add_epi64(field, _mm256_set1_epi64x(LOW)));
            // 2^52 + k holds k in its low bits.
            let magic = _mm256_set1_pd((1_u64 << 52) as f64);
            let biased = _mm256_castsi256_pd(_mm256_srli_epi64::<52>(shifted));
            let exponent = _mm256_sub_pd(
                _mm256_or_pd(biased, magic),
                _mm256_set1_pd((1_u64 << 52) as f64 + 1023.0),
            );
            (Self(m), Self(exponent))
        }
    }

    /// `2^self` for whole lanes that a normal number can hold.
    #[inline(always)]
    fn pow2(self) -> Self {
        // SAFETY: a vector exists.
        unsafe {
            let sum = _mm256_add_pd(self.0, _mm256_set1_pd((1_u64 << 52) as f64 + 1023.0));
            Self(_mm256_castsi256_pd(_mm256_slli_epi64::<52>(_mm256_castpd_si256(
                sum,
            ))))
        }
    }
}

impl Vector for F32x8 {
    instructions! {
        f32, __m256, 8,
        _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_stream_ps _mm256_fmadd_ps _mm256_andnot_ps
        _mm256_sqrt_ps _mm256_round_ps _mm256_min_ps _mm256_max_ps _mm256_cmp_ps _mm256_and_ps
        _mm256_blendv_ps _mm256_movemask_ps
    }

    #[inline(always)]
    unsafe fn gather(_: Proof, at: *const f32, step: isize) -> Self {
        // SAFETY: there is a proof, and the caller vouches for the scalars at these offsets.
        unsafe {
            let lane = |i: isize| *at.offset(i * step);
            Self(_mm256_set_ps(
                lane(7),
                lane(6),
                lane(5),
                lane(4),
                lane(3),
                lane(2),
                lane(1),
                lane(0),
            ))
        }
    }

    #[inline(always)]
    unsafe fn pick(self, at: *const f32) -> Self {
        // SAFETY: a vector exists, and the caller vouches for the scalars at these offsets.
        unsafe { Self(_mm256_i32gather_ps::<4>(at, _mm256_cvtps_epi32(self.0))) }
    }

    #[inline(always)]
    unsafe fn load_4(_: Proof, at: *const f32, step: isize) -> [Self; 4] {
        // SAFETY: there is a proof, and the caller vouches for four scalars in each of eight rows.
        unsafe {
            // Row i in the lower half, row i + 4 in the upper one.
            let pair = |i: isize| {
                let low = _mm256_castps128_ps256(_mm_loadu_ps(at.offset(i * step)));
                _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(at.offset((i + 4) * step)))
            };
            let rows = [pair(0), pair(1), pair(2), pair(3)];
            let low_01 = _mm256_unpacklo_ps(rows[0], rows[1]);
            let high_01 = _mm256_unpackhi_ps(rows[0], rows[1]);
            let low_23 = _mm256_unpacklo_ps(rows[2], rows[3]);
            let high_23 = _mm256_unpackhi_ps(rows[2], rows[3]);
            [
                Self(_mm256_shuffle_ps::<0b01_00_01_00>(low_01, low_23)),
                Self(_mm256_shuffle_ps::<0b11_10_11_10>(low_01, low_23)),
                Self(_mm256_shuffle_ps::<0b01_00_01_00>(high_01, high_23)),
                Self(_mm256_shuffle_ps::<0b11_10_11_10>(high_01, high_23)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn load_u8(_: Proof, at: *const u8) -> Self {
        // SAFETY: there is a proof, and the caller vouches for eight bytes.
        unsafe {
            let bytes = _mm_loadl_epi64(at.cast());
            Self(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)))
        }
    }

    /// Integers from `2^31` on come out negative, which no caller takes for a label.
    #[inline(always)]
    unsafe fn load_u32(_: Proof, at: *const u32) -> Self {
        // SAFETY: there is a proof, and the caller vouches for eight integers.
        unsafe { Self(_mm256_cvtepi32_ps(_mm256_loadu_si256(at.cast()))) }
    }
}

impl F32x8 {
    /// [`Vector::split`] of normal numbers, the mantissa in `[sqrt 1/2, sqrt 2)`.
    #[inline(always)]
    fn split_normal(self) -> (Self, Self) {
        const LOW: i32 = std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32;
        // SAFETY: a vector exists.
        unsafe {
            let low = _mm256_set1_epi32(LOW);
            let above = _mm256_sub_epi32(_mm256_castps_si256(self.0), low);
            let exponent = _mm256_cvtepi32_ps(_mm256_srai_epi32::<23>(above));
            let field = _mm256_and_si256(above, _mm256_set1_epi32((1 << 23) - 1));
            (
                Self(_mm256_castsi256_ps(_mm256_add_epi32(field, low))),
                Self(exponent),
            )
        }
    }

    /// `2^self` for whole lanes that a normal number can hold.
    #[inline(always)]
    fn pow2(self) -> Self {
        // SAFETY: a vector exists.
        unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
            Self(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)))
        }
    }
}
