//! Tasks and messages of another store, taken over with their ids.

use aion_types::{EventKind, MessageRecord, Status, TaskId, TaskRecord, Timestamp};
use serde::{Deserialize, Serialize};

use super::apply::Engine;
use super::named::read;
use super::row::{Body, Row};
use super::rows::{Rows, Space};
use super::{check, log};
use crate::{Done, Error, NewTask, Result, Start, TaskCopy};

/// How long a task takes messages and steps of its copy.
const ARRIVES_MS: i64 = 24 * 3_600_000;

/// How long a task that went on over there rests unless [`Op::Start`](crate::Op::Start) says that all of it has come.
const RESTS_MS: i64 = 10 * 60_000;

/// A task as it came: as long as it is still like that, nobody has worked on it here.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Arrival {
    task: TaskId,
    epoch: u64,
    created_at: Timestamp,
}

impl<R: Rows> Engine<'_, R> {
    /// A task that was ready, ran or waited over there rests here until its messages and steps have come, so that nobody
    /// claims half of it; its old holder's epoch is refused.
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
        if let Some(parent) = &parent {
            self.stays(parent.root_id).await?;
        }
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
        if !row.status.is_terminal() {
            self.keep_deadline(&row).await?;
        }
        if let Some(parent) = parent.as_mut().filter(|_| !row.status.is_terminal()) {
            self.count_child(parent).await?;
        }
        let arrival = Arrival {
            task: row.id,
            epoch: row.lease_epoch,
            created_at: row.created_at,
        };
        let until = Some(self.now.plus_ms(ARRIVES_MS));
        self.store(Space::Arrival, &row.id.to_string(), until, &arrival)
            .await?;
        self.note_at_root(row.root_id).await?;
        Ok(Done::Record(Box::new(row.record(body))))
    }

    /// Refuses what comes into a tree that is being removed.
    async fn stays(&mut self, root: TaskId) -> Result<()> {
        if self.load(root).await?.purging {
            return Err(Error::Conflict(format!("the tree {root} is being removed")));
        }
        Ok(())
    }

    /// Something came into a tree: if its root has ended, whoever saw it before does not remove it as it is now.
    pub(super) async fn note_at_root(&mut self, root: TaskId) -> Result<()> {
        let mut root = self.load(root).await?;
        if root.status.is_terminal() {
            root.touch(self.now);
            self.rows.put(&root, root.status).await?;
        }
        Ok(())
    }

    /// Refuses more of a copy for a task that was made here, came long ago, or was claimed here since: it has messages
    /// and steps of its own, which only its holders write.
    pub(super) async fn still_arrives(&mut self, row: &Row) -> Result<()> {
        self.stays(row.root_id).await?;
        let arrival: Option<Arrival> = self.find(Space::Arrival, &row.id.to_string()).await?;
        let is_as_it_came =
            |arrival: Arrival| (arrival.epoch, arrival.created_at) == (row.lease_epoch, row.created_at);
        if arrival.is_some_and(is_as_it_came) {
            return Ok(());
        }
        let id = row.id;
        Err(Error::Conflict(format!(
            "task {id} takes nothing of a copy: it was made here, or has gone on since it came"
        )))
    }

    /// Forgets which tasks came long ago, so many at most; gives how many.
    pub(super) async fn forget_arrivals(&mut self, limit: u32) -> Result<u32> {
        let old = self.rows.due_named(Space::Arrival, self.now, limit).await?;
        for text in &old {
            let Arrival { task, .. } = read(text)?;
            self.rows.drop_named(Space::Arrival, &task.to_string()).await?;
        }
        Ok(old.len() as u32)
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
        let rests = copy.goes_on().then(|| self.now.plus_ms(RESTS_MS));
        if task.status.is_terminal() {
            row.status = task.status;
        }
        row.run_after = rests.or(task.run_after.filter(|_| task.status == Status::Preparing));
        row.lease_epoch = copy.epoch_here();
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
        if messages.last().is_none_or(|last| last.seq <= row.messages) {
            return Ok(Done::Head(row.head()));
        }
        self.still_arrives(&row).await?;
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
        let head = row.head();
        self.note_at_root(row.root_id).await?;
        Ok(Done::Head(head))
    }
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
