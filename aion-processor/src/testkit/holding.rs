//! Cases about claims, leases and ends.

use std::time::Duration;

use aion_types::{EventKind, Json, Role, Status, TaskId, Timestamp};

use super::{Bench, wish};
use crate::{
    Acquired, CancelMode, Done, Error, Fence, NewMessage, NewPrimitive, NewTask, Op, PrimitiveKind, Result,
    Retry, TaskHead, Want,
};

fn lost<T: std::fmt::Debug>(answer: &Result<T>) {
    assert!(matches!(answer, Err(Error::LeaseLost { .. })), "{answer:?}");
}

fn illegal<T: std::fmt::Debug>(answer: &Result<T>) {
    assert!(
        matches!(answer, Err(Error::IllegalTransition { .. })),
        "{answer:?}"
    );
}

async fn fail(bench: &Bench, fence: Fence, retry: Retry) -> TaskHead {
    bench
        .processor
        .fail(fence, "it broke", retry)
        .await
        .expect("failed")
}

/// Higher priority first; within one priority, whoever became ready first.
pub async fn claims_go_by_priority_then_age(bench: Bench) {
    let mut created = Vec::new();
    for priority in [0, 5, -5, 5, 0] {
        created.push(bench.create(bench.task().with_priority(priority)).await.id);
    }
    let leases = bench
        .processor
        .claim(wish("worker").with_max(10))
        .await
        .expect("answered");
    let order: Vec<_> = leases.iter().map(|lease| lease.task.id).collect();
    assert_eq!(order, [1, 3, 0, 4, 2].map(|n: usize| created[n]));
    let fence = leases[2].fence();
    bench
        .processor
        .release(fence, Duration::ZERO)
        .await
        .expect("released");
    let late = bench.create(bench.task()).await.id;
    assert_eq!(
        [bench.claim().await.task.id, bench.claim().await.task.id],
        [created[0], late]
    );
}

/// What was given back stands behind what has been ready for longer, also when those were seen before it went.
pub async fn what_was_given_back_stands_behind(bench: Bench) {
    let mut created = Vec::new();
    for _ in 0..3 {
        created.push(bench.create(bench.task()).await.id);
    }
    for turn in 0..7 {
        let lease = bench.claim().await;
        assert_eq!(lease.task.id, created[turn % 3], "turn {turn}");
        bench
            .processor
            .release(lease.fence(), Duration::ZERO)
            .await
            .expect("released");
    }
}

/// A claim sees only the queues, kinds and task that it names.
pub async fn claims_filter_queues_kinds_and_tasks(bench: Bench) {
    let mut made = Vec::new();
    for (kind, queue) in [("a", "x"), ("b", "x"), ("a", "y"), ("b", "y")] {
        made.push(
            bench
                .create(
                    NewTask {
                        kind: kind.to_owned(),
                        ..bench.task()
                    }
                    .with_queue(queue),
                )
                .await
                .id,
        );
    }
    let take = |req: crate::ClaimReq| async {
        let leases = bench.processor.claim(req.with_max(4)).await.expect("answered");
        for lease in &leases {
            bench
                .processor
                .release(lease.fence(), Duration::ZERO)
                .await
                .expect("released");
        }
        leases
            .into_iter()
            .map(|lease| lease.task.id)
            .collect::<Vec<TaskId>>()
    };
    assert_eq!(take(wish("w").with_queues(["x"])).await, [made[0], made[1]]);
    assert_eq!(take(wish("w").with_kinds(["b"])).await, [made[3], made[1]]);
    assert_eq!(
        take(wish("w").with_queues(["y", "x"]).with_kinds(["a"])).await,
        [made[2], made[0]]
    );
    assert_eq!(take(wish("w").with_task(made[3])).await, [made[3]]);
    assert!(
        take(wish("w").with_task(made[3]).with_kinds(["a"]))
            .await
            .is_empty()
    );
    assert!(take(wish("w").with_queues(["z"])).await.is_empty());
    assert!(take(wish("w").with_task(bench.id())).await.is_empty());
}

/// While a lease runs, nobody else gets the task.
pub async fn a_task_has_one_holder(bench: Bench) {
    let id = bench.create(bench.task()).await.id;
    let lease = bench.claim().await;
    assert_eq!((lease.task.id, lease.until), (id, Timestamp::from_ms(1_060_000)));
    assert_eq!(
        lease.task.handler_id.as_ref().map(aion_types::HandlerId::as_str),
        Some("worker")
    );
    assert!(
        bench
            .processor
            .claim(wish("other"))
            .await
            .expect("answered")
            .is_empty()
    );
}

