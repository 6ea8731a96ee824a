//! The store in one SQLite file: write-ahead log, one writer at a time, forward-only migrations.

use std::path::Path;

use aion_sql::{Schema, SqliteOptions};
use aion_types::{ForecasterId, MarketId, MicroBits};
use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row, SqliteConnection};

use super::{
    Batch, CursorMove, Logged, MarketFilter, MarketStore, MarketView, MarketWrite, ScoreRow, Standing,
    StoreError,
};
use crate::event::StoredEvent;
use crate::ledger::{Asset, Entry};

const SCHEMA: Schema = Schema {
    name: "aion_market",
    application_id: 0x4169_6d6b, // "Aimk"
    sqlite: &[
        include_str!("migrations/0001_markets.sql"),
        include_str!("migrations/0002_log.sql"),
    ],
    postgres: &[],
};
const MAX_ROWS: usize = 100_000;

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

#[async_trait]
impl MarketStore for SqliteMarketStore {
    async fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        batch.check_balance()?;
        let mut tx = self
            .pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(StoreError::backend)?;
        for write in &batch.writes {
            put_market(&mut tx, write).await?;
            put_events(&mut tx, write).await?;
            put_entries(&mut tx, write).await?;
            put_scores(&mut tx, write).await?;
        }
        if let Some(cursor) = &batch.cursor {
            move_cursor(&mut tx, cursor).await?;
        }
        tx.commit().await.map_err(StoreError::backend)
    }

    async fn events(
        &self,
        market: MarketId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let sql = "SELECT body FROM event WHERE market_id = ? AND seq > ? ORDER BY seq LIMIT ?";
        let query = sqlx::query(sql)
            .bind(market.as_bytes().as_slice())
            .bind(int(after))
            .bind(rows(limit));
        let found = query.fetch_all(&self.pool).await.map_err(StoreError::backend)?;
        found.iter().map(|row| read(row, 0, "event")).collect()
    }

    async fn log(&self, after: u64, limit: usize) -> Result<Vec<Logged>, StoreError> {
        let sql = "SELECT log.place, log.market_id, event.body FROM log
                   JOIN event ON event.market_id = log.market_id AND event.seq = log.seq
                   WHERE log.place > ? ORDER BY log.place LIMIT ?";
        let query = sqlx::query(sql).bind(int(after)).bind(rows(limit));
        let found = query.fetch_all(&self.pool).await.map_err(StoreError::backend)?;
        found.iter().map(read_logged).collect()
    }

    async fn view(&self, market: MarketId) -> Result<Option<MarketView>, StoreError> {
        let query = sqlx::query("SELECT view FROM market WHERE id = ?").bind(market.as_bytes().as_slice());
        let found = query
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::backend)?;
        found.as_ref().map(|row| read(row, 0, "market")).transpose()
    }

    async fn views(&self, filter: &MarketFilter, limit: usize) -> Result<Vec<MarketView>, StoreError> {
        let sql = match (&filter.kind, filter.status) {
            (Some(_), _) => {
                "SELECT view FROM market WHERE (?1 IS NULL OR id < ?1) AND kind = ?2
                 AND (?3 IS NULL OR status = ?3) ORDER BY id DESC LIMIT ?4"
            }
            (None, Some(_)) => {
                "SELECT view FROM market WHERE (?1 IS NULL OR id < ?1) AND status = ?3
                 AND ?2 IS NULL ORDER BY id DESC LIMIT ?4"
            }
            (None, None) => {
                "SELECT view FROM market WHERE (?1 IS NULL OR id < ?1)
                 AND ?2 IS NULL AND ?3 IS NULL ORDER BY id DESC LIMIT ?4"
            }
        };
        let query = sqlx::query(sql)
            .bind(filter.before.map(|id| id.as_bytes().to_vec()))
            .bind(filter.kind.clone())
            .bind(filter.status.map(super::MarketStatus::as_str))
            .bind(rows(limit));
        let found = query.fetch_all(&self.pool).await.map_err(StoreError::backend)?;
        found.iter().map(|row| read(row, 0, "market")).collect()
    }

    async fn entries(&self, market: MarketId, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let sql = "SELECT seq, account, outcome, amount FROM entry WHERE market_id = ?
                   ORDER BY seq, line LIMIT ?";
        let query = sqlx::query(sql)
            .bind(market.as_bytes().as_slice())
            .bind(rows(limit));
        let found = query.fetch_all(&self.pool).await.map_err(StoreError::backend)?;
        found.iter().map(read_entry).collect()
    }

    async fn scores(&self, forecaster: &ForecasterId, limit: usize) -> Result<Vec<ScoreRow>, StoreError> {
        let sql = "SELECT body FROM score WHERE forecaster = ?
                   ORDER BY resolved_at DESC, market_id DESC LIMIT ?";
        let query = sqlx::query(sql).bind(forecaster.as_str()).bind(rows(limit));
        let found = query.fetch_all(&self.pool).await.map_err(StoreError::backend)?;
        found.iter().map(|row| read(row, 0, "score")).collect()
    }

    async fn standings(&self, limit: usize) -> Result<Vec<Standing>, StoreError> {
        let sql = "SELECT forecaster, sum(gain), sum(baseline), count(*), sum(forecasts) FROM score
                   WHERE forecaster <> 'house' GROUP BY forecaster
                   ORDER BY sum(gain) DESC, forecaster LIMIT ?";
        let query = sqlx::query(sql).bind(rows(limit));
        let found = query.fetch_all(&self.pool).await.map_err(StoreError::backend)?;
        found.iter().map(read_standing).collect()
    }

    async fn cursor(&self, name: &str) -> Result<u64, StoreError> {
        let query = sqlx::query_scalar("SELECT seq FROM cursor WHERE name = ?").bind(name);
        let found: Option<i64> = query
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::backend)?;
        Ok(found.unwrap_or(0).unsigned_abs())
    }
}

