//! Tasks that wait for each other in a circle.
//!
//! A task is live if it may go on without one that is stuck: it is not BLOCKED, or what it waits for
//! may come. The stuck ones are those that no order of events makes live; each of them waits for
//! another one, and following that ends in a circle.

use std::collections::{BTreeMap, BTreeSet};

use aion_types::TaskId;

use crate::{Circle, GatherPolicy, Holder, Link, PrimitiveKind, Waiter, Waits};

/// Circles that are named at most.
const MAX_CIRCLES: usize = 100;

pub(crate) fn circles(waits: &Waits) -> Vec<Circle> {
    let stuck = stuck(waits);
    let mut named = BTreeSet::new();
    let mut circles = Vec::new();
    for start in &stuck {
        let Some(circle) = follow(waits, &stuck, *start) else {
            continue;
        };
        let first = circle.links.iter().map(|link| link.task).min();
        if named.insert(first) {
            circles.push(circle);
        }
        if circles.len() >= MAX_CIRCLES {
            break;
        }
    }
    circles
}

/// The tasks that can never go on by themselves.
fn stuck(waits: &Waits) -> BTreeSet<TaskId> {
    let mut stuck: BTreeSet<TaskId> = waits.waiters.iter().map(|waiter| waiter.task).collect();
    stuck.extend(waits.gathers.iter().map(|gather| gather.waiter));
    free_strangers(waits, &mut stuck);
    loop {
        let before = stuck.len();
        free_lines(waits, &mut stuck);
        free_gathers(waits, &mut stuck);
        if stuck.len() == before {
            return stuck;
        }
    }
}

/// Lets go on whoever waits for something of which nothing is known.
fn free_strangers(waits: &Waits, stuck: &mut BTreeSet<TaskId>) {
    let known: BTreeSet<&str> = waits.primitives.iter().map(|found| found.name.as_str()).collect();
    for waiter in &waits.waiters {
        if !known.contains(waiter.primitive.as_str()) {
            stuck.remove(&waiter.task);
        }
    }
}

fn free_lines(waits: &Waits, stuck: &mut BTreeSet<TaskId>) {
    for primitive in &waits.primitives {
        let line = waits
            .waiters
            .iter()
            .filter(|waiter| waiter.primitive == primitive.name);
        let holders = || {
            waits
                .holders
                .iter()
                .filter(|h| h.grant.primitive == primitive.name)
        };
        let capacity = match primitive.kind {
            PrimitiveKind::Semaphore { permits } => permits,
            PrimitiveKind::Mutex => 1,
            // Somebody outside may still tell it something.
            _ => u32::MAX,
        };
        let lost: u32 = holders()
            .filter(|holder| stuck.contains(&holder.task))
            .map(|holder| holder.grant.units)
            .sum();
        let mut ahead = true;
        for waiter in line {
            let may_come = ahead && capacity.saturating_sub(lost) >= waiter.units.min(capacity);
            if may_come || waiter.until.is_some() {
                stuck.remove(&waiter.task);
            }
            ahead &= !stuck.contains(&waiter.task);
        }
    }
}

fn free_gathers(waits: &Waits, stuck: &mut BTreeSet<TaskId>) {
    let mut by_waiter: BTreeMap<TaskId, (GatherPolicy, Vec<TaskId>)> = BTreeMap::new();
    for gather in &waits.gathers {
        let entry = by_waiter
            .entry(gather.waiter)
            .or_insert((gather.policy, Vec::new()));
        entry.1.push(gather.task);
    }
    for (waiter, (policy, tasks)) in by_waiter {
        let live = |task: &TaskId| !stuck.contains(task);
        let goes_on = match policy {
            // One that fails is enough, and it may be one that was left out.
            GatherPolicy::FailFast => waits.cut || tasks.iter().any(live),
            GatherPolicy::All | GatherPolicy::Settle => tasks.iter().all(live),
        };
        if goes_on {
            stuck.remove(&waiter);
        }
    }
}