/// Each claim of a task has a larger epoch than the one before.
pub async fn epochs_grow(bench: Bench) {
    bench.create(bench.task()).await;
    for epoch in 1..=3 {
        let lease = bench.claim().await;
        assert_eq!((lease.epoch, lease.task.lease_epoch), (epoch, epoch));
        bench
            .processor
            .release(lease.fence(), Duration::ZERO)
            .await
            .expect("released");
    }
}

/// Whoever lost the lease can write nothing, and changes nothing by trying.
pub async fn zombies_are_refused(bench: Bench) {
    let id = bench.create(bench.task()).await.id;
    let old = bench.claim().await.fence();
    bench.clock.advance_ms(60_000);
    bench.processor.tick().await.expect("time is kept");
    let new = bench.claim().await;
    let before = (bench.get(id).await, bench.kinds(id).await);
    let p = &bench.processor;
    lost(&p.heartbeat(old, 1_000).await);
    lost(
        &p.append(old, NewMessage::new(Role::Assistant, "still here"))
            .await,
    );
    lost(&p.complete(old, Json::Null).await);
    lost(&p.fail(old, "no", Retry::Never).await);
    lost(&p.release(old, Duration::ZERO).await);
    lost(&p.stop(old).await);
    lost(&p.gather(old, Vec::new(), crate::GatherPolicy::All).await);
    assert_eq!((bench.get(id).await, bench.kinds(id).await), before);
    p.complete(new.fence(), Json::Null)
        .await
        .expect("the holder completes");
    lost(&p.complete(old, Json::Null).await);
}

/// Whoever lost the lease makes no tasks either, also in the middle of a batch, and is not told of those that it made.
pub async fn zombies_make_no_tasks(bench: Bench) {
    let p = &bench.processor;
    let id = bench.create(bench.task()).await.id;
    let old = bench.claim().await.fence();
    let child = || bench.task().with_parent(id).with_key("child");
    let made = bench.create(child().with_fence(old)).await;
    assert_eq!(made.parent_id, Some(id));
    assert_eq!(bench.create(child().with_fence(old)).await.id, made.id);
    bench.clock.advance_ms(60_000);
    p.tick().await.expect("time is kept");
    let stale = |task: NewTask| p.create(task.with_fence(old));
    lost(&stale(bench.task().with_parent(id)).await);
    let new = p.claim(wish("w").with_task(id)).await.expect("answered")[0].fence();
    let before = (bench.get(id).await, p.counts().await.expect("counted"));
    lost(&stale(bench.task().with_parent(id)).await);
    lost(&stale(bench.task()).await);
    lost(&stale(child()).await);
    let zombie = bench.task().with_parent(id).with_fence(old);
    let (first, last) = (bench.task(), bench.task().with_parent(id).with_fence(new));
    let batch = [&first, &zombie, &last].map(|task| Op::Create(Box::new(task.clone())).into());
    assert_eq!((bench.get(id).await, p.counts().await.expect("counted")), before);
    let done = p.store().apply(batch.into()).await.expect("answered");
    assert!(matches!(&done[0], Ok(Done::Record(task)) if task.id == first.id));
    assert!(matches!(&done[1], Err(Error::LeaseLost { task, given }) if (*task, *given) == (id, old.epoch)));
    assert!(matches!(&done[2], Ok(Done::Record(task)) if task.id == last.id));
    assert_eq!(p.find(zombie.id).await.expect("read"), None);
    assert_eq!(bench.get(id).await.open_children, 2);
    p.complete(new, Json::Null).await.expect("completed");
    lost(&p.create(bench.task().with_fence(new)).await);
    let unknown = bench.task().with_fence(Fence {
        task: bench.id(),
        epoch: 1,
    });
    assert!(matches!(p.create(unknown).await, Err(Error::NotFound(_))));
}

/// A heartbeat moves the end of the lease, from now on.
pub async fn heartbeats_extend_the_lease(bench: Bench) {
    bench.create(bench.task()).await;
    let fence = bench.claim().await.fence();
    bench.clock.advance_ms(59_000);
    let beat = bench.processor.heartbeat(fence, 60_000).await.expect("alive");
    assert_eq!(
        (beat.until, beat.cancel_requested),
        (Timestamp::from_ms(1_119_000), false)
    );
    bench.clock.advance_ms(59_999);
    assert_eq!(bench.processor.tick().await.expect("time is kept").expired, 0);
    bench.clock.advance_ms(1);
    assert_eq!(bench.processor.tick().await.expect("time is kept").expired, 1);
}

