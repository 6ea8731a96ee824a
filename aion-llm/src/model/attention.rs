//! Grouped-query attention with a causal mask.

use burn::tensor::{Device, Tensor, TensorData, activation};

use super::cache::LayerView;
use super::decoder::{capped, to_halves};
use super::linear::{Fused, Linear};
use super::rotary::Turn;
use crate::checkpoint::{Checkpoint, Part};
use crate::error::Result;

#[derive(Debug)]
pub(super) struct Attention {
    qkv: Linear,
    out: Linear,
    n_head: usize,
    n_head_kv: usize,
    head_dim: usize,
    cap: Option<f64>,
}

/// What each position may not see, `[1, 1, seq, positions]`: 0 or minus infinity. A single position without a window
/// sees everything.
#[derive(Debug)]
pub(super) struct CausalMask(Option<Tensor<4>>);

impl CausalMask {
    pub(super) fn new(start: usize, n: usize, window: Option<usize>, device: &Device) -> Self {
        let (positions, window) = (start + n, window.unwrap_or(usize::MAX));
        if n == 1 && positions <= window {
            return Self(None);
        }
        let mut bias = vec![0.0f32; n * positions];
        for (i, row) in bias.chunks_exact_mut(positions).enumerate() {
            row[start + i + 1..].fill(f32::NEG_INFINITY);
            row[..(start + i + 1).saturating_sub(window)].fill(f32::NEG_INFINITY);
        }
        Self(Some(Tensor::from_data(
            TensorData::new(bias, [1, 1, n, positions]),
            device,
        )))
    }
}

impl Attention {
    pub(super) fn load(checkpoint: &dyn Checkpoint, i: usize, device: &Device) -> Result<Self> {
        let config = checkpoint.config();
        let (d, q, kv, head_dim) = (
            config.n_embd,
            config.q_width(),
            config.kv_width(),
            config.head_dim,
        );
        let pairs = checkpoint.rotary_pairs();
        let query = to_halves(checkpoint.stored(Part::Query(i), &[q, d])?, head_dim, q, pairs);
        let key = to_halves(checkpoint.stored(Part::Key(i), &[kv, d])?, head_dim, kv, pairs);
        let value = checkpoint.stored(Part::Value(i), &[kv, d])?;
        let out = checkpoint.stored(Part::AttnOutput(i), &[d, q])?;
        Ok(Self {
            qkv: Fused::new(d).with(query).with(key).with(value).load(device)?,
            out: Fused::new(q).with(out).load(device)?,
            n_head: config.n_head,
            n_head_kv: config.n_head_kv,
            head_dim,
            cap: config.attention_cap,
        })
    }

    /// `[seq, n_embd]` to `[seq, n_embd]`; appends to the cache.
    pub(super) fn forward(
        &self,
        x: Tensor<2>,
        turn: &Turn,
        mask: &CausalMask,
        cache: LayerView<'_>,
    ) -> Tensor<2> {
        let [n, _] = x.dims();
        let (heads, kv, dim) = (self.n_head, self.n_head_kv, self.head_dim);
        let qkv = self.qkv.forward(x).reshape([n, heads + 2 * kv, dim]);
        let turned = turn.apply(qkv.clone().narrow(1, 0, heads + kv));
        let query = turned.clone().narrow(1, 0, heads);
        let key = turned.narrow(1, heads, kv).permute([1, 2, 0]);
        let value = qkv.narrow(1, heads + kv, kv).swap_dims(0, 1);
        let (keys, values) = cache.append(key, value);
        let mixed = attend(query, keys, values, mask, self.cap);
        self.out.forward(mixed.reshape([n, heads * dim]))
    }
}

/// `softmax(capped(q k^T / sqrt(dim)) + mask) v` for queries `[seq, n_head, dim]` over keys `[n_head_kv, dim, positions]` and values
/// `[n_head_kv, positions, dim]`.
///
/// The query heads that share a key head are stacked into one matrix, so that no key is copied.
fn attend(
    query: Tensor<3>,
    keys: Tensor<3>,
    values: Tensor<3>,
    mask: &CausalMask,
    cap: Option<f64>,
) -> Tensor<3> {
    let [n, heads, dim] = query.dims();
    let [kv, _, positions] = keys.dims();
    let group = heads / kv;
    let scale = (dim as f64).sqrt().recip();
    let query = query.swap_dims(0, 1).reshape([kv, group * n, dim]) * scale;
    let mut scores = query.matmul(keys);
    if let Some(cap) = cap {
        scores = capped(scores, cap);
    }
    if let Some(bias) = &mask.0 {
        let biased = scores.reshape([kv, group, n, positions]) + bias.clone();
        scores = biased.reshape([kv, group * n, positions]);
    }
    let mixed = activation::softmax(scores, 2).matmul(values);
    mixed.reshape([heads, n, dim]).swap_dims(0, 1)
}
