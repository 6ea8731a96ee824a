//! Keys and values of one sequence, in pages of 64 positions.
//!
//! A page holds every layer's keys and values of its positions as halves, laid out as the attention kernel reads them.
//! Caches share pages until one of them writes.

use std::sync::Arc;

use super::kernel::PAGE;
use super::memory::Lines;
use crate::config::ModelConfig;

/// Sizes of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageShape {
    n_layer: usize,
    n_head_kv: usize,
    head_dim: usize,
    pub(super) padded_dim: usize,
}

impl PageShape {
    pub(super) fn new(config: &ModelConfig) -> Self {
        Self {
            n_layer: config.n_layer,
            n_head_kv: config.n_head_kv,
            head_dim: config.head_dim,
            padded_dim: config.head_dim.next_multiple_of(16),
        }
    }

    /// Bytes of the keys and values of one head of one layer.
    fn head_bytes(&self) -> usize {
        2 * PAGE * (self.head_dim + self.padded_dim)
    }

    /// Of a model that no memory holds, as many as a number can say.
    fn bytes(&self) -> usize {
        let heads = self.n_layer.saturating_mul(self.n_head_kv);
        heads.saturating_mul(self.head_bytes())
    }

    /// Where the keys of a head begin: `[tile of 16 positions, head_dim, 16]`.
    pub(super) fn keys(&self, layer: usize, head: usize) -> usize {
        (layer * self.n_head_kv + head) * self.head_bytes()
    }

    /// Where its values begin: `[position, padded_dim]`.
    pub(super) fn values(&self, layer: usize, head: usize) -> usize {
        self.keys(layer, head) + 2 * PAGE * self.head_dim
    }

    /// Where element `i` of the key of a position lies, from the beginning of the keys.
    pub(super) fn key_element(&self, position: usize, i: usize) -> usize {
        let at = position % PAGE;
        2 * (at / 16 * 16 * self.head_dim + 16 * i + at % 16)
    }

    /// Where the value of a position lies, from the beginning of the values.
    pub(super) fn value_row(&self, position: usize) -> usize {
        2 * self.padded_dim * (position % PAGE)
    }

    /// Bytes of a cache that holds so many positions.
    pub(super) fn cache_bytes(&self, positions: usize) -> usize {
        positions.div_ceil(PAGE).saturating_mul(self.bytes())
    }
}

/// The cache of one sequence.
#[derive(Debug)]
pub(crate) struct PagedCache {
    shape: PageShape,
    pages: Vec<Arc<Lines>>,
    len: usize,
}

impl PagedCache {
    pub(super) fn new(shape: PageShape) -> Self {
        Self {
            shape,
            pages: Vec::new(),
            len: 0,
        }
    }

    /// Positions held.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Forgets all positions from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.pages.truncate(self.len.div_ceil(PAGE));
    }

    /// Bytes of all pages, those that are shared among them.
    pub(crate) fn bytes(&self) -> usize {
        self.shape.cache_bytes(self.pages.len() * PAGE)
    }

    /// The first `len` positions, in the same pages until one of the two writes.
    pub(crate) fn fork(&self, len: usize) -> Self {
        let len = self.len.min(len);
        Self {
            shape: self.shape,
            pages: self.pages[..len.div_ceil(PAGE)].to_vec(),
            len,
        }
    }

    /// Makes room for `n` more positions, and returns where each page begins. Pages from the present length on are this
    /// cache's own.
    pub(super) fn open(&mut self, n: usize) -> Vec<*mut u8> {
        let needed = (self.len + n).div_ceil(PAGE);
        while self.pages.len() < needed {
            self.pages.push(Arc::new(Lines::zeroed(self.shape.bytes())));
        }
        let first = self.len / PAGE;
        let place = |(i, page): (usize, &mut Arc<Lines>)| {
            if i < first {
                // Only read.
                page.bytes().as_ptr().cast_mut()
            } else {
                Arc::make_mut(page).bytes_mut().as_mut_ptr()
            }
        };
        self.pages.iter_mut().enumerate().map(place).collect()
    }

    /// Whether its pages are those of this model.
    pub(super) fn is_of(&self, shape: PageShape) -> bool {
        self.shape == shape
    }

    /// Bytes of a page.
    pub(super) fn page_bytes(&self) -> usize {
        self.shape.bytes()
    }

    pub(super) fn advance(&mut self, n: usize) {
        self.len += n;
    }
}
