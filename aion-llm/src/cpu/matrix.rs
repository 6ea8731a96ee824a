//! Packed matrices, and several of them over one input.
#![allow(unsafe_code, reason = "threads write different columns of the products")]

use super::kernel::{Activations, Body, Format, Multiply, Place, TILE, dispatch, pack_tile, unpack_row};
use super::memory::{Arena, Lines};
use super::pool::Pool;
use crate::checkpoint::Stored;
use crate::error::Result;
use crate::gguf::TensorType;

/// A matrix `[rows, columns]` in tiles of sixteen rows.
#[derive(Debug)]
pub(super) struct Matrix {
    format: Format,
    rows: usize,
    columns: usize,
    tiles: Lines,
}

/// What packs matrices: threads, and where the tiles of all of them lie.
#[derive(Debug)]
pub(super) struct Packer<'a> {
    pub(super) pool: &'a mut Pool,
    pub(super) arena: Arena,
}

/// Tiles that a thread packs at a time.
const PACKED_TOGETHER: usize = 8;

fn format(kind: TensorType, columns: usize) -> Format {
    let format = match kind {
        TensorType::Q4_0 => Format::Q4Zero,
        TensorType::Q4_1 => Format::Q4Min,
        TensorType::Q8_0 => Format::Q8,
        TensorType::Q6K => Format::Q6,
        TensorType::F16 => Format::F16,
        TensorType::BF16 => Format::BF16,
        TensorType::F32 => Format::F32,
    };
    // A row that ends within a block has no blocks of its own.
    if columns.is_multiple_of(kind.block_len()) {
        format
    } else {
        Format::F32
    }
}

impl Matrix {
    /// Packs a row-major matrix, its rows taken in the order that `order` says.
    pub(super) fn pack(
        stored: &Stored,
        rows: usize,
        columns: usize,
        order: impl Fn(usize) -> usize + Sync,
        packer: &mut Packer<'_>,
    ) -> Result<Self> {
        let format = format(stored.kind, columns);
        let dense: Vec<u8>;
        let source = if format == Format::F32 && stored.kind != TensorType::F32 {
            dense = stored.dense()?.into_iter().flat_map(f32::to_le_bytes).collect();
            dense.as_slice()
        } else {
            &stored.bytes[..]
        };
        let (row_bytes, tile_bytes) = (format.row_bytes(columns), format.tile_bytes(columns));
        let mut tiles = packer.arena.zeroed(rows.div_ceil(TILE) * tile_bytes);
        packer
            .pool
            .pieces(tiles.bytes_mut(), tile_bytes * PACKED_TOGETHER, |piece, out| {
                let mut gathered = Vec::with_capacity(TILE * row_bytes);
                for (tile, out) in out.chunks_exact_mut(tile_bytes).enumerate() {
                    let first = (piece * PACKED_TOGETHER + tile) * TILE;
                    gathered.clear();
                    for row in first..rows.min(first + TILE) {
                        gathered.extend_from_slice(&source[order(row) * row_bytes..][..row_bytes]);
                    }
                    pack_tile(format, &gathered, columns, out);
                }
            });
        Ok(Self {
            format,
            rows,
            columns,
            tiles,
        })
    }

    fn tile_bytes(&self) -> usize {
        self.format.tile_bytes(self.columns)
    }

    fn n_tiles(&self) -> usize {
        self.rows.div_ceil(TILE)
    }

    /// Row `i` as floats.
    pub(super) fn row(&self, i: usize, out: &mut [f32]) {
        let tile = &self.tiles.bytes()[i / TILE * self.tile_bytes()..][..self.tile_bytes()];
        unpack_row(self.format, tile, i % TILE, out);
    }
}

/// Matrices over the same input, whose products lie side by side.
#[derive(Debug)]
pub(super) struct Linear {
    parts: Vec<Matrix>,
}

/// Chunks for each thread: few enough to cost nothing, enough that a slow thread can be helped.
const CHUNKS: usize = 8;

impl Linear {
    pub(super) fn new(parts: Vec<Matrix>) -> Self {
        Self { parts }
    }

    pub(super) fn outputs(&self) -> usize {
        self.parts.iter().map(|part| part.rows).sum()
    }

    /// Width of the input.
    pub(super) fn inputs(&self) -> usize {
        self.parts.first().map_or(0, |part| part.columns)
    }

    pub(super) fn part(&self, i: usize) -> &Matrix {
        &self.parts[i]
    }

    /// What its activations must be there as.
    pub(super) fn input(&self) -> Input {
        match self.parts.iter().any(|part| part.format.takes_bytes()) {
            true => Input::Bytes,
            false => Input::Floats,
        }
    }

    fn n_tiles(&self) -> usize {
        self.parts.iter().map(Matrix::n_tiles).sum()
    }
}

/// What a product takes its activations as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// Floats alone.
    Floats,
    /// Bytes too.
    Bytes,
}

impl Input {
    /// What suits all of these.
    pub(super) fn of<'a>(linears: impl IntoIterator<Item = &'a Linear>) -> Self {
        match linears.into_iter().any(|linear| linear.input() == Self::Bytes) {
            true => Self::Bytes,
            false => Self::Floats,
        }
    }
}

/// One of the products that are computed together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product<'a> {
    pub(super) linear: &'a Linear,
    pub(super) x: Activations<'a>,
    /// Where each row of the product goes.
    pub(super) out: &'a [*mut f32],
}

/// Computes all of them, the tiles of all shared by the threads.
///
/// # Safety
/// Every row of every `out` is valid for writes of [`Linear::outputs`] floats that nobody else uses.
pub(super) unsafe fn multiply_all(products: &[Product<'_>], body: Body, pool: &mut Pool) {
    let total: usize = products.iter().map(|product| product.linear.n_tiles()).sum();
    let step = match pool.threads() {
        1 => total,
        threads => total.div_ceil(threads * CHUNKS),
    };
    let products = Products(products);
    pool.run(total.div_ceil(step.max(1)), &|chunk| {
        // Whole, so that the pointers are shared by the type that may be.
        let products = &products;
        let (mut first, mut last) = (chunk * step, total.min((chunk + 1) * step));
        for product in products.0 {
            let mut start = 0;
            for part in &product.linear.parts {
                let n = part.n_tiles();
                let work = Multiply {
                    format: part.format,
                    weights: part.tiles.bytes(),
                    tiles: first.min(n)..last.min(n),
                    outputs: part.rows,
                    x: product.x,
                    // SAFETY: the caller's promise; chunks are different tiles, and those different columns.
                    out: unsafe { Place::new(product.out, start) },
                };
                if !work.tiles.is_empty() {
                    dispatch(body, work);
                }
                start += part.rows;
                (first, last) = (first.saturating_sub(n), last.saturating_sub(n));
            }
        }
    });
}

struct Products<'a>(&'a [Product<'a>]);

// SAFETY: `multiply_all` hands each column of each row to one thread.
unsafe impl Sync for Products<'_> {}
