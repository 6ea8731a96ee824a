//! For every sequence of operations, the stores on a file and on a server answer and hold what the store in
//! memory does.

mod acts;
mod world;

use aion_processor::testkit::limits;
use aion_processor::{
    Call, CallMode, ClaimOrder, ClaimReq, Durability, Error, Expect, Fence, GatherPolicy, MemTaskStore,
    NewMessage, NewPrimitive, NewSchedule, NewTask, Op, Order, Overlap, PostgresOptions, PostgresTaskStore,
    PrimitiveKind, Processor, PutObject, Retry, Signal, SqliteOptions, SqliteTaskStore, TaskQuery, Want,
    Write,
};
use aion_types::{Clock, HandlerId, Json, ManualClock, Role, Status, TaskId, TaskRecord, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use self::acts::{Act, Age, End, Fair, PRIMITIVES, START_MS, Step, Told, step};
use self::world::World;
use crate::postgres::{Kept, database};

fn id(slot: u8) -> TaskId {
    TaskId::from_parts(Timestamp::from_ms(START_MS), [slot; 10])
}

fn name(prefix: &str, n: u8) -> String {
    format!("{prefix}-{n}")
}

/// The store in memory and those that must agree with it, under one clock.
struct Stores {
    clock: ManualClock,
    model: Processor,
    others: Vec<Processor>,
    _directory: tempfile::TempDir,
    _server: Option<Kept>,
}

impl Stores {
    /// With `server`, also a database of its own on a server.
    async fn new(server: Option<Kept>) -> Self {
        let clock = ManualClock::at(Timestamp::from_ms(START_MS));
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteOptions::default()
            .with_clock(clock.clone())
            .with_limits(limits());
        let sqlite = SqliteTaskStore::open(directory.path().join("p.db"), options)
            .await
            .unwrap();
        let mut others = vec![Processor::new(sqlite)];
        if let Some(server) = &server {
            let options = PostgresOptions::default()
                .with_clock(clock.clone())
                .with_limits(limits())
                .with_connections(6);
            let postgres = PostgresTaskStore::open(&server.url(), options).await.unwrap();
            others.push(Processor::new(postgres));
        }
        let stores = Self {
            model: Processor::new(MemTaskStore::new(clock.clone(), limits())),
            others,
            clock,
            _directory: directory,
            _server: server,
        };
        stores.furnish().await;
        stores
    }

    /// Primitives, an object and a schedule to work with.
    async fn furnish(&self) {
        let kinds = [
            PrimitiveKind::Semaphore { permits: 3 },
            PrimitiveKind::Mutex,
            PrimitiveKind::Event,
            PrimitiveKind::TimestampLock,
            PrimitiveKind::Queue { capacity: 3 },
        ];
        let mut ops: Vec<_> = PRIMITIVES
            .into_iter()
            .zip(kinds)
            .map(|(name, kind)| Op::Declare(NewPrimitive::new(name, kind)))
            .collect();
        ops.push(Op::PutObject(Box::new(PutObject::new(
            name("object", 0),
            Json::Int(0),
        ))));
        let task = NewTask::new(id(255), name("kind", 0), "scheduled");
        let often = NewSchedule::new("often", "* * * * * *", task).with_overlap(Overlap::Skip);
        ops.push(Op::PutSchedule(Box::new(often)));
        self.apply(ops).await;
    }

    /// One of the tasks that the query finds, or else of all of them.
    async fn pick(&self, number: u8, wanted: TaskQuery) -> Option<TaskRecord> {
        for query in [wanted, TaskQuery::new()] {
            let found = self.model.tasks(query.with_limit(100)).await.unwrap().tasks;
            if !found.is_empty() {
                return found.get(usize::from(number) % found.len()).cloned();
            }
        }
        None
    }

    /// The proof of a holder of a running task, if any runs.
    async fn fence(&self, number: u8, age: Age) -> Fence {
        let running = TaskQuery::new().with_statuses([Status::Running]);
        let picked = self.pick(number, running).await;
        let (task, epoch) = picked.map_or((id(number), 1), |task| (task.id, task.lease_epoch));
        match age {
            Age::Current => Fence { task, epoch },
            Age::Old => Fence {
                task,
                epoch: epoch.wrapping_sub(1),
            },
        }
    }

    /// Some task, mostly a young one that is there.
    async fn some(&self, number: u8) -> TaskId {
        let newest = TaskQuery::new().with_order(Order::Newest);
        let picked = self.pick(number, newest).await;
        picked.map_or(id(number), |task| task.id)
    }

    /// Tasks to wait for: children of the waiter if it has any.
    async fn below(&self, waiter: TaskId, numbers: &[u8]) -> Vec<TaskId> {
        let mut below = Vec::new();
        for number in numbers {
            let children = TaskQuery::new().with_parent(waiter);
            below.extend(self.pick(*number, children).await.map(|task| task.id));
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
                concurrency,
                by,
                deadline,
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
                if let Some(n) = concurrency {
                    new = new.with_concurrency(name("key", *n), u32::from(*n) + 1);
                }
                new.deadline = deadline.map(|ms| Timestamp::from_ms(START_MS + ms));
                if let Some((slot, age)) = by {
                    new = new.with_fence(self.fence(*slot, *age).await);
                }
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
            Act::Record(slot, age, step, n) => Op::Step {
                fence: self.fence(*slot, *age).await,
                name: name("step", *step),
                result: Json::Int(*n),
            },
            Act::Complete(slot, age) => Op::Complete {
                fence: self.fence(*slot, *age).await,
                result: Json::from("ok"),
            },
            Act::CompleteAndClaim(slot, age) => Op::CompleteAndClaim {
                fence: self.fence(*slot, *age).await,
                result: Json::from("ok"),
                claim: Box::new(ClaimReq::new(HandlerId::new("next").unwrap()).with_lease_ms(100)),
            },
            Act::CancelTree(slot, mode) => Op::CancelTree {
                task: self.some(*slot).await,
                mode: *mode,
            },
            Act::Acquire {
                slot,
                age,
                primitive,
                units,
                patience,
            } => {
                let mut want = Want::new(self.fence(*slot, *age).await, primitive_name(*primitive));
                want.units = if *primitive == 0 { *units } else { 1 };
                want.until = patience.map(|ms| self.clock.now().plus_ms(ms));
                Op::Acquire(want)
            }
            Act::Return(slot, age, primitive, how) => self.give_back(*slot, *age, *primitive, *how).await,
            Act::Signal(primitive, told) => Op::Signal {
                primitive: primitive_name(*primitive),
                signal: match told {
                    Told::Set => Signal::Set,
                    Told::Reset => Signal::Reset,
                    Told::Pulse => Signal::Pulse,
                    Told::Shut(ms) => Signal::ShutUntil(self.clock.now().plus_ms(*ms)),
                    Told::Item(n) => Signal::Put(Json::Int(i64::from(*n))),
                },
            },
            Act::Put(object, version) => {
                let expect = version.map_or(Expect::Any, Expect::Version);
                let put = PutObject::new(name("object", *object), Json::Int(i64::from(*object)));
                Op::PutObject(Box::new(put.with_expect(expect)))
            }
            Act::Drop(object, version) => Op::DropObject {
                name: name("object", *object),
                expect: version.map_or(Expect::Any, Expect::Version),
            },
            Act::Call(slot, object, mode) => {
                let task = NewTask::new(id(*slot), name("kind", slot % 2), name("call", *slot));
                let call = Call::new(name("object", *object), task);
                Op::Call(Box::new(call.with_mode(match mode {
                    Fair::Yes => CallMode::Exclusive,
                    Fair::No => CallMode::Shared,
                })))
            }
            Act::Weigh(queue, weight) => Op::Weigh {
                queue: name("queue", *queue),
                weight: *weight,
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

    /// Gives back what a holder mostly holds.
    async fn give_back(&self, slot: u8, age: Age, primitive: u8, how: aion_processor::Return) -> Op {
        let waits = self.model.waits(Some(primitive_name(primitive))).await.unwrap();
        let holder = waits.holders.get(usize::from(slot) % waits.holders.len().max(1));
        let (fence, token) = match holder {
            Some(holder) => {
                let epoch = self.model.get(holder.task).await.unwrap().lease_epoch;
                let task = holder.task;
                (Fence { task, epoch }, holder.grant.token)
            }
            None => (self.fence(slot, age).await, 1),
        };
        Op::Return {
            fence,
            primitive: primitive_name(primitive),
            token,
            how,
        }
    }

    /// Does the operations in all stores; they must answer the same, and it must make sense.
    async fn apply(&self, ops: Vec<Op>) {
        let writes: Vec<_> = ops
            .into_iter()
            .map(|op| Write::from(op).with_durability(Durability::Process))
            .collect();
        let model = self.model.store().apply(writes.clone()).await.unwrap();
        for other in &self.others {
            let answers = other.store().apply(writes.clone()).await.unwrap();
            assert_eq!(
                format!("{model:?}"),
                format!("{answers:?}"),
                "{writes:?} in {other:?}"
            );
        }
        for answer in &model {
            assert!(
                answer.as_ref().err().is_none_or(Error::is_refusal),
                "{answer:?} to {writes:?}"
            );
        }
    }

    async fn claim(&self, req: ClaimReq) -> Vec<Fence> {
        let model = self.model.claim(req.clone()).await.unwrap();
        for other in &self.others {
            assert_eq!(model, other.claim(req.clone()).await.unwrap(), "{other:?}");
        }
        model.iter().map(aion_processor::Lease::fence).collect()
    }

    /// Does the step in all stores; gives how many operations that were.
    async fn run(&self, step: &Step) -> usize {
        match step {
            Step::Apply(acts) => {
                let mut ops = Vec::new();
                for act in acts {
                    ops.push(self.op(act).await);
                }
                self.apply(ops).await;
                return acts.len();
            }
            Step::Claim {
                max,
                queue,
                kind,
                task,
                lease_ms,
                fair,
            } => {
                let mut req = ClaimReq::new(HandlerId::new("worker").unwrap())
                    .with_max(*max)
                    .with_lease_ms(*lease_ms);
                req.queues = queue.map(|queue| name("queue", queue)).into_iter().collect();
                req.kinds = kind.map(|kind| name("kind", kind)).into_iter().collect();
                req.task = task.map(id);
                if *fair == Fair::Yes {
                    req.order = ClaimOrder::Fair;
                }
                self.claim(req).await;
            }
            Step::Family { slot, policy, ends } => return self.family(*slot, *policy, ends).await,
            Step::Due(limit) => {
                let model = self.model.store().due(*limit).await.unwrap();
                for other in &self.others {
                    assert_eq!(model, other.store().due(*limit).await.unwrap(), "{other:?}");
                }
            }
            Step::Sleep(ms) => self.clock.advance_ms(*ms),
            Step::Purge(slot) => {
                let root = self.some(*slot).await;
                self.apply(vec![Op::Purge {
                    root,
                    max: 3,
                    version: None,
                }])
                .await;
            }
        }
        1
    }

    /// A parent that gathers children of its own, each of which ends as it is told.
    async fn family(&self, slot: u8, policy: GatherPolicy, ends: &[End]) -> usize {
        let fresh = |n: usize| {
            let salt = self.model_size();
            async move { TaskId::from_parts(Timestamp::from_ms(START_MS), family_tail(slot, n, salt.await)) }
        };
        let parent = fresh(0).await;
        let mut children = Vec::new();
        for n in 0..ends.len() {
            children.push(fresh(n + 1).await);
        }
        let mut ops = vec![Op::Create(Box::new(NewTask::new(parent, "family", "parent")))];
        let child = |id: &TaskId| NewTask::new(*id, "family", "child").with_parent(parent);
        ops.extend(children.iter().map(|id| Op::Create(Box::new(child(id)))));
        self.apply(ops).await;
        let req = ClaimReq::new(HandlerId::new("family").unwrap()).with_lease_ms(100_000);
        let Some(fence) = self.claim(req.clone().with_task(parent)).await.pop() else {
            return ends.len();
        };
        let tasks = children.clone();
        self.apply(vec![Op::Gather { fence, tasks, policy }]).await;
        for (id, end) in children.iter().zip(ends) {
            self.end(*id, parent, *end, &req).await;
        }
        let stands = self.model.get(parent).await.unwrap().status;
        assert_eq!(stands, outlook(policy, ends), "{policy:?} {ends:?}");
        ends.len() * 3
    }

    async fn end(&self, child: TaskId, parent: TaskId, end: End, req: &ClaimReq) {
        let cancel = |task| Op::Cancel {
            task,
            mode: aion_processor::CancelMode::Force,
        };
        let fence = self.claim(req.clone().with_task(child)).await.pop();
        let op = match (end, fence) {
            (End::Complete, Some(fence)) => Op::Complete {
                fence,
                result: Json::Null,
            },
            (End::Fail, Some(fence)) => Op::Fail {
                fence,
                error: "no".to_owned(),
                retry: Retry::Never,
            },
            (End::Cancel, _) => cancel(child),
            (End::CancelParent, _) => cancel(parent),
            _ => return,
        };
        self.apply(vec![op]).await;
    }

    /// Events so far: makes ids of families that are new.
    async fn model_size(&self) -> u64 {
        self.model.metrics().await.unwrap().last_seq
    }

    /// Everything that the stores hold is the same, and it is sound.
    async fn check(&self) {
        self.same().await.check();
        let req = ClaimReq::new(HandlerId::new("last").unwrap()).with_max(100);
        while !self.claim(req.clone()).await.is_empty() {}
        let world = self.same().await;
        world.check();
        world.check_idle();
    }

    async fn same(&self) -> World {
        let world = World::read(&self.model).await;
        for other in &self.others {
            assert_eq!(world, World::read(other).await, "{other:?}");
        }
        world
    }
}

fn primitive_name(n: u8) -> String {
    PRIMITIVES[usize::from(n) % PRIMITIVES.len()].to_owned()
}

/// Where a parent stands after its children ended like that, by the words of the policies.
fn outlook(policy: GatherPolicy, ends: &[End]) -> Status {
    let (mut open, mut bad) = (ends.len(), false);
    for end in ends {
        match end {
            End::Complete => open -= 1,
            End::Fail | End::Cancel => {
                open -= 1;
                bad = true;
            }
            End::CancelParent => return Status::Cancelled,
            End::Leave => {}
        }
        match (policy, bad, open) {
            (GatherPolicy::FailFast, true, _) | (GatherPolicy::All, true, 0) => return Status::Failed,
            (_, _, 0) => return Status::Ready,
            _ => {}
        }
    }
    Status::Blocked
}

fn family_tail(slot: u8, n: usize, salt: u64) -> [u8; 10] {
    let mut tail = [slot; 10];
    tail[0] = 200;
    tail[1] = n as u8;
    tail[2..].copy_from_slice(&salt.to_be_bytes());
    tail
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 500,
        failure_persistence: None, ..ProptestConfig::default() })]

    /// For every sequence of operations, SQLite answers and holds what the model does; the tree's
    /// counters are exact, nobody waits for what is free, and the log alone rebuilds it.
    #[test]
    fn sqlite_agrees_with_memory(steps in vec(step(), 20..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stores = Stores::new(None).await;
            for step in &steps {
                stores.run(step).await;
            }
            stores.check().await;
        });
    }
}

