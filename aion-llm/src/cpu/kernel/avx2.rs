//! AVX2 with FMA and F16C, with or without the VNNI instructions of 256 bits.
#![allow(
    unsafe_code,
    reason = "vector instructions; a value of `Avx2` exists only where the processor has them"
)]

use std::arch::x86_64::{
    __m128i, __m256, __m256i, _MM_FROUND_TO_NEAREST_INT, _mm_cvtsi32_si128, _mm_loadl_epi64, _mm_loadu_si128,
    _mm_storeu_si128, _mm256_abs_epi8, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256,
    _mm256_castps_si256, _mm256_castsi256_ps, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps,
    _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_cvtps_epi32, _mm256_cvtps_ph, _mm256_div_ps,
    _mm256_dpbusd_avx_epi32, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps, _mm256_or_si256, _mm256_set1_epi8,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_sign_epi8, _mm256_slli_epi32,
    _mm256_srl_epi16, _mm256_srli_epi16, _mm256_storeu_ps, _mm256_storeu_si256, _mm256_sub_ps,
    _mm256_xor_si256,
};

use super::body::Work;
use super::lanes::{Lanes, at, at_mut};

/// The processor has AVX2, FMA and F16C, and AVX-VNNI if `VNNI`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2<const VNNI: bool>(());

/// Runs `work` compiled for these instructions.
///
/// # Safety
/// The processor has them.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run<W: Work>(work: W) -> W::Out {
    work.run(Avx2::<false>(()))
}

/// As [`run`], with the dot products of AVX-VNNI.
///
/// # Safety
/// The processor has them.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
pub(super) unsafe fn run_vnni<W: Work>(work: W) -> W::Out {
    work.run(Avx2::<true>(()))
}

type Floats = [__m256; 2];
type Ints = [__m256i; 2];

/// The same for both halves. A closure would be compiled by itself, without the instructions.
macro_rules! both {
    (|$i:ident| $e:expr) => {
        [
            {
                const $i: usize = 0;
                $e
            },
            {
                const $i: usize = 1;
                $e
            },
        ]
    };
}

// SAFETY of every block below: the proof `self` says that the processor has the instructions; memory is read and
// written through references to arrays of the size of the instruction.
impl<const VNNI: bool> Lanes for Avx2<VNNI> {
    type F = Floats;
    type I = Ints;
    const GROUP: usize = 2;

    #[inline(always)]
    fn splat(self, x: f32) -> Floats {
        unsafe { [_mm256_set1_ps(x); 2] }
    }

    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> Floats {
        unsafe { both!(|I| _mm256_loadu_ps(at::<f32, 8>(x, 8 * I).as_ptr())) }
    }

    #[inline(always)]
    fn store(self, v: Floats, out: &mut [f32; 16]) {
        unsafe {
            _mm256_storeu_ps(at_mut::<f32, 8>(out, 0).as_mut_ptr(), v[0]);
            _mm256_storeu_ps(at_mut::<f32, 8>(out, 8).as_mut_ptr(), v[1]);
        }
    }

    #[inline(always)]
    fn halves(self, x: &[u8; 32]) -> Floats {
        unsafe {
            both!(|I| _mm256_cvtph_ps(_mm_loadu_si128(
                at::<u8, 16>(x, 16 * I).as_ptr().cast::<__m128i>()
            )))
        }
    }

