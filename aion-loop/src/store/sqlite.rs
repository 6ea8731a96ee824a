//! [`SqliteLoopStore`]: one file and one connection.
//!
//! Every write survives the end of the process. An intent survives a loss of power as well, and with
//! it everything that was written before: a call never leaves without a trace of it on the disk.

use std::path::Path;

use aion_sql::{Schema, SqliteOptions};
use aion_types::{AgentId, RunId, TaskId, Timestamp};
use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::{SqliteQueryResult, SqliteRow, SqliteSynchronous};
use sqlx::{Row, SqliteConnection, SqlitePool};

use super::{Intent, IntentOutcome, LoopStore, RunRecord, RunStatus, StoreError};
use crate::agent::AgentType;
use crate::report::StepReport;
use crate::run::RunSnapshot;

const SCHEMA: Schema = Schema {
    name: "aion_loop",
    application_id: 0x4169_6f4c, // "AioL"
    sqlite: &[include_str!("migrations/0001_loop.sql")],
    postgres: &[],
};

/// A store in an SQLite file (WAL).
#[derive(Debug, Clone)]
pub struct SqliteLoopStore {
    pool: SqlitePool,
}

impl SqliteLoopStore {
    /// Opens the file at `path`, and makes it if it is not there.
    ///
    /// # Errors
    /// [`StoreError::NewerDatabase`], [`StoreError::ForeignDatabase`], or a failure of the storage.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let options = SqliteOptions::file(path)
            .with_connections(1)
            .with_synchronous(SqliteSynchronous::Normal);
        Self::connect(options).await
    }

    /// A store in memory, gone with its last clone.
    ///
    /// # Errors
    /// A failure of the storage.
    pub async fn in_memory() -> Result<Self, StoreError> {
        Self::connect(SqliteOptions::in_memory()).await
    }

    async fn connect(options: SqliteOptions) -> Result<Self, StoreError> {
        let pool = SCHEMA.open_sqlite(&options).await?;
        Ok(Self { pool })
    }
}

async fn set(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), StoreError> {
    sqlx::raw_sql(sql)
        .execute(connection)
        .await
        .map(drop)
        .map_err(storage)
}

fn storage(error: sqlx::Error) -> StoreError {
    StoreError::Storage(Box::new(error))
}

fn unreadable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(error.to_string())
}

fn to_json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(unreadable)
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(unreadable)
}

fn id_bytes(row: &SqliteRow, column: &str) -> Result<[u8; 16], StoreError> {
    let bytes: Vec<u8> = row.try_get(column).map_err(storage)?;
    bytes
        .try_into()
        .map_err(|_| StoreError::Corrupt(format!("{column} is no id")))
}

fn run_id(row: &SqliteRow, column: &str) -> Result<RunId, StoreError> {
    RunId::from_bytes(id_bytes(row, column)?).map_err(unreadable)
}

fn run_record(row: &SqliteRow) -> Result<RunRecord, StoreError> {
    let text = |column: &str| row.try_get::<String, _>(column).map_err(storage);
    let status = text("status")?;
    Ok(RunRecord {
        run: run_id(row, "id")?,
        task: TaskId::from_bytes(id_bytes(row, "task_id")?).map_err(unreadable)?,
        agent: AgentId::new(text("agent")?).map_err(unreadable)?,
        status: from_json::<RunStatus>(&format!("\"{status}\""))?,
        snapshot: RunSnapshot::from_json(&text("snapshot")?).map_err(unreadable)?,
        updated_at: Timestamp::from_ms(row.try_get("updated_at").map_err(storage)?),
    })
}

fn intent(row: &SqliteRow) -> Result<Intent, StoreError> {
    let text = |column: &str| row.try_get::<String, _>(column).map_err(storage);
    let status: Option<String> = row.try_get("status").map_err(storage)?;
    let answer: Option<String> = row.try_get("answer").map_err(storage)?;
    let outcome = match status {
        Some(status) => Some(IntentOutcome {
            status: from_json(&status)?,
            answer: answer.unwrap_or_default(),
        }),
        None => None,
    };
    Ok(Intent {
        key: text("key")?,
        run: run_id(row, "run_id")?,
        ordinal: row.try_get::<i64, _>("ordinal").map_err(storage)?.cast_unsigned(),
        tool: text("tool")?,
        arguments: from_json(&text("arguments")?)?,
        outcome,
        at: Timestamp::from_ms(row.try_get("at").map_err(storage)?),
    })
}

/// Writes an intent unless its key is known.
async fn insert_intent(
    connection: &mut SqliteConnection,
    wanted: &Intent,
) -> Result<SqliteQueryResult, StoreError> {
    let insert = sqlx::query(
        "INSERT INTO intent (key, run_id, ordinal, tool, arguments, at) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (key) DO NOTHING",
    );
    insert
        .bind(&wanted.key)
        .bind(wanted.run.as_bytes().as_slice())
        .bind(wanted.ordinal.cast_signed())
        .bind(&wanted.tool)
        .bind(to_json(&wanted.arguments)?)
        .bind(wanted.at.as_ms())
        .execute(connection)
        .await
        .map_err(storage)
}

