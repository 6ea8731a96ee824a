//! The task tree in a Postgres database: in each process one writer that commits in groups, and readers that
//! never wait for it.

mod codec;
mod enqueue;
mod herald;
mod hooks;
mod known;
mod lines;
#[cfg(test)]
mod plans;
mod put;
mod read;
mod ready;
mod room;
mod rows;
mod sql;
mod touched;
mod tx;
mod writer;

use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aion_types::{Clock, Timestamp};
use async_trait::async_trait;
use futures::stream::BoxStream;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgPool};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::AbortHandle;

use self::codec::storage;
use self::room::Room;
use self::writer::Writer;
use super::group::Job;
use super::{DueReport, SchemaInfo, TaskStore, Wake, hints, schema};
use crate::engine::check;
use crate::{ClaimReq, Done, Durability, Error, Lease, Limits, Page, Query, Result, Write};

/// Jobs that may wait for the writer.
const INBOX: usize = 4_096;

/// How long the server may take to answer when a store is opened.
const PATIENCE: Duration = Duration::from_secs(10);

/// What every connection is set to. Each statement of this store walks one index and follows ids from there, so
/// the planner is kept from other plans, which it would choose by statistics that a queue makes old in seconds.
/// The server ends a transaction whose process stands still, for it keeps all others waiting.
const SETTINGS: [(&str, &str); 10] = [
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_sort", "off"),
    ("enable_incremental_sort", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("lock_timeout", "10000"),
    ("idle_in_transaction_session_timeout", "30000"),
];

/// How a [`PostgresTaskStore`] works.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    clock: Option<Arc<dyn Clock>>,
    limits: Limits,
    durability: Durability,
    connections: u32,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            clock: None,
            limits: Limits::default(),
            durability: Durability::Process,
            connections: 8,
        }
    }
}

impl PostgresOptions {
    /// Takes the time from `clock` and not from the server. Then all processes that share the database must
    /// have the same one.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Sets the limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Raises every write to at least this durability. [`Durability::Process`] survives the end of this
    /// process but not a crash of the server (`synchronous_commit = off`); [`Durability::Power`] survives both.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets how many connections the store keeps, 8 unless set: one writes, one listens, the others read; 3
    /// at least.
    #[must_use]
    pub fn with_connections(mut self, connections: u32) -> Self {
        self.connections = connections.max(3);
        self
    }
}

/// The task tree in a Postgres database, in a schema of its own, `aion_processor`.
///
/// Any number of processes may have it open at the same time; their writers take turns. Clones of the handle
/// and threads may use the store at the same time: writes that come together are committed together. A
/// future of this store that is dropped stops waiting; what it asked for may still be done.
///
/// The store needs a session for each connection, so a pooler in between must not share sessions between
/// transactions.
#[derive(Debug)]
pub struct PostgresTaskStore {
    inbox: mpsc::Sender<Job>,
    pool: PgPool,
    clock: Option<Arc<dyn Clock>>,
    limits: Limits,
    wake: broadcast::Sender<Wake>,
    room: Arc<Room>,
    engine: String,
    heralds: [AbortHandle; 2],
}

impl PostgresTaskStore {
    /// Connects to a database by its URL, `postgres://user:password@host:port/database?sslmode=..`, and makes
    /// the schema if it is not there. Must be called within a runtime of tokio, whose thread the writer
    /// lives on.
    ///
    /// # Errors
    /// [`Error::NewerDatabase`], [`Error::Corrupt`] if the schema of this name is not ours, or a failure of the
    /// server.
    pub async fn open(url: &str, options: PostgresOptions) -> Result<Self> {
        let connect = PgConnectOptions::from_str(url).map_err(storage)?;
        let pool = connect_pool(connect, options.connections).await?;
        let version: String = sqlx::query_scalar("SHOW server_version")
            .fetch_one(&pool)
            .await
            .map_err(storage)?;
        let room = Arc::new(Room::default());
        let (inbox, jobs) = mpsc::channel(INBOX);
        let (own, all) = (broadcast::channel(64).0, broadcast::channel(64).0);
        let name = unique_name();
        let heralds = [
            tokio::spawn(herald::tell(pool.clone(), name.clone(), own.subscribe())).abort_handle(),
            tokio::spawn(herald::hear(pool.clone(), name, all.clone())).abort_handle(),
        ];
        let writer = Writer {
            pool: pool.clone(),
            conn: None,
            known: None,
            clock: options.clock.clone(),
            limits: options.limits.clone(),
            at_least: options.durability,
            own,
            all: all.clone(),
            room: room.clone(),
        };
        tokio::spawn(writer.run(jobs));
        Ok(Self {
            inbox,
            pool,
            clock: options.clock,
            limits: options.limits,
            wake: all,
            room,
            engine: format!("postgres {version}"),
            heralds,
        })
    }

