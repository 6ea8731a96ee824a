//! The one thread that writes: it drains what is waiting, commits it together, and then says so.
//!
//! An operation that the engine refuses has written nothing, so the others of its group do not
//! notice. When SQLite itself fails, the group is rolled back and each of its operations is tried in
//! a transaction of its own, so that one that does not fit in a full file does not take others along.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aion_types::Clock;
use futures::FutureExt;
use sqlx::{Connection as _, SqliteConnection};
use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::answers::Answers;
use super::codec::{Columns as _, storage};
use super::leased::Leased;
use super::log::Log;
use super::native::{Native, Session, query};
use super::ready::Shelf;
use super::tx::Tx;
use crate::store::group::{Answer, Job, Unit};
use crate::{Durability, Error, Limits, Result, Wake};

/// Bytes after which no further job joins a commit.
const MAX_BYTES: usize = 2 << 20;
/// How often a claim is let through to see whether a full file has room again.
const PROBE: Duration = Duration::from_secs(1);

/// Whether the file has room; shared with the readers.
#[derive(Debug, Default)]
pub(super) struct Room(AtomicBool);

impl Room {
    pub(super) fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set_full(&self, full: bool) {
        if self.0.swap(full, Ordering::Relaxed) != full {
            if full {
                tracing::error!("the storage is full: nothing is claimed until it has room");
            } else {
                tracing::info!("the storage has room again");
            }
        }
    }
}

/// The writer's side of a store.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) limits: Limits,
    pub(super) next_seq: u64,
    /// The durability that the connection is set to.
    pub(super) synced: Durability,
    /// What every write is raised to.
    pub(super) at_least: Durability,
    /// Operations in one commit, at most.
    pub(super) max_group: usize,
    pub(super) wake: broadcast::Sender<Wake>,
    pub(super) room: Arc<Room>,
    /// When a claim was last let through to a full file.
    pub(super) probed: Option<Instant>,
    /// Set by whoever else in this process writes to the log, while it keeps the writer out.
    pub(super) outside: Arc<AtomicBool>,
    pub(super) leased: Leased,
    /// Tells callers what became of it.
    pub(super) answers: Answers,
    /// Moves what was committed into the file.
    pub(super) log: Log,
    /// Keeps other processes out for as long as it is open.
    pub(super) owner: File,
}

