//! [`Quantized`]: a vector of integers with a scale.

use super::{LANES, MAX_DIM};
use crate::error::{Error, Result};
use crate::sweep::{greatest_size, quantise, squares};

/// Steps of the fine part in one of the 8-bit numbers.
pub(super) const FINE: f32 = 16.0;

/// A vector of 8-bit numbers with a scale, and what rounding left of each in sixteenths.
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
    pub(super) row: Vec<i8>,
    /// Sixteenths from -8 to 7, as many as there are integers; none where nothing is known beyond those.
    pub(super) fine: Vec<i8>,
    pub(super) scale: f32,
    pub(super) dim: usize,
}

impl Quantized {
    /// The vector scaled to length 1; all zeros stay so.
    ///
    /// # Errors
    /// [`Error::BadVector`] if it is empty, too long, or not finite.
    pub fn new(vector: &[f32]) -> Result<Self> {
        let dim = vector.len();
        let length = squares(vector).sqrt();
        if dim == 0 || dim > MAX_DIM || !length.is_finite() {
            return Err(Error::BadVector {
                dim: dim.clamp(1, MAX_DIM),
            });
        }
        let largest = greatest_size(vector);
        let mut row = vec![0; dim.next_multiple_of(LANES)];
        if largest == 0.0 || length == 0.0 {
            let fine = Vec::new();
            return Ok(Self {
                row,
                fine,
                scale: 0.0,
                dim,
            });
        }
        let mut fine = vec![0; row.len()];
        quantise(vector, largest, &mut row, &mut fine);
        let scale = (f64::from(largest) / 127.0 / length) as f32;
        Ok(Self {
            row,
            fine,
            scale,
            dim,
        })
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
            fine: Vec::new(),
            scale,
            dim: row.len(),
        })
    }

    /// Its dimension.
    pub const fn dim(&self) -> usize {
        self.dim
    }

    /// The same to 8 bits.
    pub(crate) fn rounded(mut self) -> Self {
        self.fine = Vec::new();
        self
    }

    /// Appends everything that it is.
    pub(crate) fn put_bytes(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.scale.to_le_bytes());
        bytes.extend(self.row.iter().chain(&self.fine).map(|x| x.cast_unsigned()));
    }

    /// Its integers, without padding.
    pub fn integers(&self) -> &[i8] {
        &self.row[..self.dim]
    }

    /// What an integer of 1 stands for.
    pub const fn scale(&self) -> f32 {
        self.scale
    }

    /// Its numbers, to 8 bits.
    pub fn values(&self) -> Vec<f32> {
        self.integers()
            .iter()
            .map(|x| f32::from(*x) * self.scale)
            .collect()
    }
}
