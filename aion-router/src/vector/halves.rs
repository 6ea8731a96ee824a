//! The upper halves of rows of bytes: half as much to read, and a bound on what they leave out.
//!
//! A number `x` of a row is `16 h + l` with `h` in `[-8, 7]`. A scan reads the `h` of all rows, 4 bits each, and knows of
//! every product `x . q` that it is at most `16 h . q + |l| |q|` (Cauchy and Schwarz). Only rows that could be among the
//! best by that are read as bytes, so what is found is what a scan of all bytes finds.

use super::kernel::{self, Level};
use crate::sweep::greatest_cosines;

/// What is added to `h`, so that it is not negative.
const MOVED: i32 = 8;

/// Upper halves by slot.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Halves {
    /// Bytes of a row, a multiple of 64.
    stride: usize,
    rows: Vec<u8>,
    /// `|l|` times the scale of the row.
    left_out: Vec<f32>,
}

/// A query as the scan of halves reads it.
#[derive(Debug)]
pub(super) struct Probe {
    /// Padded with zeros to a multiple of 128.
    row: Vec<i8>,
    /// What a product of halves has too much.
    too_much: i32,
    scale: f32,
    /// Its length.
    length: f32,
}

impl Probe {
    pub(super) fn new(row: &[i8], scale: f32) -> Self {
        let mut padded = row.to_vec();
        padded.resize(row.len().next_multiple_of(128), 0);
        Self {
            too_much: MOVED * row.iter().map(|x| i32::from(*x)).sum::<i32>(),
            length: length(row) * scale,
            row: padded,
            scale,
        }
    }
}

fn length(row: &[i8]) -> f32 {
    let squares = row.iter().map(|x| i64::from(*x) * i64::from(*x));
    (squares.sum::<i64>() as f64).sqrt() as f32
}

impl Halves {
    pub(super) fn grow(&mut self, slots: usize, width: usize) {
        self.stride = width.next_multiple_of(128) / 2;
        self.rows.resize(slots * self.stride, 0);
        self.left_out.resize(slots, 0.0);
    }

    pub(super) fn set(&mut self, slot: usize, row: &[i8], scale: f32) {
        let upper = |x: i8| ((i32::from(x) + 8) >> 4).min(7);
        let left_out: Vec<i8> = row
            .iter()
            .map(|x| (i32::from(*x) - 16 * upper(*x)) as i8)
            .collect();
        self.left_out[slot] = length(&left_out) * scale;
        let half = |x: Option<&i8>| (upper(x.copied().unwrap_or(0)) + MOVED) as u8;
        let to = &mut self.rows[slot * self.stride..][..self.stride];
        for (to, from) in to.chunks_exact_mut(64).zip(row.chunks(128)) {
            for (i, to) in to.iter_mut().enumerate() {
                *to = half(from.get(i)) | half(from.get(i + 64)) << 4;
            }
        }
    }

    pub(super) fn clear(&mut self, slot: usize) {
        self.rows[slot * self.stride..][..self.stride].fill(0);
        self.left_out[slot] = 0.0;
    }

    /// What the cosine of the query with each row from `from` on is at most; `scales` are those of the rows.
    pub(super) fn bounds(&self, level: Level, probe: &Probe, from: usize, scales: &[f32], out: &mut [f32]) {
        let mut dots = [0; super::CHUNK];
        let dots = &mut dots[..out.len()];
        let rows = &self.rows[from * self.stride..][..out.len() * self.stride];
        kernel::half_dots(level, rows, &probe.row, dots);
        let left_out = &self.left_out[from..][..out.len()];
        let (dots_to_cosines, spread) = (16.0 * probe.scale, probe.length);
        greatest_cosines(
            (dots, probe.too_much),
            scales,
            left_out,
            (dots_to_cosines, spread),
            out,
        );
    }
}
