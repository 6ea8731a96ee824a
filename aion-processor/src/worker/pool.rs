//! The slots of a worker: claims fill them, each works until there is nothing to take along.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::attempt::{Claimed, attempt};
use super::handler::Handler;
use super::keeper::Keeper;
use crate::{ClaimReq, Processor, Result, Wake};

/// How often free slots look for work even if nobody told them to, and how long they rest when the
/// storage does not answer.
const POLL: Duration = Duration::from_secs(1);
/// Tasks in one claim.
const BATCH: usize = 64;

/// How far a pool is on its way to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Working,
    /// Nothing new is claimed.
    Stopping,
    /// What still runs is given back.
    Ending,
}

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) processor: Processor,
    pub(super) handlers: BTreeMap<String, Handler>,
    /// For one task.
    pub(super) claim: ClaimReq,
    pub(super) keeper: Keeper,
    pub(super) cancel_grace: Duration,
    pub(super) timeout: Option<Duration>,
    pub(super) phase: watch::Sender<Phase>,
}

impl Pool {
    pub(super) fn is_at(&self, phase: Phase) -> bool {
        *self.phase.borrow() == phase
    }

    /// Comes back when the pool is that far.
    pub(super) async fn reaches(&self, phase: Phase) {
        // The sender lives as long as `self` is borrowed.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// What `work` gives, or none if the pool stops before.
    async fn unless_stopping<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.reaches(Phase::Stopping) => None,
            done = work => Some(done),
        }
    }

    /// Fills free slots until the pool stops. A claim that is on its way is waited for, so that nothing
    /// is taken that nobody works on.
    pub(super) async fn fill(self: &Arc<Self>, slots: usize, running: &mut JoinSet<()>) -> Result<()> {
        let places = Arc::new(Semaphore::new(slots));
        let mut hints = self.processor.wake();
        loop {
            let place = self.unless_stopping(places.clone().acquire_owned()).await;
            let Some(Ok(place)) = place else { return Ok(()) };
            let mut free = vec![place];
            while free.len() < BATCH
                && let Ok(place) = places.clone().try_acquire_owned()
            {
                free.push(place);
            }
            let went_on = match self.take(free, running).await {
                Ok(taken) if taken > 0 => Some(()),
                Ok(_) => self
                    .unless_stopping(timeout(POLL, work_is_there(&mut hints)))
                    .await
                    .map(drop),
                Err(error) if error.is_refusal() => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "nothing can be claimed");
                    self.unless_stopping(sleep(POLL)).await
                }
            };
            if went_on.is_none() {
                return Ok(());
            }
            while running.try_join_next().is_some() {}
        }
    }

    /// Claims as many tasks as there are places, and says how many there were.
    async fn take(
        self: &Arc<Self>,
        mut free: Vec<OwnedSemaphorePermit>,
        running: &mut JoinSet<()>,
    ) -> Result<usize> {
        let asked = Instant::now();
        let claim = self.claim.clone().with_max(free.len() as u32);
        let leases = self.processor.claim(claim).await?;
        let taken = leases.len();
        for lease in leases {
            let (pool, place) = (self.clone(), free.pop());
            running.spawn(async move {
                let mut next = Some(Claimed { lease, asked });
                while let Some(claimed) = next {
                    next = attempt(&pool, claimed).await;
                }
                drop(place);
            });
        }
        Ok(taken)
    }
}

/// Comes back when a task has become ready.
async fn work_is_there(hints: &mut BoxStream<'static, Wake>) {
    loop {
        match hints.next().await {
            Some(hint) if hint.ready > 0 => return,
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}
