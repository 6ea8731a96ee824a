//! Where a catalog, its embeddings and the log of decisions are kept.

mod judge;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::fmt::Debug;

use async_trait::async_trait;

use crate::engine::LogEntry;
use crate::item::{ContentHash, Item, ItemId};

pub use judge::{Judged, Known, judge};
pub use memory::MemoryRouterStore;
#[cfg(feature = "postgres")]
pub use postgres::PostgresRouterStore;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteRouterStore;

/// The most rows of one answer.
pub const MAX_PAGE: usize = 10_000;

/// What a store refused or failed at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// An outcome whose decision the store does not have.
    #[error("the log has no such decision")]
    UnknownDecision,
    /// A decision, or an outcome, that the store has already.
    #[error("the log has this decision or its outcome already")]
    Twice,
    /// A database of a newer or another program, or one that cannot be had.
    #[error("the router's database cannot be opened")]
    Open(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A row that cannot be read.
    #[error("a stored {what} cannot be read")]
    Corrupt {
        /// What it should have been.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine below failed.
    #[error("the router's store failed")]
    Backend(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A page of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogPage {
    /// Entries with their numbers, rising.
    pub entries: Vec<(u64, LogEntry)>,
}

/// What became of items that were put.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Put {
    /// What is approved of them, by item.
    pub approved: Vec<(ItemId, ContentHash)>,
    /// What was forgotten of them, with the numbers of the log, rising.
    pub forgot: Vec<(u64, ItemId)>,
}

impl Put {
    /// What was judged, its entries numbered.
    fn new(judged: Judged, numbers: impl IntoIterator<Item = u64>) -> Self {
        Self {
            approved: judged.approved.into_iter().collect(),
            forgot: numbers.into_iter().zip(judged.forgot).collect(),
        }
    }
}

/// Keeps what a router must not lose. Every method is one transaction.
#[async_trait]
pub trait RouterStore: Debug + Send + Sync + 'static {
    /// Counts an opening by a router; how many there were before.
    async fn open_again(&self) -> Result<u64, StoreError>;

    /// Adds items, each replacing the one of the same id, with what [`judge`] says of them by what is stored: first pins
    /// and entries of the log. All of it or nothing.
    async fn put_items(&self, items: &[Item]) -> Result<Put, StoreError>;

    /// Takes an item out, and keeps the digest of what it said; whether it was there.
    async fn remove_item(&self, id: &ItemId) -> Result<bool, StoreError>;

    /// Items after an id, by id, at most `limit` and [`MAX_PAGE`].
    async fn items(&self, after: Option<&ItemId>, limit: usize) -> Result<Vec<Item>, StoreError>;

    /// Notes what was approved of an item.
    async fn approve(&self, id: &ItemId, hash: ContentHash) -> Result<(), StoreError>;

    /// What was approved, by item.
    async fn approved(&self) -> Result<Vec<(ItemId, ContentHash)>, StoreError>;

    /// Keeps the vector of a text under the digest of its model and words
    /// ([`EmbeddingCache::key`](crate::EmbeddingCache::key)).
    async fn put_embedding(&self, key: [u8; 32], vector: &[f32]) -> Result<(), StoreError>;

    /// The vector under a digest.
    async fn embedding(&self, key: [u8; 32]) -> Result<Option<Vec<f32>>, StoreError>;

    /// Digests after one, rising, at most `limit` and [`MAX_PAGE`].
    async fn embedding_keys(
        &self,
        after: Option<[u8; 32]>,
        limit: usize,
    ) -> Result<Vec<[u8; 32]>, StoreError>;

    /// Takes out the vectors under these digests; how many there were.
    async fn remove_embeddings(&self, keys: &[[u8; 32]]) -> Result<u64, StoreError>;

    /// Appends to the log; the number of the entry, one more than that of the last one.
    ///
    /// A decision or an outcome comes once ([`StoreError::Twice`]), an outcome after its decision
    /// ([`StoreError::UnknownDecision`]).
    async fn append(&self, entry: &LogEntry) -> Result<u64, StoreError>;

    /// The log after an entry, as far as it is kept, at most `limit` and [`MAX_PAGE`].
    async fn log(&self, after: u64, limit: usize) -> Result<LogPage, StoreError>;

    /// Keeps what was learned from the log up to entry `at`, unless the store has that of a later entry, and takes
    /// out of the log what comes before its latest `decisions` decisions, nothing of it after `at`.
    async fn keep_learned(&self, at: u64, learned: &[u8], decisions: usize) -> Result<(), StoreError>;

    /// What was learned last, and up to which entry.
    async fn learned(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError>;
}
