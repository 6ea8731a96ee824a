//! Shares of queues: self-clocked fair queueing.
//!
//! A queue that has ready tasks stands in a line, at the virtual time at which its next task will have been
//! served: `1 / weight` after its last one. The first in the line is served, and the virtual clock shows where it
//! stood. A queue that joins begins at the clock, so one that was idle saves nothing up, and whoever comes later
//! stands behind whoever has waited: between two tasks of a queue that stands in the line, another one of the same
//! weight gets two at most, and one of `v` times the weight `v + 1`.
//!
//! Nobody tells the line that a queue has become ready or idle. Each claim looks at the next names of ready queues
//! and of queues in the line, [`page`] of each, round and round: those that are ready join, idle ones leave, and so
//! do their rows, unless they keep a weight. So a claim costs the same whatever the number of queues, and with `n`
//! ready queues and `s` rows a queue has joined after `n / PAGE + s / PAGE + 2` claims at most, and at once where
//! both are below [`PAGE`]. It begins where the clock was when the round did, if that was not longer ago than one
//! task takes: others were found before it by their names alone.
//!
//! # Sources
//! Golestani, "A self-clocked fair queueing scheme for broadband applications" (1994).

use std::collections::{BTreeMap, BTreeSet};

use aion_types::Timestamp;
use serde::{Deserialize, Serialize};

use super::apply::Engine;
use super::check;
use super::named::read;
use super::rows::{Rows, Space};
use crate::{ClaimOrder, ClaimReq, Done, Lease, Result};

/// Ready queues, and queues in the line, that one claim looks at for who joins and who leaves, at least.
const PAGE: u32 = 128;
/// Queues at the front of the line that one claim asks for work, beside as many as it takes tasks.
const TURNS: u32 = 256;
/// Largest weight.
const MAX_WEIGHT: u64 = 1_000;
/// Virtual time that a task of a queue of weight 1 takes.
const UNIT: u64 = 1 << 20;

/// Where the clock is kept.
const CLOCK: &str = "";

/// What a queue got, and may get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Share {
    /// Older programs did not write it.
    #[serde(default)]
    queue: String,
    /// Tasks for each one of a queue of weight 1.
    weight: u32,
    /// When its last task had been served, in virtual time.
    finish: u64,
    /// Whether it stands in the line.
    #[serde(default)]
    stands: bool,
}

impl Share {
    fn new(queue: &str) -> Self {
        Self {
            queue: queue.to_owned(),
            weight: 1,
            finish: 0,
            stands: false,
        }
    }

    /// When its next task will have been served: its place in the line.
    fn place(&self) -> u64 {
        self.finish.saturating_add(UNIT / u64::from(self.weight.max(1)))
    }
}

/// The virtual time, and how far the round over the names has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Clock {
    finish: u64,
    /// The last name that was looked at; empty at the end of a round.
    #[serde(default)]
    after: String,
    /// What it showed when the round began.
    #[serde(default)]
    began: u64,
}

impl Clock {
    /// When queues begin that are found now.
    fn start(&self) -> u64 {
        self.began.max(self.finish.saturating_sub(UNIT + 1))
    }
}

/// The front of the line.
#[derive(Debug, Default)]
struct Turns {
    line: BTreeMap<(u64, String), Share>,
    /// The last place that is known, if there are more.
    horizon: Option<u64>,
}

impl Turns {
    fn add(&mut self, share: Share) {
        self.line.insert((share.place(), share.queue.clone()), share);
    }

    fn next(&mut self) -> Option<Share> {
        let first = self.line.first_entry()?;
        let seen = self.horizon.is_none_or(|horizon| first.key().0 <= horizon);
        seen.then(|| first.remove())
    }
}

