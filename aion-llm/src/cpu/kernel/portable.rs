//! Arrays, for every processor: what the other implementations are held against.

use super::body::Work;
use super::lanes::{Lanes, float_to_half, half_to_float};

/// No instructions are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

/// Runs `work` with arrays.
pub(super) fn run<W: Work>(work: W) -> W::Out {
    work.run(Portable)
}

type Floats = [f32; 16];
type Ints = [i32; 16];

#[inline(always)]
fn each(f: impl FnMut(usize) -> f32) -> Floats {
    std::array::from_fn(f)
}

/// The four signed products of two words of four bytes.
#[inline(always)]
fn products(w: [i32; 4], x: i32) -> i32 {
    let x = x.to_le_bytes().map(|byte| i32::from(byte.cast_signed()));
    w[0] * x[0] + w[1] * x[1] + w[2] * x[2] + w[3] * x[3]
}

#[inline(always)]
fn bytewise(w: Ints, f: impl Fn(u8) -> u8) -> Ints {
    w.map(|w| i32::from_le_bytes(w.to_le_bytes().map(&f)))
}

impl Lanes for Portable {
    type F = Floats;
    type I = Ints;
    const GROUP: usize = 2;

    #[inline(always)]
    fn splat(self, x: f32) -> Floats {
        [x; 16]
    }

    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> Floats {
        *x
    }

    #[inline(always)]
    fn store(self, v: Floats, out: &mut [f32; 16]) {
        *out = v;
    }

    #[inline(always)]
    fn halves(self, x: &[u8; 32]) -> Floats {
        each(|i| half_to_float(u16::from_le_bytes([x[2 * i], x[2 * i + 1]])))
    }

    #[inline(always)]
    fn to_halves(self, v: Floats) -> [u16; 16] {
        v.map(float_to_half)
    }

    #[inline(always)]
    fn brains(self, x: &[u8; 32]) -> Floats {
        each(|i| f32::from_bits(u32::from_le_bytes([0, 0, x[2 * i], x[2 * i + 1]])))
    }

    #[inline(always)]
    fn signed(self, x: &[u8; 16]) -> Floats {
        each(|i| f32::from(x[i].cast_signed()))
    }

    #[inline(always)]
    fn to_signed(self, v: Floats) -> [i8; 16] {
        v.map(|x| x.round_ties_even() as i8)
    }

    #[inline(always)]
    fn add(self, a: Floats, b: Floats) -> Floats {
        each(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: Floats, b: Floats) -> Floats {
        each(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn mul(self, a: Floats, b: Floats) -> Floats {
        each(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn div(self, a: Floats, b: Floats) -> Floats {
        each(|i| a[i] / b[i])
    }

    #[inline(always)]
    fn max(self, a: Floats, b: Floats) -> Floats {
        each(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn min(self, a: Floats, b: Floats) -> Floats {
        each(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn fma(self, a: Floats, b: Floats, c: Floats) -> Floats {
        each(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn pow2_of_magic(self, t: Floats) -> Floats {
        t.map(|t| f32::from_bits((t.to_bits() << 23).wrapping_add(0x3F80_0000)))
    }

    #[inline(always)]
    fn ints(self, x: i32) -> Ints {
        [x; 16]
    }

    #[inline(always)]
    fn bytes(self, x: &[u8; 64]) -> Ints {
        std::array::from_fn(|i| i32::from_le_bytes([x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]]))
    }

    #[inline(always)]
    fn low_nibbles(self, w: Ints) -> Ints {
        bytewise(w, |w| w & 15)
    }

    #[inline(always)]
    fn high_nibbles(self, w: Ints) -> Ints {
        bytewise(w, |w| w >> 4)
    }

    #[inline(always)]
    fn pair<const N: i32>(self, w: Ints) -> Ints {
        bytewise(w, |w| (w >> (2 * N) & 3) << 4)
    }

    #[inline(always)]
    fn or(self, a: Ints, b: Ints) -> Ints {
        std::array::from_fn(|i| a[i] | b[i])
    }

    #[inline(always)]
    fn dot(self, acc: Ints, w: Ints, x: i32) -> Ints {
        std::array::from_fn(|i| acc[i] + products(w[i].to_le_bytes().map(i32::from), x))
    }

    #[inline(always)]
    fn flipped_start(self, _: i32) -> Ints {
        [0; 16]
    }

    #[inline(always)]
    fn dot_flipped(self, acc: Ints, w: Ints, x: i32) -> Ints {
        std::array::from_fn(|i| acc[i] + products(w[i].to_le_bytes().map(|w| i32::from(w) - 128), x))
    }

    #[inline(always)]
    fn to_floats(self, v: Ints) -> Floats {
        v.map(|v| v as f32)
    }
}
