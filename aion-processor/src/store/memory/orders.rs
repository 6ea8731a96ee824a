//! Tasks in the orders in which they are looked for, so that a claim does not look at all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use aion_types::{Status, Timestamp};

use crate::engine::row::{Rank, Row};

/// Places of creation, each behind what it is sorted by.
#[derive(Debug, Clone, Default)]
pub(super) struct Orders {
    /// Ready tasks with a place, as they are claimed.
    ready: BTreeSet<(Rank, u64)>,
    /// The same of each queue that has any.
    queues: BTreeMap<String, BTreeSet<(Rank, u64)>>,
    /// Leases, by their ends.
    leases: BTreeSet<(Timestamp, u64)>,
    /// Tasks that are not ready yet, by their starts.
    delayed: BTreeSet<(Timestamp, u64)>,
}

impl Orders {
    /// Adds a task, as it is now.
    pub(super) fn add(&mut self, row: &Row) {
        if is_ready(row) {
            self.ready.insert((row.rank(), row.ord));
            let queue = self.queues.entry(row.queue.clone()).or_default();
            queue.insert((row.rank(), row.ord));
        }
        self.leases.extend(row.lease_until.map(|until| (until, row.ord)));
        self.delayed.extend(start(row).map(|at| (at, row.ord)));
    }

    /// Forgets a task that was added as it is now.
    pub(super) fn forget(&mut self, row: &Row) {
        if self.ready.remove(&(row.rank(), row.ord))
            && let Some(queue) = self.queues.get_mut(&row.queue)
        {
            queue.remove(&(row.rank(), row.ord));
            if queue.is_empty() {
                self.queues.remove(&row.queue);
            }
        }
        if let Some(until) = row.lease_until {
            self.leases.remove(&(until, row.ord));
        }
        if let Some(at) = start(row) {
            self.delayed.remove(&(at, row.ord));
        }
    }

    pub(super) fn ready(&self) -> impl Iterator<Item = u64> {
        self.ready.iter().map(|(_, ord)| *ord)
    }

    /// The same of one queue.
    pub(super) fn ready_in(&self, queue: &str) -> impl Iterator<Item = u64> {
        self.queues.get(queue).into_iter().flatten().map(|(_, ord)| *ord)
    }

    /// Queues that have ready tasks with a place, from a name on.
    pub(super) fn queues(&self, from: &str) -> impl Iterator<Item = &str> {
        let from = Bound::Included(from);
        let queues = self.queues.range::<str, _>((from, Bound::Unbounded));
        queues.map(|(queue, _)| queue.as_str())
    }

    /// Leases that have ended by then.
    pub(super) fn expired(&self, now: Timestamp) -> impl Iterator<Item = u64> {
        self.leases.range(..=(now, u64::MAX)).map(|(_, ord)| *ord)
    }

    /// Tasks whose start has come by then.
    pub(super) fn delayed(&self, now: Timestamp) -> impl Iterator<Item = u64> {
        self.delayed.range(..=(now, u64::MAX)).map(|(_, ord)| *ord)
    }
}

fn is_ready(row: &Row) -> bool {
    row.status == Status::Ready && !row.gated
}

fn start(row: &Row) -> Option<Timestamp> {
    row.run_after.filter(|_| row.status == Status::Preparing)
}
