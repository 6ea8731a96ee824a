//! [`Processor`]: the handle that programs hold.

mod line;
mod object;
mod read;
mod tree;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use aion_types::{Json, MessageRecord, Status, TaskId, TaskRecord, Timestamp};
use futures::StreamExt;
use futures::stream::BoxStream;

pub use self::line::Acquired;
use crate::{
    CancelMode, ClaimReq, Done, DueReport, Error, Fence, GatherPolicy, Heartbeat, Lease, NewMessage, NewTask,
    Op, Result, Retry, StepRecord, TaskHead, TaskStore, Wake,
};

/// How often a waiting claim looks even if nobody told it to.
const POLL: Duration = Duration::from_secs(1);
/// Most that one look at the clock handles.
const DUE_LIMIT: u32 = 256;

/// A handle on a store of tasks: cheap to clone, the same store behind every clone.
///
/// The methods of a holder take the [`Fence`] of its lease and fail with
/// [`Error::LeaseLost`] once somebody else may hold the task.
#[derive(Debug, Clone)]
pub struct Processor {
    store: Arc<dyn TaskStore>,
}

impl Processor {
    /// A handle on `store`.
    pub fn new(store: impl TaskStore) -> Self {
        Self::over(Arc::new(store))
    }

    /// A handle on a store that is shared already.
    pub fn over(store: Arc<dyn TaskStore>) -> Self {
        Self { store }
    }

    /// Opens the database at `path`, and makes it if it is not there.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::NewerDatabase`], or a failure of the storage.
    #[cfg(feature = "sqlite")]
    pub async fn open(path: impl AsRef<std::path::Path>) -> Result<Self> {
        let store = crate::SqliteTaskStore::open(path, crate::SqliteOptions::default()).await?;
        Ok(Self::new(store))
    }

    /// The store itself.
    pub fn store(&self) -> &Arc<dyn TaskStore> {
        &self.store
    }

    /// The time by which leases run.
    ///
    /// # Errors
    /// A failure of the storage.
    pub async fn now(&self) -> Result<Timestamp> {
        self.store.now().await
    }

