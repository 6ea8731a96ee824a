//! Products of a few rows with a matrix of weights that is laid out for it once.
#![allow(
    unsafe_code,
    reason = "vector instructions are reached by intrinsics, each behind a check of the processor"
)]

use crate::vector::Level;

/// Columns that a panel has.
const PANEL: usize = 32;

/// A matrix `[outputs, inputs]` in panels of 32 outputs: `panels[p][input][output of the panel]`.
#[derive(Debug)]
pub(super) struct Packed {
    panels: Vec<f32>,
    outputs: usize,
    inputs: usize,
}

impl Packed {
    pub(super) fn new(weight: &[f32], outputs: usize, inputs: usize) -> Self {
        assert_eq!(weight.len(), outputs * inputs);
        let mut panels = vec![0.0; outputs.div_ceil(PANEL) * PANEL * inputs];
        for (output, row) in weight.chunks_exact(inputs).enumerate() {
            let base = output / PANEL * PANEL * inputs + output % PANEL;
            for (input, x) in row.iter().enumerate() {
                panels[base + input * PANEL] = *x;
            }
        }
        Self {
            panels,
            outputs,
            inputs,
        }
    }

    /// `out = x W^T + bias`, shapes `[rows, inputs]` and `[rows, outputs]`.
    pub(super) fn multiply(&self, level: Level, x: &[f32], bias: &[f32], out: &mut [f32]) {
        let rows = x.len() / self.inputs;
        assert!(
            x.len() == rows * self.inputs && out.len() == rows * self.outputs && bias.len() == self.outputs
        );
        let mut tile = [0.0_f32; MAX_ROWS * PANEL];
        for (p, panel) in self.panels.chunks_exact(PANEL * self.inputs).enumerate() {
            let columns = PANEL.min(self.outputs - p * PANEL);
            let bias = &bias[p * PANEL..][..columns];
            let mut row = 0;
            while row < rows {
                let n = MAX_ROWS.min(rows - row);
                let block = &x[row * self.inputs..][..n * self.inputs];
                tile_of(level, block, panel, self.inputs, &mut tile[..n * PANEL]);
                for (i, from) in tile[..n * PANEL].chunks_exact(PANEL).enumerate() {
                    let to = &mut out[(row + i) * self.outputs + p * PANEL..][..columns];
                    for ((to, from), bias) in to.iter_mut().zip(from).zip(bias) {
                        *to = from + bias;
                    }
                }
                row += n;
            }
        }
    }
}

/// Rows of one tile: twelve by two vectors of sixteen fill the registers of AVX-512.
const MAX_ROWS: usize = 12;

fn tile_of(level: Level, x: &[f32], panel: &[f32], inputs: usize, tile: &mut [f32]) {
    assert!(panel.len() == inputs * PANEL && x.len() / inputs == tile.len() / PANEL);
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has the instructions, and the lengths are checked above.
        Level::Avx512 if level.is_here() => unsafe { x86::tile_avx512(x, panel, inputs, tile) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has the instructions, and the lengths are checked above.
        Level::Avx2 if level.is_here() => unsafe { x86::tile_avx2(x, panel, inputs, tile) },
        _ => tile_portable(x, panel, inputs, tile),
    }
}