async fn put_market(tx: &mut SqliteConnection, write: &MarketWrite) -> Result<(), StoreError> {
    let view = &write.view;
    let id = view.id.as_bytes().as_slice();
    let current = sqlx::query_scalar("SELECT version FROM market WHERE id = ?").bind(id);
    let found: Option<i64> = current
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::backend)?;
    let found = found.unwrap_or(0).unsigned_abs();
    if found != write.expected {
        return Err(StoreError::Conflict {
            market: view.id,
            expected: write.expected,
            found,
        });
    }
    let sql = "INSERT INTO market (id, version, status, kind, view) VALUES (?, ?, ?, ?, ?)
               ON CONFLICT (id) DO UPDATE SET
               version = excluded.version, status = excluded.status, view = excluded.view";
    sqlx::query(sql)
        .bind(id)
        .bind(int(view.version))
        .bind(view.status.as_str())
        .bind(&view.spec.kind)
        .bind(json(view)?)
        .execute(tx)
        .await
        .map(drop)
        .map_err(StoreError::backend)
}

async fn put_events(tx: &mut SqliteConnection, write: &MarketWrite) -> Result<(), StoreError> {
    for stored in &write.events {
        sqlx::query("INSERT INTO event (market_id, seq, request_key, body) VALUES (?, ?, ?, ?)")
            .bind(write.view.id.as_bytes().as_slice())
            .bind(int(stored.seq))
            .bind(stored.request.as_ref().map(|request| request.key.clone()))
            .bind(json(stored)?)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::backend)?;
    }
    Ok(())
}

async fn put_entries(tx: &mut SqliteConnection, write: &MarketWrite) -> Result<(), StoreError> {
    for (line, entry) in write.entries.iter().enumerate() {
        let outcome = match entry.asset {
            Asset::Money => None,
            Asset::Shares(outcome) => Some(int(outcome as u64)),
        };
        sqlx::query(
            "INSERT INTO entry (market_id, seq, line, account, outcome, amount) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(write.view.id.as_bytes().as_slice())
        .bind(int(entry.seq))
        .bind(int(line as u64))
        .bind(entry.account.as_str())
        .bind(outcome)
        .bind(entry.amount_micro)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::backend)?;
    }
    Ok(())
}

