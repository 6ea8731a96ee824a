//! What the stores in SQLite and Postgres have in common: the schema, and how values become columns.

use aion_sql::Schema;
use aion_types::DecisionId;

use super::{Known, MAX_PAGE, StoreError};
use crate::engine::LogEntry;
use crate::item::{ContentHash, Item, ItemId};

pub(super) const SCHEMA: Schema = Schema {
    name: "aion_router",
    application_id: 0x4169_726f, // "Airo"
    sqlite: &[
        include_str!("migrations/0001_router.sql"),
        include_str!("migrations/0002_learned.sql"),
        include_str!("migrations/0003_gone.sql"),
    ],
    postgres: &[
        include_str!("migrations/postgres/0001_router.sql"),
        include_str!("migrations/postgres/0002_gone.sql"),
    ],
};

pub(super) const DECIDED: i64 = 0;
pub(super) const RECORDED: i64 = 1;
pub(super) const FORGOT: i64 = 2;

/// How many decisions lie after the first one that stays in the log.
pub(super) fn after_first(decisions: usize) -> i64 {
    i64::try_from(decisions.saturating_sub(1)).unwrap_or(i64::MAX)
}

pub(super) fn opened(error: aion_sql::OpenError) -> StoreError {
    StoreError::Open(Box::new(error))
}

pub(super) fn backend(error: sqlx::Error) -> StoreError {
    StoreError::Backend(Box::new(error))
}

/// A failure to append: an entry that is there already by its name.
pub(super) fn not_appended(error: sqlx::Error) -> StoreError {
    let twice = error
        .as_database_error()
        .is_some_and(sqlx::error::DatabaseError::is_unique_violation);
    if twice { StoreError::Twice } else { backend(error) }
}

fn corrupt(what: &'static str) -> impl Fn(Box<dyn std::error::Error + Send + Sync>) -> StoreError {
    move |source| StoreError::Corrupt { what, source }
}

pub(super) fn to_json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Backend(Box::new(error)))
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(
    what: &'static str,
    json: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(|error| corrupt(what)(error.into()))
}

/// What is known of an id by the columns of its item, of one that was taken out, and of what was approved.
pub(super) fn known(
    body: Option<&str>,
    gone: Option<&[u8]>,
    approved: Option<&[u8]>,
) -> Result<Known, StoreError> {
    let there: Option<Item> = body.map(|body| from_json("item", body)).transpose()?;
    let hash = |bytes: Option<&[u8]>| {
        let bytes = bytes.map(digest).transpose()?;
        Ok(bytes.map(ContentHash::from_bytes))
    };
    Ok(Known::new(there.as_ref(), hash(gone)?, hash(approved)?))
}

/// The digest of what a stored item said; one that cannot be read said nothing that comes again.
pub(super) fn said(body: &str) -> ContentHash {
    let item = from_json::<Item>("item", body);
    item.map_or(ContentHash::from_bytes([0; 32]), |item| item.content_hash())
}

/// The columns `kind` and `decision` of an entry.
pub(super) fn columns(entry: &LogEntry) -> (i64, Option<DecisionId>) {
    match entry {
        LogEntry::Decided(decision) => (DECIDED, Some(decision.id)),
        LogEntry::Recorded { decision, .. } => (RECORDED, Some(*decision)),
        LogEntry::Forgot { .. } => (FORGOT, None),
    }
}

pub(super) fn key_of(decision: Option<DecisionId>) -> Option<Vec<u8>> {
    decision.map(|id| id.as_bytes().to_vec())
}

pub(super) fn page(limit: usize) -> i64 {
    i64::try_from(limit.min(MAX_PAGE)).unwrap_or(i64::MAX)
}

pub(super) fn place(after: u64) -> i64 {
    i64::try_from(after).unwrap_or(i64::MAX)
}

pub(super) fn entry(n: i64, body: &str) -> Result<(u64, LogEntry), StoreError> {
    Ok((n.unsigned_abs(), from_json("entry of the log", body)?))
}

pub(super) fn approved(id: String, hash: &[u8]) -> Result<(ItemId, ContentHash), StoreError> {
    let id = ItemId::new(id).map_err(|error| corrupt("item id")(error.into()))?;
    Ok((id, ContentHash::from_bytes(digest(hash)?)))
}

/// The digest that a column holds.
pub(super) fn digest(bytes: &[u8]) -> Result<[u8; 32], StoreError> {
    <[u8; 32]>::try_from(bytes).map_err(|error| corrupt("digest")(error.into()))
}
