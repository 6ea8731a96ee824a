//! A Postgres database for a test.
//!
//! `AION_TEST_POSTGRES` is the URL of a server where databases may be created. Without it a test fails and
//! says so; the word `skip` in its place skips the tests that need a server.
#![allow(clippy::print_stderr)] // a skipped test says so

use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};

use crate::PostgresOptions;

/// The variable that names the server.
pub const VARIABLE: &str = "AION_TEST_POSTGRES";

/// An empty database on the server.
#[derive(Debug)]
pub struct TestDatabase {
    server: PgConnectOptions,
    name: String,
}

impl TestDatabase {
    /// A database of its own, or none where skipping was asked for.
    ///
    /// # Panics
    /// If the variable is not set, or the server does not make a database: the test cannot run.
    pub async fn create() -> Option<Self> {
        Self::create_at(VARIABLE).await
    }

    /// The same on the server that another variable names.
    ///
    /// # Panics
    /// As [`TestDatabase::create`].
    pub async fn create_at(variable: &str) -> Option<Self> {
        let Ok(url) = std::env::var(variable) else {
            panic!("{variable} is not set: give the URL of a Postgres server for tests, or the word skip");
        };
        if url == "skip" {
            eprintln!("SKIPPED: {variable}=skip");
            return None;
        }
        let server = PgConnectOptions::from_str(&url).unwrap_or_else(|error| panic!("{variable}: {error}"));
        let database = Self {
            server,
            name: fresh_name(),
        };
        let created = database.order(format!("CREATE DATABASE {}", database.name)).await;
        created.unwrap_or_else(|error| panic!("{variable}: no database can be created: {error}"));
        Some(database)
    }

    /// Options that connect to the database.
    #[must_use]
    pub fn options(&self) -> PostgresOptions {
        PostgresOptions::to(self.connect())
    }

    /// What sqlx needs to connect to the database.
    #[must_use]
    pub fn connect(&self) -> PgConnectOptions {
        self.server.clone().database(&self.name)
    }

    /// The database's URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.connect().to_url_lossy().to_string()
    }

    /// Removes the database and whoever is still connected to it.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn remove(self) {
        let removed = self
            .order(format!("DROP DATABASE {} WITH (FORCE)", self.name))
            .await;
        removed.unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    async fn order(&self, sql: String) -> Result<(), sqlx::Error> {
        let mut connection: PgConnection = self.server.connect().await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&mut connection)
            .await?;
        connection.close().await
    }
}

/// A name that no other test has: the process, the time and a counter.
fn fresh_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("aion_test_{}_{}_{next}", std::process::id(), now.as_nanos())
}
