//! The one task that writes: it drains what is waiting, commits it together, and then says so.
//!
//! An operation that the engine refuses has written nothing, so the others of its group do not
//! notice. When SQLite itself fails, the group is rolled back and each of its operations is tried in
//! a transaction of its own, so that one that does not fit in a full file does not take others along.

use std::fs::File;
use std::sync::Arc;

use aion_types::Clock;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::codec::storage;
use super::rows::Tx;
use crate::engine::apply;
use crate::{ClaimReq, Done, DueReport, Durability, Error, Lease, Limits, Result, Wake, Write};

/// Operations in one commit, at most.
const MAX_GROUP: usize = 256;

/// Something to write, and who wants to know.
#[derive(Debug)]
pub(super) enum Job {
    Apply(Vec<Write>, oneshot::Sender<Vec<Result<Done>>>),
    Claim(ClaimReq, oneshot::Sender<Result<Vec<Lease>>>),
    Due(u32, oneshot::Sender<Result<DueReport>>),
    Close(oneshot::Sender<()>),
}

/// One operation of a job.
#[derive(Debug, Clone, Copy)]
enum Unit<'a> {
    Op(&'a Write),
    Claim(&'a ClaimReq),
    Due(u32),
}

/// What an operation gave.
#[derive(Debug)]
enum Answer {
    Done(Done),
    Leases(Vec<Lease>),
    Due(DueReport),
}

impl Unit<'_> {
    fn durability(self) -> Durability {
        match self {
            Self::Op(write) => write.durability,
            Self::Claim(req) => req.durability,
            Self::Due(_) => Durability::Process,
        }
    }

    async fn run(self, tx: &mut Tx<'_>, limits: &Limits, clock: &dyn Clock) -> Result<Answer> {
        let now = clock.now();
        match self {
            Self::Op(write) => apply::apply(tx, limits, now, &write.op).await.map(Answer::Done),
            Self::Claim(req) => apply::claim(tx, limits, now, req).await.map(Answer::Leases),
            Self::Due(limit) => apply::due(tx, limits, now, limit).await.map(Answer::Due),
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
            let mut size = 0;
            let mut next = Some(first);
            while let Some(job) = next {
                if let Job::Close(reply) = job {
                    closing = Some(reply);
                    break;
                }
                size += job.size();
                jobs.push(job);
                next = if size < MAX_GROUP {
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

    /// Carries out the units in one transaction. An error means that none of them took effect.
    async fn commit(&mut self, units: &[Unit<'_>]) -> Result<Vec<Result<Answer>>> {
        self.sync_for(units).await?;
        execute(&mut self.conn, "BEGIN IMMEDIATE").await?;
        let made = self.work(units).await;
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

    async fn work(&mut self, units: &[Unit<'_>]) -> Result<(Vec<Result<Answer>>, Wake)> {
        let mut tx = Tx::new(&mut self.conn, self.next_seq);
        let mut answers = Vec::with_capacity(units.len());
        for unit in units {
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

async fn execute(conn: &mut SqliteConnection, sql: &'static str) -> Result<()> {
    sqlx::query(sql).execute(conn).await.map(drop).map_err(storage)
}

impl Job {
    fn size(&self) -> usize {
        match self {
            Self::Apply(writes, _) => writes.len(),
            Self::Claim(req, _) => req.max as usize,
            Self::Due(limit, _) => *limit as usize,
            Self::Close(_) => 0,
        }
    }

    fn units(&self) -> Vec<Unit<'_>> {
        match self {
            Self::Apply(writes, _) => writes.iter().map(Unit::Op).collect(),
            Self::Claim(req, _) => vec![Unit::Claim(req)],
            Self::Due(limit, _) => vec![Unit::Due(*limit)],
            Self::Close(_) => Vec::new(),
        }
    }

    /// Hands over the answers to its units. A caller that has gone away does not mind.
    fn answer(self, answers: &mut impl Iterator<Item = Result<Answer>>) {
        match self {
            Self::Apply(writes, reply) => {
                let done = answers.take(writes.len()).map(|answer| match answer? {
                    Answer::Done(done) => Ok(done),
                    other => Err(mixed_up(&other)),
                });
                let _ = reply.send(done.collect());
            }
            Self::Claim(_, reply) => {
                let _ = reply.send(match answers.next() {
                    Some(Ok(Answer::Leases(leases))) => Ok(leases),
                    Some(Err(error)) => Err(error),
                    other => Err(mixed_up(&other)),
                });
            }
            Self::Due(_, reply) => {
                let _ = reply.send(match answers.next() {
                    Some(Ok(Answer::Due(report))) => Ok(report),
                    Some(Err(error)) => Err(error),
                    other => Err(mixed_up(&other)),
                });
            }
            Self::Close(_) => {}
        }
    }
}

fn mixed_up(answer: &impl std::fmt::Debug) -> Error {
    Error::Corrupt(format!(
        "the writer mixed up its answers: {:.80}",
        format!("{answer:?}")
    ))
}