    #[inline(always)]
    fn to_halves(self, v: Floats) -> [u16; 16] {
        let mut out = [0; 16];
        for (i, v) in v.into_iter().enumerate() {
            unsafe {
                let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v);
                _mm_storeu_si128(
                    at_mut::<u16, 8>(&mut out, 8 * i).as_mut_ptr().cast::<__m128i>(),
                    halves,
                );
            }
        }
        out
    }

    #[inline(always)]
    fn brains(self, x: &[u8; 32]) -> Floats {
        unsafe {
            both!(|I| {
                let upper = _mm_loadu_si128(at::<u8, 16>(x, 16 * I).as_ptr().cast::<__m128i>());
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(upper)))
            })
        }
    }

    #[inline(always)]
    fn signed(self, x: &[u8; 16]) -> Floats {
        unsafe {
            both!(|I| {
                let bytes = _mm_loadl_epi64(at::<u8, 8>(x, 8 * I).as_ptr().cast::<__m128i>());
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))
            })
        }
    }

    #[inline(always)]
    fn to_signed(self, v: Floats) -> [i8; 16] {
        let mut ints = [0i32; 16];
        for (i, v) in v.into_iter().enumerate() {
            unsafe {
                let place = at_mut::<i32, 8>(&mut ints, 8 * i).as_mut_ptr().cast::<__m256i>();
                _mm256_storeu_si256(place, _mm256_cvtps_epi32(v));
            }
        }
        ints.map(|x| x as i8)
    }

    #[inline(always)]
    fn add(self, a: Floats, b: Floats) -> Floats {
        unsafe { both!(|I| _mm256_add_ps(a[I], b[I])) }
    }

    #[inline(always)]
    fn sub(self, a: Floats, b: Floats) -> Floats {
        unsafe { both!(|I| _mm256_sub_ps(a[I], b[I])) }
    }

    #[inline(always)]
    fn mul(self, a: Floats, b: Floats) -> Floats {
        unsafe { both!(|I| _mm256_mul_ps(a[I], b[I])) }
    }

    #[inline(always)]
    fn div(self, a: Floats, b: Floats) -> Floats {
        unsafe { both!(|I| _mm256_div_ps(a[I], b[I])) }
    }

    #[inline(always)]
    fn max(self, a: Floats, b: Floats) -> Floats {
        unsafe { both!(|I| _mm256_max_ps(a[I], b[I])) }
    }

    #[inline(always)]
    fn min(self, a: Floats, b: Floats) -> Floats {
        unsafe { both!(|I| _mm256_min_ps(a[I], b[I])) }
    }

    #[inline(always)]
    fn fma(self, a: Floats, b: Floats, c: Floats) -> Floats {
        unsafe {
            [
                _mm256_fmadd_ps(a[0], b[0], c[0]),
                _mm256_fmadd_ps(a[1], b[1], c[1]),
            ]
        }
    }

    #[inline(always)]
    fn pow2_of_magic(self, t: Floats) -> Floats {
        unsafe {
            both!(|I| {
                let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(t[I]));
                _mm256_castsi256_ps(_mm256_add_epi32(exponent, _mm256_set1_epi32(0x3F80_0000)))
            })
        }
    }

    #[inline(always)]
    fn ints(self, x: i32) -> Ints {
        unsafe { [_mm256_set1_epi32(x); 2] }
    }

    #[inline(always)]
    fn bytes(self, x: &[u8; 64]) -> Ints {
        unsafe { both!(|I| _mm256_loadu_si256(at::<u8, 32>(x, 32 * I).as_ptr().cast::<__m256i>())) }
    }

    #[inline(always)]
    fn low_nibbles(self, w: Ints) -> Ints {
        unsafe { both!(|I| _mm256_and_si256(w[I], _mm256_set1_epi8(15))) }
    }

    #[inline(always)]
    fn high_nibbles(self, w: Ints) -> Ints {
        unsafe { both!(|I| _mm256_and_si256(_mm256_srli_epi16::<4>(w[I]), _mm256_set1_epi8(15))) }
    }

    #[inline(always)]
    fn pair<const N: i32>(self, w: Ints) -> Ints {
        unsafe {
            both!(|I| {
                let low = _mm256_srl_epi16(w[I], _mm_cvtsi32_si128(2 * N));
                _mm256_slli_epi32::<4>(_mm256_and_si256(low, _mm256_set1_epi8(3)))
            })
        }
    }

    #[inline(always)]
    fn or(self, a: Ints, b: Ints) -> Ints {
        unsafe { both!(|I| _mm256_or_si256(a[I], b[I])) }
    }

    #[inline(always)]
    fn dot(self, acc: Ints, w: Ints, x: i32) -> Ints {
        unsafe {
            let x = _mm256_set1_epi32(x);
            if VNNI {
                return both!(|I| _mm256_dpbusd_avx_epi32(acc[I], w[I], x));
            }
            both!(|I| {
                // Two products of at most 127 * 127 fit 16 bits.
                let pairs = _mm256_maddubs_epi16(w[I], x);
                _mm256_add_epi32(acc[I], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
            })
        }
    }

    #[inline(always)]
    fn flipped_start(self, sum: i32) -> Ints {
        self.ints(if VNNI { -128 * sum } else { 0 })
    }

    #[inline(always)]
    fn dot_flipped(self, acc: Ints, w: Ints, x: i32) -> Ints {
        if VNNI {
            return self.dot(acc, w, x);
        }
        unsafe {
            let x = _mm256_set1_epi32(x);
            both!(|I| {
                let w = _mm256_xor_si256(w[I], _mm256_set1_epi8(-128));
                // Sizes of the weights times activations of their sign: two products of at most 128 * 127 fit 16 bits.
                let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
                _mm256_add_epi32(acc[I], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
            })
        }
    }

    #[inline(always)]
    fn to_floats(self, v: Ints) -> Floats {
        unsafe { both!(|I| _mm256_cvtepi32_ps(v[I])) }
    }
}
