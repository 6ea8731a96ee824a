//! What the ledgers in SQLite and Postgres have in common: the schema, and how values become columns.

use aion_sql::Schema;
use aion_types::{ForecasterId, MilliTrust};

use super::StoreError;
use crate::ledger::{Account, Settlement};

pub(super) const SCHEMA: Schema = Schema {
    name: "aion_trust",
    application_id: 0x4169_7472, // "Aitr"
    sqlite: &[include_str!("migrations/0001_trust.sql")],
    postgres: &[include_str!("migrations/postgres/0001_trust.sql")],
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

/// One row of the table `account`.
pub(super) fn account(
    id: String,
    balance: i64,
    granted: i64,
    settlements: i64,
) -> Result<Account, StoreError> {
    Ok(Account {
        id: ForecasterId::new(id).map_err(|error| StoreError::corrupt("account", error))?,
        balance: MilliTrust::new(balance.unsigned_abs()),
        granted: MilliTrust::new(granted.unsigned_abs()),
        settlements: settlements.unsigned_abs(),
    })
}

pub(super) fn settlement(body: &str) -> Result<Settlement, StoreError> {
    serde_json::from_str(body).map_err(|error| StoreError::corrupt("settlement", error))
}

/// Trust never comes near the limit of a database's integers.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn rows(limit: usize) -> i64 {
    int(limit.min(MAX_ROWS) as u64)
}
