//! Waiting for tasks below, and what the end of a task means for those above.

use std::collections::{BTreeMap, BTreeSet};

use aion_types::{Json, Status, TaskId};

use super::apply::Engine;
use super::machine::Input;
use super::row::Row;
use super::rows::{Outcome, Rows};
use super::{check, log};
use crate::{Done, Error, Fence, GatherPolicy, Result};

/// Why a task fails that waited in vain.
const GATHER_FAILED: &str = "a task that it waited for did not complete";

impl<R: Rows> Engine<'_, R> {
    pub(super) async fn gather(
        &mut self,
        fence: Fence,
        tasks: &[TaskId],
        policy: GatherPolicy,
    ) -> Result<Done> {
        let mut row = self.held(fence).await?;
        check::at_most("tasks", tasks.len() as u64, self.limits.max_gather as u64)?;
        let listed = self.descendants(&row, tasks).await?;
        let bad = listed
            .iter()
            .any(|task| task.status.is_terminal() && task.status != Status::Completed);
        let open: Vec<_> = listed.iter().filter(|task| !task.status.is_terminal()).collect();
        let fails_now = bad && (policy == GatherPolicy::FailFast || open.is_empty());
        if fails_now && policy != GatherPolicy::Settle {
            let outcome = Some(Outcome::Error(GATHER_FAILED.to_owned()));
            return self.end(row, Input::Fail, outcome, GATHER_FAILED.into()).await;
        }
        if open.is_empty() {
            return Ok(Done::Head(row.head()));
        }
        if row.cancel_requested {
            return self.end(row, Input::Cancel, None, Json::Null).await;
        }
        for task in &open {
            self.rows.wait(&row, task).await?;
        }
        row.waiting_on = open.len() as u32;
        row.gather = Some(policy);
        row.gather_failed = bad;
        let waits = log::waits_for_tasks(&open, policy);
        self.change(&mut row, Input::Gather, waits).await?;
        Ok(Done::Head(row.head()))
    }

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

    /// The listed tasks, each once, all of which must lie below `waiter`.
    async fn descendants(&mut self, waiter: &Row, tasks: &[TaskId]) -> Result<Vec<Row>> {
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
