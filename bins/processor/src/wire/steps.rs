//! Steps of a task on the wire.

use aion_processor::StepRecord;
use aion_service::whole;
use aion_types::Json;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::answers::to_value;

/// What a step gave.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordStep {
    /// Fencing token of the claim.
    #[serde(deserialize_with = "whole::one")]
    pub epoch: u64,
    /// What the step is called: the same in every attempt, and no other of the task.
    #[schema(min_length = 1, max_length = 128)]
    pub name: String,
    /// What it gave: any JSON.
    #[serde(default)]
    #[schema(value_type = Value)]
    pub result: Json,
}

/// Which steps to list.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListTaskSteps {
    /// `next` of the page before: the `seq` to go on from.
    #[serde(default)]
    pub after: u64,
    /// How many at most.
    #[serde(default = "default_page")]
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    pub limit: u32,
}

const fn default_page() -> u32 {
    100
}

/// A step that was recorded.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TaskStep {
    /// The task.
    #[schema(format = "uuid")]
    pub task_id: String,
    /// Its place among the steps of the task, from 1.
    pub seq: u64,
    /// Its name.
    pub name: String,
    /// What it gave.
    pub result: Value,
    /// When it was recorded, in milliseconds since 1970.
    pub at: i64,
}

impl From<StepRecord> for TaskStep {
    fn from(step: StepRecord) -> Self {
        Self {
            task_id: step.task_id.to_string(),
            seq: step.seq,
            result: to_value(&step.result),
            name: step.name,
            at: step.at.as_ms(),
        }
    }
}

/// A page of steps.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TaskStepList {
    /// The steps.
    pub steps: Vec<TaskStep>,
    /// `after` of the next page; null if this is the last.
    pub next: Option<u64>,
}
