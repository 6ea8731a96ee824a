//! The store in a Postgres database: one row a transfer, one writer at a time, forward-only migrations.
//!
//! A commit first takes the table `log`, so commits take turns and the places of events never appear late;
//! readers wait for nobody.

use aion_sql::PostgresOptions;
use aion_types::{ForecasterId, MarketId, MicroBits};
use async_trait::async_trait;
use serde::de::DeserializeOwned;
use sqlx::postgres::{PgConnection, PgPool, PgRow, Postgres};
use sqlx::{QueryBuilder, Row};

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

#[async_trait]
impl MarketStore for PostgresMarketStore {
    async fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        batch.check_balance()?;
        let mut tx = self.pool.begin().await.map_err(failed)?;
        let turn = sqlx::query("LOCK TABLE log IN EXCLUSIVE MODE");
        turn.execute(&mut *tx).await.map_err(failed)?;
        for write in &batch.writes {
            put_market(&mut tx, write).await?;
            put_events(&mut tx, write).await?;
            put_log(&mut tx, write).await?;
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
        let sql = "SELECT body FROM event WHERE market_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";
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
                   WHERE log.place > $1 ORDER BY log.place LIMIT $2";
        let query = sqlx::query(sql).bind(int(after)).bind(rows(limit));
        let found = query.fetch_all(&self.pool).await.map_err(failed)?;
        found.iter().map(read_logged).collect()
    }

    async fn snapshot(&self, market: MarketId) -> Result<Option<Snapshot>, StoreError> {
        let sql = "SELECT version, digest, body FROM snapshot WHERE market_id = $1";
        let query = sqlx::query(sql).bind(market.as_bytes().as_slice());
        let found = query.fetch_optional(&self.pool).await.map_err(failed)?;
        found.as_ref().map(|row| read_snapshot(market, row)).transpose()
    }

    async fn view(&self, market: MarketId) -> Result<Option<MarketView>, StoreError> {
        let query = sqlx::query("SELECT view FROM market WHERE id = $1").bind(market.as_bytes().as_slice());
        let found = query.fetch_optional(&self.pool).await.map_err(failed)?;
        found.as_ref().map(|row| read(row, 0, "market")).transpose()
    }

    async fn views(&self, filter: &MarketFilter, limit: usize) -> Result<Vec<MarketView>, StoreError> {
        let sql = "SELECT view FROM market WHERE ($1::bytea IS NULL OR id < $1)
                   AND ($2::text IS NULL OR kind = $2) AND ($3::text IS NULL OR status = $3)
                   ORDER BY id DESC LIMIT $4";
        let query = sqlx::query(sql)
            .bind(filter.before.map(|id| id.as_bytes().to_vec()))
            .bind(filter.kind.clone())
            .bind(filter.status.map(super::MarketStatus::as_str))
            .bind(rows(limit));
        let found = query.fetch_all(&self.pool).await.map_err(failed)?;
        found.iter().map(|row| read(row, 0, "market")).collect()
    }

    async fn entries(&self, market: MarketId, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let sql = "SELECT seq, line, gets, gives, outcome, amount FROM posting WHERE market_id = $1
                   ORDER BY seq, line LIMIT $2";
        let query = sqlx::query(sql)
            .bind(market.as_bytes().as_slice())
            .bind(rows(limit.div_ceil(2)));
        let found = query.fetch_all(&self.pool).await.map_err(failed)?;
        let postings = found.iter().map(read_posting).collect::<Result<_, _>>()?;
        entries_of(postings, limit)
    }

    async fn scores(&self, forecaster: &ForecasterId, limit: usize) -> Result<Vec<ScoreRow>, StoreError> {
        let sql = "SELECT body FROM score WHERE forecaster = $1
                   ORDER BY resolved_at DESC, market_id DESC LIMIT $2";
        let query = sqlx::query(sql).bind(forecaster.as_str()).bind(rows(limit));
        let found = query.fetch_all(&self.pool).await.map_err(failed)?;
        found.iter().map(|row| read(row, 0, "score")).collect()
    }

    async fn standings(&self, limit: usize) -> Result<Vec<Standing>, StoreError> {
        let sql = "SELECT forecaster, sum(gain)::bigint, sum(baseline)::bigint, count(*),
                   sum(forecasts)::bigint FROM score
                   WHERE forecaster <> 'house' GROUP BY forecaster
                   ORDER BY sum(gain) DESC, forecaster LIMIT $1";
        let query = sqlx::query(sql).bind(rows(limit));
        let found = query.fetch_all(&self.pool).await.map_err(failed)?;
        found.iter().map(read_standing).collect()
    }

    async fn cursor(&self, name: &str) -> Result<u64, StoreError> {
        let query = sqlx::query_scalar("SELECT seq FROM cursor WHERE name = $1").bind(name);
        let found: Option<i64> = query.fetch_optional(&self.pool).await.map_err(failed)?;
        Ok(found.unwrap_or(0).unsigned_abs())
    }
}

