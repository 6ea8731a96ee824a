//! Tiny random models and a GGUF writer, for tests that need a whole model but no download.
//!
//! ```
//! use aion_llm::testkit::TinyModel;
//! use aion_llm::{Engine, EngineOptions, GenerateRequest, Prompt};
//! let engine = Engine::load(&TinyModel::random(1).source(), EngineOptions::default().with_threads(1))?;
//! let request = GenerateRequest::new(Prompt::Text("hello".into())).with_max_tokens(4);
//! assert!(engine.complete(&request)?.tokens.len() <= 4);
//! # Ok::<(), aion_llm::Error>(())
//! ```

mod faults;

use std::collections::BTreeMap;

use crate::checkpoint::Part;
use crate::config::{FeedForward, Head, ModelConfig};
use crate::experts::{Experts, Gating};
use crate::gguf::{Array, Gguf, TensorType, Value, encode};
use crate::options::ModelSource;
use crate::sampling::SplitMix;
use crate::tokenizer::{char_of_byte, gguf_document};
pub use faults::Faults;

/// Writes GGUF files of version 3.
#[derive(Debug, Clone, Default)]
pub struct GgufWriter {
    metadata: BTreeMap<String, Value>,
    tensors: Vec<(String, Vec<usize>, TensorType, Vec<u8>)>,
    alignment: Alignment,
}

/// On multiples of how many bytes tensors begin.
#[derive(Debug, Clone, Copy)]
struct Alignment(usize);

impl Default for Alignment {
    fn default() -> Self {
        Self(32)
    }
}

impl GgufWriter {
    /// Sets a key.
    #[must_use]
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.metadata.insert(key.into(), value);
        self
    }

    /// Adds a tensor with its stored bytes; `shape` is row-major, outermost first.
    #[must_use]
    pub fn with_tensor(mut self, name: &str, shape: &[usize], kind: TensorType, bytes: Vec<u8>) -> Self {
        self.tensors.push((name.into(), shape.to_vec(), kind, bytes));
        self
    }

    /// Puts tensors on multiples of so many bytes, and says so.
    #[must_use]
    pub fn aligned(mut self, bytes: usize) -> Self {
        self.alignment = Alignment(bytes);
        self.with("general.alignment", Value::Unsigned(bytes as u64))
    }

    /// The file.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_text(&mut out, key);
            put_value(&mut out, value);
        }
        let mut offset = 0;
        for (name, shape, kind, bytes) in &self.tensors {
            put_text(&mut out, name);
            out.extend((shape.len() as u32).to_le_bytes());
            shape
                .iter()
                .rev()
                .for_each(|dim| out.extend((*dim as u64).to_le_bytes()));
            out.extend(kind.code().to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset += bytes.len().next_multiple_of(self.alignment.0);
        }
        for (_, _, _, bytes) in &self.tensors {
            out.resize(out.len().next_multiple_of(self.alignment.0), 0);
            out.extend(bytes);
        }
        out
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Unsigned(n) => put(out, 10, &n.to_le_bytes()),
        Value::Signed(n) => put(out, 11, &n.to_le_bytes()),
        Value::Float(x) => put(out, 12, &x.to_le_bytes()),
        Value::Bool(truth) => put(out, 7, &[u8::from(*truth)]),
        Value::Text(text) => {
            put(out, 8, &[]);
            put_text(out, text);
        }
        Value::Array(array) => put_array(out, array),
    }
}

fn put(out: &mut Vec<u8>, kind: u32, bytes: &[u8]) {
    out.extend(kind.to_le_bytes());
    out.extend(bytes);
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    let (kind, len): (u32, usize) = match array {
        Array::Integers(items) => (11, items.len()),
        Array::Floats(items) => (12, items.len()),
        Array::Bools(items) => (7, items.len()),
        Array::Texts(items) => (8, items.len()),
    };
    put(out, 9, &kind.to_le_bytes());
    out.extend((len as u64).to_le_bytes());
    match array {
        Array::Integers(items) => items.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::Floats(items) => items.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::Bools(items) => items.iter().for_each(|truth| out.push(u8::from(*truth))),
        Array::Texts(items) => items.iter().for_each(|text| put_text(out, text)),
    }
}

