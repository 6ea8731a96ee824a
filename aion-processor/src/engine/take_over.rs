//! Tasks and messages of another store, taken over with their ids.

use aion_types::{EventKind, Json, MessageRecord, Status, TaskRecord};

use super::apply::Engine;
use super::machine::Input;
use super::row::{Body, Row};
use super::rows::Rows;
use super::{check, log};
use crate::{Done, Error, NewTask, Result, Start, TaskCopy};

impl<R: Rows> Engine<'_, R> {
    /// A task that ran or waited over there is ready here; its old holder's epoch is refused.
    pub(super) async fn import(&mut self, copy: &TaskCopy) -> Result<Done> {
        check::copy(copy, self.limits)?;
        if let Some(there) = self.rows.row(copy.task.id).await? {
            return self.taken_over(there, copy).await;
        }
        let mut parent = match copy.task.parent_id {
            Some(id) => Some(self.load(id).await?),
            None => None,
        };
        let depth = parent.as_ref().map_or(0, |parent| u64::from(parent.depth) + 1);
        check::at_most("depth", depth, self.limits.max_depth.into())?;
        if let Some(key) = &copy.key
            && self.rows.keyed(copy.task.parent_id, key).await?.is_some()
        {
            return Err(Error::Conflict(format!("the key {key} is taken")));
        }
        let mut row = self.row_of(copy, parent.as_ref());
        let body = body_of(&copy.task);
        self.rows.insert(&mut row, &body, copy.key.as_deref()).await?;
        let told = log::imported(&row, &body.title);
        self.rows.event(&row, EventKind::Created, told, self.now).await?;
        if is_going(copy.task.status) {
            self.change(&mut row, Input::Start, Json::Null).await?;
        }
        if let Some(parent) = parent.as_mut().filter(|_| !row.status.is_terminal()) {
            self.count_child(parent).await?;
        }
        Ok(Done::Record(Box::new(row.record(body))))
    }

    async fn taken_over(&mut self, there: Row, copy: &TaskCopy) -> Result<Done> {
        let body = self.rows.body(&there).await?;
        let same = there.created_at == copy.task.created_at
            && there.kind == copy.task.kind
            && body.title == copy.task.title
            && body.spec == copy.task.spec;
        if same {
            return Ok(Done::Record(Box::new(there.record(body))));
        }
        let id = there.id;
        Err(Error::Conflict(format!("the id {id} belongs to another task")))
    }

    fn row_of(&self, copy: &TaskCopy, parent: Option<&Row>) -> Row {
        let task = &copy.task;
        let mut row = Row::new(&plan_of(copy), parent, self.now);
        let ran = task.status == Status::Running;
        if task.status.is_terminal() {
            row.status = task.status;
        }
        row.run_after = task.run_after.filter(|_| task.status == Status::Preparing);
        row.lease_epoch = task.lease_epoch + u64::from(ran);
        row.attempt = task.attempt.saturating_sub(u32::from(ran));
        row.crash_count = task.crash_count;
        row.cancel_requested = task.cancel_requested;
        row.created_at = task.created_at;
        row.finished_at = task.finished_at.filter(|_| row.status.is_terminal());
        row
    }

    /// Takes over messages in their order; the log tells of each.
    pub(super) async fn import_messages(&mut self, messages: &[MessageRecord]) -> Result<Done> {
        let Some(first) = messages.first() else {
            return Ok(Done::Nothing);
        };
        let mut row = self.load(first.task_id).await?;
        check::copied_messages(messages, row.messages, self.limits)?;
        for message in messages {
            if message.seq <= row.messages {
                continue;
            }
            row.messages += 1;
            self.rows.insert_message(&row, message, None).await?;
            let told = log::message(message);
            self.rows.event(&row, EventKind::Message, told, self.now).await?;
        }
        row.touch(self.now);
        self.rows.put(&row, row.status).await?;
        Ok(Done::Head(row.head()))
    }
}

/// Whether it goes on here as a ready task.
fn is_going(status: Status) -> bool {
    matches!(status, Status::Ready | Status::Running | Status::Blocked)
}

/// The task as it would be created.
pub(super) fn plan_of(copy: &TaskCopy) -> NewTask {
    let task = &copy.task;
    NewTask {
        parent: task.parent_id,
        queue: task.queue.clone(),
        spec: task.spec.clone(),
        payload: task.payload.clone(),
        priority: task.priority,
        start: Start::Held,
        deadline: task.deadline,
        max_attempts: task.max_attempts,
        key: copy.key.clone(),
        concurrency: copy.concurrency.clone(),
        ..NewTask::new(task.id, task.kind.clone(), task.title.clone())
    }
}

fn body_of(task: &TaskRecord) -> Body {
    Body {
        title: task.title.clone(),
        spec: task.spec.clone(),
        payload: task.payload.clone(),
        result: task.result.clone(),
        error: task.error.clone(),
    }
}
