//! Waiting without a slot: children, sleep, primitives, calls.

use std::time::Duration;

use aion_processor::worker::{Ctx, Worker};
use aion_processor::{
    Call, GatherPolicy, MessageQuery, NewMessage, NewPrimitive, PrimitiveKind, PutObject, Signal, StepQuery,
};
use aion_types::{Json, Role, Status};

use super::{Bench, Count, Running, task};

/// A worker with one slot runs a parent and its children: the parent waits without the slot, runs again, and finds
/// what they gave in the order in which it asked.
#[tokio::test]
async fn gathering_frees_the_slot() {
    let bench = Bench::new();
    let runs = Count::default();
    let counted = runs.clone();
    let worker = Worker::new(&bench.processor)
        .with_slots(1)
        .handle("sum", move |ctx: Ctx, numbers: Vec<i64>| {
            counted.up();
            async move {
                let mut children = Vec::new();
                for (n, number) in numbers.iter().enumerate() {
                    children.push(ctx.spawn(format!("square-{n}"), "square", number).await?);
                }
                let mut sum = 0;
                for ended in ctx.gather(&children, GatherPolicy::All).await? {
                    sum += ended.result::<i64>()?;
                }
                Ok(sum)
            }
        })
        .handle("square", |_: Ctx, n: i64| async move { Ok(n * n) });
    let running = Running::start(worker);
    let numbers = Json::List((1..=20).map(Json::Int).collect());
    let id = bench.create("sum", numbers).await;
    let done = bench.ended(id).await;
    assert_eq!((done.result, done.attempt), (Some(Json::Int(2_870)), 1));
    assert_eq!(runs.get(), 2);
    let children = bench.processor.child_counts(id).await.unwrap();
    assert_eq!(children.statuses.of(Status::Completed), 20, "each was made once");
    running.stop().await;
}

/// Under `all` a failed child fails the parent, which is not run again; under `settle` the parent sees it.
#[tokio::test]
async fn policies_decide_about_failed_children() {
    let bench = Bench::new();
    let runs = Count::default();
    let counted = runs.clone();
    let worker = Worker::new(&bench.processor)
        .handle("parent", move |ctx: Ctx, settles: bool| {
            counted.up();
            async move {
                let child = ctx.spawn_task("child", task("bad").with_max_attempts(1)).await?;
                let policy = if settles {
                    GatherPolicy::Settle
                } else {
                    GatherPolicy::All
                };
                let ended = ctx.gather(&[child], policy).await?;
                assert!(!ended[0].is_completed());
                Ok(ended[0].result::<()>().unwrap_err().to_string())
            }
        })
        .handle("bad", |_: Ctx, (): ()| async {
            Ok(String::from_utf8(vec![0xff])?.len())
        });
    let running = Running::start(worker);
    let strict = bench.create("parent", false).await;
    assert_eq!(bench.ended(strict).await.status, Status::Failed);
    assert_eq!(runs.get(), 1);
    let lenient = bench.create("parent", true).await;
    let told = bench.ended(lenient).await.result.unwrap();
    let told = told.as_str().unwrap();
    assert!(told.contains("is FAILED: invalid utf-8 sequence"), "{told}");
    running.stop().await;
}

/// A sleep takes no slot, lasts by the store's clock from when the first run came to it, and is not slept again.
#[tokio::test]
async fn sleeping_takes_no_slot() {
    let bench = Bench::new();
    let worker = Worker::new(&bench.processor)
        .with_slots(1)
        .handle("sleeper", |ctx: Ctx, (): ()| async move {
            let before = ctx.step("before", async { Ok(ctx.now().await?.as_ms()) }).await?;
            ctx.sleep("nap", Duration::from_secs(3_600)).await?;
            ctx.sleep("again", Duration::from_secs(1)).await?;
            Ok(ctx.now().await?.as_ms() - before)
        })
        .handle("other", |_: Ctx, (): ()| async { Ok(()) });
    let running = Running::start(worker);
    let sleeper = bench.create("sleeper", Json::Null).await;
    let asleep = bench.until(sleeper, |task| task.run_after.is_some()).await;
    assert_eq!(asleep.run_after.unwrap().as_ms(), 1_000_000 + 3_600_000);
    let other = bench.create("other", Json::Null).await;
    bench.ended(other).await;
    bench.advance(3_599_999).await;
    assert_eq!(bench.get(sleeper).await.status, Status::Preparing);
    bench.advance(1).await;
    bench
        .until(sleeper, |task| {
            task.run_after
                .is_some_and(|at| at.as_ms() == 1_000_000 + 3_601_000)
        })
        .await;
    bench.advance(1_000).await;
    let done = bench.ended(sleeper).await;
    assert_eq!((done.result, done.attempt), (Some(Json::Int(3_601_000)), 1));
    running.stop().await;
}

