//! What a run asks of its driver, and what the driver gives back.

use aion_types::{RunId, TaskId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::budget::BudgetPart;
use crate::canonical::{canonical_json, digest};
use crate::diff::StateDiff;
use crate::model::{ChatReply, ChatRequest};

/// What the driver does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Read the state of all services; feed [`Input::Observed`].
    CallState,
    /// Ask the model, for which tokens are reserved; feed [`Input::Replied`] or [`Input::ModelFailed`].
    CallModel(Box<ChatRequest>),
    /// Dispatch these calls, in order; feed [`Input::Called`].
    CallTools(Vec<PlannedCall>),
    /// Write down what the step changed; feed [`Input::Appended`].
    AppendDiff(StateDiff),
    /// Nothing more: the run ended, or waits for somebody.
    Done(Outcome),
}

/// What the driver gives back.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The merged state, and the tools worth naming now, best first.
    Observed {
        /// The state of all services by name.
        state: Value,
        /// Names of tools.
        shortlist: Vec<String>,
    },
    /// The model answered.
    Replied(Box<ChatReply>),
    /// The model gave no answer, retries included.
    ModelFailed {
        /// Why, for the log.
        reason: String,
    },
    /// What became of the calls, in their order.
    Called(Vec<CallResult>),
    /// The difference is written down.
    Appended,
    /// A judge does not accept the finish that the model claimed; the run goes on.
    Rejected {
        /// Why, for the model.
        feedback: String,
    },
    /// The goal is reached, by the word of a judge, whether or not the model knows.
    Accepted {
        /// How the judge knows.
        reason: String,
    },
    /// Somebody asked for the end.
    Stopped,
}

impl Input {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Observed { .. } => "a state",
            Self::Replied(_) => "a reply",
            Self::ModelFailed { .. } => "a failure of the model",
            Self::Called(_) => "results of calls",
            Self::Appended => "a written difference",
            Self::Rejected { .. } => "a rejection",
            Self::Accepted { .. } => "an acceptance",
            Self::Stopped => "a stop",
        }
    }
}

/// A call that was checked and may be dispatched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedCall {
    /// Counts the calls of the run from 0.
    pub ordinal: u64,
    /// Ties the answer to the model's call.
    pub id: String,
    /// The tool.
    pub tool: String,
    /// The arguments, valid under the tool's schema.
    pub arguments: Map<String, Value>,
    /// The idempotency key: the same call of the same run has the same key for ever.
    pub key: String,
}

impl PlannedCall {
    /// A call with its key: blake3 over task, run, ordinal, tool and canonical arguments.
    pub fn new(
        (task, run): (TaskId, RunId),
        ordinal: u64,
        id: String,
        tool: String,
        arguments: Map<String, Value>,
    ) -> Self {
        let canonical = canonical_json(&Value::Object(arguments.clone()));
        let key = digest(&[
            task.as_bytes(),
            run.as_bytes(),
            &ordinal.to_le_bytes(),
            tool.as_bytes(),
            canonical.as_bytes(),
        ]);
        Self {
            ordinal,
            id,
            tool,
            arguments,
            key,
        }
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallStatus {
    /// The service did it.
    Succeeded,
    /// The service refused, or was never reached: no effect.
    Failed,
    /// Nobody knows whether it had its effect, and it must not be sent again.
    Ambiguous,
}

/// What became of one call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallResult {
    /// Which call.
    pub ordinal: u64,
    /// How it ended.
    pub status: CallStatus,
    /// What the service said.
    pub answer: String,
}

/// What a model says of its own work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Claim {
    /// The goal is reached.
    Success,
    /// The goal cannot be reached.
    Failed,
}

/// How a run ended, or what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// The model called `finish`, or said its last word.
    Finished {
        /// What it claims.
        claim: Claim,
        /// In its words.
        summary: String,
    },
    /// A judge saw that the goal is reached.
    Accepted {
        /// How it knows.
        reason: String,
    },
    /// The budget does not allow another call.
    Exhausted {
        /// Which part of it.
        part: BudgetPart,
    },
    /// The same calls again and again changed nothing.
    Stalled {
        /// How often in a row.
        times: u32,
    },
    /// The model gave no usable answer, however often it was asked.
    Unusable {
        /// What was wrong last.
        reason: String,
    },
    /// The model could not be reached.
    ModelFailed {
        /// Why.
        reason: String,
    },
    /// Calls of unknown outcome wait for somebody: feed [`Input::Called`] with what is known.
    Parked {
        /// Their ordinals.
        calls: Vec<u64>,
    },
    /// Somebody asked for the end.
    Stopped,
}

impl Outcome {
    /// Whether the model or a judge says that the goal is reached.
    pub fn claims_success(&self) -> bool {
        matches!(
            self,
            Self::Accepted { .. }
                | Self::Finished {
                    claim: Claim::Success,
                    ..
                }
        )
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Finished {
                claim: Claim::Success,
                summary,
            } => format!("the agent says it is done: {summary}"),
            Self::Finished {
                claim: Claim::Failed,
                summary,
            } => format!("the agent gave up: {summary}"),
            Self::Accepted { reason } => reason.clone(),
            Self::Exhausted { part } => format!("the budget of {part} is used up"),
            Self::Stalled { times } => format!("stalled: the same call {times} times without any change"),
            Self::Unusable { reason } => format!("no usable answer: {reason}"),
            Self::ModelFailed { reason } => format!("the model failed: {reason}"),
            Self::Parked { calls } => format!("{} calls of unknown outcome wait for a decision", calls.len()),
            Self::Stopped => "stopped by request".to_owned(),
        }
    }
}
