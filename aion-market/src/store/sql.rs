//! What the stores in SQLite and Postgres have in common: all but how they are opened and how their
//! transactions begin.

use aion_sql::Schema;
use aion_types::{ForecasterId, MarketId};
use async_trait::async_trait;

use super::row::{self, Columns};
use super::statement::{Statement, Value};
use super::write::{Guard, steps};
use super::{
    Batch, Logged, MarketFilter, MarketStatus, MarketView, ScoreOrder, ScoreRow, Standing, StoreError,
};
use crate::engine::Snapshot;
use crate::event::StoredEvent;
use crate::ledger::Entry;

pub(super) const SCHEMA: Schema = Schema {
    name: "aion_market",
    application_id: 0x4169_6d6b, // "Aimk"
    sqlite: &[
        include_str!("migrations/0001_markets.sql"),
        include_str!("migrations/0002_log.sql"),
        include_str!("migrations/0003_postings.sql"),
        include_str!("migrations/0004_standings.sql"),
    ],
    postgres: &[
        include_str!("migrations/postgres/0001_markets.sql"),
        include_str!("migrations/postgres/0002_standings.sql"),
    ],
};

/// The most rows of one answer.
const MAX_ROWS: usize = 100_000;

/// `SQLITE_FULL`, and what Postgres says of a full disk.
const FULL: [&str; 2] = ["13", "53100"];

/// A failure of the engine; a full disk by its name.
pub(super) fn failed(error: sqlx::Error) -> StoreError {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    match code.as_deref() {
        Some(code) if FULL.contains(&code) => StoreError::StorageFull(Box::new(error)),
        _ => StoreError::backend(error),
    }
}

/// A database that runs statements.
#[async_trait]
pub(super) trait Engine: Sync {
    /// Its rows.
    type Row: Columns;

    /// The rows of a query.
    async fn rows(&self, query: Statement) -> Result<Vec<Self::Row>, StoreError>;

    /// All of the statements in one transaction, one writer at a time; or none of them, if one changes no
    /// row that [has to](Statement::has_to_change): then the how-manieth of those it was.
    async fn transact(&self, statements: Vec<Statement>) -> Result<Option<usize>, StoreError>;

    /// The row of a query that gives one at most.
    async fn row(&self, query: Statement) -> Result<Option<Self::Row>, StoreError> {
        Ok(self.rows(query).await?.pop())
    }
}

fn most(limit: usize) -> Value {
    (limit.min(MAX_ROWS) as u64).into()
}

pub(super) async fn commit(engine: &impl Engine, batch: &Batch) -> Result<(), StoreError> {
    batch.check_balance()?;
    let (statements, guards) = steps(batch)?;
    let refused = engine.transact(statements).await?;
    match refused.and_then(|refused| guards.get(refused)) {
        None => Ok(()),
        Some(Guard::Market(write)) => {
            let found = view(engine, write.view.id).await?;
            Err(StoreError::Conflict {
                market: write.view.id,
                expected: write.expected,
                found: found.map_or(0, |view| view.version),
            })
        }
        Some(Guard::Cursor(moved)) => Err(StoreError::CursorConflict {
            name: moved.name.clone(),
            expected: moved.from,
            found: cursor(engine, &moved.name).await?,
        }),
    }
}

pub(super) async fn events(
    engine: &impl Engine,
    market: MarketId,
    after: u64,
    limit: usize,
) -> Result<Vec<StoredEvent>, StoreError> {
    let query = "SELECT body FROM event WHERE market_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";
    let query = Statement::new(query).with(market).with(after).with(most(limit));
    let found = engine.rows(query).await?;
    found.iter().map(|row| row.json(0, "event")).collect()
}

pub(super) async fn log(engine: &impl Engine, after: u64, limit: usize) -> Result<Vec<Logged>, StoreError> {
    let query = "SELECT log.place, log.market_id, event.body FROM log
                 JOIN event ON event.market_id = log.market_id AND event.seq = log.seq
                 WHERE log.place > $1 ORDER BY log.place LIMIT $2";
    let query = Statement::new(query).with(after).with(most(limit));
    engine.rows(query).await?.iter().map(row::logged).collect()
}

pub(super) async fn snapshot(engine: &impl Engine, market: MarketId) -> Result<Option<Snapshot>, StoreError> {
    let query = Statement::new("SELECT version, digest, body FROM snapshot WHERE market_id = $1");
    let found = engine.row(query.with(market)).await?;
    found.map(|row| row::snapshot(market, &row)).transpose()
}

pub(super) async fn view(engine: &impl Engine, market: MarketId) -> Result<Option<MarketView>, StoreError> {
    let query = Statement::new("SELECT view FROM market WHERE id = $1").with(market);
    let found = engine.row(query).await?;
    found.map(|row| row.json(0, "market")).transpose()
}

pub(super) async fn views(
    engine: &impl Engine,
    filter: &MarketFilter,
    limit: usize,
) -> Result<Vec<MarketView>, StoreError> {
    // No id is longer than 16 bytes.
    let below = filter
        .before
        .map_or_else(|| vec![0xff; 17], |id| id.as_bytes().to_vec());
    let mut query = Statement::new("SELECT view FROM market WHERE id < $1").with(Value::Bytes(below));
    if let Some(kind) = &filter.kind {
        query = query.and(" AND kind = $", kind.as_str());
    }
    if let Some(status) = filter.status.map(MarketStatus::as_str) {
        query = query.and(" AND status = $", status);
    }
    let query = query.and(" ORDER BY id DESC LIMIT $", most(limit));
    let found = engine.rows(query).await?;
    found.iter().map(|row| row.json(0, "market")).collect()
}

