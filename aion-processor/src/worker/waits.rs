//! Waiting without a slot: for children, for a time, for a primitive.
//!
//! Each of these ends the lease if there is something to wait for. The function ends there, its future is
//! dropped, and the slot is free for another task. When the wait is over the task is ready; whoever claims it
//! runs the function from its beginning, and this time the wait gives what it was for.

use std::time::Duration;

use aion_types::{Json, Status, TaskId, TaskRecord, Timestamp};
use serde::de::DeserializeOwned;

use super::handler::from_json;
use super::signals::Over;
use super::{Ctx, Failure};
use crate::{Acquired, GatherPolicy, Grant, Return, Want};

/// Children that are read at once.
const READS: usize = 16;

/// How a task ended that was waited for.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended(TaskRecord);

impl Ended {
    /// The task.
    pub fn task(&self) -> &TaskRecord {
        &self.0
    }

    /// Whether it ended well.
    pub fn is_completed(&self) -> bool {
        self.0.status == Status::Completed
    }

    /// What it gave.
    ///
    /// # Errors
    /// A task that did not complete, or gave something else.
    pub fn result<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        if !self.is_completed() {
            let why = self.0.error.as_deref().unwrap_or("no reason is given");
            return Err(Failure::never(format!(
                "task {} is {}: {why}",
                self.0.id, self.0.status
            )));
        }
        let result = self.0.result.as_ref().unwrap_or(&Json::Null);
        from_json("the result", result)
    }
}

impl Ctx {
    /// Waits until these descendants have ended, and gives how, in the order of `tasks`.
    ///
    /// Under a policy other than [`GatherPolicy::Settle`] this task fails if one of them does not
    /// complete, and the function is not run again.
    ///
    /// # Errors
    /// A task that is no descendant; a limit; a lost lease.
    pub async fn gather(&self, tasks: &[TaskId], policy: GatherPolicy) -> Result<Vec<Ended>, Failure> {
        let head = self
            .processor()
            .gather(self.fence(), tasks.to_vec(), policy)
            .await?;
        if !head.is_held() {
            return self.wait().await;
        }
        let mut ended = Vec::with_capacity(tasks.len());
        for part in tasks.chunks(READS) {
            let reads = part.iter().map(|task| self.processor().get(*task));
            let read = futures::future::try_join_all(reads).await?;
            ended.extend(read.into_iter().map(Ended));
        }
        Ok(ended)
    }

    /// Sleeps for so long after the first run came here, without a slot.
    ///
    /// What the task holds of primitives is given back meanwhile, and asked for again by the next run.
    ///
    /// # Errors
    /// A name that this run has used; a lost lease.
    pub async fn sleep(&self, name: impl Into<String>, duration: Duration) -> Result<(), Failure> {
        let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let until = async { Ok(Json::Int(self.now().await?.plus_ms(ms).as_ms())) };
        let until = self.own_step("sleep", &name.into(), until).await?;
        let until: i64 = from_json("the end of the sleep", &until)?;
        self.sleep_until(Timestamp::from_ms(until)).await
    }

    /// Sleeps until this moment by the store's clock, without a slot; it must be the same in every run.
    ///
    /// What the task holds of primitives is given back meanwhile, and asked for again by the next run.
    ///
    /// # Errors
    /// A lost lease.
    pub async fn sleep_until(&self, until: Timestamp) -> Result<(), Failure> {
        let left_ms = until.as_ms().saturating_sub(self.now().await?.as_ms());
        let Ok(left_ms @ 1..) = u64::try_from(left_ms) else {
            return Ok(());
        };
        // The engine may let it sleep for less; the next run sleeps on.
        let rest = Duration::from_millis(left_ms);
        self.processor().release(self.fence(), rest).await?;
        self.wait().await
    }

    /// Takes one unit of a primitive, however long it takes.
    ///
    /// # Errors
    /// A primitive that is not there; a limit; a lost lease.
    pub async fn acquire(&self, primitive: impl Into<String>) -> Result<Guard, Failure> {
        self.acquire_units(primitive, 1).await
    }

    /// Takes so many units of a semaphore, however long it takes.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_units(&self, primitive: impl Into<String>, units: u32) -> Result<Guard, Failure> {
        let want = Want::new(self.fence(), primitive).with_units(units);
        match self.ask(want).await? {
            Some(guard) => Ok(guard),
            None => Err(Failure::again("the primitive gave nothing")),
        }
    }

    /// Takes so many units of a primitive unless that takes longer than until this moment, which must
    /// be the same in every run; none then. A moment that has passed means not to wait at all.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_until(
        &self,
        primitive: impl Into<String>,
        units: u32,
        until: Timestamp,
    ) -> Result<Option<Guard>, Failure> {
        let want = Want::new(self.fence(), primitive).with_units(units);
        self.ask(want.with_until(until)).await
    }

    async fn ask(&self, want: Want) -> Result<Option<Guard>, Failure> {
        match self.processor().acquire(want).await? {
            Acquired::Granted(grant) => Ok(Some(Guard {
                ctx: self.clone(),
                grant,
            })),
            Acquired::Missed => Ok(None),
            Acquired::Waits(_) => self.wait().await,
        }
    }

    /// Ends the attempt: the pool drops the function here.
    async fn wait<T>(&self) -> T {
        self.signals().end(Over::Waits);
        std::future::pending().await
    }
}

/// What a task holds of a primitive.
///
/// Dropping it changes nothing: the task holds on until it is given back, and at the latest until the
/// attempt ends.
#[derive(Debug)]
pub struct Guard {
    ctx: Ctx,
    grant: Grant,
}

impl Guard {
    /// The grant. Its token only grows, so that whatever the primitive guards can refuse an older one.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The item of a queue.
    ///
    /// # Errors
    /// A grant of something else, or an item of another type.
    pub fn item<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let item = self.grant.item.as_ref();
        let item = item.ok_or_else(|| Failure::never(format!("{} has no items", self.grant.primitive)))?;
        from_json("the item", item)
    }

    /// Gives it back; an item of a queue is done with.
    ///
    /// # Errors
    /// A lost lease.
    pub async fn give_back(self) -> Result<(), Failure> {
        self.end(Return::Done).await
    }

    /// Gives it back untouched: an item of a queue goes back to its place.
    ///
    /// # Errors
    /// A lost lease.
    pub async fn put_back(self) -> Result<(), Failure> {
        self.end(Return::Undone).await
    }

    async fn end(self, how: Return) -> Result<(), Failure> {
        let processor = self.ctx.processor();
        processor.give_back(self.ctx.fence(), &self.grant, how).await?;
        Ok(())
    }
}
