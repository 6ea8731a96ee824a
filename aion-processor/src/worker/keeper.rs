//! The heartbeats of a pool: all its leases in one write, a few times in the time that a lease lasts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::signals::{Over, Signals};
use crate::{Done, Error, Fence, Op, Processor, Result, Write};

/// Heartbeats in one write.
const BATCH: usize = 256;
/// Heartbeats in the time of a lease, so that two may be lost.
const BEATS: u32 = 3;

type Leases = Mutex<HashMap<Fence, Arc<Signals>>>;

/// Extends the leases that a pool holds.
#[derive(Debug)]
pub(super) struct Keeper {
    processor: Processor,
    lease_ms: u64,
    leases: Leases,
}

impl Keeper {
    pub(super) fn new(processor: Processor, lease_ms: u64) -> Self {
        Self {
            processor,
            lease_ms,
            leases: Mutex::default(),
        }
    }

    pub(super) fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    /// Extends a lease until the guard goes; it was asked for at `asked`.
    pub(super) fn keep(&self, fence: Fence, asked: Instant) -> Kept<'_> {
        let signals = Arc::new(Signals::new(asked + self.lease()));
        lock(&self.leases).insert(fence, signals.clone());
        Kept {
            keeper: self,
            fence,
            signals,
        }
    }

    /// Works for as long as it is polled.
    pub(super) async fn run(&self) {
        let period = (self.lease() / BEATS).max(Duration::from_millis(1));
        let mut beats = interval(period);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            self.beat(period).await;
        }
    }

    async fn beat(&self, patience: Duration) {
        let all: Vec<_> = lock(&self.leases)
            .iter()
            .map(|(fence, signals)| (*fence, signals.clone()))
            .collect();
        for part in all.chunks(BATCH) {
            let sent = Instant::now();
            let writes = part.iter().map(|(fence, _)| self.heartbeat(*fence)).collect();
            match timeout(patience, self.processor.store().apply(writes)).await {
                Ok(Ok(done)) => {
                    for ((_, signals), done) in part.iter().zip(done) {
                        self.heard(signals, sent, done);
                    }
                }
                Ok(Err(error)) => tracing::warn!(%error, "leases could not be extended"),
                Err(_) => tracing::warn!("leases could not be extended in time"),
            }
        }
    }

    fn heartbeat(&self, fence: Fence) -> Write {
        let lease_ms = self.lease_ms;
        Op::Heartbeat { fence, lease_ms }.into()
    }

    fn heard(&self, signals: &Signals, sent: Instant, done: Result<Done>) {
        match done {
            Ok(Done::Heartbeat(heartbeat)) => {
                signals.extend(sent + self.lease());
                if heartbeat.cancel_requested {
                    signals.ask_to_stop();
                }
            }
            Err(Error::LeaseLost { .. } | Error::NotFound(_)) => signals.end(Over::Lost),
            // The lease holds until its time is over; the next beat may get through.
            other => tracing::debug!(?other, "a lease was not extended"),
        }
    }
}

/// A lease that is being extended.
#[derive(Debug)]
pub(super) struct Kept<'a> {
    keeper: &'a Keeper,
    fence: Fence,
    signals: Arc<Signals>,
}

impl Kept<'_> {
    pub(super) fn signals(&self) -> &Arc<Signals> {
        &self.signals
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        lock(&self.keeper.leases).remove(&self.fence);
    }
}

fn lock(leases: &Leases) -> MutexGuard<'_, HashMap<Fence, Arc<Signals>>> {
    leases.lock().unwrap_or_else(PoisonError::into_inner)
}
