//! Vectors of items in blocks of 8-bit numbers, and exact search over them.
//!
//! A vector is scaled to length 1 and each of its numbers to an integer in `[-127, 127]`, with one scale
//! for the vector; a query likewise. Dot products are sums of integers, so every processor gives the same
//! ones. There is no approximate index: a scan finds what is there, whatever is filtered. It reads half
//! of the bits first and the whole of a row only where a bound says that it may matter. What rounding to 8 bits
//! left of a vector is kept in 4 further ones, which are read for the last few rows alone.

mod asked;
mod halves;
mod kernel;
mod quantized;
mod top;

pub use kernel::Level;
pub use quantized::Quantized;
pub use top::Found;

use crate::error::{Error, Result};
use crate::sweep::{ROUNDING, at_least, cosines_of, greatest_cosines, rescale};
pub(crate) use asked::Asked;
use halves::{Halves, length};
pub(crate) use top::Best;

/// Numbers that a row is padded to, so that kernels need no remainder.
const LANES: usize = 64;
/// The largest dimension.
pub const MAX_DIM: usize = 8_192;
/// Rows whose scores are made before they are looked at.
const CHUNK: usize = 4_096;
/// Where fewer than one slot in so many has a vector, only those are looked at.
const SPARSE: usize = 4;
/// Rows that are asked for before they are read.
const AHEAD: usize = 4;

/// How closely many vectors are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// To 8 bits.
    Close,
    /// By 4 bits of each number, for half as much to read: cosines are off by some .005.
    Rough,
}

/// Vectors by slot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vectors {
    dim: usize,
    stride: usize,
    rows: Vec<i8>,
    /// 0 where there is no vector.
    scales: Vec<f32>,
    /// The sum of each row, which the kernels of some processors need.
    sums: Vec<i32>,
    /// Each number of a row in steps, from -8 to 7 of them.
    upper: Halves,
    /// The step, times the scale of the row.
    upper_scales: Vec<f32>,
    /// The length of what the steps leave out, times the scale of the row.
    below_upper: Vec<f32>,
    /// What rounding left of each number, in sixteenths; empty until there is a row that knows it.
    fine: Halves,
    /// The length of that, times the scale of the row.
    below_row: Vec<f32>,
    /// The signs of each row, one bit a number.
    signs: Vec<u64>,
    present: Vec<bool>,
    /// How many slots have a vector.
    count: usize,
}

impl Vectors {
    /// No vectors yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The dimension, 0 before the first vector.
    pub const fn dim(&self) -> usize {
        self.dim
    }

    /// One more than the highest slot that ever had a vector.
    pub fn capacity(&self) -> usize {
        self.scales.len()
    }

    /// Whether a slot has a vector.
    pub fn has(&self, slot: usize) -> bool {
        self.present.get(slot).copied().unwrap_or(false)
    }

    /// The slots that have one, rising.
    pub(crate) fn slots(&self) -> impl Iterator<Item = usize> {
        let blocks = self.present.chunks(LANES).enumerate();
        let some = blocks.filter(|(_, block)| block.contains(&true));
        some.flat_map(|(at, block)| {
            let here = block.iter().enumerate().filter(|(_, is)| **is);
            here.map(move |(i, _)| at * LANES + i)
        })
    }

    /// The vector of a slot, to 8 bits.
    pub fn get(&self, slot: usize) -> Option<Quantized> {
        if !self.has(slot) {
            return None;
        }
        let row = &self.rows[slot * self.stride..][..self.dim];
        Quantized::from_parts(row, self.scales[slot])
    }

    /// Sets the vector of a slot. The first one sets the dimension.
    ///
    /// # Errors
    /// [`Error::BadVector`] if it is not finite, or of another dimension.
    pub fn set(&mut self, slot: usize, vector: &[f32]) -> Result<()> {
        let quantized = Quantized::new(vector)?;
        self.set_quantized(slot, &quantized)
    }

