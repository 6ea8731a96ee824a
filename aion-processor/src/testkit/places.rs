//! Cases about who is claimed when: concurrency keys, shares of queues, schedules, one commit for an
//! end and a claim.

use std::collections::BTreeSet;
use std::time::Duration;

use aion_types::{Json, Status, TaskId, Timestamp};

use super::{Bench, wish};
use crate::{
    CancelMode, ClaimOrder, Concurrency, Error, Fence, Lease, NameQuery, NewSchedule, NewTask, Op, Overlap,
    Retry, Start, Write,
};

async fn claim(bench: &Bench, max: u32) -> Vec<Lease> {
    let leases = bench.processor.claim(wish("worker").with_max(max)).await;
    leases.expect("answered")
}

fn ids(leases: &[Lease]) -> Vec<TaskId> {
    leases.iter().map(|lease| lease.task.id).collect()
}

async fn keyed(bench: &Bench, count: usize, key: &str, max: u32) -> Vec<TaskId> {
    let mut made = Vec::new();
    for _ in 0..count {
        made.push(bench.create(bench.task().with_concurrency(key, max)).await.id);
    }
    made
}

/// Of the tasks with one key only so many run; the next follows when one ends, waits or is given back.
pub async fn keys_bound_what_runs(bench: Bench) {
    let made = keyed(&bench, 5, "tenant", 2).await;
    let other = bench.create(bench.task().with_concurrency("other", 1)).await.id;
    let leases = claim(&bench, 10).await;
    assert_eq!(ids(&leases), [made[0], made[1], other]);
    assert!(claim(&bench, 10).await.is_empty());
    let p = &bench.processor;
    p.complete(leases[0].fence(), Json::Null)
        .await
        .expect("completed");
    let next = claim(&bench, 10).await;
    assert_eq!(ids(&next), [made[2]]);
    let fence = leases[1].fence();
    p.release(fence, std::time::Duration::from_secs(1))
        .await
        .expect("released");
    assert_eq!(ids(&claim(&bench, 10).await), [made[3]]);
    bench.clock.advance_ms(1_000);
    p.tick().await.expect("time is kept");
    p.fail(next[0].fence(), "no", Retry::Never).await.expect("failed");
    assert_eq!(ids(&claim(&bench, 10).await), [made[4]], "it has waited longer");
    let gated = p.claim(wish("w").with_task(made[1])).await.expect("answered");
    assert!(gated.is_empty(), "no way around");
    bench.clock.advance_ms(60_000);
    assert_eq!(p.tick().await.expect("time is kept").expired, 3);
    assert_eq!(
        claim(&bench, 10).await.len(),
        3,
        "two of the tenant and the other"
    );
}

/// A task with a higher priority takes the place of one that does not run yet.
pub async fn keys_respect_priority(bench: Bench) {
    let low = keyed(&bench, 2, "tenant", 1).await;
    let high = bench.task().with_priority(5).with_concurrency("tenant", 1);
    let high = bench.create(high).await.id;
    let first = claim(&bench, 10).await;
    assert_eq!(ids(&first), [high]);
    let p = &bench.processor;
    p.complete(first[0].fence(), Json::Null).await.expect("completed");
    let second = claim(&bench, 10).await;
    assert_eq!(ids(&second), [low[0]]);
    p.cancel(low[1], CancelMode::Ask).await.expect("cancelled");
    p.cancel(low[0], CancelMode::Force).await.expect("cancelled");
    assert_eq!(ids(&claim(&bench, 10).await), []);
    let last = keyed(&bench, 1, "tenant", 1).await;
    assert_eq!(ids(&claim(&bench, 10).await), last, "nobody is left over");
}

/// A parent that waits gives its place to its children.
pub async fn waiting_gives_the_place_away(bench: Bench) {
    let parent = bench.claimed(bench.task().with_concurrency("one", 1)).await;
    let child = bench
        .task()
        .with_parent(parent.task.id)
        .with_concurrency("one", 1);
    let child = bench.create(child).await.id;
    assert!(claim(&bench, 10).await.is_empty());
    let p = &bench.processor;
    p.gather(parent.fence(), vec![child], crate::GatherPolicy::All)
        .await
        .expect("waits");
    let taken = claim(&bench, 10).await;
    assert_eq!(ids(&taken), [child]);
    p.complete(taken[0].fence(), Json::Null).await.expect("completed");
    assert_eq!(ids(&claim(&bench, 10).await), [parent.task.id]);
}

