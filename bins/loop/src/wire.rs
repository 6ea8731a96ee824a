//! What goes over the wire: requests that are checked member by member, and answers.

use std::collections::BTreeSet;

use aion_loop::{
    AgentType, Budget, CallResult, CallStatus, LoopRun, Protocol, RunOptions, RunRecord, StepReport, Toolset,
};
use aion_types::{AgentId, RunId, TaskId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

/// A type of agent: which model it asks, what it may use, how far it may go.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentTypeBody {
    /// Its name: 1 to 128 bytes without spaces. Putting a name again replaces its type.
    #[schema(value_type = String, min_length = 1, max_length = 128)]
    pub id: AgentId,
    /// The model to ask; the server's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Rules for the whole conversation.
    #[serde(default)]
    #[schema(max_length = 16384)]
    pub system: String,
    /// Names of the tools that it may use; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub tools: Option<BTreeSet<String>>,
    /// How the model is told about tools and asks for them.
    #[serde(default)]
    pub protocol: ProtocolName,
    /// The most tokens of a run, read and written together.
    #[serde(default = "default_tokens")]
    #[schema(minimum = 1, default = 200_000)]
    pub tokens: u64,
    /// The most calls of the model in a run.
    #[serde(default = "default_steps")]
    #[schema(minimum = 1, maximum = 10_000, default = 30)]
    pub steps: u32,
    /// The most seconds of work of a run; pauses do not count.
    #[serde(default = "default_seconds")]
    #[schema(minimum = 1, default = 1_800)]
    pub seconds: u64,
    /// Tools that each step names, best first, beyond `core`; every tool is named if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 64)]
    pub shortlist: Option<usize>,
    /// Tools that every step names.
    #[serde(default)]
    pub core: Vec<String>,
}

/// How the model is told about tools and asks for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProtocolName {
    /// Tools in the request, calls in the answer.
    #[default]
    Native,
    /// Tools in the prompt, an answer of a fixed form: for small models.
    JsonSchema,
}

const fn default_tokens() -> u64 {
    200_000
}

const fn default_steps() -> u32 {
    30
}

const fn default_seconds() -> u64 {
    1_800
}

impl From<AgentTypeBody> for AgentType {
    fn from(body: AgentTypeBody) -> Self {
        let base = match body.protocol {
            ProtocolName::Native => RunOptions::default(),
            ProtocolName::JsonSchema => RunOptions::for_small_model(),
        };
        Self {
            id: body.id,
            model: body.model,
            tools: body.tools,
            options: RunOptions {
                system: body.system,
                budget: Budget {
                    tokens: body.tokens,
                    steps: body.steps,
                    seconds: body.seconds,
                },
                shortlist: body.shortlist,
                core: body.core,
                ..base
            },
        }
    }
}

impl From<AgentType> for AgentTypeBody {
    fn from(kind: AgentType) -> Self {
        let options = kind.options;
        Self {
            id: kind.id,
            model: kind.model,
            tools: kind.tools,
            system: options.system,
            protocol: match options.protocol {
                Protocol::Native => ProtocolName::Native,
                Protocol::JsonSchema => ProtocolName::JsonSchema,
            },
            tokens: options.budget.tokens,
            steps: options.budget.steps,
            seconds: options.budget.seconds,
            shortlist: options.shortlist,
            core: options.core,
        }
    }
}

/// Types of agent.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgentTypeList {
    /// In the order of their names.
    pub agent_types: Vec<AgentTypeBody>,
}

/// A page of types of agent.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListAgentTypes {
    /// Only names after this one.
    #[param(value_type = Option<String>)]
    pub after: Option<AgentId>,
    /// How many at most.
    #[serde(default = "default_limit")]
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: u32,
}

const fn default_limit() -> u32 {
    50
}

/// Which task to work on, and with which type of agent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartRun {
    /// The task; it must be ready.
    #[schema(value_type = String, format = "uuid")]
    pub task_id: TaskId,
    /// The type of agent.
    #[schema(value_type = String)]
    pub agent: AgentId,
}

/// A page of runs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListRuns {
    /// Only runs older than this one.
    #[param(value_type = Option<String>)]
    pub before: Option<RunId>,
    /// How many at most.
    #[serde(default = "default_limit")]
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: u32,
}

/// A run.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunView {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub run_id: RunId,
    /// The task that it works on.
    #[schema(value_type = String, format = "uuid")]
    pub task_id: TaskId,
    /// The type of agent.
    #[schema(value_type = String)]
    pub agent: AgentId,
    /// `active`, `paused`, `parked` or `done`.
    pub status: String,
    /// Whether it goes on in this process now.
    pub going: bool,
    /// What it works toward.
    pub goal: String,
    /// How it ended, or what it waits for, in one line.
    pub outcome: Option<String>,
    /// Tokens used.
    pub tokens_used: u64,
    /// Tokens that may be used.
    pub token_budget: u64,
    /// Calls of the model.
    pub steps: u32,
    /// Milliseconds of work.
    pub worked_ms: u64,
    /// When it changed last, in milliseconds since 1970.
    pub updated_at: i64,
}

