//! What a text costs in tokens of the model that will read it.

use std::fmt::Debug;

/// Counts tokens.
pub trait TokenCounter: Debug + Send + Sync {
    /// How many tokens the text has; at least 1 for a text that is not empty.
    fn count(&self, text: &str) -> u32;
}

/// A token for every four bytes: close for English, and the same for every model.
///
/// ```
/// use aion_router::{ByteTokens, TokenCounter};
///
/// assert_eq!(ByteTokens.count("read_file"), 3);
/// assert_eq!(ByteTokens.count(""), 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ByteTokens;

impl TokenCounter for ByteTokens {
    fn count(&self, text: &str) -> u32 {
        u32::try_from(text.len().div_ceil(4)).unwrap_or(u32::MAX)
    }
}

#[cfg(feature = "tokenizer")]
mod model {
    use std::path::Path;

    use tokenizers::Tokenizer;

    use super::TokenCounter;
    use crate::error::{Error, Result};

    /// Counts with the tokenizer of a model (a `tokenizer.json`).
    #[derive(Debug)]
    pub struct ModelTokens {
        tokenizer: Tokenizer,
    }

    impl ModelTokens {
        /// Reads a `tokenizer.json`.
        ///
        /// # Errors
        /// [`Error::BadModel`] if the file is missing or is no tokenizer.
        pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
            let bytes = std::fs::read(path).map_err(|error| Error::bad_model("tokenizer", &error))?;
            Self::from_bytes(&bytes)
        }

        /// Reads the bytes of a `tokenizer.json`.
        ///
        /// # Errors
        /// [`Error::BadModel`] if they are no tokenizer.
        pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
            let mut tokenizer =
                Tokenizer::from_bytes(bytes).map_err(|error| Error::bad_model("tokenizer", &error))?;
            tokenizer
                .with_truncation(None)
                .map_err(|error| Error::bad_model("tokenizer", &error))?;
            tokenizer.with_padding(None);
            Ok(Self { tokenizer })
        }
    }

    impl TokenCounter for ModelTokens {
        /// What the tokenizer gives; four bytes a token for a text that it refuses.
        fn count(&self, text: &str) -> u32 {
            let counted = self.tokenizer.encode(text, false).map(|encoding| encoding.len());
            let tokens = counted.unwrap_or_else(|_| text.len().div_ceil(4));
            u32::try_from(tokens).unwrap_or(u32::MAX)
        }
    }
}

#[cfg(feature = "tokenizer")]
pub use model::ModelTokens;