/// Holders of a semaphore are never more than its permits, and everybody gets in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_semaphore_bounds_the_functions() {
    let bench = Bench::new();
    let two = NewPrimitive::new("two", PrimitiveKind::Semaphore { permits: 2 });
    bench.processor.declare(two).await.unwrap();
    let (inside, most) = (Count::default(), Count::default());
    let (entered, peak) = (inside.clone(), most.clone());
    let worker = Worker::new(&bench.processor).handle("guarded", move |ctx: Ctx, (): ()| {
        let (entered, peak) = (entered.clone(), peak.clone());
        async move {
            let guard = ctx.acquire("two").await?;
            while peak.get() < entered.up() {
                peak.up();
                entered.down();
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
            entered.down();
            guard.give_back().await?;
            Ok(())
        }
    });
    let mut made = Vec::new();
    for _ in 0..12 {
        made.push(bench.create("guarded", Json::Null).await);
    }
    let running = Running::start(worker);
    for id in made {
        assert_eq!(bench.ended(id).await.status, Status::Completed);
    }
    running.stop().await;
    assert_eq!((inside.get(), most.get()), (0, 2));
    assert_eq!(bench.processor.primitive("two").await.unwrap().held, 0);
}

/// An item of a queue is typed, and goes back to its place if it is not done with; a wait can end in time.
#[tokio::test]
async fn items_and_patience() {
    let bench = Bench::new();
    let p = &bench.processor;
    let mail = NewPrimitive::new("mail", PrimitiveKind::Queue { capacity: 4 });
    p.declare(mail).await.unwrap();
    let worker = Worker::new(p).handle("reader", |ctx: Ctx, until_ms: i64| async move {
        let until = aion_types::Timestamp::from_ms(until_ms);
        let Some(letter) = ctx.acquire_until("mail", 1, until).await? else {
            return Ok("nothing came".to_owned());
        };
        let text: String = letter.item()?;
        if text == "not for me" {
            letter.put_back().await?;
        }
        Ok(text)
    });
    let running = Running::start(worker);
    let waits = bench.create("reader", Json::Int(1_060_000)).await;
    bench.until(waits, |task| task.status == Status::Blocked).await;
    bench.advance(60_000).await;
    assert_eq!(bench.ended(waits).await.result, Some(Json::from("nothing came")));
    let gets = bench.create("reader", Json::Int(2_000_000)).await;
    bench.until(gets, |task| task.status == Status::Blocked).await;
    p.signal("mail", Signal::Put("not for me".into())).await.unwrap();
    assert_eq!(bench.ended(gets).await.result, Some(Json::from("not for me")));
    assert_eq!(p.primitive("mail").await.unwrap().items, 1, "it went back");
    running.stop().await;
}

/// A call, a message and a child are made once, however often the function runs; a name is used once in a run.
#[tokio::test]
async fn acts_happen_once() {
    let bench = Bench::new();
    let p = &bench.processor;
    p.put_object(PutObject::new("plan", Json::from("first")))
        .await
        .unwrap();
    let worker = Worker::new(p)
        .handle("caller", |ctx: Ctx, (): ()| async move {
            ctx.append("hello", NewMessage::new(Role::Assistant, "Hello."))
                .await?;
            let work = task("callee").with_payload("go".into());
            let called = ctx.call("work on the plan", Call::new("plan", work)).await?;
            let ended = ctx.gather(&[called], GatherPolicy::Settle).await?;
            let twice = ctx.append("hello", NewMessage::new(Role::User, "Again.")).await;
            assert_eq!(twice.unwrap_err().retry(), Some(aion_processor::Retry::Never));
            let own = ctx.step("aion/sleep/x", async { Ok(1) }).await;
            assert!(own.is_err(), "these names are not the user's");
            ended[0].result::<String>()
        })
        .handle("callee", |_: Ctx, call: Json| async move {
            let object = call.get("object").and_then(|object| object.get("name"));
            Ok(object.and_then(Json::as_str).map(str::to_owned))
        });
    let running = Running::start(worker);
    let id = bench.create("caller", Json::Null).await;
    assert_eq!(bench.ended(id).await.result, Some(Json::from("plan")));
    running.stop().await;
    let said = p.messages(id, MessageQuery::new()).await.unwrap().messages;
    assert_eq!(said.len(), 1);
    assert_eq!(p.child_counts(id).await.unwrap().statuses.open(), 0);
    assert!(p.steps(id, StepQuery::default()).await.unwrap().steps.is_empty());
}
