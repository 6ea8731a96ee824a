//! Weights in tiles of sixteen rows, interleaved so that one vector holds the same columns of all of them.
//!
//! A tile is a run of blocks. Of the types in blocks of 32 columns:
//!
//! | format | bytes | what |
//! |---|---|---|
//! | `Q4Zero` | 288 | 4 vectors of nibbles; 16 scales as halves |
//! | `Q4Min` | 320 | 4 vectors of nibbles; 16 scales, 16 minima as halves |
//! | `Q8` | 544 | 8 vectors of bytes, upper bit flipped; 16 scales as halves |
//! | `Q6` | 448 | 4 vectors of nibbles, 2 of upper bits; 16 + 16 scales as bytes; 16 scales as halves |
//!
//! A vector holds four columns of each row: byte `4 r + i` belongs to row `r`. The low nibbles of vector `j` are columns
//! `4 j ..`, the high ones `16 + 4 j ..`. Floats have no blocks: each column is one vector of 16 halves or floats.

use super::lanes::half_to_float;

/// Rows of a tile.
pub(crate) const TILE: usize = 16;

/// How a tile is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `d (q - 8)`, q of 4 bits.
    Q4Zero,
    /// `d q + m`, q of 4 bits.
    Q4Min,
    /// `d q`, q a signed byte.
    Q8,
    /// `d s (q - 32)`, q of 6 bits, s for 16 columns, d for 256.
    Q6,
    /// IEEE halves.
    F16,
    /// Brain floats.
    BF16,
    /// Floats.
    F32,
}

impl Format {
    /// Columns of a block.
    pub(crate) fn columns(self) -> usize {
        match self {
            Self::Q4Zero | Self::Q4Min | Self::Q8 | Self::Q6 => 32,
            Self::F16 | Self::BF16 | Self::F32 => 1,
        }
    }

    /// Bytes of a block of a tile.
    pub(crate) fn block_bytes(self) -> usize {
        match self {
            Self::Q4Zero => 288,
            Self::Q4Min => 320,
            Self::Q8 => 544,
            Self::Q6 => 448,
            Self::F16 | Self::BF16 => 32,
            Self::F32 => 64,
        }
    }

    /// Columns that one block of a row has where the row comes from, and the bytes of it.
    fn source(self) -> (usize, usize) {
        match self {
            Self::Q4Zero => (32, 18),
            Self::Q4Min => (32, 20),
            Self::Q8 => (32, 34),
            Self::Q6 => (256, 210),
            Self::F16 | Self::BF16 => (1, 2),
            Self::F32 => (1, 4),
        }
    }

    /// Whether activations are multiplied as bytes.
    pub(crate) fn takes_bytes(self) -> bool {
        self.columns() == 32
    }

    /// Bytes of a tile of so many columns.
    pub(crate) fn tile_bytes(self, columns: usize) -> usize {
        columns / self.columns() * self.block_bytes()
    }

    /// Bytes of one row of so many columns where it comes from.
    pub(crate) fn row_bytes(self, columns: usize) -> usize {
        let (n, bytes) = self.source();
        columns / n * bytes
    }
}

/// Packs up to sixteen rows (`rows` holds whole rows, one after the other) into a zeroed tile. Rows that are missing
/// stay zero: their scales are.
pub(crate) fn pack_tile(format: Format, rows: &[u8], columns: usize, tile: &mut [u8]) {
    let rows = rows.chunks_exact(format.row_bytes(columns)).take(TILE);
    for (r, row) in rows.enumerate() {
        let source = row.chunks_exact(format.source().1);
        match format {
            Format::Q4Zero => {
                for (block, out) in source.zip(tile.chunks_exact_mut(288)) {
                    spread(&block[2..], out, r, |byte| byte);
                    put(out, 256, r, &block[..2]);
                }
            }
            Format::Q4Min => {
                for (block, out) in source.zip(tile.chunks_exact_mut(320)) {
                    spread(&block[4..], out, r, |byte| byte);
                    put(out, 256, r, &block[..2]);
                    put(out, 288, r, &block[2..4]);
                }
            }
            Format::Q8 => {
                for (block, out) in source.zip(tile.chunks_exact_mut(544)) {
                    spread(&block[2..], out, r, |byte| byte ^ 0x80);
                    put(out, 512, r, &block[..2]);
                }
            }
            Format::Q6 => {
                for (block, out) in source.zip(tile.chunks_exact_mut(8 * 448)) {
                    six_bits(block, out, r);
                }
            }
            Format::F16 | Format::BF16 | Format::F32 => {
                for (value, out) in source.zip(tile.chunks_exact_mut(format.block_bytes())) {
                    put(out, 0, r, value);
                }
            }
        }
    }
}