    /// Writes what is waiting and leaves the server. Dropping the store does the same without waiting for it.
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.inbox.send(Job::Close(reply)).await.is_ok() {
            // No answer means that the writer has ended already.
            let _ = closed.await;
        }
        self.end_heralds();
        self.pool.close().await;
    }

    fn end_heralds(&self) {
        for herald in &self.heralds {
            herald.abort();
        }
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.inbox.try_send(job(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Busy { retry_after_ms: 50 },
            mpsc::error::TrySendError::Closed(_) => Error::gone(),
        })?;
        answer.await.map_err(|_| Error::gone())
    }
}

impl Drop for PostgresTaskStore {
    fn drop(&mut self) {
        self.end_heralds();
    }
}

#[async_trait]
impl TaskStore for PostgresTaskStore {
    async fn open_schema(&self) -> Result<SchemaInfo> {
        Ok(SchemaInfo {
            engine: self.engine.clone(),
            version: schema::SCHEMA.postgres.len() as u32,
        })
    }

    async fn apply(&self, writes: Vec<Write>) -> Result<Vec<Result<Done>>> {
        check::at_most("writes", writes.len() as u64, self.limits.max_ops as u64)?;
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        self.ask(|reply| Job::Apply(writes, reply)).await
    }

    async fn claim(&self, req: ClaimReq) -> Result<Vec<Lease>> {
        check::claim(&req, &self.limits)?;
        self.ask(|reply| Job::Claim(req, reply)).await?
    }

    async fn due(&self, limit: u32) -> Result<DueReport> {
        self.ask(|reply| Job::Due(limit, reply)).await?
    }

    async fn read(&self, query: Query) -> Result<Page> {
        let now = match query {
            Query::Children(_) => self.now().await?,
            _ => Timestamp::from_ms(0),
        };
        read::read(&self.pool, &self.limits, now, self.room.is_full(), query).await
    }

    async fn now(&self) -> Result<Timestamp> {
        if let Some(clock) = &self.clock {
            return Ok(clock.now());
        }
        let ms = sqlx::query_scalar(sql::NOW).fetch_one(&self.pool).await;
        ms.map(Timestamp::from_ms).map_err(storage)
    }

    fn wake(&self) -> BoxStream<'static, Wake> {
        hints(self.wake.subscribe())
    }
}

async fn connect_pool(connect: PgConnectOptions, connections: u32) -> Result<PgPool> {
    let connect = connect.disable_statement_logging().options(SETTINGS);
    reach(&connect).await?;
    let options = aion_sql::PostgresOptions::to(connect).with_connections(connections);
    let pool = schema::SCHEMA.open_postgres(&options).await;
    pool.map_err(|error| schema::refused(error, storage))
}

/// Asks the server once: a pool would only say that it has waited long enough.
async fn reach(connect: &PgConnectOptions) -> Result<()> {
    let asked = tokio::time::timeout(PATIENCE, connect.connect()).await;
    let late = |_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    let connection = asked.map_err(late).flatten().map_err(storage)?;
    connection.close().await.map_err(storage)
}

/// What no other store is called: it only has to tell its own hints from those of others.
fn unique_name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", std::process::id(), now.as_nanos())
}
