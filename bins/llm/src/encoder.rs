//! A sentence encoder beside the chat model, for `/v1/embeddings`.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aion_llm::FairQueue;
use aion_service::Problem;
use aion_types::{Clock as _, SystemClock};
use tokio::sync::oneshot;
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
    turns: Arc<Mutex<Turns>>,
    at_once: usize,
    waiting: usize,
    /// How long a request took lately, in milliseconds.
    pace_ms: Arc<AtomicU64>,
}

/// Requests that run, and those that wait for their turn: clients get turns one after the other.
#[derive(Debug, Default)]
struct Turns {
    running: usize,
    waiting: FairQueue<oneshot::Sender<Turn>>,
}

/// The right to run; whoever has had it hands it on.
#[derive(Debug)]
struct Turn(Option<Arc<Mutex<Turns>>>);

fn lock(turns: &Mutex<Turns>) -> MutexGuard<'_, Turns> {
    turns.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(turns) = self.0.take() else { return };
        let mut now = lock(&turns);
        while let Some(next) = now.waiting.pop() {
            match next.send(Self(Some(Arc::clone(&turns)))) {
                Ok(()) => return,
                // It has gone, and its turn must not be handed on under the lock.
                Err(mut turn) => turn.0 = None,
            }
        }
        now.running -= 1;
    }
}

impl EncoderQueue {
    /// So many requests run at once, and so many wait beside them.
    pub(crate) fn new(encoder: Arc<dyn TextEncoder>, at_once: usize, waiting: usize) -> Self {
        Self {
            encoder,
            turns: Arc::default(),
            at_once,
            waiting,
            pace_ms: Arc::default(),
        }
    }

    /// The encoder.
    pub(crate) fn encoder(&self) -> &dyn TextEncoder {
        &*self.encoder
    }

    /// A turn, or the promise of one.
    fn enter(&self, client: &str) -> ApiResult<Result<Turn, oneshot::Receiver<Turn>>> {
        let mut now = lock(&self.turns);
        if now.running < self.at_once {
            now.running += 1;
            return Ok(Ok(Turn(Some(Arc::clone(&self.turns)))));
        }
        now.waiting.take(oneshot::Sender::is_closed);
        if now.waiting.len() >= self.waiting {
            return Err(self.full());
        }
        let (sender, receiver) = oneshot::channel();
        now.waiting.push(&Arc::from(client), sender);
        Ok(Err(receiver))
    }

    /// The vectors of the texts. Whoever stops waiting gives up the place, and the texts not yet looked at.
    pub(crate) async fn encode(&self, client: &str, texts: Vec<String>) -> ApiResult<Encoded> {
        let turn = match self.enter(client)? {
            Ok(turn) => turn,
            Err(promised) => promised.await.map_err(Problem::internal)?,
        };
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
            drop(turn);
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
