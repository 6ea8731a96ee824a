//! What came of a task: everything that the stores say, as one document.

use aion_loop::store::LoopStore;
use aion_loop::{Budget, StepReport};
use aion_market::event::Event;
use aion_market::{Report as MarketReport, SUCCESS, market_of_task};
use aion_types::{Bits, ForecasterId, MilliTrust, Prob, RunId, Status, TaskId, TaskPersistence, TaskRecord};
use serde::{Deserialize, Serialize};

use super::{AGENT, Payload, SMALL_AGENT, Style};
use crate::Result;
use crate::judge::CheckReport;
use crate::node::Node;
use crate::workspace::{self, Change, CopyLimits, Manifest};

/// How a task stands for the one who asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RunOutcome {
    /// The check passed.
    Success,
    /// The check did not pass within the budget.
    Failed,
    /// It ended by request.
    Cancelled,
    /// It can be gone on with.
    Paused,
}

impl From<Status> for RunOutcome {
    fn from(status: Status) -> Self {
        match status {
            Status::Completed => Self::Success,
            Status::Failed => Self::Failed,
            Status::Cancelled => Self::Cancelled,
            Status::Preparing | Status::Ready | Status::Running | Status::Blocked => Self::Paused,
        }
    }
}

/// What one forecaster said and gained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bets {
    /// Who.
    pub forecaster: ForecasterId,
    /// Its last word on the probability of success.
    pub p_last: Prob,
    /// How often it spoke.
    pub forecasts: u64,
    /// What it gained on the prices that it found; negative if it lost.
    pub gain_bits: Bits,
}

/// Trust of one participant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustChange {
    /// Who.
    pub who: ForecasterId,
    /// Before the task was settled.
    pub before: MilliTrust,
    /// After.
    pub after: MilliTrust,
}

/// The whole story of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The task.
    pub task: TaskId,
    /// The run, once there was one.
    pub run: Option<RunId>,
    /// Its kind.
    pub kind: String,
    /// What was asked.
    pub goal: String,
    /// Where the copy is.
    pub workspace: std::path::PathBuf,
    /// How it ended.
    pub outcome: RunOutcome,
    /// Why, in words.
    pub reason: String,
    /// How the check ended last.
    pub check: Option<CheckReport>,
    /// Step by step.
    pub steps: Vec<StepReport>,
    /// The task's persistence with its factors, once it has ended.
    pub persistence: Option<TaskPersistence>,
    /// The price of success before the work began.
    pub p_before: Option<Prob>,
    /// The last price before the outcome was known.
    pub p_after: Option<Prob>,
    /// What the market gained on its first price.
    pub kl_bits: Option<Bits>,
    /// What each forecaster gained.
    pub bets: Vec<Bets>,
    /// Trust before and after.
    pub trust: Vec<TrustChange>,
    /// Files that are not as they were.
    pub files: Vec<Change>,
    /// Whether the changes were carried back.
    #[serde(default)]
    pub applied: bool,
    /// Tokens used.
    pub tokens: u64,
    /// Calls of the model.
    pub model_calls: u32,
    /// What might be used.
    pub budget: Budget,
    /// Milliseconds of work.
    pub work_ms: u64,
}

/// Puts the story together from the stores, and settles trust if that has not been done.
pub(super) async fn report(
    node: &Node,
    task: TaskId,
    base: &Manifest,
    check: Option<CheckReport>,
) -> Result<RunReport> {
    let record = node.processor().get(task).await?;
    let payload = Payload::read(&record)?;
    let now = workspace::scan(&node.workspace(task), CopyLimits::default())?;
    let mut report = RunReport {
        task,
        run: None,
        kind: record.kind.clone(),
        goal: record.spec.clone(),
        workspace: node.workspace(task),
        outcome: record.status.into(),
        reason: reason(&record),
        check,
        steps: Vec::new(),
        persistence: None,
        p_before: None,
        p_after: None,
        kl_bits: None,
        bets: Vec::new(),
        trust: Vec::new(),
        files: workspace::changes(base, &now),
        applied: false,
        tokens: 0,
        model_calls: 0,
        budget: payload.budget(),
        work_ms: 0,
    };
    add_run(node, &record, &mut report).await?;
    add_market(node, task, &payload, &mut report).await?;
    Ok(report)
}