/// A holder that says nothing loses the task, which costs no attempt but counts as a crash.
pub async fn silence_ends_the_lease(bench: Bench) {
    let id = bench.create(bench.task()).await.id;
    bench.claim().await;
    bench.clock.advance_ms(60_000);
    assert_eq!(bench.processor.tick().await.expect("time is kept").expired, 1);
    let task = bench.get(id).await;
    assert_eq!(
        (task.status, task.attempt, task.crash_count),
        (Status::Ready, 0, 1)
    );
    assert_eq!((task.handler_id, task.lease_until), (None, None));
    assert_eq!(bench.kinds(id).await.last(), Some(&EventKind::LeaseExpired));
}

/// A task whose holders vanish again and again fails at the limit of three.
pub async fn poison_is_limited(bench: Bench) {
    let id = bench.create(bench.task().with_max_attempts(10)).await.id;
    for crashes in 1..=3 {
        bench.claim().await;
        bench.clock.advance_ms(60_000);
        bench.processor.tick().await.expect("time is kept");
        assert_eq!(bench.get(id).await.crash_count, crashes);
    }
    let task = bench.get(id).await;
    assert_eq!(task.status, Status::Failed);
    assert_eq!(task.error.as_deref(), Some("3 holders vanished in a row"));
}

/// An attempt that ends by itself begins the count of vanished holders anew; a wait for a primitive does not, for it comes
/// again after every crash.
pub async fn what_ends_by_itself_is_no_poison(bench: Bench) {
    let p = &bench.processor;
    let mutex = NewPrimitive::new("m", PrimitiveKind::Mutex);
    p.declare(mutex).await.expect("declared");
    let id = bench.create(bench.task().with_max_attempts(10)).await.id;
    let claim = async || {
        p.claim(wish("w").with_task(id))
            .await
            .expect("answered")
            .remove(0)
            .fence()
    };
    let crash_twice = async || {
        for crashes in 1..=2 {
            claim().await;
            bench.clock.advance_ms(60_000);
            p.tick().await.expect("time is kept");
            let task = bench.get(id).await;
            assert_eq!((task.status, task.crash_count), (Status::Ready, crashes));
        }
    };
    crash_twice().await;
    let head = fail(&bench, claim().await, Retry::AfterMs(0)).await;
    assert_eq!((head.status, head.crash_count), (Status::Ready, 0));
    crash_twice().await;
    let head = p.release(claim().await, Duration::ZERO).await.expect("released");
    assert_eq!((head.status, head.crash_count), (Status::Ready, 0));
    crash_twice().await;
    let child = bench.claimed(bench.task().with_parent(id)).await.fence();
    let gathered = p.gather(claim().await, vec![child.task], crate::GatherPolicy::All);
    let head = gathered.await.expect("waits");
    assert_eq!((head.status, head.crash_count), (Status::Blocked, 0));
    p.complete(child, Json::Null).await.expect("completed");
    crash_twice().await;

    let other = bench.claimed(bench.task()).await.fence();
    let grant = p.acquire(Want::new(other, "m")).await.expect("asked").granted();
    let waits = p.acquire(Want::new(claim().await, "m")).await.expect("asked");
    assert!(matches!(waits, Acquired::Waits(head) if head.crash_count == 2));
    let grant = grant.expect("granted");
    p.give_back(other, &grant, crate::Return::Done)
        .await
        .expect("given back");
    claim().await;
    bench.clock.advance_ms(60_000);
    p.tick().await.expect("time is kept");
    let task = bench.get(id).await;
    assert_eq!((task.status, task.crash_count), (Status::Failed, 3));
    super::trees::replays(p).await;
}

