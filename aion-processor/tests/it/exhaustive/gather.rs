//! A parent that gathers children, which end in every way and order.

use aion_processor::{CancelMode, GatherPolicy, NewTask, Retry};
use aion_types::Json;
use stateright::{Checker, HasDiscoveries, Model, Property};

use super::*;

const PARENT: u8 = 100;
const CHILDREN: usize = 3;
const LEASE_MS: u64 = 100_000;
/// How often the parent gathers at most.
const GATHERS: u8 = 2;

/// What is put in between workers and store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// A child's end is acknowledged, but never made.
    LostEnd,
    /// The store has another policy in mind.
    OtherPolicy,
}

#[derive(Debug)]
struct Gathers {
    fault: Fault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Act {
    /// Waits for the children of a bit mask.
    Gather(Policy, u8),
    End(usize, How),
    /// The parent is claimed again.
    Claim,
    CancelParent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Policy {
    All,
    FailFast,
    Settle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum How {
    Complete,
    Fail,
    Cancel,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct View {
    parent: Stands,
    /// How each child ended, as it was acknowledged.
    ends: [Option<How>; CHILDREN],
    /// What the parent waits for since it last gathered.
    waits: Option<(Policy, u8)>,
    gathers: u8,
    /// Where the parent should stand.
    wanted: Status,
}

fn child(n: usize) -> TaskId {
    id(n as u8 + 1)
}

/// Where a parent stands that waits for these ends, by the words of the policies.
fn outlook(policy: Policy, ends: &[Option<How>]) -> Status {
    let open = ends.iter().any(Option::is_none);
    let bad = ends.iter().flatten().any(|how| *how != How::Complete);
    match (policy, open, bad) {
        (Policy::FailFast, _, true) | (Policy::All, false, true) => Status::Failed,
        (_, true, _) => Status::Blocked,
        _ => Status::Ready,
    }
}

fn listed(mask: u8) -> impl Iterator<Item = usize> {
    (0..CHILDREN).filter(move |n| mask & (1 << n) != 0)
}

impl View {
    fn outlook(&self, policy: Policy, mask: u8) -> Status {
        let ends: Vec<_> = listed(mask).map(|n| self.ends[n]).collect();
        outlook(policy, &ends)
    }

    /// Where the parent should stand after a child ended.
    fn settle(&mut self) {
        if let (Some((policy, mask)), Status::Blocked) = (self.waits, self.wanted) {
            self.wanted = self.outlook(policy, mask);
        }
    }
}

impl Gathers {
    fn gather(&self, next: &mut State<View>, policy: Policy, mask: u8) {
        let told = match (self.fault, policy) {
            (Fault::OtherPolicy, Policy::FailFast) => GatherPolicy::Settle,
            (_, Policy::All) => GatherPolicy::All,
            (_, Policy::FailFast) => GatherPolicy::FailFast,
            (_, Policy::Settle) => GatherPolicy::Settle,
        };
        let op = Op::Gather {
            fence: Fence {
                task: id(PARENT),
                epoch: next.view.parent.epoch,
            },
            tasks: listed(mask).map(child).collect(),
            policy: told,
        };
        next.world.apply(op).unwrap();
        next.view.gathers += 1;
        next.view.waits = Some((policy, mask));
        next.view.wanted = match next.view.outlook(policy, mask) {
            // All have ended: it goes on with its lease.
            Status::Ready => Status::Running,
            status => status,
        };
    }

    fn end(&self, next: &mut State<View>, n: usize, how: How) {
        let task = child(n);
        let fence = Fence { task, epoch: 1 };
        let op = match how {
            How::Complete => Op::Complete {
                fence,
                result: Json::Null,
            },
            How::Fail => Op::Fail {
                fence,
                error: "no".to_owned(),
                retry: Retry::Never,
            },
            How::Cancel => Op::Cancel {
                task,
                mode: CancelMode::Force,
            },
        };
        if self.fault != Fault::LostEnd || n > 0 {
            next.world.apply(op.clone()).unwrap();
            // The answer was lost on the way, and it is said again.
            next.world.apply(op).unwrap();
        }
        next.view.ends[n] = Some(how);
        next.view.settle();
    }
}

impl Model for Gathers {
    type State = State<View>;
    type Action = Act;

    fn init_states(&self) -> Vec<Self::State> {
        let world = World::new(3);
        let parent = NewTask::new(id(PARENT), "test", "Parent");
        world.apply(Op::Create(Box::new(parent))).unwrap();
        for n in 0..CHILDREN {
            // The last is below the first: whoever gathers may list any descendant.
            let above = if n + 1 == CHILDREN { child(0) } else { id(PARENT) };
            let new = NewTask::new(child(n), "test", "Child").with_parent(above);
            world.apply(Op::Create(Box::new(new))).unwrap();
            world.claim(n, child(n), LEASE_MS).unwrap();
        }
        world.claim(CHILDREN, id(PARENT), LEASE_MS).unwrap();
        let view = View {
            parent: world.stands(id(PARENT)),
            ends: [None; CHILDREN],
            waits: None,
            gathers: 0,
            wanted: Status::Running,
        };
        vec![State { world, view }]
    }

    fn actions(&self, state: &Self::State, actions: &mut Vec<Act>) {
        let view = &state.view;
        for n in (0..CHILDREN).filter(|n| view.ends[*n].is_none()) {
            actions.extend([How::Complete, How::Fail, How::Cancel].map(|how| Act::End(n, how)));
        }
        if view.parent.status == Status::Running && view.gathers < GATHERS {
            for policy in [Policy::All, Policy::FailFast, Policy::Settle] {
                actions.extend((1..1 << CHILDREN).map(|mask| Act::Gather(policy, mask)));
            }
        }
        if view.parent.status == Status::Ready {
            actions.push(Act::Claim);
        }
        if !view.parent.status.is_terminal() {
            actions.push(Act::CancelParent);
        }
    }

    fn next_state(&self, state: &Self::State, act: Act) -> Option<Self::State> {
        let mut next = State {
            world: state.world.fork(START_MS),
            view: state.view.clone(),
        };
        match act {
            Act::Gather(policy, mask) => self.gather(&mut next, policy, mask),
            Act::End(n, how) => self.end(&mut next, n, how),
            Act::Claim => {
                next.world.claim(CHILDREN, id(PARENT), LEASE_MS)?;
                next.view.wanted = Status::Running;
            }
            Act::CancelParent => {
                let (task, mode) = (id(PARENT), CancelMode::Force);
                next.world.apply(Op::Cancel { task, mode }).unwrap();
                next.view.wanted = Status::Cancelled;
            }
        }
        next.view.parent = next.world.stands(id(PARENT));
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(STANDS, |_, state: &State<View>| {
                state.view.parent.status == state.view.wanted
            }),
            Property::always(
                "it waits for exactly those that have not ended",
                |_, state: &State<View>| {
                    let view = &state.view;
                    let waits = |(_, mask)| listed(mask).filter(|n| view.ends[*n].is_none()).count();
                    let blocked = view.parent.status == Status::Blocked;
                    let wanted = view.waits.filter(|_| blocked).map_or(0, waits);
                    view.parent.waiting_on as usize == wanted
                },
            ),
            Property::always("open children are exact", |_, state: &State<View>| {
                let own = &state.view.ends[..CHILDREN - 1];
                let open = own.iter().filter(|end| end.is_none()).count();
                state.view.parent.open_children as usize == open
            }),
            Property::always("nobody waits for the dead", |_, state: &State<View>| {
                let waits = state.world.waits().gathers;
                waits
                    .iter()
                    .all(|gather| !state.world.stands(gather.task).status.is_terminal())
            }),
            Property::always("the log tells the same", |_, state: &State<View>| {
                state.world.fault_of_log().is_none()
            }),
            Property::sometimes(
                "a parent is woken although a child failed",
                |_, state: &State<View>| {
                    let view = &state.view;
                    view.parent.status == Status::Ready && view.ends.contains(&Some(How::Fail))
                },
            ),
            Property::sometimes("a parent fails while a child runs", |_, state: &State<View>| {
                state.view.parent.status == Status::Failed && state.view.ends.contains(&None)
            }),
        ]
    }
}

const STANDS: &str = "the parent stands where its policy says";

/// For every policy, every list of descendants, every way and every order of ends.
#[test]
fn gathers_are_right_in_every_order() {
    let checked = Gathers { fault: Fault::None }.checker().spawn_bfs().join();
    checked.assert_properties();
    println!("{} states", checked.unique_state_count());
    assert!(checked.unique_state_count() > 2_000);
}

/// The model finds an end that is lost, and a policy that is mixed up.
#[test]
fn faulty_gathers_are_found() {
    for fault in [Fault::LostEnd, Fault::OtherPolicy] {
        let model = Gathers { fault }
            .checker()
            .finish_when(HasDiscoveries::AnyFailures);
        model.spawn_bfs().join().assert_any_discovery(STANDS);
    }
}
