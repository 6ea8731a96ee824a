//! What the stores in SQLite and Postgres have in common: the schema, and how values become columns.

use aion_sql::Schema;
use aion_types::{ForecasterId, MarketId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{StoreError, Transfer};
use crate::ledger::{Asset, Entry};

pub(super) const SCHEMA: Schema = Schema {
    name: "aion_market",
    application_id: 0x4169_6d6b, // "Aimk"
    sqlite: &[
        include_str!("migrations/0001_markets.sql"),
        include_str!("migrations/0002_log.sql"),
        include_str!("migrations/0003_postings.sql"),
    ],
    postgres: &[include_str!("migrations/postgres/0001_markets.sql")],
};

/// The most rows of one answer.
const MAX_ROWS: usize = 100_000;

/// How many rows one statement inserts: far below what either engine binds at once.
pub(super) const CHUNK: usize = 500;

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

pub(super) fn to_json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(StoreError::backend)
}

pub(super) fn of_json<T: DeserializeOwned>(text: &str, what: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::corrupt(what, error))
}

/// Numbers of events and rows never come near the limit of a database's integers.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn rows(limit: usize) -> i64 {
    int(limit.min(MAX_ROWS) as u64)
}

pub(super) fn market_id(bytes: &[u8]) -> Result<MarketId, StoreError> {
    let bytes: [u8; 16] = bytes
        .try_into()
        .map_err(|error| StoreError::corrupt("id of a market", error))?;
    MarketId::from_bytes(bytes).map_err(|error| StoreError::corrupt("id of a market", error))
}

pub(super) fn forecaster(name: String) -> Result<ForecasterId, StoreError> {
    ForecasterId::new(name).map_err(|error| StoreError::corrupt("forecaster", error))
}

/// One row of the table `posting`.
#[derive(Debug)]
pub(super) struct Posting {
    pub(super) seq: i64,
    pub(super) line: i64,
    pub(super) gets: String,
    pub(super) gives: String,
    pub(super) outcome: Option<i64>,
    pub(super) amount: i64,
}

impl Posting {
    /// The rows of one write; they are numbered within it.
    pub(super) fn of(entries: &[Entry]) -> Result<Vec<Self>, StoreError> {
        let numbered = super::transfers(entries).zip(0..);
        numbered
            .map(|(transfer, line)| Ok(Self::one(transfer?, line)))
            .collect()
    }

    fn one((to, gives): Transfer<'_>, line: i64) -> Self {
        Self {
            seq: int(to.seq),
            line,
            gets: to.account.as_str().to_owned(),
            gives: gives.as_str().to_owned(),
            outcome: match to.asset {
                Asset::Money => None,
                Asset::Shares(outcome) => Some(int(outcome as u64)),
            },
            amount: to.amount_micro,
        }
    }

    /// The two rows of the ledger that it stands for.
    pub(super) fn entries(self) -> Result<[Entry; 2], StoreError> {
        let asset = match self.outcome {
            None => Asset::Money,
            Some(outcome) => Asset::Shares(usize::try_from(outcome).unwrap_or(usize::MAX)),
        };
        let row = |account, amount_micro| Entry {
            seq: self.seq.unsigned_abs(),
            account,
            asset,
            amount_micro,
        };
        let (gets, gives) = (forecaster(self.gets)?, forecaster(self.gives)?);
        Ok([row(gets, self.amount), row(gives, self.amount.saturating_neg())])
    }
}

/// The ledger rows of postings, at most `limit`.
pub(super) fn entries_of(postings: Vec<Posting>, limit: usize) -> Result<Vec<Entry>, StoreError> {
    let mut entries = Vec::with_capacity(postings.len() * 2);
    for posting in postings {
        entries.extend(posting.entries()?);
    }
    entries.truncate(limit);
    Ok(entries)
}
