//! A sentence encoder beside the chat model, for `/v1/embeddings`.

use std::fmt::Debug;

/// Makes vectors of texts.
pub trait TextEncoder: Debug + Send + Sync + 'static {
    /// The name that it answers to.
    fn name(&self) -> &str;

    /// How many numbers a vector has.
    fn dimensions(&self) -> usize;

    /// The vectors of the texts, and how many tokens these have; runs on a thread that may be blocked.
    ///
    /// # Errors
    /// Why it failed, in words.
    fn encode(&self, texts: &[&str]) -> Result<(Vec<Vec<f32>>, usize), String>;
}

/// A small BERT (all-MiniLM-L6-v2 and its like) from a folder with `config.json`, `tokenizer.json` and
/// `model.safetensors`.
#[cfg(feature = "minilm")]
#[derive(Debug)]
pub struct MiniLmEncoder {
    name: String,
    model: aion_router::embed::minilm::MiniLm,
}

#[cfg(feature = "minilm")]
impl MiniLmEncoder {
    /// Reads the model; it answers to the folder's name.
    ///
    /// # Errors
    /// What is wrong with its files, in words.
    pub fn from_folder(folder: &std::path::Path) -> Result<Self, String> {
        let model = aion_router::embed::minilm::MiniLm::from_folder(folder);
        let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy();
        Ok(Self {
            name: name.into_owned(),
            model: model.map_err(|error| aion_service::chain(&error))?,
        })
    }
}

#[cfg(feature = "minilm")]
impl TextEncoder for MiniLmEncoder {
    fn name(&self) -> &str {
        &self.name
    }

    fn dimensions(&self) -> usize {
        aion_router::embed::Embedder::dim(&self.model)
    }

    fn encode(&self, texts: &[&str]) -> Result<(Vec<Vec<f32>>, usize), String> {
        let tokens = texts.iter().map(|text| self.model.tokens(text));
        let tokens = tokens
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| aion_service::chain(&error))?;
        let dim = self.dimensions();
        let mut all = vec![0.0; texts.len() * dim];
        self.model.embed_tokens(&tokens, &mut all);
        let vectors = all.chunks_exact(dim.max(1)).map(<[f32]>::to_vec).collect();
        Ok((vectors, tokens.iter().map(Vec::len).sum()))
    }
}
