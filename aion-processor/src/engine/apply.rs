//! Carries out one operation over the rows of a backend.
//!
//! Everything is looked at before anything is written, so that a refusal leaves no trace.

use aion_types::{EventKind, Json, MessageRecord, Status, TaskId, Timestamp};

use super::machine::Input;
use super::row::{Body, Row, millis};
use super::rows::{Outcome, Rows};
use super::{check, tree};
use crate::{
    CancelMode, ClaimReq, Done, DueReport, Error, Fence, GatherPolicy, Heartbeat, Lease, Limits, NewMessage,
    NewTask, Op, Result, Retry, Start,
};

/// What a holder's last word finds.
enum Held {
    Row(Box<Row>),
    Before(Done),
}

/// Carries out `op` at `now`.
pub(crate) async fn apply<R: Rows>(rows: &mut R, limits: &Limits, now: Timestamp, op: &Op) -> Result<Done> {
    let mut engine = Engine { rows, limits, now };
    match op {
        Op::Create(new) => engine.create(new).await,
        Op::Start(task) => engine.start(*task).await,
        Op::Heartbeat { fence, lease_ms } => engine.heartbeat(*fence, *lease_ms).await,
        Op::Append { task, epoch, message } => engine.append(*task, *epoch, message).await,
        Op::Complete { fence, result } => engine.complete(*fence, result).await,
        Op::Fail { fence, error, retry } => engine.fail(*fence, error, *retry).await,
        Op::Release { fence, delay_ms } => engine.release(*fence, *delay_ms).await,
        Op::Cancel { task, mode } => engine.cancel(*task, *mode).await,
        Op::Stop(fence) => engine.stop(*fence).await,
        Op::Gather { fence, tasks, policy } => engine.gather(*fence, tasks, *policy).await,
    }
}

/// Hands out ready tasks.
pub(crate) async fn claim<R: Rows>(
    rows: &mut R,
    limits: &Limits,
    now: Timestamp,
    req: &ClaimReq,
) -> Result<Vec<Lease>> {
    check::claim(req, limits)?;
    let mut engine = Engine { rows, limits, now };
    let mut leases = Vec::new();
    for (row, body) in engine.rows.ready(req).await? {
        leases.push(engine.lease(row, body, req).await?);
    }
    Ok(leases)
}

/// Does what time demands: leases end, delayed tasks start; at most `limit` of each.
pub(crate) async fn due<R: Rows>(
    rows: &mut R,
    limits: &Limits,
    now: Timestamp,
    limit: u32,
) -> Result<DueReport> {
    let mut engine = Engine { rows, limits, now };
    let mut report = DueReport::default();
    let expired = engine.rows.expired(now, limit).await?;
    report.more = expired.len() as u64 >= u64::from(limit);
    for row in expired {
        report.expired += 1;
        report.poisoned += u32::from(engine.expire(row).await? == Status::Failed);
    }
    let delayed = engine.rows.delayed(now, limit).await?;
    report.more |= delayed.len() as u64 >= u64::from(limit);
    for mut row in delayed {
        report.started += 1;
        engine.change(&mut row, Input::Start, Json::Null).await?;
    }
    Ok(report)
}

/// One operation on its way.
pub(super) struct Engine<'a, R> {
    pub(super) rows: &'a mut R,
    limits: &'a Limits,
    pub(super) now: Timestamp,
}

