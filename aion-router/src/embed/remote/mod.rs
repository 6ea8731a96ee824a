//! [`RemoteEmbedder`]: any server that speaks OpenAI's `POST /v1/embeddings`.
//!
//! The [`Embedder`] trait waits for nothing, so a thread of its own talks to the server and the caller waits for
//! that thread: inside an async program it belongs where blocking work does.

mod call;
mod options;
mod wire;

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use aion_types::Timestamp;
use tokio::sync::mpsc::UnboundedSender;

use super::{EmbedError, Embedder, check_shape};
use call::{Caller, Job};

pub use options::RemoteOptions;

/// What a server of embeddings fails at. No message has the key or the address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The address is none.
    #[error("{0:?} is no http or https address without a password")]
    BadAddress(String),
    /// The client could not be set up.
    #[error("no client of the embedding server can be had")]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It does not answer, or breaks off.
    #[error("the embedding server cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// It did not answer in time.
    #[error("the embedding server did not answer within {0:?}")]
    TooSlow(Duration),
    /// It failed a short time ago, so it is not asked.
    #[error("the embedding server failed {ago_ms} ms ago and is left alone for {rest_ms} ms more")]
    Resting {
        /// How long ago it failed.
        ago_ms: i64,
        /// How long it is left alone.
        rest_ms: i64,
    },
    /// It answered with an error.
    #[error("the embedding server answered {0}")]
    Status(u16),
    /// Its answer is too long.
    #[error("the answer of the embedding server is longer than {0} bytes")]
    TooLong(usize),
    /// Its answer is something else: no JSON, or numbers that are none.
    #[error("the answer of the embedding server cannot be read")]
    Unreadable(#[from] serde_json::Error),
    /// It gave another number of vectors than there were texts, or not one for each.
    #[error("the embedding server gave {found} vectors for {texts} texts, or not one for each")]
    Count {
        /// How many were asked for.
        texts: usize,
        /// How many came.
        found: usize,
    },
    /// A vector has no numbers, too many, or one that is not finite.
    #[error("the embedding server gave a vector of {0} numbers that is none")]
    NoVector(usize),
}

impl RemoteError {
    /// Whether the next request would most likely fail as well.
    const fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TooSlow(_) => true,
            // 400, 413 and 422 are about these texts.
            Self::Status(code) => !matches!(code, 400 | 413 | 422),
            _ => false,
        }
    }
}

/// Embeddings by a server, scaled to length 1.
///
/// How many numbers a vector has is learned from the first answer, and held: a server that gives another number
/// later fails. Texts without words are not sent; their vectors are zero. A server that fails is left alone for a
/// while, so that rankings do not wait for it one after another.
///
/// ```
/// use aion_router::embed::remote::{RemoteEmbedder, RemoteOptions};
/// use aion_router::{Embedder, embed::embed_one};
///
/// let options = RemoteOptions::new("http://127.0.0.1:9/v1", "all-minilm").with_attempts(1);
/// let embedder = RemoteEmbedder::new(options)?;
/// assert_eq!((embedder.model_id(), embedder.dim()), ("remote:all-minilm", 0));
/// assert!(embed_one(&embedder, "nobody listens there").is_err());
/// # Ok::<(), aion_router::embed::remote::RemoteError>(())
/// ```
#[derive(Debug)]
pub struct RemoteEmbedder {
    model_id: String,
    dim: OnceLock<usize>,
    options: RemoteOptions,
    jobs: UnboundedSender<Job>,
    failed_at: Mutex<Option<Timestamp>>,
}

impl RemoteEmbedder {
    /// An embedder that has not asked its server anything yet.
    ///
    /// # Errors
    /// [`RemoteError::BadAddress`], [`RemoteError::Setup`].
    pub fn new(options: RemoteOptions) -> Result<Self, RemoteError> {
        let dim = options.dim.map_or_else(OnceLock::new, OnceLock::from);
        Ok(Self {
            model_id: format!("remote:{}", options.model),
            dim,
            jobs: call::start(Caller::new(&options)?)?,
            failed_at: Mutex::new(None),
            options,
        })
    }

    /// Vectors of texts that have words.
    fn ask(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, RemoteError> {
        self.check_rest()?;
        let answer = call::ask(&self.jobs, texts, self.dim.get().copied());
        match &answer {
            Ok(_) => self.note(None),
            Err(error) if error.is_outage() => self.note(Some(self.options.clock.now())),
            Err(_) => {}
        }
        answer
    }

    fn check_rest(&self) -> Result<(), RemoteError> {
        let failed_at = *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(failed_at) = failed_at else { return Ok(()) };
        let ago_ms = self.options.clock.now().since_ms(failed_at);
        let rest_ms = self.options.rest_ms.saturating_sub(ago_ms);
        // A clock that was set back does not keep the server away for longer.
        if rest_ms <= 0 || ago_ms < 0 {
            return Ok(());
        }
        Err(RemoteError::Resting { ago_ms, rest_ms })
    }

    fn note(&self, failed_at: Option<Timestamp>) {
        *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = failed_at;
    }

    fn failed(&self, error: RemoteError) -> EmbedError {
        EmbedError::Failed {
            model: self.model_id.clone(),
            source: Box::new(error),
        }
    }

    /// The vectors of a batch, all of the dimension that is held.
    fn vectors(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
        let vectors = self.ask(texts).map_err(|error| self.failed(error))?;
        let found = vectors.first().map_or(0, Vec::len);
        let dim = *self.dim.get_or_init(|| found);
        match vectors.iter().find(|vector| vector.len() != dim) {
            None => Ok(vectors),
            Some(other) => Err(EmbedError::Dimension {
                model: self.model_id.clone(),
                dim,
                found: other.len(),
            }),
        }
    }
}

impl Embedder for RemoteEmbedder {
    fn model_id(&self) -> &str {
        &self.model_id
    }

    fn dim(&self) -> usize {
        self.dim.get().copied().unwrap_or(0)
    }

    fn ask_dim(&self) -> Result<usize, EmbedError> {
        if self.dim() == 0 {
            self.vectors(vec!["dimension".to_owned()])?;
        }
        Ok(self.dim())
    }

    fn embed(&self, texts: &[&str], out: &mut [f32]) -> Result<(), EmbedError> {
        let dim = self.ask_dim()?;
        check_shape(self, texts.len(), out)?;
        out.fill(0.0);
        let asked: Vec<usize> = (0..texts.len())
            .filter(|i| !texts[*i].trim().is_empty())
            .collect();
        for batch in asked.chunks(self.options.batch) {
            let cut = |i: &usize| {
                let text = texts[*i];
                text[..text.floor_char_boundary(self.options.max_text_bytes)].to_owned()
            };
            let vectors = self.vectors(batch.iter().map(cut).collect())?;
            for (i, vector) in batch.iter().zip(vectors) {
                out[i * dim..][..dim].copy_from_slice(&vector);
            }
        }
        Ok(())
    }
}