/// A task that has not ended by its deadline fails, wherever it stands; its holder is refused, and what it held is free.
pub async fn deadlines_end_tasks(bench: Bench) {
    const AT_MS: i64 = 1_030_000;
    let p = &bench.processor;
    let late = || bench.task().with_deadline(Timestamp::from_ms(AT_MS));
    p.declare(NewPrimitive::new("m", PrimitiveKind::Mutex))
        .await
        .expect("declared");
    let done = bench.claimed(late()).await;
    p.complete(done.fence(), Json::Null).await.expect("completed");
    let running = bench.claimed(late()).await.fence();
    p.acquire(Want::new(running, "m"))
        .await
        .expect("asked")
        .granted()
        .expect("granted");
    let asked = bench.claimed(late()).await.fence();
    p.cancel(asked.task, CancelMode::Ask).await.expect("asked");
    let in_line = bench.claimed(late()).await.fence();
    let next = bench.claimed(bench.task()).await.fence();
    for fence in [in_line, next] {
        p.acquire(Want::new(fence, "m")).await.expect("asked");
    }
    let above = bench.claimed(late()).await.fence();
    let root = bench.claimed(bench.task()).await.fence();
    let below = bench.create(late().with_parent(root.task)).await.id;
    let child = bench.create(bench.task().with_parent(above.task)).await.id;
    for (fence, task) in [(above, child), (root, below)] {
        p.gather(fence, vec![task], crate::GatherPolicy::All)
            .await
            .expect("waits");
    }
    let held = bench.create(late().with_start(crate::Start::Held)).await.id;
    let placed = late().with_concurrency("c", 1);
    let placed = bench.create(placed).await.id;
    let gated = bench.create(bench.task().with_concurrency("c", 1)).await.id;

    bench.clock.advance_ms(29_999);
    assert_eq!(p.tick().await.expect("time is kept").overdue, 0);
    bench.clock.advance_ms(1);
    let report = p.tick().await.expect("time is kept");
    assert_eq!((report.overdue, report.expired), (7, 0));
    for id in [running.task, in_line.task, above.task, below, held, placed] {
        let task = bench.get(id).await;
        assert_eq!(task.status, Status::Failed, "{task:?}");
        assert_eq!(task.error.as_deref(), Some("its deadline has passed"));
        assert_eq!(
            (task.finished_at, task.handler_id),
            (Some(Timestamp::from_ms(AT_MS)), None)
        );
    }
    assert_eq!(bench.get(asked.task).await.status, Status::Cancelled);
    assert_eq!(bench.get(done.task.id).await.status, Status::Completed);
    lost(&p.fail(running, "late", Retry::Never).await);
    lost(&p.complete(running, Json::Null).await);
    lost(&p.stop(asked).await);
    // What others waited for: the mutex, the child, the place.
    assert_eq!(bench.get(next.task).await.status, Status::Ready);
    let root = bench.get(root.task).await;
    assert_eq!((root.status, root.open_children), (Status::Failed, 0));
    let waits = p.waits(None).await.expect("read");
    assert!(waits.waiters.is_empty() && waits.gathers.is_empty(), "{waits:?}");
    assert_eq!(bench.get(child).await.status, Status::Ready, "children go on");
    let claimed = p.claim(wish("w").with_task(gated)).await.expect("answered");
    assert_eq!(claimed.len(), 1);
    assert_eq!(p.tick().await.expect("time is kept").overdue, 0);
    super::trees::replays(p).await;
}

/// A failed attempt is followed by another after 1 s, then 2 s, and the error is kept.
pub async fn failing_backs_off(bench: Bench) {
    let id = bench.create(bench.task()).await.id;
    for (attempt, wait) in [(1, 1_000), (2, 2_000)] {
        let lease = bench.claim().await;
        assert_eq!(lease.task.attempt, attempt);
        let head = fail(&bench, lease.fence(), Retry::Backoff).await;
        assert_eq!((head.status, head.attempt), (Status::Preparing, attempt));
        bench.clock.advance_ms(wait - 1);
        assert_eq!(bench.processor.tick().await.expect("time is kept").started, 0);
        bench.clock.advance_ms(1);
        assert_eq!(bench.processor.tick().await.expect("time is kept").started, 1);
    }
    assert_eq!(bench.get(id).await.error.as_deref(), Some("it broke"));
}

/// The last attempt fails the task, and so does a failure without retry.
pub async fn attempts_are_limited(bench: Bench) {
    let id = bench.create(bench.task().with_max_attempts(2)).await.id;
    let first = bench.claim().await.fence();
    assert_eq!(fail(&bench, first, Retry::AfterMs(0)).await.status, Status::Ready);
    let second = bench.claim().await.fence();
    assert_eq!(
        fail(&bench, second, Retry::AfterMs(0)).await.status,
        Status::Failed
    );
    assert_eq!(bench.kinds(id).await.last(), Some(&EventKind::Failed));
    bench.create(bench.task()).await;
    let only = bench.claim().await.fence();
    let head = fail(&bench, only, Retry::Never).await;
    assert_eq!(head.status, Status::Failed);
    assert_eq!(
        fail(&bench, only, Retry::Never).await,
        head,
        "saying so twice is harmless"
    );
}

/// A task given back is ready again, at once or later, as if it had not been tried.
pub async fn releasing_costs_no_attempt(bench: Bench) {
    let id = bench.create(bench.task()).await.id;
    let lease = bench.claim().await;
    let head = bench
        .processor
        .release(lease.fence(), Duration::from_millis(50))
        .await
        .expect("released");
    assert_eq!((head.status, head.attempt), (Status::Preparing, 0));
    bench.clock.advance_ms(50);
    bench.processor.tick().await.expect("time is kept");
    let task = bench.get(id).await;
    assert_eq!(
        (task.status, task.attempt, task.handler_id, task.run_after),
        (Status::Ready, 0, None, None)
    );
}