/// Bad keys and bounds are refused.
pub async fn bad_keys_are_refused(bench: Bench) {
    for (key, max) in [("", 1), ("k", 0), ("object:mine", 1), ("a\nb", 1)] {
        let mut new = bench.task();
        new.concurrency = Some(Concurrency {
            key: key.to_owned(),
            max,
        });
        let refused = bench.processor.create(new).await;
        assert!(
            matches!(
                refused,
                Err(Error::Invalid {
                    what: "concurrency",
                    ..
                })
            ),
            "{key} {max}: {refused:?}"
        );
    }
}

/// Queues get work by their weights, whatever their backlog; one that was idle saves nothing up.
pub async fn queues_share_fairly(bench: Bench) {
    for (queue, count) in [("big", 30), ("small", 10)] {
        for _ in 0..count {
            bench.create(bench.task().with_queue(queue)).await;
        }
    }
    let p = &bench.processor;
    let fair = |max| wish("worker").with_order(ClaimOrder::Fair).with_max(max);
    let queues = |leases: &[Lease], name: &str| leases.iter().filter(|l| l.task.queue == name).count();
    let even = p.claim(fair(8)).await.expect("answered");
    assert_eq!((queues(&even, "big"), queues(&even, "small")), (4, 4));
    p.weigh("big", 3).await.expect("weighed");
    let weighed = p.claim(fair(8)).await.expect("answered");
    assert_eq!((queues(&weighed, "big"), queues(&weighed, "small")), (6, 2));
    for _ in 0..10 {
        bench.create(bench.task().with_queue("new")).await;
    }
    let mut one_by_one = Vec::new();
    for _ in 0..10 {
        one_by_one.extend(p.claim(fair(1)).await.expect("answered"));
    }
    let shares = ["big", "small", "new"].map(|name| queues(&one_by_one, name));
    assert_eq!(shares, [6, 2, 2]);
    let only = p.claim(fair(3).with_queues(["small"])).await.expect("answered");
    assert_eq!(queues(&only, "small"), 2, "no more are left");
    let refused = p.weigh("big", 0).await;
    assert!(matches!(refused, Err(Error::Invalid { what: "weight", .. })));
}

/// However many queues there are, each gets its first task before the others have got much more than that.
pub async fn many_queues_share_fairly(bench: Bench) {
    const QUEUES: usize = 3_000;
    let p = &bench.processor;
    for part in 0..QUEUES / 250 {
        let tasks = (0..500).map(|n| {
            let queue = format!("queue-{:04}", part * 250 + n / 2);
            Write::from(Op::Create(Box::new(bench.task().with_queue(queue))))
        });
        let made = p.store().apply(tasks.collect()).await.expect("answered");
        assert!(made.iter().all(Result::is_ok));
    }
    let fair = wish("worker").with_order(ClaimOrder::Fair).with_max(100);
    let (mut leases, mut seen) = (0, BTreeSet::new());
    while seen.len() < QUEUES {
        let taken = p.claim(fair.clone()).await.expect("answered");
        assert_eq!(taken.len(), 100);
        leases += taken.len();
        seen.extend(taken.into_iter().map(|lease| lease.task.queue));
    }
    assert!(leases < QUEUES * 5 / 4, "{leases}");
}

/// Queues that are named take turns too, also those that were never claimed from.
pub async fn named_queues_take_turns(bench: Bench) {
    for queue in ["a", "b", "c"] {
        for _ in 0..4 {
            bench.create(bench.task().with_queue(queue)).await;
        }
    }
    let p = &bench.processor;
    let fair = wish("worker").with_order(ClaimOrder::Fair);
    let mut got = Vec::new();
    for _ in 0..6 {
        let named = fair.clone().with_queues(["c", "b", "nothing", "b"]);
        let leases = p.claim(named).await.expect("answered");
        got.extend(leases.into_iter().map(|lease| lease.task.queue));
    }
    assert_eq!(got, ["b", "c", "b", "c", "b", "c"]);
    let all = p.claim(fair.with_max(9)).await.expect("answered");
    assert_eq!(all.len(), 6, "what is left of all");
}

