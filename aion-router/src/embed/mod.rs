//! Embeddings: texts as vectors whose cosine says how alike they are.

mod blend;
mod cache;
mod hashing;
#[cfg(feature = "minilm")]
pub mod minilm;
#[cfg(feature = "remote")]
pub mod remote;

use std::fmt::Debug;

pub use blend::Blended;
pub use cache::EmbeddingCache;
pub use hashing::HashingEmbedder;

/// What an embedder fails at. A ranking goes on without it and says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// The model or the service behind it failed.
    #[error("the embedder {model} failed")]
    Failed {
        /// Which embedder.
        model: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It was given, or gave, another number of numbers than it says.
    #[error("the embedder {model} gives {dim} numbers a text, not {found}")]
    Dimension {
        /// Which embedder.
        model: String,
        /// What it says.
        dim: usize,
        /// What was found.
        found: usize,
    },
}

/// Makes vectors of texts.
pub trait Embedder: Debug + Send + Sync {
    /// Names the model with its version: vectors of different names are never compared.
    fn model_id(&self) -> &str;

    /// How many numbers a vector has; 0 while that is not known.
    fn dim(&self) -> usize;

    /// The same, found out if it is not known.
    ///
    /// # Errors
    /// [`EmbedError`] if whoever knows it does not say.
    fn ask_dim(&self) -> Result<usize, EmbedError> {
        Ok(self.dim())
    }

    /// Writes the vectors of `texts` into `out`, shape `[texts, dim]`.
    ///
    /// # Errors
    /// [`EmbedError`] if the model fails, or `out` is of another length.
    fn embed(&self, texts: &[&str], out: &mut [f32]) -> Result<(), EmbedError>;
}

/// One text through an embedder.
///
/// # Errors
/// Those of the embedder.
pub fn embed_one(embedder: &dyn Embedder, text: &str) -> Result<Vec<f32>, EmbedError> {
    let mut vector = vec![0.0; embedder.ask_dim()?];
    embedder.embed(&[text], &mut vector)?;
    Ok(vector)
}

pub(crate) fn check_shape(embedder: &dyn Embedder, texts: usize, out: &[f32]) -> Result<(), EmbedError> {
    if out.len() == texts * embedder.dim() {
        return Ok(());
    }
    Err(EmbedError::Dimension {
        model: embedder.model_id().to_owned(),
        dim: embedder.dim(),
        found: out.len() / texts.max(1),
    })
}
