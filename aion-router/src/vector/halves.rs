//! Rows of numbers from -8 to 7, two in a byte.

use super::asked::Asked;
use super::kernel::{self, Level};

/// What is added to a number, so that it is not negative.
pub(super) const MOVED: i32 = 8;

/// Half-bytes by slot.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Halves {
    /// Bytes of a row, a multiple of 64; 0 before the first.
    stride: usize,
    rows: Vec<u8>,
}

/// The upper half of a byte, rounded.
pub(super) fn upper(x: i8) -> i8 {
    ((i32::from(x) + 8) >> 4).min(7) as i8
}

pub(super) fn length(numbers: impl Iterator<Item = f32>) -> f32 {
    numbers.map(|x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt() as f32
}

impl Halves {
    pub(super) const fn is_empty(&self) -> bool {
        self.stride == 0
    }

    /// Room for so many slots of `width` numbers.
    pub(super) fn grow(&mut self, slots: usize, width: usize) {
        self.stride = width.next_multiple_of(128) / 2;
        self.rows.resize(slots * self.stride, 0);
    }

    pub(super) fn set(&mut self, slot: usize, numbers: &[i8]) {
        let half = |x: Option<&i8>| (i32::from(x.copied().unwrap_or(0)) + MOVED) as u8;
        let to = &mut self.rows[slot * self.stride..][..self.stride];
        for (to, from) in to.chunks_exact_mut(64).zip(numbers.chunks(128)) {
            for (i, to) in to.iter_mut().enumerate() {
                *to = half(from.get(i)) | half(from.get(i + 64)) << 4;
            }
        }
    }

    pub(super) fn clear(&mut self, slot: usize) {
        self.rows[slot * self.stride..][..self.stride].fill(0);
    }

    /// The products of the query with each row from `from` on.
    pub(super) fn dots(&self, level: Level, asked: &Asked, from: usize, out: &mut [i32]) {
        let rows = &self.rows[from * self.stride..][..out.len() * self.stride];
        kernel::half_dots(level, rows, &asked.row, out);
        out.iter_mut().for_each(|dot| *dot -= asked.too_much);
    }
}