    /// Sets the vector of a slot to one that is quantised already.
    ///
    /// # Errors
    /// [`Error::BadVector`] if it is of another dimension.
    pub fn set_quantized(&mut self, slot: usize, vector: &Quantized) -> Result<()> {
        if self.dim == 0 {
            (self.dim, self.stride) = (vector.dim, vector.row.len());
        }
        if vector.dim != self.dim {
            return Err(Error::BadVector { dim: self.dim });
        }
        if self.capacity() <= slot {
            self.grow(slot + 1);
        }
        self.rows[slot * self.stride..][..self.stride].copy_from_slice(&vector.row);
        self.scales[slot] = vector.scale;
        self.sums[slot] = vector.row.iter().map(|x| i32::from(*x)).sum();
        self.set_halves(slot, vector);
        let words = self.stride / 64;
        for (word, chunk) in self.signs[slot * words..][..words]
            .iter_mut()
            .zip(vector.row.chunks(64))
        {
            *word = sign_bits(chunk);
        }
        self.count += usize::from(!self.present[slot]);
        self.present[slot] = true;
        Ok(())
    }

    fn set_halves(&mut self, slot: usize, vector: &Quantized) {
        let mut exact: Vec<f32> = vector.row.iter().map(|x| f32::from(*x)).collect();
        for (exact, fine) in exact.iter_mut().zip(&vector.fine) {
            *exact += f32::from(*fine) / quantized::FINE;
        }
        let (step, upper, left) = halves::in_steps(&exact);
        self.upper_scales[slot] = step * vector.scale;
        self.below_upper[slot] = left * vector.scale;
        self.upper.set(slot, &upper);
        if self.fine.is_empty() && !vector.fine.is_empty() {
            self.fine.grow(self.capacity(), self.stride);
            self.below_row.resize(self.capacity(), 0.0);
        }
        if !self.fine.is_empty() {
            let mut fine = vector.fine.clone();
            fine.resize(self.stride, 0);
            let shares: Vec<f32> = fine.iter().map(|x| f32::from(*x) / quantized::FINE).collect();
            self.below_row[slot] = length(&shares) * vector.scale;
            self.fine.set(slot, &fine);
        }
    }

    fn grow(&mut self, slots: usize) {
        self.rows.resize(slots * self.stride, 0);
        self.scales.resize(slots, 0.0);
        self.sums.resize(slots, 0);
        self.upper.grow(slots, self.stride);
        self.upper_scales.resize(slots, 0.0);
        self.below_upper.resize(slots, 0.0);
        if !self.fine.is_empty() {
            self.fine.grow(slots, self.stride);
            self.below_row.resize(slots, 0.0);
        }
        self.signs.resize(slots * self.stride / 64, 0);
        self.present.resize(slots, false);
    }

    /// Takes the vector of a slot out.
    pub fn clear(&mut self, slot: usize) {
        if self.has(slot) {
            self.rows[slot * self.stride..][..self.stride].fill(0);
            self.upper.clear(slot);
            (self.upper_scales[slot], self.below_upper[slot]) = (0.0, 0.0);
            if !self.fine.is_empty() {
                self.fine.clear(slot);
                self.below_row[slot] = 0.0;
            }
            (self.scales[slot], self.sums[slot], self.present[slot]) = (0.0, 0, false);
            self.count -= 1;
        }
    }

    /// The cosine of every slot with the query to 8 bits, 0 where there is no vector; empty if the dimensions differ.
    pub fn cosines_into(&self, query: &Quantized, out: &mut Vec<f32>) {
        self.seen_into(&Asked::new(query), Sight::Close, out);
    }

    /// The same, or all of them roughly.
    pub(crate) fn seen_into(&self, asked: &Asked, sight: Sight, out: &mut Vec<f32>) {
        out.clear();
        if asked.dim != self.dim {
            return;
        }
        out.resize(self.capacity(), 0.0);
        match sight {
            _ if self.are_few() => {
                let few: Vec<usize> = self.slots().collect();
                self.cosines_at(asked, &few, |slot, cosine| out[slot] = cosine);
            }
            Sight::Close => self.cosines(Level::best(), asked, 0, out),
            Sight::Rough => self.upper_cosines(Level::best(), asked, 0, out),
        }
    }

