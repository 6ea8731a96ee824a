//! Keys and values of the positions already seen.

use burn::tensor::{Device, Tensor};

use crate::config::ModelConfig;

const FIRST_CAPACITY: usize = 256;

/// Keys and values of every layer, allocated ahead and doubled when full, up to the context length.
#[derive(Debug)]
pub(crate) struct TensorCache {
    layers: Vec<LayerCache>,
    len: usize,
    capacity: usize,
    max: usize,
}

/// Keys `[n_head_kv, head_dim, capacity]` and values `[n_head_kv, capacity, head_dim]` of one layer: in this order the
/// last axis of both is the one that the products of a single query run along.
#[derive(Debug, Clone)]
pub(super) struct LayerCache {
    keys: Tensor<3>,
    values: Tensor<3>,
}

impl TensorCache {
    pub(super) fn new(config: &ModelConfig, device: &Device) -> Self {
        let capacity = Self::room(0, config.context_length);
        let (heads, width) = (config.n_head_kv, config.head_dim);
        let empty = || LayerCache {
            keys: Tensor::zeros([heads, width, capacity], device),
            values: Tensor::zeros([heads, capacity, width], device),
        };
        let layers = (0..config.n_layer).map(|_| empty()).collect();
        Self {
            layers,
            len: 0,
            capacity,
            max: config.context_length,
        }
    }

    /// Positions held.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Forgets all positions from `len` on.
    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The first `len` positions, in no more room than they need; memory is shared until one of the two grows where that
    /// is as much as here.
    pub(super) fn fork(&self, len: usize) -> Self {
        let len = self.len.min(len);
        let capacity = Self::room(len, self.max).min(self.capacity);
        let mut layers = self.layers.clone();
        if capacity < self.capacity {
            for layer in &mut layers {
                layer
                    .keys
                    .inplace(|old| grown(old.narrow(2, 0, capacity), 2, capacity));
                layer
                    .values
                    .inplace(|old| grown(old.narrow(1, 0, capacity), 1, capacity));
            }
        }
        Self {
            layers,
            len,
            capacity,
            max: self.max,
        }
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        let per_position = self.layers.first().map_or(0, |layer| {
            let [heads, width, _] = layer.keys.dims();
            2 * heads * width * size_of::<f32>()
        });
        self.layers.len() * per_position * self.capacity
    }

    /// Positions for which room is made when `positions` are held.
    pub(super) fn room(positions: usize, max: usize) -> usize {
        positions
            .max(FIRST_CAPACITY)
            .next_power_of_two()
            .min(max.max(positions))
    }

    /// Makes room for `n` more positions.
    pub(super) fn reserve(&mut self, n: usize) {
        let needed = self.len + n;
        debug_assert!(needed <= self.max, "the engine checks the context length first");
        if needed <= self.capacity {
            return;
        }
        self.capacity = Self::room(needed, self.max);
        for layer in &mut self.layers {
            layer.keys.inplace(|old| grown(old, 2, self.capacity));
            layer.values.inplace(|old| grown(old, 1, self.capacity));
        }
    }

    pub(super) fn layer(&mut self, i: usize) -> LayerView<'_> {
        LayerView {
            len: self.len,
            layer: &mut self.layers[i],
        }
    }

    pub(super) fn advance(&mut self, n: usize) {
        self.len += n;
    }
}

/// A copy with more room along one axis.
fn grown(old: Tensor<3>, axis: usize, capacity: usize) -> Tensor<3> {
    let held = old.dims();
    let mut shape = held;
    shape[axis] = capacity;
    Tensor::zeros(shape, &old.device()).slice_assign(held.map(|n| 0..n), old)
}

/// One layer, and how many positions it held before this call.
#[derive(Debug)]
pub(super) struct LayerView<'a> {
    len: usize,
    layer: &'a mut LayerCache,
}

impl LayerView<'_> {
    /// Appends keys `[n_head_kv, head_dim, seq]` and values `[n_head_kv, seq, head_dim]`, and returns all of both up to
    /// the last.
    pub(super) fn append(self, keys: Tensor<3>, values: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let (len, layer) = (self.len, self.layer);
        let [heads, n, width] = values.dims();
        let place = len..len + n;
        layer
            .keys
            .inplace(|held| held.slice_assign([0..heads, 0..width, place.clone()], keys));
        layer
            .values
            .inplace(|held| held.slice_assign([0..heads, place, 0..width], values));
        (
            layer.keys.clone().narrow(2, 0, len + n),
            layer.values.clone().narrow(1, 0, len + n),
        )
    }
}