fn tile_portable(x: &[f32], panel: &[f32], inputs: usize, tile: &mut [f32]) {
    for (row, out) in x.chunks_exact(inputs).zip(tile.chunks_exact_mut(PANEL)) {
        out.fill(0.0);
        for (x, weights) in row.iter().zip(panel.chunks_exact(PANEL)) {
            for (out, weight) in out.iter_mut().zip(weights) {
                *out += x * weight;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::PANEL;

    #[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
    pub(super) unsafe fn tile_avx512(x: &[f32], panel: &[f32], inputs: usize, tile: &mut [f32]) {
        let rows = tile.len() / PANEL;
        // SAFETY: as the caller's.
        unsafe {
            match rows {
                12 => rows_avx512::<12>(x, panel, inputs, tile),
                11 => rows_avx512::<11>(x, panel, inputs, tile),
                10 => rows_avx512::<10>(x, panel, inputs, tile),
                9 => rows_avx512::<9>(x, panel, inputs, tile),
                8 => rows_avx512::<8>(x, panel, inputs, tile),
                7 => rows_avx512::<7>(x, panel, inputs, tile),
                6 => rows_avx512::<6>(x, panel, inputs, tile),
                5 => rows_avx512::<5>(x, panel, inputs, tile),
                4 => rows_avx512::<4>(x, panel, inputs, tile),
                3 => rows_avx512::<3>(x, panel, inputs, tile),
                2 => rows_avx512::<2>(x, panel, inputs, tile),
                _ => rows_avx512::<1>(x, panel, inputs, tile),
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
    unsafe fn rows_avx512<const ROWS: usize>(x: &[f32], panel: &[f32], inputs: usize, tile: &mut [f32]) {
        // SAFETY: `x` is `[ROWS, inputs]`, `panel` `[inputs, 32]` and `tile` `[ROWS, 32]`.
        unsafe {
            let (x, panel) = (x.as_ptr(), panel.as_ptr());
            let mut acc = [[_mm512_setzero_ps(); 2]; ROWS];
            for k in 0..inputs {
                let from = panel.add(k * PANEL);
                _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(16 * PANEL).cast());
                _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(16 * PANEL + 16).cast());
                let (low, high) = (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16)));
                for (row, acc) in acc.iter_mut().enumerate() {
                    let a = _mm512_set1_ps(*x.add(row * inputs + k));
                    acc[0] = _mm512_fmadd_ps(a, low, acc[0]);
                    acc[1] = _mm512_fmadd_ps(a, high, acc[1]);
                }
            }
            for (row, acc) in acc.iter().enumerate() {
                let to = tile.as_mut_ptr().add(row * PANEL);
                _mm512_storeu_ps(to, acc[0]);
                _mm512_storeu_ps(to.add(16), acc[1]);
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn tile_avx2(x: &[f32], panel: &[f32], inputs: usize, tile: &mut [f32]) {
        let rows = tile.len() / PANEL;
        for row in (0..rows).step_by(2) {
            let n = 2.min(rows - row);
            let (x, tile) = (
                &x[row * inputs..][..n * inputs],
                &mut tile[row * PANEL..][..n * PANEL],
            );
            // SAFETY: as the caller's.
            unsafe {
                match n {
                    2 => rows_avx2::<2>(x, panel, inputs, tile),
                    _ => rows_avx2::<1>(x, panel, inputs, tile),
                }
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn rows_avx2<const ROWS: usize>(x: &[f32], panel: &[f32], inputs: usize, tile: &mut [f32]) {
        // SAFETY: `x` is `[ROWS, inputs]`, `panel` `[inputs, 32]` and `tile` `[ROWS, 32]`.
        unsafe {
            let (x, panel) = (x.as_ptr(), panel.as_ptr());
            let mut acc = [[_mm256_setzero_ps(); 4]; ROWS];
            for k in 0..inputs {
                let from = panel.add(k * PANEL);
                for (row, acc) in acc.iter_mut().enumerate() {
                    let a = _mm256_set1_ps(*x.add(row * inputs + k));
                    for (part, acc) in acc.iter_mut().enumerate() {
                        *acc = _mm256_fmadd_ps(a, _mm256_loadu_ps(from.add(8 * part)), *acc);
                    }
                }
            }
            for (row, acc) in acc.iter().enumerate() {
                for (part, acc) in acc.iter().enumerate() {
                    _mm256_storeu_ps(tile.as_mut_ptr().add(row * PANEL + 8 * part), *acc);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_gives_the_naive_product() {
        for (rows, inputs, outputs) in [(1, 7, 3), (2, 16, 32), (13, 40, 33), (25, 384, 70)] {
            let number = |i: usize| ((i * 2_654_435_761) % 1_000) as f32 / 500.0 - 1.0;
            let x: Vec<f32> = (0..rows * inputs).map(number).collect();
            let weight: Vec<f32> = (0..outputs * inputs).map(|i| number(i + 77)).collect();
            let bias: Vec<f32> = (0..outputs).map(|i| number(i + 5)).collect();
            let packed = Packed::new(&weight, outputs, inputs);
            for level in [Level::Portable, Level::Avx2, Level::Avx512] {
                let mut out = vec![0.0; rows * outputs];
                packed.multiply(level, &x, &bias, &mut out);
                for (i, got) in out.iter().enumerate() {
                    let (row, output) = (i / outputs, i % outputs);
                    let terms = (0..inputs)
                        .map(|k| f64::from(x[row * inputs + k]) * f64::from(weight[output * inputs + k]));
                    let wanted = terms.sum::<f64>() + f64::from(bias[output]);
                    let close = (f64::from(*got) - wanted).abs() < 1e-5 * (1.0 + wanted.abs());
                    assert!(close, "{level:?} {got} {wanted}");
                }
            }
        }
    }
}
