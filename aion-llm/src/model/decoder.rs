//! The decoder on Burn: tokens in, hidden states and logits out.
//!
//! A Llama-family transformer with pre-normalisation (RMSNorm), rotary positions, grouped-query attention, a gated or
//! squared-ReLU feed-forward layer or a mixture of such, and a preallocated key-value cache. Batch size is one; the first axis of every
//! activation is the position.

use burn::tensor::{Device, Tensor, TensorData, activation};

use super::attention::{Attention, CausalMask};
use super::cache::TensorCache;
use super::linear::{Fused, Linear, Wide};
use super::mixture::Mixture;
use super::rotary::Rotary;
use crate::checkpoint::{Checkpoint, Embedding, Part, RotaryPairs, Stored};
use crate::config::{FeedForward, Head, ModelConfig};
use crate::error::{Error, Result};

/// The weights of a model on one device.
#[derive(Debug)]
pub(crate) struct Decoder {
    config: ModelConfig,
    device: Device,
    embedding: Embedding,
    blocks: Vec<Block>,
    norm: RmsNorm,
    head: Wide,
    rotary: Rotary,
}

#[derive(Debug)]
struct Block {
    attn_norm: RmsNorm,
    attention: Attention,
    ffn_norm: RmsNorm,
    ffn: Ffn,
}

/// The feed-forward half of a block.
#[derive(Debug)]
enum Ffn {
    One(Box<Network>),
    Mixture(Box<Mixture>),
}

#[derive(Debug)]
struct Network {
    up: Linear,
    down: Linear,
}

#[derive(Debug)]
struct RmsNorm {
    weight: Tensor<2>,
    eps: f64,
}

impl RmsNorm {
    fn load(checkpoint: &dyn Checkpoint, part: Part, device: &Device) -> Result<Self> {
        let config = checkpoint.config();
        let weight = checkpoint.stored(part, &[config.n_embd])?.dense()?;
        let weight = Tensor::from_data(TensorData::new(weight, [1, config.n_embd]), device);
        Ok(Self {
            weight,
            eps: config.norm_eps,
        })
    }

    /// `x / sqrt(mean(x^2) + eps) * w` over the last axis of `[seq, n_embd]`.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let mean_square = (x.clone() * x.clone()).mean_dim(1);
        let scale = (mean_square + self.eps).sqrt().recip();
        x * scale * self.weight.clone()
    }
}

impl Decoder {
    /// Reads every weight of the checkpoint onto the device.
    pub(super) fn load(checkpoint: &dyn Checkpoint, device: &Device) -> Result<Self> {
        let config = checkpoint.config().clone();
        let embedding = checkpoint.embedding()?;
        let blocks = (0..config.n_layer)
            .map(|i| Block::load(checkpoint, i, device))
            .collect::<Result<_>>()?;
        let (vocab, width) = (config.vocab_size, config.n_embd);
        let head = match config.head {
            Head::Tied => embedding.stored(),
            Head::Untied => checkpoint.stored(Part::Output, &[vocab, width])?,
        };
        Ok(Self {
            head: Wide::load(&head, vocab, width, device)?,
            norm: RmsNorm::load(checkpoint, Part::OutputNorm, device)?,
            rotary: Rotary::new(&config, checkpoint.rotary_divisors()?.as_deref(), device),
            device: device.clone(),
            embedding,
            blocks,
            config,
        })
    }

    /// An empty cache for this model.
    pub(super) fn new_cache(&self) -> TensorCache {
        TensorCache::new(&self.config, &self.device)
    }

    /// Bytes of a cache that holds so many positions.
    pub(super) fn cache_bytes(&self, positions: usize) -> usize {
        Self::cache_bytes_of(&self.config, positions)
    }

    /// The same of a decoder that is not loaded yet.
    pub(super) fn cache_bytes_of(config: &ModelConfig, positions: usize) -> usize {
        config.cache_bytes(TensorCache::room(positions, config.context_length))
    }

    /// Runs `tokens` at the positions after those in the cache, and appends to it.
    ///
    /// Returns the normalised hidden states, `[tokens.len(), n_embd]`. Every token must be below the vocabulary size,
    /// and cache and tokens together must fit the context length.
    ///
    /// # Errors
    /// [`Error::Numeric`] when the device fails to hand over what chooses the experts.
    pub(super) fn forward(&self, tokens: &[u32], cache: &mut TensorCache) -> Result<Tensor<2>> {
        let (n, start) = (tokens.len(), cache.len());
        cache.reserve(n);
        let rows = TensorData::new(self.embedding.rows(tokens), [n, self.config.n_embd]);
        let mut x = Tensor::from_data(rows, &self.device);
        let turn = self.rotary.at(start, n);
        let mask = CausalMask::new(start, n, self.config.window, &self.device);
        for (i, block) in self.blocks.iter().enumerate() {
            let h = block.attn_norm.forward(x.clone());
            x = x + block.attention.forward(h, &turn, &mask, cache.layer(i));
            let h = block.ffn_norm.forward(x.clone());
            x = x + block.ffn.forward(h, self.config.feed_forward)?;
        }
        cache.advance(n);
        Ok(self.norm.forward(x))
    }

    /// Logits of hidden states, row-major `[rows, vocab_size]`.
    ///
    /// # Errors
    /// [`Error::Numeric`] when the device fails to hand them over.
    pub(super) fn logits(&self, hidden: Tensor<2>) -> Result<Vec<f32>> {
        let logits = self.head.forward(hidden);
        to_host(match self.config.logit_cap {
            None => logits,
            Some(cap) => capped(logits, cap),
        })
    }
}

