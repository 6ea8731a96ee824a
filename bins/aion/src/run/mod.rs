//! One task all the way round: copied, claimed, worked on, bet on, judged, scored, trusted.

mod model;
mod report;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aion_loop::{
    Agent, Budget, ChatModel, JudgeWhen, OnAmbiguous, Protocol, RunOptions, SharedObserver, WorkEnd, Worker,
    WorkerOptions,
};
use aion_machine::{Machine, RelPath, WorkspaceSpec};
use aion_processor::{NewTask, TaskQuery};
use aion_types::{AgentId, Clock, HandlerId, Json, Status, TaskId, TaskRecord};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use model::{LoadedModel, ModelChoice};
pub(crate) use model::{in_process, load_engine};
pub use report::{Bets, RunOutcome, RunReport, TrustChange};

use crate::feed::ObservedPrice;
use crate::judge::CheckJudge;
use crate::node::Node;
use crate::small::{SmallModel, VerbRanker};
use crate::workspace::{self, CopyLimits, Manifest};
use crate::{Error, Result};

/// The queue of tasks that `aion run` makes and works on by itself.
pub const QUEUE: &str = "aion.run";
/// The type of agent for models that call tools natively.
pub const AGENT: &str = "worker";
/// The type of agent for small models.
pub const SMALL_AGENT: &str = "small-worker";
/// The longest goal or check, in bytes.
const MAX_TEXT_BYTES: usize = 16 << 10;
/// How long a lease lasts between heartbeats; after a crash a task is free this much later.
const LEASE_MS: u64 = 10_000;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RunRequest {
    /// The goal, in words.
    pub goal: String,
    /// The directory that is copied.
    pub dir: PathBuf,
    /// The command that decides, in the sandbox: exit code 0 is success.
    pub check: String,
    /// Kind of task; base rates are kept by kind.
    pub kind: String,
    /// What may be used.
    pub budget: Budget,
    /// How the model is asked.
    pub style: Style,
    /// Seed of the sampler.
    pub seed: u64,
    /// How much may be copied.
    pub limits: CopyLimits,
}

impl RunRequest {
    /// A task of the kind `run` with 12 steps, 60,000 tokens and 15 minutes.
    pub fn new(goal: impl Into<String>, dir: impl Into<PathBuf>, check: impl Into<String>) -> Self {
        Self {
            goal: goal.into(),
            dir: dir.into(),
            check: check.into(),
            kind: "run".to_owned(),
            budget: Budget {
                tokens: 60_000,
                steps: 12,
                seconds: 900,
            },
            style: Style::Native,
            seed: 1,
            limits: CopyLimits::default(),
        }
    }

    /// Sets the kind.
    #[must_use]
    pub fn with_kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = kind.into();
        self
    }

    /// Sets what may be used.
    #[must_use]
    pub fn with_budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// Sets how the model is asked.
    #[must_use]
    pub fn with_style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }

    /// Sets the seed.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    fn check_input(&self) -> Result<()> {
        let bad = |what, problem: &str| Error::BadInput {
            what,
            problem: problem.to_owned(),
        };
        for (what, text) in [("the goal", &self.goal), ("the check", &self.check)] {
            if text.trim().is_empty() {
                return Err(bad(what, "is empty"));
            }
            if text.len() > MAX_TEXT_BYTES {
                return Err(bad(what, "is longer than 16 KiB"));
            }
            if text.contains('\0') {
                return Err(bad(what, "has a NUL character"));
            }
        }
        if !self.dir.is_dir() {
            let problem = format!("{} is no directory", self.dir.display());
            return Err(Error::BadInput {
                what: "--dir",
                problem,
            });
        }
        Ok(())
    }
}

/// How a model is asked for actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// Native tool calls.
    Native,
    /// One JSON object that the server's grammar enforces, all tools open.
    JsonSchema,
    /// The same with the prompts of [`crate::small`].
    Small,
}

/// What a task carries, so that it can be taken up again by another process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Payload {
    cwd: String,
    dir: PathBuf,
    check: String,
    style: Style,
    steps: u32,
    tokens: u64,
    seconds: u64,
    seed: u64,
}