    /// Whether few slots have a vector, which are seen closely in any case.
    pub(crate) const fn are_few(&self) -> bool {
        self.count * SPARSE <= self.scales.len()
    }

    /// The cosines of these slots with the query, to 8 bits.
    pub(crate) fn cosines_at(&self, asked: &Asked, slots: &[usize], mut then: impl FnMut(usize, f32)) {
        if asked.dim != self.dim {
            return;
        }
        for (i, slot) in slots.iter().enumerate() {
            if let Some(next) = slots.get(i + AHEAD) {
                self.ask_for(*next);
            }
            then(*slot, self.cosine_at(Level::best(), asked, *slot));
        }
    }

    /// The cosine of a slot with the query to all the bits that are kept; 0 where there is no vector, or one of another
    /// dimension.
    pub fn cosine(&self, query: &Quantized, slot: usize) -> f32 {
        if query.dim != self.dim || !self.has(slot) {
            return 0.0;
        }
        self.fine_cosine(Level::best(), &Asked::new(query), slot, f32::NEG_INFINITY)
    }

    /// The `k` nearest slots by exact scan, best first, ties by slot.
    pub fn nearest(&self, query: &Quantized, k: usize) -> Vec<Found> {
        self.nearest_at(Level::best(), query, k)
    }

    /// The same with the kernel of a given level, to compare kernels; a level that this processor lacks
    /// falls back to the portable one.
    pub fn nearest_at(&self, level: Level, query: &Quantized, k: usize) -> Vec<Found> {
        if query.dim != self.dim || k == 0 {
            return Vec::new();
        }
        let asked = Asked::new(query);
        let mut best = Best::new(k);
        let mut bounds = vec![0.0; CHUNK.min(self.capacity())];
        let mut places = Vec::new();
        for from in (0..self.capacity()).step_by(CHUNK) {
            let bounds = &mut bounds[..CHUNK.min(self.capacity() - from)];
            self.bounds(level, &asked, from, bounds);
            if from == 0 {
                self.begin(level, &asked, bounds, &mut best);
            }
            places.clear();
            at_least(bounds, best.bar(), &mut places);
            for (i, place) in places.iter().enumerate() {
                if let Some(next) = places.get(i + AHEAD) {
                    self.ask_for(from + *next as usize);
                }
                if bounds[*place as usize] >= best.bar() {
                    self.offer(level, &asked, from + *place as usize, &mut best);
                }
            }
        }
        best.into_sorted()
    }

    /// The rows that look best among the first ones set a high bar for all others; their bounds are spent.
    fn begin(&self, level: Level, asked: &Asked, bounds: &mut [f32], best: &mut Best) {
        let mut first = Best::new(best.wanted());
        first.offer(0, bounds, &self.present);
        for found in first.into_sorted() {
            self.offer(level, asked, found.slot, best);
            bounds[found.slot] = f32::NAN;
        }
        best.raise();
    }

    fn offer(&self, level: Level, asked: &Asked, slot: usize, best: &mut Best) {
        if self.present[slot] {
            let score = self.fine_cosine(level, asked, slot, best.bar());
            best.push(Found { slot, score });
        }
    }

    /// The `k` nearest of the `candidates` whose signs agree most with those of the query: faster than the
    /// exact scan, and not exact.
    pub fn nearest_by_signs(&self, query: &Quantized, k: usize, candidates: usize) -> Vec<Found> {
        if query.dim != self.dim || k == 0 {
            return Vec::new();
        }
        let level = Level::best();
        let bits: Vec<u64> = query.row.chunks(64).map(sign_bits).collect();
        let mut coarse = Best::new(candidates.max(k));
        let mut scores = vec![0.0; CHUNK.min(self.capacity())];
        for from in (0..self.capacity()).step_by(CHUNK) {
            let n = CHUNK.min(self.capacity() - from);
            let signs = &self.signs[from * bits.len()..][..n * bits.len()];
            kernel::agreements(level, signs, &bits, &mut scores[..n]);
            coarse.offer(from, &scores[..n], &self.present);
        }
        let (asked, coarse) = (Asked::new(query), coarse.into_sorted());
        let mut best = Best::new(k);
        for (i, found) in coarse.iter().enumerate() {
            if let Some(next) = coarse.get(i + AHEAD) {
                self.ask_for(next.slot);
            }
            self.offer(level, &asked, found.slot, &mut best);
        }
        best.into_sorted()
    }

