//! A crash at any point, then a new process: the same world, and no effect twice.
//!
//! The crash is a store that never answers its n-th touch, whose worker is then dropped where it stands;
//! for every n until a run gets through.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aion_loop::testkit::{Script, ScriptedModel};
use aion_loop::{
    Agent, AgentType, Intent, IntentOutcome, LoopStore, RunOptions, RunRecord, SqliteLoopStore, StepReport,
    StoreError, Worker, WorkerOptions,
};
use aion_processor::{Limits, MemTaskStore, MessageQuery, NewTask, Processor};
use aion_types::{AgentId, Clock, HandlerId, ManualClock, RunId, Status, TaskId, Timestamp};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::world::World;

/// A store that never answers again from the n-th touch on: the touch before it took effect, this one
/// did or did not.
#[derive(Debug)]
struct Dying {
    inner: SqliteLoopStore,
    touches: AtomicU32,
    dies_at: u32,
    died: Notify,
}

impl Dying {
    /// Waits for ever when the time has come, before the write or after it.
    async fn touch(&self) {
        if self.touches.fetch_add(1, Ordering::SeqCst) + 1 == self.dies_at {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl LoopStore for Dying {
    async fn save_run(&self, record: &RunRecord) -> Result<(), StoreError> {
        self.touch().await;
        self.inner.save_run(record).await?;
        self.touch().await;
        Ok(())
    }
    async fn run(&self, run: RunId) -> Result<Option<RunRecord>, StoreError> {
        self.inner.run(run).await
    }
    async fn run_of_task(&self, task: TaskId) -> Result<Option<RunRecord>, StoreError> {
        self.inner.run_of_task(task).await
    }
    async fn runs(&self, before: Option<RunId>, limit: u32) -> Result<Vec<RunRecord>, StoreError> {
        self.inner.runs(before, limit).await
    }
    async fn intend(&self, intent: &Intent) -> Result<Option<Intent>, StoreError> {
        self.touch().await;
        let known = self.inner.intend(intent).await?;
        self.touch().await;
        Ok(known)
    }
    async fn settle(&self, key: &str, outcome: &IntentOutcome) -> Result<(), StoreError> {
        self.touch().await;
        self.inner.settle(key, outcome).await?;
        self.touch().await;
        Ok(())
    }
    async fn intents(&self, run: RunId) -> Result<Vec<Intent>, StoreError> {
        self.inner.intents(run).await
    }
    async fn save_step(&self, step: &StepReport) -> Result<(), StoreError> {
        self.touch().await;
        self.inner.save_step(step).await
    }
    async fn steps(&self, run: RunId, after: u32, limit: u32) -> Result<Vec<StepReport>, StoreError> {
        self.inner.steps(run, after, limit).await
    }
    async fn save_agent_type(&self, agent: &AgentType) -> Result<(), StoreError> {
        self.inner.save_agent_type(agent).await
    }
    async fn agent_type(&self, id: &AgentId) -> Result<Option<AgentType>, StoreError> {
        self.inner.agent_type(id).await
    }
    async fn agent_types(&self, after: Option<&AgentId>, limit: u32) -> Result<Vec<AgentType>, StoreError> {
        self.inner.agent_types(after, limit).await
    }
}

/// Puts 1 into a, then adds 10 once, then 100 once; decides by what the prompt says happened.
fn policy() -> ScriptedModel {
    ScriptedModel::answering(|request: &Value| {
        let said = request["messages"].to_string();
        if !said.contains("put_box") {
            Script::call("put_box", &json!({"name": "a", "number": 1}))
        } else if !said.contains(r#"\"number\\\":10}"#) && !said.contains(r#"number\":10}"#) {
            Script::call("add_to_box", &json!({"name": "a", "number": 10}))
        } else if !said.contains(r#"number\":100}"#) {
            Script::call("add_to_box", &json!({"name": "a", "number": 100}))
        } else {
            Script::finish("SUCCESS", "111 is in a")
        }
    })
}

struct Life {
    clock: ManualClock,
    processor: Processor,
    world: World,
    path: std::path::PathBuf,
}

impl Life {
    fn worker(&self, store: Arc<dyn LoopStore>) -> Worker {
        let agent = Agent::new(
            AgentId::new("worker").unwrap(),
            Arc::new(policy().chat()),
            self.world.services(),
            store,
            RunOptions::default(),
        )
        .with_clock(Arc::new(self.clock.clone()));
        let options = WorkerOptions::default().with_wait(std::time::Duration::ZERO);
        Worker::new(
            self.processor.clone(),
            agent,
            HandlerId::new("w").unwrap(),
            options,
        )
    }

    /// Works until the end, or until the store dies at its n-th touch; says whether it got through.
    async fn live(&self, dies_at: u32) -> bool {
        let inner = SqliteLoopStore::open(&self.path).await.unwrap();
        let store = Arc::new(Dying {
            inner,
            touches: AtomicU32::new(0),
            dies_at,
            died: Notify::new(),
        });
        let worker = self.worker(store.clone());
        let pause = CancellationToken::new();
        tokio::select! {
            end = worker.work_once(&pause) => end.unwrap().is_some(),
            () = store.died.notified() => false,
        }
    }
}

async fn crash_at(dies_at: u32, world: World) -> bool {
    let clock = ManualClock::at(Timestamp::from_ms(1_000_000));
    let dir = tempfile::tempdir().unwrap();
    let answers_again = world.honours_keys && !world.loses_answers;
    let life = Life {
        processor: Processor::new(MemTaskStore::new(clock.clone(), Limits::default())),
        clock,
        world,
        path: dir.path().join("loop.db"),
    };
    let task = TaskId::generate(life.clock.now());
    life.processor
        .create(NewTask::new(task, "agent.run", "Make a hold 111"))
        .await
        .unwrap();
    let through = life.live(dies_at).await;
    if !through {
        // The dead one's lease runs out; a new process takes the task up.
        life.clock.advance_ms(60_000);
        life.processor.tick().await.unwrap();
        life.live(u32::MAX).await;
    }
    let what = format!("crash at touch {dies_at}, keys {answers_again}");
    let record = life.processor.get(task).await.unwrap();
    let effects = life.world.effects();
    if answers_again {
        assert_eq!(effects, ["put a 1", "add a 10", "add a 100"], "{what}");
        assert_eq!(record.status, Status::Completed, "{what}");
    } else {
        // Where the service forgets, a call of unknown outcome is not sent again; the task waits then.
        for add in ["add a 10", "add a 100"] {
            assert!(
                effects.iter().filter(|effect| *effect == add).count() <= 1,
                "{what}: {effects:?}"
            );
        }
        assert!(
            record.status == Status::Completed || !record.status.is_terminal(),
            "{what}"
        );
    }
    let messages = life
        .processor
        .messages(task, MessageQuery::new())
        .await
        .unwrap()
        .messages;
    assert!(
        messages
            .iter()
            .all(|message| !message.content.starts_with("Failed")),
        "{what}: nothing of unknown outcome is told as undone"
    );
    let calls: Vec<_> = messages
        .iter()
        .flat_map(|message| &message.tool_calls)
        .map(|call| &call.arguments)
        .collect();
    let distinct: std::collections::BTreeSet<_> = calls.iter().collect();
    assert_eq!(
        calls.len(),
        distinct.len(),
        "{what}: a message twice in {calls:?}"
    );
    through
}

#[tokio::test]
async fn a_crash_anywhere_doubles_nothing() {
    let lost = World {
        loses_answers: true,
        ..World::with_keys()
    };
    for world in [World::with_keys(), World::default(), lost] {
        let mut crashes = 0;
        for dies_at in 1.. {
            let fresh = World {
                shelf: Arc::default(),
                ..world.clone()
            };
            if crash_at(dies_at, fresh).await {
                break;
            }
            crashes += 1;
        }
        assert!(crashes > 20, "{crashes}");
    }
}
