//! What the loop itself costs: steps with a model and a service that answer at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use aion_loop::{
    Agent, Budget, ChatModel, ChatReply, ChatRequest, FinishReason, LoopStore, MemoryLoopStore, ModelError,
    RunOptions, SqliteLoopStore, Usage,
};
use aion_processor::{ClaimReq, Limits, MemTaskStore, NewTask, Processor};
use aion_types::{AgentId, Clock, HandlerId, Status, SystemClock, TaskId, ToolCall};
use async_trait::async_trait;

use crate::world::World;

/// Puts the next number into a box until it has done so `steps` times.
#[derive(Debug)]
struct Counting {
    next: AtomicI64,
    steps: i64,
}

#[async_trait]
impl ChatModel for Counting {
    fn name(&self) -> &str {
        "counting"
    }

    async fn chat(&self, _request: &ChatRequest) -> Result<ChatReply, ModelError> {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let (name, arguments) = if number < self.steps {
            ("put_box", format!(r#"{{"name":"a","number":{number}}}"#))
        } else {
            ("finish", r#"{"status":"SUCCESS","summary":"counted"}"#.to_owned())
        };
        Ok(ChatReply {
            text: String::new(),
            reasoning: String::new(),
            tool_calls: vec![ToolCall {
                id: String::new(),
                name: name.to_owned(),
                arguments,
            }],
            finish: FinishReason::ToolCalls,
            usage: Usage {
                prompt_tokens: Some(10),
                completion_tokens: Some(1),
                ..Usage::default()
            },
            model: None,
        })
    }
}

async fn per_step(store: Arc<dyn LoopStore>, steps: i64) -> Duration {
    let world = World::default();
    let processor = Processor::new(MemTaskStore::new(SystemClock, Limits::default()));
    let task = TaskId::generate(SystemClock.now());
    processor
        .create(NewTask::new(task, "agent.run", "count"))
        .await
        .unwrap();
    let model = Arc::new(Counting {
        next: AtomicI64::new(0),
        steps,
    });
    let budget = Budget {
        tokens: 10_000_000,
        steps: 10_000,
        seconds: 3_600,
    };
    let options = RunOptions::default().with_budget(budget);
    let agent = Agent::new(
        AgentId::new("worker").unwrap(),
        model,
        world.services(),
        store,
        options,
    );
    let claim = ClaimReq::new(HandlerId::new("w").unwrap())
        .with_task(task)
        .with_lease_ms(60_000);
    let lease = processor.claim(claim).await.unwrap().remove(0);
    let began = Instant::now();
    let end = agent.work(&processor, &lease, &Default::default()).await.unwrap();
    let took = began.elapsed();
    assert_eq!(
        (end.status, end.steps),
        (Status::Completed, u32::try_from(steps).unwrap() + 1)
    );
    assert_eq!(world.effects().len(), usize::try_from(steps).unwrap());
    took / u32::try_from(steps).unwrap()
}

/// The bound is for unoptimised code on a busy host; `cargo bench --bench agent_loop` measures.
#[tokio::test]
async fn a_step_costs_little() {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = SqliteLoopStore::open(dir.path().join("loop.db")).await.unwrap();
    let memory = per_step(Arc::new(MemoryLoopStore::new()), 200).await;
    let file = per_step(Arc::new(sqlite), 200).await;
    eprintln!("loop overhead: {memory:?} a step in memory, {file:?} a step with SQLite");
    assert!(
        memory < Duration::from_millis(50) && file < Duration::from_millis(250),
        "{memory:?} {file:?}"
    );
}