impl RunView {
    /// A stored run as it goes over the wire.
    pub(crate) fn of(record: RunRecord, tools: &Toolset, going: Going) -> Self {
        let mut view = Self {
            run_id: record.run,
            task_id: record.task,
            agent: record.agent,
            status: record.status.as_str().to_owned(),
            going: going == Going::Here,
            goal: String::new(),
            outcome: None,
            tokens_used: 0,
            token_budget: 0,
            steps: 0,
            worked_ms: 0,
            updated_at: record.updated_at.as_ms(),
        };
        // A run that waits for a tool that is gone cannot go on; it can still be listed.
        if let Ok(run) = LoopRun::restore(record.snapshot, tools.clone()) {
            view.goal = run.goal().to_owned();
            view.outcome = run.outcome().map(|outcome| outcome.describe());
            view.tokens_used = run.ledger().tokens_used();
            view.token_budget = run.ledger().budget().tokens;
            view.steps = run.ledger().steps_used();
            view.worked_ms = run.ledger().worked_ms();
        }
        view
    }
}

/// Whether a run goes on in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Going {
    /// It does.
    Here,
    /// It does not.
    NotHere,
}

/// Runs.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunList {
    /// Newest first.
    pub runs: Vec<RunView>,
}

/// What became of the calls that a parked run waits for: every call of its last step, in order.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideRun {
    /// One entry a call.
    #[schema(max_items = 64)]
    pub results: Vec<CallDecision>,
}

/// What became of one call.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CallDecision {
    /// Which call of the run, from 0.
    pub ordinal: u64,
    /// Whether it had its effect.
    pub had_effect: HadEffect,
    /// What the model is told.
    #[schema(max_length = 8192)]
    pub answer: String,
}

/// Whether a call had its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HadEffect {
    /// It did.
    Yes,
    /// It did not; the model may try again.
    No,
}

impl From<CallDecision> for CallResult {
    fn from(decision: CallDecision) -> Self {
        Self {
            ordinal: decision.ordinal,
            status: match decision.had_effect {
                HadEffect::Yes => CallStatus::Succeeded,
                HadEffect::No => CallStatus::Failed,
            },
            answer: decision.answer,
        }
    }
}

/// A page of steps.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListSteps {
    /// Only steps after this number.
    #[serde(default)]
    pub after: u32,
    /// How many at most.
    #[serde(default = "default_limit")]
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: u32,
}

/// Steps of a run.
#[derive(Debug, Serialize, ToSchema)]
pub struct StepList {
    /// In order.
    pub steps: Vec<StepView>,
}

/// A step of a run: what the model said and did, and what it changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct StepView {
    /// Counts the calls of the model from 1.
    pub step: u32,
    /// What the model said.
    pub text: String,
    /// The calls that it made.
    pub calls: Vec<CallView>,
    /// What was wrong with an answer that was not used.
    pub refused: Option<String>,
    /// What changed in the services: an RFC 6902 patch.
    #[schema(value_type = Vec<Object>)]
    pub diff: Value,
    /// Tokens read, as the model's server said.
    pub prompt_tokens: Option<u64>,
    /// Tokens written, as the model's server said.
    pub completion_tokens: Option<u64>,
    /// Persistence of the message's tokens.
    #[schema(value_type = Option<Object>)]
    pub persistence: Option<Value>,
    /// The market's price of success after the step, in [0, 1].
    pub price: Option<f64>,
    /// Milliseconds of the whole step.
    pub step_ms: u64,
}

/// A call of a step.
#[derive(Debug, Serialize, ToSchema)]
pub struct CallView {
    /// The tool.
    pub tool: String,
    /// Its arguments.
    #[schema(value_type = Object)]
    pub arguments: Map<String, Value>,
    /// `succeeded`, `failed` or `ambiguous`.
    pub status: String,
    /// What the service said.
    pub answer: String,
}

impl From<StepReport> for StepView {
    fn from(step: StepReport) -> Self {
        let calls = step.calls.into_iter().map(|call| CallView {
            tool: call.tool,
            arguments: call.arguments,
            status: match call.status {
                CallStatus::Succeeded => "succeeded",
                CallStatus::Failed => "failed",
                CallStatus::Ambiguous => "ambiguous",
            }
            .to_owned(),
            answer: call.answer,
        });
        Self {
            step: step.step,
            text: step.text,
            calls: calls.collect(),
            refused: step.refused,
            diff: serde_json::to_value(&step.diff).unwrap_or_default(),
            prompt_tokens: step.usage.prompt_tokens,
            completion_tokens: step.usage.completion_tokens,
            persistence: step
                .persistence
                .and_then(|summary| serde_json::to_value(summary).ok()),
            price: step.price.map(aion_types::Prob::get),
            step_ms: step.step_ms,
        }
    }
}
