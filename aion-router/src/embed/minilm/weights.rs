//! The tensors of a BERT, read from safetensors and laid out for the products.

use safetensors::{Dtype, SafeTensors};

use super::config::Config;
use super::gemm::Packed;
use crate::bytes::floats_of_bytes;
use crate::error::{Error, Result};

/// `y = x W^T + b`.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) weight: Packed,
    pub(super) bias: Vec<f32>,
}

#[derive(Debug)]
pub(super) struct LayerNorm {
    pub(super) gain: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

#[derive(Debug)]
pub(super) struct Layer {
    /// Queries, keys and values side by side, `[3 hidden, hidden]`; queries are scaled already.
    pub(super) qkv: Linear,
    pub(super) attended: Linear,
    pub(super) attention_norm: LayerNorm,
    pub(super) up: Linear,
    pub(super) down: Linear,
    pub(super) output_norm: LayerNorm,
}

#[derive(Debug)]
pub(super) struct Weights {
    /// `[vocab, hidden]`.
    pub(super) words: Vec<f32>,
    /// `[positions, hidden]`, the embedding of the first sentence added.
    pub(super) positions: Vec<f32>,
    pub(super) embedding_norm: LayerNorm,
    pub(super) layers: Vec<Layer>,
}

struct Reader<'a> {
    tensors: SafeTensors<'a>,
    prefix: &'static str,
}

impl Weights {
    pub(super) fn read(config: &Config, bytes: &[u8]) -> Result<Self> {
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| Error::bad_model("weights", &error))?;
        let bare = tensors.tensor("embeddings.word_embeddings.weight").is_ok();
        let prefix = if bare { "" } else { "bert." };
        let reader = Reader { tensors, prefix };
        let hidden = config.hidden_size;
        let mut positions = reader.floats(
            "embeddings.position_embeddings.weight",
            &[config.max_position_embeddings, hidden],
        )?;
        let sentence = reader.first_row("embeddings.token_type_embeddings.weight", hidden)?;
        for row in positions.chunks_exact_mut(hidden) {
            row.iter_mut().zip(&sentence).for_each(|(x, y)| *x += y);
        }
        Ok(Self {
            words: reader.floats("embeddings.word_embeddings.weight", &[config.vocab_size, hidden])?,
            positions,
            embedding_norm: reader.norm("embeddings.LayerNorm", hidden)?,
            layers: (0..config.num_hidden_layers)
                .map(|n| reader.layer(config, n))
                .collect::<Result<_>>()?,
        })
    }
}

impl Reader<'_> {
    fn layer(&self, config: &Config, n: usize) -> Result<Layer> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let name = |part: &str| format!("encoder.layer.{n}.{part}");
        let linear = |part: &str, outputs, inputs| self.linear(&name(part), outputs, inputs);
        Ok(Layer {
            qkv: self.qkv(config, &name("attention.self"))?,
            attended: linear("attention.output.dense", hidden, hidden)?,
            attention_norm: self.norm(&name("attention.output.LayerNorm"), hidden)?,
            up: linear("intermediate.dense", inner, hidden)?,
            down: linear("output.dense", hidden, inner)?,
            output_norm: self.norm(&name("output.LayerNorm"), hidden)?,
        })
    }

    fn qkv(&self, config: &Config, name: &str) -> Result<Linear> {
        let hidden = config.hidden_size;
        let scale = 1.0 / (config.head_dim() as f32).sqrt();
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for (part, scale) in [("query", scale), ("key", 1.0), ("value", 1.0)] {
            let of_part = self.floats(&format!("{name}.{part}.weight"), &[hidden, hidden])?;
            weight.extend(of_part.iter().map(|x| x * scale));
            let of_part = self.floats(&format!("{name}.{part}.bias"), &[hidden])?;
            bias.extend(of_part.iter().map(|x| x * scale));
        }
        let weight = Packed::new(&weight, 3 * hidden, hidden);
        Ok(Linear { weight, bias })
    }

    fn linear(&self, name: &str, outputs: usize, inputs: usize) -> Result<Linear> {
        let weight = self.floats(&format!("{name}.weight"), &[outputs, inputs])?;
        Ok(Linear {
            weight: Packed::new(&weight, outputs, inputs),
            bias: self.floats(&format!("{name}.bias"), &[outputs])?,
        })
    }

    fn norm(&self, name: &str, hidden: usize) -> Result<LayerNorm> {
        Ok(LayerNorm {
            gain: self.floats(&format!("{name}.weight"), &[hidden])?,
            bias: self.floats(&format!("{name}.bias"), &[hidden])?,
        })
    }

    fn first_row(&self, name: &str, hidden: usize) -> Result<Vec<f32>> {
        let tensor = self.tensor(name)?;
        if tensor.shape().len() != 2 || tensor.shape()[0] == 0 || tensor.shape()[1] != hidden {
            return Err(Error::bad_model(
                "weights",
                &format!("{name} has shape {:?}", tensor.shape()),
            ));
        }
        let mut row = floats(&tensor, name)?;
        row.truncate(hidden);
        Ok(row)
    }

    fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let tensor = self.tensor(name)?;
        if tensor.shape() != shape {
            let reason = format!("{name} has shape {:?}, not {shape:?}", tensor.shape());
            return Err(Error::bad_model("weights", &reason));
        }
        floats(&tensor, name)
    }

    fn tensor(&self, name: &str) -> Result<safetensors::tensor::TensorView<'_>> {
        let name = format!("{}{name}", self.prefix);
        self.tensors
            .tensor(&name)
            .map_err(|error| Error::bad_model("weights", &error))
    }
}

fn floats(tensor: &safetensors::tensor::TensorView<'_>, name: &str) -> Result<Vec<f32>> {
    if tensor.dtype() != Dtype::F32 {
        let reason = format!("{name} is {:?}, not F32", tensor.dtype());
        return Err(Error::bad_model("weights", &reason));
    }
    let floats = floats_of_bytes(tensor.data());
    if floats.iter().any(|x| !x.is_finite()) {
        return Err(Error::bad_model("weights", &format!("{name} is not finite")));
    }
    Ok(floats)
}
