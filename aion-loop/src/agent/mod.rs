//! [`Agent`]: drives a [`LoopRun`](crate::LoopRun) on a task that is held under a lease.

mod drive;
mod kind;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aion_processor::{Lease, Processor};
use aion_types::{AgentId, Clock, RunId, Status, SystemClock, TaskId, TaskPersistence, TaskRecord};
use tokio_util::sync::CancellationToken;

pub use kind::AgentType;
pub use worker::{Worker, WorkerOptions};

use crate::judge::{Judge, JudgeWhen, TakeAtWord};
use crate::model::ChatModel;
use crate::ranker::{OverlapRanker, ToolRanker};
use crate::report::{PriceFeed, SharedObserver};
use crate::run::{CallResult, Input, LoopRun, Outcome, RunOptions};
use crate::services::Services;
use crate::store::{LoopStore, RunRecord, RunStatus, StoreError};
use crate::{Error, Result};
pub(crate) use drive::fill_evidence;
use drive::{Drive, Stop};

/// How work on a task ended for this worker.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkEnd {
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// Where the task stands now.
    pub status: Status,
    /// How the run ended; none if it was paused.
    pub outcome: Option<Outcome>,
    /// Why the task ended as it did, in words.
    pub reason: String,
    /// Tokens used by the run.
    pub tokens_used: u64,
    /// Calls of the model.
    pub steps: u32,
    /// Milliseconds of work.
    pub worked_ms: u64,
    /// The task's persistence at the end, from its log; none while the task has not ended.
    pub persistence: Option<TaskPersistence>,
}

/// A type of agent with everything it works with; cheap to clone.
///
/// What may be lost when the process dies at any moment: the answer of a model that was not yet
/// written down. No call is ever dispatched before its intent and its run are stored, and none is
/// sent twice that must not be.
#[derive(Clone)]
pub struct Agent {
    pub(crate) id: AgentId,
    pub(crate) model: Arc<dyn ChatModel>,
    pub(crate) services: Services,
    pub(crate) store: Arc<dyn LoopStore>,
    pub(crate) options: RunOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ranker: Arc<dyn ToolRanker>,
    pub(crate) judge: Arc<dyn Judge>,
    pub(crate) judge_when: JudgeWhen,
    pub(crate) price: Option<Arc<dyn PriceFeed>>,
    pub(crate) observer: Option<SharedObserver>,
    pub(crate) cwd: Option<String>,
    pub(crate) lease_ms: u64,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("id", &self.id)
            .field("model", &self.model.name())
            .field("tools", &self.services.tools())
            .finish_non_exhaustive()
    }
}

impl Agent {
    /// An agent that takes itself at its word and is watched by nobody.
    pub fn new(
        id: AgentId,
        model: Arc<dyn ChatModel>,
        services: Services,
        store: Arc<dyn LoopStore>,
        options: RunOptions,
    ) -> Self {
        Self {
            id,
            model,
            services,
            store,
            options,
            clock: Arc::new(SystemClock),
            ranker: Arc::new(OverlapRanker),
            judge: Arc::new(TakeAtWord),
            judge_when: JudgeWhen::AtEnd,
            price: None,
            observer: None,
            cwd: None,
            lease_ms: 30_000,
        }
    }

    /// Sets the clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets who picks the tools of a step.
    #[must_use]
    pub fn with_ranker(mut self, ranker: Arc<dyn ToolRanker>) -> Self {
        self.ranker = ranker;
        self
    }

    /// Sets who decides, and when.
    #[must_use]
    pub fn with_judge(mut self, judge: Arc<dyn Judge>, when: JudgeWhen) -> Self {
        self.judge = judge;
        self.judge_when = when;
        self
    }

    /// Sets where the price of success comes from.
    #[must_use]
    pub fn with_price(mut self, price: Arc<dyn PriceFeed>) -> Self {
        self.price = Some(price);
        self
    }

    /// Sets who hears of every step.
    #[must_use]
    pub fn with_observer(mut self, observer: SharedObserver) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Sets the directory that calls work in, as the machine understands it.
    #[must_use]
    pub fn with_cwd(mut self, cwd: impl Into<String>) -> Self {
        self.cwd = Some(cwd.into());
        self
    }

    /// Sets how long a lease lasts between heartbeats.
    #[must_use]
    pub fn with_lease_ms(mut self, lease_ms: u64) -> Self {
        self.lease_ms = lease_ms;
        self
    }

