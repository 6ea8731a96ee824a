//! Rows of numbers from -8 to 7, two in a byte.

use super::asked::Asked;
use super::kernel::{self, Level};
use crate::sweep::{count_steps, product};

/// What is added to a number, so that it is not negative.
pub(super) const MOVED: i32 = 8;

/// Half-bytes by slot.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Halves {
    /// Bytes of a row, a multiple of 64; 0 before the first.
    stride: usize,
    rows: Vec<u8>,
}

/// Steps for a row, as a share of the root of its mean square: those that leave out the least of numbers that lie in
/// a bell.
///
/// # Sources
/// J. Max, Quantizing for minimum distortion, 1960, table II: 16 steps.
const BELL: f32 = 0.335;

/// Numbers in steps from -8 to 7: the step, how many of them each is, and the length of what they leave out.
pub(super) fn in_steps(numbers: &[f32]) -> (f32, Vec<i8>, f32) {
    let mean = length(numbers) / (numbers.len().max(1) as f32).sqrt();
    let bell = (BELL * mean).clamp(1.0, WIDEST);
    // The other step reaches all numbers.
    let mut left_out = vec![0.0; numbers.len()];
    let [bell, widest] = [bell, WIDEST].map(|step| {
        let mut steps = vec![0; numbers.len()];
        count_steps(numbers, step, &mut steps, &mut left_out);
        (step, steps, length(&left_out))
    });
    if widest.2 <= bell.2 { widest } else { bell }
}

/// The step that reaches all bytes.
const WIDEST: f32 = 16.0;

pub(super) fn length(numbers: &[f32]) -> f32 {
    product(numbers, numbers).sqrt() as f32
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

    /// The products of the query with each row from `from` on, each greater by what the query has too much.
    pub(super) fn dots(&self, level: Level, asked: &Asked, from: usize, out: &mut [i32]) {
        let rows = &self.rows[from * self.stride..][..out.len() * self.stride];
        kernel::half_dots(level, rows, &asked.row, out);
    }
}
