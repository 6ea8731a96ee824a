//! AVX-512: 8 doubles or 16 singles.

use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Sub};

use super::constants as c;
use super::elementary::{Float, horner};
use super::{Vector, Work};

/// That the CPU has AVX-512 F, DQ and VL.
#[derive(Clone, Copy, Debug)]
pub struct Proof(());

/// Runs `work` on these vectors.
///
/// # Safety
/// The CPU has AVX2, FMA, and AVX-512 F, DQ and VL.
#[target_feature(enable = "avx2,fma,avx512f,avx512dq,avx512vl")]
pub(super) fn run<T: Float, W: Work<T>>(work: W) -> W::Out {
    work.run::<T::Avx512>(Proof(()))
}

/// 8 doubles.
#[derive(Clone, Copy, Debug)]
pub struct F64x8(__m512d);

/// 16 singles.
#[derive(Clone, Copy, Debug)]
pub struct F32x16(__m512);

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

operators!(F64x8, Add::add = _mm512_add_pd Sub::sub = _mm512_sub_pd Mul::mul = _mm512_mul_pd Div::div = _mm512_div_pd);
operators!(F32x16, Add::add = _mm512_add_ps Sub::sub = _mm512_sub_ps Mul::mul = _mm512_mul_ps Div::div = _mm512_div_ps);

/// The methods that are one instruction, for both widths.
macro_rules! instructions {
    (
        $scalar:ident, $mask:ident, $lanes:literal,
        $set:ident $load:ident $store:ident $stream:ident $fma:ident $abs:ident $sqrt:ident $round:ident
        $min:ident $max:ident $compare:ident $select:ident $scale:ident $mantissa:ident $exponent:ident
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
        fn lt(self, other: Self) -> $mask {
            // SAFETY: a vector exists.
            unsafe { $compare::<_CMP_LT_OQ>(self.0, other.0) }
        }

        #[inline(always)]
        fn le(self, other: Self) -> $mask {
            // SAFETY: a vector exists.
            unsafe { $compare::<_CMP_LE_OQ>(self.0, other.0) }
        }

        #[inline(always)]
        fn equal(self, other: Self) -> $mask {
            // SAFETY: a vector exists.
            unsafe { $compare::<_CMP_EQ_OQ>(self.0, other.0) }
        }

        #[inline(always)]
        fn and(a: $mask, b: $mask) -> $mask {
            a & b
        }

        #[inline(always)]
        fn select(mask: $mask, yes: Self, no: Self) -> Self {
            // SAFETY: a vector exists.
            Self(unsafe { $select(mask, no.0, yes.0) })
        }

        #[inline(always)]
        fn all(mask: $mask) -> bool {
            mask == $mask::MAX
        }

        #[inline(always)]
        fn any(mask: $mask) -> bool {
            mask != 0
        }

        /// The mantissa lies in `[0.75, 1.5)`; zero has the exponent minus infinity.
        #[inline(always)]
        fn split(self) -> (Self, Self) {
            // SAFETY: a vector exists.
            unsafe {
                let m = $mantissa::<_MM_MANT_NORM_P75_1P5, _MM_MANT_SIGN_SRC>(self.0);
                (Self(m), Self($exponent(self.0)) - Self($exponent(m)))
            }
        }

        #[inline(always)]
        fn scale(self, n: Self) -> Self {
            // SAFETY: a vector exists.
            Self(unsafe { $scale(self.0, n.0) })
        }
    };
}

impl Vector for F64x8 {
    instructions! {
        f64, __mmask8, 8,
        _mm512_set1_pd _mm512_loadu_pd _mm512_storeu_pd _mm512_stream_pd _mm512_fmadd_pd _mm512_abs_pd
        _mm512_sqrt_pd _mm512_roundscale_pd _mm512_min_pd _mm512_max_pd _mm512_cmp_pd_mask
        _mm512_mask_blend_pd _mm512_scalef_pd _mm512_getmant_pd _mm512_getexp_pd
    }

    #[inline(always)]
    unsafe fn gather(_: Proof, at: *const f64, step: isize) -> Self {
        // SAFETY: there is a proof, and the caller vouches for the scalars at these offsets.
        unsafe {
            let lanes = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
            let offsets = _mm512_mullo_epi64(lanes, _mm512_set1_epi64(step as i64));
            Self(_mm512_i64gather_pd::<8>(offsets, at))
        }
    }

