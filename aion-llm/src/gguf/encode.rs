//! Floats to the storage types of GGUF.
//!
//! The 4-bit types start from the scale that spans the block and refine it by least squares: with the integers fixed
//! the best scale (and minimum) has a closed form, with the scale fixed the best integers are the nearest, and a few
//! rounds of the two never end worse than they began.

use half::{bf16, f16};
use rayon::prelude::*;

use super::block::{TensorType, dequantize_into};

const BLOCK: usize = 32;
/// Rounds of refinement; more change nothing that can be measured.
const ROUNDS: usize = 6;
/// Elements that one thread converts at a time.
const PIECE: usize = 1 << 16;

/// A tensor in another type, and how far it moved.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    /// Sum of the squares of the elements.
    pub(crate) energy: f64,
    /// Sum of the squares of the differences.
    pub(crate) noise: f64,
}

/// Converts whole blocks of one type to another; `Q6K` can only be read. The number of elements must be whole blocks
/// of both.
pub(crate) fn encode(from: TensorType, bytes: &[u8], to: TensorType) -> Encoded {
    let piece = PIECE / from.block_len() * from.block_bytes();
    let pieces: Vec<Encoded> = bytes
        .par_chunks(piece)
        .map(|bytes| encode_piece(from, bytes, to))
        .collect();
    let sum = |value: fn(&Encoded) -> f64| pieces.iter().map(value).sum();
    Encoded {
        energy: sum(|piece| piece.energy),
        noise: sum(|piece| piece.noise),
        bytes: pieces.into_iter().flat_map(|piece| piece.bytes).collect(),
    }
}

fn encode_piece(from: TensorType, bytes: &[u8], to: TensorType) -> Encoded {
    let mut values = vec![0.0; bytes.len() / from.block_bytes() * from.block_len()];
    dequantize_into(from, bytes, &mut values);
    let encoded = encode_values(to, &values);
    let mut back = vec![0.0; values.len()];
    dequantize_into(to, &encoded, &mut back);
    let square = |x: f32| f64::from(x) * f64::from(x);
    Encoded {
        energy: values.iter().map(|x| square(*x)).sum(),
        noise: values.iter().zip(&back).map(|(x, y)| square(x - y)).sum(),
        bytes: encoded,
    }
}

/// The bytes of these elements, which must be whole blocks.
pub(crate) fn encode_values(to: TensorType, values: &[f32]) -> Vec<u8> {
    let each = |one: fn(f32) -> Vec<u8>| values.iter().flat_map(|x| one(*x)).collect();
    let blocks = values.as_chunks::<BLOCK>().0;
    match to {
        TensorType::F32 => each(|x| x.to_le_bytes().to_vec()),
        TensorType::F16 => each(|x| f16::from_f32(x).to_le_bytes().to_vec()),
        TensorType::BF16 => each(|x| bf16::from_f32(x).to_le_bytes().to_vec()),
        TensorType::Q8_0 => blocks.iter().flat_map(q8_0).collect(),
        TensorType::Q4_0 => blocks.iter().flat_map(q4_0).collect(),
        TensorType::Q4_1 => blocks.iter().flat_map(q4_1).collect(),
        TensorType::Q6K => unreachable!("no caller asks for Q6_K"),
    }
}

fn q8_0(x: &[f32; BLOCK]) -> [u8; 34] {
    let largest = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    let scale = f16::from_f32(largest / 127.0);
    let inverse = inverse(scale.to_f32());
    let mut block = [0; 34];
    block[..2].copy_from_slice(&scale.to_le_bytes());
    for (byte, x) in block[2..].iter_mut().zip(x) {
        *byte = ((x * inverse).round().clamp(-127.0, 127.0) as i8).cast_unsigned();
    }
    block
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { scale.recip() }
}

/// `x = scale q + minimum` with `q` from 0 to 15.
#[derive(Debug, Clone, Copy)]
struct Line {
    scale: f16,
    minimum: f16,
}

impl Line {
    fn new(scale: f32, minimum: f32) -> Self {
        Self {
            scale: f16::from_f32(scale),
            minimum: f16::from_f32(minimum),
        }
    }

    fn nearest(self, minimum: f32, x: &[f32; BLOCK]) -> [u8; BLOCK] {
        let inverse = inverse(self.scale.to_f32());
        x.map(|x| ((x - minimum) * inverse).round().clamp(0.0, 15.0) as u8)
    }

    fn noise(self, minimum: f32, x: &[f32; BLOCK], q: &[u8; BLOCK]) -> f32 {
        let scale = self.scale.to_f32();
        let square = |(x, q): (&f32, &u8)| (x - (scale * f32::from(*q) + minimum)).powi(2);
        x.iter().zip(q).map(square).sum()
    }
}

/// The best of the lines that refinement passes through, with its integers.
fn refined(
    x: &[f32; BLOCK],
    starts: &[Line],
    minimum: impl Fn(Line) -> f32,
    better: impl Fn(&[u8; BLOCK]) -> Line,
) -> (Line, [u8; BLOCK]) {
    let mut best = (f32::INFINITY, starts[0], [0; BLOCK]);
    for start in starts {
        let mut line = *start;
        for _ in 0..ROUNDS {
            let q = line.nearest(minimum(line), x);
            let noise = line.noise(minimum(line), x, &q);
            if noise < best.0 {
                best = (noise, line, q);
            }
            line = better(&q);
        }
    }
    (best.1, best.2)
}

fn packed(q: &[u8; BLOCK]) -> [u8; 16] {
    std::array::from_fn(|i| q[i] | q[i + 16] << 4)
}

