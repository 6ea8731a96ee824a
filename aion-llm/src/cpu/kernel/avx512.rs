//! AVX-512 with VNNI.
#![allow(
    unsafe_code,
    reason = "vector instructions; a value of `Avx512` exists only where the processor has them"
)]

use std::arch::x86_64::{
    __m128i, __m256i, __m512, __m512i, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _mm_cvtsi32_si128,
    _mm_loadu_si128, _mm_storeu_si128, _mm256_loadu_si256, _mm256_storeu_si256, _mm512_add_epi32,
    _mm512_add_ps, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cvtepi8_epi32,
    _mm512_cvtepi32_epi8, _mm512_cvtepi32_ps, _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_cvtps_epi32,
    _mm512_cvtps_ph, _mm512_div_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_or_si512, _mm512_set1_epi8,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_slli_epi32, _mm512_srl_epi16, _mm512_srli_epi16,
    _mm512_storeu_ps, _mm512_sub_ps,
};

use super::body::Work;
use super::lanes::Lanes;

/// The processor has AVX-512 F, BW, DQ, VL and VNNI.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

/// Runs `work` compiled for these instructions.
///
/// # Safety
/// The processor has them.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn run<W: Work>(work: W) -> W::Out {
    work.run(Avx512(()))
}

// SAFETY of every block below: the proof `self` says that the processor has the instructions; memory is read and
// written through references to arrays of the size of the instruction.
impl Lanes for Avx512 {
    type F = __m512;
    type I = __m512i;
    const GROUP: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> __m512 {
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, v: __m512, out: &mut [f32; 16]) {
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), v) }
    }

    #[inline(always)]
    fn halves(self, x: &[u8; 32]) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast::<__m256i>())) }
    }

    #[inline(always)]
    fn to_halves(self, v: __m512) -> [u16; 16] {
        let mut out = [0; 16];
        unsafe {
            let halves = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v);
            _mm256_storeu_si256(out.as_mut_ptr().cast::<__m256i>(), halves);
        }
        out
    }

    #[inline(always)]
    fn brains(self, x: &[u8; 32]) -> __m512 {
        unsafe {
            let upper = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast::<__m256i>()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(upper))
        }
    }

    #[inline(always)]
    fn signed(self, x: &[u8; 16]) -> __m512 {
        unsafe {
            let bytes = _mm_loadu_si128(x.as_ptr().cast::<__m128i>());
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))
        }
    }

    #[inline(always)]
    fn to_signed(self, v: __m512) -> [i8; 16] {
        let mut out = [0; 16];
        unsafe {
            let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v));
            _mm_storeu_si128(out.as_mut_ptr().cast::<__m128i>(), bytes);
        }
        out
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn pow2_of_magic(self, t: __m512) -> __m512 {
        unsafe {
            let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(t));
            _mm512_castsi512_ps(_mm512_add_epi32(exponent, _mm512_set1_epi32(0x3F80_0000)))
        }
    }

    #[inline(always)]
    fn ints(self, x: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(x) }
    }

    #[inline(always)]
    fn bytes(self, x: &[u8; 64]) -> __m512i {
        unsafe { _mm512_loadu_si512(x.as_ptr().cast::<__m512i>()) }
    }

    #[inline(always)]
    fn low_nibbles(self, w: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(w, _mm512_set1_epi8(15)) }
    }

    #[inline(always)]
    fn high_nibbles(self, w: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(_mm512_srli_epi16::<4>(w), _mm512_set1_epi8(15)) }
    }

    #[inline(always)]
    fn pair<const N: i32>(self, w: __m512i) -> __m512i {
        unsafe {
            let low = _mm512_srl_epi16(w, _mm_cvtsi32_si128(2 * N));
            _mm512_slli_epi32::<4>(_mm512_and_si512(low, _mm512_set1_epi8(3)))
        }
    }

    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_or_si512(a, b) }
    }

    #[inline(always)]
    fn dot(self, acc: __m512i, w: __m512i, x: i32) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(x)) }
    }

    #[inline(always)]
    fn flipped_start(self, sum: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(-128 * sum) }
    }

    #[inline(always)]
    fn dot_flipped(self, acc: __m512i, w: __m512i, x: i32) -> __m512i {
        self.dot(acc, w, x)
    }

    #[inline(always)]
    fn to_floats(self, v: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(v) }
    }
}
