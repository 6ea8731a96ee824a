//! The one task of a process that writes: it drains what is waiting, commits it together, and then says so.
//!
//! Writers of several processes take turns: each transaction begins by locking the row `state`, so that what
//! it reads cannot change, the engine decides as if it were alone, no two writers wait for each other in a
//! circle, and the order of events is the order of commits. While one writer waits, its next group grows.
//!
//! What the writer has read or written serves its next transaction, as long as nobody else has written: a group that
//! needs no more than that is one statement, which commits by itself, and which comes to nothing if it was wrong; then
//! the group is tried once more from the start.
//!
//! A statement that fails undoes its whole transaction; then each operation is tried in a transaction of its
//! own. When the server is gone, nobody knows whether the last group was committed, and nothing is tried again.

use std::sync::Arc;

use aion_types::{Clock, ManualClock};
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};
use tokio::sync::{broadcast, mpsc};

use super::codec::storage;
use super::known::Known;
use super::room::Room;
use super::touched::touched;
use super::tx::{Begin, Tx};
use crate::store::group::{Answer, Job, Unit};
use crate::{ClaimOrder, Durability, Error, Limits, Result, Wake};

/// Operations in one commit, at most.
const MAX_GROUP: usize = 1_024;
/// Bytes after which no further job joins a commit.
const MAX_BYTES: usize = 4 << 20;

/// How often the writer lets others of its runtime go first before it begins a commit, while that brings more jobs.
const YIELDS: usize = 8;

/// The writer's side of a store.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) pool: PgPool,
    /// The connection that it writes by, once it has one.
    pub(super) conn: Option<PoolConnection<Postgres>>,
    /// What its last transaction left.
    pub(super) known: Option<Known>,
    /// Instead of the server's clock.
    pub(super) clock: Option<Arc<dyn Clock>>,
    pub(super) limits: Limits,
    /// What every write is raised to.
    pub(super) at_least: Durability,
    pub(super) own: broadcast::Sender<Wake>,
    pub(super) all: broadcast::Sender<Wake>,
    pub(super) room: Arc<Room>,
}

impl Writer {
    /// Works until every handle is gone or one of them closes the store.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Job>) {
        let mut closing = None;
        while closing.is_none() {
            let Some(first) = inbox.recv().await else { break };
            let_others_ask(&inbox).await;
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
        drop(self.conn);
        // Whoever asked may have gone away.
        let _ = closing.map(|reply| reply.send(()));
    }