    #[inline(always)]
    unsafe fn pick(self, at: *const f64) -> Self {
        // SAFETY: a vector exists, and the caller vouches for the scalars at these offsets.
        unsafe { Self(_mm512_i64gather_pd::<8>(_mm512_cvtpd_epi64(self.0), at)) }
    }

    #[inline(always)]
    unsafe fn load_4(_: Proof, at: *const f64, step: isize) -> [Self; 4] {
        // SAFETY: there is a proof, and the caller vouches for four scalars in each of eight rows.
        unsafe {
            // Row i in the lower half, row i + 4 in the upper one.
            let pair = |i: isize| {
                let low = _mm512_castpd256_pd512(_mm256_loadu_pd(at.offset(i * step)));
                _mm512_insertf64x4::<1>(low, _mm256_loadu_pd(at.offset((i + 4) * step)))
            };
            let rows = [pair(0), pair(1), pair(2), pair(3)];
            // Columns 0 and 2, then 1 and 3, of two rows each.
            let even_01 = _mm512_unpacklo_pd(rows[0], rows[1]);
            let odd_01 = _mm512_unpackhi_pd(rows[0], rows[1]);
            let even_23 = _mm512_unpacklo_pd(rows[2], rows[3]);
            let odd_23 = _mm512_unpackhi_pd(rows[2], rows[3]);
            let first = _mm512_set_epi64(13, 12, 5, 4, 9, 8, 1, 0);
            let second = _mm512_set_epi64(15, 14, 7, 6, 11, 10, 3, 2);
            [
                Self(_mm512_permutex2var_pd(even_01, first, even_23)),
                Self(_mm512_permutex2var_pd(odd_01, first, odd_23)),
                Self(_mm512_permutex2var_pd(even_01, second, even_23)),
                Self(_mm512_permutex2var_pd(odd_01, second, odd_23)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn load_u8(_: Proof, at: *const u8) -> Self {
        // SAFETY: there is a proof, and the caller vouches for eight bytes.
        unsafe {
            let bytes = _mm_loadl_epi64(at.cast());
            Self(_mm512_cvtepu64_pd(_mm512_cvtepu8_epi64(bytes)))
        }
    }

    #[inline(always)]
    unsafe fn load_u32(_: Proof, at: *const u32) -> Self {
        // SAFETY: there is a proof, and the caller vouches for eight integers.
        unsafe { Self(_mm512_cvtepu32_pd(_mm256_loadu_si256(at.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_i64(_: Proof, at: *const i64, count: usize) -> Self {
        // SAFETY: there is a proof, the caller vouches for `count` integers, and no other is touched.
        unsafe {
            let first = ((1_u32 << count) - 1) as __mmask8;
            Self(_mm512_cvtepi64_pd(_mm512_maskz_loadu_epi64(first, at)))
        }
    }

    #[inline(always)]
    fn sum(self) -> f64 {
        // SAFETY: a vector exists.
        unsafe { _mm512_reduce_add_pd(self.0) }
    }

    /// `ln(m 2^e) = e ln 2 - ln c + ln(1 + r)` with `c` near `1/m` from a table and `r = m c - 1`.
    #[inline(always)]
    fn ln(self) -> Self {
        // The exponent of 4/3 of the number is the one that goes with a mantissa in [0.75, 1.5). Where
        // that product is infinite or not positive, there is more to do.
        let lifted = self * self.same(4.0 / 3.0);
        // SAFETY: a vector exists.
        let (m, e, odd) = unsafe {
            (
                Self(_mm512_getmant_pd::<_MM_MANT_NORM_P75_1P5, _MM_MANT_SIGN_SRC>(
                    self.0,
                )),
                Self(_mm512_getexp_pd(lifted.0)),
                _mm512_fpclass_pd_mask::<NOT_POSITIVE_AND_FINITE>(lifted.0),
            )
        };
        let (inverse, ln_of_inverse) = table_of(m);
        let r = m.mul_add(inverse, self.same(-1.0));
        let whole = e * self.same(c::LN2_HIGH);
        // |whole| is 0 or more than the table's largest entry, so the difference is the rounding error.
        let high = whole + ln_of_inverse;
        let lost = (whole - high) + ln_of_inverse;
        let low = (r * r).mul_add(horner(r, &c::LN_NEAR), e.mul_add(self.same(c::LN2_LOW), lost));
        let ln = high + (r + low);
        if odd == 0 { ln } else { <f64 as Float>::ln(self) }
    }
}

/// Quiet NaN, zeros, infinities, finite negative numbers, signalling NaN.
const NOT_POSITIVE_AND_FINITE: i32 = 0b1101_1111;

/// The table's entries for the leading four bits of the mantissas.
#[inline(always)]
fn table_of(m: F64x8) -> (F64x8, F64x8) {
    // SAFETY: a vector exists, and each table has two vectors of eight doubles.
    unsafe {
        let at = _mm512_srli_epi64::<48>(_mm512_castpd_si512(m.0));
        let entry = |table: &[f64; 16]| {
            let (low, high) = (
                _mm512_loadu_pd(table.as_ptr()),
                _mm512_loadu_pd(table.as_ptr().add(8)),
            );
            F64x8(_mm512_permutex2var_pd(low, at, high))
        };
        (entry(&c::INVERSE), entry(&c::LN_OF_INVERSE))
    }
}

impl Vector for F32x16 {
    instructions! {
        f32, __mmask16, 16,
        _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_stream_ps _mm512_fmadd_ps _mm512_abs_ps
        _mm512_sqrt_ps _mm512_roundscale_ps _mm512_min_ps _mm512_max_ps _mm512_cmp_ps_mask
        _mm512_mask_blend_ps _mm512_scalef_ps _mm512_getmant_ps _mm512_getexp_ps
    }

    #[inline(always)]
    unsafe fn gather(_: Proof, at: *const f32, step: isize) -> Self {
        // SAFETY: there is a proof, and the caller vouches for the scalars at these offsets.
        unsafe {
            let lanes = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
            let offsets = _mm512_mullo_epi64(lanes, _mm512_set1_epi64(step as i64));
            let low = _mm512_i64gather_ps::<4>(offsets, at);
            let high = _mm512_i64gather_ps::<4>(offsets, at.offset(8 * step));
            Self(_mm512_insertf32x8::<1>(_mm512_castps256_ps512(low), high))
        }
    }

    #[inline(always)]
    unsafe fn pick(self, at: *const f32) -> Self {
        // SAFETY: a vector exists, and the caller vouches for the scalars at these offsets.
        unsafe { Self(_mm512_i32gather_ps::<4>(_mm512_cvtps_epi32(self.0), at)) }
    }

    #[inline(always)]
    unsafe fn load_4(_: Proof, at: *const f32, step: isize) -> [Self; 4] {
        // SAFETY: there is a proof, and the caller vouches for four scalars in each of sixteen rows.
        unsafe {
            // Rows i, i + 4, i + 8 and i + 12 in the four quarters.
            let quarters = |i: isize| {
                let part = |k: isize| _mm_loadu_ps(at.offset((i + 4 * k) * step));
                let v = _mm512_castps128_ps512(part(0));
                let v = _mm512_insertf32x4::<1>(v, part(1));
                let v = _mm512_insertf32x4::<2>(v, part(2));
                _mm512_insertf32x4::<3>(v, part(3))
            };
            let rows = [quarters(0), quarters(1), quarters(2), quarters(3)];
            let low_01 = _mm512_unpacklo_ps(rows[0], rows[1]);
            let high_01 = _mm512_unpackhi_ps(rows[0], rows[1]);
            let low_23 = _mm512_unpacklo_ps(rows[2], rows[3]);
            let high_23 = _mm512_unpackhi_ps(rows[2], rows[3]);
            [
                Self(_mm512_shuffle_ps::<0b01_00_01_00>(low_01, low_23)),
                Self(_mm512_shuffle_ps::<0b11_10_11_10>(low_01, low_23)),
                Self(_mm512_shuffle_ps::<0b01_00_01_00>(high_01, high_23)),
                Self(_mm512_shuffle_ps::<0b11_10_11_10>(high_01, high_23)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn load_u8(_: Proof, at: *const u8) -> Self {
        // SAFETY: there is a proof, and the caller vouches for sixteen bytes.
        unsafe {
            Self(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(
                at.cast(),
            ))))
        }
    }

    #[inline(always)]
    unsafe fn load_u32(_: Proof, at: *const u32) -> Self {
        // SAFETY: there is a proof, and the caller vouches for sixteen integers.
        unsafe { Self(_mm512_cvtepu32_ps(_mm512_loadu_si512(at.cast()))) }
    }
}
