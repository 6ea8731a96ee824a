//! The ledger in a Postgres database: a change locks the revision, so changes take turns.

use aion_sql::PostgresOptions;
use aion_types::{ForecasterId, MarketId};
use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgPool, PgRow};

use super::sql::{SCHEMA, account, failed, int, rows, settlement};
use super::{Change, LedgerStore, Revision, StoreError};
use crate::ledger::{Account, Settlement};

/// Trust in a Postgres database.
#[derive(Debug, Clone)]
pub struct PostgresLedgerStore {
    pool: PgPool,
}

impl PostgresLedgerStore {
    /// Connects, and brings the schema `aion_trust` to the newest version.
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

#[async_trait]
impl LedgerStore for PostgresLedgerStore {
    async fn accounts(&self, ids: &[ForecasterId]) -> Result<(Revision, Vec<Account>), StoreError> {
        // One snapshot, so that the accounts are of the revision.
        let snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let mut tx = self.pool.begin_with(snapshot).await.map_err(failed)?;
        let revision: i64 = sqlx::query_scalar("SELECT revision FROM ledger")
            .fetch_one(&mut *tx)
            .await
            .map_err(failed)?;
        let names: Vec<&str> = ids.iter().map(ForecasterId::as_str).collect();
        let sql = "SELECT id, balance, granted, settlements FROM account WHERE id = ANY($1)";
        let found = sqlx::query(sql).bind(names).fetch_all(&mut *tx).await;
        let found = found
            .map_err(failed)?
            .iter()
            .map(read_account)
            .collect::<Result<_, _>>()?;
        tx.commit().await.map_err(failed)?;
        Ok((Revision::new(revision.unsigned_abs()), found))
    }

    async fn list(&self, limit: usize) -> Result<Vec<Account>, StoreError> {
        let sql = "SELECT id, balance, granted, settlements FROM account
                   ORDER BY balance DESC, id LIMIT $1";
        let query = sqlx::query(sql).bind(rows(limit));
        let found = query.fetch_all(&self.pool).await.map_err(failed)?;
        found.iter().map(read_account).collect()
    }

    async fn settlement(&self, market: MarketId) -> Result<Option<Settlement>, StoreError> {
        let query = sqlx::query_scalar("SELECT body FROM settlement WHERE market_id = $1");
        let body: Option<String> = query
            .bind(market.as_bytes().as_slice())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        body.as_deref().map(settlement).transpose()
    }

    async fn commit(&self, expected: Revision, change: &Change) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await.map_err(failed)?;
        let turn = sqlx::query_scalar("SELECT revision FROM ledger FOR UPDATE");
        let found: i64 = turn.fetch_one(&mut *tx).await.map_err(failed)?;
        let found = found.unsigned_abs();
        let settled = sqlx::query("SELECT 1 FROM settlement WHERE market_id = $1")
            .bind(change.settlement.market.as_bytes().as_slice())
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed)?;
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

async fn put(tx: &mut PgConnection, revision: u64, change: &Change) -> Result<(), StoreError> {
    let body = serde_json::to_string(&change.settlement).map_err(StoreError::backend)?;
    let revise = sqlx::query("UPDATE ledger SET revision = $1").bind(int(revision));
    revise.execute(&mut *tx).await.map_err(failed)?;
    sqlx::query("INSERT INTO settlement (market_id, revision, body) VALUES ($1, $2, $3)")
        .bind(change.settlement.market.as_bytes().as_slice())
        .bind(int(revision))
        .bind(body)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    let sql = "INSERT INTO account (id, balance, granted, settlements) VALUES ($1, $2, $3, $4)
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

fn read_account(row: &PgRow) -> Result<Account, StoreError> {
    let number = |i: usize| row.try_get::<i64, _>(i).map_err(failed);
    account(
        row.try_get(0).map_err(failed)?,
        number(1)?,
        number(2)?,
        number(3)?,
    )
}
