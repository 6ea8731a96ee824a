//! Carries out one operation over the rows of a backend.
//!
//! Everything is looked at before anything is written, so that a refusal leaves no trace.

use aion_types::{Json, Status, TaskId, Timestamp};

use super::log;
use super::machine::{Effect, Input, Move};
use super::row::Row;
use super::rows::{Outcome, Rows, Space};
use crate::{ClaimReq, Done, Error, Fence, Limits, Op, Result};

/// What a holder's last word finds.
pub(super) enum Last {
    Row(Box<Row>),
    Before(Done),
}

/// Carries out `op` at `now`.
pub(crate) async fn apply<R: Rows>(rows: &mut R, limits: &Limits, now: Timestamp, op: &Op) -> Result<Done> {
    let mut engine = Engine { rows, limits, now };
    match op {
        Op::Create(new) => engine.create(new).await,
        Op::Start(task) => engine.start(*task).await,
        Op::CompleteAndClaim { fence, result, claim } => {
            engine.complete_and_claim(*fence, result, claim).await
        }
        Op::Heartbeat { fence, lease_ms } => engine.heartbeat(*fence, *lease_ms).await,
        Op::Append { task, epoch, message } => engine.append(*task, *epoch, message).await,
        Op::Step { fence, name, result } => engine.step(*fence, name, result).await,
        Op::Complete { fence, result } => engine.complete(*fence, result).await,
        Op::Fail { fence, error, retry } => engine.fail(*fence, error, *retry).await,
        Op::Release { fence, delay_ms } => engine.release(*fence, *delay_ms).await,
        Op::Cancel { task, mode } => engine.cancel(*task, *mode).await,
        Op::Stop(fence) => engine.stop(*fence).await,
        Op::Gather { fence, tasks, policy } => engine.gather(*fence, tasks, *policy).await,
        Op::CancelTree { task, mode } => engine.cancel_tree(*task, *mode).await,
        Op::Declare(new) => engine.declare(new).await,
        Op::Undeclare(name) => engine.undeclare(name).await,
        Op::Acquire(want) => engine.acquire(want).await,
        Op::Return {
            fence,
            primitive,
            token,
            how,
        } => engine.give_back(*fence, primitive, *token, *how).await,
        Op::Signal { primitive, signal } => engine.signal(primitive, signal).await,
        Op::PutObject(put) => engine.put_object(put).await,
        Op::DropObject { name, expect } => engine.drop_object(name, *expect).await,
        Op::Call(call) => engine.call(call).await,
        Op::PutSchedule(new) => engine.put_schedule(new).await,
        Op::DropSchedule(name) => engine.drop_schedule(name).await,
        Op::Weigh { queue, weight } => engine.weigh(queue, *weight).await,
        Op::Import(copy) => engine.import(copy).await,
        Op::ImportMessages(messages) => engine.import_messages(messages).await,
        Op::ImportSteps(steps) => engine.import_steps(steps).await,
        Op::Purge { root, max, version } => engine.purge(*root, *max, *version).await,
        Op::Webhook(op) => engine.webhook(op).await,
    }
}

/// What a row was before a change, as far as the change asks for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    pub(super) status: Status,
    pub(super) had_place: bool,
    pub(super) gated: bool,
    pub(super) crashes: u32,
}

impl Before {
    pub(super) fn of(row: &Row) -> Self {
        Self {
            status: row.status,
            had_place: row.has_place(),
            gated: row.gated,
            crashes: row.crash_count,
        }
    }
}

/// One operation on its way.
pub(super) struct Engine<'a, R> {
    pub(super) rows: &'a mut R,
    pub(super) limits: &'a Limits,
    pub(super) now: Timestamp,
}

impl<R: Rows> Engine<'_, R> {
    pub(super) async fn load(&mut self, id: TaskId) -> Result<Row> {
        self.rows.row(id).await?.ok_or(Error::NotFound(id))
    }

    /// The row, if `fence` holds it.
    pub(super) async fn held(&mut self, fence: Fence) -> Result<Row> {
        let row = self.load(fence.task).await?;
        check_fence(&row, fence.epoch)?;
        Ok(row)
    }

    /// The row that `fence` holds, or the answer if this very holder has brought the task to `end`
    /// before: then its first answer was lost on the way.
    pub(super) async fn held_unless(&mut self, fence: Fence, end: Status) -> Result<Last> {
        let row = self.load(fence.task).await?;
        if row.lease_epoch == fence.epoch && row.status == end {
            return Ok(Last::Before(Done::Head(row.head())));
        }
        check_fence(&row, fence.epoch)?;
        Ok(Last::Row(Box::new(row)))
    }

    /// Changes the status, writes event and row, and keeps the ready queue in order.
    pub(super) async fn change(&mut self, row: &mut Row, input: Input, detail: Json) -> Result<()> {
        self.change_holder(row, input, None, detail).await
    }

    pub(super) async fn change_holder(
        &mut self,
        row: &mut Row,
        input: Input,
        holder: Option<&ClaimReq>,
        detail: Json,
    ) -> Result<()> {
        let before = Before::of(row);
        let made = row.step(input, self.now)?;
        if made.effects.contains(&Effect::GiveBackGrants) && row.holds > 0 {
            self.give_back_all(row).await?;
        }
        if let Some(claim) = holder {
            row.hold(claim, self.now);
        }
        self.write(row, before, input, made, detail).await
    }

    /// Writes a change that was made to a row: its event, the row and its place.
    pub(super) async fn write(
        &mut self,
        row: &mut Row,
        before: Before,
        input: Input,
        made: Move,
        detail: Json,
    ) -> Result<()> {
        let body = log::changed(row, before, made.event, input, detail);
        let seq = self.rows.event(row, made.event, body, self.now).await?;
        if row.status == Status::Ready {
            row.ready_seq = seq;
        }
        let takes_along = (before.status, row.status) == (Status::Ready, Status::Running);
        if row.concurrency.is_some() && !takes_along {
            return self.place(row, before).await;
        }
        self.rows.put(row, before.status).await
    }

    /// Ends the task, stores how, and tells everybody who waits for it.
    pub(super) async fn end(
        &mut self,
        row: Row,
        input: Input,
        outcome: Option<Outcome>,
        detail: Json,
    ) -> Result<Done> {
        let row = self.finish(row, input, outcome, detail).await?;
        let head = row.head();
        self.notify(row).await?;
        Ok(Done::Head(head))
    }

    pub(super) async fn finish(
        &mut self,
        mut row: Row,
        input: Input,
        outcome: Option<Outcome>,
        detail: Json,
    ) -> Result<Row> {
        if row.deadline.is_some() {
            let name = row.id.to_string();
            self.rows.drop_named(Space::Deadline, &name).await?;
        }
        let (was_in_line, waited) = (row.is_in_line(), row.waiting_on > 0);
        self.change(&mut row, input, detail).await?;
        if let Some(outcome) = &outcome {
            self.rows.put_outcome(&row, outcome).await?;
        }
        if was_in_line {
            self.leave_line(row.id).await?;
        } else if waited {
            self.rows.drop_waits(&row).await?;
        }
        Ok(row)
    }
}

pub(super) fn check_fence(row: &Row, epoch: u64) -> Result<()> {
    if row.status == Status::Running && row.lease_epoch == epoch {
        return Ok(());
    }
    Err(Error::LeaseLost {
        task: row.id,
        given: epoch,
    })
}
