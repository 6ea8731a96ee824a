//! One task, workers that may stand still and come back, and the reaper.

use aion_processor::{CancelMode, NewMessage, NewTask, Retry};
use aion_types::{Json, Role};
use stateright::{Checker, HasDiscoveries, Model, Property};

use super::*;

const WORKERS: usize = 3;
const LEASE_MS: u64 = 2;
/// How long the world goes on, and how often the task is handed out.
const LAST_MS: i64 = START_MS + 4;
const LAST_EPOCH: u64 = 3;

/// What is put in between workers and store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// The epoch that a worker gives is not looked at.
    AnyEpoch,
    /// Leases end before their time.
    EagerReaper,
}

#[derive(Debug)]
struct Leases {
    fault: Fault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Act {
    Tick,
    Reap,
    Claim(usize),
    Heartbeat(usize),
    Append(usize),
    /// Makes a child, once.
    Spawn(usize),
    Complete(usize),
    Fail(usize),
    Release(usize),
    /// A worker dies and forgets; one that stands still just does nothing for long.
    Die(usize),
    Cancel,
}

/// What a worker believes to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Belief {
    epoch: u64,
    until: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct View {
    at_ms: i64,
    task: Stands,
    workers: [Option<Belief>; WORKERS],
    /// Under which epoch the end was acknowledged.
    ended: Option<u64>,
    /// Holders that vanished since one failed or gave the task back.
    in_row: u32,
    refused: bool,
    broken: Option<&'static str>,
}

const STALE: &str = "a worker that lost its lease writes nothing";
const EARLY: &str = "a lease lasts as long as was promised";
const TWICE: &str = "no epoch is given to two";

impl Leases {
    /// What a worker's write says of who holds the task.
    fn fence(&self, state: &State<View>, worker: usize) -> Option<Fence> {
        let belief = state.view.workers[worker]?;
        let epoch = match self.fault {
            Fault::AnyEpoch => state.view.task.epoch,
            _ => belief.epoch,
        };
        Some(Fence { task: id(1), epoch })
    }

    /// A worker's write; one that is refused tells it that it holds nothing any more.
    fn write(&self, state: &State<View>, next: &mut State<View>, worker: usize, op: Op) {
        let belief = state.view.workers[worker].unwrap();
        let (before, ends) = (&state.view.task, matches!(op, Op::Complete { .. }));
        let drops = !matches!(op, Op::Heartbeat { .. } | Op::Append { .. } | Op::Create(_));
        let holds = before.status == Status::Running && before.handler == Some(handler(worker));
        let holds = holds && before.epoch == belief.epoch;
        match next.world.apply(op) {
            Ok(done) => {
                // Whoever says again how its task ended is told that it has, and nothing is written.
                if !holds && next.world.record(id(1)) != state.world.record(id(1)) {
                    next.view.broken = Some(STALE);
                }
                let stands = next.world.stands(id(1)).status;
                if drops && matches!(stands, Status::Ready | Status::Preparing) {
                    next.view.in_row = 0;
                }
                if ends {
                    next.view.ended = Some(belief.epoch);
                }
                if let Done::Heartbeat(beat) = done {
                    next.view.workers[worker] = Some(Belief {
                        until: beat.until,
                        ..belief
                    });
                }
                if drops && !ends {
                    next.view.workers[worker] = None;
                }
            }
            Err(_) => {
                next.view.refused = true;
                next.view.workers[worker] = None;
            }
        }
    }

    fn claim(&self, state: &State<View>, next: &mut State<View>, worker: usize) {
        let Some(lease) = next.world.claim(worker, id(1), LEASE_MS) else {
            return;
        };
        let others = state.view.workers.iter().flatten();
        if others.clone().any(|belief| belief.epoch == lease.epoch) {
            next.view.broken = Some(TWICE);
        }
        next.view.workers[worker] = Some(Belief {
            epoch: lease.epoch,
            until: lease.until,
        });
    }

    fn reap(&self, state: &State<View>, next: &mut State<View>) {
        if self.fault == Fault::EagerReaper {
            next.world = state.world.fork(state.view.at_ms + 1);
        }
        next.world.due();
        let now = Timestamp::from_ms(state.view.at_ms);
        let vanished = (state.view.task.status, next.world.stands(id(1)).status);
        if matches!(vanished, (Status::Running, Status::Ready | Status::Failed)) {
            next.view.in_row += 1;
        }
        let held = state.view.task.status == Status::Running && state.view.task.until > Some(now);
        if held && next.world.stands(id(1)).status != Status::Running {
            next.view.broken = Some(EARLY);
        }
    }
}

impl Model for Leases {
    type State = State<View>;
    type Action = Act;

    fn init_states(&self) -> Vec<Self::State> {
        let world = World::new(2);
        let new = NewTask::new(id(1), "test", "A task").with_max_attempts(2);
        world.apply(Op::Create(Box::new(new))).unwrap();
        let view = View {
            at_ms: START_MS,
            task: world.stands(id(1)),
            workers: [None; WORKERS],
            ended: None,
            in_row: 0,
            refused: false,
            broken: None,
        };
        vec![State { world, view }]
    }

