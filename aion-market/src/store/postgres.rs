//! The store in a Postgres database: one row a transfer, one writer at a time, forward-only migrations.
//!
//! A commit first takes the table `log`, so commits take turns and the places of events never appear late;
//! readers wait for nobody.

use aion_sql::PostgresOptions;
use aion_types::{ForecasterId, MarketId};
use async_trait::async_trait;
use sqlx::postgres::{PgPool, PgRow};

use super::sql::{self, Engine, SCHEMA, failed};
use super::statement::Statement;
use super::{
    Batch, Logged, MarketFilter, MarketStore, MarketView, ScoreOrder, ScoreRow, Standing, StoreError,
};
use crate::engine::Snapshot;
use crate::event::StoredEvent;
use crate::ledger::Entry;

/// Markets in a Postgres database.
#[derive(Debug, Clone)]
pub struct PostgresMarketStore {
    pool: PgPool,
}

impl PostgresMarketStore {
    /// Connects, and brings the schema `aion_market` to the newest version.
    ///
    /// # Errors
    /// [`StoreError::NewerDatabase`] or [`StoreError::ForeignDatabase`] for a schema of another
    /// program, [`StoreError::Backend`] if the server cannot be used.
    pub async fn open(options: &PostgresOptions) -> Result<Self, StoreError> {
        let pool = SCHEMA.open_postgres(options).await?;
        Ok(Self { pool })
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

sql::as_market_store!(PostgresMarketStore);

#[async_trait]
impl Engine for PostgresMarketStore {
    type Row = PgRow;

    async fn rows(&self, query: Statement) -> Result<Vec<PgRow>, StoreError> {
        query.query().fetch_all(&self.pool).await.map_err(failed)
    }

    async fn transact(&self, statements: Vec<Statement>) -> Result<Option<usize>, StoreError> {
        let mut tx = self.pool.begin().await.map_err(failed)?;
        let turn = sqlx::query("LOCK TABLE log IN EXCLUSIVE MODE");
        turn.execute(&mut *tx).await.map_err(failed)?;
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
