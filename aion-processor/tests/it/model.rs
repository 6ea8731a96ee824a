//! Random operations: SQLite agrees with memory, the log replays, and the invariants of the tree hold.

use std::collections::BTreeMap;

use aion_processor::testkit::limits;
use aion_processor::{
    CancelMode, ClaimReq, Durability, EventQuery, Fence, GatherPolicy, MemTaskStore, MessageQuery,
    NewMessage, NewTask, Op, Processor, Replay, Replayed, Retry, SqliteOptions, SqliteTaskStore, Start,
    TaskQuery, Write,
};
use aion_types::{
    EventRecord, HandlerId, Json, ManualClock, MessageRecord, Role, Status, TaskId, TaskRecord, Timestamp,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Tasks that may be created.
const SLOTS: u8 = 24;
/// When the clock starts.
const START_MS: i64 = 1_000_000;

/// Something to do. Tasks are picked by number when it is done: a holder's writes mostly go to a task
/// that runs, what a gather lists mostly lies below it.
#[derive(Debug, Clone)]
enum Step {
    Apply(Vec<Act>),
    Claim {
        max: u32,
        queue: Option<u8>,
        kind: Option<u8>,
        task: Option<u8>,
        lease_ms: u64,
    },
    Due(u32),
    Sleep(i64),
}

#[derive(Debug, Clone)]
enum Act {
    Create {
        slot: u8,
        parent: Option<u8>,
        priority: i32,
        queue: u8,
        start: Start,
        key: Option<u8>,
        attempts: u32,
    },
    Start(u8),
    Heartbeat(u8, Age),
    Append(u8, Option<Age>, Option<u8>),
    Complete(u8, Age),
    Fail(u8, Age, Retry),
    Release(u8, Age, u64),
    Cancel(u8, CancelMode),
    Stop(u8, Age),
    Gather(u8, Age, Vec<u8>, GatherPolicy),
}

/// Whether the writer holds the lease, or held it once.
#[derive(Debug, Clone, Copy)]
enum Age {
    Current,
    Old,
}

fn slot() -> impl Strategy<Value = u8> {
    0..SLOTS
}

fn age() -> impl Strategy<Value = Age> {
    prop_oneof![9 => Just(Age::Current), 1 => Just(Age::Old)]
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        6 => Just(Start::Now),
        1 => Just(Start::Held),
        1 => (0_i64..400).prop_map(|ms| Start::At(Timestamp::from_ms(START_MS + ms))),
    ]
}

fn create() -> impl Strategy<Value = Act> {
    (
        slot(),
        option::of(slot()),
        0..3_i32,
        0..2_u8,
        start(),
        option::weighted(0.1, 0..3_u8),
        1..4_u32,
    )
        .prop_map(
            |(slot, parent, priority, queue, start, key, attempts)| Act::Create {
                slot,
                parent,
                priority,
                queue,
                start,
                key,
                attempts,
            },
        )
}

