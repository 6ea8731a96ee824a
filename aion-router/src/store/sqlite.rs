//! Everything in one SQLite file: write-ahead log, forward-only migrations.

use std::collections::BTreeMap;
use std::path::Path;

use aion_sql::SqliteOptions;
use aion_types::DecisionId;
use async_trait::async_trait;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row, SqliteConnection};

use super::sql::{
    DECIDED, FORGOT, RECORDED, SCHEMA, after_first, approved, backend, columns, digest, entry, from_json,
    key_of, known, not_appended, opened, page, place, said, to_json,
};
use super::{Known, LogPage, Put, RouterStore, StoreError, judge};
use crate::bytes::{floats_of_bytes, floats_to_bytes};
use crate::engine::LogEntry;
use crate::item::{ContentHash, Item, ItemId};

/// A store in a SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteRouterStore {
    pool: SqlitePool,
}

impl SqliteRouterStore {
    /// Opens the file, makes it if there is none, and brings it to the newest schema.
    ///
    /// # Errors
    /// [`StoreError::Open`] for a file of another or a newer program, or one that cannot be opened.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::connect(SqliteOptions::file(path).with_connections(2)).await
    }

    /// A database in memory, gone with the store.
    ///
    /// # Errors
    /// [`StoreError::Open`] if SQLite fails.
    pub async fn in_memory() -> Result<Self, StoreError> {
        Self::connect(SqliteOptions::in_memory()).await
    }

    async fn connect(options: SqliteOptions) -> Result<Self, StoreError> {
        let pool = SCHEMA.open_sqlite(&options).await.map_err(opened)?;
        Ok(Self { pool })
    }

    /// Closes all connections; the file is then complete without its log.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

#[async_trait]
impl RouterStore for SqliteRouterStore {
    async fn open_again(&self) -> Result<u64, StoreError> {
        let sql =
            "INSERT INTO opening (id, n) VALUES (1, 0) ON CONFLICT (id) DO UPDATE SET n = n + 1 RETURNING n";
        let n: i64 = sqlx::query_scalar(sql)
            .fetch_one(&self.pool)
            .await
            .map_err(backend)?;
        Ok(n.unsigned_abs())
    }

    async fn put_items(&self, items: &[Item]) -> Result<Put, StoreError> {
        let sql =
            "INSERT INTO item (id, body) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body";
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(backend)?;
        let mut known = BTreeMap::new();
        for item in items {
            let before = known_of(&mut tx, item.id()).await?;
            known.insert(item.id().clone(), before);
        }
        for item in items {
            let query = sqlx::query(sql).bind(item.id().as_str()).bind(to_json(item)?);
            query.execute(&mut *tx).await.map_err(backend)?;
        }
        let judged = judge(items, known);
        for (id, hash) in &judged.pins {
            let sql = "INSERT INTO approved (id, hash) VALUES (?, ?) ON CONFLICT (id) DO NOTHING";
            let query = sqlx::query(sql)
                .bind(id.as_str())
                .bind(hash.as_bytes().as_slice());
            query.execute(&mut *tx).await.map_err(backend)?;
        }
        let mut numbers = Vec::with_capacity(judged.forgot.len());
        for id in &judged.forgot {
            let body = to_json(&LogEntry::Forgot { item: id.clone() })?;
            let query = sqlx::query("INSERT INTO entry (kind, body) VALUES (?, ?)").bind(FORGOT);
            let done = query.bind(body).execute(&mut *tx).await.map_err(backend)?;
            numbers.push(done.last_insert_rowid().unsigned_abs());
        }
        tx.commit().await.map_err(backend)?;
        Ok(Put::new(judged, numbers))
    }

