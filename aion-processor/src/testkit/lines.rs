//! Cases about primitives: holding them, waiting for them, and losing them.

use aion_types::{EventKind, Json, Status, TaskId, Timestamp};

use super::{Bench, wish};
use crate::{
    Acquired, CancelMode, Error, Fence, Grant, Lease, NewPrimitive, PrimitiveKind, Retry, Return, Signal,
    Want,
};

pub(super) async fn declare(bench: &Bench, name: &str, kind: PrimitiveKind) {
    let declared = bench.processor.declare(NewPrimitive::new(name, kind)).await;
    assert_eq!(declared.expect("declared").kind, kind);
}

pub(super) async fn acquire(bench: &Bench, want: Want) -> Acquired {
    bench.processor.acquire(want).await.expect("answered")
}

/// Gets it at once.
pub(super) async fn take(bench: &Bench, fence: Fence, name: &str) -> Grant {
    let got = acquire(bench, Want::new(fence, name)).await;
    got.granted().expect("it is there")
}

/// Has to wait for it.
pub(super) async fn wait(bench: &Bench, fence: Fence, name: &str) {
    let got = acquire(bench, Want::new(fence, name)).await;
    assert!(
        matches!(got, Acquired::Waits(head) if head.status == Status::Blocked),
        "{got:?}"
    );
}

pub(super) async fn leases(bench: &Bench, count: usize) -> Vec<Lease> {
    let mut leases = Vec::new();
    for _ in 0..count {
        leases.push(bench.claimed(bench.task()).await);
    }
    leases
}

pub(super) async fn status(bench: &Bench, task: TaskId) -> Status {
    bench.get(task).await.status
}

/// Claims exactly this task again.
pub(super) async fn again(bench: &Bench, task: TaskId) -> Fence {
    let req = wish("worker").with_task(task);
    let leases = bench.processor.claim(req).await.expect("answered");
    leases.first().expect("it is ready").fence()
}

/// One holder at a time, the others in the order in which they came; each finds its grant when it is
/// claimed again, and tokens grow.
pub async fn a_mutex_goes_round(bench: Bench) {
    declare(&bench, "lock", PrimitiveKind::Mutex).await;
    let all = leases(&bench, 3).await;
    let first = take(&bench, all[0].fence(), "lock").await;
    assert_eq!(
        take(&bench, all[0].fence(), "lock").await,
        first,
        "asking twice is harmless"
    );
    wait(&bench, all[1].fence(), "lock").await;
    wait(&bench, all[2].fence(), "lock").await;
    let waits = bench.processor.waits(Some("lock".into())).await.expect("read");
    let line: Vec<_> = waits.waiters.iter().map(|waiter| waiter.task).collect();
    assert_eq!(line, [all[1].task.id, all[2].task.id]);
    assert_eq!(waits.holders[0].grant, first);
    bench
        .processor
        .give_back(all[0].fence(), &first, Return::Done)
        .await
        .expect("given back");
    assert_eq!(status(&bench, all[1].task.id).await, Status::Ready);
    assert_eq!(status(&bench, all[2].task.id).await, Status::Blocked);
    let fence = again(&bench, all[1].task.id).await;
    let second = take(&bench, fence, "lock").await;
    assert!(second.token > first.token);
    let kinds = bench.kinds(all[1].task.id).await;
    assert_eq!(
        kinds[2..],
        [
            EventKind::Claimed,
            EventKind::Blocked,
            EventKind::Acquired,
            EventKind::Ready,
            EventKind::Claimed
        ]
    );
    wait(&bench, all[0].fence(), "lock").await;
}

