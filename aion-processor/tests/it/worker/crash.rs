//! Crashes between and inside of steps: what was recorded is not done again, and nobody can tell by the result.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aion_processor::worker::{Ctx, Failure, Worker};
use aion_processor::{GatherPolicy, Processor, SqliteOptions, SqliteTaskStore, StepQuery};
use aion_types::{EventKind, Json, ManualClock, Status, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::sync::Notify;

use super::{Bench, Count, Running, soon, task};

/// A step that was recorded before the process was gone, file and all, is not done again.
#[tokio::test]
async fn a_recorded_step_survives_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("processor.db");
    let clock = ManualClock::at(Timestamp::from_ms(1_000_000));
    let open = async |path: &Path| {
        let options = SqliteOptions::default().with_clock(clock.clone());
        Arc::new(SqliteTaskStore::open(path, options).await.unwrap())
    };
    let charged = Count::default();
    let worker = |processor: &Processor, hangs: bool| {
        let charged = charged.clone();
        Worker::new(processor).handle("order", move |ctx: Ctx, (): ()| {
            let charged = charged.clone();
            async move {
                let receipt = ctx.step("charge", async { Ok(charged.up()) }).await?;
                if hangs {
                    std::future::pending::<()>().await;
                }
                let parcel = ctx
                    .step("ship", async { Ok(format!("parcel of {receipt}")) })
                    .await?;
                Ok(parcel)
            }
        })
    };
    let store = open(&path).await;
    let processor = Processor::over(store.clone());
    let id = processor.create(task("order")).await.unwrap().id;
    let running = Running::start(worker(&processor, true));
    soon(async {
        while processor
            .steps(id, StepQuery::default())
            .await
            .unwrap()
            .steps
            .is_empty()
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    running.crash().await;
    store.close().await;

    clock.advance_ms(30_000);
    let processor = Processor::over(open(&path).await);
    let running = Running::start(worker(&processor, false));
    let done = soon(processor.wait_for(id)).await.unwrap();
    running.stop().await;
    assert_eq!(done.result, Some(Json::from("parcel of 1")));
    assert_eq!((charged.get(), done.crash_count), (1, 1));
}

/// What a function does, one after the other.
#[derive(Debug, Clone, Copy)]
enum Act {
    Step(i64),
    Child(i64),
    Sleep(u16),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => any::<i32>().prop_map(|n| Act::Step(n.into())),
        1 => any::<i32>().prop_map(|n| Act::Child(n.into())),
        1 => (1..5_000_u16).prop_map(Act::Sleep),
    ]
}

/// Crashes when it has been passed so many times, and says so.
#[derive(Default)]
struct Fuse {
    left: Mutex<Vec<usize>>,
    blown: Notify,
}

impl Fuse {
    /// A place where the process may die: nothing comes after it then.
    async fn pass(&self) {
        let dies = {
            let mut left = self.left.lock().unwrap();
            match left.last_mut() {
                Some(0) => {
                    left.pop();
                    true
                }
                Some(n) => {
                    *n -= 1;
                    false
                }
                None => false,
            }
        };
        if dies {
            self.blown.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

/// How often each step was really done.
type Effects = Arc<Mutex<BTreeMap<usize, usize>>>;

fn worker(bench: &Bench, acts: &[Act], fuse: &Arc<Fuse>, effects: &Effects) -> Worker {
    let (acts, fuse, effects) = (acts.to_vec(), fuse.clone(), effects.clone());
    Worker::new(&bench.processor)
        .with_lease(Duration::from_secs(3_600))
        .handle("program", move |ctx: Ctx, (): ()| {
            let (acts, fuse, effects) = (acts.clone(), fuse.clone(), effects.clone());
            async move {
                let mut sum = 0_i64;
                for (n, act) in acts.into_iter().enumerate() {
                    fuse.pass().await;
                    sum = sum
                        .wrapping_mul(31)
                        .wrapping_add(one(&ctx, n, act, &fuse, &effects).await?);
                }
                fuse.pass().await;
                Ok(sum)
            }
        })
        .handle("child", |_: Ctx, n: i64| async move { Ok(n + 1) })
}

async fn one(ctx: &Ctx, n: usize, act: Act, fuse: &Fuse, effects: &Effects) -> Result<i64, Failure> {
    match act {
        Act::Step(value) => {
            let work = async {
                *effects.lock().unwrap().entry(n).or_default() += 1;
                fuse.pass().await;
                Ok(value)
            };
            ctx.step(format!("step-{n}"), work).await
        }
        Act::Child(value) => {
            let child = ctx.spawn(format!("child-{n}"), "child", value).await?;
            fuse.pass().await;
            ctx.gather(&[child], GatherPolicy::All).await?[0].result()
        }
        Act::Sleep(ms) => {
            ctx.sleep(format!("sleep-{n}"), Duration::from_millis(ms.into()))
                .await?;
            Ok(7)
        }
    }
}

fn expected(acts: &[Act]) -> i64 {
    acts.iter().fold(0_i64, |sum, act| {
        let gives = match act {
            Act::Step(value) => *value,
            Act::Child(value) => value + 1,
            Act::Sleep(_) => 7,
        };
        sum.wrapping_mul(31).wrapping_add(gives)
    })
}

/// Runs the program through its crashes, each of which the store finds out by the end of the lease.
async fn survive(acts: &[Act], crashes: Vec<usize>) {
    let bench = Bench::new();
    let fuse = Arc::new(Fuse::default());
    fuse.left.lock().unwrap().extend(crashes.iter());
    let effects = Effects::default();
    let id = bench.create("program", Json::Null).await;
    let mut running = Running::start(worker(&bench, acts, &fuse, &effects));
    let mut crashed = 0;
    let done = loop {
        tokio::select! {
            done = bench.ended(id) => break done,
            () = fuse.blown.notified() => {
                running.crash().await;
                crashed += 1;
                bench.advance(3_600_000).await;
                running = Running::start(worker(&bench, acts, &fuse, &effects));
            }
            () = asleep(&bench, id) => bench.advance(1_000).await,
        }
    };
    running.stop().await;
    assert_eq!(
        (done.status, done.result),
        (Status::Completed, Some(Json::Int(expected(acts))))
    );
    let log = bench.processor.events(0, 1_000).await.unwrap().events;
    let vanished = log.iter().filter(|event| event.kind == EventKind::LeaseExpired);
    assert_eq!(vanished.count(), crashed);
    let page = bench
        .processor
        .steps(
            id,
            StepQuery {
                after: 0,
                limit: 1_000,
            },
        )
        .await
        .unwrap();
    let names: Vec<_> = page.steps.iter().map(|step| step.name.clone()).collect();
    let wanted = acts.iter().enumerate().filter_map(|(n, act)| match act {
        Act::Step(_) => Some(format!("step-{n}")),
        Act::Sleep(_) => Some(format!("aion/sleep/sleep-{n}")),
        Act::Child(_) => None,
    });
    assert_eq!(
        names,
        wanted.collect::<Vec<_>>(),
        "each is recorded once, in order"
    );
    let children = acts.iter().filter(|act| matches!(act, Act::Child(_))).count() as u64;
    let counted = bench.processor.child_counts(id).await.unwrap().statuses;
    assert_eq!(counted.of(Status::Completed), children);
    let done: usize = effects.lock().unwrap().values().map(|times| times - 1).sum();
    assert!(
        done <= crashed,
        "a step is done again only if the crash was inside of it"
    );
}

/// Comes back when the task rests until a later time.
async fn asleep(bench: &Bench, id: aion_types::TaskId) {
    bench.until(id, |task| task.status == Status::Preparing).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// For every program and every row of crashes, each step is recorded once, each child is made once, and the
    /// result is that of a run without crashes.
    #[test]
    fn crashes_do_not_show(acts in vec(act(), 1..7), crashes in vec(0..12_usize, 0..5)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(survive(&acts, crashes));
    }
}
