//! The life of an attempt: what goes in and comes out, how it fails, how it is ended from outside.

use std::time::Duration;

use aion_processor::worker::{Ctx, Failure, Worker};
use aion_processor::{CancelMode, Error, Limits, MemTaskStore, Op, Processor, Write};
use aion_types::{HandlerId, Json, Status, SystemClock};
use serde::{Deserialize, Serialize};

use super::store::Counting;
use super::{Bench, Count, OnDrop, Running, soon, task};

#[derive(Serialize, Deserialize)]
struct Order {
    item: String,
    count: u32,
}

/// Payloads and results are the user's own types; a payload of another type fails for good; kinds without a
/// function stay where they are.
#[tokio::test]
async fn payloads_and_results_are_typed() {
    let bench = Bench::new();
    let payload = Json::object([("item", Json::from("tea")), ("count", Json::Int(2))]);
    let good = bench.create("order", payload).await;
    let bad = bench.create("order", "tea").await;
    let other = bench.create("unknown", Json::Null).await;
    let worker = Worker::new(&bench.processor)
        .with_id(HandlerId::new("shop").unwrap())
        .handle("order", |ctx: Ctx, order: Order| async move {
            assert_eq!(ctx.task().handler_id.as_ref().unwrap().as_str(), "shop");
            Ok((order.item, order.count * 2))
        });
    let running = Running::start(worker);
    let good = bench.ended(good).await;
    let pair = Json::List(vec![Json::from("tea"), Json::Int(4)]);
    assert_eq!((good.status, good.result), (Status::Completed, Some(pair)));
    let bad = bench.ended(bad).await;
    assert_eq!((bad.status, bad.attempt), (Status::Failed, 1));
    assert!(
        bad.error
            .unwrap()
            .starts_with("the payload does not fit its type")
    );
    running.stop().await;
    assert_eq!(bench.get(other).await.status, Status::Ready);
}

/// A worker without functions would claim everything, so it does not begin.
#[tokio::test]
async fn a_worker_needs_a_function() {
    let refused = Worker::new(&Bench::new().processor)
        .run(std::future::pending())
        .await;
    assert!(
        matches!(refused, Err(Error::Invalid { what: "kinds", .. })),
        "{refused:?}"
    );
}

/// A panic is a failed attempt with its message, and so is a run that takes too long; what follows is tried as
/// the failure says.
#[tokio::test]
async fn failures_are_tried_again_as_they_say() {
    let bench = Bench::new();
    let runs = Count::default();
    let counted = runs.clone();
    let worker = Worker::new(&bench.processor)
        .handle("panics", move |_: Ctx, (): ()| {
            let run = counted.up();
            async move {
                assert!(run > 1, "the first run number {run}");
                Ok(run)
            }
        })
        .handle("never", |_: Ctx, (): ()| async {
            Err::<(), _>(Failure::never("no such account"))
        })
        .handle("after", |_: Ctx, (): ()| async {
            Err::<(), _>(Failure::after(Duration::from_secs(7), "try later"))
        })
        .handle("large", |_: Ctx, (): ()| async { Ok("x".repeat(2 << 20)) });
    let running = Running::start(worker);
    let impatient = Worker::new(&bench.processor)
        .with_timeout(Duration::from_millis(30))
        .handle("hangs", |_: Ctx, (): ()| async {
            std::future::pending::<Result<(), Failure>>().await
        });
    let other = Running::start(impatient);

    let id = bench.create("panics", Json::Null).await;
    let failed = bench.until(id, |task| task.status == Status::Preparing).await;
    assert_eq!(
        failed.error.as_deref(),
        Some("it panicked: the first run number 1")
    );
    bench.advance(1_000).await;
    let done = bench.ended(id).await;
    assert_eq!((done.attempt, done.result), (2, Some(Json::Int(2))));

    let id = bench.create("hangs", Json::Null).await;
    let failed = bench.until(id, |task| task.status == Status::Preparing).await;
    assert_eq!(
        (failed.error.as_deref(), failed.attempt),
        (Some("it took too long"), 1)
    );

    let never = bench.create("never", Json::Null).await;
    let failed = bench.ended(never).await;
    assert_eq!(
        (failed.attempt, failed.error.as_deref()),
        (1, Some("no such account"))
    );

    let later = bench.create("after", Json::Null).await;
    let failed = bench.until(later, |task| task.status == Status::Preparing).await;
    let now = bench.processor.now().await.unwrap();
    assert_eq!(failed.run_after, Some(now.plus_ms(7_000)));

    let large = bench.create("large", Json::Null).await;
    let failed = bench.ended(large).await;
    assert!(
        failed.error.unwrap().starts_with("result is"),
        "too large for the store"
    );
    running.stop().await;
    other.stop().await;
}