    async fn remove_item(&self, id: &ItemId) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(backend)?;
        let query = sqlx::query_scalar("DELETE FROM item WHERE id = ? RETURNING body").bind(id.as_str());
        let body: Option<String> = query.fetch_optional(&mut *tx).await.map_err(backend)?;
        let Some(body) = body else { return Ok(false) };
        let sql =
            "INSERT INTO gone (id, hash) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET hash = excluded.hash";
        let query = sqlx::query(sql)
            .bind(id.as_str())
            .bind(said(&body).as_bytes().to_vec());
        query.execute(&mut *tx).await.map_err(backend)?;
        tx.commit().await.map_err(backend)?;
        Ok(true)
    }

    async fn items(&self, after: Option<&ItemId>, limit: usize) -> Result<Vec<Item>, StoreError> {
        let sql = "SELECT body FROM item WHERE id > ? ORDER BY id LIMIT ?";
        let query = sqlx::query_scalar(sql)
            .bind(after.map_or("", ItemId::as_str))
            .bind(page(limit));
        let bodies: Vec<String> = query.fetch_all(&self.pool).await.map_err(backend)?;
        bodies.iter().map(|body| from_json("item", body)).collect()
    }

    async fn approve(&self, id: &ItemId, hash: ContentHash) -> Result<(), StoreError> {
        let sql = "INSERT INTO approved (id, hash) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET hash = excluded.hash";
        let query = sqlx::query(sql)
            .bind(id.as_str())
            .bind(hash.as_bytes().as_slice());
        query.execute(&self.pool).await.map_err(backend)?;
        Ok(())
    }

    async fn approved(&self) -> Result<Vec<(ItemId, ContentHash)>, StoreError> {
        let rows = sqlx::query("SELECT id, hash FROM approved ORDER BY id")
            .fetch_all(&self.pool)
            .await;
        rows.map_err(backend)?.iter().map(read_approved).collect()
    }

    async fn put_embedding(&self, key: [u8; 32], vector: &[f32]) -> Result<(), StoreError> {
        let sql = "INSERT INTO embedding (key, vector) VALUES (?, ?)
                   ON CONFLICT (key) DO UPDATE SET vector = excluded.vector";
        let query = sqlx::query(sql)
            .bind(key.as_slice())
            .bind(floats_to_bytes(vector));
        query.execute(&self.pool).await.map_err(backend)?;
        Ok(())
    }

    async fn embedding(&self, key: [u8; 32]) -> Result<Option<Vec<f32>>, StoreError> {
        let query = sqlx::query_scalar("SELECT vector FROM embedding WHERE key = ?").bind(key.as_slice());
        let bytes: Option<Vec<u8>> = query.fetch_optional(&self.pool).await.map_err(backend)?;
        Ok(bytes.as_deref().map(floats_of_bytes))
    }

    async fn embedding_keys(
        &self,
        after: Option<[u8; 32]>,
        limit: usize,
    ) -> Result<Vec<[u8; 32]>, StoreError> {
        let sql = "SELECT key FROM embedding WHERE key > ? ORDER BY key LIMIT ?";
        let query = sqlx::query_scalar(sql)
            .bind(after.map_or_else(Vec::new, Vec::from))
            .bind(page(limit));
        let keys: Vec<Vec<u8>> = query.fetch_all(&self.pool).await.map_err(backend)?;
        keys.iter().map(|key| digest(key)).collect()
    }

    async fn remove_embeddings(&self, keys: &[[u8; 32]]) -> Result<u64, StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(backend)?;
        let mut gone = 0;
        for key in keys {
            let query = sqlx::query("DELETE FROM embedding WHERE key = ?").bind(key.as_slice());
            let done = query.execute(&mut *tx).await.map_err(backend)?;
            gone += done.rows_affected();
        }
        tx.commit().await.map_err(backend)?;
        Ok(gone)
    }

    async fn append(&self, entry: &LogEntry) -> Result<u64, StoreError> {
        let (kind, decision) = columns(entry);
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(backend)?;
        if kind == RECORDED && !has_decision(&mut tx, decision).await? {
            return Err(StoreError::UnknownDecision);
        }
        let sql = "INSERT INTO entry (kind, decision, body) VALUES (?, ?, ?)";
        let query = sqlx::query(sql).bind(kind).bind(key_of(decision));
        let done = query.bind(to_json(entry)?).execute(&mut *tx).await;
        let done = done.map_err(not_appended)?;
        tx.commit().await.map_err(backend)?;
        Ok(done.last_insert_rowid().unsigned_abs())
    }

    async fn log(&self, after: u64, limit: usize) -> Result<LogPage, StoreError> {
        let sql = "SELECT n, body FROM entry WHERE n > ? ORDER BY n LIMIT ?";
        let rows = sqlx::query(sql)
            .bind(place(after))
            .bind(page(limit))
            .fetch_all(&self.pool)
            .await;
        let entries = rows
            .map_err(backend)?
            .iter()
            .map(read_entry)
            .collect::<Result<_, _>>()?;
        Ok(LogPage { entries })
    }

    async fn keep_learned(&self, at: u64, learned: &[u8], decisions: usize) -> Result<(), StoreError> {
        let keep = "INSERT INTO learned (id, at, body) VALUES (1, ?, ?) ON CONFLICT (id) DO UPDATE
                    SET at = excluded.at, body = excluded.body WHERE excluded.at > learned.at";
        let cut = "DELETE FROM entry WHERE n <= ? AND n <
                   (SELECT n FROM entry WHERE kind = ? ORDER BY n DESC LIMIT 1 OFFSET ?)";
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(backend)?;
        let query = sqlx::query(keep).bind(place(at)).bind(learned);
        query.execute(&mut *tx).await.map_err(backend)?;
        let query = sqlx::query(cut).bind(place(at)).bind(DECIDED);
        let query = query.bind(after_first(decisions));
        query.execute(&mut *tx).await.map_err(backend)?;
        tx.commit().await.map_err(backend)
    }

    async fn learned(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let query = sqlx::query("SELECT at, body FROM learned");
        let row = query.fetch_optional(&self.pool).await.map_err(backend)?;
        let Some(row) = row else { return Ok(None) };
        let at: i64 = row.try_get(0).map_err(backend)?;
        Ok(Some((at.unsigned_abs(), row.try_get(1).map_err(backend)?)))
    }
}

