//! Writing runs to a processor, as agents would have: create, claim, say, end.

use std::path::Path;
use std::sync::Arc;

use aion_processor::{ClaimReq, NewMessage, NewTask, Processor, Retry, SqliteOptions, SqliteTaskStore};
use aion_types::{HandlerId, Json, ManualClock, TaskId, Timestamp};

use crate::Failure;
use crate::runs::Run;

/// Between one step and the next.
const STEP_MS: i64 = 1_000;

/// Runs one after the other; gives the store, and the task of each.
pub(crate) async fn record(
    database: &Path,
    runs: &[Run],
) -> Result<(Arc<SqliteTaskStore>, Vec<TaskId>), Failure> {
    let clock = ManualClock::at(Timestamp::from_ms(0));
    let options = SqliteOptions::default().with_clock(clock.clone());
    let store = Arc::new(SqliteTaskStore::open(database, options).await?);
    let processor = Processor::over(store.clone());
    let mut tasks = Vec::new();
    for (n, run) in (1_u32..).zip(runs) {
        clock.advance_ms(STEP_MS);
        tasks.push(play(&processor, &clock, n, run).await?);
    }
    Ok((store, tasks))
}

async fn play(processor: &Processor, clock: &ManualClock, n: u32, run: &Run) -> Result<TaskId, Failure> {
    let mut tail = [0; 10];
    tail[6..].copy_from_slice(&n.to_be_bytes());
    let id = TaskId::from_parts(Timestamp::from_ms(i64::from(n)), tail);
    let task = NewTask::new(id, "agent.run", format!("task {}", run.task)).with_max_attempts(1);
    processor.create(task).await?;
    let claim = ClaimReq::new(HandlerId::new("agent")?).with_lease_ms(3_600_000);
    let lease = processor.claim(claim).await?.remove(0);
    for said in &run.messages {
        clock.advance_ms(STEP_MS);
        let mut message =
            NewMessage::new(said.role, said.content.clone()).with_tool_calls(said.tool_calls.clone());
        message.tool_call_id = said.tool_call_id.clone();
        processor.append(lease.fence(), message).await?;
    }
    clock.advance_ms(STEP_MS);
    if run.success {
        processor.complete(lease.fence(), Json::Null).await?;
    } else {
        processor
            .fail(lease.fence(), "the run did not succeed", Retry::Never)
            .await?;
    }
    Ok(id)
}