pub(super) async fn entries(
    engine: &impl Engine,
    market: MarketId,
    limit: usize,
) -> Result<Vec<Entry>, StoreError> {
    let query = "SELECT seq, gets, gives, outcome, amount FROM posting WHERE market_id = $1
                 ORDER BY seq, line LIMIT $2";
    let query = Statement::new(query).with(market).with(most(limit.div_ceil(2)));
    let mut entries = Vec::new();
    for row in engine.rows(query).await? {
        entries.extend(row::entries(&row)?);
    }
    entries.truncate(limit);
    Ok(entries)
}

pub(super) async fn scores(
    engine: &impl Engine,
    forecaster: &ForecasterId,
    order: ScoreOrder,
    limit: usize,
) -> Result<Vec<ScoreRow>, StoreError> {
    let latest = "SELECT body FROM score WHERE forecaster = $1 AND (resolved_at, market_id) < ($2, $3)
                  ORDER BY resolved_at DESC, market_id DESC LIMIT $4";
    let oldest = "SELECT body FROM score WHERE forecaster = $1 AND (resolved_at, market_id) > ($2, $3)
                  ORDER BY resolved_at, market_id LIMIT $4";
    let (sql, at, market) = match order {
        ScoreOrder::Latest => (latest, i64::MAX, vec![0xff; 17]),
        ScoreOrder::Oldest => (oldest, i64::MIN, Vec::new()),
        ScoreOrder::Before(place) => (
            latest,
            place.resolved_at.as_ms(),
            place.market.as_bytes().to_vec(),
        ),
        ScoreOrder::After(place) => (
            oldest,
            place.resolved_at.as_ms(),
            place.market.as_bytes().to_vec(),
        ),
    };
    let query = Statement::new(sql).with(forecaster).with(at);
    let found = engine
        .rows(query.with(Value::Bytes(market)).with(most(limit)))
        .await?;
    found.iter().map(|row| row.json(0, "score")).collect()
}

const STANDINGS: &str =
    "SELECT forecaster, gain, squared_bits, baseline, markets, forecasts FROM standing WHERE forecaster ";

pub(super) async fn standing(
    engine: &impl Engine,
    forecaster: &ForecasterId,
) -> Result<Option<Standing>, StoreError> {
    let query = Statement::new(STANDINGS).and("= $", forecaster);
    engine.row(query).await?.as_ref().map(row::standing).transpose()
}

pub(super) async fn standings(
    engine: &impl Engine,
    after: Option<&Standing>,
    limit: usize,
) -> Result<Vec<Standing>, StoreError> {
    let mut query = Statement::new(STANDINGS).and("<> $", &ForecasterId::house());
    if let Some(after) = after {
        let gain = after.gain.get();
        query = query
            .and(" AND gain <= $", gain)
            .and(" AND (gain < $", gain)
            .and(" OR forecaster > $)", &after.forecaster);
    }
    let query = query.and(" ORDER BY gain DESC, forecaster LIMIT $", most(limit));
    engine.rows(query).await?.iter().map(row::standing).collect()
}

pub(super) async fn cursor(engine: &impl Engine, name: &str) -> Result<u64, StoreError> {
    let query = Statement::new("SELECT seq FROM cursor WHERE name = $1").with(name);
    let found = engine.row(query).await?;
    found.map_or(Ok(0), |row| row.count(0))
}

/// Makes an [`Engine`] a [`MarketStore`](super::MarketStore) by the functions of this module.
macro_rules! as_market_store {
    ($store:ty) => {
        #[async_trait::async_trait]
        impl MarketStore for $store {
            async fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
                sql::commit(self, batch).await
            }

            async fn events(
                &self,
                market: MarketId,
                after: u64,
                limit: usize,
            ) -> Result<Vec<StoredEvent>, StoreError> {
                sql::events(self, market, after, limit).await
            }

            async fn log(&self, after: u64, limit: usize) -> Result<Vec<Logged>, StoreError> {
                sql::log(self, after, limit).await
            }

            async fn snapshot(&self, market: MarketId) -> Result<Option<Snapshot>, StoreError> {
                sql::snapshot(self, market).await
            }

            async fn view(&self, market: MarketId) -> Result<Option<MarketView>, StoreError> {
                sql::view(self, market).await
            }

            async fn views(
                &self,
                filter: &MarketFilter,
                limit: usize,
            ) -> Result<Vec<MarketView>, StoreError> {
                sql::views(self, filter, limit).await
            }

            async fn entries(&self, market: MarketId, limit: usize) -> Result<Vec<Entry>, StoreError> {
                sql::entries(self, market, limit).await
            }

            async fn scores(
                &self,
                forecaster: &ForecasterId,
                order: ScoreOrder,
                limit: usize,
            ) -> Result<Vec<ScoreRow>, StoreError> {
                sql::scores(self, forecaster, order, limit).await
            }

            async fn standing(&self, forecaster: &ForecasterId) -> Result<Option<Standing>, StoreError> {
                sql::standing(self, forecaster).await
            }

            async fn standings(
                &self,
                after: Option<&Standing>,
                limit: usize,
            ) -> Result<Vec<Standing>, StoreError> {
                sql::standings(self, after, limit).await
            }

            async fn cursor(&self, name: &str) -> Result<u64, StoreError> {
                sql::cursor(self, name).await
            }
        }
    };
}
pub(super) use as_market_store;