/// A lease that somebody else may have drops the function at once, in the middle of a step; whoever has the task
/// next does the step.
#[tokio::test]
async fn a_lost_lease_drops_the_function() {
    let bench = Bench::new();
    let (runs, dropped) = (Count::default(), Count::default());
    let (counted, drops) = (runs.clone(), dropped.clone());
    let worker = Worker::new(&bench.processor)
        .with_lease(Duration::from_millis(600))
        .handle("slow", move |ctx: Ctx, (): ()| {
            let (run, guard) = (counted.up(), OnDrop(drops.clone()));
            async move {
                let _guard = guard;
                ctx.step("charge", async move {
                    if run == 1 {
                        std::future::pending::<()>().await;
                    }
                    Ok(run)
                })
                .await
            }
        });
    let running = Running::start(worker);
    let id = bench.create("slow", Json::Null).await;
    bench.until(id, |task| task.status == Status::Running).await;
    bench.advance(600).await;
    let done = bench.ended(id).await;
    assert_eq!((done.result, done.lease_epoch), (Some(Json::Int(2)), 2));
    assert_eq!((done.crash_count, done.attempt), (1, 1));
    running.stop().await;
    assert_eq!((runs.get(), dropped.get()), (2, 2));
}

/// What a function left behind makes no tasks in the name of one that somebody else has now.
#[tokio::test]
async fn a_lost_lease_spawns_nothing() {
    let bench = Bench::new();
    let left = std::sync::Arc::new(std::sync::Mutex::new(None));
    let leaves = left.clone();
    let worker = Worker::new(&bench.processor).handle("slow", move |ctx: Ctx, (): ()| {
        leaves.lock().unwrap().get_or_insert(ctx);
        std::future::pending::<Result<(), Failure>>()
    });
    let running = Running::start(worker);
    let id = bench.create("slow", Json::Null).await;
    bench.until(id, |task| task.status == Status::Running).await;
    soon(async {
        while left.lock().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let ctx = left.lock().unwrap().clone().unwrap();
    ctx.spawn("first", "other", ()).await.unwrap();
    running.crash().await;
    bench.advance(60_000).await;
    let refused = ctx.spawn("second", "other", ()).await.unwrap_err();
    assert!(refused.to_string().contains("lease"), "{refused}");
    let counts = bench.processor.counts().await.unwrap();
    assert_eq!(counts.0.iter().sum::<u64>(), 2);
}

/// Leases are extended for as long as a function works.
#[tokio::test]
async fn leases_are_extended() {
    let processor = Processor::new(MemTaskStore::new(SystemClock, Limits::default()));
    let worker = Worker::new(&processor)
        .with_lease(Duration::from_millis(900))
        .handle("long", |_: Ctx, (): ()| async {
            tokio::time::sleep(Duration::from_millis(2_200)).await;
            Ok(())
        });
    let running = Running::start(worker);
    let id = processor.create(task("long")).await.unwrap().id;
    let done = soon(processor.wait_for(id)).await.unwrap();
    assert_eq!(
        (done.status, done.crash_count, done.lease_epoch),
        (Status::Completed, 0, 1)
    );
    running.stop().await;
}

/// At the end nothing new is claimed; what ends within the grace counts, what does not is given back without a
/// mark.
#[tokio::test]
async fn a_shutdown_is_graceful() {
    let bench = Bench::new();
    let dropped = Count::default();
    let drops = dropped.clone();
    let worker = Worker::new(&bench.processor)
        .with_grace(Duration::from_millis(1_500))
        .with_slots(2)
        .handle("quick", |_: Ctx, (): ()| async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            Ok("done")
        })
        .handle("endless", move |_: Ctx, (): ()| {
            let guard = OnDrop(drops.clone());
            async move {
                let _guard = guard;
                std::future::pending::<Result<(), Failure>>().await
            }
        });
    let quick = bench.create("quick", Json::Null).await;
    let endless = bench.create("endless", Json::Null).await;
    let running = Running::start(worker);
    for id in [quick, endless] {
        bench.until(id, |task| task.status == Status::Running).await;
    }
    let waiting = bench.create("quick", Json::Null).await;
    running.stop().await;
    assert_eq!(bench.get(quick).await.result, Some(Json::from("done")));
    let back = bench.get(endless).await;
    assert_eq!(
        (back.status, back.attempt, back.crash_count),
        (Status::Ready, 0, 0)
    );
    assert_eq!(dropped.get(), 1);
    assert_eq!(bench.get(waiting).await.lease_epoch, 0, "it was not claimed");
}

/// A function learns that its task was cancelled and may tidy up; one that does not care is dropped.
#[tokio::test]
async fn cancelling_reaches_the_function() {
    let bench = Bench::new();
    let tidied = Count::default();
    let tidies = tidied.clone();
    let worker = Worker::new(&bench.processor)
        .with_lease(Duration::from_millis(900))
        .with_cancel_grace(Duration::from_millis(50))
        .handle("listens", move |ctx: Ctx, (): ()| {
            let tidies = tidies.clone();
            async move {
                assert!(!ctx.is_cancelled());
                ctx.cancelled().await;
                tidies.up();
                Err::<(), _>(Failure::again("stopped"))
            }
        })
        .handle("ignores", |_: Ctx, (): ()| async {
            std::future::pending::<Result<(), Failure>>().await
        });
    let running = Running::start(worker);
    for kind in ["listens", "ignores"] {
        let id = bench.create(kind, Json::Null).await;
        bench.until(id, |task| task.status == Status::Running).await;
        bench.processor.cancel(id, CancelMode::Ask).await.unwrap();
        assert_eq!(bench.ended(id).await.status, Status::Cancelled, "{kind}");
    }
    assert_eq!(tidied.get(), 1);
    running.stop().await;
}

/// A busy slot writes once for a task: its end, and the claim of the next one.
#[tokio::test]
async fn a_busy_worker_writes_once_for_a_task() {
    const TASKS: usize = 50;
    let store = Counting::new();
    let (writes, claims) = (store.writes.clone(), store.claims.clone());
    let processor = Processor::new(store);
    let made: Vec<_> = (0..TASKS).map(|_| task("small")).collect();
    let last = made[TASKS - 1].id;
    let creates = made
        .into_iter()
        .map(|task| Write::from(Op::Create(Box::new(task))));
    processor.store().apply(creates.collect()).await.unwrap();
    let worker = Worker::new(&processor)
        .with_slots(1)
        .handle("small", |_: Ctx, (): ()| async { Ok(()) });
    let running = Running::start(worker);
    soon(processor.wait_for(last)).await.unwrap();
    running.stop().await;
    assert_eq!(writes.get(), TASKS + 1, "the creation and an end for each");
    assert!(claims.get() <= 3, "{claims:?}");
}

/// A storage that is away when an attempt is about to begin costs no attempt.
#[tokio::test]
async fn what_has_not_begun_is_no_attempt() {
    let store = Counting::new();
    let away = store.away.clone();
    let processor = Processor::new(store);
    let id = processor
        .create(task("twice").with_max_attempts(2))
        .await
        .unwrap()
        .id;
    let unanswered = away.clone();
    let worker = Worker::new(&processor).handle("twice", move |ctx: Ctx, (): ()| {
        let away = unanswered.clone();
        async move {
            if ctx.task().attempt > 1 {
                return Ok(());
            }
            away.up();
            away.up();
            Err(Failure::after(Duration::ZERO, "once more"))
        }
    });
    let running = Running::start(worker);
    let ended = soon(async {
        loop {
            let record = processor.get(id).await.unwrap();
            if record.status.is_terminal() {
                return record;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    let ended = ended.await;
    assert_eq!(
        (ended.status, ended.attempt, away.get()),
        (Status::Completed, 2, 0)
    );
    running.stop().await;
}
