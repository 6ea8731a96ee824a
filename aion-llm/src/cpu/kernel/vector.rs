//! What happens to single rows between the products.

use super::body::Work;
use super::lanes::{Lanes, at, at_mut};
use super::product::{BLOCK, XBlock};

/// `1.5 * 2^23`: added to a number of moderate size, it leaves its nearest integer in the last bits.
const MAGIC: f32 = 12_582_912.0;

/// `e^x`, to about two units in the last place; from -87 downwards `e^-87`. What is not a number stays none.
///
/// # Sources
/// Reduction by multiples of ln 2 in two parts, then the Taylor polynomial of degree 7 on `|r| <= ln 2 / 2`.
#[inline(always)]
pub(super) fn exp<L: Lanes>(l: L, x: L::F) -> L::F {
    // In this order a lane that is not a number stays one: where one is, x86 gives the second operand.
    let x = l.min(l.splat(88.0), l.max(l.splat(-87.0), x));
    let t = l.fma(x, l.splat(std::f32::consts::LOG2_E), l.splat(MAGIC));
    let n = l.sub(t, l.splat(MAGIC));
    let r = l.fma(n, l.splat(-0.693_359_4), x);
    let r = l.fma(n, l.splat(2.121_944_4e-4), r);
    let mut y = l.splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        y = l.fma(y, r, l.splat(c));
    }
    l.mul(y, l.pow2_of_magic(t))
}

/// Up to here `tanh` is a polynomial.
const SMALL: f32 = 0.2;

/// `cap tanh(x / cap)`; what is not finite becomes no number.
///
/// By exponentials alone a small `tanh` would be the difference of two numbers near one, and a large cap of small
/// scores would keep few of their digits. So the part up to [`SMALL`] is the Taylor polynomial of degree 7, and only
/// what lies beyond comes from exponentials: the difference of the same function at two places, zero where they are one.
#[inline(always)]
pub(super) fn capped<L: Lanes>(l: L, x: L::F, cap: f32) -> L::F {
    let t = l.mul(x, l.splat(1.0 / cap));
    let small = l.min(l.splat(SMALL), l.max(l.splat(-SMALL), t));
    let square = l.mul(small, small);
    let mut series = l.splat(-17.0 / 315.0);
    for c in [2.0 / 15.0, -1.0 / 3.0, 1.0] {
        series = l.fma(series, square, l.splat(c));
    }
    let beyond = l.sub(tail(l, small), tail(l, t));
    let tanh = l.fma(series, small, beyond);
    // Zero, unless an element is not finite.
    let damage = l.mul(x, l.splat(0.0));
    l.add(l.mul(tanh, l.splat(cap)), damage)
}

/// `1 - tanh(t)`.
#[inline(always)]
fn tail<L: Lanes>(l: L, t: L::F) -> L::F {
    let e = exp(l, l.add(t, t));
    l.div(l.splat(2.0), l.add(e, l.splat(1.0)))
}

/// Gives each sixteen elements of `out` what the expression makes of those of `x`; the last, fewer ones are padded with
/// zeros. A closure would be compiled by itself, without the instructions of the lanes.
macro_rules! each_16 {
    ($l:ident, $x:expr, $out:expr, |$i:ident, $v:ident| $make:expr) => {{
        let (whole, rest) = $x.as_chunks::<16>();
        let (out, last) = $out.as_chunks_mut::<16>();
        for (i, (x, out)) in whole.iter().zip(out).enumerate() {
            let ($i, $v) = (16 * i, $l.load(x));
            $l.store($make, out);
        }
        if !rest.is_empty() {
            let mut lanes = padded(rest);
            let ($i, $v) = (16 * whole.len(), $l.load(&lanes));
            $l.store($make, &mut lanes);
            let n = last.len();
            last.copy_from_slice(&lanes[..n]);
        }
    }};
}

#[inline(always)]
fn padded(x: &[f32]) -> [f32; 16] {
    let mut lanes = [0.0; 16];
    lanes[..x.len()].copy_from_slice(x);
    lanes
}

#[inline(always)]
fn load_from<L: Lanes>(l: L, x: &[f32], start: usize) -> L::F {
    if x.len() >= start + 16 {
        l.load(at(x, start))
    } else {
        l.load(&padded(&x[start..]))
    }
}

/// `x / sqrt(mean(x^2) + eps) * weight`.
#[derive(Debug)]
pub(crate) struct Norm<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) eps: f32,
    pub(crate) out: &'a mut [f32],
}

impl Work for Norm<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let mut squares = [l.splat(0.0); 2];
        for (i, start) in (0..self.x.len()).step_by(16).enumerate() {
            let x = load_from(l, self.x, start);
            squares[i % 2] = l.fma(x, x, squares[i % 2]);
        }
        let mean = l.sum_of(l.add(squares[0], squares[1])) / self.x.len() as f32;
        let scale = l.splat(1.0 / (mean + self.eps).sqrt());
        each_16!(l, self.x, self.out, |i, x| l
            .mul(l.mul(x, scale), load_from(l, self.weight, i)));
    }
}

/// Activations as bytes. Where one is not finite, its block's scale is not a number, so that it is not lost.
#[derive(Debug)]
pub(crate) struct Quantise<'a> {
    /// A multiple of 32.
    pub(crate) x: &'a [f32],
    pub(crate) out: &'a mut [XBlock],
}

