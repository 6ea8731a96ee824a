//! [`Runner`]: the runs that go on in this process.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aion_loop::{Agent, AgentType, CallResult, LoopStore, RunRecord, RunStatus, Services};
use aion_processor::{ClaimReq, Lease, Processor};
use aion_service::Problem;
use aion_types::{AgentId, HandlerId, RunId, Status, TaskId};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::Models;
use crate::problem::{of_loop, of_processor, of_store};

/// The most runs that go on at the same time.
pub const MAX_RUNS: usize = 32;

/// How long a stopping server waits for its runs to rest.
const REST: Duration = Duration::from_secs(20);

/// Starts, pauses and resumes runs; cheap to clone.
#[derive(Clone)]
pub struct Runner {
    inner: Arc<Inner>,
}

struct Inner {
    processor: Processor,
    store: Arc<dyn LoopStore>,
    services: Services,
    models: Models,
    going: Mutex<BTreeMap<RunId, Going>>,
}

/// A run that goes on.
struct Going {
    pause: CancellationToken,
    work: JoinHandle<()>,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("models", &self.inner.models)
            .finish_non_exhaustive()
    }
}

impl Runner {
    /// A runner of nothing yet.
    pub fn new(processor: Processor, store: Arc<dyn LoopStore>, services: Services, models: Models) -> Self {
        let going = Mutex::new(BTreeMap::new());
        Self {
            inner: Arc::new(Inner {
                processor,
                store,
                services,
                models,
                going,
            }),
        }
    }

    /// The store of runs.
    pub fn store(&self) -> &Arc<dyn LoopStore> {
        &self.inner.store
    }

    /// The tools that agents may name.
    pub fn services(&self) -> &Services {
        &self.inner.services
    }

    /// Whether the run goes on in this process now.
    pub fn is_going(&self, run: RunId) -> bool {
        self.going()
            .get(&run)
            .is_some_and(|going| !going.work.is_finished())
    }

    /// How many runs go on in this process now.
    pub fn going_count(&self) -> usize {
        self.going()
            .values()
            .filter(|going| !going.work.is_finished())
            .count()
    }

    /// Asks every run to rest, and waits for it a while.
    pub async fn stop(&self) {
        let going = std::mem::take(&mut *self.going());
        for run in going.values() {
            run.pause.cancel();
        }
        let resting = async {
            for run in going.into_values() {
                // A run that broke off has logged why.
                let _ = run.work.await;
            }
        };
        if tokio::time::timeout(REST, resting).await.is_err() {
            tracing::warn!("some runs did not rest in time; their leases will run out");
        }
    }

    /// Claims the task for an agent of this type, and starts a run on it or takes its run up again.
    pub(crate) async fn start(&self, task: TaskId, agent: &AgentId) -> Result<RunRecord, Problem> {
        let kind = self.inner.store.agent_type(agent).await.map_err(of_store)?;
        let kind = kind.ok_or_else(|| {
            Problem::unprocessable("unknown_agent_type", format!("there is no type of agent {agent}"))
                .at("/agent")
        })?;
        if self.going_count() >= MAX_RUNS {
            return Err(Problem::too_many(
                "too_many_runs",
                format!("{MAX_RUNS} runs go on already"),
                10,
            ));
        }
        let worker = self.agent(&kind)?;
        let lease = self.claim(task, agent).await?;
        let run = match worker.prepare(&lease.task).await {
            Ok(run) => run,
            Err(error) => {
                // The task goes back at once; if even that fails, its lease runs out.
                let _ = self.inner.processor.release(lease.fence(), Duration::ZERO).await;
                return Err(of_loop(error));
            }
        };
        self.go(worker, lease, run);
        self.record(run).await
    }