async fn put_scores(tx: &mut SqliteConnection, write: &MarketWrite) -> Result<(), StoreError> {
    let sql = "INSERT INTO score (forecaster, resolved_at, market_id, gain, baseline, forecasts, body)
               VALUES (?, ?, ?, ?, ?, ?, ?)";
    for score in &write.scores {
        sqlx::query(sql)
            .bind(score.forecaster.as_str())
            .bind(score.resolved_at.as_ms())
            .bind(score.market.as_bytes().as_slice())
            .bind(score.gain.get())
            .bind(score.baseline.get())
            .bind(int(score.forecasts))
            .bind(json(score)?)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::backend)?;
    }
    Ok(())
}

async fn move_cursor(tx: &mut SqliteConnection, cursor: &CursorMove) -> Result<(), StoreError> {
    let current = sqlx::query_scalar("SELECT seq FROM cursor WHERE name = ?").bind(&cursor.name);
    let found: Option<i64> = current
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::backend)?;
    let found = found.unwrap_or(0).unsigned_abs();
    if found != cursor.from {
        let name = cursor.name.clone();
        return Err(StoreError::CursorConflict {
            name,
            expected: cursor.from,
            found,
        });
    }
    sqlx::query(
        "INSERT INTO cursor (name, seq) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET seq = excluded.seq",
    )
    .bind(&cursor.name)
    .bind(int(cursor.to))
    .execute(tx)
    .await
    .map(drop)
    .map_err(StoreError::backend)
}

fn read_logged(row: &SqliteRow) -> Result<Logged, StoreError> {
    let place: i64 = row.try_get(0).map_err(StoreError::backend)?;
    let market: &[u8] = row.try_get(1).map_err(StoreError::backend)?;
    let market: [u8; 16] = market
        .try_into()
        .map_err(|error| StoreError::corrupt("id of a market", error))?;
    let market =
        MarketId::from_bytes(market).map_err(|error| StoreError::corrupt("id of a market", error))?;
    Ok(Logged {
        place: place.unsigned_abs(),
        market,
        stored: read(row, 2, "event")?,
    })
}

fn read_entry(row: &SqliteRow) -> Result<Entry, StoreError> {
    let outcome: Option<i64> = row.try_get(2).map_err(StoreError::backend)?;
    let account: String = row.try_get(1).map_err(StoreError::backend)?;
    let seq: i64 = row.try_get(0).map_err(StoreError::backend)?;
    Ok(Entry {
        seq: seq.unsigned_abs(),
        account: ForecasterId::new(account).map_err(|error| StoreError::corrupt("account", error))?,
        asset: match outcome {
            None => Asset::Money,
            Some(outcome) => Asset::Shares(usize::try_from(outcome).unwrap_or(usize::MAX)),
        },
        amount_micro: row.try_get(3).map_err(StoreError::backend)?,
    })
}

fn read_standing(row: &SqliteRow) -> Result<Standing, StoreError> {
    let number = |i: usize| row.try_get::<i64, _>(i).map_err(StoreError::backend);
    let forecaster: String = row.try_get(0).map_err(StoreError::backend)?;
    Ok(Standing {
        forecaster: ForecasterId::new(forecaster)
            .map_err(|error| StoreError::corrupt("forecaster", error))?,
        gain: MicroBits::new(number(1)?),
        baseline: MicroBits::new(number(2)?),
        markets: number(3)?.unsigned_abs(),
        forecasts: number(4)?.unsigned_abs(),
    })
}

fn read<T: DeserializeOwned>(row: &SqliteRow, column: usize, what: &'static str) -> Result<T, StoreError> {
    let text: String = row.try_get(column).map_err(StoreError::backend)?;
    serde_json::from_str(&text).map_err(|error| StoreError::corrupt(what, error))
}

fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(StoreError::backend)
}

/// Numbers of events and rows never come near the limit of SQLite's integers.
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn rows(limit: usize) -> i64 {
    int(limit.min(MAX_ROWS) as u64)
}
