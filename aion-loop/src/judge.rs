//! Who decides whether a task is done: a check that can fail, rather than the agent itself.

use std::fmt::Debug;

use aion_types::{Json, TaskRecord};
use async_trait::async_trait;

use crate::Result;
use crate::run::{Claim, Outcome};

/// The decision about a task.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The goal is reached.
    Success {
        /// What the task gives.
        result: Json,
    },
    /// The goal is not reached.
    Failure {
        /// Why.
        reason: String,
    },
}

/// When a judge is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JudgeWhen {
    /// When the run has ended.
    #[default]
    AtEnd,
    /// Also after each step that changed something: a success ends the run at once.
    EachChange,
}

/// Decides whether a task is done.
#[async_trait]
pub trait Judge: Debug + Send + Sync + 'static {
    /// Judges the present state of the world; `outcome` is how the run ended, none while it goes on.
    ///
    /// # Errors
    /// [`crate::Error::Judge`] when it cannot be decided; the task stays resumable.
    async fn judge(&self, task: &TaskRecord, outcome: Option<&Outcome>) -> Result<Verdict>;
}

/// Takes the agent at its word. The default; a market on such tasks bets on talk, so prefer a check.
#[derive(Debug, Clone, Copy, Default)]
pub struct TakeAtWord;

#[async_trait]
impl Judge for TakeAtWord {
    async fn judge(&self, _task: &TaskRecord, outcome: Option<&Outcome>) -> Result<Verdict> {
        Ok(match outcome {
            Some(Outcome::Finished {
                claim: Claim::Success,
                summary,
            }) => Verdict::Success {
                result: Json::from(summary.clone()),
            },
            Some(Outcome::Accepted { reason }) => Verdict::Success {
                result: Json::from(reason.clone()),
            },
            Some(other) => Verdict::Failure {
                reason: other.describe(),
            },
            None => Verdict::Failure {
                reason: "the run has not ended".to_owned(),
            },
        })
    }
}
