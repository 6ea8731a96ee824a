//! What a model needs from a file of weights, whatever its format.

use bytes::Bytes;

use crate::config::{FeedForward, Head, ModelConfig};
use crate::error::{Error, Result};
use crate::gguf::{Gguf, TensorType, dequantize, dequantize_into};

/// A matrix or vector of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    OutputNorm,
    Output,
    AttnNorm(usize),
    Query(usize),
    Key(usize),
    Value(usize),
    AttnOutput(usize),
    FfnNorm(usize),
    Gate(usize),
    Up(usize),
    Down(usize),
}

/// Which coordinates of a head rotary positions turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RotaryPairs {
    /// `(0, 1), (2, 3), ...`: GGUF files of Llama models.
    Adjacent,
    /// `(0, h/2), (1, h/2 + 1), ...`: safetensors of the Hub, and what the model computes with.
    Halves,
}

/// A source of weights.
pub(crate) trait Checkpoint {
    fn config(&self) -> &ModelConfig;

    /// A part as it is stored, row-major `[out, in]` (or `[n]`), after its shape was checked.
    fn stored(&self, part: Part, shape: &[usize]) -> Result<Stored>;

    /// The embedding as stored.
    fn embedding(&self) -> Result<Embedding>;

    fn rotary_pairs(&self) -> RotaryPairs;

    /// Divisors of the rotary frequencies, one for each pair, if the checkpoint has them.
    fn rotary_divisors(&self) -> Result<Option<Vec<f32>>> {
        Ok(None)
    }
}

/// A tensor in its stored form, most often a part of the mapped file.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) kind: TensorType,
    pub(crate) bytes: Bytes,
}

impl Stored {
    /// The elements as floats.
    pub(crate) fn dense(&self) -> Result<Vec<f32>> {
        dequantize(self.kind, &self.bytes)
    }
}

/// The embedding rows in their stored form; a row is converted when it is looked up.
#[derive(Debug)]
pub(crate) struct Embedding {
    kind: TensorType,
    bytes: Bytes,
    n_embd: usize,
}

impl Embedding {
    pub(crate) fn new(kind: TensorType, bytes: Bytes, n_embd: usize) -> Self {
        Self { kind, bytes, n_embd }
    }

    fn row_bytes(&self) -> usize {
        self.n_embd / self.kind.block_len() * self.kind.block_bytes()
    }

    /// Rows of `tokens`, `[tokens.len(), n_embd]`. Every token must be below the vocabulary size.
    pub(crate) fn rows(&self, tokens: &[u32]) -> Vec<f32> {
        let mut out = vec![0.0; tokens.len() * self.n_embd];
        for (token, row) in tokens.iter().zip(out.chunks_exact_mut(self.n_embd)) {
            let start = *token as usize * self.row_bytes();
            dequantize_into(self.kind, &self.bytes[start..start + self.row_bytes()], row);
        }
        out
    }

    /// All rows, `[vocab, n_embd]`.
    pub(crate) fn stored(&self) -> Stored {
        Stored {
            kind: self.kind,
            bytes: self.bytes.clone(),
        }
    }
}

/// A GGUF file with its configuration.
#[derive(Debug)]
pub(crate) struct GgufCheckpoint<'a> {
    gguf: &'a Gguf,
    config: ModelConfig,
}

impl<'a> GgufCheckpoint<'a> {
    pub(crate) fn new(gguf: &'a Gguf) -> Result<Self> {
        Ok(Self {
            gguf,
            config: ModelConfig::from_gguf(gguf)?,
        })
    }

    fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
        let info = self
            .gguf
            .tensors()
            .get(name)
            .ok_or_else(|| Error::MissingTensor(name.to_owned()))?;
        same_shape(name, shape, &info.shape)
    }
}

