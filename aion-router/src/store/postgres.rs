//! Everything in a Postgres database, embeddings as pgvector's type where the server has it.
//!
//! Whoever appends locks the log, so that its numbers are in the order of commits and no page leaves out an entry
//! that commits late; readers wait for nobody.

use std::collections::BTreeMap;

use aion_sql::PostgresOptions;
use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::{AssertSqlSafe, Connection, Row};

use super::sql::{
    DECIDED, FORGOT, RECORDED, SCHEMA, after_first, approved, backend, columns, digest, entry, from_json,
    key_of, known, not_appended, opened, page, place, said, to_json,
};
use super::{Known, LogPage, Put, RouterStore, StoreError, judge};
use crate::bytes::{floats_of_bytes, floats_to_bytes};
use crate::engine::LogEntry;
use crate::item::{ContentHash, Item, ItemId};

/// The most numbers of a `vector`.
const MAX_VECTOR: usize = 16_000;

/// A store in a Postgres database: schema `aion_router`.
///
/// Where the server has the extension `vector` (pgvector), or lets this user create it, embeddings lie in a column of
/// that type, so that SQL can compare them; else they are bytes, with a line in the log. Both answer the same.
#[derive(Debug, Clone)]
pub struct PostgresRouterStore {
    pool: PgPool,
    /// How embeddings are written and read, if as vectors.
    vectors: Option<VectorSql>,
}

/// Statements over the column `vector`, whose type lies where the extension was installed.
#[derive(Debug, Clone)]
struct VectorSql {
    put: String,
    get: String,
}

impl PostgresRouterStore {
    /// Connects, and brings the schema `aion_router` to the newest version.
    ///
    /// # Errors
    /// [`StoreError::Open`] for a schema of another or a newer program, or a server that cannot be used.
    pub async fn open(options: &PostgresOptions) -> Result<Self, StoreError> {
        let pool = SCHEMA.open_postgres(options).await.map_err(opened)?;
        let vectors = {
            let mut connection = pool.acquire().await.map_err(backend)?;
            vectors(&mut connection).await
        };
        Ok(Self { pool, vectors })
    }

