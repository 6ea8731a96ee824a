//! A semaphore that workers hold, wait for and hand on, while any of them or all of them may die.

use aion_processor::{NewPrimitive, NewTask, PrimitiveKind, Return, Want};
use aion_types::Json;
use stateright::{Checker, HasDiscoveries, Model, Property};

use super::*;

const NAME: &str = "semaphore";
const LEASE_MS: u64 = 10;
/// So far the clock goes on when leases are to end.
const LONG_MS: i64 = 100;

/// What is put in between workers and store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// What is given back is acknowledged, but kept.
    LostReturn,
    /// One more fits than was said.
    OneTooMany,
}

#[derive(Debug)]
struct Lines {
    fault: Fault,
    permits: u32,
    /// What each worker's task wants.
    units: [u32; 3],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Act {
    Claim(usize),
    Acquire(usize),
    Return(usize),
    Complete(usize),
    /// The process that all workers live in ends: they forget what they hold.
    Restart,
    /// So much time passes that all leases are over, and the reaper comes.
    Expire,
}

/// A number that only grows: two states that differ in nothing else are the same.
#[derive(Debug, Clone, Copy)]
struct Counter<T>(T);

impl<T> PartialEq for Counter<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for Counter<T> {}

impl<T> Hash for Counter<T> {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// What a worker believes to have, and whether it is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Belief {
    epoch: Counter<u64>,
    is_current: bool,
    token: Option<Counter<u64>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct View {
    at_ms: Counter<i64>,
    tasks: Vec<Status>,
    workers: [Option<Belief>; 3],
    /// Who holds how much, and who waits in which order.
    holders: Vec<(TaskId, u32)>,
    line: Vec<(TaskId, u32)>,
    /// Whether something is still held that was given back, as it was acknowledged.
    kept: bool,
    overtaken: bool,
}

fn task(worker: usize) -> TaskId {
    id(worker as u8 + 1)
}

impl Lines {
    fn act(&self, next: &mut State<View>, act: Act) -> Option<()> {
        let fence = |view: &View, worker: usize| {
            let epoch = view.workers[worker]?.epoch.0;
            let task = task(worker);
            Some(Fence { task, epoch })
        };
        match act {
            Act::Claim(worker) => {
                let lease = next.world.claim(worker, task(worker), LEASE_MS)?;
                next.view.workers[worker] = Some(Belief {
                    epoch: Counter(lease.epoch),
                    is_current: true,
                    token: None,
                });
            }
            Act::Acquire(worker) => {
                let mut want = Want::new(fence(&next.view, worker)?, NAME);
                want.units = self.units[worker];
                let answer = next.world.apply(Op::Acquire(want));
                let belief = next.view.workers[worker].as_mut()?;
                match answer {
                    Ok(Done::Grant(grant)) => belief.token = Some(Counter(grant.token)),
                    _ => next.view.workers[worker] = None,
                }
            }
            Act::Return(worker) => {
                let token = next.view.workers[worker]?.token?.0;
                let op = Op::Return {
                    fence: fence(&next.view, worker)?,
                    primitive: NAME.to_owned(),
                    token,
                    how: Return::Done,
                };
                if self.fault == Fault::LostReturn || next.world.apply(op).is_ok() {
                    let holders = next.world.waits().holders;
                    next.view.kept |= holders.iter().any(|holder| holder.grant.token == token);
                    next.view.workers[worker].as_mut()?.token = None;
                } else {
                    next.view.workers[worker] = None;
                }
            }
            Act::Complete(worker) => {
                let fence = fence(&next.view, worker)?;
                let result = Json::Null;
                drop(next.world.apply(Op::Complete { fence, result }));
                next.view.workers[worker] = None;
            }
            Act::Restart => next.view.workers = [None; 3],
            Act::Expire => {
                next.view.at_ms.0 += LONG_MS;
                next.world = next.world.fork(next.view.at_ms.0);
                next.world.due();
            }
        }
        Some(())
    }
}

impl View {
    fn look(&mut self, world: &World) {
        let waits = world.waits();
        let before = std::mem::take(&mut self.line);
        let tasks: Vec<Stands> = (0..3).map(|worker| world.stands(task(worker))).collect();
        for (belief, task) in self.workers.iter_mut().zip(&tasks) {
            if let Some(belief) = belief {
                belief.is_current = task.status == Status::Running && task.epoch == belief.epoch.0;
            }
        }
        self.tasks = tasks.into_iter().map(|task| task.status).collect();
        self.line = waits
            .waiters
            .iter()
            .map(|waiter| (waiter.task, waiter.units))
            .collect();
        let held: Vec<TaskId> = self.holders.iter().map(|(task, _)| *task).collect();
        let holders = waits.holders.iter();
        self.holders = holders.map(|holder| (holder.task, holder.grant.units)).collect();
        // Whoever got something now must have been the first of those who waited, if any still waits.
        let mut new = self.holders.iter().filter(|(task, _)| !held.contains(task));
        let first_of_before = before.first().map(|(task, _)| *task);
        let still = |task: TaskId| self.line.iter().any(|(waiting, _)| *waiting == task);
        self.overtaken |=
            new.any(|(task, _)| first_of_before.is_some_and(|first| first != *task && still(first)));
    }
}

/// Whether everything can still be finished: leases end, then each task that is ready takes its turn.
fn can_finish(model: &Lines, state: &State<View>) -> bool {
    let world = state.world.fork(state.view.at_ms.0 + LONG_MS);
    world.due();
    for _ in 0..12 {
        for worker in 0..3 {
            let Some(lease) = world.claim(worker, task(worker), LEASE_MS) else {
                continue;
            };
            let mut want = Want::new(lease.fence(), NAME);
            want.units = model.units[worker];
            if let Ok(Done::Grant(_)) = world.apply(Op::Acquire(want)) {
                let (fence, result) = (lease.fence(), Json::Null);
                world.apply(Op::Complete { fence, result }).unwrap();
            }
        }
    }
    (0..3).all(|worker| world.stands(task(worker)).status.is_terminal())
}

const FITS: &str = "no more is held than fits";
const FREE: &str = "what was given back is free";

impl Model for Lines {
    type State = State<View>;
    type Action = Act;

