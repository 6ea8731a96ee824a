//! The one task that writes: it drains what is waiting, commits it together, and then says so.
//!
//! An operation that the engine refuses has written nothing, so the others of its group do not
//! notice. When SQLite itself fails, the group is rolled back and each of its operations is tried in
//! a transaction of its own, so that one that does not fit in a full file does not take others along.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aion_types::Clock;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::{broadcast, mpsc};

use super::codec::storage;

use super::tx::Tx;
use crate::store::group::{Answer, Job, Unit};
use crate::{Durability, Error, Limits, Result, Wake};

/// Operations in one commit, at most.
const MAX_GROUP: usize = 256;
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
    pub(super) conn: SqliteConnection,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) limits: Limits,
    pub(super) next_seq: u64,
    /// The durability that the connection is set to.
    pub(super) synced: Durability,
    /// What every write is raised to.
    pub(super) at_least: Durability,
    pub(super) wake: broadcast::Sender<Wake>,
    pub(super) room: Arc<Room>,
    /// When a claim was last let through to a full file.
    pub(super) probed: Option<Instant>,
    /// Set by whoever else in this process writes to the log, while it keeps the writer out.
    pub(super) outside: Arc<AtomicBool>,
    /// Keeps other processes out for as long as it is open.
    pub(super) owner: File,
}

impl Writer {
    /// Works until every handle is gone or one of them closes the store.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Job>) {
        let mut closing = None;
        while closing.is_none() {
            let Some(first) = inbox.recv().await else { break };
            let mut jobs = Vec::new();
            let (mut size, mut bytes) = (0, 0);
            let mut next = Some(first);
            while let Some(job) = next {
                if let Job::Close(reply) = job {
                    closing = Some(reply);
                    break;
                }
                size += job.size();
                bytes += job.bytes();
                jobs.push(job);
                next = if size < MAX_GROUP && bytes < MAX_BYTES {
                    inbox.try_recv().ok()
                } else {
                    None
                };
            }
            self.group(jobs).await;
        }
        let closed = self.conn.close().await;
        if let Err(error) = closed {
            tracing::warn!(%error, "the database was not closed in order");
        }
        drop(self.owner);
        // Whoever asked may have gone away.
        let _ = closing.map(|reply| reply.send(()));
    }

    async fn group(&mut self, jobs: Vec<Job>) {
        let units: Vec<_> = jobs.iter().flat_map(Job::units).collect();
        if units.is_empty() {
            return;
        }
        let answers = match self.commit(&units).await {
            Ok(answers) => answers,
            Err(error) if units.len() == 1 => vec![Err(error)],
            Err(error) => {
                tracing::debug!(%error, operations = units.len(), "a group failed and is tried one by one");
                self.one_by_one(&units).await
            }
        };
        let mut answers = answers.into_iter();
        for job in jobs {
            job.answer(&mut answers);
        }
    }

    async fn one_by_one(&mut self, units: &[Unit<'_>]) -> Vec<Result<Answer>> {
        let mut answers = Vec::with_capacity(units.len());
        for unit in units {
            answers.push(match self.commit(std::slice::from_ref(unit)).await {
                Ok(mut answer) => answer.pop().unwrap_or_else(|| Err(Error::gone())),
                Err(error) => Err(error),
            });
        }
        answers
    }

    /// Carries out the units in one transaction and notes whether there was room. An error means that
    /// none of them took effect.
    async fn commit(&mut self, units: &[Unit<'_>]) -> Result<Vec<Result<Answer>>> {
        let before = self.next_seq;
        let made = self.transaction(units).await;
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

    async fn transaction(&mut self, units: &[Unit<'_>]) -> Result<Vec<Result<Answer>>> {
        self.sync_for(units).await?;
        execute(&mut self.conn, "BEGIN IMMEDIATE").await?;
        let made = match self.catch_up().await {
            Ok(()) => self.work(units).await,
            Err(error) => Err(error),
        };
        let ended = match made {
            Ok(made) => execute(&mut self.conn, "COMMIT").await.map(|()| made),
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
                // SQLite has rolled back already when the file is full; then this finds nothing to do.
                let _ = execute(&mut self.conn, "ROLLBACK").await;
                Err(error)
            }
        }
    }

    /// Finds where the log ends if somebody else has written to it. Nobody does so now.
    async fn catch_up(&mut self) -> Result<()> {
        if !self.outside.load(Ordering::Acquire) {
            return Ok(());
        }
        let next_seq = last_seq(&mut self.conn).await? + 1;
        self.outside.store(false, Ordering::Release);
        if next_seq > self.next_seq {
            self.next_seq = next_seq;
            let last_seq = next_seq - 1;
            // Nobody listening is fine: the hint is only a hint.
            let _ = self.wake.send(Wake { last_seq, ready: 1 });
        }
        Ok(())
    }

    async fn work(&mut self, units: &[Unit<'_>]) -> Result<(Vec<Result<Answer>>, Wake)> {
        let put_off: Vec<bool> = units.iter().map(|unit| self.puts_off(unit)).collect();
        let mut tx = Tx::new(&mut self.conn, self.next_seq);
        let mut answers = Vec::with_capacity(units.len());
        for (unit, put_off) in units.iter().zip(put_off) {
            if put_off {
                answers.push(Err(Error::Full));
                continue;
            }
            let before = tx.writes;
            let answer = unit.run(&mut tx, &self.limits, &*self.clock).await;
            match answer {
                Err(error) if !error.is_refusal() || tx.writes > before => return Err(error),
                answer => answers.push(answer),
            }
        }
        tx.flush_tally().await?;
        Ok((
            answers,
            Wake {
                last_seq: tx.next_seq - 1,
                ready: tx.ready,
            },
        ))
    }

    /// Sets how far the next commit goes; SQLite changes that only between transactions.
    async fn sync_for(&mut self, units: &[Unit<'_>]) -> Result<()> {
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
        execute(&mut self.conn, pragma).await?;
        self.synced = wanted;
        Ok(())
    }
}

/// `seq` of the last event that there ever was.
pub(super) async fn last_seq(conn: &mut SqliteConnection) -> Result<u64> {
    let sql = "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'event'";
    let last: i64 = sqlx::query_scalar(sql).fetch_one(conn).await.map_err(storage)?;
    Ok(last.unsigned_abs())
}

pub(super) async fn execute(conn: &mut SqliteConnection, sql: &'static str) -> Result<()> {
    sqlx::query(sql).execute(conn).await.map(drop).map_err(storage)
}
