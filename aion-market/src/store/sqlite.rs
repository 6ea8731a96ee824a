//! The store in one SQLite file: write-ahead log, one writer at a time, forward-only migrations.

use std::path::Path;

use aion_sql::SqliteOptions;
use aion_types::{ForecasterId, MarketId};
use async_trait::async_trait;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::sql::{self, Engine, SCHEMA, failed};
use super::statement::Statement;
use super::{
    Batch, Logged, MarketFilter, MarketStore, MarketView, ScoreOrder, ScoreRow, Standing, StoreError,
};
use crate::engine::Snapshot;
use crate::event::StoredEvent;
use crate::ledger::Entry;

/// Markets in a SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteMarketStore {
    pool: SqlitePool,
}

impl SqliteMarketStore {
    /// Opens the file, makes it if there is none, and brings it to the newest schema.
    ///
    /// # Errors
    /// [`StoreError::NewerDatabase`] or [`StoreError::ForeignDatabase`] for a file of another
    /// program, [`StoreError::Backend`] if it cannot be opened.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::connect(SqliteOptions::file(path)).await
    }

    /// Opens a database by these options: another number of connections, other rules of syncing, a
    /// limit on the size of the file.
    ///
    /// # Errors
    /// As [`SqliteMarketStore::open`].
    pub async fn open_with(options: SqliteOptions) -> Result<Self, StoreError> {
        Self::connect(options).await
    }

    /// A database in memory, gone with the store.
    ///
    /// # Errors
    /// [`StoreError::Backend`] if SQLite fails.
    pub async fn in_memory() -> Result<Self, StoreError> {
        Self::connect(SqliteOptions::in_memory()).await
    }

    async fn connect(options: SqliteOptions) -> Result<Self, StoreError> {
        let pool = SCHEMA.open_sqlite(&options).await?;
        Ok(Self { pool })
    }

    /// Closes all connections; the file is then complete without its log.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

sql::as_market_store!(SqliteMarketStore);

#[async_trait]
impl Engine for SqliteMarketStore {
    type Row = SqliteRow;

    async fn rows(&self, query: Statement) -> Result<Vec<SqliteRow>, StoreError> {
        query.query().fetch_all(&self.pool).await.map_err(failed)
    }

    async fn transact(&self, statements: Vec<Statement>) -> Result<Option<usize>, StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let mut guarded = 0;
        for statement in statements {
            let guards = statement.has_to_change;
            let done = statement.query().execute(&mut *tx).await.map_err(failed)?;
            if guards && done.rows_affected() == 0 {
                tx.rollback().await.map_err(failed)?;
                return Ok(Some(guarded));
            }
            guarded += usize::from(guards);
        }
        tx.commit().await.map_err(failed)?;
        Ok(None)
    }
}
