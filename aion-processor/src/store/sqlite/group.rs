//! What the writer is asked to do, taken apart into operations that may share a commit.

use aion_types::Clock;
use tokio::sync::oneshot;

use super::tx::Tx;
use crate::engine::apply::apply;
use crate::engine::claim;
use crate::engine::due::due;
use crate::{ClaimReq, Done, DueReport, Durability, Error, Lease, Limits, Result, Write};

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
pub(super) enum Unit<'a> {
    Op(&'a Write),
    Claim(&'a ClaimReq),
    Due(u32),
}

/// What an operation gave.
#[derive(Debug)]
pub(super) enum Answer {
    Done(Done),
    Leases(Vec<Lease>),
    Due(DueReport),
}

impl Unit<'_> {
    pub(super) fn durability(self) -> Durability {
        match self {
            Self::Op(write) => write.durability,
            Self::Claim(req) => req.durability,
            Self::Due(_) => Durability::Process,
        }
    }

    pub(super) async fn run(self, tx: &mut Tx<'_>, limits: &Limits, clock: &dyn Clock) -> Result<Answer> {
        let now = clock.now();
        match self {
            Self::Op(write) => apply(tx, limits, now, &write.op).await.map(Answer::Done),
            Self::Claim(req) => claim(tx, limits, now, req).await.map(Answer::Leases),
            Self::Due(limit) => due(tx, limits, now, limit).await.map(Answer::Due),
        }
    }
}

impl Job {
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Apply(writes, _) => writes.len(),
            Self::Claim(req, _) => req.max as usize,
            Self::Due(limit, _) => *limit as usize,
            Self::Close(_) => 0,
        }
    }

    /// About how many bytes it writes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Apply(writes, _) => writes.iter().map(|write| write.op.bytes()).sum(),
            Self::Claim(..) | Self::Due(..) | Self::Close(_) => 0,
        }
    }

    pub(super) fn units(&self) -> Vec<Unit<'_>> {
        match self {
            Self::Apply(writes, _) => writes.iter().map(Unit::Op).collect(),
            Self::Claim(req, _) => vec![Unit::Claim(req)],
            Self::Due(limit, _) => vec![Unit::Due(*limit)],
            Self::Close(_) => Vec::new(),
        }
    }

    /// Hands over the answers to its units. A caller that has gone away does not mind.
    pub(super) fn answer(self, answers: &mut impl Iterator<Item = Result<Answer>>) {
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
