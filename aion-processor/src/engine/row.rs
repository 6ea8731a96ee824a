//! A task as the engine sees it: the hot part that changes, apart from its texts.

use std::cmp::Reverse;

use aion_types::{HandlerId, Json, Status, TaskId, TaskRecord, Timestamp};

use super::machine::{self, Effect, Input, Move};
use crate::{ClaimReq, Concurrency, GatherPolicy, NewTask, Result, Start, TaskHead};

/// Where a task stands among the ready ones: the more urgent first, then the one that has been ready for longest.
pub(crate) type Rank = (Reverse<i32>, u64);

/// The hot part of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Place in the order of creation, given by the backend.
    pub(crate) ord: u64,
    pub(crate) id: TaskId,
    pub(crate) root_id: TaskId,
    pub(crate) parent_id: Option<TaskId>,
    pub(crate) depth: u32,
    pub(crate) kind: String,
    pub(crate) queue: String,
    pub(crate) status: Status,
    pub(crate) priority: i32,
    /// `seq` of the event that made it ready: first come, first served.
    pub(crate) ready_seq: u64,
    pub(crate) handler_id: Option<HandlerId>,
    pub(crate) lease_epoch: u64,
    pub(crate) lease_until: Option<Timestamp>,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    pub(crate) crash_count: u32,
    pub(crate) run_after: Option<Timestamp>,
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) cancel_requested: bool,
    pub(crate) open_children: u32,
    pub(crate) waiting_on: u32,
    /// What if one of the tasks that it waits for does not complete.
    pub(crate) gather: Option<GatherPolicy>,
    /// Whether one of them did not.
    pub(crate) gather_failed: bool,
    /// How many like it may run at once.
    pub(crate) concurrency: Option<Concurrency>,
    /// Whether it is READY but has no place among those.
    pub(crate) gated: bool,
    /// Grants of primitives that it holds.
    pub(crate) holds: u32,
    /// Whether its tree is being removed (roots only).
    pub(crate) purging: bool,
    /// Messages so far, which is the last `seq`.
    pub(crate) messages: u64,
    pub(crate) version: u64,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) finished_at: Option<Timestamp>,
}

/// The cold part of a task.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Body {
    pub(crate) title: String,
    pub(crate) spec: String,
    pub(crate) payload: Json,
    pub(crate) result: Option<Json>,
    pub(crate) error: Option<String>,
}

impl Row {
    /// Smaller comes first.
    pub(crate) fn rank(&self) -> Rank {
        (Reverse(self.priority), self.ready_seq)
    }

    /// The row of a new task, still PREPARING.
    pub(crate) fn new(new: &NewTask, parent: Option<&Row>, now: Timestamp) -> Self {
        Self {
            ord: 0,
            id: new.id,
            root_id: parent.map_or(new.id, |parent| parent.root_id),
            parent_id: new.parent,
            depth: parent.map_or(0, |parent| parent.depth + 1),
            kind: new.kind.clone(),
            queue: new.queue.clone(),
            status: Status::Preparing,
            priority: new.priority,
            ready_seq: 0,
            handler_id: None,
            lease_epoch: 0,
            lease_until: None,
            attempt: 0,
            max_attempts: new.max_attempts,
            crash_count: 0,
            run_after: match new.start {
                Start::At(at) => Some(at),
                Start::Now | Start::Held => None,
            },
            deadline: new.deadline,
            cancel_requested: false,
            open_children: 0,
            waiting_on: 0,
            gather: None,
            gather_failed: false,
            concurrency: new.concurrency.clone(),
            gated: false,
            holds: 0,
            purging: false,
            messages: 0,
            version: 1,
            created_at: now,
            updated_at: now,
            finished_at: None,
        }
    }

    /// Whether it is what `new` asks for, as far as that never changes.
    pub(crate) fn is_made_from(&self, body: &Body, new: &NewTask) -> bool {
        self.parent_id == new.parent
            && self.kind == new.kind
            && self.queue == new.queue
            && self.priority == new.priority
            && self.deadline == new.deadline
            && self.max_attempts == new.max_attempts
            && self.concurrency == new.concurrency
            && body.title == new.title
            && body.spec == new.spec
            && same_json(&body.payload, &new.payload)
    }

