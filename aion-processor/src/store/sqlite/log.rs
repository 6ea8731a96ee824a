//! Moves what was committed from the log into the file, beside the writer: it takes milliseconds, most of them spent
//! waiting for the disk.
//!
//! SQLite starts its log over at the first commit that finds all of it moved. While one is moved, further commits come, so
//! when most is done the writer moves the rest by itself, between two commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::runtime::Handle;

use super::codec::{Columns as _, storage};
use super::native::{Native, Session, query};
use crate::Result;

/// After so many commits the writer looks how long the log is.
const LOOKS: u32 = 8;

/// Nothing is being moved.
const IDLE: u8 = 0;
/// The other thread moves.
const BUSY: u8 = 1;
/// The other thread has moved what it found.
const MOVED: u8 = 2;

/// Pages in the log, and how many of them are in the file as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pages {
    log: i64,
    moved: i64,
}

/// Keeps the log of a file short. Its thread ends when it is dropped.
#[derive(Debug)]
pub(super) struct Log {
    /// How to open the file once more.
    file: SqliteConnectOptions,
    /// So many pages are moved together.
    pages: i64,
    commits: u32,
    phase: Arc<AtomicU8>,
    orders: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    pub(super) fn new(file: SqliteConnectOptions, pages: u32) -> Self {
        Self {
            file,
            pages: pages.into(),
            commits: 0,
            phase: Arc::default(),
            orders: None,
            thread: None,
        }
    }

    /// After a commit: has a long log moved, and sees to the rest of one that was.
    pub(super) fn look(&mut self, session: &mut Session<'_>, runtime: &Handle) -> Result<()> {
        match self.phase.load(Ordering::Acquire) {
            MOVED => {
                self.phase.store(IDLE, Ordering::Relaxed);
                move_all(session).map(drop)
            }
            BUSY => Ok(()),
            _ => {
                self.commits += 1;
                if self.commits < LOOKS {
                    return Ok(());
                }
                self.commits = 0;
                let now = look(session)?;
                if now.log - now.moved >= self.pages {
                    self.start(session, runtime)?;
                }
                Ok(())
            }
        }
    }

    fn start(&mut self, session: &mut Session<'_>, runtime: &Handle) -> Result<()> {
        if self.orders.is_none() {
            self.start_thread(runtime);
        }
        self.phase.store(BUSY, Ordering::Relaxed);
        if self.orders.as_ref().is_some_and(|orders| orders.send(()).is_ok()) {
            return Ok(());
        }
        // Without another thread or connection the writer does all of it.
        self.phase.store(IDLE, Ordering::Relaxed);
        move_all(session).map(drop)
    }

    fn start_thread(&mut self, runtime: &Handle) {
        let (orders, inbox) = mpsc::channel();
        let (file, phase, runtime) = (self.file.clone(), self.phase.clone(), runtime.clone());
        let thread = thread::Builder::new().name("aion-task-log".to_owned());
        let started = thread.spawn(move || {
            if let Err(error) = serve(&file, &phase, &runtime, inbox) {
                tracing::warn!(%error, "the log is moved by the writer alone");
            }
            // Nobody is heard any more; whatever was asked last is left to the writer.
            phase.store(MOVED, Ordering::Release);
        });
        self.thread = started.ok();
        self.orders = Some(orders);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // It does not panic; and if it did, there would be nobody to tell.
            let _ = thread.join();
        }
    }
}

/// Moves whenever it is asked to.
fn serve(
    file: &SqliteConnectOptions,
    phase: &AtomicU8,
    runtime: &Handle,
    inbox: mpsc::Receiver<()>,
) -> Result<()> {
    let mut conn = runtime.block_on(file.connect()).map_err(storage)?;
    let locked = runtime.block_on(conn.lock_handle()).map_err(storage)?;
    let mut native = Native::over(locked)?;
    let mut session = native.session();
    for () in inbox {
        if let Err(error) = move_all(&mut session) {
            tracing::debug!(%error, "the log was not moved");
        }
        phase.store(MOVED, Ordering::Release);
    }
    drop(session);
    drop(native);
    runtime.block_on(conn.close()).map_err(storage)
}

/// Moves as much as nobody who reads still needs.
fn move_all(session: &mut Session<'_>) -> Result<Pages> {
    pages("PRAGMA wal_checkpoint(PASSIVE)", session)
}

fn look(session: &mut Session<'_>) -> Result<Pages> {
    pages("PRAGMA wal_checkpoint(NOOP)", session)
}

fn pages(sql: &'static str, session: &mut Session<'_>) -> Result<Pages> {
    let found = query(sql).fetch(session, |row| {
        Ok(Pages {
            log: row.int(1)?,
            moved: row.int(2)?,
        })
    })?;
    Ok(found.first().copied().unwrap_or(Pages { log: 0, moved: 0 }))
}
