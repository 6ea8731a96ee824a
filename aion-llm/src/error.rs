//! What can go wrong, from a damaged model file to a request that cannot be met.

use std::path::PathBuf;

use crate::memory::mib;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every error of this crate. The text names what is wrong and where; the cause, when there is one, is the `source`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened or read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A GGUF file lies about itself or ends too early.
    #[error("not a sound GGUF file: at byte {offset}: {reason}")]
    Gguf {
        /// Where in the file, in bytes from its start.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A safetensors checkpoint is damaged or incomplete.
    #[error("not a sound safetensors checkpoint: {0}")]
    Safetensors(String),
    /// `config.json`, the GGUF metadata or the tokenizer name something this build cannot run.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// The model's description contradicts itself.
    #[error("invalid model configuration: {0}")]
    Config(String),
    /// A tensor that the architecture needs is not there.
    #[error("the checkpoint has no tensor `{0}`")]
    MissingTensor(String),
    /// A tensor has another shape than the configuration says.
    #[error("tensor `{name}` has shape {found:?}, the configuration says {expected:?}")]
    Shape {
        /// The tensor's name in the file.
        name: String,
        /// Rows and columns that the configuration asks for.
        expected: Vec<usize>,
        /// Rows and columns in the file.
        found: Vec<usize>,
    },
    /// The tokenizer cannot be built or failed on a text.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The tokenizer has ids that the model has no rows for.
    #[error("the tokenizer does not fit the model: it has {tokenizer} tokens, the model has {model}")]
    TokenizerMismatch {
        /// Number of ids of the tokenizer.
        tokenizer: usize,
        /// Rows of the embedding.
        model: usize,
    },
    /// The chat template is wrong, or refused the messages.
    #[error("chat template: {0}")]
    Template(String),
    /// The JSON schema, regular expression or grammar is too large, malformed, or cannot be met.
    #[error("output format: {0}")]
    Schema(String),
    /// The device was asked for but is not there.
    #[error("device {device}: {reason}")]
    Device {
        /// As written by the caller.
        device: String,
        /// What is missing, and what to do.
        reason: String,
    },
    /// A field of the request is out of range.
    #[error("invalid `{field}`: {reason}")]
    Request {
        /// The field.
        field: &'static str,
        /// What it must be.
        reason: String,
    },
    /// The prompt leaves no room in the context window.
    #[error("the prompt has {prompt} tokens, the context window holds {context}")]
    ContextFull {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens that fit.
        context: usize,
    },
    /// A file that must not be replaced is there.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// A directory differs from its manifest.
    #[error("`{file}` is not what the checkpoint's manifest says: {reason}")]
    Manifest {
        /// The file.
        file: String,
        /// What differs.
        reason: String,
    },
    /// The model produced a value that is not a number.
    #[error("the model produced {0}")]
    Numeric(String),
    /// Too many requests wait already.
    #[error("{waiting} requests wait already; try again in {retry_after_s} s")]
    Busy {
        /// How many wait.
        waiting: usize,
        /// When there will probably be room, in seconds.
        retry_after_s: u32,
    },
    /// The request can never fit the memory for keys and values.
    #[error("it may need {} of keys and values, the limit is {}", mib(*needed), mib(*limit))]
    CacheFull {
        /// What it may come to need, in bytes.
        needed: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The model does not fit the memory; said before it is loaded.
    #[error(
        "not enough memory: about {} for weights and {} for keys and values, {} are available",
        mib(*weights), mib(*cache), mib(*available)
    )]
    OutOfMemory {
        /// Bytes of the stored weights, and of what a pass computes in.
        weights: usize,
        /// Bytes of keys and values that were asked for.
        cache: usize,
        /// Bytes available.
        available: usize,
    },
    /// A step of the model panicked; the sequences of that pass are lost, and the engine works on.
    #[error("a step of the model failed: {0}")]
    Panicked(String),
    /// The caller asked to stop.
    #[error("it was cancelled")]
    Cancelled,
    /// The engine ended before the request did.
    #[error("the engine has ended")]
    Closed,
}

impl Error {
    /// Whether the caller's request is at fault, not the model or the machine.
    ///
    /// ```
    /// let error = aion_llm::Error::ContextFull { prompt: 9000, context: 8192 };
    /// assert!(error.is_bad_request());
    /// ```
    #[must_use]
    pub fn is_bad_request(&self) -> bool {
        matches!(
            self,
            Self::Request { .. }
                | Self::ContextFull { .. }
                | Self::CacheFull { .. }
                | Self::Schema(_)
                | Self::Template(_)
        )
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// Bytes of a text that a message repeats.
const MAX_SHOWN: usize = 200;

/// A text of a caller or of a file, as far as a message repeats it.
pub(crate) fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_SHOWN)]
}