    fn init_states(&self) -> Vec<Self::State> {
        let world = World::new(1_000);
        let permits = self.permits + u32::from(self.fault == Fault::OneTooMany);
        let semaphore = NewPrimitive::new(NAME, PrimitiveKind::Semaphore { permits });
        world.apply(Op::Declare(semaphore)).unwrap();
        for worker in 0..3 {
            let new = NewTask::new(task(worker), "test", "A task");
            world.apply(Op::Create(Box::new(new))).unwrap();
        }
        let mut view = View {
            at_ms: Counter(START_MS),
            tasks: Vec::new(),
            workers: [None; 3],
            holders: Vec::new(),
            line: Vec::new(),
            kept: false,
            overtaken: false,
        };
        view.look(&world);
        vec![State { world, view }]
    }

    fn actions(&self, state: &Self::State, actions: &mut Vec<Act>) {
        for (worker, belief) in state.view.workers.iter().enumerate() {
            match belief {
                None => actions.push(Act::Claim(worker)),
                Some(Belief { token: None, .. }) => {
                    actions.extend([Act::Acquire(worker), Act::Complete(worker)]);
                }
                Some(_) => actions.extend([Act::Return(worker), Act::Complete(worker)]),
            }
        }
        if state.view.workers.iter().any(Option::is_some) {
            actions.push(Act::Restart);
        }
        actions.push(Act::Expire);
    }

    fn next_state(&self, state: &Self::State, act: Act) -> Option<Self::State> {
        let mut next = State {
            world: state.world.fork(state.view.at_ms.0),
            view: state.view.clone(),
        };
        self.act(&mut next, act)?;
        next.view.look(&next.world);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(FITS, |model: &Self, state: &State<View>| {
                let held: u32 = state.view.holders.iter().map(|(_, units)| units).sum();
                held <= model.permits
            }),
            Property::always(FREE, |_, state: &State<View>| !state.view.kept),
            Property::always("no wake-up is lost", |model: &Self, state: &State<View>| {
                let held: u32 = state.view.holders.iter().map(|(_, units)| units).sum();
                let first = state.view.line.first();
                first.is_none_or(|(_, units)| held + units > model.permits)
            }),
            Property::always("nobody is overtaken", |_, state: &State<View>| {
                !state.view.overtaken
            }),
            Property::always("only the living hold", |_, state: &State<View>| {
                let holders = state.view.holders.iter();
                holders
                    .clone()
                    .all(|(task, _)| !state.world.stands(*task).status.is_terminal())
            }),
            Property::always(
                "whoever waits is blocked, and only they are",
                |_, state: &State<View>| {
                    (0..3).all(|worker| {
                        let waits = state
                            .view
                            .line
                            .iter()
                            .any(|(waiting, _)| *waiting == task(worker));
                        waits == (state.view.tasks[worker] == Status::Blocked)
                    })
                },
            ),
            Property::always("everything can still be finished", can_finish),
            Property::always("the log tells the same", |_, state: &State<View>| {
                state.world.fault_of_log().is_none()
            }),
            Property::sometimes("two wait", |_, state: &State<View>| state.view.line.len() == 2),
            Property::sometimes("a turn comes while nobody works", |_, state: &State<View>| {
                let woken = |(task, _): &(TaskId, u32)| state.world.stands(*task).status == Status::Ready;
                state.view.workers == [None; 3] && state.view.holders.iter().any(woken)
            }),
        ]
    }
}

fn check(permits: u32, units: [u32; 3]) -> usize {
    let fault = Fault::None;
    let model = Lines {
        fault,
        permits,
        units,
    };
    let checked = model.checker().spawn_bfs().join();
    checked.assert_properties();
    checked.unique_state_count()
}

/// In every order of claims, waits, returns, ends, deaths of everybody, and expiry: a mutex of one permit, and
/// wishes of different sizes.
#[test]
fn lines_are_safe_in_every_order() {
    let states = [check(1, [1, 1, 1]), check(2, [1, 2, 1])];
    println!("{states:?} states");
    assert!(states.iter().all(|states| *states > 500));
}

/// The model finds a return that is lost, and a semaphore that lets in one too many.
#[test]
fn faulty_lines_are_found() {
    for (fault, found) in [(Fault::LostReturn, FREE), (Fault::OneTooMany, FITS)] {
        let model = Lines {
            fault,
            permits: 1,
            units: [1; 3],
        };
        let checker = model.checker().finish_when(HasDiscoveries::AnyFailures);
        checker.spawn_bfs().join().assert_any_discovery(found);
    }
}
