//! Whoever works on a task neither sees its price nor moves it, nor says how it ended.

use aion_market::market_of_task;
use aion_service::{Problem, TASK_STATE_HEADER};
use aion_types::{MarketId, TaskId};
use http::HeaderMap;
use serde_json::Value;

/// The market of the task that `X-Task-State` names.
pub(crate) fn own_market(task_state: &str) -> Option<MarketId> {
    task_of(task_state).map(market_of_task)
}

/// Refuses a request that comes from the work on the task that the market is about.
pub(crate) fn refuse_own(headers: &HeaderMap, market: MarketId) -> Result<(), Problem> {
    let task_state = headers
        .get(TASK_STATE_HEADER)
        .and_then(|value| value.to_str().ok());
    if task_state.and_then(own_market) != Some(market) {
        return Ok(());
    }
    let detail = "this market is about the task that the request comes from";
    Err(Problem::forbidden("own_task", detail))
}

/// The task that `X-Task-State` names: its id, or a JSON object with the member `task_id`.
fn task_of(text: &str) -> Option<TaskId> {
    if let Ok(id) = text.trim().parse() {
        return Some(id);
    }
    let value: Value = serde_json::from_str(text).ok()?;
    value.get("task_id")?.as_str()?.parse().ok()
}