/// A fair claim of one kind finds it behind however many queues that have none of it.
pub async fn kinds_are_found_behind_many_queues(bench: Bench) {
    let p = &bench.processor;
    let tasks = (0..700).map(|n| {
        let kind = if n == 699 { "rare" } else { "common" };
        let task = NewTask {
            kind: kind.to_owned(),
            ..bench.task()
        };
        Write::from(Op::Create(Box::new(task.with_queue(format!("queue-{n:03}")))))
    });
    let made = p.store().apply(tasks.collect()).await.expect("answered");
    assert!(made.iter().all(Result::is_ok));
    let fair = wish("worker").with_order(ClaimOrder::Fair).with_kinds(["rare"]);
    for _ in 0..6 {
        let found = p.claim(fair.clone()).await.expect("answered");
        if let [lease] = found.as_slice() {
            assert_eq!(lease.task.queue, "queue-699");
            p.release(lease.fence(), Duration::ZERO).await.expect("released");
        } else {
            panic!("{} tasks", found.len());
        }
    }
}

/// A fair claim of one kind passes over queues that have none of it.
pub async fn fair_claims_filter_kinds(bench: Bench) {
    for (queue, kind) in [("a", "x"), ("a", "y"), ("b", "x"), ("c", "y")] {
        let kind = kind.to_owned();
        bench
            .create(NewTask { kind, ..bench.task() }.with_queue(queue))
            .await;
    }
    let req = wish("w")
        .with_order(ClaimOrder::Fair)
        .with_kinds(["y"])
        .with_max(9);
    let leases = bench.processor.claim(req).await.expect("answered");
    let queues: Vec<_> = leases.iter().map(|lease| lease.task.queue.as_str()).collect();
    assert_eq!(queues, ["a", "c"]);
}

/// An end and the next claim are one commit; saying it twice takes nothing more.
pub async fn completing_and_claiming_is_one(bench: Bench) {
    let made: Vec<_> = [
        bench.create(bench.task()).await.id,
        bench.create(bench.task()).await.id,
        bench.create(bench.task()).await.id,
    ]
    .into();
    let first = bench.claim().await;
    let p = &bench.processor;
    let (head, next) = p
        .complete_and_claim(first.fence(), Json::from("ok"), wish("worker"))
        .await
        .expect("completed");
    assert_eq!((head.id, head.status), (made[0], Status::Completed));
    assert_eq!(ids(&next), [made[1]]);
    let again = p
        .complete_and_claim(first.fence(), Json::from("ok"), wish("worker"))
        .await
        .expect("harmless");
    assert_eq!(again.0, head);
    assert!(again.1.is_empty(), "nothing is taken the second time");
    bench.clock.advance_ms(60_000);
    p.tick().await.expect("time is kept");
    let zombie = p
        .complete_and_claim(next[0].fence(), Json::Null, wish("worker"))
        .await;
    assert!(matches!(zombie, Err(Error::LeaseLost { .. })));
    let late = bench.get(made[1]).await;
    assert_eq!(late.status, Status::Ready);
}

/// In the middle of a batch, a zombie's write is refused and the others are made.
pub async fn zombies_are_refused_in_batches(bench: Bench) {
    let old = bench.claimed(bench.task()).await.fence();
    bench.clock.advance_ms(60_000);
    bench.processor.tick().await.expect("time is kept");
    let (new, other) = (
        bench.claim().await.fence(),
        bench.claimed(bench.task()).await.fence(),
    );
    let complete = |fence| {
        Op::Complete {
            fence,
            result: Json::Null,
        }
        .into()
    };
    let writes = vec![complete(other), complete(old), complete(new)];
    let done = bench.processor.store().apply(writes).await.expect("answered");
    assert!(done[0].is_ok() && done[2].is_ok());
    assert!(
        matches!(done[1], Err(Error::LeaseLost { task, given }) if (task, given) == (old.task, old.epoch))
    );
    assert_eq!(
        bench
            .processor
            .counts()
            .await
            .expect("counted")
            .of(Status::Completed),
        2
    );
}

