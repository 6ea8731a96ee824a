//! Vectors of items in blocks of 8-bit numbers, and exact search over them.
//!
//! A vector is scaled to length 1 and each of its numbers to an integer in `[-127, 127]`, with one scale
//! for the vector; a query likewise. Dot products are sums of integers, so every processor gives the same
//! ones. There is no approximate index: a scan finds what is there, whatever is filtered. It reads the upper
//! half of each byte first and the whole of a row only where a bound says that it may matter.

mod halves;
mod kernel;
mod top;

pub use kernel::Level;
pub use top::Found;

use crate::error::{Error, Result};
use halves::{Halves, Probe};
pub(crate) use top::Best;

/// Numbers that a row is padded to, so that kernels need no remainder.
const LANES: usize = 64;
/// The largest dimension.
pub const MAX_DIM: usize = 8_192;
/// Rows whose scores are made before they are looked at.
const CHUNK: usize = 1_024;
/// Where fewer than one slot in so many has a vector, only those are looked at.
const SPARSE: usize = 4;
/// What a single row is multiplied by: wider kernels prepare the query first.
const ONE_ROW: Level = Level::Avx2;

/// A vector of 8-bit numbers with a scale.
///
/// ```
/// use aion_router::vector::Quantized;
///
/// let vector = Quantized::new(&[3.0, -4.0])?;
/// assert!((vector.values()[0] - 0.6).abs() < 0.005 && (vector.values()[1] + 0.8).abs() < 1e-6);
/// assert!(Quantized::new(&[f32::NAN]).is_err());
/// # Ok::<(), aion_router::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Quantized {
    /// Padded with zeros to a multiple of 64.
    row: Vec<i8>,
    scale: f32,
    dim: usize,
}

impl Quantized {
    /// The vector scaled to length 1; all zeros stay so.
    ///
    /// # Errors
    /// [`Error::BadVector`] if it is empty, too long, or not finite.
    pub fn new(vector: &[f32]) -> Result<Self> {
        let dim = vector.len();
        let length = vector
            .iter()
            .map(|x| f64::from(*x) * f64::from(*x))
            .sum::<f64>()
            .sqrt();
        if dim == 0 || dim > MAX_DIM || !length.is_finite() {
            return Err(Error::BadVector {
                dim: dim.clamp(1, MAX_DIM),
            });
        }
        let largest = vector.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let mut row = vec![0; dim.next_multiple_of(LANES)];
        if largest == 0.0 || length == 0.0 {
            return Ok(Self { row, scale: 0.0, dim });
        }
        for (to, x) in row.iter_mut().zip(vector) {
            *to = (x / largest * 127.0).round() as i8;
        }
        let scale = (f64::from(largest) / 127.0 / length) as f32;
        Ok(Self { row, scale, dim })
    }

    /// A vector as it was taken apart; `None` if the numbers cannot be one.
    pub fn from_parts(row: &[i8], scale: f32) -> Option<Self> {
        if row.is_empty() || row.len() > MAX_DIM || !(scale.is_finite() && scale >= 0.0) {
            return None;
        }
        let mut padded = row.to_vec();
        padded.resize(row.len().next_multiple_of(LANES), 0);
        Some(Self {
            row: padded,
            scale,
            dim: row.len(),
        })
    }

    /// Its dimension.
    pub const fn dim(&self) -> usize {
        self.dim
    }

    /// Its integers, without padding.
    pub fn integers(&self) -> &[i8] {
        &self.row[..self.dim]
    }

    /// What an integer of 1 stands for.
    pub const fn scale(&self) -> f32 {
        self.scale
    }

    /// Its numbers.
    pub fn values(&self) -> Vec<f32> {
        self.integers()
            .iter()
            .map(|x| f32::from(*x) * self.scale)
            .collect()
    }
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
    /// The upper half of each number of a row.
    halves: Halves,
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

    /// The vector of a slot.
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
        self.halves.set(slot, &vector.row, vector.scale);
        self.sums[slot] = vector.row.iter().map(|x| i32::from(*x)).sum();
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

    fn grow(&mut self, slots: usize) {
        self.rows.resize(slots * self.stride, 0);
        self.scales.resize(slots, 0.0);
        self.sums.resize(slots, 0);
        self.halves.grow(slots, self.stride);
        self.signs.resize(slots * self.stride / 64, 0);
        self.present.resize(slots, false);
    }

