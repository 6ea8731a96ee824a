//! NEON of 64-bit ARM, without the optional dot products.
#![allow(
    unsafe_code,
    reason = "vector instructions; a value of `Neon` exists only where the processor has them"
)]

use std::arch::aarch64::{
    float32x4_t, int32x4_t, vaddq_f32, vaddq_s32, vaddq_u32, vandq_u8, vandq_u32, vbslq_u32, vcgeq_u32,
    vcvtq_f32_s32, vdivq_f32, vdupq_n_f32, vdupq_n_s32, vdupq_n_u8, vdupq_n_u32, veorq_u8, vfmaq_f32,
    vget_low_s8, vld1q_f32, vld1q_u8, vld1q_u32, vmaxq_f32, vminq_f32, vmull_high_s8, vmull_s8, vmulq_f32,
    vorrq_s32, vorrq_u32, vpaddlq_s16, vpaddq_s32, vreinterpretq_f32_u32, vreinterpretq_s8_s32,
    vreinterpretq_s32_u8, vreinterpretq_u8_s32, vreinterpretq_u32_f32, vshlq_n_u8, vshlq_n_u32, vshrq_n_u8,
    vst1q_f32, vsubq_f32,
};

use super::body::Work;
use super::lanes::{Lanes, at, at_mut, float_to_half};

/// The processor has NEON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neon(());

/// Runs `work` compiled for these instructions.
///
/// # Safety
/// The processor has them.
#[target_feature(enable = "neon")]
pub(super) unsafe fn run<W: Work>(work: W) -> W::Out {
    work.run(Neon(()))
}

type Floats = [float32x4_t; 4];
type Ints = [int32x4_t; 4];

/// The same for all four quarters. A closure would be compiled by itself, without the instructions.
macro_rules! four {
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
            {
                const $i: usize = 2;
                $e
            },
            {
                const $i: usize = 3;
                $e
            },
        ]
    };
}

/// The sums of four products of four lanes.
///
/// # Safety
/// The processor has NEON.
#[inline(always)]
unsafe fn products(w: int32x4_t, x: int32x4_t) -> int32x4_t {
    unsafe {
        let (w, x) = (vreinterpretq_s8_s32(w), vreinterpretq_s8_s32(x));
        let low = vpaddlq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(x)));
        vpaddq_s32(low, vpaddlq_s16(vmull_high_s8(w, x)))
    }
}

// SAFETY of every block below: the proof `self` says that the processor has the instructions; memory is read and
// written through references to arrays of the size of the instruction.
impl Lanes for Neon {
    type F = Floats;
    type I = Ints;
    const GROUP: usize = 2;

    #[inline(always)]
    fn splat(self, x: f32) -> Floats {
        unsafe { [vdupq_n_f32(x); 4] }
    }

    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> Floats {
        unsafe { four!(|I| vld1q_f32(at::<f32, 4>(x, 4 * I).as_ptr())) }
    }

    #[inline(always)]
    fn store(self, v: Floats, out: &mut [f32; 16]) {
        for i in 0..4 {
            unsafe { vst1q_f32(at_mut::<f32, 4>(out, 4 * i).as_mut_ptr(), v[i]) }
        }
    }

    #[inline(always)]
    fn halves(self, x: &[u8; 32]) -> Floats {
        let wide: [u32; 16] =
            std::array::from_fn(|i| u32::from(u16::from_le_bytes([x[2 * i], x[2 * i + 1]])));
        let convert = four!(|I| unsafe {
            let half = vld1q_u32(at::<u32, 4>(&wide, 4 * I).as_ptr());
            let sign = vshlq_n_u32::<16>(vandq_u32(half, vdupq_n_u32(0x8000)));
            let magnitude = vshlq_n_u32::<13>(vandq_u32(half, vdupq_n_u32(0x7FFF)));
            let scale = vreinterpretq_f32_u32(vdupq_n_u32(0x7780_0000));
            let finite = vreinterpretq_u32_f32(vmulq_f32(vreinterpretq_f32_u32(magnitude), scale));
            let endless = vorrq_u32(magnitude, vdupq_n_u32(0x7F80_0000));
            let beyond = vcgeq_u32(magnitude, vdupq_n_u32(0x0F80_0000));
            vreinterpretq_f32_u32(vorrq_u32(vbslq_u32(beyond, endless, finite), sign))
        });
        convert
    }

    #[inline(always)]
    fn to_halves(self, v: Floats) -> [u16; 16] {
        let mut floats = [0.0; 16];
        self.store(v, &mut floats);
        floats.map(float_to_half)
    }

