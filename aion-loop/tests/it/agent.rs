//! The driver on real tasks: a scripted model, a small world, a task store in memory.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aion_loop::testkit::{Script, ScriptedModel};
use aion_loop::{
    Agent, AgentType, Budget, CallResult, CallStatus, Judge, JudgeWhen, LoopStore, MemoryLoopStore, Outcome,
    PriceFeed, RunOptions, RunStatus, StepReport, Verdict, WorkEnd, Worker, WorkerOptions,
};
use aion_processor::{CancelMode, ClaimReq, Limits, MemTaskStore, MessageQuery, NewTask, Processor};
use aion_types::{AgentId, Clock, HandlerId, Json, Prob, Role, Status, SystemClock, TaskId, TaskRecord};
use async_trait::async_trait;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::world::{Weather, World};

pub(crate) struct Stage {
    pub(crate) processor: Processor,
    pub(crate) store: Arc<MemoryLoopStore>,
    pub(crate) world: World,
    pub(crate) model: ScriptedModel,
    pub(crate) steps: Arc<Mutex<Vec<StepReport>>>,
}

impl Stage {
    pub(crate) fn new(world: World, scripts: impl IntoIterator<Item = Script>) -> Self {
        Self {
            processor: Processor::new(MemTaskStore::new(SystemClock, Limits::default())),
            store: Arc::new(MemoryLoopStore::new()),
            world,
            model: ScriptedModel::new(scripts),
            steps: Arc::default(),
        }
    }

    pub(crate) fn agent(&self) -> Agent {
        let steps = Arc::clone(&self.steps);
        let observer = move |step: &StepReport| steps.lock().unwrap().push(step.clone());
        Agent::new(
            AgentId::new("worker").unwrap(),
            Arc::new(self.model.chat()),
            self.world.services(),
            self.store.clone(),
            RunOptions::default(),
        )
        .with_observer(Arc::new(observer))
    }

    pub(crate) async fn task(&self, title: &str) -> TaskId {
        let id = TaskId::generate(SystemClock.now());
        self.processor
            .create(NewTask::new(id, "agent.run", title))
            .await
            .unwrap();
        id
    }

    pub(crate) fn worker(&self, agent: Agent) -> Worker {
        let handler = HandlerId::new("w1").unwrap();
        Worker::new(
            self.processor.clone(),
            agent,
            handler,
            WorkerOptions::default().with_wait(Duration::ZERO),
        )
    }

    pub(crate) async fn work(&self, agent: Agent) -> WorkEnd {
        self.worker(agent)
            .work_once(&CancellationToken::new())
            .await
            .unwrap()
            .unwrap()
    }
}

fn put(number: i64) -> Script {
    Script::call("put_box", &json!({"name": "a", "number": number}))
}

fn add(number: i64) -> Script {
    Script::call("add_to_box", &json!({"name": "a", "number": number}))
}

#[tokio::test]
async fn a_task_goes_all_the_way_round() {
    let stage = Stage::new(
        World::default(),
        [put(7), add(1), Script::finish("SUCCESS", "8 is in a")],
    );
    let task = stage.task("Put 7 into a and add 1").await;
    let end = stage.work(stage.agent()).await;
    assert_eq!(end.status, Status::Completed);
    assert_eq!(end.steps, 3);
    assert!(end.persistence.unwrap().ratio > 1.0);
    assert_eq!(stage.world.boxes()["a"], 8);
    let record = stage.processor.get(task).await.unwrap();
    assert_eq!(record.result, Some(Json::from("8 is in a")));

    let messages = stage
        .processor
        .messages(task, MessageQuery::new())
        .await
        .unwrap()
        .messages;
    let roles: Vec<Role> = messages.iter().map(|message| message.role).collect();
    use Role::{Assistant, Tool, User};
    assert_eq!(
        roles,
        [User, Assistant, Tool, User, Assistant, Tool, User, Assistant]
    );
    assert!(
        messages[1].persistence.as_ref().unwrap().get("R_harm").is_some(),
        "kept as it came"
    );

    let steps = stage.steps.lock().unwrap().clone();
    assert_eq!(steps.len(), 3);
    assert_eq!(steps[0].diff.render(3), "+ shelf.boxes.a: 7");
    assert_eq!(steps[0].calls[0].status, CallStatus::Succeeded);
    assert_eq!(steps[0].persistence.unwrap().r_harm, 2.0);
    assert!(matches!(steps[2].outcome, Some(Outcome::Finished { .. })));
    let used: u64 = steps.iter().map(|step| step.usage.total().unwrap()).sum();
    assert_eq!(
        (used, used),
        (end.tokens_used, steps[2].tokens_used),
        "the budget equals the usage"
    );
    assert_eq!(stage.store.steps(end.run, 0, 100).await.unwrap(), steps);
    assert_eq!(stage.store.intents(end.run).await.unwrap().len(), 2);
    assert_eq!(
        stage.store.run(end.run).await.unwrap().unwrap().status,
        RunStatus::Done
    );
}