/// Goes from a stuck task to one that it waits for, until one comes again.
fn follow(waits: &Waits, stuck: &BTreeSet<TaskId>, start: TaskId) -> Option<Circle> {
    let mut path: Vec<Link> = Vec::new();
    let mut task = start;
    loop {
        if let Some(begin) = path.iter().position(|link| link.task == task) {
            return Some(Circle {
                links: path.split_off(begin),
            });
        }
        let link = link_of(waits, stuck, task)?;
        task = link.waits_for;
        path.push(link);
    }
}

fn link_of(waits: &Waits, stuck: &BTreeSet<TaskId>, task: TaskId) -> Option<Link> {
    if let Some(waiter) = waits.waiters.iter().find(|waiter| waiter.task == task) {
        return Some(Link {
            task,
            waits_for: blocker(waits, stuck, waiter)?,
            primitive: Some(waiter.primitive.clone()),
        });
    }
    let mut gathers = waits.gathers.iter().filter(|gather| gather.waiter == task);
    let found = gathers.find(|gather| stuck.contains(&gather.task))?;
    Some(Link {
        task,
        waits_for: found.task,
        primitive: None,
    })
}

/// A stuck holder, or else the stuck task that is next before it in the line.
fn blocker(waits: &Waits, stuck: &BTreeSet<TaskId>, waiter: &Waiter) -> Option<TaskId> {
    let holds = |holder: &&Holder| holder.grant.primitive == waiter.primitive && stuck.contains(&holder.task);
    let before = |other: &&Waiter| {
        other.primitive == waiter.primitive && other.place < waiter.place && stuck.contains(&other.task)
    };
    let holder = waits.holders.iter().find(holds).map(|holder| holder.task);
    holder.or_else(|| waits.waiters.iter().rev().find(before).map(|other| other.task))
}

#[cfg(test)]
mod tests {
    use aion_types::Timestamp;

    use super::*;
    use crate::{Gather, Grant, Primitive};

    fn id(n: u8) -> TaskId {
        TaskId::from_parts(Timestamp::from_ms(0), [n; 10])
    }

    fn gather(waiter: u8, task: u8, policy: GatherPolicy) -> Gather {
        let (waiter, task) = (id(waiter), id(task));
        Gather { waiter, task, policy }
    }

    fn holds(task: u8, primitive: &str) -> Holder {
        Holder {
            task: id(task),
            grant: Grant {
                primitive: primitive.to_owned(),
                token: 1,
                units: 1,
                item: None,
                since: Timestamp::from_ms(0),
            },
        }
    }

    fn waits(task: u8, primitive: &str) -> Waiter {
        Waiter {
            task: id(task),
            primitive: primitive.to_owned(),
            place: 1,
            units: 1,
            until: None,
            since: Timestamp::from_ms(0),
        }
    }

    /// 1 holds a and waits for b, which 2 holds; 2 waits for 3 or 4, whichever fails first; 3 waits for a.
    fn knot(fourth: bool) -> Waits {
        let mutex = |name: &str| Primitive {
            name: name.to_owned(),
            kind: PrimitiveKind::Mutex,
            ticket: 1,
            held: 1,
            waiting: 1,
            items: 0,
            open: false,
            until: None,
            passing: 0,
            moving: false,
            puts: Vec::new(),
        };
        let mut found = Waits {
            primitives: vec![mutex("a"), mutex("b")],
            holders: vec![holds(1, "a"), holds(2, "b")],
            waiters: vec![waits(3, "a"), waits(1, "b")],
            gathers: vec![gather(2, 3, GatherPolicy::FailFast)],
            cut: false,
        };
        if fourth {
            found.gathers.push(gather(2, 4, GatherPolicy::FailFast));
        }
        found
    }

    /// What is left out may be what somebody waits for: no deadlock is named that is none.
    #[test]
    fn what_is_left_out_makes_no_circle() {
        assert_eq!(circles(&knot(false)).len(), 1);
        assert!(circles(&knot(true)).is_empty(), "4 may fail");
        let mut cut = knot(false);
        cut.cut = true;
        assert!(circles(&cut).is_empty(), "there may be a 4");
        cut.gathers[0].policy = GatherPolicy::All;
        assert_eq!(circles(&cut).len(), 1, "3 is one of all of them");
        cut.primitives.truncate(1);
        assert!(circles(&cut).is_empty(), "nobody knows what b has room for");
    }
}
