//! The shape of a BERT, from its `config.json`.

use serde::Deserialize;

use crate::error::{Error, Result};

/// The largest number that a configuration may have anywhere.
const LIMIT: usize = 1 << 20;

/// The shape of the encoder.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Config {
    pub(super) hidden_size: usize,
    pub(super) intermediate_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    pub(super) vocab_size: usize,
    pub(super) max_position_embeddings: usize,
    #[serde(default = "epsilon")]
    pub(super) layer_norm_eps: f32,
    #[serde(default = "activation")]
    pub(super) hidden_act: String,
}

const fn epsilon() -> f32 {
    1e-12
}

fn activation() -> String {
    "gelu".to_owned()
}

impl Config {
    pub(super) fn from_json(json: &[u8]) -> Result<Self> {
        let config: Self =
            serde_json::from_slice(json).map_err(|error| Error::bad_model("configuration", &error))?;
        let sizes = [
            config.hidden_size,
            config.intermediate_size,
            config.num_hidden_layers,
            config.num_attention_heads,
            config.vocab_size,
            config.max_position_embeddings,
        ];
        if sizes.iter().any(|size| !(1..=LIMIT).contains(size)) {
            return Err(Error::bad_model("configuration", &"a size is zero or too large"));
        }
        if !config.hidden_size.is_multiple_of(config.num_attention_heads) || config.num_hidden_layers > 64 {
            return Err(Error::bad_model(
                "configuration",
                &"the heads do not divide the width",
            ));
        }
        if config.hidden_act != "gelu" || !(0.0..1.0).contains(&config.layer_norm_eps) {
            return Err(Error::bad_model("configuration", &"only BERT with gelu is known"));
        }
        Ok(config)
    }

    pub(super) const fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }
}