impl<R: Rows> Engine<'_, R> {
    pub(super) async fn load(&mut self, id: TaskId) -> Result<Row> {
        self.rows.row(id).await?.ok_or(Error::NotFound(id))
    }

    /// The row, if `fence` holds it.
    async fn held(&mut self, fence: Fence) -> Result<Row> {
        let row = self.load(fence.task).await?;
        self.check_fence(&row, fence.epoch)?;
        Ok(row)
    }

    fn check_fence(&self, row: &Row, epoch: u64) -> Result<()> {
        if row.status == Status::Running && row.lease_epoch == epoch {
            return Ok(());
        }
        Err(Error::LeaseLost {
            task: row.id,
            given: epoch,
        })
    }

    /// Changes the status, writes event and row, and keeps the ready queue in order.
    pub(super) async fn change(&mut self, row: &mut Row, input: Input, detail: Json) -> Result<()> {
        self.change_holder(row, input, None, detail).await
    }

    async fn change_holder(
        &mut self,
        row: &mut Row,
        input: Input,
        holder: Option<&ClaimReq>,
        detail: Json,
    ) -> Result<()> {
        let was = row.status;
        let kind = row.step(input, self.now)?;
        if let Some(claim) = holder {
            row.hold(claim, self.now);
        }
        let body = tree::event_body(row, kind, input, detail);
        let seq = self.rows.event(row, kind, body, self.now).await?;
        if row.status == Status::Ready {
            row.ready_seq = seq;
        }
        self.rows.put(row, was).await
    }

    async fn create(&mut self, new: &NewTask) -> Result<Done> {
        check::new_task(new, self.limits)?;
        if let Some(there) = self.already_there(new).await? {
            let body = self.rows.body(&there).await?;
            return Ok(Done::Record(Box::new(there.record(body))));
        }
        let mut parent = self.parent_of(new).await?;
        let mut row = Row::new(new, parent.as_ref(), self.now);
        let body = Body {
            title: new.title.clone(),
            spec: new.spec.clone(),
            payload: new.payload.clone(),
            ..Body::default()
        };
        self.rows.insert(&mut row, &body, new.key.as_deref()).await?;
        self.rows
            .event(&row, EventKind::Created, tree::created_body(&row, new), self.now)
            .await?;
        if self.is_ready(new) {
            self.change(&mut row, Input::Start, Json::Null).await?;
        }
        if let Some(parent) = &mut parent {
            parent.open_children += 1;
            parent.touch(self.now);
            self.rows.put(parent, parent.status).await?;
        }
        Ok(Done::Record(Box::new(row.record(body))))
    }

    fn is_ready(&self, new: &NewTask) -> bool {
        match new.start {
            Start::Now => true,
            Start::At(at) => at <= self.now,
            Start::Held => false,
        }
    }

    /// The task that an earlier, equal create made.
    async fn already_there(&mut self, new: &NewTask) -> Result<Option<Row>> {
        if let Some(key) = &new.key
            && let Some(row) = self.rows.keyed(new.parent, key).await?
        {
            return Ok(Some(row));
        }
        let Some(row) = self.rows.row(new.id).await? else {
            return Ok(None);
        };
        let body = self.rows.body(&row).await?;
        if row.is_made_from(&body, new) {
            return Ok(Some(row));
        }
        Err(Error::Conflict(format!(
            "the id {} belongs to another task",
            new.id
        )))
    }

    async fn parent_of(&mut self, new: &NewTask) -> Result<Option<Row>> {
        let Some(id) = new.parent else { return Ok(None) };
        let parent = self.load(id).await?;
        if parent.status.is_terminal() {
            return Err(Error::IllegalTransition {
                from: parent.status,
                input: "have new children",
            });
        }
        check::at_most("depth", u64::from(parent.depth) + 1, self.limits.max_depth.into())?;
        Ok(Some(parent))
    }

    async fn start(&mut self, task: TaskId) -> Result<Done> {
        let mut row = self.load(task).await?;
        self.change(&mut row, Input::Start, Json::Null).await?;
        Ok(Done::Head(row.head()))
    }

    async fn lease(&mut self, mut row: Row, body: Body, req: &ClaimReq) -> Result<Lease> {
        self.change_holder(&mut row, Input::Claim, Some(req), Json::Null)
            .await?;
        let until = row.lease_until.unwrap_or(self.now);
        Ok(Lease {
            epoch: row.lease_epoch,
            until,
            task: row.record(body),
        })
    }

    async fn heartbeat(&mut self, fence: Fence, lease_ms: u64) -> Result<Done> {
        check::lease(lease_ms, self.limits)?;
        let mut row = self.held(fence).await?;
        let until = self.now.plus_ms(millis(lease_ms));
        row.lease_until = Some(until);
        self.rows.put(&row, row.status).await?;
        Ok(Done::Heartbeat(Heartbeat {
            until,
            cancel_requested: row.cancel_requested,
        }))
    }

    async fn append(&mut self, task: TaskId, epoch: Option<u64>, new: &NewMessage) -> Result<Done> {
        check::message(new, self.limits)?;
        let mut row = self.load(task).await?;
        if let Some(key) = &new.key
            && let Some(first) = self.rows.keyed_message(&row, key).await?
        {
            return Ok(Done::Message(Box::new(first)));
        }
        self.may_append(&row, epoch)?;
        row.messages += 1;
        row.touch(self.now);
        let message = record_of(new, &row, self.now);
        self.rows
            .insert_message(&row, &message, new.key.as_deref())
            .await?;
        let detail = tree::message_body(&message);
        self.rows
            .event(&row, EventKind::Message, detail, self.now)
            .await?;
        self.rows.put(&row, row.status).await?;
        Ok(Done::Message(Box::new(message)))
    }

    fn may_append(&self, row: &Row, epoch: Option<u64>) -> Result<()> {
        if let Some(epoch) = epoch {
            return self.check_fence(row, epoch);
        }
        if row.status.is_terminal() {
            return Err(Error::IllegalTransition {
                from: row.status,
                input: "have new messages",
            });
        }
        Ok(())
    }

    async fn complete(&mut self, fence: Fence, result: &Json) -> Result<Done> {
        check::json("result", result, self.limits.max_payload_bytes)?;
        let row = match self.held_unless(fence, Status::Completed).await? {
            Held::Row(row) => *row,
            Held::Before(done) => return Ok(done),
        };
        self.end(
            row,
            Input::Complete,
            Some(Outcome::Result(result.clone())),
            Json::Null,
        )
        .await
    }

    async fn fail(&mut self, fence: Fence, error: &str, retry: Retry) -> Result<Done> {
        let mut row = match self.held_unless(fence, Status::Failed).await? {
            Held::Row(row) => *row,
            Held::Before(done) => return Ok(done),
        };
        let error = check::cut(error, self.limits.max_error_bytes);
        let Some(delay_ms) = self.retry_delay(&row, retry) else {
            return self
                .end(
                    row,
                    Input::Fail,
                    Some(Outcome::Error(error.clone())),
                    error.into(),
                )
                .await;
        };
        row.run_after = (delay_ms > 0).then(|| self.now.plus_ms(millis(delay_ms)));
        let input = if delay_ms > 0 {
            Input::RetryLater
        } else {
            Input::Retry
        };
        self.change(&mut row, input, error.clone().into()).await?;
        self.rows.put_outcome(&row, &Outcome::Error(error)).await?;
        Ok(Done::Head(row.head()))
    }

    /// How long to wait for the next attempt; none if there is none.
    fn retry_delay(&self, row: &Row, retry: Retry) -> Option<u64> {
        if row.attempt >= row.max_attempts || row.cancel_requested {
            return None;
        }
        match retry {
            Retry::Never => None,
            Retry::Backoff => Some(self.limits.backoff.delay_ms(row.id, row.attempt)),
            Retry::AfterMs(ms) => Some(ms.min(self.limits.max_lease_ms)),
        }
    }

    /// The row that `fence` holds, or the answer if this very holder has brought the task to `end`
    /// before: then its first answer was lost on the way.
    async fn held_unless(&mut self, fence: Fence, end: Status) -> Result<Held> {
        let row = self.load(fence.task).await?;
        if row.lease_epoch != fence.epoch {
            return Err(Error::LeaseLost {
                task: fence.task,
                given: fence.epoch,
            });
        }
        match row.status {
            Status::Running => Ok(Held::Row(Box::new(row))),
            status if status == end => Ok(Held::Before(Done::Head(row.head()))),
            _ => Err(Error::LeaseLost {
                task: fence.task,
                given: fence.epoch,
            }),
        }
    }

    async fn release(&mut self, fence: Fence, delay_ms: u64) -> Result<Done> {
        let mut row = self.held(fence).await?;
        if row.cancel_requested {
            return self.end(row, Input::Cancel, None, Json::Null).await;
        }
        let delay_ms = delay_ms.min(self.limits.max_lease_ms);
        row.run_after = (delay_ms > 0).then(|| self.now.plus_ms(millis(delay_ms)));
        let input = if delay_ms > 0 {
            Input::ReleaseLater
        } else {
            Input::Release
        };
        self.change(&mut row, input, Json::Null).await?;
        Ok(Done::Head(row.head()))
    }

    async fn cancel(&mut self, task: TaskId, mode: CancelMode) -> Result<Done> {
        let mut row = self.load(task).await?;
        let running = row.status == Status::Running;
        match (row.status, mode) {
            (Status::Cancelled, _) => Ok(Done::Head(row.head())),
            (Status::Running, CancelMode::Ask) if row.cancel_requested => Ok(Done::Head(row.head())),
            (Status::Running, CancelMode::Ask) => {
                self.change(&mut row, Input::AskCancel, Json::Null).await?;
                Ok(Done::Head(row.head()))
            }
            _ => {
                row.lease_epoch += u64::from(running);
                self.end(row, Input::Cancel, None, Json::Null).await
            }
        }
    }

    async fn stop(&mut self, fence: Fence) -> Result<Done> {
        let row = match self.held_unless(fence, Status::Cancelled).await? {
            Held::Row(row) => *row,
            Held::Before(done) => return Ok(done),
        };
        if !row.cancel_requested {
            return Err(Error::IllegalTransition {
                from: row.status,
                input: "stop unasked",
            });
        }
        self.end(row, Input::Cancel, None, Json::Null).await
    }

    async fn expire(&mut self, mut row: Row) -> Result<Status> {
        if row.cancel_requested {
            self.end(row, Input::Cancel, None, Json::Null).await?;
            return Ok(Status::Cancelled);
        }
        if row.crash_count + 1 >= self.limits.poison_limit {
            let error = format!("{} holders in a row vanished", row.crash_count + 1);
            self.end(
                row,
                Input::Poison,
                Some(Outcome::Error(error.clone())),
                error.into(),
            )
            .await?;
            return Ok(Status::Failed);
        }
        self.change(&mut row, Input::Expire, Json::Null).await?;
        Ok(Status::Ready)
    }

    async fn gather(&mut self, fence: Fence, tasks: &[TaskId], policy: GatherPolicy) -> Result<Done> {
        let mut row = self.held(fence).await?;
        check::at_most("tasks", tasks.len() as u64, self.limits.max_gather as u64)?;
        let listed = self.descendants(&row, tasks).await?;
        let bad = listed
            .iter()
            .any(|task| task.status.is_terminal() && task.status != Status::Completed);
        let open: Vec<_> = listed.iter().filter(|task| !task.status.is_terminal()).collect();
        let fails_now = bad && (policy == GatherPolicy::FailFast || open.is_empty());
        if fails_now && policy != GatherPolicy::Settle {
            let error = tree::GATHER_FAILED.to_owned();
            return self
                .end(
                    row,
                    Input::Fail,
                    Some(Outcome::Error(error.clone())),
                    error.into(),
                )
                .await;
        }
        if open.is_empty() {
            return Ok(Done::Head(row.head()));
        }
        for task in &open {
            self.rows.wait(&row, task).await?;
        }
        row.waiting_on = open.len() as u32;
        row.gather = Some(policy);
        row.gather_failed = bad;
        self.change(&mut row, Input::Block, tree::blocked_body(&open, policy))
            .await?;
        Ok(Done::Head(row.head()))
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
        let waited = row.waiting_on > 0;
        self.change(&mut row, input, detail).await?;
        if let Some(outcome) = &outcome {
            self.rows.put_outcome(&row, outcome).await?;
        }
        if waited {
            self.rows.drop_waits(&row).await?;
        }
        Ok(row)
    }
}

fn record_of(new: &NewMessage, row: &Row, now: Timestamp) -> MessageRecord {
    MessageRecord {
        format: aion_types::Format::default(),
        task_id: row.id,
        seq: row.messages,
        role: new.role,
        content: new.content.clone(),
        tool_calls: new.tool_calls.clone(),
        tool_call_id: new.tool_call_id.clone(),
        persistence: new.persistence.clone(),
        created_at: now,
    }
}