async fn has_decision(tx: &mut SqliteConnection, id: Option<DecisionId>) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM entry WHERE decision = ? AND kind = ?";
    let query = sqlx::query(sql).bind(key_of(id)).bind(DECIDED);
    Ok(query.fetch_optional(tx).await.map_err(backend)?.is_some())
}

async fn known_of(tx: &mut SqliteConnection, id: &ItemId) -> Result<Known, StoreError> {
    let sql = "SELECT (SELECT body FROM item WHERE id = ?1), (SELECT hash FROM gone WHERE id = ?1),
               (SELECT hash FROM approved WHERE id = ?1)";
    let row = sqlx::query(sql).bind(id.as_str()).fetch_one(tx).await;
    let row = row.map_err(backend)?;
    let body: Option<String> = row.try_get(0).map_err(backend)?;
    let gone: Option<Vec<u8>> = row.try_get(1).map_err(backend)?;
    let approved: Option<Vec<u8>> = row.try_get(2).map_err(backend)?;
    known(body.as_deref(), gone.as_deref(), approved.as_deref())
}

fn read_entry(row: &SqliteRow) -> Result<(u64, LogEntry), StoreError> {
    let body: String = row.try_get(1).map_err(backend)?;
    entry(row.try_get(0).map_err(backend)?, &body)
}

fn read_approved(row: &SqliteRow) -> Result<(ItemId, ContentHash), StoreError> {
    let hash: Vec<u8> = row.try_get(1).map_err(backend)?;
    approved(row.try_get(0).map_err(backend)?, &hash)
}
