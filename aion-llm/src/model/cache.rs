//! Keys and values of the positions already seen.

use burn::tensor::{Device, Tensor};

use crate::config::ModelConfig;

const FIRST_CAPACITY: usize = 256;

/// Keys and values of every layer, allocated ahead and doubled when full, up to the context length.
#[derive(Debug)]
pub(crate) struct KvCache {
    layers: Vec<LayerCache>,
    len: usize,
    capacity: usize,
    max: usize,
}

/// Keys and values of one layer, each `[n_head_kv, capacity, head_dim]`.
#[derive(Debug)]
pub(super) struct LayerCache {
    keys: Tensor<3>,
    values: Tensor<3>,
}

impl KvCache {
    pub(super) fn new(config: &ModelConfig, device: &Device) -> Self {
        let capacity = FIRST_CAPACITY.min(config.context_length);
        let shape = [config.n_head_kv, capacity, config.head_dim];
        let empty = || LayerCache {
            keys: Tensor::zeros(shape, device),
            values: Tensor::zeros(shape, device),
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
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Forgets all positions from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Makes room for `n` more positions.
    pub(super) fn reserve(&mut self, n: usize) {
        let needed = self.len + n;
        debug_assert!(needed <= self.max, "the engine checks the context length first");
        if needed <= self.capacity {
            return;
        }
        self.capacity = needed.next_power_of_two().min(self.max.max(needed));
        for layer in &mut self.layers {
            layer.keys.inplace(|old| grown(old, self.capacity));
            layer.values.inplace(|old| grown(old, self.capacity));
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

fn grown(old: Tensor<3>, capacity: usize) -> Tensor<3> {
    let [heads, held, width] = old.dims();
    Tensor::zeros([heads, capacity, width], &old.device()).slice_assign([0..heads, 0..held, 0..width], old)
}

/// One layer, and how many positions it held before this call.
#[derive(Debug)]
pub(super) struct LayerView<'a> {
    len: usize,
    layer: &'a mut LayerCache,
}

impl LayerView<'_> {
    /// Appends `[n_head_kv, seq, head_dim]` keys and values, and returns all of both up to the last.
    pub(super) fn append(self, keys: Tensor<3>, values: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let (len, layer) = (self.len, self.layer);
        let [heads, n, width] = keys.dims();
        let place = [0..heads, len..len + n, 0..width];
        layer.keys.inplace(|held| held.slice_assign(place.clone(), keys));
        layer.values.inplace(|held| held.slice_assign(place, values));
        let all = |held: &Tensor<3>| held.clone().narrow(1, 0, len + n);
        (all(&layer.keys), all(&layer.values))
    }
}
