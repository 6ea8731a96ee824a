//! Where trust is kept: a small trait with compare-and-set.

mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::fmt::Debug;

use aion_types::{ForecasterId, MarketId};
use async_trait::async_trait;

use crate::ledger::{Account, Settlement};

pub use memory::MemoryLedgerStore;
#[cfg(feature = "postgres")]
pub use postgres::PostgresLedgerStore;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteLedgerStore;

/// How often the ledger has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(u64);

impl Revision {
    /// The revision after so many changes.
    pub const fn new(changes: u64) -> Self {
        Self(changes)
    }

    /// The number of changes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// What one settlement writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The accounts as they are afterwards.
    pub accounts: Vec<Account>,
    /// The settlement.
    pub settlement: Settlement,
}

/// What a store refused or failed at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Somebody else changed the ledger first, or settled the market.
    #[error("the ledger is at revision {found}, not at {expected}")]
    Conflict {
        /// What the writer expected.
        expected: u64,
        /// What the store has.
        found: u64,
    },
    /// A file written by a newer program.
    #[error("the database has schema {found}, newer than the newest one known here, {newest}")]
    NewerDatabase {
        /// The schema of the file.
        found: u32,
        /// The newest schema that this program knows.
        newest: u32,
    },
    /// A file that belongs to another program.
    #[error("the file is no trust database: its application id is {found:#x}")]
    ForeignDatabase {
        /// The application id of the file.
        found: i64,
    },
    /// The disk, or what the database may have of it, is full. Nothing was written.
    #[error("the storage of the ledger is full")]
    StorageFull(#[source] Box<dyn std::error::Error + Send + Sync>),
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
    #[error("the trust store failed")]
    Backend(#[source] Box<dyn std::error::Error + Send + Sync>),
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl From<aion_sql::OpenError> for StoreError {
    fn from(error: aion_sql::OpenError) -> Self {
        match error {
            aion_sql::OpenError::Newer { found, newest } => Self::NewerDatabase { found, newest },
            aion_sql::OpenError::Foreign { found } => Self::ForeignDatabase { found },
            other => Self::backend(other),
        }
    }
}

impl StoreError {
    /// A failure of the engine below.
    pub fn backend(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Backend(Box::new(source))
    }

    /// A row that cannot be read.
    pub fn corrupt(what: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Corrupt {
            what,
            source: Box::new(source),
        }
    }
}

/// Where trust is kept.
#[async_trait]
pub trait LedgerStore: Debug + Send + Sync + 'static {
    /// The accounts of these names that exist, in any order, with the revision that they are of.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    async fn accounts(&self, ids: &[ForecasterId]) -> Result<(Revision, Vec<Account>), StoreError>;

    /// Accounts by trust, the largest first, then by id.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    async fn list(&self, limit: usize) -> Result<Vec<Account>, StoreError>;

    /// How a market was settled.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    async fn settlement(&self, market: MarketId) -> Result<Option<Settlement>, StoreError>;

    /// Writes a change iff the stored revision equals `expected` and the market is not settled.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] otherwise; nothing is written then.
    async fn commit(&self, expected: Revision, change: &Change) -> Result<(), StoreError>;
}
