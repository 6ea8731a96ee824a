//! The shape of a decoder, checked before any weight is read.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::experts::{Experts, Gating, Selection};
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
    /// Experts in the place of the feed-forward layer; `n_ff` is the width of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<Experts>,
    /// How many positions each one sees, itself among them; all before it where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// Scores of attention become `c tanh(score / c)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_cap: Option<f64>,
    /// Logits become `c tanh(logit / c)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logit_cap: Option<f64>,
}

/// Caps of scores and logits lie between these.
const CAPS: std::ops::RangeInclusive<f64> = 1e-3..=1e4;

/// No model this crate can run is larger in any one size.
const MAX_SIZE: usize = 1 << 24;
/// The most layers.
const MAX_LAYERS: usize = 4_096;

impl ModelConfig {
    /// Reads the metadata of a GGUF file of architecture `llama`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another architecture, a partial rotation, shared or grouped experts or windows in some
    /// layers only, [`Error::Config`] for missing or contradictory sizes.
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
            experts: keys.experts()?,
            window: keys.window()?,
            attention_cap: keys.cap("attn_logit_softcapping")?,
            logit_cap: keys.cap("final_logit_softcapping")?,
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
            experts: wire.experts()?,
            window: wire.window()?,
            attention_cap: wire.aion.attention_cap,
            logit_cap: wire.aion.logit_cap,
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
        let (class, kind) = match (self.experts, self.window) {
            (Some(_), _) => ("MixtralForCausalLM", "mixtral"),
            (None, Some(_)) => ("MistralForCausalLM", "mistral"),
            (None, None) => ("LlamaForCausalLM", "llama"),
        };
        let mut wire = serde_json::json!({
            "architectures": [class], "model_type": kind,
            "hidden_size": self.n_embd, "num_hidden_layers": self.n_layer,
            "num_attention_heads": self.n_head, "num_key_value_heads": self.n_head_kv, "head_dim": self.head_dim,
            "intermediate_size": self.n_ff, "vocab_size": self.vocab_size,
            "max_position_embeddings": self.context_length, "rms_norm_eps": self.norm_eps,
            "rope_theta": self.rope_base, "hidden_act": act, "tie_word_embeddings": self.head == Head::Tied,
            "sliding_window": self.window,
        });
        if let Some(experts) = self.experts {
            wire["num_local_experts"] = experts.count.into();
            wire["num_experts_per_tok"] = experts.used.into();
            wire["scoring_func"] = match experts.gating {
                Gating::Softmax => "softmax".into(),
                Gating::Sigmoid => "sigmoid".into(),
            };
            wire["use_routing_bias"] = (experts.selection == Selection::Biased).into();
        }
        // The families of the Hub that this crate reads ignore caps under the names that others give them.
        if self.attention_cap.is_some() || self.logit_cap.is_some() {
            wire["aion"] =
                serde_json::json!({"attention_cap": self.attention_cap, "logit_cap": self.logit_cap});
        }
        wire
    }

    /// Weights, the embedding counted once.
    #[must_use]
    pub fn n_parameters(&self) -> usize {
        self.parameters(self.experts.map_or(1, |experts| experts.count))
    }

    /// Weights that one token goes through: of the experts, those that are used.
    #[must_use]
    pub fn n_active_parameters(&self) -> usize {
        self.parameters(self.experts.map_or(1, |experts| experts.used))
    }

    /// Weights with so many feed-forward networks in each layer; no more than a number can say.
    fn parameters(&self, networks: usize) -> usize {
        let product = |sizes: &[usize]| sizes.iter().fold(1usize, |all, n| all.saturating_mul(*n));
        let sum = |parts: &[usize]| parts.iter().fold(0usize, |all, n| all.saturating_add(*n));
        let heads = self.n_head.saturating_add(self.n_head_kv);
        let attention = product(&[self.n_embd, self.head_dim, 2, heads]);
        let matrices = match self.feed_forward {
            FeedForward::SwiGlu => 3,
            FeedForward::ReluSquared => 2,
        };
        let router = self.experts.map_or(0, |experts| match experts.selection {
            Selection::Logits => product(&[experts.count, self.n_embd]),
            Selection::Biased => product(&[experts.count, self.n_embd.saturating_add(1)]),
        });
        let network = product(&[networks, matrices, self.n_embd, self.n_ff]);
        let block = sum(&[attention, network, router, product(&[2, self.n_embd])]);
        let heads = if self.head == Head::Untied { 2 } else { 1 };
        let embedding = product(&[heads, self.n_embd, self.vocab_size]);
        sum(&[product(&[self.n_layer, block]), self.n_embd, embedding])
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
        let layers = self.n_layer.saturating_mul(2 * size_of::<f32>());
        let position = self.kv_width().saturating_mul(layers);
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
        if let Some(window) = self.window.filter(|window| !(1..=MAX_SIZE).contains(window)) {
            return Err(Error::Config(format!("the attention window is {window}")));
        }
        let caps = [
            ("attention scores", self.attention_cap),
            ("logits", self.logit_cap),
        ];
        for (name, cap) in caps {
            if let Some(cap) = cap.filter(|cap| !CAPS.contains(cap)) {
                return Err(Error::Config(format!("the cap of {name} is {cap}")));
            }
        }
        self.experts.map(Experts::checked).transpose()?;
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
            .ok_or_else(|| Error::Config(format!("`{}.{key}` is missing or no size", self.arch)))
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

    fn unsupported<T>(&self, key: &str, what: &str) -> Result<T> {
        Err(Error::Unsupported(format!("{what} (`{}.{key}`)", self.arch)))
    }

    /// Where the file has no experts its count is missing or 0.
    fn experts(&self) -> Result<Option<Experts>> {
        let (count, used) = (
            self.size_or("expert_count", 0)?,
            self.size_or("expert_used_count", 0)?,
        );
        if count == 0 {
            return match used {
                0 => Ok(None),
                _ => Err(Error::Config(format!("{used} experts are used of none"))),
            };
        }
        self.refuse_other_mixtures()?;
        let gating = match self.size_or("expert_gating_func", 0)? {
            // 3 is softmax over the chosen, which is the same after division by their sum.
            0 | 1 | 3 => Gating::Softmax,
            2 => Gating::Sigmoid,
            other => return self.unsupported("expert_gating_func", &format!("gating function {other}")),
        };
        let selection = if self.gguf.tensors().contains_key("blk.0.exp_probs_b.bias") {
            Selection::Biased
        } else {
            Selection::Logits
        };
        let experts = Experts::new(count, used);
        let experts = experts.with_gating(gating).with_selection(selection);
        experts.checked().map(Some)
    }

    fn refuse_other_mixtures(&self) -> Result<()> {
        if self.gguf.tensors().contains_key("blk.0.ffn_gate.0.weight") {
            return Err(Error::Unsupported(
                "experts in tensors of their own (`blk.0.ffn_gate.0.weight`), as files of before April 2024 have them"
                    .into(),
            ));
        }
        for (key, what) in [
            ("expert_shared_count", "shared experts"),
            ("expert_shared_feed_forward_length", "shared experts"),
            ("expert_group_count", "groups of experts"),
            ("leading_dense_block_count", "layers without experts"),
        ] {
            if self.size_or(key, 0)? > 0 {
                return self.unsupported(key, what);
            }
        }
        let n_ff = self.size("feed_forward_length")?;
        if self.size_or("expert_feed_forward_length", n_ff)? != n_ff {
            return self.unsupported("expert_feed_forward_length", "experts of a width of their own");
        }
        if self.size_or("interleave_moe_layer_step", 1)? > 1 {
            return self.unsupported("interleave_moe_layer_step", "layers without experts");
        }
        match self.get("expert_weights_scale").map(Value::as_f64) {
            None | Some(Some(0.0 | 1.0)) => {}
            _ => return self.unsupported("expert_weights_scale", "gates that do not sum to 1"),
        }
        match self.get("expert_weights_norm").map(Value::as_bool) {
            None | Some(Some(true)) => Ok(()),
            _ => self.unsupported("expert_weights_norm", "gates that do not sum to 1"),
        }
    }

    fn window(&self) -> Result<Option<usize>> {
        let key = "attention.sliding_window";
        if self.get("attention.sliding_window_pattern").is_some() {
            return self.unsupported("attention.sliding_window_pattern", "windows in some layers only");
        }
        self.size_or(key, 0).map(|window| Some(window).filter(|n| *n > 0))
    }

    /// A cap, where 0 is none.
    fn cap(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key).map(Value::as_f64) {
            None | Some(Some(0.0)) => Ok(None),
            Some(Some(cap)) => Ok(Some(cap)),
            Some(None) => Err(Error::Config(format!("`{}.{key}` is no float", self.arch))),
        }
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
    num_local_experts: Option<usize>,
    num_experts_per_tok: Option<usize>,
    scoring_func: Option<String>,
    #[serde(default)]
    use_routing_bias: bool,
    #[serde(alias = "n_shared_experts")]
    num_shared_experts: Option<usize>,
    /// None where the file does not speak of it, which is not `null`.
    #[serde(default, deserialize_with = "said")]
    sliding_window: Option<Option<usize>>,
    use_sliding_window: Option<bool>,
    /// What each layer sees.
    layer_types: Option<Vec<String>>,
    /// What this crate's models have and no family of the Hub does.
    #[serde(default)]
    aion: OwnConfig,
}