/// A random model of two layers with a byte-level tokenizer.
#[derive(Debug, Clone)]
pub struct TinyModel {
    config: ModelConfig,
    weights: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    stops: bool,
}

const EMBEDDING: &str = "model.embed_tokens.weight";
const MERGES: [&str; 6] = ["t h", "h e", "th e", "i n", "e r", "a n"];
const SPECIALS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const VOCAB: usize = 256 + MERGES.len() + SPECIALS.len();

impl TinyModel {
    /// Gated, tied: the shape of SmolLM2 in small.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        Self::with_shape(seed, FeedForward::SwiGlu, Head::Tied)
    }

    /// With the given feed-forward layer and head.
    #[must_use]
    pub fn with_shape(seed: u64, feed_forward: FeedForward, head: Head) -> Self {
        let config = ModelConfig {
            n_layer: 2,
            n_embd: 48,
            n_head: 6,
            n_head_kv: 2,
            head_dim: 8,
            n_ff: 80,
            vocab_size: VOCAB,
            context_length: 512,
            rope_base: 10_000.0,
            norm_eps: 1e-5,
            feed_forward,
            head,
            experts: None,
            window: None,
            attention_cap: None,
            logit_cap: None,
        };
        Self::with_config(seed, config)
    }

    /// A mixture of experts; every width is a multiple of 32.
    #[must_use]
    pub fn mixture(seed: u64, experts: Experts) -> Self {
        let config = ModelConfig {
            experts: Some(experts),
            ..Self::in_blocks(seed).config
        };
        Self::with_config(seed, config)
    }

    /// Every width is a multiple of 32, so that every matrix can be quantised.
    #[must_use]
    pub fn in_blocks(seed: u64) -> Self {
        let config = ModelConfig {
            n_embd: 64,
            n_head: 8,
            n_ff: 96,
            ..Self::random(seed).config
        };
        Self::with_config(seed, config)
    }

    /// With a shape of the caller's, whose vocabulary must be that of the other models.
    #[must_use]
    pub fn with_config(seed: u64, config: ModelConfig) -> Self {
        Self {
            weights: random_weights(&config, &mut SplitMix(seed)),
            config,
            stops: true,
        }
    }

    /// Makes the model never end a text on its own.
    #[must_use]
    pub fn endless(mut self) -> Self {
        self.stops = false;
        self
    }

    /// Makes every logit of the model no number, as a damaged file may.
    #[must_use]
    pub fn without_numbers(mut self) -> Self {
        if let Some((_, weights)) = self.weights.get_mut(&Part::OutputNorm.hub_name()) {
            weights.fill(f32::NAN);
        }
        self
    }

    /// Multiplies every weight of the keys, so that no half holds what they give.
    #[must_use]
    pub fn with_loud_keys(mut self, times: f32) -> Self {
        for layer in 0..self.config.n_layer {
            if let Some((_, weights)) = self.weights.get_mut(&Part::Key(layer).hub_name()) {
                weights.iter_mut().for_each(|weight| *weight *= times);
            }
        }
        self
    }

    /// The shape of the model.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The model as a GGUF file in memory.
    #[must_use]
    pub fn source(&self) -> ModelSource {
        ModelSource::GgufBytes(self.gguf().bytes())
    }

    /// Changes one tensor, by its name at the Hub.
    ///
    /// # Panics
    /// When the model has no such tensor.
    #[must_use]
    pub fn edit(mut self, name: &str, change: impl FnOnce(&mut [f32])) -> Self {
        let tensor = self.weights.get_mut(name);
        let (_, values) = tensor.unwrap_or_else(|| panic!("no tensor `{name}`"));
        change(values);
        self
    }

    /// The model as a GGUF file, to be changed before it is written. Query and key rows are in adjacent pairs.
    #[must_use]
    pub fn gguf(&self) -> GgufWriter {
        self.gguf_in(TensorType::F32)
    }

    /// The same with every matrix in one type, but for the routers; rows must be whole blocks of it.
    #[must_use]
    pub fn gguf_in(&self, kind: TensorType) -> GgufWriter {
        let mut writer = self.gguf_metadata();
        for tensor in Part::gguf_tensors(&self.config) {
            let values: Vec<f32> = tensor
                .parts
                .iter()
                .flat_map(|part| self.in_pairs(*part))
                .collect();
            let matrix = tensor.shape.len() > 1 && !matches!(tensor.parts[0], Part::Router(_));
            let kind = if matrix { kind } else { TensorType::F32 };
            writer = writer.with_tensor(&tensor.name, &tensor.shape, kind, stored(kind, &values));
        }
        let (shape, rows) = &self.weights[EMBEDDING];
        writer.with_tensor("token_embd.weight", shape, kind, stored(kind, rows))
    }

    /// A part as GGUF files have it.
    fn in_pairs(&self, part: Part) -> Vec<f32> {
        let (shape, weights) = &self.weights[&part.hub_name()];
        if matches!(part, Part::Query(_) | Part::Key(_)) {
            to_adjacent(weights, self.config.head_dim, shape[1])
        } else {
            weights.clone()
        }
    }

    fn gguf_metadata(&self) -> GgufWriter {
        let c = &self.config;
        let act = if c.feed_forward == FeedForward::SwiGlu {
            "silu"
        } else {
            "relu2"
        };
        let sizes = [
            ("block_count", c.n_layer),
            ("embedding_length", c.n_embd),
            ("attention.head_count", c.n_head),
            ("attention.head_count_kv", c.n_head_kv),
            ("feed_forward_length", c.n_ff),
            ("context_length", c.context_length),
        ];
        let writer = sizes
            .into_iter()
            .fold(GgufWriter::default(), |writer, (key, size)| {
                writer.with(&format!("llama.{key}"), Value::Unsigned(size as u64))
            });
        let writer = writer
            .with("general.architecture", Value::Text("llama".into()))
            .with("llama.hidden_act", Value::Text(act.into()))
            .with("llama.rope.freq_base", Value::Float(c.rope_base))
            .with("llama.attention.layer_norm_rms_epsilon", Value::Float(c.norm_eps));
        self.tokenizer_metadata(self.variant_metadata(writer))
    }

    /// What not every model has.
    fn variant_metadata(&self, mut writer: GgufWriter) -> GgufWriter {
        let c = &self.config;
        if let Some(experts) = c.experts {
            let function = match experts.gating {
                Gating::Softmax => 1,
                Gating::Sigmoid => 2,
            };
            for (key, value) in [
                ("llama.expert_count", experts.count as u64),
                ("llama.expert_used_count", experts.used as u64),
                ("llama.expert_gating_func", function),
            ] {
                writer = writer.with(key, Value::Unsigned(value));
            }
        }
        if let Some(window) = c.window {
            let key = "llama.attention.sliding_window";
            writer = writer.with(key, Value::Unsigned(window as u64));
        }
        for (key, cap) in [
            ("llama.attn_logit_softcapping", c.attention_cap),
            ("llama.final_logit_softcapping", c.logit_cap),
        ] {
            if let Some(cap) = cap {
                writer = writer.with(key, Value::Float(cap));
            }
        }
        writer
    }

    fn tokenizer_metadata(&self, writer: GgufWriter) -> GgufWriter {
        let bytes = char_of_byte().into_iter().map(String::from);
        let merged = MERGES.iter().map(|merge| merge.replace(' ', ""));
        // An endless model's special tokens have names that end nothing.
        let specials = SPECIALS.iter().map(|text| {
            if self.stops {
                (*text).to_owned()
            } else {
                text.replace('|', ":")
            }
        });
        let tokens: Vec<String> = bytes.chain(merged).chain(specials).collect();
        let kinds = (0..VOCAB)
            .map(|id| if id < VOCAB - SPECIALS.len() { 1 } else { 3 })
            .collect();
        let writer = writer
            .with("tokenizer.ggml.model", Value::Text("gpt2".into()))
            .with("tokenizer.ggml.pre", Value::Text("smollm".into()))
            .with("tokenizer.ggml.tokens", Value::Array(Array::Texts(tokens)))
            .with("tokenizer.ggml.token_type", Value::Array(Array::Integers(kinds)))
            .with(
                "tokenizer.ggml.merges",
                Value::Array(Array::Texts(MERGES.map(str::to_owned).to_vec())),
            );
        if self.stops {
            writer.with("tokenizer.ggml.eos_token_id", Value::Unsigned(VOCAB as u64 - 1))
        } else {
            writer
        }
    }

    /// The weights under the Hub's names, with their shapes.
    #[must_use]
    pub fn hub_tensors(&self) -> Vec<(String, Vec<usize>, Vec<u8>)> {
        let tensor = |(name, (shape, weights)): (&String, &(Vec<usize>, Vec<f32>))| {
            (name.clone(), shape.clone(), f32_bytes(weights))
        };
        self.weights.iter().map(tensor).collect()
    }

    /// `config.json` of the same model.
    #[must_use]
    pub fn hub_config(&self) -> String {
        self.config.to_hub_json().to_string()
    }

    /// `tokenizer.json` of the same model.
    ///
    /// # Errors
    /// Never for these models; the signature is that of the conversion.
    pub fn hub_tokenizer(&self) -> crate::Result<String> {
        let gguf = Gguf::from_bytes(self.gguf_metadata().bytes())?;
        gguf_document(&gguf).map(|document| document.to_string())
    }
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Values as a tensor of this type has them. Six bits span each block evenly, which is valid if not the best.
fn stored(kind: TensorType, values: &[f32]) -> Vec<u8> {
    match kind {
        TensorType::Q6K => values.as_chunks::<256>().0.iter().flat_map(six_bits).collect(),
        _ => encode(TensorType::F32, &f32_bytes(values), kind).bytes,
    }
}