impl Checkpoint for GgufCheckpoint<'_> {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn stored(&self, part: Part, shape: &[usize]) -> Result<Stored> {
        let name = part.gguf_name();
        self.check(&name, shape)?;
        let kind = self.gguf.tensors()[&name].kind;
        Ok(Stored {
            kind,
            bytes: self.gguf.tensor_slice(&name)?,
        })
    }

    fn embedding(&self) -> Result<Embedding> {
        let name = "token_embd.weight";
        self.check(name, &[self.config.vocab_size, self.config.n_embd])?;
        let kind = self.gguf.tensors()[name].kind;
        Ok(Embedding::new(
            kind,
            self.gguf.tensor_slice(name)?,
            self.config.n_embd,
        ))
    }

    fn rotary_pairs(&self) -> RotaryPairs {
        RotaryPairs::Adjacent
    }

    fn rotary_divisors(&self) -> Result<Option<Vec<f32>>> {
        let name = "rope_freqs.weight";
        if !self.gguf.tensors().contains_key(name) {
            return Ok(None);
        }
        self.check(name, &[self.config.head_dim / 2])?;
        self.gguf.tensor_f32(name).map(Some)
    }
}

pub(crate) fn same_shape(name: &str, expected: &[usize], found: &[usize]) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Shape {
        name: name.to_owned(),
        expected: expected.to_vec(),
        found: found.to_vec(),
    })
}

impl Part {
    /// Every part of a model but the embedding, with its shape.
    pub(crate) fn all(c: &ModelConfig) -> Vec<(Self, Vec<usize>)> {
        let (d, ff, q, kv) = (c.n_embd, c.n_ff, c.q_width(), c.kv_width());
        let mut parts = vec![(Self::OutputNorm, vec![d])];
        if c.head == Head::Untied {
            parts.push((Self::Output, vec![c.vocab_size, d]));
        }
        for i in 0..c.n_layer {
            parts.extend([
                (Self::AttnNorm(i), vec![d]),
                (Self::Query(i), vec![q, d]),
                (Self::Key(i), vec![kv, d]),
                (Self::Value(i), vec![kv, d]),
                (Self::AttnOutput(i), vec![d, q]),
                (Self::FfnNorm(i), vec![d]),
            ]);
            if c.feed_forward == FeedForward::SwiGlu {
                parts.push((Self::Gate(i), vec![ff, d]));
            }
            parts.extend([(Self::Up(i), vec![ff, d]), (Self::Down(i), vec![d, ff])]);
        }
        parts
    }

    pub(crate) fn gguf_name(self) -> String {
        match self {
            Self::OutputNorm => "output_norm.weight".into(),
            Self::Output => "output.weight".into(),
            Self::AttnNorm(i) => format!("blk.{i}.attn_norm.weight"),
            Self::Query(i) => format!("blk.{i}.attn_q.weight"),
            Self::Key(i) => format!("blk.{i}.attn_k.weight"),
            Self::Value(i) => format!("blk.{i}.attn_v.weight"),
            Self::AttnOutput(i) => format!("blk.{i}.attn_output.weight"),
            Self::FfnNorm(i) => format!("blk.{i}.ffn_norm.weight"),
            Self::Gate(i) => format!("blk.{i}.ffn_gate.weight"),
            Self::Up(i) => format!("blk.{i}.ffn_up.weight"),
            Self::Down(i) => format!("blk.{i}.ffn_down.weight"),
        }
    }

    pub(crate) fn hub_name(self) -> String {
        match self {
            Self::OutputNorm => "model.norm.weight".into(),
            Self::Output => "lm_head.weight".into(),
            Self::AttnNorm(i) => format!("model.layers.{i}.input_layernorm.weight"),
            Self::Query(i) => format!("model.layers.{i}.self_attn.q_proj.weight"),
            Self::Key(i) => format!("model.layers.{i}.self_attn.k_proj.weight"),
            Self::Value(i) => format!("model.layers.{i}.self_attn.v_proj.weight"),
            Self::AttnOutput(i) => format!("model.layers.{i}.self_attn.o_proj.weight"),
            Self::FfnNorm(i) => format!("model.layers.{i}.post_attention_layernorm.weight"),
            Self::Gate(i) => format!("model.layers.{i}.mlp.gate_proj.weight"),
            Self::Up(i) => format!("model.layers.{i}.mlp.up_proj.weight"),
            Self::Down(i) => format!("model.layers.{i}.mlp.down_proj.weight"),
        }
    }
}
