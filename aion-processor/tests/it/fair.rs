//! Shares of queues: what each gets, and what is kept of them.

use std::collections::BTreeMap;

use aion_processor::{
    ClaimOrder, ClaimReq, Limits, MemTaskStore, NewTask, Op, PostgresOptions, PostgresTaskStore, Processor,
    SqliteOptions, SqliteTaskStore, Write,
};
use aion_types::{Clock, HandlerId, ManualClock, SystemClock, TaskId, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use sqlx::Connection;

use crate::postgres::database;

fn fair(max: u32) -> ClaimReq {
    let claim = ClaimReq::new(HandlerId::new("worker").unwrap());
    claim.with_order(ClaimOrder::Fair).with_max(max)
}

fn queue(number: usize) -> String {
    format!("queue-{number:04}")
}

async fn fill(processor: &Processor, queues: impl Iterator<Item = usize>) {
    let tasks: Vec<Write> = queues
        .map(|number| {
            let task = NewTask::new(TaskId::generate(SystemClock.now()), "k", "t");
            Op::Create(Box::new(task.with_queue(queue(number)))).into()
        })
        .collect();
    for part in tasks.chunks(500) {
        let made = processor.store().apply(part.to_vec()).await.unwrap();
        assert!(made.iter().all(Result::is_ok));
    }
}

async fn claim(processor: &Processor, max: u32) -> Vec<String> {
    let leases = processor.claim(fair(max)).await.unwrap();
    leases.into_iter().map(|lease| lease.task.queue).collect()
}

fn in_memory() -> Processor {
    let clock = ManualClock::at(Timestamp::from_ms(1_000));
    Processor::new(MemTaskStore::new(clock, Limits::default()))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Queues that come, are served and go leave nothing behind but the clock, and a weight that was set.
async fn nothing_is_kept(processor: &Processor) {
    processor.weigh(queue(7), 3).await.unwrap();
    processor.weigh(queue(8), 3).await.unwrap();
    processor.weigh(queue(8), 1).await.unwrap();
    for part in 0..4 {
        fill(processor, part * 200..(part + 1) * 200).await;
        while !claim(processor, 37).await.is_empty() {}
    }
    for _ in 0..4 {
        claim(processor, 1).await;
    }
}

#[tokio::test]
async fn a_file_keeps_no_share_of_idle_queues() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.db");
    let store = SqliteTaskStore::open(&path, SqliteOptions::default())
        .await
        .unwrap();
    nothing_is_kept(&Processor::new(store)).await;
    let url = format!("sqlite://{}?mode=ro", path.display());
    let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let names: Vec<String> = sqlx::query_scalar("SELECT name FROM named WHERE space = 2 ORDER BY name")
        .fetch_all(&mut conn)
        .await
        .unwrap();
    assert_eq!(names, [String::new(), queue(7)]);
}

#[tokio::test]
async fn a_server_keeps_no_share_of_idle_queues() {
    let Some(database) = database().await else { return };
    let store = PostgresTaskStore::open(&database.url(), PostgresOptions::default()).await;
    nothing_is_kept(&Processor::new(store.unwrap())).await;
    let mut conn = sqlx::PgConnection::connect(&database.url()).await.unwrap();
    let shares = "SELECT name FROM aion_processor.named WHERE space = 2 ORDER BY name";
    let names: Vec<String> = sqlx::query_scalar(shares).fetch_all(&mut conn).await.unwrap();
    assert_eq!(names, [String::new(), queue(7)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// While two queues have work, what they got, each by its weight, differs by no more than one task of either
    /// (Golestani 1994, theorem 1), and no claim comes back with less than it could.
    #[test]
    fn shares_follow_weights(weights in vec(1..9_u32, 2..9), claims in vec(1..20_u32, 1..30)) {
        runtime().block_on(async {
            let processor = in_memory();
            for (number, weight) in weights.iter().enumerate() {
                processor.weigh(queue(number), *weight).await.unwrap();
            }
            let wanted: u32 = claims.iter().sum();
            let tasks = (0..=wanted).flat_map(|_| 0..weights.len());
            fill(&processor, tasks).await;
            let mut got: BTreeMap<String, f64> = BTreeMap::new();
            for max in claims {
                let leases = claim(&processor, max).await;
                prop_assert_eq!(leases.len(), max as usize);
                for name in leases {
                    *got.entry(name).or_default() += 1.0;
                }
                let share = |n: usize| got.get(&queue(n)).copied().unwrap_or_default() / f64::from(weights[n]);
                for (one, first) in weights.iter().enumerate() {
                    for (other, second) in weights.iter().enumerate().take(one) {
                        let apart = (share(one) - share(other)).abs();
                        let bound = 1.0 / f64::from(*first) + 1.0 / f64::from(*second);
                        prop_assert!(apart <= bound + 1e-3, "{apart} > {bound}: {got:?}");
                    }
                }
            }
            Ok(())
        })?;
    }

    /// Whatever queues come and go, one that has work waits for two tasks of each other queue at most, after the
    /// claims that it takes to look at all of them.
    #[test]
    fn nobody_starves(steps in vec((0..150_usize, 1..100_usize, 0..200_u32), 1..30)) {
        const QUEUES: usize = 250;
        /// 128 names of either list at a time.
        const ROUND: usize = 2 * QUEUES.div_ceil(128) + 1;
        runtime().block_on(async {
            let processor = in_memory();
            let mut ready: BTreeMap<String, u32> = BTreeMap::new();
            // Claims, and leases to others after those, that each queue with work has waited for.
            let mut waited: BTreeMap<String, (usize, usize)> = BTreeMap::new();
            for (first, count, max) in steps {
                let work = first..first + count;
                fill(&processor, work.clone().chain(work.clone())).await;
                for number in work {
                    *ready.entry(queue(number)).or_default() += 2;
                }
                let work = ready.values().sum::<u32>();
                let leases = claim(&processor, max).await;
                prop_assert_eq!(leases.len() as u32, max.min(work));
                for name in ready.keys() {
                    let (claims, others) = waited.entry(name.clone()).or_default();
                    *claims += 1;
                    if *claims > ROUND {
                        *others += leases.len();
                    }
                }
                for name in leases {
                    waited.remove(&name);
                    let left = ready.get_mut(&name).unwrap();
                    *left -= 1;
                    if *left == 0 {
                        ready.remove(&name);
                    }
                }
                for (name, (_, others)) in &waited {
                    prop_assert!(*others <= 2 * QUEUES, "{name} waited for {others}");
                }
            }
            Ok(())
        })?;
    }
}
