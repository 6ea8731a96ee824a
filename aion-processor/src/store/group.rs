//! What the writer of a database is asked to do, taken apart into operations that may share a commit.

use aion_types::Clock;
use tokio::sync::oneshot;

use crate::engine::apply::apply;
use crate::engine::claim;
use crate::engine::due::due;
use crate::engine::rows::Rows;
use crate::{ClaimReq, Done, DueReport, Durability, Error, Lease, Limits, Result, Write};

/// Something to write, and who wants to know.
#[derive(Debug)]
pub(crate) enum Job {
    Apply(Vec<Write>, oneshot::Sender<Vec<Result<Done>>>),
    Claim(ClaimReq, oneshot::Sender<Result<Vec<Lease>>>),
    Due(u32, oneshot::Sender<Result<DueReport>>),
    Close(oneshot::Sender<()>),
}

/// One operation of a job.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit<'a> {
    Op(&'a Write),
    Claim(&'a ClaimReq),
    Due(u32),
}

/// What an operation gave.
#[derive(Debug)]
pub(crate) enum Answer {
    Done(Done),
    Leases(Vec<Lease>),
    Due(DueReport),
}

impl Unit<'_> {
    pub(crate) fn durability(self) -> Durability {
        match self {
            Self::Op(write) => write.durability,
            Self::Claim(req) => req.durability,
            Self::Due(_) => Durability::Process,
        }
    }

    /// Carries it out over the rows of a transaction.
    pub(crate) async fn run<R: Rows>(self, tx: &mut R, limits: &Limits, clock: &dyn Clock) -> Result<Answer> {
        let now = clock.now();
        match self {
            Self::Op(write) => apply(tx, limits, now, &write.op).await.map(Answer::Done),
            Self::Claim(req) => claim(tx, limits, now, req).await.map(Answer::Leases),
            Self::Due(limit) => due(tx, limits, now, limit).await.map(Answer::Due),
        }
    }
}

impl Job {
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Apply(writes, _) => writes.len(),
            Self::Claim(req, _) => req.max as usize,
            Self::Due(limit, _) => *limit as usize,
            Self::Close(_) => 0,
        }
    }

    /// About how many bytes it writes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Apply(writes, _) => writes.iter().map(|write| write.op.bytes()).sum(),
            Self::Claim(..) | Self::Due(..) | Self::Close(_) => 0,
        }
    }

    pub(crate) fn units(&self) -> Vec<Unit<'_>> {
        match self {
            Self::Apply(writes, _) => writes.iter().map(Unit::Op).collect(),
            Self::Claim(req, _) => vec![Unit::Claim(req)],
            Self::Due(limit, _) => vec![Unit::Due(*limit)],
            Self::Close(_) => Vec::new(),
        }
    }

    /// Hands over the answers to its units. A caller that has gone away does not mind.
    pub(crate) fn answer(self, answers: &mut impl Iterator<Item = Result<Answer>>) {
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