impl Writer {
    /// Works on a thread of its own, with the connection for itself, until every handle is gone or one of them
    /// closes the store.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start(self, conn: SqliteConnection, inbox: mpsc::Receiver<Job>) -> Result<()> {
        let runtime = Handle::current();
        let thread = thread::Builder::new().name("aion-task-writer".to_owned());
        let started = thread.spawn(move || self.run(&runtime, conn, inbox));
        started
            .map(drop)
            .map_err(|error| Error::Unavailable(Arc::new(error)))
    }

    fn run(mut self, runtime: &Handle, mut conn: SqliteConnection, inbox: mpsc::Receiver<Job>) {
        let locked = runtime.block_on(async {
            // Statements that sqlx keeps are in the memory that is about to be changed.
            conn.clear_cached_statements().await?;
            conn.lock_handle().await
        });
        let locked = locked.map_err(storage);
        let closing = match locked
            .and_then(Native::over)
            .map(Native::keep_memory)
            .and_then(Native::keep_plans)
        {
            Ok(mut native) => self.serve(&mut native.session(), runtime, inbox),
            Err(error) => {
                tracing::error!(%error, "the database cannot be written");
                None
            }
        };
        drop(self.answers);
        drop(self.log);
        if let Err(error) = runtime.block_on(conn.close()) {
            tracing::warn!(%error, "the database was not closed in order");
        }
        drop(self.owner);
        // Whoever asked may have gone away.
        let _ = closing.map(|reply| reply.send(()));
    }

    /// Drains what is waiting, group by group; gives whom to tell about the end.
    fn serve(
        &mut self,
        session: &mut Session<'_>,
        runtime: &Handle,
        mut inbox: mpsc::Receiver<Job>,
    ) -> Option<oneshot::Sender<()>> {
        while let Some(first) = inbox.blocking_recv() {
            let mut jobs = Vec::new();
            let (mut size, mut bytes) = (0, 0);
            let mut next = Some(first);
            let mut closing = None;
            while let Some(job) = next {
                if let Job::Close(reply) = job {
                    closing = Some(reply);
                    break;
                }
                size += job.size();
                bytes += job.bytes();
                jobs.push(job);
                next = if size < self.max_group && bytes < MAX_BYTES {
                    inbox.try_recv().ok()
                } else {
                    None
                };
            }
            self.group(session, jobs);
            if let Err(error) = self.log.look(session, runtime) {
                // It is looked at again, and nothing that was committed depends on it.
                tracing::debug!(%error, "the log was not moved");
            }
            if closing.is_some() {
                return closing;
            }
        }
        None
    }

    /// Claims come last: nothing of this group makes tasks ready any more, so that they share one search.
    fn group(&mut self, session: &mut Session<'_>, mut jobs: Vec<Job>) {
        jobs.sort_by_key(|job| matches!(job, Job::Claim(..)));
        let units: Vec<_> = jobs.iter().flat_map(Job::units).collect();
        if units.is_empty() {
            return;
        }
        let answers = match self.commit(session, &units) {
            Ok(answers) => answers,
            // One by one each would wait as long for another writer that does not come to an end.
            Err(error) if units.len() == 1 || matches!(error, Error::Busy { .. }) => {
                units.iter().map(|_| Err(error.clone())).collect()
            }
            Err(error) => {
                tracing::debug!(%error, operations = units.len(), "a group failed and is tried one by one");
                self.one_by_one(session, &units)
            }
        };
        self.answers.give(jobs, answers);
    }

    fn one_by_one(&mut self, session: &mut Session<'_>, units: &[Unit<'_>]) -> Vec<Result<Answer>> {
        let mut answers = Vec::with_capacity(units.len());
        for unit in units {
            answers.push(match self.commit(session, std::slice::from_ref(unit)) {
                Ok(mut answer) => answer.pop().unwrap_or_else(|| Err(Error::gone())),
                Err(error) => Err(error),
            });
        }
        answers
    }

    /// Carries out the units in one transaction and notes whether there was room. An error means that
    /// none of them took effect.
    fn commit(&mut self, session: &mut Session<'_>, units: &[Unit<'_>]) -> Result<Vec<Result<Answer>>> {
        let before = self.next_seq;
        let made = self.transaction(session, units);
        match &made {
            Err(Error::Full) => self.room.set_full(true),
            Ok(_) if self.next_seq > before => self.room.set_full(false),
            _ => {}
        }
        made
    }

    /// Whether a claim is put off because the file is full.
    fn puts_off(&mut self, unit: &Unit<'_>) -> bool {
        if !matches!(unit, Unit::Claim(_)) || !self.room.is_full() {
            return false;
        }
        if self.probed.is_none_or(|probed| probed.elapsed() >= PROBE) {
            self.probed = Some(Instant::now());
            return false;
        }
        true
    }

    fn transaction(&mut self, session: &mut Session<'_>, units: &[Unit<'_>]) -> Result<Vec<Result<Answer>>> {
        self.sync_for(session, units)?;
        execute(session, "BEGIN IMMEDIATE")?;
        let made = self.catch_up(session).and_then(|()| self.work(session, units));
        let ended = match made {
            Ok(made) => execute(session, "COMMIT").map(|()| made),
            Err(error) => Err(error),
        };
        match ended {
            Ok((answers, wake)) => {
                if wake.last_seq >= self.next_seq {
                    self.next_seq = wake.last_seq + 1;
                    // Nobody listening is fine: the hint is only a hint.
                    let _ = self.wake.send(wake);
                }
                Ok(answers)
            }
            Err(error) => {
                self.leased.forget_all();
                // SQLite has rolled back already when the file is full; then this finds nothing to do.
                let _ = execute(session, "ROLLBACK");
                Err(error)
            }
        }
    }

    /// Finds where the log ends if somebody else has written to it. Nobody does so now.
    fn catch_up(&mut self, session: &mut Session<'_>) -> Result<()> {
        if !self.outside.load(Ordering::Acquire) {
            return Ok(());
        }
        self.leased.forget_all();
        let next_seq = last_seq(session)? + 1;
        self.outside.store(false, Ordering::Release);
        if next_seq > self.next_seq {
            self.next_seq = next_seq;
            let last_seq = next_seq - 1;
            // Nobody listening is fine: the hint is only a hint.
            let _ = self.wake.send(Wake { last_seq, ready: 1 });
        }
        Ok(())
    }

    fn work(&mut self, session: &mut Session<'_>, units: &[Unit<'_>]) -> Result<(Vec<Result<Answer>>, Wake)> {
        let put_off: Vec<bool> = units.iter().map(|unit| self.puts_off(unit)).collect();
        let mut tx = Tx::new(session, &mut self.leased, self.next_seq);
        tx.shelf = Shelf::of(units);
        let mut answers = Vec::with_capacity(units.len());
        for (unit, put_off) in units.iter().zip(put_off) {
            if put_off {
                answers.push(Err(Error::Full));
                continue;
            }
            let before = tx.writes;
            // Nothing that it asks for makes it wait.
            let answer = unit.run(&mut tx, &self.limits, &*self.clock).now_or_never();
            let answer = answer.unwrap_or_else(|| Err(Error::gone()));
            match answer {
                Err(error) if !error.is_refusal() || tx.writes > before => return Err(error),
                answer => answers.push(answer),
            }
        }
        tx.flush()?;
        Ok((
            answers,
            Wake {
                last_seq: tx.next_seq - 1,
                ready: tx.ready,
            },
        ))
    }

    /// Sets how far the next commit goes; SQLite changes that only between transactions.
    fn sync_for(&mut self, session: &mut Session<'_>, units: &[Unit<'_>]) -> Result<()> {
        let wanted = units
            .iter()
            .map(|unit| unit.durability())
            .max()
            .unwrap_or(self.at_least)
            .max(self.at_least);
        if wanted == self.synced {
            return Ok(());
        }
        let pragma = match wanted {
            Durability::Process => "PRAGMA synchronous = NORMAL",
            Durability::Power => "PRAGMA synchronous = FULL",
        };
        execute(session, pragma)?;
        self.synced = wanted;
        Ok(())
    }
}

/// `seq` of the last event that there ever was.
pub(super) fn last_seq(session: &mut Session<'_>) -> Result<u64> {
    let sql = "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'event'";
    let last = query(sql).fetch(session, |row| row.int(0))?;
    Ok(last.first().map_or(0, |last| last.unsigned_abs()))
}

fn execute(session: &mut Session<'_>, sql: &'static str) -> Result<()> {
    query(sql).execute(session)
}