impl Decoder {
    /// Bytes of the widest tensors of a pass of so many rows: those of the feed-forward layer, where every expert
    /// computes every row.
    pub(super) fn scratch_bytes_of(config: &ModelConfig, rows: usize) -> usize {
        let networks = config.experts.map_or(1, |experts| experts.count);
        let width = config.n_ff.saturating_mul(3).saturating_add(config.n_embd);
        let row = networks.saturating_mul(width).saturating_mul(size_of::<f32>());
        row.saturating_mul(rows)
    }
}

/// `cap tanh(x / cap)`; what is not finite becomes no number, as it does on the processor: a score that is infinite is
/// a fault, which no cap may hide.
pub(super) fn capped<const D: usize>(x: Tensor<D>, cap: f64) -> Tensor<D> {
    // Zero, unless an element is not finite.
    let damage = x.clone() * 0.0;
    activation::tanh(x / cap) * cap + damage
}

/// The last row of `[seq, n]`.
pub(super) fn last_row(x: Tensor<2>) -> Tensor<2> {
    let [n, _] = x.dims();
    x.narrow(0, n - 1, 1)
}

/// Copies a tensor to the host.
pub(super) fn to_host(x: Tensor<2>) -> Result<Vec<f32>> {
    let data = x
        .try_into_data()
        .map_err(|error| Error::Numeric(format!("no result: {error:?}")))?;
    data.try_into_vec::<f32>()
        .map_err(|error| Error::Numeric(format!("a result of another type: {error:?}")))
}

impl Block {
    fn load(checkpoint: &dyn Checkpoint, i: usize, device: &Device) -> Result<Self> {
        Ok(Self {
            attn_norm: RmsNorm::load(checkpoint, Part::AttnNorm(i), device)?,
            attention: Attention::load(checkpoint, i, device)?,
            ffn_norm: RmsNorm::load(checkpoint, Part::FfnNorm(i), device)?,
            ffn: Ffn::load(checkpoint, i, device)?,
        })
    }
}

impl Ffn {
    fn load(checkpoint: &dyn Checkpoint, i: usize, device: &Device) -> Result<Self> {
        if let Some(rule) = checkpoint.config().experts {
            let mixture = Mixture::load(checkpoint, i, rule, device)?;
            return Ok(Self::Mixture(Box::new(mixture)));
        }
        let (up, down) = network(checkpoint, (Part::Gate(i), Part::Up(i), Part::Down(i)))?;
        Ok(Self::One(Box::new(Network {
            up: up.load(device)?,
            down: down.load(device)?,
        })))
    }

    fn forward(&self, x: Tensor<2>, kind: FeedForward) -> Result<Tensor<2>> {
        match self {
            Self::One(network) => {
                let h = activated(network.up.forward(x), kind);
                Ok(network.down.forward(h))
            }
            Self::Mixture(mixture) => mixture.forward(x, kind),
        }
    }
}

/// The two matrices of a feed-forward network.
pub(super) fn network(
    checkpoint: &dyn Checkpoint,
    (gate, up, down): (Part, Part, Part),
) -> Result<(Fused, Fused)> {
    let config = checkpoint.config();
    let (d, ff) = (config.n_embd, config.n_ff);
    let mut ups = Fused::new(d);
    if config.feed_forward == FeedForward::SwiGlu {
        ups = ups.with(checkpoint.stored(gate, &[ff, d])?);
    }
    let ups = ups.with(checkpoint.stored(up, &[ff, d])?);
    let down = Fused::new(ff).with(checkpoint.stored(down, &[d, ff])?);
    Ok((ups, down))
}

/// What lies between the two.
pub(super) fn activated<const D: usize>(h: Tensor<D>, kind: FeedForward) -> Tensor<D> {
    match kind {
        FeedForward::SwiGlu => {
            let n_ff = h.dims()[D - 1] / 2;
            activation::silu(h.clone().narrow(D - 1, 0, n_ff)) * h.narrow(D - 1, n_ff, n_ff)
        }
        FeedForward::ReluSquared => {
            let h = activation::relu(h);
            h.clone() * h
        }
    }
}

/// Reorders the rows of a query or key matrix so that the pairs that turn together lie half a head apart.
pub(super) fn to_halves(matrix: Stored, head_dim: usize, rows: usize, pairs: RotaryPairs) -> Stored {
    if pairs == RotaryPairs::Halves {
        return matrix;
    }
    let row_bytes = matrix.bytes.len() / rows;
    let mut bytes = Vec::with_capacity(matrix.bytes.len());
    for head in matrix.bytes.chunks_exact(head_dim * row_bytes) {
        for parity in 0..2 {
            let rows = head.chunks_exact(row_bytes).skip(parity).step_by(2);
            rows.for_each(|row| bytes.extend_from_slice(row));
        }
    }
    Stored {
        bytes: bytes.into(),
        ..matrix
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::TensorType;

    #[test]
    fn adjacent_pairs_become_halves() {
        let bytes: Vec<u8> = (0..8u16).flat_map(|row| (row * 256).to_le_bytes()).collect();
        let matrix = Stored {
            kind: TensorType::F16,
            bytes: bytes.clone().into(),
        };
        let halves = to_halves(matrix.clone(), 4, 8, RotaryPairs::Adjacent);
        let rows: Vec<u8> = halves.bytes.chunks_exact(2).map(|row| row[1]).collect();
        assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
        assert_eq!(to_halves(matrix, 4, 8, RotaryPairs::Halves).bytes, bytes);
    }
}