    /// Claims come last: nothing of this group makes tasks ready any more, so that they share one search.
    async fn group(&mut self, mut jobs: Vec<Job>) {
        jobs.sort_by_key(|job| matches!(job, Job::Claim(..)));
        let units: Vec<_> = jobs.iter().flat_map(Job::units).collect();
        if units.is_empty() {
            return;
        }
        let answers = match self.commit(&units).await {
            Ok(answers) => answers,
            Err(error) if units.len() == 1 || ends_the_group(&error) => {
                units.iter().map(|_| Err(error.clone())).collect()
            }
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

    /// Carries out the units in one transaction and notes whether there was room. An error that is not
    /// unknown means that none of them took effect.
    async fn commit(&mut self, units: &[Unit<'_>]) -> Result<Vec<Result<Answer>>> {
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.pool.acquire().await.map_err(storage)?,
        };
        let mut conn = Some(conn);
        let Some(open) = conn.as_deref_mut() else {
            return Err(Error::gone());
        };
        let made = self.transaction(open, units).await;
        match &made {
            Err(Error::Full) => self.room.set_full(true),
            Ok((_, wake)) if wake.last_seq > 0 => self.room.set_full(false),
            _ => {}
        }
        match made {
            Ok((answers, wake)) => {
                self.conn = conn;
                if wake.last_seq > 0 {
                    // Nobody listening is fine: the hint is only a hint.
                    let _ = self.own.send(wake);
                    let _ = self.all.send(wake);
                }
                Ok(answers)
            }
            Err(error) => {
                let undone = execute(open, "ROLLBACK").await;
                if error.is_unknown() || undone.is_err() {
                    // The next transaction gets another connection.
                    if let Some(broken) = conn {
                        drop(broken.detach());
                    }
                } else {
                    self.conn = conn;
                }
                Err(error)
            }
        }
    }

    async fn transaction(
        &mut self,
        conn: &mut PgConnection,
        units: &[Unit<'_>],
    ) -> Result<(Vec<Result<Answer>>, Wake)> {
        let begin = begin(self.at_least, units);
        if let Some(known) = self.known.take_if(|known| known.turn.is_fresh()) {
            let made = self.attempt(Tx::resume(conn, begin, known), units).await?;
            if let Some(made) = made {
                return Ok(made);
            }
            execute(conn, "ROLLBACK").await?;
        }
        let known = self.known.take();
        let tx = Tx::begin(conn, begin, known).await?;
        self.attempt(tx, units).await?.ok_or_else(Error::gone)
    }

    /// Nothing, and nothing was done, if the transaction went by what had changed.
    async fn attempt(
        &mut self,
        mut tx: Tx<'_>,
        units: &[Unit<'_>],
    ) -> Result<Option<(Vec<Result<Answer>>, Wake)>> {
        let worked = self.work(&mut tx, units).await;
        if tx.stale {
            return Ok(None);
        }
        let answers = worked?;
        if tx.writes == 0 {
            // Also what was refused must have been refused by what is so.
            let asked = tx.server().await.map(drop);
            if tx.stale {
                return Ok(None);
            }
            asked?;
            execute(tx.server().await?, "ROLLBACK").await?;
            self.known = tx.unwritten();
            return Ok(Some((answers, Wake::default())));
        }
        let finished = tx.finish().await;
        if tx.stale {
            return Ok(None);
        }
        let Some(turn) = finished? else { return Ok(None) };
        tx.commit().await?;
        let wake = Wake {
            last_seq: tx.last_seq,
            ready: tx.ready,
        };
        self.known = Known::of(tx, turn);
        Ok(Some((answers, wake)))
    }

    async fn work(&mut self, tx: &mut Tx<'_>, units: &[Unit<'_>]) -> Result<Vec<Result<Answer>>> {
        let now = self.clock.as_ref().map_or(tx.began, Clock::now);
        let clock = ManualClock::at(now);
        tx.prefetch(touched(units)).await?;
        tx.shelf.wanted = units.iter().map(wanted).sum();
        let mut answers = Vec::with_capacity(units.len());
        for unit in units {
            if matches!(unit, Unit::Claim(_)) && self.room.puts_off() {
                answers.push(Err(Error::Full));
                continue;
            }
            let before = tx.writes;
            let answer = unit.run(tx, &self.limits, &clock).await;
            match answer {
                Err(error) if !error.is_refusal() || tx.writes > before => return Err(error),
                answer => answers.push(answer),
            }
        }
        Ok(answers)
    }
}

/// Whoever was just answered is likely to ask for more at once: then it shares the next commit instead of the one after.
async fn let_others_ask(inbox: &mpsc::Receiver<Job>) {
    for _ in 0..YIELDS {
        let waiting = inbox.len();
        tokio::task::yield_now().await;
        if inbox.len() == waiting {
            return;
        }
    }
}

/// Whether one by one would fare no better: nobody answers, or another writer does not come to an end.
fn ends_the_group(error: &Error) -> bool {
    error.is_unknown() || matches!(error, Error::Busy { .. })
}

/// How many tasks a claim may take from the shelf.
fn wanted(unit: &Unit<'_>) -> u32 {
    match unit {
        Unit::Claim(req) if req.order == ClaimOrder::Priority && req.task.is_none() => req.max,
        _ => 0,
    }
}

/// Begins a transaction that goes as far as its most careful unit asks for.
fn begin(at_least: Durability, units: &[Unit<'_>]) -> Begin {
    let wanted = units.iter().map(|unit| unit.durability()).max();
    match wanted.unwrap_or(at_least).max(at_least) {
        Durability::Process => Begin::Hasty,
        Durability::Power => Begin::Careful,
    }
}

pub(super) async fn execute(conn: &mut PgConnection, sql: &'static str) -> Result<()> {
    sqlx::raw_sql(sql).execute(conn).await.map(drop).map_err(storage)
}
