//! What time demands.

use aion_types::{Json, Status, TaskId, Timestamp};

use super::apply::Engine;
use super::machine::Input;
use super::named::read;
use super::rows::{Rows, Space};
use crate::{DueReport, Limits, Result};

/// Does what time demands at `now`: at most `limit` of each.
pub(crate) async fn due<R: Rows>(
    rows: &mut R,
    limits: &Limits,
    now: Timestamp,
    limit: u32,
) -> Result<DueReport> {
    let mut engine = Engine { rows, limits, now };
    let mut report = DueReport::default();
    engine.end_overdue(limit, &mut report).await?;
    engine.end_leases(limit, &mut report).await?;
    engine.start_delayed(limit, &mut report).await?;
    engine.end_waits(limit, &mut report).await?;
    let drained = engine.drain(limit).await?;
    let (times, made) = engine.run_schedules(limit).await?;
    report.scheduled = made;
    report.cancelled = engine.sweep(limit).await?;
    report.removed = engine.go_on_purging(limit).await?;
    let forgotten = engine.forget_arrivals(limit).await?;
    report.more |= [drained, times, report.cancelled, report.removed, forgotten]
        .iter()
        .any(|n| *n >= limit.max(1));
    Ok(report)
}

impl<R: Rows> Engine<'_, R> {
    async fn end_overdue(&mut self, limit: u32, report: &mut DueReport) -> Result<()> {
        let texts = self.rows.due_named(Space::Deadline, self.now, limit).await?;
        report.more |= texts.len() as u64 >= u64::from(limit);
        for text in &texts {
            let task: TaskId = read(text)?;
            match self.rows.row(task).await? {
                Some(row) if row.is_overdue(self.now) => {
                    report.overdue += 1;
                    self.overdue(row).await?;
                }
                // The end of another one has ended it.
                _ => self.rows.drop_named(Space::Deadline, &task.to_string()).await?,
            }
        }
        Ok(())
    }

    async fn end_leases(&mut self, limit: u32, report: &mut DueReport) -> Result<()> {
        let expired = self.rows.expired(self.now, limit).await?;
        report.more |= expired.len() as u64 >= u64::from(limit);
        for row in expired {
            // What another one lost may have changed it.
            let row = self.load(row.id).await?;
            report.expired += 1;
            report.poisoned += u32::from(self.expire(row).await? == Status::Failed);
        }
        Ok(())
    }

    async fn start_delayed(&mut self, limit: u32, report: &mut DueReport) -> Result<()> {
        let delayed = self.rows.delayed(self.now, limit).await?;
        report.more |= delayed.len() as u64 >= u64::from(limit);
        for mut row in delayed {
            report.started += 1;
            self.change(&mut row, Input::Start, Json::Null).await?;
        }
        Ok(())
    }

    async fn end_waits(&mut self, limit: u32, report: &mut DueReport) -> Result<()> {
        let impatient = self.rows.impatient(self.now, limit).await?;
        report.more |= impatient.len() as u64 >= u64::from(limit);
        for waiter in impatient {
            report.gave_up += 1;
            self.give_up_waiting(waiter.task).await?;
        }
        Ok(())
    }
}
