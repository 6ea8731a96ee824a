//! What a model needs from a file of weights, whatever its format.

use bytes::Bytes;

use crate::config::{FeedForward, Head, ModelConfig};
use crate::error::{Error, Result};
use crate::experts::Selection;
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
    /// What chooses the experts of a layer.
    Router(usize),
    RouterBias(usize),
    /// Of a layer, and there of an expert.
    ExpertGate(usize, usize),
    ExpertUp(usize, usize),
    ExpertDown(usize, usize),
}

/// A tensor of a GGUF file.
#[derive(Debug)]
pub(crate) struct GgufTensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    /// What it holds, one after the other: one part, or that of every expert of a layer.
    pub(crate) parts: Vec<Part>,
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

    /// The bias by which the experts of a layer are chosen, if the model has one.
    fn router_bias(&self, i: usize) -> Result<Option<Vec<f32>>> {
        let experts = self.config().experts;
        let Some(experts) = experts.filter(|experts| experts.selection == Selection::Biased) else {
            return Ok(None);
        };
        let bias = self.stored(Part::RouterBias(i), &[experts.count])?.dense()?;
        if bias.iter().any(|x| !x.is_finite()) {
            return Err(Error::Config(format!(
                "the bias of the experts of layer {i} is no number"
            )));
        }
        Ok(Some(bias))
    }

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
        let (expert, experts) = (part.expert(), self.config.experts);
        let count = experts.map_or(1, |experts| experts.count);
        match expert {
            None => self.check(&name, shape)?,
            Some(_) => self.check(&name, &[&[count], shape].concat())?,
        }
        let (kind, bytes) = (self.gguf.tensors()[&name].kind, self.gguf.tensor_slice(&name)?);
        let bytes = match expert {
            None => bytes,
            Some(i) => bytes.slice(bytes.len() / count * i..bytes.len() / count * (i + 1)),
        };
        Ok(Stored { kind, bytes })
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
            if let Some(experts) = c.experts {
                parts.push((Self::Router(i), vec![experts.count, d]));
                if experts.selection == Selection::Biased {
                    parts.push((Self::RouterBias(i), vec![experts.count]));
                }
                let mut each = |part: fn(usize, usize) -> Self, shape: [usize; 2]| {
                    parts.extend((0..experts.count).map(|e| (part(i, e), shape.to_vec())));
                };
                if c.feed_forward == FeedForward::SwiGlu {
                    each(Self::ExpertGate, [ff, d]);
                }
                each(Self::ExpertUp, [ff, d]);
                each(Self::ExpertDown, [d, ff]);
                continue;
            }
            if c.feed_forward == FeedForward::SwiGlu {
                parts.push((Self::Gate(i), vec![ff, d]));
            }
            parts.extend([(Self::Up(i), vec![ff, d]), (Self::Down(i), vec![d, ff])]);
        }
        parts
    }

    /// The tensors of a GGUF file but the embedding: the experts of a layer lie in one.
    pub(crate) fn gguf_tensors(c: &ModelConfig) -> Vec<GgufTensor> {
        let mut tensors: Vec<GgufTensor> = Vec::new();
        for (part, shape) in Self::all(c) {
            let name = part.gguf_name();
            match tensors.last_mut().filter(|last| last.name == name) {
                Some(last) => {
                    last.parts.push(part);
                    last.shape[0] += 1;
                }
                None => tensors.push(GgufTensor {
                    name,
                    shape: match part.expert() {
                        None => shape,
                        Some(_) => [vec![1], shape].concat(),
                    },
                    parts: vec![part],
                }),
            }
        }
        tensors
    }

    /// Which expert it is a part of.
    fn expert(self) -> Option<usize> {
        match self {
            Self::ExpertGate(_, e) | Self::ExpertUp(_, e) | Self::ExpertDown(_, e) => Some(e),
            _ => None,
        }
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
            Self::Router(i) => format!("blk.{i}.ffn_gate_inp.weight"),
            Self::RouterBias(i) => format!("blk.{i}.exp_probs_b.bias"),
            Self::ExpertGate(i, _) => format!("blk.{i}.ffn_gate_exps.weight"),
            Self::ExpertUp(i, _) => format!("blk.{i}.ffn_up_exps.weight"),
            Self::ExpertDown(i, _) => format!("blk.{i}.ffn_down_exps.weight"),
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
            Self::Router(i) => format!("model.layers.{i}.block_sparse_moe.gate.weight"),
            Self::RouterBias(i) => format!("model.layers.{i}.block_sparse_moe.e_score_correction_bias"),
            Self::ExpertGate(i, e) => format!("model.layers.{i}.block_sparse_moe.experts.{e}.w1.weight"),
            Self::ExpertUp(i, e) => format!("model.layers.{i}.block_sparse_moe.experts.{e}.w3.weight"),
            Self::ExpertDown(i, e) => format!("model.layers.{i}.block_sparse_moe.experts.{e}.w2.weight"),
        }
    }
}