/// The element of the largest size becomes -8 times the scale, or the scale spans the block by 7.
fn q4_0(x: &[f32; BLOCK]) -> [u8; 18] {
    let extreme = x
        .iter()
        .copied()
        .fold(0.0f32, |max, x| if x.abs() > max.abs() { x } else { max });
    let starts = [
        Line::new(extreme / -8.0, 0.0),
        Line::new(extreme.abs() / 7.0, 0.0),
    ];
    let scale_of = |q: &[u8; BLOCK]| {
        let centred = |q: &u8| f32::from(*q) - 8.0;
        let product: f32 = x.iter().zip(q).map(|(x, q)| x * centred(q)).sum();
        let square: f32 = q.iter().map(|q| centred(q).powi(2)).sum();
        Line::new(product * inverse(square), 0.0)
    };
    let (line, q) = refined(x, &starts, |line| -8.0 * line.scale.to_f32(), scale_of);
    let mut block = [0; 18];
    block[..2].copy_from_slice(&line.scale.to_le_bytes());
    block[2..].copy_from_slice(&packed(&q));
    block
}

fn q4_1(x: &[f32; BLOCK]) -> [u8; 20] {
    let low = x.iter().copied().fold(f32::INFINITY, f32::min);
    let high = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let line_of = |q: &[u8; BLOCK]| {
        let n = BLOCK as f32;
        let (sum_q, sum_x) = (
            q.iter().map(|q| f32::from(*q)).sum::<f32>(),
            x.iter().sum::<f32>(),
        );
        let sum_qq: f32 = q.iter().map(|q| f32::from(*q).powi(2)).sum();
        let sum_qx: f32 = q.iter().zip(x).map(|(q, x)| f32::from(*q) * x).sum();
        let scale = (n * sum_qx - sum_q * sum_x) * inverse(n * sum_qq - sum_q * sum_q);
        Line::new(scale, (sum_x - scale * sum_q) / n)
    };
    let start = [Line::new((high - low) / 15.0, low)];
    let (line, q) = refined(x, &start, |line| line.minimum.to_f32(), line_of);
    let mut block = [0; 20];
    block[..2].copy_from_slice(&line.scale.to_le_bytes());
    block[2..4].copy_from_slice(&line.minimum.to_le_bytes());
    block[4..].copy_from_slice(&packed(&q));
    block
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gguf::dequantize;

    fn block() -> impl Strategy<Value = Vec<f32>> {
        (-3i32..4, proptest::collection::vec(-1.0f32..1.0, BLOCK))
            .prop_map(|(power, x)| x.into_iter().map(|x| x * 10f32.powi(power)).collect())
    }

    fn largest_error(kind: TensorType, x: &[f32]) -> f32 {
        let back = dequantize(kind, &encode_values(kind, x)).unwrap();
        x.iter().zip(back).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
    }

    fn noise(x: &[f32], y: &[f32]) -> f32 {
        x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum()
    }

    proptest! {
        /// Eight bits: no element moves by more than half a step, and the half-float scale's rounding.
        #[test]
        fn eight_bits_move_an_element_by_half_a_step(x in block()) {
            let span = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
            prop_assert!(largest_error(TensorType::Q8_0, &x) <= span / 127.0 * 0.57 + 1e-6);
        }

        /// Four bits: never more noise than the scale that spans the block gives.
        #[test]
        fn refinement_is_never_worse_than_the_plain_scale(x in block()) {
            let array: &[f32; BLOCK] = x.as_slice().try_into().unwrap();
            let (low, high) = x.iter().fold((f32::MAX, f32::MIN), |(l, h), x| (l.min(*x), h.max(*x)));
            let plain = Line::new((high - low) / 15.0, low);
            let q = plain.nearest(plain.minimum.to_f32(), array);
            let least = plain.noise(plain.minimum.to_f32(), array, &q);
            let back = dequantize(TensorType::Q4_1, &encode_values(TensorType::Q4_1, &x)).unwrap();
            prop_assert!(noise(&x, &back) <= least * 1.001 + 1e-12);
        }

        /// What is exactly on the grid stays there, and converting twice is converting once.
        #[test]
        fn a_grid_is_kept(scale in 1u8..100, q in proptest::collection::vec(0u8..16, BLOCK)) {
            let mut q = q;
            (q[0], q[1]) = (0, 15);
            let step = f16::from_f32(f32::from(scale) / 128.0).to_f32();
            let x: Vec<f32> = q.iter().map(|q| step * (f32::from(*q) - 8.0)).collect();
            for kind in [TensorType::Q4_0, TensorType::Q4_1] {
                let once = encode_values(kind, &x);
                let back = dequantize(kind, &once).unwrap();
                prop_assert!(noise(&x, &back) < 1e-9, "{kind:?}");
            }
        }
    }

    #[test]
    fn zeros_stay_zeros_and_every_type_converts() {
        for kind in [
            TensorType::F32,
            TensorType::F16,
            TensorType::BF16,
            TensorType::Q8_0,
            TensorType::Q4_0,
            TensorType::Q4_1,
        ] {
            assert_eq!(largest_error(kind, &[0.0; BLOCK]), 0.0, "{kind:?}");
            let x: Vec<u8> = (0..64).flat_map(|i| (i as f32 / 64.0).to_le_bytes()).collect();
            let encoded = encode(TensorType::F32, &x, kind);
            assert_eq!(
                encoded.bytes.len(),
                64 / kind.block_len() * kind.block_bytes(),
                "{kind:?}"
            );
            assert!(encoded.noise / encoded.energy < 0.01, "{kind:?}");
        }
    }
}