fn act() -> impl Strategy<Value = Act> {
    let retry = prop_oneof![
        Just(Retry::Never),
        Just(Retry::Backoff),
        (0..300_u64).prop_map(Retry::AfterMs)
    ];
    let policy = prop_oneof![
        Just(GatherPolicy::All),
        Just(GatherPolicy::FailFast),
        Just(GatherPolicy::Settle)
    ];
    let mode = prop_oneof![Just(CancelMode::Ask), Just(CancelMode::Force)];
    prop_oneof![
        8 => create(),
        1 => slot().prop_map(Act::Start),
        1 => (slot(), age()).prop_map(|(slot, age)| Act::Heartbeat(slot, age)),
        3 => (slot(), option::of(age()), option::of(0..3_u8)).prop_map(|(slot, age, key)| Act::Append(slot, age, key)),
        4 => (slot(), age()).prop_map(|(slot, age)| Act::Complete(slot, age)),
        3 => (slot(), age(), retry).prop_map(|(slot, age, retry)| Act::Fail(slot, age, retry)),
        1 => (slot(), age(), 0..100_u64).prop_map(|(slot, age, ms)| Act::Release(slot, age, ms)),
        1 => (slot(), mode).prop_map(|(slot, mode)| Act::Cancel(slot, mode)),
        1 => (slot(), age()).prop_map(|(slot, age)| Act::Stop(slot, age)),
        5 => (slot(), age(), vec(slot(), 0..5), policy).prop_map(|(slot, age, all, policy)| Act::Gather(slot, age, all, policy)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let claim = (
        1..4_u32,
        option::weighted(0.3, 0..2_u8),
        option::weighted(0.3, 0..2_u8),
        option::weighted(0.2, slot()),
    );
    prop_oneof![
        8 => vec(act(), 1..4).prop_map(Step::Apply),
        5 => (claim, 1..500_u64)
            .prop_map(|((max, queue, kind, task), lease_ms)| Step::Claim { max, queue, kind, task, lease_ms }),
        2 => (1..5_u32).prop_map(Step::Due),
        2 => (0..300_i64).prop_map(Step::Sleep),
    ]
}

fn id(slot: u8) -> TaskId {
    TaskId::from_parts(Timestamp::from_ms(START_MS), [slot; 10])
}

fn name(prefix: &str, n: u8) -> String {
    format!("{prefix}-{n}")
}

/// Both stores under one clock.
struct Pair {
    clock: ManualClock,
    model: Processor,
    sqlite: Processor,
    _directory: tempfile::TempDir,
}

impl Pair {
    async fn new() -> Self {
        let clock = ManualClock::at(Timestamp::from_ms(START_MS));
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteOptions::default()
            .with_clock(clock.clone())
            .with_limits(limits());
        let sqlite = SqliteTaskStore::open(directory.path().join("p.db"), options)
            .await
            .unwrap();
        Self {
            model: Processor::new(MemTaskStore::new(clock.clone(), limits())),
            sqlite: Processor::new(sqlite),
            clock,
            _directory: directory,
        }
    }

    /// The tasks in the order of creation; `wanted` ones if there are any.
    async fn candidates(&self, wanted: impl Fn(&TaskRecord) -> bool) -> Vec<TaskRecord> {
        let all = self
            .model
            .tasks(TaskQuery::new().with_limit(1_000))
            .await
            .unwrap()
            .tasks;
        let found: Vec<_> = all.iter().filter(|task| wanted(task)).cloned().collect();
        if found.is_empty() { all } else { found }
    }

    async fn pick(&self, number: u8, wanted: impl Fn(&TaskRecord) -> bool) -> Option<TaskRecord> {
        let found = self.candidates(wanted).await;
        found.get(usize::from(number) % found.len().max(1)).cloned()
    }

    /// The proof of a holder of a running task, if any runs.
    async fn fence(&self, number: u8, age: Age) -> Fence {
        let picked = self.pick(number, |task| task.status == Status::Running).await;
        let (task, epoch) = picked.map_or((id(number), 1), |task| (task.id, task.lease_epoch));
        match age {
            Age::Current => Fence { task, epoch },
            Age::Old => Fence {
                task,
                epoch: epoch.wrapping_sub(1),
            },
        }
    }

    /// Some task, mostly one that is there.
    async fn some(&self, number: u8) -> TaskId {
        self.pick(number, |_| true)
            .await
            .map_or(id(number), |task| task.id)
    }

    /// Tasks to wait for: children of the waiter if it has any.
    async fn below(&self, waiter: TaskId, numbers: &[u8]) -> Vec<TaskId> {
        let mut below = Vec::new();
        for number in numbers {
            let open = |task: &TaskRecord| task.parent_id == Some(waiter);
            below.extend(self.pick(*number, open).await.map(|task| task.id));
        }
        below
    }

    async fn op(&self, act: &Act) -> Op {
        match act {
            Act::Create {
                slot,
                parent,
                priority,
                queue,
                start,
                key,
                attempts,
            } => {
                let mut new = NewTask::new(id(*slot), name("kind", slot % 2), name("title", *slot));
                if let Some(parent) = parent {
                    new.parent = Some(self.some(*parent).await);
                }
                new.priority = *priority;
                new.queue = name("queue", *queue);
                new.start = *start;
                new.key = key.map(|key| name("key", key));
                new.max_attempts = *attempts;
                new.payload = Json::Int(i64::from(*slot));
                Op::Create(Box::new(new))
            }
            Act::Start(slot) => Op::Start(self.some(*slot).await),
            Act::Heartbeat(slot, age) => Op::Heartbeat {
                fence: self.fence(*slot, *age).await,
                lease_ms: 200,
            },
            Act::Append(slot, age, key) => {
                let mut message = NewMessage::new(Role::Assistant, "text");
                message.key = key.map(|key| name("key", key));
                let (task, epoch) = match age {
                    Some(age) => {
                        let fence = self.fence(*slot, *age).await;
                        (fence.task, Some(fence.epoch))
                    }
                    None => (self.some(*slot).await, None),
                };
                Op::Append {
                    task,
                    epoch,
                    message: Box::new(message),
                }
            }
            Act::Complete(slot, age) => Op::Complete {
                fence: self.fence(*slot, *age).await,
                result: Json::from("ok"),
            },
            Act::Fail(slot, age, retry) => Op::Fail {
                fence: self.fence(*slot, *age).await,
                error: "no".to_owned(),
                retry: *retry,
            },
            Act::Release(slot, age, delay_ms) => Op::Release {
                fence: self.fence(*slot, *age).await,
                delay_ms: *delay_ms,
            },
            Act::Cancel(slot, mode) => Op::Cancel {
                task: self.some(*slot).await,
                mode: *mode,
            },
            Act::Stop(slot, age) => Op::Stop(self.fence(*slot, *age).await),
            Act::Gather(slot, age, numbers, policy) => {
                let fence = self.fence(*slot, *age).await;
                Op::Gather {
                    fence,
                    tasks: self.below(fence.task, numbers).await,
                    policy: *policy,
                }
            }
        }
    }

    /// Does the step in both stores; they must answer the same.
    async fn run(&self, step: &Step) {
        match step {
            Step::Apply(acts) => {
                let mut writes = Vec::new();
                for act in acts {
                    writes.push(Write::from(self.op(act).await).with_durability(Durability::Process));
                }
                let model = self.model.store().apply(writes.clone()).await.unwrap();
                let sqlite = self.sqlite.store().apply(writes.clone()).await.unwrap();
                assert_eq!(format!("{model:?}"), format!("{sqlite:?}"), "{writes:?}");
            }
            Step::Claim {
                max,
                queue,
                kind,
                task,
                lease_ms,
            } => {
                let mut req = ClaimReq::new(HandlerId::new("worker").unwrap())
                    .with_max(*max)
                    .with_lease_ms(*lease_ms);
                req.queues = queue.map(|queue| name("queue", queue)).into_iter().collect();
                req.kinds = kind.map(|kind| name("kind", kind)).into_iter().collect();
                req.task = task.map(id);
                let model = self.model.claim(req.clone()).await.unwrap();
                assert_eq!(model, self.sqlite.claim(req).await.unwrap());
            }
            Step::Due(limit) => {
                let model = self.model.store().due(*limit).await.unwrap();
                assert_eq!(model, self.sqlite.store().due(*limit).await.unwrap());
            }
            Step::Sleep(ms) => self.clock.advance_ms(*ms),
        }
    }

    /// Everything that both stores hold is the same, and it is sound.
    async fn check(&self) {
        let world = World::read(&self.model).await;
        assert_eq!(world, World::read(&self.sqlite).await);
        world.check();
    }
}

/// Everything that a store holds.
#[derive(Debug, PartialEq)]
struct World {
    tasks: Vec<TaskRecord>,
    messages: Vec<MessageRecord>,
    events: Vec<EventRecord>,
    counts: [u64; 7],
}

impl World {
    async fn read(processor: &Processor) -> Self {
        let tasks = processor
            .tasks(TaskQuery::new().with_limit(1_000))
            .await
            .unwrap()
            .tasks;
        let mut messages = Vec::new();
        for task in &tasks {
            messages.extend(
                processor
                    .messages(task.id, MessageQuery::new().with_limit(1_000))
                    .await
                    .unwrap()
                    .messages,
            );
        }
        let mut events = Vec::new();
        loop {
            let after = events.last().map_or(0, |event: &EventRecord| event.seq);
            let page = processor
                .events_of(EventQuery {
                    after,
                    task: None,
                    limit: 1_000,
                })
                .await
                .unwrap();
            if page.events.is_empty() {
                break;
            }
            events.extend(page.events);
        }
        let counts = processor.counts().await.unwrap().0;
        Self {
            tasks,
            messages,
            events,
            counts,
        }
    }

    fn check(&self) {
        let mut replay = Replay::default();
        for event in &self.events {
            replay.push(event).unwrap();
        }
        let mut open = BTreeMap::new();
        for task in &self.tasks {
            assert_eq!(
                replay.get(task.id),
                Some(&Replayed::from(task)),
                "the log replays"
            );
            let running = task.status == Status::Running;
            assert_eq!(
                running,
                task.handler_id.is_some(),
                "one holder exactly while it runs"
            );
            assert_eq!(running, task.lease_until.is_some());
            assert_eq!(
                task.status == Status::Blocked,
                task.waiting_on > 0,
                "blocked is waiting"
            );
            assert_eq!(task.status.is_terminal(), task.finished_at.is_some());
            assert!(task.attempt <= task.max_attempts, "{task:?}");
            if let Some(parent) = task.parent_id.filter(|_| !task.status.is_terminal()) {
                *open.entry(parent).or_insert(0) += 1;
            }
        }
        for task in &self.tasks {
            assert_eq!(
                task.open_children,
                open.get(&task.id).copied().unwrap_or(0),
                "open children are exact"
            );
        }
        for status in Status::ALL {
            let counted = self.tasks.iter().filter(|task| task.status == status).count();
            assert_eq!(self.counts[status as usize], counted as u64, "{status}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 500,
        failure_persistence: None, ..ProptestConfig::default() })]

    /// For every sequence of operations, SQLite answers and holds what the model does; the tree's
    /// counters are exact, and the log alone rebuilds it.
    #[test]
    fn sqlite_agrees_with_memory(steps in vec(step(), 20..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let pair = Pair::new().await;
            for step in &steps {
                pair.run(step).await;
            }
            pair.check().await;
        });
    }
}