/// Beside the Hub's words, under `aion`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnConfig {
    attention_cap: Option<f64>,
    logit_cap: Option<f64>,
}

/// The window of a `mistral` whose file does not speak of one.
const MISTRAL_WINDOW: usize = 4096;

fn said<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<usize>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Model types whose layers are the ones that this crate computes.
const MODEL_TYPES: [&str; 3] = ["llama", "mistral", "mixtral"];

fn silu() -> String {
    "silu".into()
}

impl HubConfig {
    fn experts(&self) -> Result<Option<Experts>> {
        let Some(count) = self.num_local_experts else {
            return match self.model_type.as_str() {
                "mixtral" => Err(Error::Config(
                    "config.json: `num_local_experts` is missing".into(),
                )),
                _ => Ok(None),
            };
        };
        if self.num_shared_experts.is_some_and(|n| n > 0) {
            return Err(Error::Unsupported("shared experts (`num_shared_experts`)".into()));
        }
        let used = self.num_experts_per_tok;
        let used =
            used.ok_or_else(|| Error::Config("config.json: `num_experts_per_tok` is missing".into()))?;
        let gating = match self.scoring_func.as_deref() {
            None | Some("softmax") => Gating::Softmax,
            Some("sigmoid") => Gating::Sigmoid,
            Some(other) => {
                let shown: String = other.chars().take(40).collect();
                return Err(Error::Unsupported(format!("gating function `{shown}`")));
            }
        };
        let selection = match self.use_routing_bias {
            true => Selection::Biased,
            false => Selection::Logits,
        };
        let experts = Experts::new(count, used);
        let experts = experts.with_gating(gating).with_selection(selection);
        experts.checked().map(Some)
    }

