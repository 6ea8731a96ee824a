//! The ledger in one SQLite file: write-ahead log, forward-only migrations.

use std::path::Path;
use std::time::Duration;

use aion_types::{ForecasterId, MarketId, MilliTrust};
use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow};
use sqlx::{Connection, Row, SqliteConnection};

use super::{Change, LedgerStore, Revision, StoreError};
use crate::ledger::{Account, Settlement};

/// "Aitr": the mark of a trust database in its header.
const APPLICATION_ID: i64 = 0x4169_7472;
const MIGRATIONS: [&str; 1] = [include_str!("migrations/0001_trust.sql")];
const NEWEST: i64 = MIGRATIONS.len() as i64;
const MAX_ROWS: usize = 100_000;

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
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
        Self::connect(options.journal_mode(SqliteJournalMode::Wal), 2).await
    }

    /// A database in memory, gone with the store.
    ///
    /// # Errors
    /// [`StoreError::Backend`] if SQLite fails.
    pub async fn in_memory() -> Result<Self, StoreError> {
        Self::connect(SqliteConnectOptions::new().in_memory(true), 1).await
    }

    async fn connect(options: SqliteConnectOptions, connections: u32) -> Result<Self, StoreError> {
        let options = options.foreign_keys(true).busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new()
            .max_connections(connections)
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await
            .map_err(StoreError::backend)?;
        let mut connection = pool.acquire().await.map_err(StoreError::backend)?;
        migrate(&mut connection).await?;
        drop(connection);
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
        .map_err(StoreError::backend)
}

async fn migrate(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let mut tx = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(StoreError::backend)?;
    let owner = number(&mut tx, "PRAGMA application_id").await?;
    let version = number(&mut tx, "PRAGMA user_version").await?;
    let tables = number(&mut tx, "SELECT count(*) FROM sqlite_schema").await?;
    if owner != APPLICATION_ID && (owner != 0 || version != 0 || tables != 0) {
        return Err(StoreError::ForeignDatabase { found: owner });
    }
    if version > NEWEST {
        return Err(StoreError::NewerDatabase {
            found: version,
            newest: NEWEST,
        });
    }
    for sql in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(0)) {
        sqlx::raw_sql(*sql)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::backend)?;
    }
    let stamp = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {NEWEST}");
    let stamp = sqlx::AssertSqlSafe(stamp);
    sqlx::raw_sql(stamp)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::backend)?;
    tx.commit().await.map_err(StoreError::backend)
}

#[async_trait]
impl LedgerStore for SqliteLedgerStore {
    async fn accounts(&self, ids: &[ForecasterId]) -> Result<(Revision, Vec<Account>), StoreError> {
        // One transaction, so that the accounts are of the revision.
        let mut tx = self.pool.begin().await.map_err(StoreError::backend)?;
        let revision = number(&mut tx, "SELECT revision FROM ledger").await?;
        let mut found = Vec::new();
        for id in ids {
            let sql = "SELECT id, balance, granted, settlements FROM account WHERE id = ?";
            let row = sqlx::query(sql).bind(id.as_str()).fetch_optional(&mut *tx).await;
            found.extend(
                row.map_err(StoreError::backend)?
                    .as_ref()
                    .map(read_account)
                    .transpose()?,
            );
        }
        tx.commit().await.map_err(StoreError::backend)?;
        Ok((Revision::new(revision.unsigned_abs()), found))
    }

    async fn list(&self, limit: usize) -> Result<Vec<Account>, StoreError> {
        let sql = "SELECT id, balance, granted, settlements FROM account
                   ORDER BY balance DESC, id LIMIT ?";
        let query = sqlx::query(sql).bind(int(limit.min(MAX_ROWS) as u64));
        let rows = query.fetch_all(&self.pool).await.map_err(StoreError::backend)?;
        rows.iter().map(read_account).collect()
    }

    async fn settlement(&self, market: MarketId) -> Result<Option<Settlement>, StoreError> {
        let query = sqlx::query_scalar("SELECT body FROM settlement WHERE market_id = ?");
        let body: Option<String> = query
            .bind(market.as_bytes().as_slice())
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::backend)?;
        let read = |body: String| serde_json::from_str(&body);
        body.map(read)
            .transpose()
            .map_err(|error| StoreError::corrupt("settlement", error))
    }

    async fn commit(&self, expected: Revision, change: &Change) -> Result<(), StoreError> {
        let mut tx = self
            .pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(StoreError::backend)?;
        let found = number(&mut tx, "SELECT revision FROM ledger")
            .await?
            .unsigned_abs();
        let market = change.settlement.market.as_bytes().as_slice();
        let settled = sqlx::query("SELECT 1 FROM settlement WHERE market_id = ?").bind(market);
        let settled = settled
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::backend)?;
        if found != expected.get() || settled.is_some() {
            return Err(StoreError::Conflict {
                expected: expected.get(),
                found,
            });
        }
        put(&mut tx, found + 1, change).await?;
        tx.commit().await.map_err(StoreError::backend)
    }
}

async fn put(tx: &mut SqliteConnection, revision: u64, change: &Change) -> Result<(), StoreError> {
    let body = serde_json::to_string(&change.settlement).map_err(StoreError::backend)?;
    let revise = sqlx::query("UPDATE ledger SET revision = ?").bind(int(revision));
    revise.execute(&mut *tx).await.map_err(StoreError::backend)?;
    sqlx::query("INSERT INTO settlement (market_id, revision, body) VALUES (?, ?, ?)")
        .bind(change.settlement.market.as_bytes().as_slice())
        .bind(int(revision))
        .bind(body)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::backend)?;
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
            .map_err(StoreError::backend)?;
    }
    Ok(())
}

fn read_account(row: &SqliteRow) -> Result<Account, StoreError> {
    let id: String = row.try_get(0).map_err(StoreError::backend)?;
    let number = |i: usize| {
        row.try_get::<i64, _>(i)
            .map(i64::unsigned_abs)
            .map_err(StoreError::backend)
    };
    Ok(Account {
        id: ForecasterId::new(id).map_err(|error| StoreError::corrupt("account", error))?,
        balance: MilliTrust::new(number(1)?),
        granted: MilliTrust::new(number(2)?),
        settlements: number(3)?,
    })
}

fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