    /// Makes the change if it is legal; the caller writes the event and takes care of
    /// [`Effect::Enqueue`] (which needs the event's `seq`), [`Effect::TakeLease`]'s holder,
    /// [`Effect::GiveBackGrants`] and [`Effect::NotifyTerminal`].
    pub(crate) fn step(&mut self, input: Input, now: Timestamp) -> Result<Move> {
        let made = machine::step(self.status, input)?;
        self.status = made.to;
        for effect in made.effects {
            self.effect(*effect);
        }
        self.finished_at = made.to.is_terminal().then_some(now);
        self.touch(now);
        Ok(made)
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Enqueue => self.run_after = None,
            Effect::TakeLease => {
                self.lease_epoch += 1;
                self.attempt += 1;
            }
            Effect::DropLease => {
                self.handler_id = None;
                self.lease_until = None;
            }
            Effect::GiveBackAttempt => self.attempt = self.attempt.saturating_sub(1),
            Effect::CountCrash => self.crash_count = self.crash_count.saturating_add(1),
            Effect::ForgetCrashes => self.crash_count = 0,
            Effect::FlagCancel => self.cancel_requested = true,
            Effect::GiveBackGrants => {}
            Effect::NotifyTerminal => {
                self.run_after = None;
                self.waiting_on = 0;
                self.gather = None;
            }
        }
    }

    /// Whether it takes one of the places that its concurrency key has.
    pub(crate) fn has_place(&self) -> bool {
        match self.status {
            Status::Ready => !self.gated,
            Status::Running => true,
            _ => false,
        }
    }

    /// Whether it waits for a primitive, and not for other tasks.
    pub(crate) fn is_in_line(&self) -> bool {
        self.status == Status::Blocked && self.gather.is_none()
    }

    /// Whether it has not ended, and should have.
    pub(crate) fn is_overdue(&self, now: Timestamp) -> bool {
        !self.status.is_terminal() && self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Names the holder of the lease that was just taken.
    pub(crate) fn hold(&mut self, claim: &ClaimReq, now: Timestamp) {
        self.handler_id = Some(claim.handler.clone());
        self.lease_until = Some(now.plus_ms(millis(claim.lease_ms)));
    }

    /// Notes a change.
    pub(crate) fn touch(&mut self, now: Timestamp) {
        self.version += 1;
        self.updated_at = now;
    }

    /// Where it stands.
    pub(crate) fn head(&self) -> TaskHead {
        TaskHead {
            id: self.id,
            status: self.status,
            lease_epoch: self.lease_epoch,
            attempt: self.attempt,
            crash_count: self.crash_count,
            waiting_on: self.waiting_on,
            run_after: self.run_after,
            version: self.version,
        }
    }

    /// The whole record.
    pub(crate) fn record(self, body: Body) -> TaskRecord {
        TaskRecord {
            format: aion_types::Format::default(),
            id: self.id,
            root_id: self.root_id,
            parent_id: self.parent_id,
            depth: self.depth,
            kind: self.kind,
            queue: self.queue,
            title: body.title,
            spec: body.spec,
            payload: body.payload,
            status: self.status,
            priority: self.priority,
            handler_id: self.handler_id,
            lease_epoch: self.lease_epoch,
            lease_until: self.lease_until,
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            crash_count: self.crash_count,
            run_after: self.run_after,
            deadline: self.deadline,
            cancel_requested: self.cancel_requested,
            open_children: self.open_children,
            waiting_on: self.waiting_on,
            result: body.result,
            error: body.error,
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
            finished_at: self.finished_at,
        }
    }
}

/// Whether both are the same JSON text: `5` signed is `5` unsigned.
fn same_json(one: &Json, other: &Json) -> bool {
    serde_json::to_string(one).ok() == serde_json::to_string(other).ok()
}

/// Milliseconds as the clock counts them.
pub(crate) fn millis(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