#[tokio::test]
async fn several_calls_go_in_order_and_a_refusal_is_told() {
    let both = Script::Calls(vec![
        ("add_to_box".into(), r#"{"name":"b","number":1}"#.into()),
        ("put_box".into(), r#"{"name":"b","number":2}"#.into()),
    ]);
    let stage = Stage::new(World::default(), [both, Script::finish("FAILED", "no")]);
    stage.task("x").await;
    let end = stage.work(stage.agent()).await;
    assert_eq!(end.status, Status::Failed);
    let step = stage.steps.lock().unwrap()[0].clone();
    assert_eq!(step.calls[0].status, CallStatus::Failed);
    assert_eq!(step.calls[0].answer, "404 there is no box b");
    assert_eq!(stage.world.effects(), ["put b 2"]);
}

#[tokio::test]
async fn malformed_calls_reach_no_service() {
    let broken = Script::Calls(vec![("put_box".into(), r#"{"name":"a","num"#.into())]);
    let stage = Stage::new(World::default(), [broken.clone(), broken.clone(), broken]);
    stage.task("x").await;
    let end = stage.work(stage.agent()).await;
    assert!(matches!(end.outcome, Some(Outcome::Unusable { .. })));
    assert_eq!(end.status, Status::Failed);
    assert!(stage.world.effects().is_empty());
    assert!(
        stage
            .steps
            .lock()
            .unwrap()
            .iter()
            .all(|step| step.refused.is_some())
    );
}

#[tokio::test]
async fn a_model_that_is_down_leaves_the_task_to_be_taken_up_again() {
    let html = Script::Html("<html>down</html>".into());
    let stage = Stage::new(World::default(), [put(1), html.clone(), html.clone(), html]);
    let task = stage.task("x").await;
    let end = stage.work(stage.agent()).await;
    assert!(matches!(end.outcome, Some(Outcome::ModelFailed { .. })));
    let record = stage.processor.get(task).await.unwrap();
    assert_eq!(record.status, Status::Preparing, "no worker spins on it");
    assert!(record.run_after.unwrap().since_ms(SystemClock.now()) <= 1_000);
    assert_eq!(end.steps, 1, "a question without an answer is no step");
    stage.processor.start(task).await.unwrap();
    stage.model.push(Script::finish("SUCCESS", "done"));
    let again = stage.work(stage.agent()).await;
    assert_eq!((again.run, again.status), (end.run, Status::Completed));
    assert_eq!(stage.world.effects(), ["put a 1"]);
}

#[tokio::test]
async fn the_budget_ends_a_run() {
    let stage = Stage::new(World::default(), (0..9).map(put));
    let mut agent = stage.agent();
    agent = Agent::new(
        agent.id().clone(),
        Arc::new(stage.model.chat()),
        stage.world.services(),
        stage.store.clone(),
        RunOptions::default().with_budget(Budget {
            tokens: 100_000,
            steps: 3,
            seconds: 60,
        }),
    );
    stage.task("x").await;
    let end = stage.work(agent).await;
    assert!(matches!(end.outcome, Some(Outcome::Exhausted { .. })));
    assert_eq!((end.steps, stage.model.requests().len()), (3, 3));
}

#[derive(Debug)]
struct BoxHolds(World, i64);

#[async_trait]
impl Judge for BoxHolds {
    async fn judge(&self, _task: &TaskRecord, _outcome: Option<&Outcome>) -> aion_loop::Result<Verdict> {
        Ok(if self.0.boxes().get("a") == Some(&self.1) {
            Verdict::Success { result: Json::Null }
        } else {
            Verdict::Failure {
                reason: format!("a does not hold {}", self.1),
            }
        })
    }
}

#[tokio::test]
async fn a_judge_decides_and_can_send_back() {
    let stage = Stage::new(
        World::default(),
        [
            Script::finish("SUCCESS", "lie"),
            put(5),
            Script::finish("SUCCESS", "true"),
        ],
    );
    stage.task("Put 5 into a").await;
    let judge = Arc::new(BoxHolds(stage.world.clone(), 5));
    let end = stage
        .work(stage.agent().with_judge(judge, JudgeWhen::AtEnd))
        .await;
    assert_eq!((end.status, end.steps), (Status::Completed, 3));
    let last = stage.model.requests()[1].to_string();
    assert!(last.contains("Not done yet: a does not hold 5"), "{last}");
}

#[tokio::test]
async fn a_judge_of_each_change_ends_the_run_early() {
    let stage = Stage::new(World::default(), [put(4), put(5), put(6)]);
    stage.task("Put 5 into a").await;
    let judge = Arc::new(BoxHolds(stage.world.clone(), 5));
    let end = stage
        .work(stage.agent().with_judge(judge, JudgeWhen::EachChange))
        .await;
    assert_eq!((end.status, end.steps), (Status::Completed, 2));
    assert!(matches!(end.outcome, Some(Outcome::Accepted { .. })));
}

#[derive(Debug)]
struct Rising;

#[async_trait]
impl PriceFeed for Rising {
    async fn price_after(&self, step: &StepReport) -> Option<Prob> {
        Prob::new(0.5 + 0.1 * f64::from(step.step)).ok()
    }
}

#[tokio::test]
async fn the_price_of_each_step_is_reported() {
    let stage = Stage::new(World::default(), [put(4), Script::finish("SUCCESS", "")]);
    stage.task("x").await;
    stage.work(stage.agent().with_price(Arc::new(Rising))).await;
    let prices: Vec<f64> = stage
        .steps
        .lock()
        .unwrap()
        .iter()
        .map(|step| step.price.unwrap().get())
        .collect();
    assert_eq!(prices, [0.6, 0.7]);
}

#[tokio::test]
async fn a_pause_gives_the_task_back_and_the_next_worker_goes_on() {
    let stage = Stage::new(World::default(), [put(1), Script::Hang(Duration::from_secs(600))]);
    let task = stage.task("x").await;
    let pause = CancellationToken::new();
    let trigger = pause.clone();
    let agent = stage
        .agent()
        .with_observer(Arc::new(move |_: &StepReport| trigger.cancel()));
    let end = stage.worker(agent).work_once(&pause).await.unwrap().unwrap();
    assert_eq!(end.outcome, None);
    assert_eq!(stage.processor.get(task).await.unwrap().status, Status::Ready);
    assert_eq!(
        stage.store.run(end.run).await.unwrap().unwrap().status,
        RunStatus::Paused
    );
    let rested = ScriptedModel::new([Script::finish("SUCCESS", "rested")]);
    let agent = Agent::new(
        AgentId::new("worker").unwrap(),
        Arc::new(rested.chat()),
        stage.world.services(),
        stage.store.clone(),
        RunOptions::default(),
    );
    let again = stage.work(agent).await;
    assert_eq!((again.run, again.status), (end.run, Status::Completed));
    assert_eq!(stage.world.effects(), ["put a 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_task_stops_its_agent() {
    let stage = Stage::new(
        World::default(),
        [put(1), Script::Hang(Duration::from_secs(3_000))],
    );
    let task = stage.task("x").await;
    let processor = stage.processor.clone();
    let agent = stage.agent().with_lease_ms(3_000);
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        processor.cancel(task, CancelMode::Ask).await.unwrap();
    };
    let (end, ()) = tokio::join!(stage.work(agent), cancel);
    assert_eq!(end.outcome, Some(Outcome::Stopped));
    assert_eq!(stage.processor.get(task).await.unwrap().status, Status::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_ends_the_work_without_another_write() {
    let stage = Stage::new(
        World::default(),
        [put(1), Script::Hang(Duration::from_secs(3_000))],
    );
    let task = stage.task("x").await;
    let processor = stage.processor.clone();
    let worker = stage.worker(stage.agent().with_lease_ms(3_000));
    let pause = CancellationToken::new();
    let steal = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        processor.cancel(task, CancelMode::Force).await.unwrap();
    };
    let (end, ()) = tokio::join!(worker.work_once(&pause), steal);
    assert!(matches!(end, Err(aion_loop::Error::LeaseLost)), "{end:?}");
    let before = stage
        .processor
        .messages(task, MessageQuery::new())
        .await
        .unwrap()
        .messages
        .len();
    assert!(before >= 4);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_only_where_that_is_harmless() {
    // The service answers from its record.
    let world = World::with_keys();
    let stage = Stage::new(world.clone(), [put(1), add(1), Script::finish("SUCCESS", "")]);
    stage.task("x").await;
    world.shelf.lock().unwrap().weather = Weather::AnswerLost;
    let end = stage.work(stage.agent()).await;
    assert_eq!(end.status, Status::Completed);

    // It does not, and the call adds: it is parked, and goes on when somebody says what happened.
    let world = World::default();
    let stage = Stage::new(world.clone(), [put(1), add(1), Script::finish("SUCCESS", "")]);
    let task = stage.task("x").await;
    let storm = world.clone();
    let agent = stage.agent().with_observer(Arc::new(move |_: &StepReport| {
        storm.shelf.lock().unwrap().weather = Weather::AnswerLost;
    }));
    let end = stage.work(agent).await;
    assert_eq!(end.outcome, Some(Outcome::Parked { calls: vec![1] }));
    assert_eq!(
        stage.store.run(end.run).await.unwrap().unwrap().status,
        RunStatus::Parked
    );
    let seen = CallResult {
        ordinal: 1,
        status: CallStatus::Succeeded,
        answer: "a holds 2".into(),
    };
    stage.agent().decide(end.run, vec![seen]).await.unwrap();
    stage.processor.start(task).await.unwrap();
    let end = stage.work(stage.agent()).await;
    assert_eq!(end.status, Status::Completed);
    assert_eq!(world.effects(), ["put a 1", "add a 1"]);
}

/// A call is sent again at once where that is harmless, under its key, and never where it is not.
#[tokio::test]
async fn a_lost_call_is_sent_again_at_once_where_that_is_harmless() {
    use aion_loop::PlannedCall;
    use aion_types::RunId;

    for weather in [Weather::AnswerLost, Weather::GatewayLost] {
        for world in [World::with_keys(), World::default()] {
            let services = world.services_that_resend(2);
            let ids = (
                TaskId::generate(SystemClock.now()),
                RunId::generate(SystemClock.now()),
            );
            let call = |ordinal: u64, tool: &str| {
                let arguments = json!({"name": "a", "number": 1}).as_object().unwrap().clone();
                PlannedCall::new(ids, ordinal, "c".into(), tool.into(), arguments)
            };
            services.dispatch(&call(0, "put_box"), "{}").await;
            world.shelf.lock().unwrap().weather = weather;
            let added = services.dispatch(&call(1, "add_to_box"), "{}").await;
            assert_eq!(world.boxes()["a"], 2, "{weather:?}: once, whatever happened");
            let (status, arrived) = if world.honours_keys {
                (CallStatus::Succeeded, 3)
            } else {
                (CallStatus::Ambiguous, 2)
            };
            assert_eq!(
                (added.status, world.shelf.lock().unwrap().arrived.len()),
                (status, arrived),
                "{weather:?}"
            );
        }
    }
}

#[tokio::test]
async fn one_task_is_worked_on_once_by_many_workers() {
    let stage = Stage::new(World::default(), []);
    let model = ScriptedModel::answering(|_| Script::finish("SUCCESS", "ok"));
    let mut tasks = Vec::new();
    for n in 0..12 {
        tasks.push(stage.task(&format!("task {n}")).await);
    }
    let workers = (0..4).map(|n| {
        let agent = Agent::new(
            AgentId::new("worker").unwrap(),
            Arc::new(model.chat()),
            stage.world.services(),
            stage.store.clone(),
            RunOptions::default(),
        );
        let options = WorkerOptions::default()
            .with_wait(Duration::ZERO)
            .with_kinds(["agent.run"]);
        let worker = Worker::new(
            stage.processor.clone(),
            agent,
            HandlerId::new(format!("w{n}")).unwrap(),
            options,
        );
        async move {
            let mut done = 0;
            while worker
                .work_once(&CancellationToken::new())
                .await
                .unwrap()
                .is_some()
            {
                done += 1;
            }
            done
        }
    });
    let done: Vec<u32> = futures::future::join_all(workers).await;
    assert_eq!(done.iter().sum::<u32>(), 12);
    assert_eq!(model.requests().len(), 12);
    for task in tasks {
        assert_eq!(stage.processor.get(task).await.unwrap().status, Status::Completed);
    }
}

#[test]
fn an_agent_type_may_use_what_it_names() {
    let world = World::default();
    let services = world.services();
    let mut kind = AgentType::new(AgentId::new("reader").unwrap(), RunOptions::for_small_model());
    assert_eq!(kind.toolset(services.tools()).unwrap().len(), 3);
    kind.tools = Some(["get_box".to_owned()].into());
    assert_eq!(kind.toolset(services.tools()).unwrap().len(), 1);
    kind.tools = Some(["rm_rf".to_owned()].into());
    assert!(matches!(
        kind.toolset(services.tools()),
        Err(aion_loop::Error::ToolGone(_))
    ));
}

#[tokio::test]
async fn a_claim_of_its_own_works_too() {
    let stage = Stage::new(World::default(), [Script::text("Nothing to do.")]);
    let task = stage.task("x").await;
    let claim = ClaimReq::new(HandlerId::new("cli").unwrap())
        .with_task(task)
        .with_lease_ms(30_000);
    let lease = stage.processor.claim(claim).await.unwrap().remove(0);
    let end = stage
        .agent()
        .work(&stage.processor, &lease, &CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(end.status, Status::Completed);
    assert_eq!(end.reason, "the agent says it is done: Nothing to do.");
}

/// What a service says of a call that it lost, or still works on, is believed: never "no effect".
#[tokio::test(start_paused = true)]
async fn an_outcome_that_the_service_does_not_know_is_not_taken_for_no_effect() {
    use aion_loop::PlannedCall;
    use aion_types::RunId;

    for (weather, honours_keys, status) in [
        (Weather::BegunAndLost, true, CallStatus::Ambiguous),
        (Weather::BegunAndLost, false, CallStatus::Ambiguous),
        (Weather::Slow, true, CallStatus::Succeeded),
        (Weather::Broken, true, CallStatus::Succeeded),
        (Weather::Broken, false, CallStatus::Ambiguous),
        (Weather::Gone, true, CallStatus::Ambiguous),
        (Weather::Gone, false, CallStatus::Ambiguous),
    ] {
        let world = World {
            honours_keys,
            ..World::default()
        };
        let services = world.services_that_resend(2);
        let ids = (
            TaskId::generate(SystemClock.now()),
            RunId::generate(SystemClock.now()),
        );
        let call = |ordinal: u64, tool: &str| {
            let arguments = json!({"name": "a", "number": 1}).as_object().unwrap().clone();
            PlannedCall::new(ids, ordinal, "c".into(), tool.into(), arguments)
        };
        services.dispatch(&call(0, "put_box"), "{}").await;
        world.shelf.lock().unwrap().weather = weather;
        let added = services.dispatch(&call(1, "add_to_box"), "{}").await;
        assert_eq!(
            added.status, status,
            "{weather:?}, keys {honours_keys}: {}",
            added.answer
        );
        assert_eq!(world.boxes()["a"], 2, "{weather:?}: once, whatever happened");
    }
}

/// The service was killed in the middle: asked again under the key it says that nobody knows. The task
/// waits for somebody; the model, which would do it again under another key, does not hear of a failure.
#[tokio::test]
async fn a_call_that_the_service_lost_parks_the_task() {
    let world = World::with_keys();
    let stage = Stage::new(
        world.clone(),
        [put(1), add(1), add(1), Script::finish("SUCCESS", "")],
    );
    stage.task("x").await;
    let storm = world.clone();
    let agent = stage.agent().with_observer(Arc::new(move |_: &StepReport| {
        storm.shelf.lock().unwrap().weather = Weather::BegunAndLost;
    }));
    let end = stage.work(agent).await;
    assert_eq!(end.outcome, Some(Outcome::Parked { calls: vec![1] }));
    assert_eq!(world.effects(), ["put a 1", "add a 1"]);
}

#[test]
fn a_call_may_take_longer_than_the_longest_execution() {
    let longest = Duration::from_secs(600);
    let limits = aion_loop::ServiceLimits::default();
    assert!(
        limits.call_timeout >= longest + Duration::from_secs(40),
        "{limits:?}"
    );
}

/// A step that was interrupted between the model's answer and its calls keeps what was said and used.
#[tokio::test]
async fn an_interrupted_step_keeps_its_words_and_tokens() {
    #[derive(Debug)]
    struct PausesAfterAnswer(aion_loop::OpenAiChat, CancellationToken);

    #[async_trait]
    impl aion_loop::ChatModel for PausesAfterAnswer {
        fn name(&self) -> &str {
            self.0.name()
        }
        async fn chat(
            &self,
            request: &aion_loop::ChatRequest,
        ) -> Result<aion_loop::ChatReply, aion_loop::ModelError> {
            let mut reply = self.0.chat(request).await?;
            reply.text = "I put it.".to_owned();
            self.1.cancel();
            Ok(reply)
        }
    }

    let stage = Stage::new(World::default(), [put(1), Script::finish("SUCCESS", "")]);
    stage.task("x").await;
    let pause = CancellationToken::new();
    let model = PausesAfterAnswer(stage.model.chat(), pause.clone());
    let agent = Agent::new(
        AgentId::new("worker").unwrap(),
        Arc::new(model),
        stage.world.services(),
        stage.store.clone(),
        RunOptions::default(),
    );
    let end = stage.worker(agent).work_once(&pause).await.unwrap().unwrap();
    assert_eq!(end.outcome, None);
    let stored = stage.store.steps(end.run, 0, 9).await.unwrap();
    assert_eq!(stored[0].text, "I put it.");
    assert_eq!(stored[0].tokens_used, end.tokens_used);

    let end = stage.work(stage.agent()).await;
    assert_eq!(end.status, Status::Completed);
    let steps = stage.store.steps(end.run, 0, 9).await.unwrap();
    assert_eq!((steps.len(), steps[0].text.as_str()), (2, "I put it."));
    assert_eq!(steps[0].calls[0].status, CallStatus::Succeeded);
    assert_eq!(steps[0].diff.render(3), "+ shelf.boxes.a: 1");
    let used: u64 = steps.iter().map(|step| step.usage.total().unwrap()).sum();
    assert_eq!(used, end.tokens_used);
    assert_eq!(
        *stage.steps.lock().unwrap(),
        steps,
        "each heard of once, when it was over"
    );
}

/// Somebody else has the task: what the first one still knows of the run is not written over it.
#[tokio::test]
async fn a_holder_without_a_lease_writes_no_run() {
    let stage = Stage::new(World::default(), [put(1), put(2), put(3)]);
    let task = stage.task("x").await;
    let (processor, store) = (stage.processor.clone(), stage.store.clone());

    #[derive(Debug)]
    struct LosesTheTask(aion_loop::OpenAiChat, Processor, TaskId);

    #[async_trait]
    impl aion_loop::ChatModel for LosesTheTask {
        fn name(&self) -> &str {
            self.0.name()
        }
        async fn chat(
            &self,
            request: &aion_loop::ChatRequest,
        ) -> Result<aion_loop::ChatReply, aion_loop::ModelError> {
            self.1.cancel(self.2, CancelMode::Force).await.unwrap();
            self.0.chat(request).await
        }
    }

    let agent = Agent::new(
        AgentId::new("worker").unwrap(),
        Arc::new(LosesTheTask(stage.model.chat(), processor, task)),
        stage.world.services(),
        store.clone(),
        RunOptions::default(),
    );
    let before = stage
        .agent()
        .prepare(&stage.processor.get(task).await.unwrap())
        .await
        .unwrap();
    let end = stage.worker(agent).work_once(&CancellationToken::new()).await;
    assert!(matches!(end, Err(aion_loop::Error::LeaseLost)), "{end:?}");
    let record = store.run(before).await.unwrap().unwrap();
    let text = record.snapshot.to_json().unwrap();
    assert!(
        !text.contains("put_box"),
        "the answer came after the lease was lost: {text}"
    );
    assert!(stage.world.effects().is_empty());
}

/// Nobody else keeps the time: a worker on one task does it itself.
#[tokio::test]
async fn work_on_one_task_does_what_time_demands() {
    let stage = Stage::new(World::default(), [Script::finish("SUCCESS", "")]);
    let task = stage.task("x").await;
    let claim = ClaimReq::new(HandlerId::new("vanished").unwrap())
        .with_task(task)
        .with_lease_ms(1_000);
    stage.processor.claim(claim).await.unwrap();
    let worker = stage.worker(stage.agent());
    let pause = CancellationToken::new();
    assert!(
        worker.work_on(task, &pause).await.unwrap().is_none(),
        "it is held"
    );
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if let Some(end) = worker.work_on(task, &pause).await.unwrap() {
            assert_eq!(end.status, Status::Completed);
            return;
        }
    }
    panic!("the lease of a holder that vanished never ended");
}
