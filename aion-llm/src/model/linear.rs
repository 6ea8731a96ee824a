//! Matrix products with the weights laid out for the processor.

use burn::tensor::{Device, Tensor, TensorData};

use crate::checkpoint::Stored;
use crate::error::Result;

/// `y = x W`, `W` of shape `[in, out]` with `out` contiguous.
///
/// That layout is the one whose single-row product runs at memory speed on the processor; the transposed one is nine
/// times slower there.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Tensor<2>,
}

impl Linear {
    /// `[seq, in]` to `[seq, out]`.
    pub(super) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.weight.clone())
    }
}

/// Several matrices over the same input, side by side in one.
#[derive(Debug)]
pub(super) struct Fused {
    width: usize,
    parts: Vec<Stored>,
}

impl Fused {
    pub(super) fn new(width: usize) -> Self {
        Self {
            width,
            parts: Vec::new(),
        }
    }

    /// Appends a row-major `[out, width]` matrix.
    pub(super) fn with(mut self, matrix: Stored) -> Self {
        self.parts.push(matrix);
        self
    }

    pub(super) fn load(self, device: &Device) -> Result<Linear> {
        let width = self.width;
        let (data, total) = self.transposed()?;
        let weight = Tensor::from_data(TensorData::new(data, [width, total]), device);
        Ok(Linear { weight })
    }

    /// All of them as one `[width, out]` matrix, and `out`.
    pub(super) fn transposed(self) -> Result<(Vec<f32>, usize)> {
        let dense = self.parts.iter().map(Stored::dense).collect::<Result<Vec<_>>>()?;
        let total = dense.iter().map(Vec::len).sum::<usize>() / self.width;
        let mut data = vec![0.0; self.width * total];
        let mut column = 0;
        for weight in &dense {
            let out = weight.len() / self.width;
            transpose_into(weight, out, self.width, &mut data[column..], total);
            column += out;
        }
        Ok((data, total))
    }
}

/// A product so wide that one row of it leaves the nearest cache: the output is computed in blocks.
#[derive(Debug)]
pub(super) struct Wide {
    /// `[blocks, in, out / blocks]`.
    weight: Tensor<3>,
}

const WIDEST: usize = 4096;

impl Wide {
    /// Loads a row-major `[out, width]` matrix.
    pub(super) fn load(matrix: &Stored, out: usize, width: usize, device: &Device) -> Result<Self> {
        let blocks = (1..=out)
            .find(|n| out.is_multiple_of(*n) && out / n <= WIDEST)
            .unwrap_or(1);
        // A size without a divisor that leaves blocks of use stays whole.
        let blocks = if out / blocks < WIDEST / 4 { 1 } else { blocks };
        let n = out / blocks;
        let dense = matrix.dense()?;
        let mut data = vec![0.0; out * width];
        for (rows, block) in dense
            .chunks_exact(n * width)
            .zip(data.chunks_exact_mut(n * width))
        {
            transpose_into(rows, n, width, block, n);
        }
        let weight = Tensor::from_data(TensorData::new(data, [blocks, width, n]), device);
        Ok(Self { weight })
    }

    /// `[seq, in]` to `[seq, out]`.
    pub(super) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let [seq, _] = x.dims();
        let [blocks, _, n] = self.weight.dims();
        let y = x.unsqueeze_dim::<3>(0).matmul(self.weight.clone());
        y.swap_dims(0, 1).reshape([seq, blocks * n])
    }
}

/// Writes the row-major `[rows, cols]` source as `[cols, rows]` with rows `stride` apart, in tiles that stay in cache.
fn transpose_into(source: &[f32], rows: usize, cols: usize, out: &mut [f32], stride: usize) {
    const TILE: usize = 32;
    for row_0 in (0..rows).step_by(TILE) {
        for col_0 in (0..cols).step_by(TILE) {
            for row in row_0..rows.min(row_0 + TILE) {
                for col in col_0..cols.min(col_0 + TILE) {
                    out[col * stride + row] = source[row * cols + col];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_lands_transposed() {
        let (rows, cols) = (37, 45);
        let source: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
        let mut out = vec![0.0; cols * rows];
        transpose_into(&source, rows, cols, &mut out, rows);
        for (row, col) in [(0, 0), (36, 44), (31, 32), (5, 40)] {
            assert_eq!(out[col * rows + row], source[row * cols + col]);
        }
    }
}