    fn cosines(&self, level: Level, asked: &Asked, from: usize, out: &mut [f32]) {
        let rows = &self.rows[from * self.stride..][..out.len() * self.stride];
        kernel::dots(
            level,
            rows,
            &self.sums[from..][..out.len()],
            asked.bytes(self.stride),
            out,
        );
        rescale(asked.scale, &self.scales[from..], out);
    }

    /// The cosine of one row to 8 bits.
    fn cosine_at(&self, level: Level, asked: &Asked, slot: usize) -> f32 {
        let row = &self.rows[slot * self.stride..][..self.stride];
        let mut dot = [0.0];
        kernel::dots(
            level,
            row,
            &self.sums[slot..=slot],
            asked.bytes(self.stride),
            &mut dot,
        );
        dot[0] * (self.scales[slot] * asked.scale)
    }

    /// The cosine of a row to all the bits that are kept; to fewer where it is below the bar in any case.
    fn fine_cosine(&self, level: Level, asked: &Asked, slot: usize, bar: f32) -> f32 {
        let cosine = self.cosine_at(level, asked, slot);
        let Some(below_row) = self.below_row.get(slot) else {
            return cosine;
        };
        if cosine + (below_row * asked.length + ROUNDING) < bar {
            return cosine;
        }
        let mut fine = [0];
        self.fine.dots(level, asked, slot, &mut fine);
        let fine = (fine[0] - asked.too_much) as f32 / quantized::FINE;
        cosine + fine * (self.scales[slot] * asked.scale)
    }

    fn upper_cosines(&self, level: Level, asked: &Asked, from: usize, out: &mut [f32]) {
        self.by_upper(level, asked, from, out, |out, dots, scales, _| {
            cosines_of(dots, asked.too_much, scales, asked.scale, out);
        });
    }

    /// What the cosine of the query with each row from `from` on is at most.
    ///
    /// A number `x` of a row is `s h + l` with `h` in `[-8, 7]`: the product `x . q` is at most `s h . q + |l| |q|`
    /// (Cauchy and Schwarz). So what is found by the `h` first is what a scan of all bits finds.
    fn bounds(&self, level: Level, asked: &Asked, from: usize, out: &mut [f32]) {
        let query = (asked.scale, asked.length);
        self.by_upper(level, asked, from, out, |out, dots, scales, below| {
            greatest_cosines(dots, asked.too_much, scales, below, query, out);
        });
    }

    /// Passes over the steps of the rows from `from` on, so many that they stay near; `then` makes of their
    /// products, scales, and what they leave out what belongs there.
    fn by_upper(
        &self,
        level: Level,
        asked: &Asked,
        from: usize,
        out: &mut [f32],
        then: impl Fn(&mut [f32], &[i32], &[f32], &[f32]),
    ) {
        const NEAR: usize = 1_024;
        let mut dots = [0; NEAR];
        for (block, out) in out.chunks_mut(NEAR).enumerate() {
            let from = from + block * NEAR;
            let dots = &mut dots[..out.len()];
            self.upper.dots(level, asked, from, dots);
            let scales = &self.upper_scales[from..][..out.len()];
            let below = &self.below_upper[from..][..out.len()];
            then(out, dots, scales, below);
        }
    }

    /// Asks for a row before it is read.
    fn ask_for(&self, slot: usize) {
        kernel::ask_for(&self.rows[slot * self.stride..][..self.stride]);
    }
}

fn sign_bits(chunk: &[i8]) -> u64 {
    let set = chunk.iter().enumerate().filter(|(_, x)| **x > 0);
    set.fold(0, |bits, (i, _)| bits | 1 << i)
}
