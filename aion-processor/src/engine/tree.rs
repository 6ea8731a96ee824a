//! What the end of a task means for the tasks above it, and what the log says of a change.

use std::collections::{BTreeMap, BTreeSet};

use aion_types::{EventKind, Json, MessageRecord, Status, TaskId, Timestamp};

use super::apply::Engine;
use super::machine::Input;
use super::row::Row;
use super::rows::{Outcome, Rows};
use crate::{Error, GatherPolicy, NewTask, Result};

/// Why a task fails that waited in vain.
pub(super) const GATHER_FAILED: &str = "a task that it waited for did not complete";

impl<R: Rows> Engine<'_, R> {
    /// Tells the parent of an ended task and whoever waits for it; those may end in turn.
    pub(super) async fn notify(&mut self, ended: Row) -> Result<()> {
        let mut ended = vec![ended];
        while let Some(row) = ended.pop() {
            if let Some(parent) = row.parent_id {
                self.child_ended(parent).await?;
            }
            for waiter in self.rows.take_waiters(&row).await? {
                ended.extend(self.wait_ended(waiter, row.status).await?);
            }
        }
        Ok(())
    }

    async fn child_ended(&mut self, parent: TaskId) -> Result<()> {
        let mut parent = self.load(parent).await?;
        parent.open_children = parent.open_children.saturating_sub(1);
        parent.touch(self.now);
        self.rows.put(&parent, parent.status).await
    }

    /// One of the tasks that `waiter` waits for has ended; gives the waiter if it ends by that.
    async fn wait_ended(&mut self, waiter: TaskId, how: Status) -> Result<Option<Row>> {
        let mut row = self.load(waiter).await?;
        if row.status != Status::Blocked {
            return Err(Error::Corrupt(format!(
                "task {waiter} waits, but is {}",
                row.status
            )));
        }
        row.waiting_on = row.waiting_on.saturating_sub(1);
        row.gather_failed |= how != Status::Completed;
        let policy = row.gather.unwrap_or(GatherPolicy::Settle);
        let fails = match policy {
            GatherPolicy::FailFast => row.gather_failed,
            GatherPolicy::All => row.gather_failed && row.waiting_on == 0,
            GatherPolicy::Settle => false,
        };
        if fails {
            let outcome = Some(Outcome::Error(GATHER_FAILED.to_owned()));
            return self
                .finish(row, Input::Fail, outcome, GATHER_FAILED.into())
                .await
                .map(Some);
        }
        if row.waiting_on == 0 {
            self.wake(row).await?;
        } else {
            row.touch(self.now);
            self.rows.put(&row, row.status).await?;
        }
        Ok(None)
    }

    async fn wake(&mut self, mut row: Row) -> Result<()> {
        row.gather = None;
        row.gather_failed = false;
        self.change(&mut row, Input::Wake, Json::Null).await
    }

    /// The listed tasks, each once, all of which must lie below `waiter`.
    pub(super) async fn descendants(&mut self, waiter: &Row, tasks: &[TaskId]) -> Result<Vec<Row>> {
        let mut known = BTreeSet::from([waiter.id]);
        let mut listed = BTreeMap::new();
        for id in tasks {
            let row = self.load(*id).await?;
            if *id == waiter.id || !self.is_below(&row, waiter, &mut known).await? {
                return Err(Error::invalid(
                    "tasks",
                    format!("{id} is no descendant of {}", waiter.id),
                ));
            }
            listed.insert(row.ord, row);
        }
        Ok(listed.into_values().collect())
    }

    /// Whether `row` lies below `waiter`; `known` collects the tasks that do.
    async fn is_below(&mut self, row: &Row, waiter: &Row, known: &mut BTreeSet<TaskId>) -> Result<bool> {
        if row.root_id != waiter.root_id {
            return Ok(false);
        }
        let mut path = Vec::new();
        let mut above = row.parent_id;
        while let Some(id) = above {
            if known.contains(&id) {
                known.extend(path);
                return Ok(true);
            }
            path.push(id);
            above = self.load(id).await?.parent_id;
        }
        Ok(false)
    }
}

/// What the log keeps of a creation: enough to rebuild where the task stands.
pub(super) fn created_body(row: &Row, new: &NewTask) -> Json {
    let mut members = vec![
        ("kind", Json::from(row.kind.as_str())),
        ("queue", Json::from(row.queue.as_str())),
        ("title", Json::from(new.title.as_str())),
        ("priority", Json::Int(row.priority.into())),
        ("depth", Json::Int(row.depth.into())),
        ("max_attempts", Json::Int(row.max_attempts.into())),
    ];
    members.extend(row.parent_id.map(|id| ("parent_id", Json::Text(id.to_string()))));
    members.extend(row.run_after.map(|at| ("run_after", moment(at))));
    members.extend(row.deadline.map(|at| ("deadline", moment(at))));
    Json::object(members)
}

/// What the log keeps of a change: the status and what changed with it.
pub(super) fn event_body(row: &Row, kind: EventKind, input: Input, detail: Json) -> Json {
    let mut members = vec![("status", Json::from(row.status.as_str()))];
    match kind {
        EventKind::Claimed => {
            members.push(("epoch", Json::Int(row.lease_epoch.try_into().unwrap_or(i64::MAX))));
            members.push(("attempt", Json::Int(row.attempt.into())));
            members.extend(
                row.handler_id
                    .as_ref()
                    .map(|id| ("handler_id", Json::from(id.as_str()))),
            );
        }
        EventKind::LeaseExpired => members.push(("crash_count", Json::Int(row.crash_count.into()))),
        EventKind::Failed if input == Input::Poison => {
            members.push(("crash_count", Json::Int(row.crash_count.into())));
        }
        EventKind::Cancelled => {
            members.push(("epoch", Json::Int(row.lease_epoch.try_into().unwrap_or(i64::MAX))));
        }
        _ => {}
    }
    if !row.status.is_terminal() {
        members.extend(row.run_after.map(|at| ("run_after", moment(at))));
    }
    match (kind, detail) {
        (_, Json::Null) => {}
        (EventKind::Blocked, detail) => members.push(("waits", detail)),
        (_, detail) => members.push(("error", detail)),
    }
    Json::object(members)
}

/// For whom a task waits, and under which policy.
pub(super) fn blocked_body(open: &[&Row], policy: GatherPolicy) -> Json {
    let tasks = open.iter().map(|row| Json::Text(row.id.to_string())).collect();
    let policy = match policy {
        GatherPolicy::All => "all",
        GatherPolicy::FailFast => "fail_fast",
        GatherPolicy::Settle => "settle",
    };
    Json::object([("tasks", Json::List(tasks)), ("policy", Json::from(policy))])
}

/// What the log keeps of a message; the message itself is read from the task.
pub(super) fn message_body(message: &MessageRecord) -> Json {
    Json::object([
        ("seq", Json::Int(message.seq.try_into().unwrap_or(i64::MAX))),
        ("role", Json::from(message.role.as_str())),
    ])
}

fn moment(at: Timestamp) -> Json {
    Json::Int(at.as_ms())
}