#[async_trait]
impl LoopStore for SqliteLoopStore {
    async fn save_run(&self, record: &RunRecord) -> Result<(), StoreError> {
        let snapshot = record.snapshot.to_json().map_err(unreadable)?;
        sqlx::query(
            "INSERT INTO run (id, task_id, agent, status, snapshot, updated_at) VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET status = excluded.status, snapshot = excluded.snapshot,
                 updated_at = excluded.updated_at",
        )
        .bind(record.run.as_bytes().as_slice())
        .bind(record.task.as_bytes().as_slice())
        .bind(record.agent.as_str())
        .bind(record.status.as_str())
        .bind(snapshot)
        .bind(record.updated_at.as_ms())
        .execute(&self.pool)
        .await
        .map_err(storage)?;
        Ok(())
    }

    async fn run(&self, run: RunId) -> Result<Option<RunRecord>, StoreError> {
        let row = sqlx::query("SELECT * FROM run WHERE id = ?")
            .bind(run.as_bytes().as_slice())
            .fetch_optional(&self.pool)
            .await
            .map_err(storage)?;
        row.as_ref().map(run_record).transpose()
    }

    async fn run_of_task(&self, task: TaskId) -> Result<Option<RunRecord>, StoreError> {
        let row = sqlx::query("SELECT * FROM run WHERE task_id = ? ORDER BY id DESC LIMIT 1")
            .bind(task.as_bytes().as_slice())
            .fetch_optional(&self.pool)
            .await
            .map_err(storage)?;
        row.as_ref().map(run_record).transpose()
    }

    async fn runs(&self, before: Option<RunId>, limit: u32) -> Result<Vec<RunRecord>, StoreError> {
        let newest = [0xff; 16];
        let before = before.as_ref().map_or(&newest, RunId::as_bytes);
        let rows = sqlx::query("SELECT * FROM run WHERE id < ? ORDER BY id DESC LIMIT ?")
            .bind(before.as_slice())
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(storage)?;
        rows.iter().map(run_record).collect()
    }

    async fn intend(&self, wanted: &Intent) -> Result<Option<Intent>, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(storage)?;
        set(&mut connection, "PRAGMA synchronous = FULL").await?;
        let written = insert_intent(&mut connection, wanted).await;
        set(&mut connection, "PRAGMA synchronous = NORMAL").await?;
        drop(connection);
        let written = written?;
        if written.rows_affected() > 0 {
            return Ok(None);
        }
        let row = sqlx::query("SELECT * FROM intent WHERE key = ?")
            .bind(&wanted.key)
            .fetch_one(&self.pool)
            .await
            .map_err(storage)?;
        intent(&row)?.same_call(wanted).map(Some)
    }

    async fn settle(&self, key: &str, outcome: &IntentOutcome) -> Result<(), StoreError> {
        let written = sqlx::query("UPDATE intent SET status = ?, answer = ? WHERE key = ?")
            .bind(to_json(&outcome.status)?)
            .bind(&outcome.answer)
            .bind(key)
            .execute(&self.pool)
            .await
            .map_err(storage)?;
        if written.rows_affected() == 0 {
            return Err(StoreError::NotFound {
                what: "intent",
                id: key.to_owned(),
            });
        }
        Ok(())
    }

    async fn intents(&self, run: RunId) -> Result<Vec<Intent>, StoreError> {
        let rows = sqlx::query("SELECT * FROM intent WHERE run_id = ? ORDER BY ordinal")
            .bind(run.as_bytes().as_slice())
            .fetch_all(&self.pool)
            .await
            .map_err(storage)?;
        rows.iter().map(intent).collect()
    }

    async fn save_step(&self, step: &StepReport) -> Result<(), StoreError> {
        sqlx::query("INSERT OR REPLACE INTO step (run_id, step, body) VALUES (?, ?, ?)")
            .bind(step.run.as_bytes().as_slice())
            .bind(i64::from(step.step))
            .bind(to_json(step)?)
            .execute(&self.pool)
            .await
            .map_err(storage)?;
        Ok(())
    }

    async fn steps(&self, run: RunId, after: u32, limit: u32) -> Result<Vec<StepReport>, StoreError> {
        let bodies: Vec<String> =
            sqlx::query_scalar("SELECT body FROM step WHERE run_id = ? AND step > ? ORDER BY step LIMIT ?")
                .bind(run.as_bytes().as_slice())
                .bind(i64::from(after))
                .bind(i64::from(limit))
                .fetch_all(&self.pool)
                .await
                .map_err(storage)?;
        bodies.iter().map(|body| from_json(body)).collect()
    }

    async fn save_agent_type(&self, agent: &AgentType) -> Result<(), StoreError> {
        sqlx::query("INSERT OR REPLACE INTO agent_type (id, body) VALUES (?, ?)")
            .bind(agent.id.as_str())
            .bind(to_json(agent)?)
            .execute(&self.pool)
            .await
            .map_err(storage)?;
        Ok(())
    }

    async fn agent_type(&self, id: &AgentId) -> Result<Option<AgentType>, StoreError> {
        let body: Option<String> = sqlx::query_scalar("SELECT body FROM agent_type WHERE id = ?")
            .bind(id.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(storage)?;
        body.map(|body| from_json(&body)).transpose()
    }

    async fn agent_types(&self, after: Option<&AgentId>, limit: u32) -> Result<Vec<AgentType>, StoreError> {
        let after = after.map_or("", AgentId::as_str);
        let bodies: Vec<String> =
            sqlx::query_scalar("SELECT body FROM agent_type WHERE id > ? ORDER BY id LIMIT ?")
                .bind(after)
                .bind(i64::from(limit))
                .fetch_all(&self.pool)
                .await
                .map_err(storage)?;
        bodies.iter().map(|body| from_json(body)).collect()
    }
}
