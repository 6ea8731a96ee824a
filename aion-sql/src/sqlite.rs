//! SQLite: a file in write-ahead mode, or a database in memory.

use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use crate::schema::known;
use crate::{OpenError, Schema};

/// How long a connection waits for another one's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two attempts at a lock that SQLite does not wait for by itself.
const RETRY: Duration = Duration::from_millis(10);

/// Where the database is, and how its connections behave.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    connect: SqliteConnectOptions,
    connections: u32,
    in_memory: bool,
}

impl SqliteOptions {
    /// A file, made if there is none: write-ahead log, foreign keys enforced, 4 connections, synced at every
    /// commit.
    pub fn file(path: impl AsRef<Path>) -> Self {
        let connect = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        Self {
            connect,
            connections: 4,
            in_memory: false,
        }
    }

    /// A database in memory with one connection, gone with its pool.
    #[must_use]
    pub fn in_memory() -> Self {
        Self {
            connect: SqliteConnectOptions::new().in_memory(true),
            connections: 1,
            in_memory: true,
        }
    }

    /// Another number of connections; a database in memory keeps its one.
    #[must_use]
    pub fn with_connections(mut self, connections: u32) -> Self {
        if !self.in_memory {
            self.connections = connections.max(1);
        }
        self
    }

    /// Stops the file from growing beyond so many pages of 4 KiB; then writes fail as on a full disk.
    #[must_use]
    pub fn with_max_pages(mut self, pages: u32) -> Self {
        self.connect = self.connect.pragma("max_page_count", pages.to_string());
        self
    }

    /// Another rule for when a commit reaches the disk.
    #[must_use]
    pub fn with_synchronous(mut self, synchronous: SqliteSynchronous) -> Self {
        self.connect = self.connect.synchronous(synchronous);
        self
    }
}

impl Schema {
    /// Opens the database, made if there is none, at the newest schema.
    ///
    /// # Errors
    /// [`OpenError::Newer`] or [`OpenError::Foreign`] for a file that is not for this program,
    /// [`OpenError::Database`] if it cannot be opened.
    pub async fn open_sqlite(&self, options: &SqliteOptions) -> Result<SqlitePool, OpenError> {
        let pool = SqlitePoolOptions::new()
            .max_connections(options.connections)
            .idle_timeout(None)
            .max_lifetime(None);
        if options.in_memory {
            let pool = pool.connect_with(options.connect.clone()).await?;
            self.migrate_sqlite(&mut *pool.acquire().await?).await?;
            return Ok(pool);
        }
        self.prepare(&options.connect).await?;
        Ok(pool.connect_with(options.connect.clone()).await?)
    }

    /// The first connection alone turns the write-ahead log on and migrates. Of two that turn it on at once
    /// SQLite fails one immediately, without its busy timeout; another process may still be doing so.
    async fn prepare(&self, connect: &SqliteConnectOptions) -> Result<(), OpenError> {
        let started = Instant::now();
        let mut connection = loop {
            match connect.connect().await {
                Ok(connection) => break connection,
                Err(error) if is_busy(&error) && started.elapsed() < BUSY_TIMEOUT => {
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let migrated = self.migrate_sqlite(&mut connection).await;
        connection.close().await?;
        migrated
    }

    /// Brings an open database to the newest schema, for stores that hold their connections themselves.
    ///
    /// # Errors
    /// As [`Schema::open_sqlite`]; nothing is changed then.
    pub async fn migrate_sqlite(&self, connection: &mut SqliteConnection) -> Result<(), OpenError> {
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        let version = self.sqlite_version(&mut tx).await?;
        if version < self.sqlite.len() {
            for migration in &self.sqlite[version..] {
                sqlx::raw_sql(*migration).execute(&mut *tx).await?;
            }
            let stamp = format!(
                "PRAGMA application_id = {}; PRAGMA user_version = {}",
                self.application_id,
                self.sqlite.len()
            );
            sqlx::raw_sql(sqlx::AssertSqlSafe(stamp))
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    async fn sqlite_version(&self, connection: &mut SqliteConnection) -> Result<usize, OpenError> {
        let owner = number(connection, "PRAGMA application_id").await?;
        let version = number(connection, "PRAGMA user_version").await?;
        let tables = number(connection, "SELECT count(*) FROM sqlite_schema").await?;
        let empty = owner == 0 && version == 0 && tables == 0;
        if owner != i64::from(self.application_id) && !empty {
            return Err(OpenError::Foreign { found: owner });
        }
        known(version, self.sqlite)
    }
}

async fn number(connection: &mut SqliteConnection, sql: &'static str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(sql).fetch_one(connection).await
}

/// Whether another connection was in the way: the primary result code 5 (`SQLITE_BUSY`).
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    let code = code.and_then(|code| code.parse::<i32>().ok());
    code.is_some_and(|code| code & 0xff == 5)
}
