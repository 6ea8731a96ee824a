//! The store in one SQLite file: write-ahead log, one writer at a time, forward-only migrations.

use std::path::Path;

use aion_sql::SqliteOptions;
use aion_types::{ForecasterId, MarketId, MicroBits};
use async_trait::async_trait;
use serde::de::DeserializeOwned;
use sqlx::sqlite::{Sqlite, SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Row, SqliteConnection};

use super::sql::{
    CHUNK, Posting, SCHEMA, entries_of, failed, forecaster, int, market_id, of_json, rows, to_json,
};
use super::{
    Batch, CursorMove, Logged, MarketFilter, MarketStore, MarketView, MarketWrite, ScoreRow, Standing,
    StoreError,
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

#[async_trait]
impl MarketStore for SqliteMarketStore {
    async fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        batch.check_balance()?;
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        for write in &batch.writes {
            put_market(&mut tx, write).await?;
            put_events(&mut tx, write).await?;
            put_postings(&mut tx, write).await?;
            put_scores(&mut tx, write).await?;
            put_snapshot(&mut tx, write).await?;
        }
        if let Some(cursor) = &batch.cursor {
            move_cursor(&mut tx, cursor).await?;
        }
        tx.commit().await.map_err(failed)
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
        let found = query.fetch_all(&self.pool).await.map_err(failed)?;
        found.iter().map(|row| read(row, 0, "event")).collect()
    }

    async fn log(&self, after: u64, limit: usize) -> Result<Vec<Logged>, StoreError> {
        let sql = "SELECT log.place, log.market_id, event.body FROM log
                   JOIN event ON event.market_id = log.market_id AND event.seq = log.seq
                   WHERE log.place > ? ORDER BY log.place LIMIT ?";
        let query = sqlx::query(sql).bind(int(after)).bind(rows(limit));
        let found = query.fetch_all(&self.pool).await.map_err(failed)?;
        found.iter().map(read_logged).collect()
    }

    async fn snapshot(&self, market: MarketId) -> Result<Option<Snapshot>, StoreError> {
        let sql = "SELECT version, digest, body FROM snapshot WHERE market_id = ?";
        let query = sqlx::query(sql).bind(market.as_bytes().as_slice());
        let found = query.fetch_optional(&self.pool).await.map_err(failed)?;
        found.as_ref().map(|row| read_snapshot(market, row)).transpose()
    }

    async fn view(&self, market: MarketId) -> Result<Option<MarketView>, StoreError> {
        let query = sqlx::query("SELECT view FROM market WHERE id = ?").bind(market.as_bytes().as_slice());
        let found = query.fetch_optional(&self.pool).await.map_err(failed)?;
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
        let found = query.fetch_all(&self.pool).await.map_err(failed)?;
        found.iter().map(|row| read(row, 0, "market")).collect()
    }

    async fn entries(&self, market: MarketId, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let sql = "SELECT seq, line, gets, gives, outcome, amount FROM posting WHERE market_id = ?
                   ORDER BY seq, line LIMIT ?";
        let query = sqlx::query(sql)
            .bind(market.as_bytes().as_slice())
            .bind(rows(limit.div_ceil(2)));
        let found = query.fetch_all(&self.pool).await.map_err(failed)?;
        let postings = found.iter().map(read_posting).collect::<Result<_, _>>()?;
        entries_of(postings, limit)
    }

    async fn scores(&self, forecaster: &ForecasterId, limit: usize) -> Result<Vec<ScoreRow>, StoreError> {
        let sql = "SELECT body FROM score WHERE forecaster = ?
                   ORDER BY resolved_at DESC, market_id DESC LIMIT ?";
        let query = sqlx::query(sql).bind(forecaster.as_str()).bind(rows(limit));
        let found = query.fetch_all(&self.pool).await.map_err(failed)?;
        found.iter().map(|row| read(row, 0, "score")).collect()
    }

    async fn standings(&self, limit: usize) -> Result<Vec<Standing>, StoreError> {
        let sql = "SELECT forecaster, sum(gain), sum(baseline), count(*), sum(forecasts) FROM score
                   WHERE forecaster <> 'house' GROUP BY forecaster
                   ORDER BY sum(gain) DESC, forecaster LIMIT ?";
        let query = sqlx::query(sql).bind(rows(limit));
        let found = query.fetch_all(&self.pool).await.map_err(failed)?;
        found.iter().map(read_standing).collect()
    }

    async fn cursor(&self, name: &str) -> Result<u64, StoreError> {
        let query = sqlx::query_scalar("SELECT seq FROM cursor WHERE name = ?").bind(name);
        let found: Option<i64> = query.fetch_optional(&self.pool).await.map_err(failed)?;
        Ok(found.unwrap_or(0).unsigned_abs())
    }
}

