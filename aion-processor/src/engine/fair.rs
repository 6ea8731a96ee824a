//! Shares of queues: start-time fair queueing.
//!
//! # Sources
//! Goyal, Vin and Cheng, "Start-time fair queuing" (1997): a queue's next task starts at the later of
//! the virtual time and the queue's last finish, the smallest start is served, and the virtual time
//! is the start of the task in service.

use std::collections::BTreeSet;

use super::apply::Engine;
use super::check;
use super::rows::{Rows, Space};
use crate::{ClaimOrder, ClaimReq, Done, Lease, Result, Share};

/// Queues that one claim considers.
const MAX_QUEUES: u32 = 1_000;
/// Largest weight.
const MAX_WEIGHT: u64 = 1_000;
/// Virtual time that a task of a queue of weight 1 takes.
const UNIT: u64 = 1 << 20;

/// Where the virtual time is kept.
const CLOCK: &str = "";

/// A queue that may be served: sorted by when its next task starts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    start: u64,
    queue: String,
    weight: u32,
}

impl<R: Rows> Engine<'_, R> {
    pub(super) async fn weigh(&mut self, queue: &str, weight: u32) -> Result<Done> {
        check::name("queue", queue)?;
        check::between("weight", weight.into(), MAX_WEIGHT)?;
        let finish = self.share(queue).await?.finish;
        let share = Share { weight, finish };
        self.store(Space::Share, queue, None, &share).await?;
        Ok(Done::Nothing)
    }

    pub(super) async fn take_fairly(&mut self, req: &ClaimReq) -> Result<Vec<Lease>> {
        let mut leases = Vec::new();
        let now = self.share(CLOCK).await?.finish;
        let mut clock = now;
        let mut turns = self.turns(req, clock).await?;
        while leases.len() < req.max as usize {
            let Some(turn) = turns.pop_first() else { break };
            let one = ClaimReq {
                queues: vec![turn.queue.clone()],
                max: 1,
                order: ClaimOrder::Priority,
                ..req.clone()
            };
            // A queue that has nothing of these kinds has no further turn.
            let Some((row, body)) = self.rows.ready(&one).await?.pop() else {
                continue;
            };
            leases.push(self.lease(row, body, req).await?);
            clock = clock.max(turn.start);
            let share = Share {
                weight: turn.weight,
                finish: turn.start + UNIT / u64::from(turn.weight.max(1)),
            };
            self.store(Space::Share, &turn.queue, None, &share).await?;
            turns.insert(Turn {
                start: share.finish,
                ..turn
            });
        }
        if clock > now {
            let share = Share {
                weight: 1,
                finish: clock,
            };
            self.store(Space::Share, CLOCK, None, &share).await?;
        }
        Ok(leases)
    }

    async fn turns(&mut self, req: &ClaimReq, clock: u64) -> Result<BTreeSet<Turn>> {
        let queues = match req.queues.as_slice() {
            [] => self.rows.ready_queues(MAX_QUEUES).await?,
            named => named.to_vec(),
        };
        let mut turns = BTreeSet::new();
        for queue in queues {
            let share = self.share(&queue).await?;
            turns.insert(Turn {
                start: share.finish.max(clock),
                weight: share.weight,
                queue,
            });
        }
        Ok(turns)
    }

    async fn share(&mut self, queue: &str) -> Result<Share> {
        let known = self.find(Space::Share, queue).await?;
        Ok(known.unwrap_or(Share { weight: 1, finish: 0 }))
    }
}
