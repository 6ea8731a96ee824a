//! [`MemoryLoopStore`]: everything in this process, gone with it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aion_types::{AgentId, RunId, TaskId};
use async_trait::async_trait;

use super::{Intent, IntentOutcome, LoopStore, RunRecord, StoreError};
use crate::agent::AgentType;
use crate::report::StepReport;

/// A store in memory: for tests, and for runs that nobody takes up again.
#[derive(Debug, Default)]
pub struct MemoryLoopStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    runs: BTreeMap<RunId, RunRecord>,
    intents: BTreeMap<String, Intent>,
    steps: BTreeMap<(RunId, u32), StepReport>,
    agents: BTreeMap<AgentId, AgentType>,
}

impl MemoryLoopStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl LoopStore for MemoryLoopStore {
    async fn save_run(&self, record: &RunRecord) -> Result<(), StoreError> {
        self.lock().runs.insert(record.run, record.clone());
        Ok(())
    }

    async fn run(&self, run: RunId) -> Result<Option<RunRecord>, StoreError> {
        Ok(self.lock().runs.get(&run).cloned())
    }

    async fn run_of_task(&self, task: TaskId) -> Result<Option<RunRecord>, StoreError> {
        let inner = self.lock();
        Ok(inner
            .runs
            .values()
            .rev()
            .find(|record| record.task == task)
            .cloned())
    }

    async fn runs(&self, before: Option<RunId>, limit: u32) -> Result<Vec<RunRecord>, StoreError> {
        let inner = self.lock();
        let older = inner
            .runs
            .values()
            .rev()
            .filter(|record| before.is_none_or(|before| record.run < before));
        Ok(older.take(limit as usize).cloned().collect())
    }

    async fn intend(&self, intent: &Intent) -> Result<Option<Intent>, StoreError> {
        let mut inner = self.lock();
        if let Some(known) = inner.intents.get(&intent.key) {
            return known.same_call(intent).map(Some);
        }
        inner.intents.insert(intent.key.clone(), intent.clone());
        Ok(None)
    }

    async fn settle(&self, key: &str, outcome: &IntentOutcome) -> Result<(), StoreError> {
        let mut inner = self.lock();
        let intent = inner.intents.get_mut(key).ok_or_else(|| StoreError::NotFound {
            what: "intent",
            id: key.to_owned(),
        })?;
        intent.outcome = Some(outcome.clone());
        Ok(())
    }

    async fn intents(&self, run: RunId) -> Result<Vec<Intent>, StoreError> {
        let inner = self.lock();
        let mut intents: Vec<Intent> = inner
            .intents
            .values()
            .filter(|intent| intent.run == run)
            .cloned()
            .collect();
        intents.sort_by_key(|intent| intent.ordinal);
        Ok(intents)
    }

    async fn save_step(&self, step: &StepReport) -> Result<(), StoreError> {
        self.lock().steps.insert((step.run, step.step), step.clone());
        Ok(())
    }

    async fn steps(&self, run: RunId, after: u32, limit: u32) -> Result<Vec<StepReport>, StoreError> {
        let inner = self.lock();
        let from = (run, after.saturating_add(1));
        let steps = inner
            .steps
            .range(from..=(run, u32::MAX))
            .map(|(_, step)| step.clone());
        Ok(steps.take(limit as usize).collect())
    }

    async fn save_agent_type(&self, agent: &AgentType) -> Result<(), StoreError> {
        self.lock().agents.insert(agent.id.clone(), agent.clone());
        Ok(())
    }

    async fn agent_type(&self, id: &AgentId) -> Result<Option<AgentType>, StoreError> {
        Ok(self.lock().agents.get(id).cloned())
    }

    async fn agent_types(&self, after: Option<&AgentId>, limit: u32) -> Result<Vec<AgentType>, StoreError> {
        let inner = self.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let types = inner.agents.range::<AgentId, _>((from, Bound::Unbounded));
        Ok(types
            .take(limit as usize)
            .map(|(_, agent)| agent.clone())
            .collect())
    }
}
