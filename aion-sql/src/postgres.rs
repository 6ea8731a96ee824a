//! Postgres: a store's tables lie in a schema of its own, so that several stores share a database.

use std::str::FromStr;
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};

use crate::schema::known;
use crate::{OpenError, Schema};

/// Where the server is, and how many connections the store keeps to it.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    connect: PgConnectOptions,
    connections: u32,
    acquire_timeout: Duration,
}

impl PostgresOptions {
    /// A database by its URL, `postgres://user:password@host:port/database?sslmode=..`; up to 8 connections,
    /// each waited for 10 seconds at most.
    ///
    /// # Errors
    /// [`OpenError::Database`] for a malformed URL.
    pub fn url(url: &str) -> Result<Self, OpenError> {
        Ok(Self::to(PgConnectOptions::from_str(url)?))
    }

    /// A database by sqlx's own options, with the same limits.
    #[must_use]
    pub fn to(connect: PgConnectOptions) -> Self {
        Self {
            connect,
            connections: 8,
            acquire_timeout: Duration::from_secs(10),
        }
    }

    /// Another number of connections.
    #[must_use]
    pub fn with_connections(mut self, connections: u32) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// Another limit on how long a caller waits for a connection.
    #[must_use]
    pub fn with_acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }
}

impl Schema {
    /// Connects, and brings the store's schema to the newest one.
    ///
    /// Processes that start together take turns, under an advisory lock. Every connection of the pool has the
    /// store's schema as its search path.
    ///
    /// # Errors
    /// [`OpenError::Newer`] for a schema that a newer program made, [`OpenError::Foreign`] for one with tables
    /// that are not ours, [`OpenError::Database`] if the server cannot be used.
    pub async fn open_postgres(&self, options: &PostgresOptions) -> Result<PgPool, OpenError> {
        let pool = PgPoolOptions::new()
            .max_connections(options.connections)
            .acquire_timeout(options.acquire_timeout)
            .connect_with(options.connect.clone().options([("search_path", self.name)]))
            .await?;
        self.migrate_postgres(&mut *pool.acquire().await?).await?;
        Ok(pool)
    }

    async fn migrate_postgres(&self, connection: &mut PgConnection) -> Result<(), OpenError> {
        let mut tx = connection.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(i64::from(self.application_id))
            .execute(&mut *tx)
            .await?;
        let version = self.postgres_version(&mut tx).await?;
        for migration in &self.postgres[version..] {
            sqlx::raw_sql(*migration).execute(&mut *tx).await?;
        }
        sqlx::query("UPDATE schema_version SET version = $1 WHERE version < $1")
            .bind(i64::try_from(self.postgres.len()).unwrap_or(i64::MAX))
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// The version of the store's schema, made at version 0 if it is not there.
    async fn postgres_version(&self, tx: &mut PgConnection) -> Result<usize, OpenError> {
        let ours = "SELECT count(*) FILTER (WHERE tablename = 'schema_version'), count(*)
                    FROM pg_tables WHERE schemaname = $1";
        let (stamped, tables): (i64, i64) = sqlx::query_as(ours).bind(self.name).fetch_one(&mut *tx).await?;
        if stamped == 0 && tables > 0 {
            return Err(OpenError::Foreign { found: 0 });
        }
        if stamped == 0 {
            let make = format!(
                "CREATE SCHEMA IF NOT EXISTS \"{}\";
                 CREATE TABLE schema_version (version BIGINT NOT NULL);
                 INSERT INTO schema_version VALUES (0)",
                self.name
            );
            sqlx::raw_sql(sqlx::AssertSqlSafe(make)).execute(&mut *tx).await?;
        }
        let found: i64 = sqlx::query_scalar("SELECT version FROM schema_version")
            .fetch_one(&mut *tx)
            .await?;
        known(found, self.postgres)
    }
}
