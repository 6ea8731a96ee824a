//! Another model whose surprise at the same tokens is the reference.
//!
//! A frozen model with the same vocabulary. It reads what the model reads and writes, in the same passes: each pass of
//! the model is followed by one of the teacher over the same tokens, and each cache of a text has the teacher's keys and
//! values beside the model's.

use crate::checkpoint::{Checkpoint, GgufCheckpoint};
use crate::config::ModelConfig;
use crate::device::Chosen;
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::model::Model;
use crate::options::ModelSource;
use crate::safetensors::HubCheckpoint;
use crate::surprise::Prediction;

/// The shape of a teacher for a model of this one; nothing large is read.
pub(crate) fn config(source: &ModelSource, pupil: &ModelConfig) -> Result<ModelConfig> {
    let config = with_checkpoint(source, |checkpoint| Ok(checkpoint.config().clone()))?;
    let (found, wanted) = (config.vocab_size, pupil.vocab_size);
    if found != wanted {
        let reason = format!("the teacher has {found} tokens, the model {wanted}");
        return Err(Error::Config(reason));
    }
    Ok(config)
}

/// Reads the teacher's weights.
pub(crate) fn load(source: &ModelSource, device: &Chosen, threads: usize) -> Result<Model> {
    with_checkpoint(source, |checkpoint| Model::load(checkpoint, device, threads))
}

fn with_checkpoint<T>(source: &ModelSource, with: impl FnOnce(&dyn Checkpoint) -> Result<T>) -> Result<T> {
    match source {
        ModelSource::Gguf(path) => with(&GgufCheckpoint::new(&Gguf::open(path)?)?),
        ModelSource::GgufBytes(bytes) => with(&GgufCheckpoint::new(&Gguf::from_bytes(bytes.clone())?)?),
        ModelSource::HubDir(dir) => with(&HubCheckpoint::open(dir)?),
    }
}

/// `-ln p(token)` by the teacher's logits, in nats.
pub(crate) fn surprise_nats(logits: &[f32], token: u32) -> Result<f64> {
    let prediction = Prediction::new(logits)
        .map_err(|_| Error::Numeric("logits of the teacher that are not numbers".into()))?;
    // A token that the teacher holds impossible is as long as its floats can tell.
    Ok(prediction.surprise_nats(token).min(f64::from(f32::MAX)))
}
