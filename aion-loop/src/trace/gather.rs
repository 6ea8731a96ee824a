//! Reads resolved tasks out of the task store, the loop's store and the market.

use aion_processor::{MessageQuery, Processor, TaskQuery};
use aion_types::{MarketTrace, Status, TaskId, TaskRecord};
use async_trait::async_trait;

use super::ResolvedTask;
use crate::Result;
use crate::agent::fill_evidence;
use crate::run::LoopRun;
use crate::store::LoopStore;
use crate::tool::Toolset;

/// Where the market's part of a trace comes from.
#[async_trait]
pub trait MarketTraces: Send + Sync {
    /// What the market said of a resolved task; none without a market.
    async fn market_trace(&self, task: TaskId) -> Option<MarketTrace>;
}

/// All completed and failed tasks, in the order of their creation.
///
/// # Errors
/// A failure of a store.
pub async fn gather(
    processor: &Processor,
    store: &dyn LoopStore,
    market: Option<&dyn MarketTraces>,
) -> Result<Vec<ResolvedTask>> {
    let mut query = TaskQuery::new()
        .with_statuses(vec![Status::Completed, Status::Failed])
        .with_limit(200);
    let mut resolved = Vec::new();
    loop {
        let page = processor.tasks(query.clone()).await?;
        for task in page.tasks {
            resolved.push(one(processor, store, market, task).await?);
        }
        match page.next {
            Some(next) => query = query.with_cursor(Some(next)),
            None => return Ok(resolved),
        }
    }
}

async fn one(
    processor: &Processor,
    store: &dyn LoopStore,
    market: Option<&dyn MarketTraces>,
    task: TaskRecord,
) -> Result<ResolvedTask> {
    let mut messages = Vec::new();
    let mut query = MessageQuery::new();
    loop {
        let page = processor.messages(task.id, query).await?;
        messages.extend(page.messages);
        match page.next {
            Some(next) => query.from = next,
            None => break,
        }
    }
    let mut evidence = processor.evidence(task.id).await?;
    if let Some(record) = store.run_of_task(task.id).await? {
        // No tools are needed to count; a run that waits for a call says nothing of a resolved task.
        if let Ok(run) = LoopRun::restore(record.snapshot, Toolset::default()) {
            fill_evidence(&mut evidence, &run);
        }
    }
    let market = match market {
        Some(market) => market.market_trace(task.id).await,
        None => None,
    };
    Ok(ResolvedTask {
        task_ratio: evidence.persistence()?.ratio,
        task,
        messages,
        market,
    })
}
