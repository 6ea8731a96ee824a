//! Small worlds, every order of events: the engine itself is asked in every state that it can reach.
//!
//! A state is a store in memory and what the workers believe. Each step forks the store and carries out one
//! operation by the engine's own code; nothing but rows is handed on, so every step is also a restart. The checker
//! goes through all orders. Each model is run again with a fault put in between workers and store, and must find it.

mod gather;
mod lease;
mod line;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use aion_processor::testkit::limits;
use aion_processor::{
    ClaimReq, Done, DueReport, Error, Fence, Lease, MemTaskStore, Op, Page, Processor, Query, TaskStore,
    Waits, Write,
};
use aion_types::{Clock, HandlerId, ManualClock, Status, TaskId, TaskRecord, Timestamp};
use futures::FutureExt;

/// When worlds begin.
const START_MS: i64 = 1_000;

/// What the store in memory answers, which it does at once.
fn now<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("memory answers at once")
}

fn id(n: u8) -> TaskId {
    TaskId::from_parts(Timestamp::from_ms(START_MS), [n; 10])
}

/// Where a task stands, as far as the rules look at it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Stands {
    status: Status,
    epoch: u64,
    until: Option<Timestamp>,
    handler: Option<HandlerId>,
    crashes: u32,
    waiting_on: u32,
    open_children: u32,
    cancel_requested: bool,
}

impl From<TaskRecord> for Stands {
    fn from(task: TaskRecord) -> Self {
        Self {
            status: task.status,
            epoch: task.lease_epoch,
            until: task.lease_until,
            handler: task.handler_id,
            crashes: task.crash_count,
            waiting_on: task.waiting_on,
            open_children: task.open_children,
            cancel_requested: task.cancel_requested,
        }
    }
}

/// A store in memory under a clock of the model's.
#[derive(Debug, Clone)]
struct World {
    clock: ManualClock,
    store: Arc<MemTaskStore>,
}

impl World {
    /// An empty one, in which a task fails when so many holders vanished.
    fn new(poison_limit: u32) -> Self {
        let clock = ManualClock::at(Timestamp::from_ms(START_MS));
        let limits = limits().with_poison_limit(poison_limit);
        let store = Arc::new(MemTaskStore::new(clock.clone(), limits));
        Self { clock, store }
    }

    /// A copy of it, with the clock at this time.
    fn fork(&self, at_ms: i64) -> Self {
        self.clock.advance_ms(at_ms - self.clock.now().as_ms());
        Self {
            clock: self.clock.clone(),
            store: Arc::new(now(self.store.fork())),
        }
    }

    fn apply(&self, op: Op) -> Result<Done, Error> {
        let mut done = now(self.store.apply(vec![Write::from(op)])).unwrap();
        let done = done.remove(0);
        if let Err(error) = &done {
            assert!(error.is_refusal(), "{error:?}");
        }
        done
    }

    fn claim(&self, worker: usize, task: TaskId, lease_ms: u64) -> Option<Lease> {
        let claim = ClaimReq::new(handler(worker))
            .with_task(task)
            .with_lease_ms(lease_ms);
        now(self.store.claim(claim)).unwrap().pop()
    }

    fn due(&self) -> DueReport {
        now(self.store.due(100)).unwrap()
    }

    fn stands(&self, task: TaskId) -> Stands {
        Stands::from(self.record(task))
    }

    fn record(&self, task: TaskId) -> TaskRecord {
        match now(self.store.read(Query::Task(task))).unwrap() {
            Page::Task(Some(record)) => *record,
            other => panic!("{other:?}"),
        }
    }

    fn waits(&self) -> Waits {
        match now(self.store.read(Query::Waits(None))).unwrap() {
            Page::Waits(waits) => waits,
            other => panic!("{other:?}"),
        }
    }

    /// What is wrong with the log, which must tell the same as the tree.
    fn fault_of_log(&self) -> Option<String> {
        let processor = Processor::over(self.store.clone());
        now(aion_processor::testkit::endurance::sound(&processor)).unwrap()
    }
}

fn handler(worker: usize) -> HandlerId {
    HandlerId::new(format!("worker-{worker}")).unwrap()
}

/// A state of a model: two are the same if what can be seen of them is.
#[derive(Clone)]
struct State<V> {
    world: World,
    view: V,
}

impl<V: PartialEq> PartialEq for State<V> {
    fn eq(&self, other: &Self) -> bool {
        self.view == other.view
    }
}

impl<V: Hash> Hash for State<V> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.view.hash(state);
    }
}

impl<V: fmt::Debug> fmt::Debug for State<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view.fmt(f)
    }
}