/// Units fit or wait, and nobody overtakes whoever waits for more.
pub async fn a_semaphore_counts_units(bench: Bench) {
    declare(&bench, "gpu", PrimitiveKind::Semaphore { permits: 4 }).await;
    let all = leases(&bench, 4).await;
    let want = |n: usize, units| Want::new(all[n].fence(), "gpu").with_units(units);
    let three = acquire(&bench, want(0, 3)).await.granted().expect("it is there");
    assert!(matches!(acquire(&bench, want(1, 2)).await, Acquired::Waits(_)));
    assert!(
        matches!(acquire(&bench, want(2, 1)).await, Acquired::Waits(_)),
        "one is free, but somebody waits"
    );
    let too_many = bench.processor.acquire(want(3, 5)).await;
    assert!(matches!(
        too_many,
        Err(Error::Limit {
            what: "units",
            limit: 4,
            got: 5
        })
    ));
    let none = bench.processor.acquire(want(3, 0)).await;
    assert!(matches!(none, Err(Error::Invalid { what: "units", .. })));
    bench
        .processor
        .give_back(all[0].fence(), &three, Return::Done)
        .await
        .expect("given back");
    for lease in &all[1..3] {
        assert_eq!(status(&bench, lease.task.id).await, Status::Ready);
    }
    let held = bench.processor.primitive("gpu").await.expect("there");
    assert_eq!((held.held, held.waiting), (3, 0));
}

/// More permits let more through; fewer take nothing away.
pub async fn a_semaphore_changes_its_size(bench: Bench) {
    declare(&bench, "gpu", PrimitiveKind::Semaphore { permits: 1 }).await;
    let all = leases(&bench, 3).await;
    let grant = take(&bench, all[0].fence(), "gpu").await;
    wait(&bench, all[1].fence(), "gpu").await;
    wait(&bench, all[2].fence(), "gpu").await;
    declare(&bench, "gpu", PrimitiveKind::Semaphore { permits: 2 }).await;
    assert_eq!(status(&bench, all[1].task.id).await, Status::Ready);
    assert_eq!(status(&bench, all[2].task.id).await, Status::Blocked);
    declare(&bench, "gpu", PrimitiveKind::Semaphore { permits: 1 }).await;
    bench
        .processor
        .give_back(all[0].fence(), &grant, Return::Done)
        .await
        .expect("given back");
    assert_eq!(status(&bench, all[2].task.id).await, Status::Blocked);
    let other = bench
        .processor
        .declare(NewPrimitive::new("gpu", PrimitiveKind::Mutex))
        .await;
    assert!(matches!(other, Err(Error::Conflict(_))));
}

/// A holder that loses its lease loses what it holds, and so does a task that ends.
pub async fn grants_end_with_the_lease(bench: Bench) {
    declare(&bench, "lock", PrimitiveKind::Mutex).await;
    let p = &bench.processor;
    for how in ["expire", "release", "retry", "complete", "fail", "cancel"] {
        let holder = bench.claimed(bench.task()).await;
        let other = bench.claimed(bench.task()).await;
        let grant = take(&bench, holder.fence(), "lock").await;
        wait(&bench, other.fence(), "lock").await;
        let fence = holder.fence();
        match how {
            "expire" => {
                bench.clock.advance_ms(60_000);
                assert_eq!(p.tick().await.expect("time is kept").expired, 1);
            }
            "release" => drop(
                p.release(fence, std::time::Duration::ZERO)
                    .await
                    .expect("released"),
            ),
            "retry" => drop(p.fail(fence, "no", Retry::AfterMs(9)).await.expect("failed")),
            "complete" => drop(p.complete(fence, Json::Null).await.expect("completed")),
            "fail" => drop(p.fail(fence, "no", Retry::Never).await.expect("failed")),
            _ => drop(
                p.cancel(holder.task.id, CancelMode::Force)
                    .await
                    .expect("cancelled"),
            ),
        }
        assert!(p.holds(holder.task.id).await.expect("read").is_empty(), "{how}");
        assert_eq!(status(&bench, other.task.id).await, Status::Ready, "{how}");
        let late = p.give_back(fence, &grant, Return::Done).await;
        assert!(matches!(late, Err(Error::LeaseLost { .. })), "{how}: {late:?}");
        for task in [other.task.id, holder.task.id] {
            // Ended ones stay as they are.
            let _ = p.cancel(task, CancelMode::Force).await;
        }
    }
    let lock = p.primitive("lock").await.expect("there");
    assert_eq!((lock.held, lock.waiting), (0, 0));
}

