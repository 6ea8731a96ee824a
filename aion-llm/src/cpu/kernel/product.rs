//! Rows of activations times tiles of weights.
#![allow(
    unsafe_code,
    reason = "threads write different columns of the same rows, through pointers"
)]

use std::ops::Range;

use super::body::Work;
use super::lanes::{Lanes, at};
use super::pack::{Format, TILE};

/// Columns that share a scale.
pub(crate) const BLOCK: usize = 32;

/// 32 activations as bytes: each is `d q`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct XBlock {
    /// Four bytes each.
    pub(crate) quads: [i32; 8],
    pub(crate) d: f32,
    /// `d` times the sum of all bytes.
    pub(crate) d_sum: f32,
    /// The sums of bytes 0..16 and of bytes 16..32.
    pub(crate) sums: [i32; 2],
}

/// Rows of activations, both as floats and as bytes; only what the format takes is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Activations<'a> {
    /// `[rows, width]`.
    pub(crate) floats: &'a [f32],
    /// `[rows, width / 32]`.
    pub(crate) blocks: &'a [XBlock],
    pub(crate) rows: usize,
    pub(crate) width: usize,
}

impl<'a> Activations<'a> {
    #[inline(always)]
    fn block_row(&self, row: usize) -> &'a [XBlock] {
        let n = self.width / BLOCK;
        &self.blocks[row * n..(row + 1) * n]
    }

    #[inline(always)]
    fn float_row(&self, row: usize) -> &'a [f32] {
        &self.floats[row * self.width..(row + 1) * self.width]
    }
}

/// Where the products go: one row for each row of activations, from column `start` on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    rows: &'a [*mut f32],
    start: usize,
}

// SAFETY: whoever writes through it promises that nobody else writes the same columns (`Place::new`).
unsafe impl Send for Place<'_> {}
// SAFETY: as above.
unsafe impl Sync for Place<'_> {}

impl<'a> Place<'a> {
    /// # Safety
    /// As long as a copy of this is in use, every row is valid for writes of all columns that are multiplied, and no
    /// two threads multiply for the same column.
    pub(crate) unsafe fn new(rows: &'a [*mut f32], start: usize) -> Self {
        Self { rows, start }
    }

    /// Writes the first `n` lanes.
    #[inline(always)]
    fn write<L: Lanes>(&self, l: L, row: usize, column: usize, n: usize, v: L::F) {
        // SAFETY: the promise of `new`; `n` columns from here on are the caller's.
        let out = unsafe { std::slice::from_raw_parts_mut(self.rows[row].add(self.start + column), n) };
        if let Ok(whole) = <&mut [f32; TILE]>::try_from(&mut *out) {
            return l.store(v, whole);
        }
        let mut lanes = [0.0; TILE];
        l.store(v, &mut lanes);
        out.copy_from_slice(&lanes[..n]);
    }
}

/// The products of all rows with some tiles of a matrix.
#[derive(Debug, Clone)]
pub(crate) struct Multiply<'a> {
    pub(crate) format: Format,
    /// All tiles of the matrix.
    pub(crate) weights: &'a [u8],
    /// Which of them.
    pub(crate) tiles: Range<usize>,
    /// Rows of the matrix; those of the last tile may be fewer than sixteen.
    pub(crate) outputs: usize,
    pub(crate) x: Activations<'a>,
    pub(crate) out: Place<'a>,
}

impl Work for Multiply<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let bytes = self.format.tile_bytes(self.x.width);
        for tile in self.tiles.clone() {
            let weights = &self.weights[tile * bytes..(tile + 1) * bytes];
            let mut row = 0;
            while row < self.x.rows {
                row += match self.x.rows - row {
                    8.. if L::GROUP >= 8 => self.group::<L, 8>(l, tile, weights, row),
                    4.. if L::GROUP >= 4 => self.group::<L, 4>(l, tile, weights, row),
                    2.. => self.group::<L, 2>(l, tile, weights, row),
                    _ => self.group::<L, 1>(l, tile, weights, row),
                };
            }
        }
    }
}

/// Columns of floats, even and odd ones in sums of their own. A function that takes how to load a column would be given
/// a closure, and that would be compiled by itself, without the instructions of the lanes.
macro_rules! columns {
    ($l:ident, $tile:expr, $x:expr, $bytes:literal, $load:ident) => {{
        let x: [&[f32]; R] = $x;
        let (mut even, mut odd) = ([$l.splat(0.0); R], [$l.splat(0.0); R]);
        let (pairs, last) = $tile.as_chunks::<$bytes>().0.as_chunks::<2>();
        for (i, [a, b]) in pairs.iter().enumerate() {
            let (a, b) = ($l.$load(a), $l.$load(b));
            for r in 0..R {
                even[r] = $l.fma(a, $l.splat(x[r][2 * i]), even[r]);
                odd[r] = $l.fma(b, $l.splat(x[r][2 * i + 1]), odd[r]);
            }
        }
        for column in last {
            let w = $l.$load(column);
            for r in 0..R {
                even[r] = $l.fma(w, $l.splat(x[r][2 * pairs.len()]), even[r]);
            }
        }
        for r in 0..R {
            even[r] = $l.add(even[r], odd[r]);
        }
        even
    }};
}

