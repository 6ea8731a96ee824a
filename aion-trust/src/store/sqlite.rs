//! The ledger in one SQLite file: write-ahead log, forward-only migrations.

use std::path::Path;

use aion_sql::SqliteOptions;
use aion_types::{ForecasterId, MarketId};
use async_trait::async_trait;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row, SqliteConnection};

use super::sql::{SCHEMA, account, failed, int, rows, settlement};
use super::{Change, LedgerStore, Revision, StoreError};
use crate::ledger::{Account, Settlement};

/// Trust in a SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteLedgerStore {
    pool: SqlitePool,
}

impl SqliteLedgerStore {
    /// Opens the file, makes it if there is none, and brings it to the newest schema.
    ///
    /// # Errors
    /// [`StoreError::NewerDatabase`] or [`StoreError::ForeignDatabase`] for a file of another
    /// program, [`StoreError::Backend`] if it cannot be opened.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::connect(SqliteOptions::file(path).with_connections(2)).await
    }

    /// Opens a database by these options: another number of connections, other rules of syncing, a
    /// limit on the size of the file.
    ///
    /// # Errors
    /// As [`SqliteLedgerStore::open`].
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

async fn number(connection: &mut SqliteConnection, sql: &'static str) -> Result<i64, StoreError> {
    sqlx::query_scalar(sql)
        .fetch_one(connection)
        .await
        .map_err(failed)
}

#[async_trait]
impl LedgerStore for SqliteLedgerStore {
    async fn accounts(&self, ids: &[ForecasterId]) -> Result<(Revision, Vec<Account>), StoreError> {
        // One transaction, so that the accounts are of the revision.
        let mut tx = self.pool.begin().await.map_err(failed)?;
        let revision = number(&mut tx, "SELECT revision FROM ledger").await?;
        let mut found = Vec::new();
        for id in ids {
            let sql = "SELECT id, balance, granted, settlements FROM account WHERE id = ?";
            let row = sqlx::query(sql).bind(id.as_str()).fetch_optional(&mut *tx).await;
            found.extend(row.map_err(failed)?.as_ref().map(read_account).transpose()?);
        }
        tx.commit().await.map_err(failed)?;
        Ok((Revision::new(revision.unsigned_abs()), found))
    }

    async fn list(&self, limit: usize) -> Result<Vec<Account>, StoreError> {
        let sql = "SELECT id, balance, granted, settlements FROM account
                   ORDER BY balance DESC, id LIMIT ?";
        let query = sqlx::query(sql).bind(rows(limit));
        let found = query.fetch_all(&self.pool).await.map_err(failed)?;
        found.iter().map(read_account).collect()
    }

    async fn settlement(&self, market: MarketId) -> Result<Option<Settlement>, StoreError> {
        let query = sqlx::query_scalar("SELECT body FROM settlement WHERE market_id = ?");
        let body: Option<String> = query
            .bind(market.as_bytes().as_slice())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        body.as_deref().map(settlement).transpose()
    }

    async fn commit(&self, expected: Revision, change: &Change) -> Result<(), StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let found = number(&mut tx, "SELECT revision FROM ledger")
            .await?
            .unsigned_abs();
        let market = change.settlement.market.as_bytes().as_slice();
        let settled = sqlx::query("SELECT 1 FROM settlement WHERE market_id = ?").bind(market);
        let settled = settled.fetch_optional(&mut *tx).await.map_err(failed)?;
        if found != expected.get() || settled.is_some() {
            return Err(StoreError::Conflict {
                expected: expected.get(),
                found,
            });
        }
        put(&mut tx, found + 1, change).await?;
        tx.commit().await.map_err(failed)
    }
}

async fn put(tx: &mut SqliteConnection, revision: u64, change: &Change) -> Result<(), StoreError> {
    let body = serde_json::to_string(&change.settlement).map_err(StoreError::backend)?;
    let revise = sqlx::query("UPDATE ledger SET revision = ?").bind(int(revision));
    revise.execute(&mut *tx).await.map_err(failed)?;
    sqlx::query("INSERT INTO settlement (market_id, revision, body) VALUES (?, ?, ?)")
        .bind(change.settlement.market.as_bytes().as_slice())
        .bind(int(revision))
        .bind(body)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    let sql = "INSERT INTO account (id, balance, granted, settlements) VALUES (?, ?, ?, ?)
               ON CONFLICT (id) DO UPDATE SET
               balance = excluded.balance, settlements = excluded.settlements";
    for account in &change.accounts {
        sqlx::query(sql)
            .bind(account.id.as_str())
            .bind(int(account.balance.get()))
            .bind(int(account.granted.get()))
            .bind(int(account.settlements))
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

fn read_account(row: &SqliteRow) -> Result<Account, StoreError> {
    let number = |i: usize| row.try_get::<i64, _>(i).map_err(failed);
    account(
        row.try_get(0).map_err(failed)?,
        number(1)?,
        number(2)?,
        number(3)?,
    )
}