    /// Whether embeddings lie in a column of pgvector's type.
    pub const fn has_vectors(&self) -> bool {
        self.vectors.is_some()
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Makes the column `vector` where the server knows the type.
async fn vectors(connection: &mut PgConnection) -> Option<VectorSql> {
    let home = match extend(connection).await {
        Ok(home) => home,
        Err(error) => {
            tracing::info!(%error, "no extension vector (pgvector): embeddings are kept as bytes");
            return None;
        }
    };
    Some(VectorSql {
        put: format!(
            "INSERT INTO embedding (key, bytes, vector) VALUES ($1, $2, $3::real[]::{home}.vector)
             ON CONFLICT (key) DO UPDATE SET bytes = excluded.bytes, vector = excluded.vector"
        ),
        get: "SELECT bytes, vector::real[] FROM embedding WHERE key = $1".to_owned(),
    })
}

/// The extension and the column, made if they are not there; the schema of the type. One process at a time, for
/// Postgres fails all others that make the same thing.
async fn extend(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    let mut tx = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(i64::from(SCHEMA.application_id))
        .execute(&mut *tx)
        .await?;
    let there = sqlx::query("SELECT 1 FROM pg_extension WHERE extname = 'vector'");
    if there.fetch_optional(&mut *tx).await?.is_none() {
        // Not in our own schema: other users of the database may want it too.
        let create = sqlx::raw_sql("CREATE EXTENSION vector SCHEMA public");
        create.execute(&mut *tx).await?;
    }
    let home = "SELECT quote_ident(nspname) FROM pg_extension
                JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'vector'";
    let home: String = sqlx::query_scalar(home).fetch_one(&mut *tx).await?;
    let column = "SELECT 1 FROM pg_attribute
                  WHERE attrelid = 'embedding'::regclass AND attname = 'vector' AND NOT attisdropped";
    if sqlx::query(column).fetch_optional(&mut *tx).await?.is_none() {
        let add = format!("ALTER TABLE embedding ADD COLUMN vector {home}.vector");
        sqlx::raw_sql(AssertSqlSafe(add)).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(home)
}

/// Whether pgvector takes it.
fn is_vector(vector: &[f32]) -> bool {
    (1..=MAX_VECTOR).contains(&vector.len()) && vector.iter().all(|x| x.is_finite())
}

#[async_trait]
impl RouterStore for PostgresRouterStore {
    async fn open_again(&self) -> Result<u64, StoreError> {
        let sql = "INSERT INTO opening (id, n) VALUES (1, 0)
                   ON CONFLICT (id) DO UPDATE SET n = opening.n + 1 RETURNING n";
        let n: i64 = sqlx::query_scalar(sql)
            .fetch_one(&self.pool)
            .await
            .map_err(backend)?;
        Ok(n.unsigned_abs())
    }

    async fn put_items(&self, items: &[Item]) -> Result<Put, StoreError> {
        let mut tx = self.pool.begin().await.map_err(backend)?;
        take_turn(&mut tx).await?;
        let judged = judge(items, known_of(&mut tx, items).await?);
        let ids: Vec<&str> = items.iter().map(|item| item.id().as_str()).collect();
        let bodies: Vec<String> = items.iter().map(to_json).collect::<Result<_, _>>()?;
        // Of an id that comes twice the last one stays, as if they had come one after another.
        let sql = "INSERT INTO item (id, body)
                   SELECT DISTINCT ON (id) id, body
                   FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS new (id, body, place)
                   ORDER BY id, place DESC
                   ON CONFLICT (id) DO UPDATE SET body = excluded.body";
        let query = sqlx::query(sql).bind(ids).bind(bodies);
        query.execute(&mut *tx).await.map_err(backend)?;
        pin(&mut tx, &judged.pins).await?;
        let numbers = forget(&mut tx, &judged.forgot).await?;
        tx.commit().await.map_err(backend)?;
        Ok(Put::new(judged, numbers))
    }

    async fn remove_item(&self, id: &ItemId) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin().await.map_err(backend)?;
        take_turn(&mut tx).await?;
        let query = sqlx::query_scalar("DELETE FROM item WHERE id = $1 RETURNING body").bind(id.as_str());
        let body: Option<String> = query.fetch_optional(&mut *tx).await.map_err(backend)?;
        let Some(body) = body else { return Ok(false) };
        let sql =
            "INSERT INTO gone (id, hash) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET hash = excluded.hash";
        let query = sqlx::query(sql)
            .bind(id.as_str())
            .bind(said(&body).as_bytes().to_vec());
        query.execute(&mut *tx).await.map_err(backend)?;
        tx.commit().await.map_err(backend)?;
        Ok(true)
    }

    async fn items(&self, after: Option<&ItemId>, limit: usize) -> Result<Vec<Item>, StoreError> {
        let sql = "SELECT body FROM item WHERE id > $1 ORDER BY id LIMIT $2";
        let query = sqlx::query_scalar(sql)
            .bind(after.map_or("", ItemId::as_str))
            .bind(page(limit));
        let bodies: Vec<String> = query.fetch_all(&self.pool).await.map_err(backend)?;
        bodies.iter().map(|body| from_json("item", body)).collect()
    }

    async fn approve(&self, id: &ItemId, hash: ContentHash) -> Result<(), StoreError> {
        let sql = "INSERT INTO approved (id, hash) VALUES ($1, $2)
                   ON CONFLICT (id) DO UPDATE SET hash = excluded.hash";
        let query = sqlx::query(sql)
            .bind(id.as_str())
            .bind(hash.as_bytes().as_slice());
        let mut tx = self.pool.begin().await.map_err(backend)?;
        take_turn(&mut tx).await?;
        query.execute(&mut *tx).await.map_err(backend)?;
        tx.commit().await.map_err(backend)
    }

    async fn approved(&self) -> Result<Vec<(ItemId, ContentHash)>, StoreError> {
        let rows = sqlx::query("SELECT id, hash FROM approved ORDER BY id")
            .fetch_all(&self.pool)
            .await;
        rows.map_err(backend)?.iter().map(read_approved).collect()
    }

    async fn put_embedding(&self, key: [u8; 32], vector: &[f32]) -> Result<(), StoreError> {
        let query = match &self.vectors {
            Some(sql) => {
                let (bytes, vector) = if is_vector(vector) {
                    (None, Some(vector))
                } else {
                    (Some(floats_to_bytes(vector)), None)
                };
                let query = sqlx::query(AssertSqlSafe(sql.put.clone())).bind(key.to_vec());
                query.bind(bytes).bind(vector)
            }
            None => {
                let sql = "INSERT INTO embedding (key, bytes) VALUES ($1, $2)
                           ON CONFLICT (key) DO UPDATE SET bytes = excluded.bytes";
                sqlx::query(sql).bind(key.to_vec()).bind(floats_to_bytes(vector))
            }
        };
        query.execute(&self.pool).await.map_err(backend)?;
        Ok(())
    }

    async fn embedding(&self, key: [u8; 32]) -> Result<Option<Vec<f32>>, StoreError> {
        let sql = match &self.vectors {
            Some(sql) => sql.get.clone(),
            None => "SELECT bytes, NULL::real[] FROM embedding WHERE key = $1".to_owned(),
        };
        let query = sqlx::query(AssertSqlSafe(sql)).bind(key.to_vec());
        let row = query.fetch_optional(&self.pool).await.map_err(backend)?;
        row.map_or(Ok(None), |row| read_embedding(&row))
    }

    async fn embedding_keys(
        &self,
        after: Option<[u8; 32]>,
        limit: usize,
    ) -> Result<Vec<[u8; 32]>, StoreError> {
        let sql = "SELECT key FROM embedding WHERE key > $1 ORDER BY key LIMIT $2";
        let query = sqlx::query_scalar(sql)
            .bind(after.map_or_else(Vec::new, Vec::from))
            .bind(page(limit));
        let keys: Vec<Vec<u8>> = query.fetch_all(&self.pool).await.map_err(backend)?;
        keys.iter().map(|key| digest(key)).collect()
    }

    async fn remove_embeddings(&self, keys: &[[u8; 32]]) -> Result<u64, StoreError> {
        let keys: Vec<Vec<u8>> = keys.iter().map(|key| key.to_vec()).collect();
        let query = sqlx::query("DELETE FROM embedding WHERE key = ANY($1)").bind(keys);
        let done = query.execute(&self.pool).await.map_err(backend)?;
        Ok(done.rows_affected())
    }

    async fn append(&self, entry: &LogEntry) -> Result<u64, StoreError> {
        let (kind, decision) = columns(entry);
        let mut tx = self.pool.begin().await.map_err(backend)?;
        take_turn(&mut tx).await?;
        if kind == RECORDED && !has_decision(&mut tx, key_of(decision)).await? {
            return Err(StoreError::UnknownDecision);
        }
        let sql = "INSERT INTO entry (n, kind, decision, body)
                   SELECT coalesce(max(n), 0) + 1, $1, $2, $3 FROM entry RETURNING n";
        let query = sqlx::query_scalar(sql).bind(kind).bind(key_of(decision));
        let n = query.bind(to_json(entry)?).fetch_one(&mut *tx).await;
        let n: i64 = n.map_err(not_appended)?;
        tx.commit().await.map_err(backend)?;
        Ok(n.unsigned_abs())
    }

    async fn log(&self, after: u64, limit: usize) -> Result<LogPage, StoreError> {
        let sql = "SELECT n, body FROM entry WHERE n > $1 ORDER BY n LIMIT $2";
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
        let keep = "INSERT INTO learned (id, at, body) VALUES (1, $1, $2) ON CONFLICT (id) DO UPDATE
                    SET at = excluded.at, body = excluded.body WHERE excluded.at > learned.at";
        let cut = "DELETE FROM entry WHERE n <= $1 AND n <
                   (SELECT n FROM entry WHERE kind = $2 ORDER BY n DESC LIMIT 1 OFFSET $3)";
        let mut tx = self.pool.begin().await.map_err(backend)?;
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

/// Waits for all others that append, or judge items by what is stored.
async fn take_turn(tx: &mut PgConnection) -> Result<(), StoreError> {
    let turn = sqlx::query("LOCK TABLE entry IN EXCLUSIVE MODE");
    turn.execute(tx).await.map_err(backend)?;
    Ok(())
}

async fn known_of(tx: &mut PgConnection, items: &[Item]) -> Result<BTreeMap<ItemId, Known>, StoreError> {
    let sql = "SELECT item.body, gone.hash, approved.hash
               FROM unnest($1::text[]) WITH ORDINALITY AS asked (id, place)
               LEFT JOIN item ON item.id = asked.id LEFT JOIN gone ON gone.id = asked.id
               LEFT JOIN approved ON approved.id = asked.id ORDER BY place";
    let ids: Vec<&str> = items.iter().map(|item| item.id().as_str()).collect();
    let rows = sqlx::query(sql).bind(ids).fetch_all(tx).await.map_err(backend)?;
    let mut found = BTreeMap::new();
    for (item, row) in items.iter().zip(&rows) {
        let body: Option<String> = row.try_get(0).map_err(backend)?;
        let gone: Option<Vec<u8>> = row.try_get(1).map_err(backend)?;
        let approved: Option<Vec<u8>> = row.try_get(2).map_err(backend)?;
        let before = known(body.as_deref(), gone.as_deref(), approved.as_deref())?;
        found.insert(item.id().clone(), before);
    }
    Ok(found)
}

async fn pin(tx: &mut PgConnection, pins: &BTreeMap<ItemId, ContentHash>) -> Result<(), StoreError> {
    let sql = "INSERT INTO approved (id, hash) SELECT * FROM unnest($1::text[], $2::bytea[])
               ON CONFLICT (id) DO NOTHING";
    let ids: Vec<&str> = pins.keys().map(ItemId::as_str).collect();
    let hashes: Vec<&[u8]> = pins.values().map(|hash| hash.as_bytes().as_slice()).collect();
    let query = sqlx::query(sql).bind(ids).bind(hashes);
    query.execute(tx).await.map_err(backend)?;
    Ok(())
}

/// Logs what is forgotten; the numbers of the entries.
async fn forget(tx: &mut PgConnection, items: &[ItemId]) -> Result<Vec<u64>, StoreError> {
    let sql = "INSERT INTO entry (n, kind, body)
               SELECT (SELECT coalesce(max(n), 0) FROM entry) + place, $1, body
               FROM unnest($2::text[]) WITH ORDINALITY AS new (body, place) RETURNING n";
    let bodies = items
        .iter()
        .map(|item| to_json(&LogEntry::Forgot { item: item.clone() }));
    let bodies: Vec<String> = bodies.collect::<Result<_, _>>()?;
    let query = sqlx::query_scalar(sql).bind(FORGOT).bind(bodies);
    let mut numbers: Vec<i64> = query.fetch_all(tx).await.map_err(backend)?;
    numbers.sort_unstable();
    Ok(numbers.into_iter().map(i64::unsigned_abs).collect())
}

async fn has_decision(tx: &mut PgConnection, id: Option<Vec<u8>>) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM entry WHERE decision = $1 AND kind = $2";
    let query = sqlx::query(sql).bind(id).bind(DECIDED);
    Ok(query.fetch_optional(tx).await.map_err(backend)?.is_some())
}

/// The vector of a row, as one or as bytes; `None` if both went with the extension.
fn read_embedding(row: &PgRow) -> Result<Option<Vec<f32>>, StoreError> {
    let bytes: Option<Vec<u8>> = row.try_get(0).map_err(backend)?;
    let vector: Option<Vec<f32>> = row.try_get(1).map_err(backend)?;
    Ok(vector.or_else(|| bytes.as_deref().map(floats_of_bytes)))
}

fn read_entry(row: &PgRow) -> Result<(u64, LogEntry), StoreError> {
    let body: String = row.try_get(1).map_err(backend)?;
    entry(row.try_get(0).map_err(backend)?, &body)
}

fn read_approved(row: &PgRow) -> Result<(ItemId, ContentHash), StoreError> {
    let hash: Vec<u8> = row.try_get(1).map_err(backend)?;
    approved(row.try_get(0).map_err(backend)?, &hash)
}