impl<R: Rows> Engine<'_, R> {
    pub(super) async fn weigh(&mut self, queue: &str, weight: u32) -> Result<Done> {
        check::name("queue", queue)?;
        check::between("weight", weight.into(), MAX_WEIGHT)?;
        let share = self.share(queue).await?;
        self.keep_share(&Share { weight, ..share }).await?;
        Ok(Done::Nothing)
    }

    pub(super) async fn take_fairly(&mut self, req: &ClaimReq) -> Result<Vec<Lease>> {
        let known: Clock = self.find(Space::Share, CLOCK).await?.unwrap_or_default();
        let mut clock = known.clone();
        self.go_round(&mut clock, page(req.max)).await?;
        let mut turns = match req.queues.as_slice() {
            [] => self.front(req.max).await?,
            named => self.turns_of(named, &clock).await?,
        };
        let mut leases = Vec::new();
        let mut served = BTreeMap::new();
        while leases.len() < req.max as usize {
            let Some(share) = turns.next() else { break };
            let one = ClaimReq {
                queues: vec![share.queue.clone()],
                max: 1,
                order: ClaimOrder::Priority,
                ..req.clone()
            };
            if let Some((row, body)) = self.rows.ready(&one).await?.pop() {
                leases.push(self.lease(row, body, req).await?);
                let share = serve(share, &mut clock);
                served.insert(share.queue.clone(), share.clone());
                turns.add(share);
            } else if req.kinds.is_empty() {
                served.remove(&share.queue);
                self.leave(share).await?;
            }
        }
        for share in served.values() {
            self.keep_share(share).await?;
        }
        let all_seen = known.after.is_empty() && clock.after.is_empty() && turns.horizon.is_none();
        if req.queues.is_empty() && !all_seen {
            self.take_beyond(req, &mut clock, &mut leases).await?;
        }
        if clock != known {
            self.store(Space::Share, CLOCK, None, &clock).await?;
        }
        Ok(leases)
    }

    /// What the front of the line did not give, by priority: a long row of queues may have nothing of these kinds, or
    /// few may have joined so far.
    async fn take_beyond(
        &mut self,
        req: &ClaimReq,
        clock: &mut Clock,
        leases: &mut Vec<Lease>,
    ) -> Result<()> {
        let rest = ClaimReq {
            max: req.max.saturating_sub(leases.len() as u32),
            order: ClaimOrder::Priority,
            ..req.clone()
        };
        if rest.max == 0 {
            return Ok(());
        }
        for (row, body) in self.rows.ready(&rest).await? {
            let share = self.share(&row.queue).await?;
            leases.push(self.lease(row, body, req).await?);
            self.keep_share(&serve(join(share, clock), clock)).await?;
        }
        Ok(())
    }

    /// Looks at the next names: ready queues join the line, and idle ones leave it.
    async fn go_round(&mut self, clock: &mut Clock, page: u32) -> Result<()> {
        if clock.after.is_empty() {
            clock.began = clock.finish;
        }
        let full = |len: usize| len >= page as usize;
        let mut ready = self
            .rows
            .ready_queues(&clock.after, page.saturating_add(1))
            .await?;
        ready.retain(|name| *name != clock.after);
        ready.truncate(page as usize);
        let shares = self.rows.names(Space::Share, &clock.after, page).await?;
        let ends = [
            ready.last().filter(|_| full(ready.len())),
            shares.last().map(|(name, _)| name).filter(|_| full(shares.len())),
        ];
        let end = ends.into_iter().flatten().min().cloned();
        let seen = |name: &String| end.as_ref().is_none_or(|end| name <= end);
        let ready: BTreeSet<String> = ready.into_iter().filter(seen).collect();
        let mut known = BTreeSet::new();
        for (queue, text) in shares.into_iter().filter(|(name, _)| seen(name)) {
            let share = Share {
                queue: queue.clone(),
                ..read(&text)?
            };
            match (ready.contains(&queue), share.stands) {
                (true, true) => {}
                (true, false) => self.keep_share(&join(share, clock)).await?,
                (false, _) => self.leave(share).await?,
            }
            known.insert(queue);
        }
        for queue in ready.difference(&known) {
            self.keep_share(&join(Share::new(queue), clock)).await?;
        }
        clock.after = end.unwrap_or_default();
        Ok(())
    }

    /// The front of the whole line.
    async fn front(&mut self, max: u32) -> Result<Turns> {
        let limit = TURNS.saturating_add(max);
        let all = Timestamp::from_ms(i64::MAX);
        let texts = self.rows.due_named(Space::Share, all, limit).await?;
        let mut turns = Turns::default();
        for text in &texts {
            turns.add(read(text)?);
        }
        if texts.len() >= limit as usize {
            turns.horizon = turns.line.last_key_value().map(|((place, _), _)| *place);
        }
        Ok(turns)
    }

    /// The line of some queues; those that are ready join it.
    async fn turns_of(&mut self, queues: &[String], clock: &Clock) -> Result<Turns> {
        let mut turns = Turns::default();
        for queue in queues.iter().filter(|queue| *queue != CLOCK) {
            let mut share = self.share(queue).await?;
            if !share.stands {
                if self.rows.ready_queues(queue, 1).await?.first() != Some(queue) {
                    continue;
                }
                share = join(share, clock);
                self.keep_share(&share).await?;
            }
            turns.add(share);
        }
        Ok(turns)
    }

    /// A queue has no ready tasks.
    async fn leave(&mut self, share: Share) -> Result<()> {
        if share.weight == 1 {
            return self.rows.drop_named(Space::Share, &share.queue).await;
        }
        if !share.stands {
            return Ok(());
        }
        let stands = false;
        self.keep_share(&Share { stands, ..share }).await
    }

    async fn share(&mut self, queue: &str) -> Result<Share> {
        let known: Option<Share> = self.find(Space::Share, queue).await?;
        Ok(Share {
            queue: queue.to_owned(),
            ..known.unwrap_or_else(|| Share::new(queue))
        })
    }

    /// Stores a share; what says nothing is not kept.
    async fn keep_share(&mut self, share: &Share) -> Result<()> {
        if !share.stands && share.weight == 1 {
            return self.rows.drop_named(Space::Share, &share.queue).await;
        }
        let place = i64::try_from(share.place()).unwrap_or(i64::MAX);
        let due = share.stands.then_some(Timestamp::from_ms(place));
        self.store(Space::Share, &share.queue, due, share).await
    }
}

/// How many names a claim looks at: names are found faster than they are served.
fn page(max: u32) -> u32 {
    PAGE.saturating_add(max.saturating_mul(3))
}

/// A queue in the line: it begins with the round, unless it stands there already.
fn join(share: Share, clock: &Clock) -> Share {
    if share.stands {
        return share;
    }
    Share {
        finish: share.finish.max(clock.start()),
        stands: true,
        ..share
    }
}

/// A queue has got a task. One that was passed over, for want of the right kinds, catches up with the clock.
fn serve(share: Share, clock: &mut Clock) -> Share {
    clock.finish = clock.finish.max(share.place());
    Share {
        finish: clock.finish,
        ..share
    }
}
