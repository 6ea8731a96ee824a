//! Claims, and what holders say until their lease ends.

use aion_types::{Json, Status, TaskId, Timestamp};

use super::apply::{Engine, Last};
use super::check;
use super::machine::Input;
use super::row::{Body, Row, millis};
use super::rows::{Outcome, Rows};
use crate::{CancelMode, ClaimOrder, ClaimReq, Done, Error, Fence, Heartbeat, Lease, Limits, Result, Retry};

/// Why a task fails that did not end in time.
const OVERDUE: &str = "its deadline has passed";
/// The longest that a task rests before it may be claimed again: some ten years.
const LONGEST_REST_MS: u64 = 3_650 * 24 * 3_600_000;

/// Hands out ready tasks.
pub(crate) async fn claim<R: Rows>(
    rows: &mut R,
    limits: &Limits,
    now: Timestamp,
    req: &ClaimReq,
) -> Result<Vec<Lease>> {
    check::claim(req, limits)?;
    Engine { rows, limits, now }.take(req).await
}

impl<R: Rows> Engine<'_, R> {
    async fn take(&mut self, req: &ClaimReq) -> Result<Vec<Lease>> {
        if req.order == ClaimOrder::Fair && req.task.is_none() {
            return self.take_fairly(req).await;
        }
        let mut leases = Vec::new();
        for (row, body) in self.rows.ready(req).await? {
            leases.push(self.lease(row, body, req).await?);
        }
        Ok(leases)
    }

    pub(super) async fn lease(&mut self, mut row: Row, body: Body, req: &ClaimReq) -> Result<Lease> {
        self.change_holder(&mut row, Input::Claim, Some(req), Json::Null)
            .await?;
        let until = row.lease_until.unwrap_or(self.now);
        Ok(Lease {
            epoch: row.lease_epoch,
            until,
            task: row.record(body),
        })
    }

    pub(super) async fn heartbeat(&mut self, fence: Fence, lease_ms: u64) -> Result<Done> {
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

    pub(super) async fn complete(&mut self, fence: Fence, result: &Json) -> Result<Done> {
        match self.unless_completed(fence, result).await? {
            Last::Row(row) => self.completed(*row, result).await,
            Last::Before(done) => Ok(done),
        }
    }

    async fn unless_completed(&mut self, fence: Fence, result: &Json) -> Result<Last> {
        check::json("result", result, self.limits.max_payload_bytes)?;
        self.held_unless(fence, Status::Completed).await
    }

    async fn completed(&mut self, row: Row, result: &Json) -> Result<Done> {
        let outcome = Some(Outcome::Result(result.clone()));
        self.end(row, Input::Complete, outcome, Json::Null).await
    }

    pub(super) async fn complete_and_claim(
        &mut self,
        fence: Fence,
        result: &Json,
        req: &ClaimReq,
    ) -> Result<Done> {
        check::claim(req, self.limits)?;
        match self.unless_completed(fence, result).await? {
            Last::Row(row) => match self.completed(*row, result).await? {
                Done::Head(head) => Ok(Done::Next(head, self.take(req).await?)),
                other => Ok(other),
            },
            Last::Before(Done::Head(head)) => Ok(Done::Next(head, Vec::new())),
            Last::Before(other) => Ok(other),
        }
    }

    pub(super) async fn fail(&mut self, fence: Fence, error: &str, retry: Retry) -> Result<Done> {
        let mut row = match self.held_unless(fence, Status::Failed).await? {
            Last::Row(row) => *row,
            Last::Before(done) => return Ok(done),
        };
        let error = check::cut(error, self.limits.max_error_bytes);
        let Some(delay_ms) = self.retry_delay(&row, retry) else {
            let outcome = Some(Outcome::Error(error.clone()));
            return self.end(row, Input::Fail, outcome, error.into()).await;
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
            Retry::AfterMs(ms) => Some(ms.min(LONGEST_REST_MS)),
        }
    }

    pub(super) async fn release(&mut self, fence: Fence, delay_ms: u64) -> Result<Done> {
        let mut row = self.held(fence).await?;
        if row.cancel_requested {
            return self.end(row, Input::Cancel, None, Json::Null).await;
        }
        let delay_ms = delay_ms.min(LONGEST_REST_MS);
        row.run_after = (delay_ms > 0).then(|| self.now.plus_ms(millis(delay_ms)));
        let input = if delay_ms > 0 {
            Input::ReleaseLater
        } else {
            Input::Release
        };
        self.change(&mut row, input, Json::Null).await?;
        Ok(Done::Head(row.head()))
    }

    pub(super) async fn cancel(&mut self, task: TaskId, mode: CancelMode) -> Result<Done> {
        let row = self.load(task).await?;
        self.cancel_row(row, mode).await
    }

    pub(super) async fn cancel_row(&mut self, mut row: Row, mode: CancelMode) -> Result<Done> {
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

    pub(super) async fn stop(&mut self, fence: Fence) -> Result<Done> {
        let row = match self.held_unless(fence, Status::Cancelled).await? {
            Last::Row(row) => *row,
            Last::Before(done) => return Ok(done),
        };
        if !row.cancel_requested {
            return Err(Error::IllegalTransition {
                from: row.status,
                input: "stop unasked",
            });
        }
        self.end(row, Input::Cancel, None, Json::Null).await
    }

    /// The deadline of a task that has not ended is there.
    pub(super) async fn overdue(&mut self, mut row: Row) -> Result<()> {
        row.lease_epoch += u64::from(row.status == Status::Running);
        if row.cancel_requested {
            self.end(row, Input::Cancel, None, Json::Null).await?;
            return Ok(());
        }
        let outcome = Some(Outcome::Error(OVERDUE.to_owned()));
        self.end(row, Input::Overdue, outcome, OVERDUE.into()).await?;
        Ok(())
    }

    /// The holder did not come back in time; gives where the task stands then.
    pub(super) async fn expire(&mut self, mut row: Row) -> Result<Status> {
        if row.cancel_requested {
            self.end(row, Input::Cancel, None, Json::Null).await?;
            return Ok(Status::Cancelled);
        }
        let vanished = row.crash_count.saturating_add(1);
        if vanished >= self.limits.poison_limit {
            let error = format!("{vanished} holders vanished in a row");
            let outcome = Some(Outcome::Error(error.clone()));
            self.end(row, Input::Poison, outcome, error.into()).await?;
            return Ok(Status::Failed);
        }
        self.change(&mut row, Input::Expire, Json::Null).await?;
        Ok(Status::Ready)
    }
}