async fn put_market(tx: &mut SqliteConnection, write: &MarketWrite) -> Result<(), StoreError> {
    let view = &write.view;
    let id = view.id.as_bytes().as_slice();
    let current = sqlx::query_scalar("SELECT version FROM market WHERE id = ?").bind(id);
    let found: Option<i64> = current.fetch_optional(&mut *tx).await.map_err(failed)?;
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
        .bind(to_json(view)?)
        .execute(tx)
        .await
        .map(drop)
        .map_err(failed)
}

async fn put_events(tx: &mut SqliteConnection, write: &MarketWrite) -> Result<(), StoreError> {
    for chunk in write.events.chunks(CHUNK) {
        let bodies = chunk.iter().map(to_json).collect::<Result<Vec<_>, _>>()?;
        let mut sql = QueryBuilder::<Sqlite>::new("INSERT INTO event (market_id, seq, request_key, body) ");
        sql.push_values(chunk.iter().zip(bodies), |mut row, (stored, body)| {
            row.push_bind(write.view.id.as_bytes().as_slice())
                .push_bind(int(stored.seq))
                .push_bind(stored.request.as_ref().map(|request| request.key.as_str()))
                .push_bind(body);
        });
        sql.build().execute(&mut *tx).await.map_err(failed)?;
    }
    Ok(())
}

async fn put_postings(tx: &mut SqliteConnection, write: &MarketWrite) -> Result<(), StoreError> {
    let insert = "INSERT INTO posting (market_id, seq, line, gets, gives, outcome, amount) ";
    for chunk in Posting::of(&write.entries)?.chunks(CHUNK) {
        let mut sql = QueryBuilder::<Sqlite>::new(insert);
        sql.push_values(chunk, |mut row, posting| {
            row.push_bind(write.view.id.as_bytes().as_slice())
                .push_bind(posting.seq)
                .push_bind(posting.line)
                .push_bind(posting.gets.as_str())
                .push_bind(posting.gives.as_str())
                .push_bind(posting.outcome)
                .push_bind(posting.amount);
        });
        sql.build().execute(&mut *tx).await.map_err(failed)?;
    }
    Ok(())
}

async fn put_snapshot(tx: &mut SqliteConnection, write: &MarketWrite) -> Result<(), StoreError> {
    let Some(snapshot) = &write.snapshot else {
        return Ok(());
    };
    let sql = "INSERT INTO snapshot (market_id, version, digest, body) VALUES (?, ?, ?, ?)
               ON CONFLICT (market_id) DO UPDATE SET
               version = excluded.version, digest = excluded.digest, body = excluded.body";
    sqlx::query(sql)
        .bind(write.view.id.as_bytes().as_slice())
        .bind(int(snapshot.version))
        .bind(&snapshot.digest)
        .bind(&snapshot.body)
        .execute(tx)
        .await
        .map(drop)
        .map_err(failed)
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
            .bind(to_json(score)?)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

async fn move_cursor(tx: &mut SqliteConnection, cursor: &CursorMove) -> Result<(), StoreError> {
    let current = sqlx::query_scalar("SELECT seq FROM cursor WHERE name = ?").bind(&cursor.name);
    let found: Option<i64> = current.fetch_optional(&mut *tx).await.map_err(failed)?;
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
    .map_err(failed)
}

fn read_logged(row: &SqliteRow) -> Result<Logged, StoreError> {
    let place: i64 = row.try_get(0).map_err(failed)?;
    Ok(Logged {
        place: place.unsigned_abs(),
        market: market_id(row.try_get(1).map_err(failed)?)?,
        stored: read(row, 2, "event")?,
    })
}

fn read_posting(row: &SqliteRow) -> Result<Posting, StoreError> {
    Ok(Posting {
        seq: row.try_get(0).map_err(failed)?,
        line: row.try_get(1).map_err(failed)?,
        gets: row.try_get(2).map_err(failed)?,
        gives: row.try_get(3).map_err(failed)?,
        outcome: row.try_get(4).map_err(failed)?,
        amount: row.try_get(5).map_err(failed)?,
    })
}

fn read_snapshot(market: MarketId, row: &SqliteRow) -> Result<Snapshot, StoreError> {
    let version: i64 = row.try_get(0).map_err(failed)?;
    Ok(Snapshot {
        market,
        version: version.unsigned_abs(),
        digest: row.try_get(1).map_err(failed)?,
        body: row.try_get(2).map_err(failed)?,
    })
}

fn read_standing(row: &SqliteRow) -> Result<Standing, StoreError> {
    let number = |i: usize| row.try_get::<i64, _>(i).map_err(failed);
    Ok(Standing {
        forecaster: forecaster(row.try_get(0).map_err(failed)?)?,
        gain: MicroBits::new(number(1)?),
        baseline: MicroBits::new(number(2)?),
        markets: number(3)?.unsigned_abs(),
        forecasts: number(4)?.unsigned_abs(),
    })
}

fn read<T: DeserializeOwned>(row: &SqliteRow, column: usize, what: &'static str) -> Result<T, StoreError> {
    of_json(row.try_get(column).map_err(failed)?, what)
}