    fn actions(&self, state: &Self::State, actions: &mut Vec<Act>) {
        if state.view.at_ms < LAST_MS {
            actions.push(Act::Tick);
        }
        actions.extend([Act::Reap, Act::Cancel]);
        for (worker, belief) in state.view.workers.iter().enumerate() {
            if belief.is_none() {
                actions.push(Act::Claim(worker));
                continue;
            }
            let writes = [
                Act::Heartbeat,
                Act::Append,
                Act::Spawn,
                Act::Complete,
                Act::Fail,
                Act::Release,
                Act::Die,
            ];
            actions.extend(writes.map(|act| act(worker)));
        }
    }

    fn next_state(&self, state: &Self::State, act: Act) -> Option<Self::State> {
        let mut next = State {
            world: state.world.fork(state.view.at_ms),
            view: state.view.clone(),
        };
        let fence = |worker| self.fence(state, worker);
        match act {
            Act::Tick => next.view.at_ms += 1,
            Act::Reap => self.reap(state, &mut next),
            Act::Claim(worker) => self.claim(state, &mut next, worker),
            Act::Die(worker) => next.view.workers[worker] = None,
            Act::Cancel => {
                let mode = CancelMode::Force;
                let task = id(1);
                drop(next.world.apply(Op::Cancel { task, mode }));
            }
            Act::Heartbeat(worker) => {
                let lease_ms = LEASE_MS;
                let fence = fence(worker)?;
                self.write(state, &mut next, worker, Op::Heartbeat { fence, lease_ms });
            }
            Act::Append(worker) => {
                let message = Box::new(NewMessage::new(Role::Assistant, "here").with_key("once"));
                let Fence { task, epoch } = fence(worker)?;
                let epoch = Some(epoch);
                self.write(state, &mut next, worker, Op::Append { task, epoch, message });
            }
            Act::Spawn(worker) => {
                let child = NewTask::new(id(2), "test", "A child").with_parent(id(1));
                let child = Box::new(child.with_fence(fence(worker)?));
                self.write(state, &mut next, worker, Op::Create(child));
            }
            Act::Complete(worker) => {
                let (fence, result) = (fence(worker)?, Json::Null);
                self.write(state, &mut next, worker, Op::Complete { fence, result });
            }
            Act::Fail(worker) => {
                let (fence, error, retry) = (fence(worker)?, "no".to_owned(), Retry::AfterMs(0));
                self.write(state, &mut next, worker, Op::Fail { fence, error, retry });
            }
            Act::Release(worker) => {
                let (fence, delay_ms) = (fence(worker)?, 0);
                self.write(state, &mut next, worker, Op::Release { fence, delay_ms });
            }
        }
        next.view.task = next.world.stands(id(1));
        Some(next)
    }

    fn within_boundary(&self, state: &Self::State) -> bool {
        state.view.task.epoch <= LAST_EPOCH
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(STALE, |_, state: &State<View>| state.view.broken != Some(STALE)),
            Property::always(EARLY, |_, state: &State<View>| state.view.broken != Some(EARLY)),
            Property::always(TWICE, |_, state: &State<View>| state.view.broken != Some(TWICE)),
            Property::always("one worker at most holds the task", |_, state: &State<View>| {
                let view = &state.view;
                let live = |belief: &&Belief| belief.epoch == view.task.epoch;
                view.task.status != Status::Running || view.workers.iter().flatten().filter(live).count() <= 1
            }),
            Property::always("an end that was acknowledged stays", |_, state: &State<View>| {
                let view = &state.view;
                let stands = (view.task.status, view.task.epoch);
                view.ended
                    .is_none_or(|epoch| stands == (Status::Completed, epoch))
            }),
            Property::always(
                "holders that vanish are counted in a row",
                |_, state: &State<View>| state.view.task.crashes == state.view.in_row,
            ),
            Property::always("whoever dies is found out", |_, state: &State<View>| {
                let later = state.world.fork(LAST_MS + 100);
                later.due();
                later.stands(id(1)).status != Status::Running
            }),
            Property::always("the log tells the same", |_, state: &State<View>| {
                state.world.fault_of_log().is_none()
            }),
            Property::sometimes("a worker that comes back is refused", |_, state: &State<View>| {
                state.view.refused && state.view.task.status == Status::Running
            }),
            Property::sometimes("another one finishes", |_, state: &State<View>| {
                state.view.ended.is_some_and(|epoch| epoch > 1) && state.view.task.crashes > 0
            }),
            Property::sometimes("a task that fails too often fails", |_, state: &State<View>| {
                state.view.task.status == Status::Failed
            }),
        ]
    }
}

/// In every order of claims, heartbeats, writes, deaths, returns of the dead, and reaping.
#[test]
fn leases_are_safe_in_every_order() {
    let checked = Leases { fault: Fault::None }.checker().spawn_bfs().join();
    checked.assert_properties();
    println!("{} states", checked.unique_state_count());
    assert!(checked.unique_state_count() > 1_500);
}

/// The model finds a store that does not look at epochs, and one that ends leases early.
#[test]
fn faulty_leases_are_found() {
    for (fault, found) in [(Fault::AnyEpoch, STALE), (Fault::EagerReaper, EARLY)] {
        let model = Leases { fault }
            .checker()
            .finish_when(HasDiscoveries::AnyFailures);
        model.spawn_bfs().join().assert_any_discovery(found);
    }
}
