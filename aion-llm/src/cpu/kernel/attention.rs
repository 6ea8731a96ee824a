//! Attention of the query heads that share a key head, over one segment of positions.
//!
//! Positions are cut into segments at fixed places, and the segments of a row are joined in their order, so a row gets
//! the same bits whether its segments are computed by one thread or by several, in a prompt or alone.

use std::ops::Range;

use super::body::Work;
use super::lanes::{Lanes, at, at_mut};
use super::vector::{capped, exp};

/// Positions of a segment.
pub(crate) const SEGMENT: usize = 256;

/// Positions of a page of the cache.
pub(crate) const PAGE: usize = 64;

/// Floats of a head's part of one segment: the largest score, the sum of the weights, the weighted sum of the values.
pub(crate) fn partial_len(padded_dim: usize) -> usize {
    2 + padded_dim
}

/// One key head and the queries that read it.
#[derive(Debug)]
pub(crate) struct Attend<'a> {
    /// The pages of the segment.
    pub(crate) pages: &'a [&'a [u8]],
    /// Where the keys of this layer and head begin in each page: `[tile of 16 positions, head_dim, 16]` halves.
    pub(crate) keys: usize,
    /// Where the values begin: `[position, padded_dim]` halves.
    pub(crate) values: usize,
    /// `[group, head_dim]`.
    pub(crate) queries: &'a [f32],
    pub(crate) head_dim: usize,
    /// `head_dim`, rounded up to sixteen.
    pub(crate) padded_dim: usize,
    pub(crate) scale: f32,
    /// Scores become `c tanh(score / c)`.
    pub(crate) cap: Option<f32>,
    /// The first position of the segment that the queries may see.
    pub(crate) first: usize,
    /// Positions from the first of the segment on, up to the last that the queries may see; at most [`SEGMENT`].
    pub(crate) positions: usize,
    /// `[group, 2 + padded_dim]`.
    pub(crate) out: &'a mut [f32],
}

impl Work for Attend<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let group = self.queries.len() / self.head_dim;
        let (mut queries, mut out) = (self.queries, &mut *self.out);
        let view = View {
            pages: self.pages,
            keys: self.keys,
            values: self.values,
            head_dim: self.head_dim,
            padded_dim: self.padded_dim,
            scale: self.scale,
            cap: self.cap,
            first: self.first,
            positions: self.positions,
        };
        let mut head = 0;
        while head < group {
            let n = (group - head).min(4);
            let (q, more) = queries.split_at(n * self.head_dim);
            let (o, rest) = std::mem::take(&mut out).split_at_mut(n * partial_len(self.padded_dim));
            match n {
                4 => view.heads::<L, 4>(l, q, o),
                3 => view.heads::<L, 3>(l, q, o),
                2 => view.heads::<L, 2>(l, q, o),
                _ => view.heads::<L, 1>(l, q, o),
            }
            (queries, out) = (more, rest);
            head += n;
        }
    }
}

#[derive(Clone, Copy)]
struct View<'a> {
    pages: &'a [&'a [u8]],
    keys: usize,
    values: usize,
    head_dim: usize,
    padded_dim: usize,
    scale: f32,
    cap: Option<f32>,
    first: usize,
    positions: usize,
}