impl Multiply<'_> {
    /// `R` rows from `row` on.
    #[inline(always)]
    fn group<L: Lanes, const R: usize>(&self, l: L, tile: usize, weights: &[u8], row: usize) -> usize {
        let blocks = || std::array::from_fn::<_, R, _>(|r| self.x.block_row(row + r));
        let floats = || std::array::from_fn::<_, R, _>(|r| self.x.float_row(row + r));
        let sums = match self.format {
            Format::Q4Zero => q4_zero(l, weights, blocks()),
            Format::Q4Min => q4_min(l, weights, blocks()),
            Format::Q8 => q8(l, weights, blocks()),
            Format::Q6 => q6(l, weights, blocks()),
            Format::F16 => columns!(l, weights, floats(), 32, halves),
            Format::BF16 => columns!(l, weights, floats(), 32, brains),
            Format::F32 => columns!(l, weights, floats(), 64, floats),
        };
        let column = tile * TILE;
        let n = TILE.min(self.outputs - column);
        for (r, sum) in sums.into_iter().enumerate() {
            self.out.write(l, row + r, column, n, sum);
        }
        R
    }
}

/// The integer products of a block of nibbles, starting from `acc`.
#[inline(always)]
fn nibbles<L: Lanes, const R: usize>(
    l: L,
    block: &[u8],
    b: usize,
    x: [&[XBlock]; R],
    mut acc: [L::I; R],
) -> [L::I; R] {
    for j in 0..4 {
        let w = l.bytes(at(block, 64 * j));
        let (low, high) = (l.low_nibbles(w), l.high_nibbles(w));
        for r in 0..R {
            let quads = &x[r][b].quads;
            acc[r] = l.dot(acc[r], low, quads[j]);
            acc[r] = l.dot(acc[r], high, quads[j + 4]);
        }
    }
    acc
}

#[inline(always)]
fn q4_zero<L: Lanes, const R: usize>(l: L, tile: &[u8], x: [&[XBlock]; R]) -> [L::F; R] {
    let mut out = [l.splat(0.0); R];
    for (b, block) in tile.as_chunks::<288>().0.iter().enumerate() {
        let mut start = [l.ints(0); R];
        for r in 0..R {
            start[r] = l.ints(-8 * (x[r][b].sums[0] + x[r][b].sums[1]));
        }
        let acc = nibbles(l, block, b, x, start);
        let d = l.halves(at(block, 256));
        for r in 0..R {
            out[r] = l.fma(l.to_floats(acc[r]), l.mul(d, l.splat(x[r][b].d)), out[r]);
        }
    }
    out
}

#[inline(always)]
fn q4_min<L: Lanes, const R: usize>(l: L, tile: &[u8], x: [&[XBlock]; R]) -> [L::F; R] {
    let mut out = [l.splat(0.0); R];
    for (b, block) in tile.as_chunks::<320>().0.iter().enumerate() {
        let acc = nibbles(l, block, b, x, [l.ints(0); R]);
        let (d, m) = (l.halves(at(block, 256)), l.halves(at(block, 288)));
        for r in 0..R {
            out[r] = l.fma(m, l.splat(x[r][b].d_sum), out[r]);
            out[r] = l.fma(l.to_floats(acc[r]), l.mul(d, l.splat(x[r][b].d)), out[r]);
        }
    }
    out
}

#[inline(always)]
fn q8<L: Lanes, const R: usize>(l: L, tile: &[u8], x: [&[XBlock]; R]) -> [L::F; R] {
    let mut out = [l.splat(0.0); R];
    for (b, block) in tile.as_chunks::<544>().0.iter().enumerate() {
        let mut acc = [l.ints(0); R];
        for r in 0..R {
            acc[r] = l.flipped_start(x[r][b].sums[0] + x[r][b].sums[1]);
        }
        for j in 0..8 {
            let w = l.bytes(at(block, 64 * j));
            for r in 0..R {
                acc[r] = l.dot_flipped(acc[r], w, x[r][b].quads[j]);
            }
        }
        let d = l.halves(at(block, 512));
        for r in 0..R {
            out[r] = l.fma(l.to_floats(acc[r]), l.mul(d, l.splat(x[r][b].d)), out[r]);
        }
    }
    out
}

#[inline(always)]
fn q6<L: Lanes, const R: usize>(l: L, tile: &[u8], x: [&[XBlock]; R]) -> [L::F; R] {
    let mut out = [l.splat(0.0); R];
    for (b, block) in tile.as_chunks::<448>().0.iter().enumerate() {
        let (mut low, mut high) = ([l.ints(0); R], [l.ints(0); R]);
        for r in 0..R {
            low[r] = l.ints(-32 * x[r][b].sums[0]);
            high[r] = l.ints(-32 * x[r][b].sums[1]);
        }
        let upper = (l.bytes(at(block, 256)), l.bytes(at(block, 320)));
        for j in 0..4 {
            let w = l.bytes(at(block, 64 * j));
            let bits = match j {
                0 => (l.pair::<0>(upper.0), l.pair::<0>(upper.1)),
                1 => (l.pair::<1>(upper.0), l.pair::<1>(upper.1)),
                2 => (l.pair::<2>(upper.0), l.pair::<2>(upper.1)),
                _ => (l.pair::<3>(upper.0), l.pair::<3>(upper.1)),
            };
            let (first, second) = (l.or(l.low_nibbles(w), bits.0), l.or(l.high_nibbles(w), bits.1));
            for r in 0..R {
                low[r] = l.dot(low[r], first, x[r][b].quads[j]);
                high[r] = l.dot(high[r], second, x[r][b].quads[j + 4]);
            }
        }
        let d = l.halves(at(block, 416));
        let scales = (
            l.mul(d, l.signed(at(block, 384))),
            l.mul(d, l.signed(at(block, 400))),
        );
        for r in 0..R {
            let d = l.splat(x[r][b].d);
            out[r] = l.fma(l.to_floats(low[r]), l.mul(scales.0, d), out[r]);
            out[r] = l.fma(l.to_floats(high[r]), l.mul(scales.1, d), out[r]);
        }
    }
    out
}