    /// As transformers has it: a `llama` has no window, whatever its file says, and a `mistral` one of its own.
    fn window(&self) -> Result<Option<usize>> {
        let window = match (self.model_type.as_str(), self.sliding_window) {
            ("llama", _) => return Ok(None),
            ("mistral", None) => Some(MISTRAL_WINDOW),
            (_, said) => said.flatten(),
        };
        let types = self.layer_types.iter().flatten();
        let windowed = types.clone().filter(|kind| *kind == "sliding_attention").count();
        let whole = types.clone().filter(|kind| *kind == "full_attention").count();
        if windowed + whole != types.count() || windowed > 0 && whole > 0 {
            return Err(Error::Unsupported(
                "layers that see different things (`layer_types`)".into(),
            ));
        }
        if whole > 0 || self.use_sliding_window == Some(false) {
            return Ok(None);
        }
        Ok(window)
    }

    fn rope_base(&self) -> f64 {
        let newer = self
            .rope_parameters
            .as_ref()
            .and_then(|p| p["rope_theta"].as_f64());
        newer.or(self.rope_theta).unwrap_or(10_000.0)
    }

    fn refuse_unknown(&self) -> Result<()> {
        let reason = match self {
            Self { model_type, .. } if !MODEL_TYPES.contains(&model_type.as_str()) => {
                format!("model type `{model_type}`; known are `llama`, `mistral` and `mixtral`")
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