/// A task that waits for tasks or in a line keeps what it holds; what comes while nobody is looking
/// is there when it is claimed again.
pub async fn waiting_keeps_grants(bench: Bench) {
    declare(&bench, "lock", PrimitiveKind::Mutex).await;
    declare(&bench, "go", PrimitiveKind::Event).await;
    let holder = bench.claimed(bench.task()).await;
    let grant = take(&bench, holder.fence(), "lock").await;
    wait(&bench, holder.fence(), "go").await;
    assert_eq!(
        bench.processor.holds(holder.task.id).await.expect("read")[0].grant,
        grant
    );
    bench.processor.signal("go", Signal::Pulse).await.expect("told");
    let fence = again(&bench, holder.task.id).await;
    assert_eq!(take(&bench, fence, "lock").await, grant);
    take(&bench, fence, "go").await;
    assert_eq!(
        bench.processor.holds(holder.task.id).await.expect("read").len(),
        2
    );
}

/// Whoever ends while it waits leaves the line, and those behind it move up.
pub async fn leaving_a_line_moves_it_up(bench: Bench) {
    declare(&bench, "gpu", PrimitiveKind::Semaphore { permits: 2 }).await;
    let all = leases(&bench, 3).await;
    take(&bench, all[0].fence(), "gpu").await;
    let two = Want::new(all[1].fence(), "gpu").with_units(2);
    assert!(matches!(acquire(&bench, two).await, Acquired::Waits(_)));
    wait(&bench, all[2].fence(), "gpu").await;
    bench
        .processor
        .cancel(all[1].task.id, CancelMode::Ask)
        .await
        .expect("cancelled");
    assert_eq!(status(&bench, all[2].task.id).await, Status::Ready);
    assert_eq!(bench.processor.primitive("gpu").await.expect("there").waiting, 0);
}

/// A wait ends when its time is over: the task goes on without, and asks in vain.
pub async fn waits_end_in_time(bench: Bench) {
    declare(&bench, "lock", PrimitiveKind::Mutex).await;
    let all = leases(&bench, 3).await;
    take(&bench, all[0].fence(), "lock").await;
    let until = Timestamp::from_ms(1_005_000);
    let patient = |fence| Want::new(fence, "lock").with_until(until);
    assert!(matches!(
        acquire(&bench, patient(all[1].fence())).await,
        Acquired::Waits(_)
    ));
    let past = Want::new(all[2].fence(), "lock").with_until(bench.clock_now());
    assert_eq!(acquire(&bench, past).await, Acquired::Missed);
    assert_eq!(status(&bench, all[2].task.id).await, Status::Running);
    bench.clock.advance_ms(4_999);
    assert_eq!(bench.processor.tick().await.expect("time is kept").gave_up, 0);
    bench.clock.advance_ms(1);
    assert_eq!(bench.processor.tick().await.expect("time is kept").gave_up, 1);
    let fence = again(&bench, all[1].task.id).await;
    assert_eq!(acquire(&bench, patient(fence)).await, Acquired::Missed);
    assert_eq!(bench.processor.primitive("lock").await.expect("there").waiting, 0);
}

