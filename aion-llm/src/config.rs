//! The shape of a decoder, checked before any weight is read.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::gguf::{Gguf, Value};
use crate::options::ModelSource;
use crate::rotary_scaling::RotaryScaling;

/// The feed-forward half of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedForward {
    /// `down(silu(gate x) * up x)` (Shazeer 2020).
    SwiGlu,
    /// `down(relu(up x)^2)` (So et al. 2021); no gate.
    ReluSquared,
}

/// Where the output projection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// The embedding, transposed.
    Tied,
    /// A matrix of its own.
    Untied,
}

/// Sizes and constants of a Llama-family decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Blocks.
    pub n_layer: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key and value heads; each serves `n_head / n_head_kv` query heads.
    pub n_head_kv: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub n_ff: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Positions that the model was trained for.
    pub context_length: usize,
    /// Base of the rotary frequencies.
    pub rope_base: f64,
    /// Added to the mean square before the root.
    pub norm_eps: f64,
    /// The feed-forward half.
    pub feed_forward: FeedForward,
    /// The output projection.
    pub head: Head,
}

/// No model this crate can run is larger in any one size.
const MAX_SIZE: usize = 1 << 24;
/// The most layers.
const MAX_LAYERS: usize = 4_096;

impl ModelConfig {
    /// Reads the metadata of a GGUF file of architecture `llama`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another architecture or a partial rotation, [`Error::Config`] for missing or
    /// contradictory sizes.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let arch = gguf.get_str("general.architecture").unwrap_or("");
        if arch != "llama" {
            return Err(Error::Unsupported(format!(
                "architecture `{arch}`; known is `llama`"
            )));
        }
        let keys = Keys { gguf, arch };
        let (n_embd, n_head) = (keys.size("embedding_length")?, keys.size("attention.head_count")?);
        let head_dim = keys.size_or("attention.key_length", n_embd / n_head.max(1))?;
        let config = Self {
            n_layer: keys.size("block_count")?,
            n_embd,
            n_head,
            n_head_kv: keys.size_or("attention.head_count_kv", n_head)?,
            head_dim,
            n_ff: keys.size("feed_forward_length")?,
            vocab_size: vocab_size(gguf)?,
            context_length: keys.size("context_length")?,
            rope_base: keys.float_or("rope.freq_base", 10_000.0),
            norm_eps: keys.float_or("attention.layer_norm_rms_epsilon", 1e-5),
            feed_forward: keys.feed_forward()?,
            head: if gguf.tensors().contains_key("output.weight") {
                Head::Untied
            } else {
                Head::Tied
            },
        };
        if keys.size_or("rope.dimension_count", head_dim)? != head_dim {
            return Err(Error::Unsupported(
                "rotary positions on a part of the head".into(),
            ));
        }
        config.checked()
    }

    /// Reads the `config.json` of a Llama-family model.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for other families, biases or scaled rotations, [`Error::Config`] otherwise.
    ///
    /// ```
    /// use aion_llm::ModelConfig;
    /// let config = ModelConfig::from_json(r#"{"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2,
    ///     "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 300,
    ///     "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "tie_word_embeddings": true}"#)?;
    /// assert_eq!((config.head_dim, config.n_head_kv), (16, 2));
    /// # Ok::<(), aion_llm::Error>(())
    /// ```
    pub fn from_json(text: &str) -> Result<Self> {
        let wire: HubConfig =
            serde_json::from_str(text).map_err(|error| Error::Config(format!("config.json: {error}")))?;
        wire.refuse_unknown()?;
        let n_head = wire.num_attention_heads;
        Self {
            n_layer: wire.num_hidden_layers,
            n_embd: wire.hidden_size,
            n_head,
            n_head_kv: wire.num_key_value_heads.unwrap_or(n_head),
            head_dim: wire.head_dim.unwrap_or(wire.hidden_size / n_head.max(1)),
            n_ff: wire.intermediate_size,
            vocab_size: wire.vocab_size,
            context_length: wire.max_position_embeddings,
            rope_base: wire.rope_base(),
            norm_eps: wire.rms_norm_eps,
            feed_forward: feed_forward(&wire.hidden_act)?,
            head: if wire.tie_word_embeddings {
                Head::Tied
            } else {
                Head::Untied
            },
        }
        .checked()
    }

    /// The shape of a model, without its weights.
    ///
    /// # Errors
    /// As [`ModelConfig::from_gguf`] and [`ModelConfig::from_json`].
    pub fn of(source: &ModelSource) -> Result<Self> {
        match source {
            ModelSource::Gguf(path) => Self::from_gguf(&Gguf::open(path)?),
            ModelSource::GgufBytes(bytes) => Self::from_gguf(&Gguf::from_bytes(bytes.clone())?),
            ModelSource::HubDir(dir) => {
                let path = dir.join("config.json");
                let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
                Self::from_json(&text)
            }
        }
    }

    /// The `config.json` that says the same.
    pub(crate) fn to_hub_json(&self) -> serde_json::Value {
        let act = match self.feed_forward {
            FeedForward::SwiGlu => "silu",
            FeedForward::ReluSquared => "relu2",
        };
        serde_json::json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama",
            "hidden_size": self.n_embd, "num_hidden_layers": self.n_layer,
            "num_attention_heads": self.n_head, "num_key_value_heads": self.n_head_kv, "head_dim": self.head_dim,
            "intermediate_size": self.n_ff, "vocab_size": self.vocab_size,
            "max_position_embeddings": self.context_length, "rms_norm_eps": self.norm_eps,
            "rope_theta": self.rope_base, "hidden_act": act, "tie_word_embeddings": self.head == Head::Tied,
        })
    }

    /// Weights, the embedding counted once.
    #[must_use]
    pub fn n_parameters(&self) -> usize {
        let attention = self.n_embd * self.head_dim * 2 * (self.n_head + self.n_head_kv);
        let matrices = if self.feed_forward == FeedForward::SwiGlu {
            3
        } else {
            2
        };
        let block = attention + matrices * self.n_embd * self.n_ff + 2 * self.n_embd;
        let heads = if self.head == Head::Untied { 2 } else { 1 };
        self.n_layer * block + self.n_embd + heads * self.n_embd * self.vocab_size
    }

    /// Divisors of the rotary frequencies that a `config.json` asks for.
    pub(crate) fn rotary_divisors(&self, text: &str) -> Result<Option<Vec<f32>>> {
        let wire: serde_json::Value =
            serde_json::from_str(text).map_err(|error| Error::Config(format!("config.json: {error}")))?;
        let scaling = [&wire["rope_parameters"], &wire["rope_scaling"]];
        let scaling = RotaryScaling::of(scaling.into_iter().find(|value| !value.is_null()))?;
        Ok(scaling.divisors(self.rope_base, self.head_dim))
    }

    pub(crate) fn q_width(&self) -> usize {
        self.n_head * self.head_dim
    }

    pub(crate) fn kv_width(&self) -> usize {
        self.n_head_kv * self.head_dim
    }

    /// Bytes of the keys and values of so many positions in 32-bit floats.
    pub(crate) fn cache_bytes(&self, positions: usize) -> usize {
        let position = self
            .kv_width()
            .saturating_mul(2 * self.n_layer * size_of::<f32>());
        position.saturating_mul(positions)
    }

    fn checked(self) -> Result<Self> {
        let sizes = [
            ("layers", self.n_layer),
            ("embedding width", self.n_embd),
            ("heads", self.n_head),
            ("key-value heads", self.n_head_kv),
            ("head width", self.head_dim),
            ("feed-forward width", self.n_ff),
            ("vocabulary", self.vocab_size),
            ("context length", self.context_length),
        ];
        if let Some((name, size)) = sizes.into_iter().find(|(_, size)| !(1..=MAX_SIZE).contains(size)) {
            return Err(Error::Config(format!("{name} is {size}")));
        }
        if self.n_layer > MAX_LAYERS {
            return Err(Error::Config(format!("layers is {}", self.n_layer)));
        }
        if !self.n_head.is_multiple_of(self.n_head_kv) {
            let (q, kv) = (self.n_head, self.n_head_kv);
            return Err(Error::Config(format!(
                "{q} query heads are no multiple of {kv} key-value heads"
            )));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(Error::Config(format!("head width {} is odd", self.head_dim)));
        }
        if !(self.rope_base.is_finite()
            && self.rope_base > 1.0
            && self.norm_eps >= 0.0
            && self.norm_eps < 1.0)
        {
            return Err(Error::Config(
                "the rotary base or the norm's epsilon is out of range".into(),
            ));
        }
        Ok(self)
    }
}

