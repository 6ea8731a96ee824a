//! New tasks.

use aion_types::{EventKind, Json};

use super::apply::Engine;
use super::machine::Input;
use super::row::{Body, Row};
use super::rows::{Rows, Space};
use super::{check, log};
use crate::{Done, Error, NewTask, Result, Start};

impl<R: Rows> Engine<'_, R> {
    pub(super) async fn create(&mut self, new: &NewTask) -> Result<Done> {
        check::new_task(new, self.limits)?;
        self.create_checked(new).await
    }

    pub(super) async fn create_checked(&mut self, new: &NewTask) -> Result<Done> {
        if let Some(fence) = new.fence {
            self.held(fence).await?;
        }
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
            .event(&row, EventKind::Created, log::created(&row, &new.title), self.now)
            .await?;
        self.keep_deadline(&row).await?;
        if self.is_ready(new) {
            self.change(&mut row, Input::Start, Json::Null).await?;
        }
        if let Some(parent) = &mut parent {
            self.count_child(parent).await?;
        }
        Ok(Done::Record(Box::new(row.record(body))))
    }

    /// Notes when a task that has not ended must have.
    pub(super) async fn keep_deadline(&mut self, row: &Row) -> Result<()> {
        match row.deadline {
            None => Ok(()),
            due => {
                let name = row.id.to_string();
                self.store(Space::Deadline, &name, due, &row.id).await
            }
        }
    }

    /// One more child of `parent` has not ended.
    pub(super) async fn count_child(&mut self, parent: &mut Row) -> Result<()> {
        parent.open_children += 1;
        parent.touch(self.now);
        self.rows.put(parent, parent.status).await
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

    pub(super) async fn start(&mut self, task: aion_types::TaskId) -> Result<Done> {
        let mut row = self.load(task).await?;
        self.change(&mut row, Input::Start, Json::Null).await?;
        Ok(Done::Head(row.head()))
    }
}