/// Puts each four bytes at row `r` of one vector after the other.
#[inline(always)]
fn spread(bytes: &[u8], out: &mut [u8], r: usize, change: impl Fn(u8) -> u8) {
    for (four, vector) in bytes.chunks_exact(4).zip(out.chunks_exact_mut(64)) {
        for (byte, out) in four.iter().zip(&mut vector[4 * r..4 * r + 4]) {
            *out = change(*byte);
        }
    }
}

/// Puts a value as number `r` of the list at `start`.
#[inline(always)]
fn put(out: &mut [u8], start: usize, r: usize, value: &[u8]) {
    let at = start + r * value.len();
    out[at..at + value.len()].copy_from_slice(value);
}

/// One block of 256 columns of row `r` into eight of 32.
fn six_bits(block: &[u8], out: &mut [u8], r: usize) {
    for (b, out) in out.chunks_exact_mut(448).enumerate() {
        for i in 0..32 {
            let column = 32 * b + i;
            let (half, quarter, at) = (column / 128, column % 128 / 32, column % 32);
            let low = block[half * 64 + at + 32 * (quarter % 2)] >> (4 * (quarter / 2)) & 15;
            let high = block[128 + half * 32 + at] >> (2 * quarter) & 3;
            // Columns 0..16 are low nibbles, 16..32 high ones; likewise bits 2j of the two vectors of upper bits.
            let (upper, i) = (i / 16, i % 16);
            out[64 * (i / 4) + 4 * r + i % 4] |= low << (4 * upper);
            out[256 + 64 * upper + 4 * r + i % 4] |= high << (2 * (i / 4));
        }
        out[384 + r] = block[192 + 2 * b];
        out[400 + r] = block[192 + 2 * b + 1];
        put(out, 416, r, &block[208..210]);
    }
}

/// Row `r` of a tile as floats.
pub(crate) fn unpack_row(format: Format, tile: &[u8], r: usize, out: &mut [f32]) {
    let half = |block: &[u8], start: usize| {
        half_to_float(u16::from_le_bytes([
            block[start + 2 * r],
            block[start + 2 * r + 1],
        ]))
    };
    let blocks = tile.chunks_exact(format.block_bytes());
    for (block, out) in blocks.zip(out.chunks_exact_mut(format.columns())) {
        let byte = |i: usize| block[64 * (i / 4) + 4 * r + i % 4];
        let nibble = |i: usize| f32::from(byte(i % 16) >> (4 * (i / 16)) & 15);
        let fill = |out: &mut [f32], f: &dyn Fn(usize) -> f32| {
            out.iter_mut().enumerate().for_each(|(i, out)| *out = f(i));
        };
        match format {
            Format::Q4Zero => {
                let d = half(block, 256);
                fill(out, &|i| d * nibble(i) - 8.0 * d);
            }
            Format::Q4Min => {
                let (d, m) = (half(block, 256), half(block, 288));
                fill(out, &|i| d * nibble(i) + m);
            }
            Format::Q8 => {
                let d = half(block, 512);
                fill(out, &|i| d * f32::from((byte(i) ^ 0x80).cast_signed()));
            }
            Format::Q6 => {
                let d = half(block, 416);
                fill(out, &|i| {
                    let (upper, column) = (i / 16, i % 16);
                    let pair = block[256 + 64 * upper + 4 * r + column % 4] >> (2 * (column / 4)) & 3;
                    let s = f32::from(block[384 + 16 * upper + r].cast_signed());
                    d * s * (nibble(i) + 16.0 * f32::from(pair) - 32.0)
                });
            }
            Format::F16 => out[0] = half(block, 0),
            Format::BF16 => {
                out[0] = f32::from_bits(u32::from_le_bytes([0, 0, block[2 * r], block[2 * r + 1]]));
            }
            Format::F32 => {
                let at = 4 * r;
                out[0] = f32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
            }
        }
    }
}
