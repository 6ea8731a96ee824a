//! Steps of a task: recorded once, and kept for every attempt that follows.

use std::collections::BTreeSet;

use aion_types::{EventKind, Json};

use super::apply::Engine;
use super::row::Row;
use super::rows::Rows;
use super::{check, log};
use crate::{Done, Error, Fence, Result, StepRecord};

impl<R: Rows> Engine<'_, R> {
    /// Records what a step gave; if it was recorded before, that is what it gave.
    pub(super) async fn step(&mut self, fence: Fence, name: &str, result: &Json) -> Result<Done> {
        check::name("name", name)?;
        let row = self.held(fence).await?;
        if let Some(first) = self.rows.step(&row, name).await? {
            return Ok(Done::Step(Box::new(first)));
        }
        let (last, bytes) = self.rows.last_step(&row).await?;
        let step = StepRecord {
            task_id: row.id,
            seq: last + 1,
            name: name.to_owned(),
            result: result.clone(),
            at: self.now,
        };
        let bytes = check::step(&step, bytes, self.limits)?;
        self.record(&row, &step, bytes).await?;
        Ok(Done::Step(Box::new(step)))
    }

    /// Takes over steps in their order; those that are there already are passed over.
    pub(super) async fn import_steps(&mut self, steps: &[StepRecord]) -> Result<Done> {
        let Some(first) = steps.first() else {
            return Ok(Done::Nothing);
        };
        check::at_most("steps", steps.len() as u64, self.limits.max_page.into())?;
        let row = self.load(first.task_id).await?;
        let (last, mut bytes) = self.rows.last_step(&row).await?;
        let new: Vec<&StepRecord> = steps.iter().filter(|step| step.seq > last).collect();
        let mut names = BTreeSet::new();
        let mut totals = Vec::with_capacity(new.len());
        for (seq, step) in (last + 1..).zip(&new) {
            if step.seq != seq || step.task_id != row.id || !names.insert(&step.name) {
                return Err(Error::invalid("steps", "they do not follow each other"));
            }
            if self.rows.step(&row, &step.name).await?.is_some() {
                return Err(Error::Conflict(format!("there is a step called {}", step.name)));
            }
            check::moment("at", step.at)?;
            bytes = check::step(step, bytes, self.limits)?;
            totals.push(bytes);
        }
        if new.is_empty() {
            return Ok(Done::Head(row.head()));
        }
        self.still_arrives(&row).await?;
        for (step, bytes) in new.into_iter().zip(totals) {
            self.record(&row, step, bytes).await?;
        }
        self.note_at_root(row.root_id).await?;
        Ok(Done::Head(row.head()))
    }

    /// Writes a step; all of the task's have so many `bytes` with it.
    async fn record(&mut self, row: &Row, step: &StepRecord, bytes: u64) -> Result<()> {
        self.rows.insert_step(row, step, bytes).await?;
        self.rows
            .event(row, EventKind::Step, log::step(step), self.now)
            .await
            .map(drop)
    }
}
