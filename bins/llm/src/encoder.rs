//! A sentence encoder beside the chat model, for `/v1/embeddings`.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aion_service::Problem;
use aion_types::{Clock as _, SystemClock};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_blocking;

use crate::error::{ApiError, ApiResult};

/// Texts between two looks at whether anybody still waits for them.
const TEXTS_AT_ONCE: usize = 4;

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

/// What an encoder made of texts: their vectors, and how many tokens they have.
type Encoded = (Vec<Vec<f32>>, usize);

/// An encoder with those who wait for it.
#[derive(Debug, Clone)]
pub(crate) struct EncoderQueue {
    encoder: Arc<dyn TextEncoder>,
    /// One for each request that runs or waits.
    places: Arc<Semaphore>,
    /// One for each request that runs.
    turns: Arc<Semaphore>,
    at_once: usize,
    waiting: usize,
    /// How long a request took lately, in milliseconds.
    pace_ms: Arc<AtomicU64>,
}

impl EncoderQueue {
    /// So many requests run at once, and so many wait beside them.
    pub(crate) fn new(encoder: Arc<dyn TextEncoder>, at_once: usize, waiting: usize) -> Self {
        let places = at_once.saturating_add(waiting).min(Semaphore::MAX_PERMITS);
        Self {
            encoder,
            places: Arc::new(Semaphore::new(places)),
            turns: Arc::new(Semaphore::new(at_once.min(Semaphore::MAX_PERMITS))),
            at_once,
            waiting,
            pace_ms: Arc::default(),
        }
    }

    /// The encoder.
    pub(crate) fn encoder(&self) -> &dyn TextEncoder {
        &*self.encoder
    }

    /// The vectors of the texts. Whoever stops waiting gives up the place, and the texts not yet looked at.
    pub(crate) async fn encode(&self, texts: Vec<String>) -> ApiResult<Encoded> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| self.full())?;
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(Problem::internal)?;
        let (sender, receiver) = oneshot::channel();
        let (encoder, pace_ms) = (Arc::clone(&self.encoder), Arc::clone(&self.pace_ms));
        spawn_blocking(move || {
            let begun = SystemClock.now();
            let result = encode_while_wanted(&*encoder, &texts, &sender);
            let took = SystemClock.now().since_ms(begun).max(1).cast_unsigned();
            pace_ms.store(
                (3 * pace_ms.load(Ordering::Relaxed) + took) / 4,
                Ordering::Relaxed,
            );
            // Others come when the work has ended, not when its asker has gone.
            drop((place, turn));
            drop(sender.send(result));
        });
        let failed = |reason: String| ApiError(Problem::internal(reason));
        let result = receiver.await;
        result
            .map_err(|_| failed("the encoder failed".into()))?
            .map_err(failed)
    }

    fn full(&self) -> ApiError {
        let waiting = self.waiting;
        let ms = self
            .pace_ms
            .load(Ordering::Relaxed)
            .saturating_mul(waiting as u64 + 1);
        let seconds = ms.div_ceil(1000 * self.at_once.max(1) as u64).clamp(1, 60);
        let detail = format!("{waiting} requests wait for the encoder already; try again in {seconds} s");
        ApiError(Problem::too_many("queue_full", detail, seconds as u32))
    }
}

/// Encodes part by part, until nobody waits for the result.
fn encode_while_wanted<T>(
    encoder: &dyn TextEncoder,
    texts: &[String],
    asker: &oneshot::Sender<T>,
) -> Result<Encoded, String> {
    let (mut vectors, mut tokens) = (Vec::with_capacity(texts.len()), 0);
    for part in texts.chunks(TEXTS_AT_ONCE) {
        if asker.is_closed() {
            return Err("nobody waits for it".into());
        }
        let part: Vec<&str> = part.iter().map(String::as_str).collect();
        let (more, count) = encoder.encode(&part)?;
        vectors.extend(more);
        tokens += count;
    }
    Ok((vectors, tokens))
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