impl Payload {
    fn of(request: &RunRequest, dir: &Path, task: TaskId) -> Self {
        Self {
            cwd: Node::cwd_of(task),
            dir: dir.to_owned(),
            check: request.check.clone(),
            style: request.style,
            steps: request.budget.steps,
            tokens: request.budget.tokens,
            seconds: request.budget.seconds,
            seed: request.seed,
        }
    }

    fn read(task: &TaskRecord) -> Result<Self> {
        let value = serde_json::to_value(&task.payload);
        let payload = value.and_then(serde_json::from_value);
        payload.map_err(|_| Error::NotOurs(task.id))
    }

    fn budget(&self) -> Budget {
        Budget {
            tokens: self.tokens,
            steps: self.steps,
            seconds: self.seconds,
        }
    }
}

/// Makes a task: copies the directory, writes down what was copied, opens the market.
///
/// # Errors
/// Bad input, a directory that is too large, a store that fails. Nothing is left of a failed try but
/// the copy.
pub async fn create(node: &Node, request: &RunRequest) -> Result<TaskId> {
    request.check_input()?;
    let dir = request.dir.canonicalize();
    let dir = dir.map_err(|e| Error::io("read", &request.dir, e))?;
    let task = TaskId::generate(node.clock().now());
    let base = workspace::copy_tree(&dir, &node.workspace(task), node.data(), request.limits)?;
    write_base(&node.base_of(task), &base)?;
    let payload = Payload::of(request, &dir, task);
    let payload: Json = serde_json::to_value(&payload)
        .and_then(serde_json::from_value)
        .map_err(|source| Error::Unreadable {
            path: node.base_of(task),
            source,
        })?;
    let title: String = request.goal.chars().take(120).collect();
    let new = NewTask::new(task, request.kind.clone(), title)
        .with_queue(QUEUE)
        .with_spec(request.goal.clone())
        .with_payload(payload)
        .with_max_attempts(100);
    node.processor().create(new).await?;
    node.observer().catch_up().await?;
    Ok(task)
}

/// Works on a task until it ends or `pause` is cancelled, and says what happened.
///
/// # Errors
/// [`Error::NotOurs`], [`Error::Held`], or whatever breaks the work off; it can be taken up again.
pub async fn work(
    node: &Node,
    task: TaskId,
    model: &Arc<dyn ChatModel>,
    watcher: Option<SharedObserver>,
    pause: &CancellationToken,
) -> Result<RunReport> {
    let record = node.processor().get(task).await?;
    let payload = Payload::read(&record)?;
    let base = read_base(&node.base_of(task))?;
    let judge = CheckJudge::new(node.machine().clone());
    if !record.status.is_terminal() {
        let model = fitted(node, &record, &payload, &base, model).await?;
        let agent = agent(node, &payload, model, &judge)?;
        let agent = match watcher {
            Some(watcher) => agent.with_observer(watcher),
            None => agent,
        };
        let handler = HandlerId::new(format!("aion-{}", std::process::id()))?;
        let worker = Worker::new(node.processor().clone(), agent, handler, WorkerOptions::default());
        claim_and_work(node, &worker, task, pause).await?;
    }
    node.observer().catch_up().await?;
    report::report(node, task, &base, judge.last()).await
}

/// The newest task of `aion run` or `aion demo` that has not ended.
///
/// # Errors
/// [`Error::NothingToResume`], or a store that fails.
pub async fn newest_open(node: &Node) -> Result<TaskId> {
    let mut newest: Option<TaskRecord> = None;
    // A task that rests after an outage is being prepared until its rest is over.
    let open = vec![Status::Preparing, Status::Ready, Status::Running];
    let mut query = TaskQuery::new()
        .with_statuses(open)
        .with_queue(QUEUE)
        .with_limit(100);
    loop {
        let page = node.processor().tasks(query.clone()).await?;
        for task in page.tasks {
            if newest
                .as_ref()
                .is_none_or(|other| other.created_at < task.created_at)
            {
                newest = Some(task);
            }
        }
        match page.next {
            Some(next) => query = query.with_cursor(Some(next)),
            None => break,
        }
    }
    newest.map(|task| task.id).ok_or(Error::NothingToResume)
}