impl View<'_> {
    /// The keys of sixteen positions, `[head_dim]` columns of halves.
    #[inline(always)]
    fn key_tile(&self, position: usize) -> &[[u8; 32]] {
        let bytes = 32 * self.head_dim;
        let start = self.keys + position % PAGE / 16 * bytes;
        self.pages[position / PAGE][start..start + bytes].as_chunks().0
    }

    #[inline(always)]
    fn value_row(&self, position: usize) -> &[[u8; 32]] {
        let bytes = 2 * self.padded_dim;
        let start = self.values + position % PAGE * bytes;
        self.pages[position / PAGE][start..start + bytes].as_chunks().0
    }

    #[inline(always)]
    fn heads<L: Lanes, const G: usize>(&self, l: L, queries: &[f32], out: &mut [f32]) {
        let mut weights = [[0.0f32; SEGMENT]; G];
        self.scores(l, queries, &mut weights);
        let seen = self.first..self.positions;
        let out_len = partial_len(self.padded_dim);
        for (weights, out) in weights.iter_mut().zip(out.chunks_exact_mut(out_len)) {
            (out[0], out[1]) = soften(l, weights, seen.clone());
        }
        let mut block = 0;
        let blocks = self.padded_dim / 16;
        while block < blocks {
            if blocks - block >= 4 {
                self.mix::<L, G, 4>(l, &weights, block, out);
                block += 4;
            } else {
                self.mix::<L, G, 1>(l, &weights, block, out);
                block += 1;
            }
        }
    }

    /// The scaled products of the queries with all keys that they see; lanes beside those hold anything.
    #[inline(always)]
    fn scores<L: Lanes, const G: usize>(&self, l: L, queries: &[f32], scores: &mut [[f32; SEGMENT]; G]) {
        let rows: [&[f32]; G] = std::array::from_fn(|g| &queries[g * self.head_dim..(g + 1) * self.head_dim]);
        for position in (self.first / 16 * 16..self.positions).step_by(16) {
            let (mut even, mut odd) = ([l.splat(0.0); G], [l.splat(0.0); G]);
            for (i, [a, b]) in self.key_tile(position).as_chunks::<2>().0.iter().enumerate() {
                let (a, b) = (l.halves(a), l.halves(b));
                for g in 0..G {
                    even[g] = l.fma(a, l.splat(rows[g][2 * i]), even[g]);
                    odd[g] = l.fma(b, l.splat(rows[g][2 * i + 1]), odd[g]);
                }
            }
            for g in 0..G {
                let mut score = l.mul(l.add(even[g], odd[g]), l.splat(self.scale));
                if let Some(cap) = self.cap {
                    score = capped(l, score, cap);
                }
                l.store(score, at_mut(&mut scores[g], position));
            }
        }
    }

    /// The weighted sums of `C` vectors of the values, from vector `block` on.
    #[inline(always)]
    fn mix<L: Lanes, const G: usize, const C: usize>(
        &self,
        l: L,
        weights: &[[f32; SEGMENT]; G],
        block: usize,
        out: &mut [f32],
    ) {
        let mut sums = [[l.splat(0.0); C]; G];
        #[allow(
            clippy::needless_range_loop,
            reason = "the position is looked up in the pages as well"
        )]
        for position in self.first..self.positions {
            let row = at::<_, C>(self.value_row(position), block);
            let mut value = [l.splat(0.0); C];
            for c in 0..C {
                value[c] = l.halves(&row[c]);
            }
            for g in 0..G {
                let weight = l.splat(weights[g][position]);
                for c in 0..C {
                    sums[g][c] = l.fma(value[c], weight, sums[g][c]);
                }
            }
        }
        let out_len = partial_len(self.padded_dim);
        for (sums, out) in sums.into_iter().zip(out.chunks_exact_mut(out_len)) {
            for (c, sum) in sums.into_iter().enumerate() {
                l.store(sum, at_mut(out, 2 + 16 * (block + c)));
            }
        }
    }
}

/// Scores of the positions that are seen to weights relative to the largest one; returns that one and the sum of the
/// weights.
#[inline(always)]
fn soften<L: Lanes>(l: L, scores: &mut [f32; SEGMENT], seen: Range<usize>) -> (f32, f32) {
    let (from, to) = (seen.start / 16 * 16, seen.end.next_multiple_of(16));
    scores[from..seen.start].fill(f32::NEG_INFINITY);
    scores[seen.end..to].fill(f32::NEG_INFINITY);
    let lanes = scores[from..to].as_chunks_mut::<16>().0;
    let mut most = l.splat(f32::NEG_INFINITY);
    for x in lanes.iter() {
        most = l.max(most, l.load(x));
    }
    let most = l.max_of(most);
    for x in lanes.iter_mut() {
        l.store(exp(l, l.sub(l.load(x), l.splat(most))), x);
    }
    scores[from..seen.start].fill(0.0);
    scores[seen.end..to].fill(0.0);
    let mut sum = l.splat(0.0);
    for x in scores[from..to].as_chunks::<16>().0 {
        sum = l.add(sum, l.load(x));
    }
    (most, l.sum_of(sum))
}

/// Joins a later segment's part into an earlier one's.
pub(crate) fn merge(into: &mut [f32], from: &[f32]) {
    let most = into[0].max(from[0]);
    let (a, b) = ((into[0] - most).exp(), (from[0] - most).exp());
    into[0] = most;
    for (x, y) in into[1..].iter_mut().zip(&from[1..]) {
        *x = *x * a + y * b;
    }
}