/// Operations of the long runs together, unless the environment says otherwise: CI asks for 100,000.
const OPERATIONS: usize = 20_000;
/// Of so many operations one is also done on a server, which takes its time; 1 for all of them.
const ON_SERVER: usize = 10;
/// Runs with a server that go on beside each other.
const LANES: u8 = 4;
/// Operations after which the world is looked at as a whole and begun anew.
const WORLD: usize = 400;

fn wanted(variable: &str, otherwise: usize) -> usize {
    let wanted = std::env::var(variable).ok();
    wanted.map_or(otherwise, |n| n.parse().unwrap())
}

/// So many operations, the same every time for a seed; gives how many they were. Without a server where one was
/// wanted there are none.
fn agree(operations: usize, seed: u8, with_server: bool) -> usize {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (steps, mut done) = (step(), 0);
    while done < operations {
        let here = runtime.block_on(async {
            let server = if with_server {
                Some(database().await?)
            } else {
                None
            };
            let (stores, mut here) = (Stores::new(server).await, 0);
            while here < WORLD.min(operations) {
                let step = steps.new_tree(&mut runner).unwrap().current();
                here += stores.run(&step).await;
            }
            stores.check().await;
            Some(here)
        });
        let Some(here) = here else { break };
        done += here;
    }
    done
}

/// The same over a long run.
#[test]
fn sqlite_agrees_for_long() {
    let operations = wanted("AION_MODEL_OPERATIONS", OPERATIONS);
    let share = wanted("AION_MODEL_SERVER_SHARE", ON_SERVER).max(1);
    println!("{} operations", agree(operations - operations / share, 1, false));
}

/// The same over a long run with all three stores, several at once: most of it is waiting for the server.
#[test]
fn a_server_agrees_for_long() {
    let operations = wanted("AION_MODEL_OPERATIONS", OPERATIONS);
    let share = wanted("AION_MODEL_SERVER_SHARE", ON_SERVER).max(1);
    let each = (operations / share).div_ceil(usize::from(LANES));
    let done: usize = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| scope.spawn(move || agree(each, 2 + lane, true)))
            .collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).sum()
    });
    println!("{done} operations");
}