fn six_bits(x: &[f32; 256]) -> [u8; 210] {
    let most = x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let scale = half::f16::from_f32(most / 31.0);
    let inverse = if scale.to_f32() > 0.0 {
        scale.to_f32().recip()
    } else {
        0.0
    };
    let mut block = [0; 210];
    for (i, x) in x.iter().enumerate() {
        let q = ((x * inverse).round().clamp(-32.0, 31.0) + 32.0) as u8;
        let (half, quarter, column) = (i / 128, i % 128 / 32, i % 32);
        block[half * 64 + column + 32 * (quarter % 2)] |= (q & 0xF) << (4 * (quarter / 2));
        block[128 + half * 32 + column] |= (q >> 4) << (2 * quarter);
    }
    block[192..208].fill(1);
    block[208..].copy_from_slice(&scale.to_le_bytes());
    block
}

fn random_weights(config: &ModelConfig, random: &mut SplitMix) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let mut tensor = |shape: Vec<usize>, spread: f64, centre: f64| {
        let n = shape.iter().product();
        let values = (0..n)
            .map(|_| (centre + spread * (2.0 * random.unit() - 1.0)) as f32)
            .collect();
        (shape, values)
    };
    let mut weights = BTreeMap::new();
    for (part, shape) in Part::all(config) {
        // Norms lie around one; a matrix keeps the size of its input.
        let (spread, centre) = match shape.last().copied() {
            Some(width) if shape.len() == 2 => ((3.0 / width as f64).sqrt(), 0.0),
            _ => (0.3, 1.0),
        };
        weights.insert(part.hub_name(), tensor(shape, spread, centre));
    }
    weights.insert(
        EMBEDDING.into(),
        tensor(vec![config.vocab_size, config.n_embd], 0.7, 0.0),
    );
    weights
}

/// Halves to adjacent pairs: the inverse of what loading does.
fn to_adjacent(weights: &[f32], head_dim: usize, width: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(weights.len());
    for head in weights.chunks_exact(head_dim * width) {
        let row = |i: usize| &head[i * width..(i + 1) * width];
        for i in 0..head_dim / 2 {
            out.extend_from_slice(row(i));
            out.extend_from_slice(row(i + head_dim / 2));
        }
    }
    out
}