    /// Takes the vector of a slot out.
    pub fn clear(&mut self, slot: usize) {
        if self.has(slot) {
            self.rows[slot * self.stride..][..self.stride].fill(0);
            self.halves.clear(slot);
            (self.scales[slot], self.sums[slot], self.present[slot]) = (0.0, 0, false);
            self.count -= 1;
        }
    }

    /// The cosine of every slot with the query, 0 where there is no vector; empty if the dimensions differ.
    pub fn cosines_into(&self, query: &Quantized, out: &mut Vec<f32>) {
        out.clear();
        if query.dim != self.dim {
            return;
        }
        out.resize(self.capacity(), 0.0);
        if self.count * SPARSE > self.capacity() {
            self.dots(Level::best(), query, 0, out);
            return;
        }
        let present = self.present.iter().enumerate().filter(|(_, is)| **is);
        for (slot, _) in present {
            self.dots(ONE_ROW.min(Level::best()), query, slot, &mut out[slot..=slot]);
        }
    }

    /// The `k` nearest slots by exact scan, best first, ties by slot.
    pub fn nearest(&self, query: &Quantized, k: usize) -> Vec<Found> {
        self.nearest_at(Level::best(), query, k)
    }

    /// The same with the kernel of a given level, to compare kernels; a level that this processor lacks
    /// falls back to the portable one.
    pub fn nearest_at(&self, level: Level, query: &Quantized, k: usize) -> Vec<Found> {
        if query.dim != self.dim {
            return Vec::new();
        }
        let mut best = Best::new(k);
        let mut scores = [0.0; CHUNK];
        let first = CHUNK.min(self.capacity());
        self.dots(level, query, 0, &mut scores[..first]);
        best.offer(0, &scores[..first], &self.present);
        let probe = Probe::new(&query.row, query.scale);
        let one_row = ONE_ROW.min(level);
        for from in (first..self.capacity()).step_by(CHUNK) {
            let bounds = &mut scores[..CHUNK.min(self.capacity() - from)];
            self.halves
                .bounds(level, &probe, from, &self.scales[from..], bounds);
            best.offer_at_most(from, bounds, &self.present, |slot| {
                let mut score = [0.0];
                self.dots(one_row, query, slot, &mut score);
                score[0]
            });
        }
        best.into_sorted()
    }

    /// The `k` nearest of the `candidates` whose signs agree most with those of the query: faster than the
    /// exact scan, and not exact.
    pub fn nearest_by_signs(&self, query: &Quantized, k: usize, candidates: usize) -> Vec<Found> {
        if query.dim != self.dim {
            return Vec::new();
        }
        let bits: Vec<u64> = query.row.chunks(64).map(sign_bits).collect();
        let mut coarse = Best::new(candidates.max(k));
        let mut scores = [0.0; CHUNK];
        for from in (0..self.capacity()).step_by(CHUNK) {
            let n = CHUNK.min(self.capacity() - from);
            let signs = &self.signs[from * bits.len()..][..n * bits.len()];
            kernel::agreements(Level::best(), signs, &bits, &mut scores[..n]);
            coarse.offer(from, &scores[..n], &self.present);
        }
        let mut best = Best::new(k);
        for found in coarse.into_sorted() {
            let mut score = [0.0];
            self.dots(ONE_ROW.min(Level::best()), query, found.slot, &mut score);
            best.offer(found.slot, &score, &self.present);
        }
        best.into_sorted()
    }

    fn dots(&self, level: Level, query: &Quantized, from: usize, out: &mut [f32]) {
        let rows = &self.rows[from * self.stride..][..out.len() * self.stride];
        kernel::dots(level, rows, &self.sums[from..][..out.len()], &query.row, out);
        for (score, scale) in out.iter_mut().zip(&self.scales[from..]) {
            *score *= scale * query.scale;
        }
    }
}

fn sign_bits(chunk: &[i8]) -> u64 {
    let set = chunk.iter().enumerate().filter(|(_, x)| **x > 0);
    set.fold(0, |bits, (i, _)| bits | 1 << i)
}
