//! A query as scans read it.

use super::Quantized;
use super::halves::{MOVED, length};

/// A query, prepared once for all rows.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(super) dim: usize,
    /// Padded with zeros to a multiple of 128.
    pub(super) row: Vec<i8>,
    /// The same moved by 128, so that nothing is negative: kernels multiply unsigned by signed bytes.
    moved: Vec<u8>,
    /// What a product of halves has too much.
    pub(super) too_much: i32,
    pub(super) scale: f32,
    /// Its length.
    pub(super) length: f32,
}

impl Asked {
    pub(crate) fn new(query: &Quantized) -> Self {
        let mut row = query.row.clone();
        row.resize(row.len().next_multiple_of(128), 0);
        Self {
            dim: query.dim,
            moved: row.iter().map(|x| x.cast_unsigned() ^ 0x80).collect(),
            too_much: MOVED * row.iter().map(|x| i32::from(*x)).sum::<i32>(),
            length: length(&row.iter().map(|x| f32::from(*x)).collect::<Vec<f32>>()) * query.scale,
            row,
            scale: query.scale,
        }
    }

    /// As many numbers as a row has, plain and moved.
    pub(super) fn bytes(&self, stride: usize) -> (&[i8], &[u8]) {
        (&self.row[..stride], &self.moved[..stride])
    }
}