/// Copies what a finished task changed back to where it came from.
///
/// # Errors
/// [`Error::ChangedMeanwhile`] before anything is written.
pub async fn apply(node: &Node, task: TaskId) -> Result<()> {
    let record = node.processor().get(task).await?;
    let payload = Payload::read(&record)?;
    let base = read_base(&node.base_of(task))?;
    let work = node.workspace(task);
    let now = workspace::scan(&work, CopyLimits::default())?;
    let changes = workspace::changes(&base, &now);
    workspace::apply(&changes, &base, &work, &payload.dir)
}

/// Waits for the lease of a process that vanished, if there was one.
async fn claim_and_work(
    node: &Node,
    worker: &Worker,
    task: TaskId,
    pause: &CancellationToken,
) -> Result<Option<WorkEnd>> {
    let tries = LEASE_MS / 100 + 50;
    for _ in 0..tries {
        node.processor().tick().await?;
        if let Some(end) = worker.work_on(task, pause).await? {
            return Ok(Some(end));
        }
        let status = node.processor().get(task).await?.status;
        if pause.is_cancelled() || status.is_terminal() {
            return Ok(None);
        }
        if status == Status::Preparing {
            node.processor().start(task).await?;
            continue;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(Error::Held(task))
}

/// The model as the task's style asks it.
async fn fitted(
    node: &Node,
    record: &TaskRecord,
    payload: &Payload,
    base: &Manifest,
    model: &Arc<dyn ChatModel>,
) -> Result<Arc<dyn ChatModel>> {
    if payload.style != Style::Small {
        return Ok(Arc::clone(model));
    }
    let original: BTreeSet<String> = base.files.keys().cloned().collect();
    let cwd = RelPath::parse(&payload.cwd).map_err(aion_machine::Error::from)?;
    let work = node.machine().open(&WorkspaceSpec::new(cwd)).await?;
    let goal = record.spec.clone();
    Ok(Arc::new(SmallModel::new(Arc::clone(model), goal, work, original)))
}

fn agent(node: &Node, payload: &Payload, model: Arc<dyn ChatModel>, judge: &CheckJudge) -> Result<Agent> {
    let small = payload.style == Style::Small;
    let id = AgentId::new(if small { SMALL_AGENT } else { AGENT })?;
    let runs = Arc::clone(node.runs());
    let agent = Agent::new(id, model, node.services().clone(), runs, options(payload))
        .with_clock(Arc::clone(node.clock()))
        .with_judge(Arc::new(judge.clone()), JudgeWhen::EachChange)
        .with_price(Arc::new(ObservedPrice::new(node.observer().clone())))
        .with_lease_ms(LEASE_MS);
    Ok(if small {
        agent.with_ranker(Arc::new(VerbRanker))
    } else {
        agent
    })
}

fn options(payload: &Payload) -> RunOptions {
    let options = match payload.style {
        Style::Native => RunOptions::default(),
        Style::JsonSchema => RunOptions::default()
            .with_protocol(Protocol::JsonSchema)
            .with_sampling(0.2, payload.seed),
        Style::Small => RunOptions::for_small_model()
            .with_shortlist(Vec::<String>::new(), 1)
            .with_sampling(0.4, payload.seed)
            .with_tokens(160, 2_048),
    };
    // After a crash nobody is here to say whether a command ran: the model is told that nobody knows.
    options
        .with_budget(payload.budget())
        .with_on_ambiguous(OnAmbiguous::Report)
}

fn write_base(path: &Path, base: &Manifest) -> Result<()> {
    let written = || -> std::io::Result<()> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, serde_json::to_vec(base)?)
    };
    written().map_err(|e| Error::io("write", path, e))
}

fn read_base(path: &Path) -> Result<Manifest> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Unreadable {
        path: path.to_owned(),
        source,
    })
}