impl Work for Quantise<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for (x, out) in self.x.as_chunks::<BLOCK>().0.iter().zip(self.out) {
            *out = quantised(l, x);
        }
    }
}

#[inline(always)]
fn quantised<L: Lanes>(l: L, x: &[f32; BLOCK]) -> XBlock {
    let zero = l.splat(0.0);
    let (a, b) = (l.load(at(x, 0)), l.load(at(x, 16)));
    let (size_a, size_b) = (l.max(a, l.sub(zero, a)), l.max(b, l.sub(zero, b)));
    let most = l.max_of(l.max(size_a, size_b));
    // Zero, unless an element is not finite.
    let damage = l.sum_of(l.add(l.mul(a, zero), l.mul(b, zero)));
    let scale = l.splat(if most > 0.0 { 127.0 / most } else { 0.0 });
    let (low, high) = (l.to_signed(l.mul(a, scale)), l.to_signed(l.mul(b, scale)));
    let sum = |bytes: &[i8; 16]| bytes.iter().map(|byte| i32::from(*byte)).sum::<i32>();
    let sums = [sum(&low), sum(&high)];
    let d = most / 127.0 + damage;
    let quad = |bytes: &[i8; 16], i: usize| i32::from_le_bytes(at::<i8, 4>(bytes, i).map(i8::cast_unsigned));
    XBlock {
        quads: std::array::from_fn(|i| {
            if i < 4 {
                quad(&low, 4 * i)
            } else {
                quad(&high, 4 * i - 16)
            }
        }),
        d,
        d_sum: d * (sums[0] + sums[1]) as f32,
        sums,
    }
}

/// `silu(gate) * up`.
#[derive(Debug)]
pub(crate) struct Gate<'a> {
    pub(crate) gate: &'a [f32],
    pub(crate) up: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl Work for Gate<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        each_16!(l, self.gate, self.out, |i, gate| {
            let below = l.add(l.splat(1.0), exp(l, l.sub(l.splat(0.0), gate)));
            l.mul(l.div(gate, below), load_from(l, self.up, i))
        });
    }
}

/// `relu(x)^2`.
#[derive(Debug)]
pub(crate) struct Square<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl Work for Square<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        each_16!(l, self.x, self.out, |_i, x| {
            // In this order a lane that is not a number stays one.
            let positive = l.max(l.splat(0.0), x);
            l.mul(positive, positive)
        });
    }
}

/// `cap tanh(x / cap)`, in place.
#[derive(Debug)]
pub(crate) struct Cap<'a> {
    pub(crate) x: &'a mut [f32],
    pub(crate) cap: f32,
}

impl Work for Cap<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (whole, rest) = self.x.as_chunks_mut::<16>();
        for x in whole {
            l.store(capped(l, l.load(x), self.cap), x);
        }
        if !rest.is_empty() {
            let mut lanes = padded(rest);
            l.store(capped(l, l.load(&lanes), self.cap), &mut lanes);
            let n = rest.len();
            rest.copy_from_slice(&lanes[..n]);
        }
    }
}

/// Turns the heads of a row by the angles of its position, pairs half a head apart.
#[derive(Debug)]
pub(crate) struct Rotate<'a> {
    /// `[heads, head_dim]`.
    pub(crate) heads: &'a mut [f32],
    /// `[head_dim / 2]`.
    pub(crate) cos: &'a [f32],
    pub(crate) sin: &'a [f32],
}

impl Work for Rotate<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let half = self.cos.len();
        for head in self.heads.chunks_exact_mut(2 * half) {
            let (a, b) = head.split_at_mut(half);
            for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(self.cos).zip(self.sin) {
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }
}

/// An infinite half: what a float beyond 65,504 becomes.
const INFINITE: u16 = 0x7C00;
/// A half that is not a number.
const NO_NUMBER: u16 = 0x7E00;

/// One row of keys of one head as halves. One too large for a half becomes no number: an infinite one could give a
/// score of minus infinity, which attention would take for a position that is not looked at.
pub(crate) struct StoreKeys<'a> {
    pub(crate) row: &'a [f32],
    /// Where element `i` goes.
    pub(crate) put: &'a mut dyn FnMut(usize, u16),
}

impl Work for StoreKeys<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for start in (0..self.row.len()).step_by(16) {
            let halves = l.to_halves(load_from(l, self.row, start));
            for (i, half) in halves.into_iter().take(self.row.len() - start).enumerate() {
                let lost = half & 0x7FFF == INFINITE;
                (self.put)(start + i, if lost { NO_NUMBER } else { half });
            }
        }
    }
}

/// One row of values of one head as halves; what is missing to a multiple of sixteen is zero.
#[derive(Debug)]
pub(crate) struct StoreValues<'a> {
    pub(crate) row: &'a [f32],
    pub(crate) out: &'a mut [u8],
}

impl Work for StoreValues<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for (i, out) in self.out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let halves = l.to_halves(load_from(l, self.row, 16 * i));
            for (half, out) in halves
                .into_iter()
                .zip(at_mut::<u8, 32>(out, 0).as_chunks_mut::<2>().0)
            {
                *out = half.to_le_bytes();
            }
        }
    }
}
