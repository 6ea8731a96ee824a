//! The task tree in one SQLite file: one writer that commits in groups, readers that never wait
//! for it.

mod answers;
mod codec;
mod enqueue;
mod hooks;
mod leased;
mod lines;
mod log;
mod native;
#[cfg(test)]
mod plans;
mod put;
mod read;
mod ready;
mod rows;
mod sql;
mod tx;
mod writer;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use aion_types::{Clock, SystemClock, Timestamp};
use async_trait::async_trait;
use futures::stream::BoxStream;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, SqliteConnection, SqlitePool};
use tokio::sync::{broadcast, mpsc, oneshot};

use self::answers::Answers;
pub(super) use self::codec::storage;
use self::leased::Leased;
use self::log::Log;
use self::writer::{Room, Writer};
use super::group::Job;
use super::{DueReport, SchemaInfo, TaskStore, Wake, hints, schema};
use crate::engine::check;
use crate::{ClaimReq, Done, Durability, Error, Lease, Limits, Page, Query, Result, Write};

/// Jobs that may wait for the writer.
const INBOX: usize = 4_096;
/// Connections that read.
const READERS: u32 = 4;
/// Memory of the writer for pages: the ends of the indexes that it works at stay there. More does harm, for SQLite looks
/// through all of it after commits that moved pages.
const CACHE_KIB: u32 = 8 << 10;
/// How long to wait for another owner of the file to go away.
const OWNER_WAIT: Duration = Duration::from_secs(2);

/// How a [`SqliteTaskStore`] works.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    clock: Arc<dyn Clock>,
    limits: Limits,
    durability: Durability,
    max_pages: Option<u32>,
    max_group: usize,
    log_pages: u32,
    vfs: Option<String>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            limits: Limits::default(),
            durability: Durability::Process,
            max_pages: None,
            max_group: 256,
            log_pages: 1_000,
            vfs: None,
        }
    }
}

impl SqliteOptions {
    /// Takes the time from `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Raises every write to at least this durability.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets how many operations share a commit at most, 256 unless set; 1 commits each by itself, which is
    /// slower and no safer.
    #[must_use]
    pub fn with_max_group(mut self, operations: usize) -> Self {
        self.max_group = operations.max(1);
        self
    }

    /// Stops the file from growing beyond so many pages of 4 KiB; then writes fail with
    /// [`Error::Full`].
    #[must_use]
    pub fn with_max_pages(mut self, pages: u32) -> Self {
        self.max_pages = Some(pages);
        self
    }

    /// Sets after how many pages of 4 KiB, 1,000 unless set, the log beside the file is moved into it; that happens beside
    /// the writer. More are moved at once with fewer flushes, and take that much more room.
    #[must_use]
    pub fn with_log_pages(mut self, pages: u32) -> Self {
        self.log_pages = pages.max(1);
        self
    }

    /// Reaches the file by the VFS (the storage layer of SQLite) that was registered under this name.
    #[must_use]
    pub fn with_vfs(mut self, name: impl Into<String>) -> Self {
        self.vfs = Some(name.into());
        self
    }
}

/// The task tree in one SQLite file.
///
/// One process owns the file; a second one is told so. Clones of the handle and threads may use
/// the store at the same time: writes that come together are committed together. A future of this
/// store that is dropped stops waiting; what it asked for may still be done.
#[derive(Debug)]
pub struct SqliteTaskStore {
    inbox: mpsc::Sender<Job>,
    readers: SqlitePool,
    clock: Arc<dyn Clock>,
    limits: Limits,
    wake: broadcast::Sender<Wake>,
    room: Arc<Room>,
    engine: String,
    /// How to open further connections.
    further: SqliteConnectOptions,
    /// Whether somebody else than the writer may have written to the log.
    outside: Arc<AtomicBool>,
}