async fn put_market(tx: &mut PgConnection, write: &MarketWrite) -> Result<(), StoreError> {
    let view = &write.view;
    let id = view.id.as_bytes().as_slice();
    let current = sqlx::query_scalar("SELECT version FROM market WHERE id = $1").bind(id);
    let found: Option<i64> = current.fetch_optional(&mut *tx).await.map_err(failed)?;
    let found = found.unwrap_or(0).unsigned_abs();
    if found != write.expected {
        return Err(StoreError::Conflict {
            market: view.id,
            expected: write.expected,
            found,
        });
    }
    let sql = "INSERT INTO market (id, version, status, kind, view) VALUES ($1, $2, $3, $4, $5)
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

async fn put_events(tx: &mut PgConnection, write: &MarketWrite) -> Result<(), StoreError> {
    for chunk in write.events.chunks(CHUNK) {
        let bodies = chunk.iter().map(to_json).collect::<Result<Vec<_>, _>>()?;
        let mut sql = QueryBuilder::<Postgres>::new("INSERT INTO event (market_id, seq, request_key, body) ");
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

async fn put_log(tx: &mut PgConnection, write: &MarketWrite) -> Result<(), StoreError> {
    let sql = "INSERT INTO log (market_id, seq)
               SELECT market_id, seq FROM event WHERE market_id = $1 AND seq > $2 ORDER BY seq";
    sqlx::query(sql)
        .bind(write.view.id.as_bytes().as_slice())
        .bind(int(write.expected))
        .execute(tx)
        .await
        .map(drop)
        .map_err(failed)
}

async fn put_postings(tx: &mut PgConnection, write: &MarketWrite) -> Result<(), StoreError> {
    let insert = "INSERT INTO posting (market_id, seq, line, gets, gives, outcome, amount) ";
    for chunk in Posting::of(&write.entries)?.chunks(CHUNK) {
        let mut sql = QueryBuilder::<Postgres>::new(insert);
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

async fn put_snapshot(tx: &mut PgConnection, write: &MarketWrite) -> Result<(), StoreError> {
    let Some(snapshot) = &write.snapshot else {
        return Ok(());
    };
    let sql = "INSERT INTO snapshot (market_id, version, digest, body) VALUES ($1, $2, $3, $4)
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

async fn put_scores(tx: &mut PgConnection, write: &MarketWrite) -> Result<(), StoreError> {
    let sql = "INSERT INTO score (forecaster, resolved_at, market_id, gain, baseline, forecasts, body)
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
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

async fn move_cursor(tx: &mut PgConnection, cursor: &CursorMove) -> Result<(), StoreError> {
    let current = sqlx::query_scalar("SELECT seq FROM cursor WHERE name = $1").bind(&cursor.name);
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
        "INSERT INTO cursor (name, seq) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET seq = excluded.seq",
    )
    .bind(&cursor.name)
    .bind(int(cursor.to))
    .execute(tx)
    .await
    .map(drop)
    .map_err(failed)
}

fn read_logged(row: &PgRow) -> Result<Logged, StoreError> {
    let place: i64 = row.try_get(0).map_err(failed)?;
    Ok(Logged {
        place: place.unsigned_abs(),
        market: market_id(row.try_get(1).map_err(failed)?)?,
        stored: read(row, 2, "event")?,
    })
}

fn read_posting(row: &PgRow) -> Result<Posting, StoreError> {
    Ok(Posting {
        seq: row.try_get(0).map_err(failed)?,
        line: row.try_get(1).map_err(failed)?,
        gets: row.try_get(2).map_err(failed)?,
        gives: row.try_get(3).map_err(failed)?,
        outcome: row.try_get(4).map_err(failed)?,
        amount: row.try_get(5).map_err(failed)?,
    })
}

fn read_snapshot(market: MarketId, row: &PgRow) -> Result<Snapshot, StoreError> {
    let version: i64 = row.try_get(0).map_err(failed)?;
    Ok(Snapshot {
        market,
        version: version.unsigned_abs(),
        digest: row.try_get(1).map_err(failed)?,
        body: row.try_get(2).map_err(failed)?,
    })
}

fn read_standing(row: &PgRow) -> Result<Standing, StoreError> {
    let number = |i: usize| row.try_get::<i64, _>(i).map_err(failed);
    Ok(Standing {
        forecaster: forecaster(row.try_get(0).map_err(failed)?)?,
        gain: MicroBits::new(number(1)?),
        baseline: MicroBits::new(number(2)?),
        markets: number(3)?.unsigned_abs(),
        forecasts: number(4)?.unsigned_abs(),
    })
}

fn read<T: DeserializeOwned>(row: &PgRow, column: usize, what: &'static str) -> Result<T, StoreError> {
    of_json(row.try_get(column).map_err(failed)?, what)
}