    async fn claim(&self, task: TaskId, agent: &AgentId) -> Result<Lease, Problem> {
        let handler = HandlerId::new(format!("loop:{agent}")).map_err(Problem::internal)?;
        let claim = ClaimReq::new(handler).with_task(task).with_lease_ms(30_000);
        let found = self.inner.processor.find(task).await.map_err(of_processor)?;
        let record = found.ok_or_else(|| {
            Problem::unprocessable("unknown_task", format!("there is no task {task}")).at("/task_id")
        })?;
        let leases = self.inner.processor.claim(claim).await.map_err(of_processor)?;
        leases.into_iter().next().ok_or_else(|| {
            Problem::conflict(
                "task_not_ready",
                format!("the task is {} and cannot be claimed now", record.status),
            )
        })
    }

    fn agent(&self, kind: &AgentType) -> Result<Agent, Problem> {
        let model = self.inner.models.get(kind.model.as_deref()).ok_or_else(|| {
            Problem::unprocessable("no_model", "the server has no model of that name; configure one")
        })?;
        let tools = kind.toolset(self.inner.services.tools()).map_err(of_loop)?;
        let services = self.inner.services.clone().with_tools(tools);
        let store = Arc::clone(&self.inner.store);
        Ok(Agent::new(
            kind.id.clone(),
            model,
            services,
            store,
            kind.options.clone(),
        ))
    }

    fn go(&self, agent: Agent, lease: Lease, run: RunId) {
        let pause = CancellationToken::new();
        let (token, processor) = (pause.clone(), self.inner.processor.clone());
        let work = tokio::spawn(async move {
            match agent.work(&processor, &lease, &token).await {
                Ok(end) => {
                    tracing::info!(%run, status = %end.status, reason = end.reason, "a run came to rest");
                }
                Err(error) => {
                    tracing::error!(%run, error = &error as &dyn std::error::Error, "a run broke off");
                }
            }
        });
        let mut going = self.going();
        going.retain(|_, going| !going.work.is_finished());
        going.insert(run, Going { pause, work });
    }

    /// Asks the run to rest; a run that rests already is left alone.
    pub(crate) async fn pause(&self, run: RunId) -> Result<RunRecord, Problem> {
        let record = self.record(run).await?;
        if let Some(going) = self.going().get(&run) {
            going.pause.cancel();
        }
        Ok(record)
    }

    /// Takes a resting run up again.
    pub(crate) async fn resume(&self, run: RunId) -> Result<RunRecord, Problem> {
        let record = self.record(run).await?;
        if record.status == RunStatus::Done {
            return Err(Problem::conflict("run_ended", "the run has ended"));
        }
        if self.is_going(run) {
            return Ok(record);
        }
        self.wake(record.task).await?;
        self.start(record.task, &record.agent).await
    }

    /// Ends the rest of a task whose model gave no answer, or whose calls waited for a decision.
    async fn wake(&self, task: TaskId) -> Result<(), Problem> {
        let processor = &self.inner.processor;
        let found = processor.find(task).await.map_err(of_processor)?;
        if found.is_some_and(|record| record.status == Status::Preparing) {
            processor.start(task).await.map_err(of_processor)?;
        }
        Ok(())
    }

    /// Says what became of calls of unknown outcome.
    pub(crate) async fn decide(&self, run: RunId, results: Vec<CallResult>) -> Result<RunRecord, Problem> {
        let record = self.record(run).await?;
        let kind = self
            .inner
            .store
            .agent_type(&record.agent)
            .await
            .map_err(of_store)?;
        let kind =
            kind.ok_or_else(|| Problem::conflict("unknown_agent_type", "the run's type of agent is gone"))?;
        self.agent(&kind)?.decide(run, results).await.map_err(of_loop)?;
        self.record(run).await
    }

    pub(crate) async fn record(&self, run: RunId) -> Result<RunRecord, Problem> {
        let found = self.inner.store.run(run).await.map_err(of_store)?;
        found.ok_or_else(|| Problem::not_found("unknown_run", format!("there is no run {run}")))
    }

    fn going(&self) -> MutexGuard<'_, BTreeMap<RunId, Going>> {
        self.inner.going.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