    /// Creates a task, or gives the one that an equal create made before.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the id belongs to another task; [`Error::NotFound`] without the
    /// parent; [`Error::IllegalTransition`] below a parent that has ended;
    /// [`Error::LeaseLost`] if it [has a fence](NewTask::with_fence); a limit.
    pub async fn create(&self, task: NewTask) -> Result<TaskRecord> {
        match self.one(Op::Create(Box::new(task))).await? {
            Done::Record(record) => Ok(*record),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes a held or delayed task ready now.
    ///
    /// # Errors
    /// [`Error::IllegalTransition`] if it is not being prepared.
    pub async fn start(&self, task: TaskId) -> Result<TaskHead> {
        self.head(Op::Start(task)).await
    }

    /// Takes ready tasks; an empty list if there are none.
    ///
    /// # Errors
    /// A limit, or a failure of the storage.
    pub async fn claim(&self, req: ClaimReq) -> Result<Vec<Lease>> {
        self.store.claim(req).await
    }

    /// Takes ready tasks, waiting up to `wait` for the first.
    ///
    /// # Errors
    /// A limit, or a failure of the storage.
    pub async fn claim_wait(&self, req: ClaimReq, wait: Duration) -> Result<Vec<Lease>> {
        let end = tokio::time::Instant::now() + wait;
        let mut hints = self.store.wake();
        let mut looked: Option<tokio::time::Instant> = None;
        loop {
            // Whoever is woken by a hint need not look at the clock as well.
            if looked.is_none_or(|at| at.elapsed() >= POLL) {
                self.tick().await?;
                looked = Some(tokio::time::Instant::now());
            }
            let leases = self.claim(req.clone()).await?;
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            if !leases.is_empty() || left.is_zero() {
                return Ok(leases);
            }
            let ready = async { while hints.next().await.is_some_and(|hint| hint.ready == 0) {} };
            // Running out of time is no failure: it is the moment to look again.
            let _ = tokio::time::timeout(left.min(POLL), ready).await;
        }
    }

    /// Extends a lease, and learns whether to stop.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    pub async fn heartbeat(&self, fence: Fence, lease_ms: u64) -> Result<Heartbeat> {
        match self.one(Op::Heartbeat { fence, lease_ms }).await? {
            Done::Heartbeat(heartbeat) => Ok(heartbeat),
            other => Err(unexpected(&other)),
        }
    }

    /// Appends a message as the holder of the task.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or a limit.
    pub async fn append(&self, fence: Fence, message: NewMessage) -> Result<MessageRecord> {
        self.append_with(fence.task, Some(fence.epoch), message).await
    }

    /// Appends a message as somebody else, such as the user, to a task that has not ended.
    ///
    /// # Errors
    /// [`Error::IllegalTransition`] if it has, or a limit.
    pub async fn say(&self, task: TaskId, message: NewMessage) -> Result<MessageRecord> {
        self.append_with(task, None, message).await
    }

    async fn append_with(
        &self,
        task: TaskId,
        epoch: Option<u64>,
        message: NewMessage,
    ) -> Result<MessageRecord> {
        match self
            .one(Op::Append {
                task,
                epoch,
                message: Box::new(message),
            })
            .await?
        {
            Done::Message(message) => Ok(*message),
            other => Err(unexpected(&other)),
        }
    }

    /// Records what a step of the task gave, and gives what was recorded first under this name: a step
    /// counts once, however often its task is tried.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or a limit.
    pub async fn step(&self, fence: Fence, name: impl Into<String>, result: Json) -> Result<StepRecord> {
        let name = name.into();
        match self.one(Op::Step { fence, name, result }).await? {
            Done::Step(step) => Ok(*step),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends a task well. Saying so twice is harmless.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or a limit.
    pub async fn complete(&self, fence: Fence, result: Json) -> Result<TaskHead> {
        self.head(Op::Complete { fence, result }).await
    }

    /// Ends a task well and takes the next ones, in one commit. Saying so twice is harmless: nothing
    /// is taken the second time.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or a limit; then nothing was done.
    pub async fn complete_and_claim(
        &self,
        fence: Fence,
        result: Json,
        claim: ClaimReq,
    ) -> Result<(TaskHead, Vec<Lease>)> {
        let claim = Box::new(claim);
        match self.one(Op::CompleteAndClaim { fence, result, claim }).await? {
            Done::Next(head, leases) => Ok((head, leases)),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends an attempt badly; the task ends with it unless `retry` and its attempts allow another.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    pub async fn fail(&self, fence: Fence, error: impl Into<String>, retry: Retry) -> Result<TaskHead> {
        self.head(Op::Fail {
            fence,
            error: error.into(),
            retry,
        })
        .await
    }

    /// Gives a task back without counting the attempt.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    pub async fn release(&self, fence: Fence, rest: Duration) -> Result<TaskHead> {
        let delay_ms = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
        self.head(Op::Release { fence, delay_ms }).await
    }

    /// Asks for the end of a task; its children go on.
    ///
    /// # Errors
    /// [`Error::IllegalTransition`] if it has ended otherwise.
    pub async fn cancel(&self, task: TaskId, mode: CancelMode) -> Result<TaskHead> {
        self.head(Op::Cancel { task, mode }).await
    }

    /// Asks for the end of a task and of everything below it. A large tree is gone through by
    /// [`tick`](Self::tick); tasks that a holder makes after it was asked are its own affair. To ask while a tree is gone
    /// through by force changes nothing about that.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn cancel_tree(&self, task: TaskId, mode: CancelMode) -> Result<TaskHead> {
        self.head(Op::CancelTree { task, mode }).await
    }

    /// Stops a held task whose cancellation was asked for.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]; [`Error::IllegalTransition`] if nobody asked.
    pub async fn stop(&self, fence: Fence) -> Result<TaskHead> {
        self.head(Op::Stop(fence)).await
    }

    /// Waits for descendants: the lease ends, and the task is ready again when they have ended. If
    /// they have already, the task stays with its holder. A task that was asked to stop ends instead
    /// of waiting.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]; [`Error::Invalid`] if one is no descendant; a limit.
    pub async fn gather(&self, fence: Fence, tasks: Vec<TaskId>, policy: GatherPolicy) -> Result<TaskHead> {
        self.head(Op::Gather { fence, tasks, policy }).await
    }

    /// Does what time demands, once: leases that ran out, tasks whose start has come.
    ///
    /// # Errors
    /// A failure of the storage.
    pub async fn tick(&self) -> Result<DueReport> {
        self.store.due(DUE_LIMIT).await
    }

    /// Does what time demands, every `period`, for as long as it is polled.
    pub async fn keep_time(&self, period: Duration) {
        loop {
            match self.tick().await {
                Ok(report) if report.more => continue,
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the clock of the tasks could not be kept"),
            }
            tokio::time::sleep(period).await;
        }
    }

    /// Hints that something was committed; some may be lost, so poll as well.
    pub fn wake(&self) -> BoxStream<'static, Wake> {
        self.store.wake()
    }

    pub(crate) async fn head(&self, op: Op) -> Result<TaskHead> {
        match self.one(op).await? {
            Done::Head(head) => Ok(head),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) async fn one(&self, op: Op) -> Result<Done> {
        let mut done = self.store.apply(vec![op.into()]).await?;
        done.pop()
            .unwrap_or_else(|| Err(Error::Corrupt("the store gave no answer".to_owned())))
    }
}

/// The store gave another answer than asked for.
pub(crate) fn unexpected(answer: &impl std::fmt::Debug) -> Error {
    let text = format!("{answer:?}");
    Error::Corrupt(format!(
        "the store gave another answer than asked for: {text:.80}"
    ))
}

impl TaskHead {
    /// Whether the task never changes again.
    pub const fn is_terminal(&self) -> bool {
        self.status.is_terminal()
    }

    /// Whether the holder still holds it: after a gather whose tasks had all ended.
    pub const fn is_held(&self) -> bool {
        matches!(self.status, Status::Running)
    }
}
