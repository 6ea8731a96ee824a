//! Workers that make tasks, claim them, hold, wait, gather and finish, and note each answer.

use std::time::Duration;

use aion_types::{Clock, HandlerId, Json, Role, SystemClock, TaskId, Timestamp};

use super::{Note, Notes};
use crate::{
    Acquired, ClaimReq, Error, GatherPolicy, Lease, NewMessage, NewPrimitive, NewTask, PrimitiveKind,
    Processor, Result, Want,
};

/// The semaphore of the workers, and its permits.
pub(super) const SEMAPHORE: (&str, u32) = ("two", 2);
/// Kinds of tasks: one that may have to hold the semaphore, one that gathers children, and those.
const KINDS: [&str; 3] = ["alone", "parent", "child"];
/// Children of one parent.
const CHILDREN: usize = 2;

/// What workers do until their process dies.
#[derive(Debug, Clone)]
pub struct Work {
    workers: u32,
    lease_ms: u64,
    payload_bytes: usize,
    remove_before: Option<Timestamp>,
}

impl Default for Work {
    /// 8 workers with leases of 200 ms and payloads of 500 bytes; nothing is removed.
    fn default() -> Self {
        Self {
            workers: 8,
            lease_ms: 200,
            payload_bytes: 500,
            remove_before: None,
        }
    }
}

impl Work {
    /// Sets how many work at once.
    #[must_use]
    pub fn with_workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// Sets how long a lease runs.
    #[must_use]
    pub fn with_lease_ms(mut self, lease_ms: u64) -> Self {
        self.lease_ms = lease_ms;
        self
    }

    /// Sets how large a payload is.
    #[must_use]
    pub fn with_payload_bytes(mut self, bytes: usize) -> Self {
        self.payload_bytes = bytes;
        self
    }

    /// Removes trees that ended before `moment`, over and over.
    #[must_use]
    pub fn with_removal_before(mut self, moment: Timestamp) -> Self {
        self.remove_before = Some(moment);
        self
    }

    /// Works for as long as it is polled.
    ///
    /// # Errors
    /// The first answer that no worker should get. That the store is away, busy or full for a while is none.
    pub async fn run(&self, processor: &Processor, notes: &Notes) -> Result<()> {
        let (name, permits) = SEMAPHORE;
        let semaphore = NewPrimitive::new(name, PrimitiveKind::Semaphore { permits });
        while let Err(error) = processor.declare(semaphore.clone()).await {
            patience(error).await?;
        }
        let workers = (0..self.workers).map(|n| self.worker(processor, notes, n));
        let workers = futures::future::try_join_all(workers);
        let (worked, ()) = futures::future::try_join(workers, self.removal(processor, notes)).await?;
        drop(worked);
        Ok(())
    }

    async fn worker(&self, processor: &Processor, notes: &Notes, n: u32) -> Result<()> {
        let handler =
            HandlerId::new(format!("worker-{n}")).map_err(|error| Error::invalid("n", error.to_string()))?;
        let worker = Worker {
            work: self,
            processor,
            notes,
            claim: ClaimReq::new(handler).with_lease_ms(self.lease_ms),
        };
        let mut turn = n;
        loop {
            if let Err(error) = worker.turn(turn).await {
                patience(error).await?;
            }
            turn = turn.wrapping_add(1);
        }
    }

    async fn removal(&self, processor: &Processor, notes: &Notes) -> Result<()> {
        let Some(before) = self.remove_before else {
            return Ok(());
        };
        loop {
            let noted = async |root: &aion_types::TaskRecord| {
                notes.take(Note::Removing(root.id));
                Ok::<(), Error>(())
            };
            if let Err(error) = processor.retire(before, noted).await {
                patience(error).await?;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// Waits where trying again helps; gives the error back where it does not. A lease may be lost when the machine is
/// slow: then nothing was promised.
async fn patience(error: Error) -> Result<()> {
    match error {
        Error::LeaseLost { .. } => Ok(()),
        Error::Unavailable(_) | Error::Busy { .. } | Error::Full => {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(())
        }
        error => Err(error),
    }
}

struct Worker<'a> {
    work: &'a Work,
    processor: &'a Processor,
    notes: &'a Notes,
    claim: ClaimReq,
}

impl Worker<'_> {
    /// One task made, one claimed and worked on.
    async fn turn(&self, n: u32) -> Result<()> {
        let kind = KINDS[usize::from(n.is_multiple_of(5))];
        self.create(kind, None).await?;
        self.processor.tick().await?;
        let Some(lease) = self.processor.claim(self.claim.clone()).await?.pop() else {
            return Ok(());
        };
        self.notes.take(Note::Claimed(lease.fence()));
        match lease.task.kind.as_str() {
            "parent" if self.gathers(&lease).await? => Ok(()),
            "alone" if n.is_multiple_of(2) && !self.holds(&lease).await? => Ok(()),
            _ => self.finish(&lease).await,
        }
    }

    async fn create(&self, kind: &str, above: Option<TaskId>) -> Result<TaskId> {
        let task = TaskId::generate(SystemClock.now());
        let mut new =
            NewTask::new(task, kind, "A task").with_payload("x".repeat(self.work.payload_bytes).into());
        new.parent = above;
        let root = above.unwrap_or(task);
        self.notes.take(Note::Asked { task, root });
        self.processor.create(new).await?;
        self.notes.take(Note::Created(task));
        Ok(task)
    }

    /// Whether it waits for its children now.
    async fn gathers(&self, lease: &Lease) -> Result<bool> {
        let task = lease.task.id;
        let there = self.processor.find(task).await?;
        if there.is_none_or(|task| task.open_children > 0) {
            // Another holder made them before it died.
            return Ok(false);
        }
        if lease.epoch > 1 {
            return Ok(false);
        }
        let mut children = Vec::new();
        for _ in 0..CHILDREN {
            children.push(self.create("child", Some(task)).await?);
        }
        let head = self
            .processor
            .gather(lease.fence(), children, GatherPolicy::Settle)
            .await?;
        Ok(head.status == aion_types::Status::Blocked)
    }

    /// Whether it has the semaphore. If not, somebody goes on with it when it is its turn.
    async fn holds(&self, lease: &Lease) -> Result<bool> {
        let want = Want::new(lease.fence(), SEMAPHORE.0);
        let acquired = self.processor.acquire(want).await?;
        Ok(matches!(acquired, Acquired::Granted(_)))
    }

    async fn finish(&self, lease: &Lease) -> Result<()> {
        let message = NewMessage::new(Role::Assistant, "working").with_key("once");
        self.processor.append(lease.fence(), message).await?;
        self.notes.take(Note::Said(lease.fence()));
        self.processor.complete(lease.fence(), Json::Null).await?;
        self.notes.take(Note::Completed(lease.fence()));
        Ok(())
    }
}
