//! [`EmbeddingCache`]: vectors by model and digest of the text, so that no text is embedded twice.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::{EmbedError, Embedder, embed_one};

type Key = [u8; 32];

/// The vectors of the last texts in memory; the oldest goes when there is no room.
///
/// ```
/// use aion_router::{EmbeddingCache, HashingEmbedder};
///
/// let cache = EmbeddingCache::new(1_000);
/// let first = cache.get_or_embed(&HashingEmbedder, "read a file")?;
/// let again = cache.get_or_embed(&HashingEmbedder, "read a file")?;
/// assert!(std::sync::Arc::ptr_eq(&first, &again));
/// # Ok::<(), aion_router::embed::EmbedError>(())
/// ```
#[derive(Debug)]
pub struct EmbeddingCache {
    room: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    vectors: HashMap<Key, Arc<[f32]>>,
    order: VecDeque<Key>,
}

impl EmbeddingCache {
    /// A cache for so many texts.
    pub fn new(texts: usize) -> Self {
        Self {
            room: texts,
            kept: Mutex::default(),
        }
    }

    /// The vector of a text, made if it is not there.
    ///
    /// # Errors
    /// Those of the embedder; what fails is not kept.
    pub fn get_or_embed(&self, embedder: &dyn Embedder, text: &str) -> Result<Arc<[f32]>, EmbedError> {
        let key = Self::key(embedder.model_id(), text);
        if let Some(vector) = self.lock().vectors.get(&key) {
            return Ok(vector.clone());
        }
        let vector: Arc<[f32]> = embed_one(embedder, text)?.into();
        self.put(key, vector.clone());
        Ok(vector)
    }

    /// The digest under which a text of a model is kept.
    pub fn key(model: &str, text: &str) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(model.len() as u64).to_le_bytes());
        hasher.update(model.as_bytes());
        hasher.update(text.as_bytes());
        *hasher.finalize().as_bytes()
    }

    /// How many texts it has.
    pub fn len(&self) -> usize {
        self.lock().vectors.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn put(&self, key: Key, vector: Arc<[f32]>) {
        let mut kept = self.lock();
        if self.room == 0 {
            return;
        }
        if kept.vectors.insert(key, vector).is_none() {
            kept.order.push_back(key);
        }
        if kept.order.len() > self.room
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.vectors.remove(&oldest);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
