//! Whole trees: cancelled from the top down, and removed from the bottom up, in bounded steps.

use aion_types::{EventKind, Json, Status, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use super::apply::Engine;
use super::check;
use super::named::read;
use super::row::Row;
use super::rows::{Rows, Space};
use crate::{CancelMode, Done, Error, Purged, Result};

/// Tasks that one operation cancels below the top; [`due`](super::due) goes on.
const AT_ONCE: u32 = 64;

/// The children of a task that are still to be cancelled.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Sweep {
    task: TaskId,
    mode: CancelMode,
    /// The last child that was.
    after: u64,
}

impl<R: Rows> Engine<'_, R> {
    /// Cancels the top now and what is below it as far as one operation goes.
    pub(super) async fn cancel_tree(&mut self, task: TaskId, mode: CancelMode) -> Result<Done> {
        let row = self.load(task).await?;
        if !row.status.is_terminal() {
            self.cancel_row(row, mode).await?;
        }
        self.sweep_below(task, mode).await?;
        self.sweep(AT_ONCE).await?;
        Ok(Done::Head(self.load(task).await?.head()))
    }

    async fn sweep_below(&mut self, task: TaskId, mode: CancelMode) -> Result<()> {
        if self.rows.children(task, 0, 1).await?.is_empty() {
            return Ok(());
        }
        // One that is under way by force is not made weaker.
        let mode = match self.find(Space::Sweep, &task.to_string()).await? {
            Some(Sweep {
                mode: CancelMode::Force,
                ..
            }) => CancelMode::Force,
            _ => mode,
        };
        self.keep_sweep(Sweep { task, mode, after: 0 }).await
    }

    async fn keep_sweep(&mut self, sweep: Sweep) -> Result<()> {
        let always = Some(Timestamp::from_ms(0));
        self.store(Space::Sweep, &sweep.task.to_string(), always, &sweep)
            .await
    }

    /// Goes on cancelling, so many tasks at most; gives how many it looked at.
    pub(super) async fn sweep(&mut self, limit: u32) -> Result<u32> {
        let mut seen = 0;
        while seen < limit {
            let next = self.rows.due_named(Space::Sweep, self.now, 1).await?.pop();
            let Some(text) = next else { break };
            seen += self.sweep_step(read(&text)?, limit - seen).await?;
        }
        Ok(seen)
    }

    async fn sweep_step(&mut self, mut sweep: Sweep, limit: u32) -> Result<u32> {
        let children = self.rows.children(sweep.task, sweep.after, limit).await?;
        let seen = children.len() as u32;
        for child in children {
            sweep.after = child.ord;
            // Ends of its siblings may have changed it.
            let child = self.load(child.id).await?;
            let id = child.id;
            if !child.status.is_terminal() {
                self.cancel_row(child, sweep.mode).await?;
            }
            self.sweep_below(id, sweep.mode).await?;
        }
        if seen < limit {
            self.rows
                .drop_named(Space::Sweep, &sweep.task.to_string())
                .await?;
        } else {
            self.keep_sweep(sweep).await?;
        }
        Ok(seen.max(1))
    }

    /// Removes the newest tasks of a tree that has ended as a whole.
    pub(super) async fn purge(&mut self, root: TaskId, max: u32, version: Option<u64>) -> Result<Done> {
        check::between("max", max.into(), self.limits.max_page.into())?;
        let mut row = self.load(root).await?;
        if row.parent_id.is_some() {
            return Err(Error::invalid("root", "the task is below another one"));
        }
        if version.is_some_and(|version| version != row.version) {
            return Err(Error::Conflict(format!("the tree {root} has changed")));
        }
        if !row.purging {
            self.is_over(&row).await?;
            row.purging = true;
            row.touch(self.now);
            self.rows.put(&row, row.status).await?;
            let always = Some(Timestamp::from_ms(0));
            self.store(Space::Purge, &root.to_string(), always, &root).await?;
        }
        let removed = self.rows.purge(root, max).await?;
        let more = self.rows.row(root).await?.is_some();
        if !more {
            self.rows.drop_named(Space::Purge, &root.to_string()).await?;
            let told = Json::object([("kind", Json::from(row.kind.as_str()))]);
            self.rows.event(&row, EventKind::Purged, told, self.now).await?;
        }
        Ok(Done::Purged(Purged { removed, more }))
    }

    /// Goes on removing trees, so many tasks at most; gives how many are gone.
    pub(super) async fn go_on_purging(&mut self, limit: u32) -> Result<u32> {
        let limit = limit.min(self.limits.max_page);
        let mut removed = 0;
        while removed < limit {
            let next = self.rows.due_named(Space::Purge, self.now, 1).await?.pop();
            let Some(text) = next else { break };
            match self.purge(read(&text)?, limit - removed, None).await? {
                Done::Purged(purged) => removed += purged.removed.max(1),
                _ => break,
            }
        }
        Ok(removed)
    }

    async fn is_over(&mut self, root: &Row) -> Result<()> {
        let Some(open) = self.rows.open_in_tree(root.id).await? else {
            return Ok(());
        };
        let from = self.rows.row(open).await?.map_or(Status::Ready, |row| row.status);
        Err(Error::IllegalTransition {
            from,
            input: "be removed",
        })
    }
}
