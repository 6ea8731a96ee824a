//! One attempt: the function is run until it ends, and what came of it is written.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use aion_types::Json;
use futures::FutureExt;
use tokio::time::{Instant, sleep};

use super::keeper::Kept;
use super::pool::{Phase, Pool};
use super::signals::Over;
use super::{Ctx, Failure};
use crate::{Done, Error, Lease, Op, Result, Retry};

/// The wait before something is said again that did not get through.
const AGAIN: Duration = Duration::from_millis(200);

/// What came of an attempt.
#[derive(Debug)]
enum End {
    Completed(Json),
    Failed(String, Retry),
    /// Somebody asked for the end of the task.
    Stopped,
    /// The pool ends before the function does.
    Released,
    /// There is nothing to write.
    Nothing,
}

/// A task that was claimed, and when that was asked for.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) lease: Lease,
    pub(super) asked: Instant,
}

/// Works on a task, writes what came of it, and gives the task that was taken along with that.
pub(super) async fn attempt(pool: &Pool, claimed: Claimed) -> Option<Claimed> {
    let Claimed { lease, asked } = claimed;
    let kept = pool.keeper.keep(lease.fence(), asked);
    let end = match work(pool, &lease, &kept).await {
        End::Failed(..) if kept.signals().is_asked_to_stop() => End::Stopped,
        end => end,
    };
    write(pool, &lease, &kept, end).await
}

async fn work(pool: &Pool, lease: &Lease, kept: &Kept<'_>) -> End {
    let signals = kept.signals();
    let stops = async {
        signals.asked_to_stop().await;
        sleep(pool.cancel_grace).await;
    };
    let times_out = async {
        match pool.timeout {
            Some(timeout) => sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let runs = AssertUnwindSafe(run(pool, lease, kept)).catch_unwind();
    tokio::select! {
        biased;
        over = signals.over() => {
            if over == Over::Lost {
                tracing::warn!(task = %lease.task.id, epoch = lease.epoch, "a lease is lost");
            }
            End::Nothing
        }
        () = pool.reaches(Phase::Ending) => End::Released,
        () = stops => End::Stopped,
        done = runs => ended(done),
        () = times_out => End::Failed("it took too long".to_owned(), Retry::Backoff),
    }
}

async fn run(pool: &Pool, lease: &Lease, kept: &Kept<'_>) -> Result<Json, Failure> {
    let handler = pool.handlers.get(&lease.task.kind);
    let handler = handler.ok_or_else(|| Failure::again("there is no handler of this kind"))?;
    let ctx = loop {
        match Ctx::load(&pool.processor, lease, kept.signals()).await {
            // It has not begun, so that no attempt is lost by it.
            Err(error) if !error.is_refusal() && Instant::now() < kept.signals().holds_until() => {
                tracing::debug!(%error, "what a task did before is read again");
                sleep(AGAIN).await;
            }
            loaded => break loaded?,
        }
    };
    handler.clone().call(ctx).await
}

fn ended(done: std::thread::Result<Result<Json, Failure>>) -> End {
    match done {
        Ok(Ok(result)) => End::Completed(result),
        Ok(Err(failure)) => match failure.retry() {
            Some(retry) => End::Failed(failure.to_string(), retry),
            None => End::Nothing,
        },
        Err(panic) => End::Failed(format!("it panicked: {}", message(&*panic)), Retry::Backoff),
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

async fn write(pool: &Pool, lease: &Lease, kept: &Kept<'_>, end: End) -> Option<Claimed> {
    let fence = lease.fence();
    let op = match end {
        End::Completed(result) if pool.is_at(Phase::Working) => Op::CompleteAndClaim {
            fence,
            result,
            claim: Box::new(pool.claim.clone()),
        },
        End::Completed(result) => Op::Complete { fence, result },
        End::Failed(error, retry) => Op::Fail { fence, error, retry },
        End::Stopped => Op::Stop(fence),
        End::Released => Op::Release { fence, delay_ms: 0 },
        End::Nothing => return None,
    };
    let ends_well = matches!(op, Op::Complete { .. } | Op::CompleteAndClaim { .. });
    let asked = Instant::now();
    match say(pool, kept, op).await {
        Ok(Done::Next(_, mut leases)) => leases.pop().map(|lease| Claimed { lease, asked }),
        Ok(_) => None,
        Err(error) if ends_well && error.is_refusal() && !matches!(error, Error::LeaseLost { .. }) => {
            // A result that is too large stays too large.
            let error = error.to_string();
            let retry = Retry::Never;
            unsaid(lease, say(pool, kept, Op::Fail { fence, error, retry }).await);
            None
        }
        refused => {
            unsaid(lease, refused);
            None
        }
    }
}

fn unsaid(lease: &Lease, said: Result<Done>) {
    if let Err(error) = said {
        tracing::warn!(task = %lease.task.id, epoch = lease.epoch, %error, "the end of an attempt was not written");
    }
}

/// Writes, again and again while the lease holds if nobody answers: each of these is harmless twice.
async fn say(pool: &Pool, kept: &Kept<'_>, op: Op) -> Result<Done> {
    loop {
        match pool.processor.one(op.clone()).await {
            Err(error) if !error.is_refusal() && Instant::now() < kept.signals().holds_until() => {
                tracing::debug!(%error, "the end of an attempt is written again");
                sleep(AGAIN).await;
            }
            said => return said,
        }
    }
}