    #[inline(always)]
    fn brains(self, x: &[u8; 32]) -> Floats {
        let floats: [f32; 16] =
            std::array::from_fn(|i| f32::from_bits(u32::from_le_bytes([0, 0, x[2 * i], x[2 * i + 1]])));
        self.load(&floats)
    }

    #[inline(always)]
    fn signed(self, x: &[u8; 16]) -> Floats {
        self.load(&x.map(|byte| f32::from(byte.cast_signed())))
    }

    #[inline(always)]
    fn to_signed(self, v: Floats) -> [i8; 16] {
        let mut floats = [0.0f32; 16];
        self.store(v, &mut floats);
        floats.map(|x| x.round_ties_even() as i8)
    }

    #[inline(always)]
    fn add(self, a: Floats, b: Floats) -> Floats {
        unsafe { four!(|I| vaddq_f32(a[I], b[I])) }
    }

    #[inline(always)]
    fn sub(self, a: Floats, b: Floats) -> Floats {
        unsafe { four!(|I| vsubq_f32(a[I], b[I])) }
    }

    #[inline(always)]
    fn mul(self, a: Floats, b: Floats) -> Floats {
        unsafe { four!(|I| vmulq_f32(a[I], b[I])) }
    }

    #[inline(always)]
    fn div(self, a: Floats, b: Floats) -> Floats {
        unsafe { four!(|I| vdivq_f32(a[I], b[I])) }
    }

    #[inline(always)]
    fn max(self, a: Floats, b: Floats) -> Floats {
        unsafe { four!(|I| vmaxq_f32(a[I], b[I])) }
    }

    #[inline(always)]
    fn min(self, a: Floats, b: Floats) -> Floats {
        unsafe { four!(|I| vminq_f32(a[I], b[I])) }
    }

    #[inline(always)]
    fn fma(self, a: Floats, b: Floats, c: Floats) -> Floats {
        unsafe { four!(|I| vfmaq_f32(c[I], a[I], b[I])) }
    }

    #[inline(always)]
    fn pow2_of_magic(self, t: Floats) -> Floats {
        unsafe {
            four!(|I| {
                let exponent = vshlq_n_u32::<23>(vreinterpretq_u32_f32(t[I]));
                vreinterpretq_f32_u32(vaddq_u32(exponent, vdupq_n_u32(0x3F80_0000)))
            })
        }
    }

    #[inline(always)]
    fn ints(self, x: i32) -> Ints {
        unsafe { [vdupq_n_s32(x); 4] }
    }

    #[inline(always)]
    fn bytes(self, x: &[u8; 64]) -> Ints {
        unsafe { four!(|I| vreinterpretq_s32_u8(vld1q_u8(at::<u8, 16>(x, 16 * I).as_ptr()))) }
    }

    #[inline(always)]
    fn low_nibbles(self, w: Ints) -> Ints {
        unsafe { four!(|I| vreinterpretq_s32_u8(vandq_u8(vreinterpretq_u8_s32(w[I]), vdupq_n_u8(15)))) }
    }

    #[inline(always)]
    fn high_nibbles(self, w: Ints) -> Ints {
        unsafe { four!(|I| vreinterpretq_s32_u8(vshrq_n_u8::<4>(vreinterpretq_u8_s32(w[I])))) }
    }

    #[inline(always)]
    fn pair<const N: i32>(self, w: Ints) -> Ints {
        four!(|I| unsafe {
            let w = vreinterpretq_u8_s32(w[I]);
            let low = match N {
                0 => w,
                1 => vshrq_n_u8::<2>(w),
                2 => vshrq_n_u8::<4>(w),
                _ => vshrq_n_u8::<6>(w),
            };
            vreinterpretq_s32_u8(vshlq_n_u8::<4>(vandq_u8(low, vdupq_n_u8(3))))
        })
    }

    #[inline(always)]
    fn or(self, a: Ints, b: Ints) -> Ints {
        unsafe { four!(|I| vorrq_s32(a[I], b[I])) }
    }

    #[inline(always)]
    fn dot(self, acc: Ints, w: Ints, x: i32) -> Ints {
        unsafe { four!(|I| vaddq_s32(acc[I], products(w[I], vdupq_n_s32(x)))) }
    }

    #[inline(always)]
    fn flipped_start(self, _: i32) -> Ints {
        self.ints(0)
    }

    #[inline(always)]
    fn dot_flipped(self, acc: Ints, w: Ints, x: i32) -> Ints {
        let signed =
            four!(|I| unsafe { vreinterpretq_s32_u8(veorq_u8(vreinterpretq_u8_s32(w[I]), vdupq_n_u8(128))) });
        self.dot(acc, signed, x)
    }

    #[inline(always)]
    fn to_floats(self, v: Ints) -> Floats {
        unsafe { four!(|I| vcvtq_f32_s32(v[I])) }
    }
}
