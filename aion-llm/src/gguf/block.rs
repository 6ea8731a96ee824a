//! Storage types of GGUF tensors and their conversion to `f32`.
//!
//! # Sources
//! Block layouts of the ggml project (`ggml-quants`): a scale `d`, sometimes a minimum `m` or sub-block scales, and
//! packed integers.

use half::{bf16, f16};

use crate::error::{Error, Result};

/// How the elements of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TensorType {
    /// 32-bit float.
    F32,
    /// IEEE half.
    F16,
    /// Brain float: the upper half of an `f32`.
    BF16,
    /// 32 elements in 18 bytes: `d (q - 8)`, q of 4 bits.
    Q4_0,
    /// 32 elements in 20 bytes: `d q + m`, q of 4 bits.
    Q4_1,
    /// 32 elements in 34 bytes: `d q`, q of 8 bits.
    Q8_0,
    /// 256 elements in 210 bytes: `d s (q - 32)`, q of 6 bits, a scale s for each 16.
    Q6K,
}

impl TensorType {
    pub(super) const KNOWN: &'static str = "known are F32, F16, BF16, Q4_0, Q4_1, Q8_0 and Q6_K";

    pub(super) fn from_code(code: u32) -> Option<Self> {
        Some(match code {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            8 => Self::Q8_0,
            14 => Self::Q6K,
            30 => Self::BF16,
            _ => return None,
        })
    }

    /// The number that stands for it in a file.
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q8_0 => 8,
            Self::Q6K => 14,
            Self::BF16 => 30,
        }
    }

    /// Elements in one block.
    #[must_use]
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q8_0 => 32,
            Self::Q6K => 256,
        }
    }

    /// Bytes of one block.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q8_0 => 34,
            Self::Q6K => 210,
        }
    }
}

/// Converts whole blocks to `f32`, in order.
///
/// # Errors
/// [`Error::Gguf`] when the bytes are not whole blocks (the offset is that of the broken block, from the tensor's start).
///
/// ```
/// use aion_llm::gguf::{TensorType, dequantize};
/// let mut block = vec![0x00, 0x38];                 // d = 0.5 as a half
/// block.extend((0..32).map(|q| q as u8));           // 0..32 as signed bytes
/// let values = dequantize(TensorType::Q8_0, &block)?;
/// assert_eq!(values[3], 1.5);
/// # Ok::<(), aion_llm::Error>(())
/// ```
pub fn dequantize(kind: TensorType, bytes: &[u8]) -> Result<Vec<f32>> {
    let n_blocks = bytes.len() / kind.block_bytes();
    if n_blocks * kind.block_bytes() != bytes.len() {
        let offset = (n_blocks * kind.block_bytes()) as u64;
        return Err(Error::Gguf {
            offset,
            reason: format!("the last {kind:?} block of a tensor is cut off"),
        });
    }
    let mut out = vec![0.0; n_blocks * kind.block_len()];
    dequantize_into(kind, bytes, &mut out);
    Ok(out)
}

