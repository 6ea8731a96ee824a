//! How fast the stores are here: run with `--ignored --nocapture`, in the release profile for
//! numbers to quote.

use std::time::{Duration, Instant};

use aion_processor::{
    ClaimReq, Durability, NewTask, Op, PostgresOptions, PostgresTaskStore, Processor, SqliteOptions,
    SqliteTaskStore, Write,
};
use aion_types::{Clock, HandlerId, Json, SystemClock, TaskId};

const TASKS: usize = 3_000;

async fn fill(processor: &Processor) {
    for _ in 0..TASKS / 500 {
        let new = || {
            NewTask::new(TaskId::generate(SystemClock.now()), "bench", "A task")
                .with_payload("x".repeat(1_000).into())
        };
        let writes =
            (0..500).map(|_| Write::from(Op::Create(Box::new(new()))).with_durability(Durability::Process));
        processor.store().apply(writes.collect()).await.unwrap();
    }
}

/// Claims and completes everything, each acknowledged at `durability`; gives cycles per second.
async fn drain(processor: &Processor, workers: usize, durability: Durability) -> f64 {
    let started = Instant::now();
    let workers: Vec<_> = (0..workers)
        .map(|n| {
            let processor = processor.clone();
            tokio::spawn(async move {
                let claim =
                    ClaimReq::new(HandlerId::new(format!("w{n}")).unwrap()).with_durability(durability);
                let mut done = 0;
                while let Some(lease) = processor.claim(claim.clone()).await.unwrap().pop() {
                    let op = Op::Complete {
                        fence: lease.fence(),
                        result: Json::Null,
                    };
                    let write = Write::from(op).with_durability(durability);
                    processor
                        .store()
                        .apply(vec![write])
                        .await
                        .unwrap()
                        .pop()
                        .unwrap()
                        .unwrap();
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for worker in workers {
        done += worker.await.unwrap();
    }
    assert_eq!(done, TASKS);
    TASKS as f64 / started.elapsed().as_secs_f64()
}

/// The middle of 21 flushes of one page, as the disk is right now.
fn fsync_ms(directory: &std::path::Path) -> f64 {
    use std::io::Write as _;
    let mut file = std::fs::File::create(directory.join("flush")).unwrap();
    let mut times: Vec<Duration> = (0..21)
        .map(|_| {
            let started = Instant::now();
            file.write_all(&[7; 4_096]).unwrap();
            file.sync_data().unwrap();
            started.elapsed()
        })
        .collect();
    times.sort();
    times[10].as_secs_f64() * 1e3
}

/// Seconds of processor time that this process has used, which other load does not change much.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after_name
        .split(' ')
        .skip(12)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    ticks as f64 / 100.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn cycles_per_second() {
    for durability in [Durability::Process, Durability::Power] {
        for workers in [1, 8, 64] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("processor.db");
            let store = SqliteTaskStore::open(path, SqliteOptions::default())
                .await
                .unwrap();
            let processor = Processor::new(store);
            fill(&processor).await;
            let flush = fsync_ms(directory.path());
            let cpu = cpu_s();
            let rate = drain(&processor, workers, durability).await;
            let cpu_us = (cpu_s() - cpu) / TASKS as f64 * 1e6;
            println!(
                "{durability:?}, {workers} workers: {rate:.0} claim+complete/s, {cpu_us:.0} us of CPU each, fsync p50 {flush:.2} ms"
            );
        }
    }
}

/// The same on a Postgres server whose files lie where temporary ones do, as far as the flush is concerned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn cycles_per_second_on_postgres() {
    for durability in [Durability::Process, Durability::Power] {
        for workers in [1, 8, 64] {
            let Some(database) = aion_sql::testkit::TestDatabase::create().await else {
                return;
            };
            let store = PostgresTaskStore::open(&database.url(), PostgresOptions::default())
                .await
                .unwrap();
            let processor = Processor::new(store);
            fill(&processor).await;
            let flush = fsync_ms(tempfile::tempdir().unwrap().path());
            let cpu = cpu_s();
            let rate = drain(&processor, workers, durability).await;
            let cpu_us = (cpu_s() - cpu) / TASKS as f64 * 1e6;
            println!(
                "{durability:?}, {workers} workers: {rate:.0} claim+complete/s, {cpu_us:.0} us of CPU here each, fsync p50 {flush:.2} ms"
            );
            database.remove().await;
        }
    }
}