impl SqliteTaskStore {
    /// Opens the file at `path`, and makes it if it is not there. Must be called within a runtime
    /// of tokio; the writer lives on a thread of its own.
    ///
    /// # Errors
    /// [`Error::InUse`] while another store has it open, [`Error::NewerDatabase`],
    /// [`Error::Corrupt`] if it is no file of ours, or a failure of the storage.
    pub async fn open(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self> {
        let path = path.as_ref();
        let owner = own(path).await?;
        let mut conn = connect(path, &options).await?;
        schema::migrate(&mut conn).await?;
        let version: String = sqlx::query_scalar("SELECT sqlite_version()")
            .fetch_one(&mut conn)
            .await
            .map_err(storage)?;
        let room = Arc::new(Room::default());
        let (inbox, jobs) = mpsc::channel(INBOX);
        let wake = broadcast::channel(64).0;
        // It begins with a look at where the log ends.
        let outside = Arc::new(AtomicBool::new(true));
        let writer = Writer {
            clock: options.clock.clone(),
            limits: options.limits.clone(),
            next_seq: 1,
            synced: Durability::Process,
            at_least: options.durability,
            max_group: options.max_group,
            wake: wake.clone(),
            room: room.clone(),
            probed: None,
            outside: outside.clone(),
            answers: Answers::default(),
            leased: Leased::default(),
            log: Log::new(file(path, &options), options.log_pages),
            owner,
        };
        writer.start(conn, jobs)?;
        let readers = readers(path, &options);
        let further = file(path, &options);
        let engine = format!("sqlite {version}");
        Ok(Self {
            inbox,
            readers,
            clock: options.clock,
            limits: options.limits,
            wake,
            room,
            engine,
            further,
            outside,
        })
    }

    /// Writes what is waiting, closes the file, and lets others open it. Dropping the store does
    /// the same without waiting for it.
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        self.readers.close().await;
        if self.inbox.send(Job::Close(reply)).await.is_ok() {
            // No answer means that the writer has ended already.
            let _ = closed.await;
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

#[async_trait]
impl TaskStore for SqliteTaskStore {
    async fn open_schema(&self) -> Result<SchemaInfo> {
        Ok(SchemaInfo {
            engine: self.engine.clone(),
            version: schema::VERSION,
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
        let full = self.room.is_full();
        read::read(&self.readers, &self.limits, self.clock.now(), full, query).await
    }

    async fn now(&self) -> Result<Timestamp> {
        Ok(self.clock.now())
    }

    fn wake(&self) -> BoxStream<'static, Wake> {
        hints(self.wake.subscribe())
    }
}

fn file(path: &Path, options: &SqliteOptions) -> SqliteConnectOptions {
    let file = SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging();
    match &options.vfs {
        Some(vfs) => file.vfs(vfs.clone()),
        None => file,
    }
}

async fn connect(path: &Path, options: &SqliteOptions) -> Result<SqliteConnection> {
    let mut file = file(path, options)
        .create_if_missing(true)
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .pragma("wal_autocheckpoint", "0")
        .pragma("cache_size", format!("-{CACHE_KIB}"))
        .pragma("journal_size_limit", "67108864");
    if let Some(pages) = options.max_pages {
        file = file.pragma("max_page_count", pages.to_string());
    }
    file.connect().await.map_err(storage)
}

fn readers(path: &Path, options: &SqliteOptions) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(READERS)
        .connect_lazy_with(file(path, options).read_only(true))
}

/// Takes the file for this process: a lock on a file beside it, which ends with the process.
async fn own(path: &Path) -> Result<File> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".owner");
    let unavailable = |error: std::io::Error| Error::Unavailable(Arc::new(error));
    let mut options = tokio::fs::OpenOptions::new();
    let file = options
        .create(true)
        .write(true)
        .truncate(false)
        .open(PathBuf::from(beside))
        .await;
    let file = file.map_err(unavailable)?.into_std().await;
    let end = tokio::time::Instant::now() + OWNER_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(unavailable(error)),
            Err(TryLockError::WouldBlock) if tokio::time::Instant::now() >= end => {
                return Err(Error::InUse(path.to_owned()));
            }
            Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