/// The result is kept; saying it again, because the answer was lost, changes nothing.
pub async fn completing_twice_is_harmless(bench: Bench) {
    let id = bench.create(bench.task()).await.id;
    let lease = bench.claim().await;
    let head = bench
        .processor
        .complete(lease.fence(), "ok".into())
        .await
        .expect("completed");
    let again = bench
        .processor
        .complete(lease.fence(), "ok".into())
        .await
        .expect("repeated");
    assert_eq!(head, again);
    let task = bench.get(id).await;
    assert_eq!((task.status, task.result), (Status::Completed, Some("ok".into())));
    assert_eq!(task.finished_at, Some(Timestamp::from_ms(1_000_000)));
    assert_eq!(
        bench
            .kinds(id)
            .await
            .iter()
            .filter(|kind| kind.is_terminal())
            .count(),
        1
    );
}

/// The holder learns of the wish by its heartbeat, and stops when it wants to.
pub async fn cancelling_asks_the_holder(bench: Bench) {
    let id = bench.create(bench.task()).await.id;
    let fence = bench.claim().await.fence();
    illegal(&bench.processor.stop(fence).await);
    let head = bench.processor.cancel(id, CancelMode::Ask).await.expect("asked");
    assert_eq!(head.status, Status::Running);
    assert!(
        bench
            .processor
            .heartbeat(fence, 1_000)
            .await
            .expect("alive")
            .cancel_requested
    );
    assert_eq!(
        bench.processor.stop(fence).await.expect("stopped").status,
        Status::Cancelled
    );
    assert_eq!(
        bench.kinds(id).await[3..],
        [EventKind::CancelRequested, EventKind::Cancelled]
    );
}

/// By force the task ends at once, and its holder is refused from then on.
pub async fn cancelling_by_force_fences_the_holder(bench: Bench) {
    let id = bench.create(bench.task()).await.id;
    let fence = bench.claim().await.fence();
    let head = bench
        .processor
        .cancel(id, CancelMode::Force)
        .await
        .expect("cancelled");
    assert_eq!(
        (head.status, head.lease_epoch),
        (Status::Cancelled, fence.epoch + 1)
    );
    lost(&bench.processor.complete(fence, Json::Null).await);
    lost(&bench.processor.heartbeat(fence, 1_000).await);
}

/// A task that nobody holds ends at once, and twice is harmless.
pub async fn unheld_tasks_are_cancelled_at_once(bench: Bench) {
    let id = bench.create(bench.task()).await.id;
    let head = bench
        .processor
        .cancel(id, CancelMode::Ask)
        .await
        .expect("cancelled");
    assert_eq!(head.status, Status::Cancelled);
    assert_eq!(
        bench
            .processor
            .cancel(id, CancelMode::Force)
            .await
            .expect("repeated"),
        head
    );
    assert!(
        bench
            .processor
            .claim(wish("worker"))
            .await
            .expect("answered")
            .is_empty()
    );
}

/// Nothing moves a task that has ended.
pub async fn ended_tasks_stay_ended(bench: Bench) {
    let id = bench.create(bench.task()).await.id;
    let fence = bench.claim().await.fence();
    bench
        .processor
        .complete(fence, Json::Null)
        .await
        .expect("completed");
    let before = bench.get(id).await;
    let p = &bench.processor;
    illegal(&p.start(id).await);
    illegal(&p.cancel(id, CancelMode::Force).await);
    illegal(&p.say(id, NewMessage::new(Role::User, "hello?")).await);
    lost(&p.fail(fence, "no", Retry::Backoff).await);
    bench.clock.advance_ms(1_000_000);
    p.tick().await.expect("time is kept");
    assert_eq!(bench.get(id).await, before);
}

/// A claim may ask for so much and so long only.
pub async fn claims_are_limited(bench: Bench) {
    let too_many = bench.processor.claim(wish("worker").with_max(257)).await;
    assert!(matches!(too_many, Err(Error::Limit { what: "max", .. })));
    let too_long = bench
        .processor
        .claim(wish("worker").with_lease_ms(u64::MAX))
        .await;
    assert!(matches!(too_long, Err(Error::Limit { what: "lease_ms", .. })));
    let too_short = bench.processor.claim(wish("worker").with_lease_ms(0)).await;
    assert!(matches!(too_short, Err(Error::Invalid { what: "lease_ms", .. })));
}
