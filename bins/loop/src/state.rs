//! `GET /state`: how many runs go on, and which.

use aion_loop::RunStatus;
use aion_service::{Problem, StateQuery, StateSource};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::Runner;
use crate::problem::of_store;

/// Runs that are shown at most.
const SHOWN: u32 = 5;

/// The state of the loop.
#[derive(Debug)]
pub(crate) struct LoopState {
    runner: Runner,
}

impl LoopState {
    pub(crate) const fn new(runner: Runner) -> Self {
        Self { runner }
    }
}

#[async_trait]
impl StateSource for LoopState {
    async fn state(&self, _query: &StateQuery) -> Result<Value, Problem> {
        let newest = self.runner.store().runs(None, SHOWN).await.map_err(of_store)?;
        let open: Vec<Value> = newest
            .iter()
            .filter(|record| record.status != RunStatus::Done)
            .map(|record| json!({"run": record.run, "task": record.task, "status": record.status.as_str()}))
            .collect();
        Ok(json!({"loop": {"going": self.runner.going_count(), "open": open}}))
    }

    async fn ready(&self) -> Result<(), String> {
        let read = self.runner.store().runs(None, 1).await;
        read.map(drop).map_err(|error| error.to_string())
    }
}