fn reason(record: &TaskRecord) -> String {
    match (record.status, &record.error) {
        (Status::Completed, _) => "the check passes".to_owned(),
        (_, Some(error)) => error.clone(),
        (Status::Cancelled, None) => "cancelled by request".to_owned(),
        _ => format!("`aion resume {}` goes on with it", record.id),
    }
}

async fn add_run(node: &Node, record: &TaskRecord, report: &mut RunReport) -> Result<()> {
    let Some(run) = node.runs().run_of_task(record.id).await? else {
        return Ok(());
    };
    report.run = Some(run.run);
    report.steps = node.runs().steps(run.run, 0, 1_000).await?;
    let restored = aion_loop::LoopRun::restore(run.snapshot, node.services().tools().clone())?;
    let ledger = restored.ledger();
    report.tokens = ledger.tokens_used();
    report.model_calls = ledger.steps_used();
    report.work_ms = ledger.worked_ms();
    if record.status.is_terminal() {
        let mut evidence = node.processor().evidence(record.id).await?;
        (evidence.steps, evidence.accepted_steps) = restored.steps();
        evidence.tokens_used = report.tokens;
        evidence.token_budget = report.budget.tokens;
        report.persistence = Some(evidence.persistence()?);
    }
    Ok(())
}

async fn add_market(node: &Node, task: TaskId, payload: &Payload, report: &mut RunReport) -> Result<()> {
    let Some(view) = node.market().of_task(task).await? else {
        return Ok(());
    };
    report.p_before = p_before(node, task).await?;
    report.p_after = view.price.get(SUCCESS).map(aion_types::Ppm::to_prob);
    if view.resolution.is_none() {
        return Ok(());
    }
    let scored = node.market().report(view.id).await?;
    report.kl_bits = Some(Bits::from(scored.kl_bits));
    report.bets = bets(&scored);
    let agent = match payload.style {
        Style::Small => SMALL_AGENT,
        Style::Native | Style::JsonSchema => AGENT,
    };
    let vote = first_ratio(&report.steps);
    report.trust = node.trust().settle(&scored, Some((agent, vote))).await?;
    Ok(())
}

/// What the agent's vote rests on: the persistence of its first message, said before any check was
/// run. R_T at the end would carry the outcome that it is scored by. 1 where nothing was reported.
fn first_ratio(steps: &[StepReport]) -> f64 {
    let first = steps.first().and_then(|step| step.persistence.as_ref());
    first.map_or(1.0, |summary| summary.r_harm)
}

/// The price when the work began: all that was known beforehand.
async fn p_before(node: &Node, task: TaskId) -> Result<Option<Prob>> {
    let events = node.market().events(market_of_task(task)).await?;
    let mut price = node.market().of_task(task).await?.map(|view| view.first);
    for stored in events {
        match stored.event {
            Event::ExecutorNamed { .. } => break,
            Event::ForecastReported { after, .. }
            | Event::Traded { after, .. }
            | Event::HouseMoved { after, .. } => price = Some(after),
            _ => {}
        }
    }
    Ok(price
        .and_then(|price| price.get(SUCCESS))
        .map(aion_types::Ppm::to_prob))
}

fn bets(scored: &MarketReport) -> Vec<Bets> {
    let of = |row: &aion_market::ForecasterReport| {
        Some(Bets {
            forecaster: row.forecaster.clone(),
            p_last: row.last.get(SUCCESS)?.to_prob(),
            forecasts: row.forecasts,
            gain_bits: Bits::from(row.gain),
        })
    };
    scored.forecasters.iter().filter_map(of).collect()
}
