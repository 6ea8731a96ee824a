//! One row times a matrix that stays in its quantised blocks: what a single token costs.
//!
//! Burn's processor backend multiplies 32-bit floats only, so a token would read four bytes for each weight; the
//! blocks hold less than one. The weights are exactly those of the file and the activations stay floats, so the
//! result differs from Burn's in the order of its sums alone. Several rows at once (a prompt) go through Burn.
//!
//! The loops are plain Rust, compiled once for each generation of the processor; the one that runs is picked by asking
//! the processor.
//!
//! `unsafe` because calling a function that was compiled for newer instructions is sound only on a processor that has
//! them, which the compiler cannot know. Each of the two calls stands right behind the question, and the tests compare
//! their results with the dequantised weights.
#![allow(unsafe_code)]

use half::f16;
use rayon::prelude::*;

use crate::gguf::TensorType;

const BLOCK: usize = 32;
const LANES: usize = 16;

/// Fewer products than this (half a millisecond of work) are not worth a second thread: on a busy machine waking it
/// takes longer.
const PARALLEL_FROM: usize = 1 << 23;

/// Matrices over the same input, one after the other.
#[derive(Debug)]
pub(super) struct Packed {
    parts: Vec<Rows>,
    width: usize,
}

/// Rows of blocks: `scale q + minimum` for each of 32 weights.
#[derive(Debug)]
struct Rows {
    quants: Quants,
    /// Scale and minimum of each block.
    scales: Vec<(f32, f32)>,
}

#[derive(Debug)]
enum Quants {
    /// 16 bytes a block: the low nibbles are the first half.
    Nibbles(Vec<[u8; 16]>),
    /// 32 signed bytes a block.
    Bytes(Vec<[i8; 32]>),
}

impl Rows {
    fn pack(kind: TensorType, bytes: &[u8]) -> Option<Self> {
        let blocks = bytes.chunks_exact(kind.block_bytes());
        let half = |block: &[u8], at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
        let nibbles = |at: usize| {
            let quants = blocks.clone().map(|block| std::array::from_fn(|i| block[at + i]));
            Quants::Nibbles(quants.collect())
        };
        let (quants, scales) = match kind {
            TensorType::Q4_0 => (
                nibbles(2),
                blocks.clone().map(|b| (half(b, 0), -8.0 * half(b, 0))).collect(),
            ),
            TensorType::Q4_1 => (
                nibbles(4),
                blocks.clone().map(|b| (half(b, 0), half(b, 2))).collect(),
            ),
            TensorType::Q8_0 => {
                let quants = blocks
                    .clone()
                    .map(|b| std::array::from_fn(|i| b[2 + i].cast_signed()));
                (
                    Quants::Bytes(quants.collect()),
                    blocks.clone().map(|b| (half(b, 0), 0.0)).collect(),
                )
            }
            TensorType::F32 | TensorType::F16 | TensorType::BF16 | TensorType::Q6K => return None,
        };
        Some(Self { quants, scales })
    }
}

impl Packed {
    /// Packs row-major `[_, width]` matrices; none when one of them is not stored in blocks of 32.
    pub(super) fn new<'a>(
        width: usize,
        parts: impl IntoIterator<Item = (TensorType, &'a [u8])>,
    ) -> Option<Self> {
        let parts = parts.into_iter().map(|(kind, bytes)| Rows::pack(kind, bytes));
        let parts = parts.collect::<Option<Vec<_>>>()?;
        width.is_multiple_of(BLOCK).then_some(Self { parts, width })
    }

    /// The products with all rows, in order.
    pub(super) fn forward(&self, x: &[f32]) -> Vec<f32> {
        let per_row = self.width / BLOCK;
        let sums: Vec<f32> = x.chunks_exact(BLOCK).map(|block| block.iter().sum()).collect();
        let mut out = vec![0.0; self.parts.iter().map(|part| part.scales.len() / per_row).sum()];
        let mut rest = out.as_mut_slice();
        for part in &self.parts {
            let (y, tail) = rest.split_at_mut(part.scales.len() / per_row);
            rest = tail;
            part.multiply(x, &sums, y);
        }
        out
    }
}

impl Rows {
    /// Splits the rows over the threads of the pool.
    fn multiply(&self, x: &[f32], sums: &[f32], y: &mut [f32]) {
        let threads = if y.len() * x.len() < PARALLEL_FROM {
            1
        } else {
            rayon::current_num_threads()
        };
        let rows = y.len().div_ceil(threads).max(1);
        let job = |(chunk, y): (usize, &mut [f32])| {
            let first = chunk * rows;
            Job {
                rows: self,
                first,
                x,
                sums,
                y,
            }
            .dispatch();
        };
        if threads == 1 {
            job((0, y));
        } else {
            y.par_chunks_mut(rows).enumerate().for_each(job);
        }
    }
}