/// Converts `out.len() / block_len` blocks; both slices must hold whole blocks of the same number.
pub(crate) fn dequantize_into(kind: TensorType, bytes: &[u8], out: &mut [f32]) {
    match kind {
        TensorType::F32 => each(kind, bytes, out, |b, y| {
            y[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        }),
        TensorType::F16 => each(kind, bytes, out, |b, y| y[0] = half_at(b, 0)),
        TensorType::BF16 => each(kind, bytes, out, |b, y| {
            y[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32();
        }),
        TensorType::Q4_0 => each(kind, bytes, out, |b, y| {
            nibbles(half_at(b, 0), -8.0 * half_at(b, 0), &b[2..], y);
        }),
        TensorType::Q4_1 => each(kind, bytes, out, |b, y| {
            nibbles(half_at(b, 0), half_at(b, 2), &b[4..], y);
        }),
        TensorType::Q8_0 => each(kind, bytes, out, |b, y| signed_bytes(half_at(b, 0), &b[2..], y)),
        TensorType::Q6K => each(kind, bytes, out, six_bits),
    }
}

fn each(kind: TensorType, bytes: &[u8], out: &mut [f32], convert: impl Fn(&[u8], &mut [f32])) {
    let blocks = bytes.chunks_exact(kind.block_bytes());
    for (block, y) in blocks.zip(out.chunks_exact_mut(kind.block_len())) {
        convert(block, y);
    }
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// 16 bytes of two nibbles: the low ones are elements 0..16, the high ones 16..32; `y = d q + m`.
fn nibbles(d: f32, m: f32, packed: &[u8], y: &mut [f32]) {
    let (low, high) = y.split_at_mut(16);
    for ((byte, low), high) in packed.iter().zip(low).zip(high) {
        *low = d * f32::from(byte & 0xF) + m;
        *high = d * f32::from(byte >> 4) + m;
    }
}

fn signed_bytes(d: f32, packed: &[u8], y: &mut [f32]) {
    for (byte, y) in packed.iter().zip(y) {
        *y = d * f32::from(i8::from_le_bytes([*byte]));
    }
}

/// 128 bytes of low nibbles, 64 bytes of upper pairs of bits, 16 signed scales, one half.
fn six_bits(block: &[u8], y: &mut [f32]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = half_at(block, 208);
    for (half, y) in y.chunks_exact_mut(128).enumerate() {
        let (low, high, scales) = (
            &low[half * 64..][..64],
            &high[half * 32..][..32],
            &scales[half * 8..][..8],
        );
        for (i, y) in y.iter_mut().enumerate() {
            let (quarter, column) = (i / 32, i % 32);
            let nibble = low[column + 32 * (quarter % 2)] >> (4 * (quarter / 2)) & 0xF;
            let pair = high[column] >> (2 * quarter) & 3;
            let scale = i8::from_le_bytes([scales[i / 16]]);
            *y = d * f32::from(scale) * (f32::from(nibble | pair << 4) - 32.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half_bytes(value: f32) -> [u8; 2] {
        f16::from_f32(value).to_le_bytes()
    }

    #[test]
    fn q4_0_is_scale_times_nibble_less_eight() {
        let mut block = half_bytes(0.5).to_vec();
        block.extend((0..16u8).map(|i| i | (15 - i) << 4));
        let y = dequantize(TensorType::Q4_0, &block).unwrap();
        assert_eq!((y[0], y[8], y[15]), (-4.0, 0.0, 3.5));
        assert_eq!((y[16], y[24], y[31]), (3.5, -0.5, -4.0));
    }

    #[test]
    fn q4_1_is_scale_times_nibble_plus_minimum() {
        let mut block = half_bytes(0.25).to_vec();
        block.extend(half_bytes(-1.0));
        block.extend((0..16u8).map(|i| i | (15 - i) << 4));
        let y = dequantize(TensorType::Q4_1, &block).unwrap();
        assert_eq!((y[0], y[4], y[15]), (-1.0, 0.0, 2.75));
        assert_eq!((y[16], y[31]), (2.75, -1.0));
    }

    #[test]
    fn q8_0_keeps_the_sign() {
        let mut block = half_bytes(2.0).to_vec();
        block.extend((0..32).map(|i| (i as i8 - 16).to_le_bytes()[0]));
        let y = dequantize(TensorType::Q8_0, &block).unwrap();
        assert_eq!((y[0], y[16], y[31]), (-32.0, 0.0, 30.0));
    }

    /// Element i of a hand-made Q6_K block is `d s[i/16] (q_i - 32)`, with q_i packed as the format says.
    #[test]
    fn q6_k_unpacks_every_position() {
        let q = |i: usize| (i * 7 % 64) as u8;
        let mut block = vec![0u8; 210];
        for i in 0..256 {
            let (half, quarter, column) = (i / 128, i % 128 / 32, i % 32);
            block[half * 64 + column + 32 * (quarter % 2)] |= (q(i) & 0xF) << (4 * (quarter / 2));
            block[128 + half * 32 + column] |= (q(i) >> 4) << (2 * quarter);
        }
        for s in 0..16 {
            block[192 + s] = (s as i8 - 8).to_le_bytes()[0];
        }
        block[208..].copy_from_slice(&half_bytes(0.125));
        let y = dequantize(TensorType::Q6K, &block).unwrap();
        for (i, y) in y.iter().enumerate() {
            let expected = 0.125 * (i as f32 / 16.0).floor().mul_add(1.0, -8.0) * (f32::from(q(i)) - 32.0);
            assert_eq!(*y, expected, "element {i}");
        }
    }

    #[test]
    fn plain_floats_convert_exactly() {
        assert_eq!(dequantize(TensorType::F32, &1.5f32.to_le_bytes()).unwrap(), [1.5]);
        assert_eq!(dequantize(TensorType::F16, &half_bytes(-0.75)).unwrap(), [-0.75]);
        assert_eq!(
            dequantize(TensorType::BF16, &bf16::from_f32(3.0).to_le_bytes()).unwrap(),
            [3.0]
        );
    }

    #[test]
    fn half_a_block_is_an_error_that_says_where() {
        let error = dequantize(TensorType::Q8_0, &[0; 50]).unwrap_err();
        assert!(matches!(error, Error::Gguf { offset: 34, .. }), "{error}");
    }
}