/// Two that wait for each other, and one that waits for its own child, are found and named.
pub async fn deadlocks_are_named(bench: Bench) {
    for name in ["left", "right"] {
        declare(&bench, name, PrimitiveKind::Mutex).await;
    }
    declare(&bench, "free", PrimitiveKind::Event).await;
    let all = leases(&bench, 4).await;
    take(&bench, all[0].fence(), "left").await;
    take(&bench, all[1].fence(), "right").await;
    wait(&bench, all[0].fence(), "right").await;
    wait(&bench, all[3].fence(), "free").await;
    assert!(
        bench
            .processor
            .waits(None)
            .await
            .expect("read")
            .circles()
            .is_empty()
    );
    wait(&bench, all[1].fence(), "left").await;
    wait(&bench, all[2].fence(), "left").await;
    let circles = bench.processor.waits(None).await.expect("read").circles();
    let [circle] = &circles[..] else {
        panic!("{circles:?}")
    };
    let links: Vec<_> = circle
        .links
        .iter()
        .map(|link| (link.task, link.waits_for, link.primitive.as_deref()))
        .collect();
    let (one, two) = (all[0].task.id, all[1].task.id);
    assert_eq!(links.len(), 2);
    assert!(links.contains(&(one, two, Some("right"))) && links.contains(&(two, one, Some("left"))));
    bench
        .processor
        .cancel(one, CancelMode::Ask)
        .await
        .expect("cancelled");
    assert!(
        bench
            .processor
            .waits(None)
            .await
            .expect("read")
            .circles()
            .is_empty()
    );
    let parent = bench.claimed(bench.task()).await;
    let child = bench.claimed(bench.task().with_parent(parent.task.id)).await;
    declare(&bench, "own", PrimitiveKind::Mutex).await;
    take(&bench, parent.fence(), "own").await;
    wait(&bench, child.fence(), "own").await;
    let tasks = vec![child.task.id];
    bench
        .processor
        .gather(parent.fence(), tasks, crate::GatherPolicy::All)
        .await
        .expect("waits");
    let circles = bench.processor.waits(None).await.expect("read").circles();
    assert!(
        circles.iter().any(|circle| circle.links.len() == 2
            && circle
                .links
                .iter()
                .any(|link| link.task == parent.task.id && link.primitive.is_none())),
        "{circles:?}"
    );
}

/// What is not there, is of another kind, is in use or held by another token is refused.
pub async fn wrong_uses_are_refused(bench: Bench) {
    declare(&bench, "lock", PrimitiveKind::Mutex).await;
    let p = &bench.processor;
    let lease = bench.claimed(bench.task()).await;
    let unknown = p.acquire(Want::new(lease.fence(), "nothing")).await;
    assert!(matches!(
        unknown,
        Err(Error::Unknown {
            what: "primitive",
            ..
        })
    ));
    let signal = p.signal("lock", Signal::Set).await;
    assert!(matches!(signal, Err(Error::Invalid { what: "signal", .. })));
    let grant = take(&bench, lease.fence(), "lock").await;
    assert!(matches!(p.undeclare("lock").await, Err(Error::Conflict(_))));
    let other = Grant {
        token: grant.token + 1,
        ..grant.clone()
    };
    let wrong = p.give_back(lease.fence(), &other, Return::Done).await;
    assert!(matches!(wrong, Err(Error::Conflict(_))));
    for _ in 0..2 {
        p.give_back(lease.fence(), &grant, Return::Done)
            .await
            .expect("twice is harmless");
    }
    p.undeclare("lock").await.expect("nobody uses it");
    assert!(p.primitive("lock").await.is_err());
    for bad in [
        PrimitiveKind::Semaphore { permits: 0 },
        PrimitiveKind::Queue { capacity: u32::MAX },
    ] {
        let refused = p.declare(NewPrimitive::new("bad", bad)).await;
        assert!(matches!(
            refused,
            Err(Error::Invalid { .. } | Error::Limit { .. })
        ));
    }
}

/// The log says who held what, and by which token.
pub async fn the_log_tells_of_grants(bench: Bench) {
    declare(&bench, "lock", PrimitiveKind::Mutex).await;
    let all = leases(&bench, 2).await;
    take(&bench, all[0].fence(), "lock").await;
    wait(&bench, all[1].fence(), "lock").await;
    bench
        .processor
        .complete(all[0].fence(), Json::Null)
        .await
        .expect("completed");
    let mut replay = crate::Replay::default();
    for event in bench.processor.events(0, 100).await.expect("read").events {
        replay.push(&event).expect("it makes sense");
    }
    let held = bench.processor.holds(all[1].task.id).await.expect("read");
    let told: Vec<_> = replay.grants().collect();
    assert_eq!(told, [(all[1].task.id, "lock", held[0].grant.token)]);
    for lease in &all {
        let task = bench.get(lease.task.id).await;
        assert_eq!(replay.get(task.id), Some(&crate::Replayed::from(&task)));
    }
}
