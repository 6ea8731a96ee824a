//! Tasks through a store: enqueued, claimed and completed by many workers, with every step acknowledged.

use std::path::Path;
use std::time::{Duration, Instant};

use aion_processor::{
    ClaimReq, Done, Durability, Error, Lease, NewTask, Op, PostgresOptions, PostgresTaskStore, Processor,
    Result, SqliteOptions, SqliteTaskStore, Write,
};
use aion_types::{Clock, HandlerId, Json, SystemClock, TaskId};
use serde::Deserialize;

/// Writes in one call while a store is filled.
const FILL: usize = 500;

/// Where tasks are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Medium {
    /// SQLite, as it comes.
    Sqlite,
    /// SQLite with a commit for each operation.
    SqliteUnbatched,
    /// PostgreSQL.
    Postgres,
}

/// How a worker goes from one task to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// It completes what it has and takes the next in one operation, as the workers of the library do.
    #[default]
    Together,
    /// It completes what it has, and then asks for the next.
    Apart,
}

/// What a run of workers is.
#[derive(Debug, Clone, Copy)]
pub struct Crew {
    /// Workers, each with one task at a time.
    pub workers: usize,
    /// How they go on.
    pub step: Step,
    /// When they stop, whether or not tasks are left.
    pub most: Duration,
    /// How far each claim and each completion goes before it is acknowledged.
    pub durability: Durability,
}

/// What a crew did.
#[derive(Debug, Default)]
pub struct Worked {
    /// Tasks claimed and completed.
    pub done: usize,
    /// Bytes of payload that the workers saw.
    pub bytes: usize,
    /// How long each cycle of a claim and a completion took.
    pub cycles: Vec<Duration>,
    /// How long all of it took.
    pub took: Duration,
}

impl Worked {
    /// The time that so many of a hundred cycles stay below.
    pub fn percentile(&mut self, percent: usize) -> Duration {
        self.cycles.sort_unstable();
        let at = self.cycles.len() * percent / 100;
        self.cycles
            .get(at.min(self.cycles.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }
}

/// An empty store in a directory, or in the database that `url` names.
///
/// # Errors
/// When it cannot be opened.
pub async fn open(medium: Medium, dir: &Path, url: &str) -> Result<Processor> {
    let path = dir.join("processor.db");
    Ok(match medium {
        Medium::Sqlite => Processor::new(SqliteTaskStore::open(path, SqliteOptions::default()).await?),
        Medium::SqliteUnbatched => {
            let options = SqliteOptions::default().with_max_group(1);
            Processor::new(SqliteTaskStore::open(path, options).await?)
        }
        Medium::Postgres => Processor::new(PostgresTaskStore::open(url, PostgresOptions::default()).await?),
    })
}

/// A task with so many bytes of payload.
pub fn task(payload: usize) -> NewTask {
    NewTask::new(TaskId::generate(SystemClock.now()), "bench", "A task")
        .with_payload("x".repeat(payload).into())
}

/// Creates tasks that are ready, some hundred in a commit.
///
/// # Errors
/// A failure of the storage.
pub async fn fill(processor: &Processor, tasks: usize, payload: usize) -> Result<()> {
    for start in (0..tasks).step_by(FILL) {
        let new = (start..tasks.min(start + FILL)).map(|_| Op::Create(Box::new(task(payload))));
        apply(processor, new, Durability::Process).await?;
    }
    Ok(())
}

/// Applies operations in one commit.
///
/// # Errors
/// The first that is refused, or a failure of the storage.
pub async fn apply(
    processor: &Processor,
    ops: impl Iterator<Item = Op>,
    durability: Durability,
) -> Result<()> {
    let writes = ops
        .map(|op| Write::from(op).with_durability(durability))
        .collect();
    for done in processor.store().apply(writes).await? {
        done?;
    }
    Ok(())
}

/// Lets workers claim and complete, one task at a time each, until nothing is left or the time is over.
///
/// # Errors
/// The first failure of a worker.
pub async fn work(processor: &Processor, crew: Crew) -> Result<Worked> {
    let started = Instant::now();
    let workers: Vec<_> = (0..crew.workers)
        .map(|at| tokio::spawn(worker(processor.clone(), crew, at, started)))
        .collect();
    let mut all = Worked::default();
    for worker in workers {
        let one = worker
            .await
            .map_err(|_| aion_processor::Error::Corrupt("a worker panicked".to_owned()))??;
        all.done += one.done;
        all.bytes += one.bytes;
        all.cycles.extend(one.cycles);
    }
    all.took = started.elapsed();
    Ok(all)
}

async fn worker(processor: Processor, crew: Crew, at: usize, started: Instant) -> Result<Worked> {
    let handler =
        HandlerId::new(format!("worker-{at}")).map_err(|error| Error::Corrupt(error.to_string()))?;
    let claim = ClaimReq::new(handler).with_durability(crew.durability);
    let mut worked = Worked::default();
    let mut began = Instant::now();
    let mut next = processor.claim(claim.clone()).await?.pop();
    while let Some(lease) = next {
        worked.bytes += payload(&lease);
        let goes_on = started.elapsed() < crew.most;
        next = if goes_on && crew.step == Step::Together {
            complete_and_claim(&processor, &lease, &claim).await?
        } else {
            complete(&processor, &lease, crew.durability).await?;
            None
        };
        if goes_on && crew.step == Step::Apart {
            next = processor.claim(claim.clone()).await?.pop();
        }
        worked.done += 1;
        let now = Instant::now();
        worked.cycles.push(now.duration_since(began));
        began = now;
    }
    Ok(worked)
}

/// Completes a task and takes the next, in one operation that is as durable as the claim asks for.
async fn complete_and_claim(processor: &Processor, lease: &Lease, claim: &ClaimReq) -> Result<Option<Lease>> {
    let op = Op::CompleteAndClaim {
        fence: lease.fence(),
        result: Json::Null,
        claim: Box::new(claim.clone()),
    };
    let write = Write::from(op).with_durability(claim.durability);
    match processor.store().apply(vec![write]).await?.pop() {
        Some(Ok(Done::Next(_, mut leases))) => Ok(leases.pop()),
        Some(Err(error)) => Err(error),
        other => Err(Error::Corrupt(format!("answered with {other:?}"))),
    }
}

fn payload(lease: &Lease) -> usize {
    match &lease.task.payload {
        Json::Text(text) => text.len(),
        _ => 0,
    }
}

/// Completes a task under its lease.
///
/// # Errors
/// A lost lease, or a failure of the storage.
pub async fn complete(processor: &Processor, lease: &Lease, durability: Durability) -> Result<()> {
    let op = Op::Complete {
        fence: lease.fence(),
        result: Json::Null,
    };
    apply(processor, std::iter::once(op), durability).await
}