/// Some of the rows.
struct Job<'a> {
    rows: &'a Rows,
    first: usize,
    x: &'a [f32],
    sums: &'a [f32],
    y: &'a mut [f32],
}

impl Job<'_> {
    /// Runs the version for this processor.
    fn dispatch(self) {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
                // SAFETY: the processor has just said that it has both.
                return unsafe { with_avx512(self) };
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: the processor has just said that it has both.
                return unsafe { with_avx2(self) };
            }
        }
        self.run();
    }

    #[inline(always)]
    fn run(self) {
        let Self {
            rows,
            first,
            x,
            sums,
            y,
        } = self;
        let per_row = sums.len();
        let x = x.as_chunks::<BLOCK>().0;
        for (i, y) in y.iter_mut().enumerate() {
            let at = (first + i) * per_row..(first + i + 1) * per_row;
            let scales = &rows.scales[at.clone()];
            *y = match &rows.quants {
                Quants::Nibbles(quants) => nibbles(&quants[at], scales, x, sums),
                Quants::Bytes(quants) => bytes(&quants[at], scales, x),
            };
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl")]
fn with_avx512(job: Job<'_>) {
    job.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2(job: Job<'_>) {
    job.run();
}

#[inline(always)]
fn nibbles(quants: &[[u8; 16]], scales: &[(f32, f32)], x: &[[f32; BLOCK]], sums: &[f32]) -> f32 {
    let (mut lanes, mut base) = ([0.0f32; LANES], 0.0f32);
    for (((q, (scale, minimum)), x), sum) in quants.iter().zip(scales).zip(x).zip(sums) {
        for j in 0..LANES {
            let product = x[j] * f32::from(q[j] & 0xF) + x[LANES + j] * f32::from(q[j] >> 4);
            lanes[j] += scale * product;
        }
        base += minimum * sum;
    }
    lanes.iter().sum::<f32>() + base
}

#[inline(always)]
fn bytes(quants: &[[i8; 32]], scales: &[(f32, f32)], x: &[[f32; BLOCK]]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for ((q, (scale, _)), x) in quants.iter().zip(scales).zip(x) {
        for j in 0..LANES {
            let product = x[j] * f32::from(q[j]) + x[LANES + j] * f32::from(q[LANES + j]);
            lanes[j] += scale * product;
        }
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gguf::dequantize;

    proptest! {
        /// The product is that of the dequantised weights, whatever the blocks hold and however many threads share it.
        #[test]
        fn the_product_is_that_of_the_dequantised_weights(
            seed in proptest::collection::vec(any::<u8>(), 64..200), rows in 1usize..9, blocks in 1usize..5,
        ) {
            for kind in [TensorType::Q4_0, TensorType::Q4_1, TensorType::Q8_0] {
                let width = blocks * BLOCK;
                let mut bytes: Vec<u8> =
                    (0..rows * blocks * kind.block_bytes()).map(|i| seed[i * 7 % seed.len()]).collect();
                for block in bytes.chunks_exact_mut(kind.block_bytes()) {
                    // Scales and minima of moderate size: the exponent's upper bits are fixed.
                    block[1] = block[1] & 0x83 | 0x28;
                    block[3] = if kind == TensorType::Q4_1 { block[3] & 0x83 | 0x28 } else { block[3] };
                }
                let x: Vec<f32> = (0..width).map(|i| f32::from(seed[i % seed.len()]) / 128.0 - 1.0).collect();
                let dense = dequantize(kind, &bytes).unwrap();
                let packed = Packed::new(width, [(kind, bytes.as_slice())]).unwrap();
                for (row, y) in dense.chunks_exact(width).zip(packed.forward(&x)) {
                    let exact: f64 = row.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                    let size: f64 = row.iter().zip(&x).map(|(w, x)| f64::from((w * x).abs())).sum();
                    prop_assert!((f64::from(y) - exact).abs() <= 1e-5 * size + 1e-6, "{y} for {exact}");
                }
            }
        }
    }

    #[test]
    fn several_threads_give_the_same_rows() {
        let (rows, width) = (16_640, 512);
        let bytes: Vec<u8> = (0..rows * width / BLOCK * 34)
            .map(|i| if i % 34 == 1 { 0x2C } else { i as u8 })
            .collect();
        let packed = Packed::new(width, [(TensorType::Q8_0, bytes.as_slice())]).unwrap();
        let x: Vec<f32> = (0..width).map(|i| i as f32 / 512.0).collect();
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| packed.forward(&x))
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn what_is_not_in_blocks_of_32_is_left_to_burn() {
        assert!(Packed::new(32, [(TensorType::F32, &[0u8; 128][..])]).is_none());
        assert!(Packed::new(40, [(TensorType::Q8_0, &[0u8; 34][..])]).is_none());
    }
}
