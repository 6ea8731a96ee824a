//! Sentence embeddings by a small BERT (all-MiniLM-L6-v2 and its like), in Rust from its safetensors.
//!
//! # Sources
//! J. Devlin et al., BERT, 2019; W. Wang et al., MiniLM, 2020; N. Reimers, I. Gurevych, Sentence-BERT, 2019
//! (mean of the last layer over the tokens, scaled to length 1).

mod config;
mod forward;
mod gemm;
mod math;
mod weights;

use std::path::Path;

use tokenizers::Tokenizer;

use super::{Blended, EmbedError, Embedder, HashingEmbedder, check_shape};
use crate::error::{Error, Result};
use config::Config;
use forward::Encoder;

/// Tokens of one pass through the model: texts are put together until they have so many.
const BATCH_TOKENS: usize = 512;

/// The sentence encoder of a folder, [`with spelling`](Blended::with_spelling).
///
/// # Errors
/// As [`MiniLm::from_folder`].
pub fn with_spelling(folder: impl AsRef<Path>) -> Result<Blended<MiniLm, HashingEmbedder>> {
    Ok(Blended::with_spelling(MiniLm::from_folder(folder)?))
}

/// A sentence encoder read from a folder with `config.json`, `tokenizer.json` and `model.safetensors`.
#[derive(Debug)]
pub struct MiniLm {
    model_id: String,
    tokenizer: Tokenizer,
    encoder: Encoder,
    max_tokens: usize,
}

impl MiniLm {
    /// Reads the model. Its id is the digest of its weights.
    ///
    /// # Errors
    /// [`Error::BadModel`] for a file that is missing, is no BERT, or whose tensors are of another shape
    /// than its configuration says.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self> {
        let read = |what: &'static str, name: &str| {
            std::fs::read(folder.as_ref().join(name)).map_err(|error| Error::bad_model(what, &error))
        };
        let config = Config::from_json(&read("configuration", "config.json")?)?;
        let tensors = read("weights", "model.safetensors")?;
        let encoder = Encoder::new(config, &tensors)?;
        let mut tokenizer = Tokenizer::from_bytes(read("tokenizer", "tokenizer.json")?)
            .map_err(|error| Error::bad_model("tokenizer", &error))?;
        tokenizer
            .with_truncation(None)
            .map_err(|error| Error::bad_model("tokenizer", &error))?;
        tokenizer.with_padding(None);
        if tokenizer.get_vocab_size(true) > encoder.config().vocab_size {
            return Err(Error::bad_model(
                "tokenizer",
                &"it has more words than the weights",
            ));
        }
        let digest = blake3::hash(&tensors);
        Ok(Self {
            model_id: format!("bert-{}", &digest.to_hex()[..16]),
            tokenizer,
            max_tokens: encoder.config().max_position_embeddings.min(256),
            encoder,
        })
    }

    /// The tokens of a text as the model sees them, with its marks at both ends.
    ///
    /// # Errors
    /// [`EmbedError::Failed`] if the tokenizer refuses it.
    pub fn tokens(&self, text: &str) -> std::result::Result<Vec<u32>, EmbedError> {
        let encoding = self
            .tokenizer
            .encode(text, true)
            .map_err(|source| EmbedError::Failed {
                model: self.model_id.clone(),
                source,
            })?;
        let mut ids = encoding.get_ids().to_vec();
        if ids.len() > self.max_tokens {
            // The last token is the mark of the end.
            let end = ids.pop();
            ids.truncate(self.max_tokens - 1);
            ids.extend(end);
        }
        Ok(ids)
    }

    /// The vectors of texts that are tokens already, shape `[texts, dim]`.
    ///
    /// # Panics
    /// If `out` is of another length, or a token is not of the model.
    pub fn embed_tokens(&self, texts: &[Vec<u32>], out: &mut [f32]) {
        let dim = self.encoder.config().hidden_size;
        assert_eq!(out.len(), texts.len() * dim, "one vector a text");
        let mut from = 0;
        while from < texts.len() {
            let mut tokens = 0;
            let fits = texts[from..].iter().take_while(|text| {
                tokens += text.len();
                tokens <= BATCH_TOKENS
            });
            let to = from + fits.count().max(1);
            self.encoder
                .embed(&texts[from..to], &mut out[from * dim..to * dim]);
            from = to;
        }
    }
}

impl Embedder for MiniLm {
    fn model_id(&self) -> &str {
        &self.model_id
    }

    fn dim(&self) -> usize {
        self.encoder.config().hidden_size
    }

    fn embed(&self, texts: &[&str], out: &mut [f32]) -> std::result::Result<(), EmbedError> {
        check_shape(self, texts.len(), out)?;
        let tokens = texts.iter().map(|text| self.tokens(text));
        let tokens = tokens.collect::<std::result::Result<Vec<_>, _>>()?;
        self.embed_tokens(&tokens, out);
        Ok(())
    }
}