    /// The type of agent.
    pub fn id(&self) -> &AgentId {
        &self.id
    }

    /// The store of its runs.
    pub fn store(&self) -> &Arc<dyn LoopStore> {
        &self.store
    }

    /// The services that it works with.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Works on a held task until it ends, or until `pause` is cancelled; then the task is given back
    /// and [`work`](Self::work) on the next lease goes on where this one stopped.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] when somebody else may hold the task; a failure of a store. The run can
    /// be taken up again either way.
    pub async fn work(
        &self,
        processor: &Processor,
        lease: &Lease,
        pause: &CancellationToken,
    ) -> Result<WorkEnd> {
        let cancelled = CancellationToken::new();
        let stop = Stop {
            pause: pause.clone(),
            cancel: cancelled.clone(),
        };
        let drive = async {
            let run = self.take_up(&lease.task).await?;
            Drive::new(self, processor, lease, run, stop).finish().await
        };
        let end = tokio::select! {
            biased;
            end = drive => end,
            lost = self.keep_lease(processor, lease, &cancelled) => Err(lost),
        };
        if let Err(Error::Judge(_)) = &end {
            // Nobody's fault in the work: somebody may look at it again at once. After other errors the
            // lease runs out and counts, so that a task that breaks its workers is given up in the end.
            let _ = processor.release(lease.fence(), Duration::from_secs(1)).await;
        }
        end
    }

    /// Stores the run that [`work`](Self::work) will take up, so that its id is known before.
    ///
    /// # Errors
    /// A failure of the store, or [`Error::ToolGone`].
    pub async fn prepare(&self, task: &TaskRecord) -> Result<RunId> {
        let run = self.take_up(task).await?;
        self.save(&run, RunStatus::Active).await?;
        Ok(run.id())
    }

    /// Says what became of the calls that a parked run waits for, so that it can go on.
    ///
    /// # Errors
    /// [`Error::UnexpectedInput`] if the run is not parked or the results are of other calls.
    pub async fn decide(&self, run: RunId, results: Vec<CallResult>) -> Result<()> {
        let missing = || StoreError::NotFound {
            what: "run",
            id: run.to_string(),
        };
        let record = self.store.run(run).await?.ok_or_else(missing)?;
        let mut parked = LoopRun::restore(record.snapshot, self.services.tools().clone())?;
        parked.wake(self.clock.now());
        parked.feed(Input::Called(results), self.clock.now())?;
        self.save(&parked, RunStatus::Paused).await
    }

    /// The unfinished run of the task, or a new one.
    async fn take_up(&self, task: &TaskRecord) -> Result<LoopRun> {
        let now = self.clock.now();
        if let Some(record) = self.store.run_of_task(task.id).await?
            && record.status != RunStatus::Done
        {
            let mut run = LoopRun::restore(record.snapshot, self.services.tools().clone())?;
            run.wake(now);
            return Ok(run);
        }
        let goal = if task.spec.is_empty() {
            &task.title
        } else {
            &task.spec
        };
        let ids = (task.id, RunId::generate(now));
        Ok(LoopRun::new(
            ids,
            goal.clone(),
            self.options.clone(),
            self.services.tools().clone(),
            now,
        ))
    }

    /// Beats until the lease is lost, and passes a request for the end on.
    async fn keep_lease(&self, processor: &Processor, lease: &Lease, cancelled: &CancellationToken) -> Error {
        let period = Duration::from_millis((self.lease_ms / 3).max(1));
        loop {
            tokio::time::sleep(period).await;
            match processor.heartbeat(lease.fence(), self.lease_ms).await {
                Ok(beat) if beat.cancel_requested => cancelled.cancel(),
                Ok(_) => {}
                Err(error) if error.is_refusal() => return lease_error(error),
                Err(error) => tracing::warn!(%error, "a heartbeat failed"),
            }
        }
    }

    pub(crate) async fn save(&self, run: &LoopRun, status: RunStatus) -> Result<()> {
        let record = RunRecord {
            run: run.id(),
            task: run.task(),
            agent: self.id.clone(),
            status,
            snapshot: run.snapshot(),
            updated_at: self.clock.now(),
        };
        Ok(self.store.save_run(&record).await?)
    }
}

/// A lost lease is told apart from other refusals.
pub(crate) fn lease_error(error: aion_processor::Error) -> Error {
    match error {
        aion_processor::Error::LeaseLost { .. } => Error::LeaseLost,
        other => Error::Processor(other),
    }
}