/// A schedule makes its tasks in time, makes up for missed times once, and names the last.
pub async fn schedules_make_tasks(bench: Bench) {
    let p = &bench.processor;
    let task = bench.task().with_payload(Json::Int(7));
    let spec = NewSchedule::new("every minute", "* * * * *", task);
    let made = p.put_schedule(spec.clone()).await.expect("put");
    assert_eq!(made.next_at, Some(Timestamp::from_ms(1_020_000)));
    bench.clock.advance_ms(19_999);
    assert_eq!(p.tick().await.expect("time is kept").scheduled, 0);
    bench.clock.advance_ms(1);
    assert_eq!(p.tick().await.expect("time is kept").scheduled, 1);
    assert_eq!(p.tick().await.expect("time is kept").scheduled, 0);
    bench.clock.advance_ms(600_000);
    p.put_schedule(spec)
        .await
        .expect("put at every start of a program");
    assert_eq!(p.tick().await.expect("time is kept").scheduled, 1, "once for ten");
    let known = p.schedules(NameQuery::default()).await.expect("read");
    let [known] = &known[..] else { panic!("{known:?}") };
    assert_eq!(known.next_at, Some(Timestamp::from_ms(1_680_000)));
    let last = bench.get(known.last_task.expect("made")).await;
    assert_eq!((last.payload, last.status), (Json::Int(7), Status::Ready));
    assert_eq!(p.counts().await.expect("counted").of(Status::Ready), 2);
    p.drop_schedule("every minute").await.expect("dropped");
    bench.clock.advance_ms(600_000);
    assert_eq!(p.tick().await.expect("time is kept").scheduled, 0);
}

/// With `Skip`, the next task waits for the end of the last one.
pub async fn schedules_may_skip(bench: Bench) {
    let p = &bench.processor;
    let spec = NewSchedule::new("s", "*/10 * * * * *", bench.task()).with_overlap(Overlap::Skip);
    p.put_schedule(spec).await.expect("put");
    bench.clock.advance_ms(10_000);
    assert_eq!(p.tick().await.expect("time is kept").scheduled, 1);
    bench.clock.advance_ms(10_000);
    assert_eq!(p.tick().await.expect("time is kept").scheduled, 0);
    let fence = bench.claim().await.fence();
    p.complete(fence, Json::Null).await.expect("completed");
    bench.clock.advance_ms(10_000);
    assert_eq!(p.tick().await.expect("time is kept").scheduled, 1);
}

/// Nonsense is refused; a schedule whose task is refused later stands still and says why.
pub async fn bad_schedules_are_refused(bench: Bench) {
    let p = &bench.processor;
    let task = || bench.task();
    for (spec, wanted) in [
        (NewSchedule::new("s", "* * *", task()), "cron"),
        (NewSchedule::new("s", "0 0 30 2 *", task()), "cron"),
        (
            NewSchedule::new("s", "* * * * *", task()).with_zone("Mars/Olympus"),
            "zone",
        ),
        (NewSchedule::new("", "* * * * *", task()), "name"),
        (
            NewSchedule::new("s", "* * * * *", task().with_start(Start::Held)),
            "task",
        ),
        (NewSchedule::new("s", "* * * * *", task().with_key("k")), "task"),
        (
            NewSchedule::new(
                "s",
                "* * * * *",
                task().with_fence(Fence {
                    task: bench.id(),
                    epoch: 1,
                }),
            ),
            "task",
        ),
    ] {
        let refused = p.put_schedule(spec).await;
        assert!(
            matches!(refused, Err(Error::Invalid { what, .. }) if what == wanted),
            "{wanted}: {refused:?}"
        );
    }
    let parent = bench.create(task()).await.id;
    let spec = NewSchedule::new("s", "* * * * *", task().with_parent(parent));
    p.put_schedule(spec).await.expect("put");
    p.cancel(parent, CancelMode::Ask).await.expect("cancelled");
    bench.clock.advance_ms(60_000);
    assert_eq!(p.tick().await.expect("time is kept").scheduled, 0);
    let known = p.schedules(NameQuery::default()).await.expect("read").remove(0);
    assert!(known.next_at.is_none() && known.error.is_some(), "{known:?}");
}