struct Keys<'a> {
    gguf: &'a Gguf,
    arch: &'a str,
}

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.gguf.get(&format!("{}.{key}", self.arch))
    }

    fn size(&self, key: &str) -> Result<usize> {
        let value = self.get(key).and_then(Value::as_u64);
        value
            .map(|n| n as usize)
            .ok_or_else(|| Error::Config(format!("`{}.{key}` is missing", self.arch)))
    }

    fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        self.get(key).map_or(Ok(default), |_| self.size(key))
    }

    fn float_or(&self, key: &str, default: f64) -> f64 {
        self.get(key).and_then(Value::as_f64).unwrap_or(default)
    }

    fn feed_forward(&self) -> Result<FeedForward> {
        feed_forward(self.get("hidden_act").and_then(Value::as_str).unwrap_or("silu"))
    }
}

fn vocab_size(gguf: &Gguf) -> Result<usize> {
    let info = gguf.tensors().get("token_embd.weight");
    let info = info.ok_or_else(|| Error::MissingTensor("token_embd.weight".into()))?;
    Ok(info.shape.first().copied().unwrap_or(0))
}

fn feed_forward(activation: &str) -> Result<FeedForward> {
    match activation {
        "silu" => Ok(FeedForward::SwiGlu),
        "relu2" => Ok(FeedForward::ReluSquared),
        other => Err(Error::Unsupported(format!(
            "activation `{other}`; known are `silu` and `relu2`"
        ))),
    }
}

#[derive(Debug, Deserialize)]
struct HubConfig {
    model_type: String,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    #[serde(default = "silu")]
    hidden_act: String,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    rope_scaling: Option<serde_json::Value>,
    /// Newer files have base and scaling in one place.
    #[serde(default)]
    rope_parameters: Option<serde_json::Value>,
}

fn silu() -> String {
    "silu".into()
}

impl HubConfig {
    fn rope_base(&self) -> f64 {
        let newer = self
            .rope_parameters
            .as_ref()
            .and_then(|p| p["rope_theta"].as_f64());
        newer.or(self.rope_theta).unwrap_or(10_000.0)
    }

    fn refuse_unknown(&self) -> Result<()> {
        let reason = match self {
            Self { model_type, .. } if model_type != "llama" => {
                format!("model type `{model_type}`; known is `llama`")
            }
            Self {
                attention_bias: true, ..
            }
            | Self { mlp_bias: true, .. } => "biases".to_owned(),
            _ => {
                return RotaryScaling::of(self.rope_parameters.as_ref().or(self.rope_scaling.as_ref()))
                    .map(drop);
            }
        };
        Err(Error::Unsupported(reason))
    }
}
