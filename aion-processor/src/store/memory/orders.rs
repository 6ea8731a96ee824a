//! Tasks in the orders in which they are looked for, so that a claim does not look at all of them.

use std::collections::BTreeSet;

use aion_types::{Status, Timestamp};

use crate::engine::row::{Rank, Row};

/// Places of creation, each behind what it is sorted by.
#[derive(Debug, Clone, Default)]
pub(super) struct Orders {
    /// Ready tasks with a place, as they are claimed.
    ready: BTreeSet<(Rank, u64)>,
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
        }
        self.leases.extend(row.lease_until.map(|until| (until, row.ord)));
        self.delayed.extend(start(row).map(|at| (at, row.ord)));
    }

    /// Forgets a task that was added as it is now.
    pub(super) fn forget(&mut self, row: &Row) {
        self.ready.remove(&(row.rank(), row.ord));
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
