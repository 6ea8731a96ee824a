//! The processor behind HTTP: a server on loopback and workers that call it, each one operation at a time.
//!
//! Server and client share the process and its processors, but nothing else: every byte goes through TCP.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aion_processor::{
    ClaimReq, Done, Durability, HttpOptions, HttpTaskStore, Limits, MemTaskStore, NewTask, Op, Processor,
    SqliteOptions, SqliteTaskStore, TaskStore, Write,
};
use aion_service::{ServeOptions, Server};
use aion_types::{Clock, HandlerId, Json, SystemClock, TaskId};
use serde::Deserialize;
use tokio::task::JoinHandle;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What keeps the tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// Memory.
    Memory,
    /// SQLite with `synchronous = NORMAL`.
    Sqlite,
    /// SQLite with `synchronous = FULL`.
    SqliteFull,
}

/// A server, and a client of it.
#[derive(Debug)]
pub struct Served {
    client: Processor,
    durability: Durability,
    server: JoinHandle<()>,
}

/// How fast something went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Operations, or pairs of them, a second.
    pub per_second: f64,
    /// Half of them took no longer than this, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 took no longer than this, in milliseconds.
    pub p99_ms: f64,
}

impl Served {
    /// Serves an empty store; a file of it lies in `directory`.
    ///
    /// # Errors
    /// When the file cannot be opened, or no port is free.
    pub async fn new(kept: Kept, directory: &Path) -> Result<Self, Error> {
        let options = ServeOptions::loopback(0);
        let service = aion_processor_server::service(Processor::over(store(kept, directory).await?));
        let server = Server::bind(service.into_router(&options.limits), options).await?;
        let url = format!("http://{}", server.local_addr());
        let server = tokio::spawn(async move {
            // There is no error at present.
            let _ = server.run(std::future::pending()).await;
        });
        let durability = match kept {
            Kept::SqliteFull => Durability::Power,
            Kept::Memory | Kept::Sqlite => Durability::Process,
        };
        Ok(Self {
            client: Processor::new(HttpTaskStore::new(&url, HttpOptions::default())?),
            durability,
            server,
        })
    }

    /// Creates tasks with a payload of so many characters, one a call, by so many workers at once.
    ///
    /// # Errors
    /// When a task is refused.
    pub async fn create(&self, tasks: usize, workers: usize, payload_chars: usize) -> Result<Pace, Error> {
        let left = Arc::new(AtomicUsize::new(tasks));
        let work = (0..workers).map(|_| {
            let (this, left) = (self.caller(), Arc::clone(&left));
            tokio::spawn(async move {
                let mut took = Vec::new();
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                    .is_ok()
                {
                    let id = TaskId::generate(SystemClock.now());
                    let new =
                        NewTask::new(id, "bench", "A task").with_payload("x".repeat(payload_chars).into());
                    let started = Instant::now();
                    this.write(Op::Create(Box::new(new))).await?;
                    took.push(started.elapsed());
                }
                Ok(took)
            })
        });
        pace(Instant::now(), work.collect()).await
    }

    /// Claims and completes whatever is ready, one a call, by so many workers at once; a pair of calls counts once.
    ///
    /// # Errors
    /// When a call is refused.
    pub async fn drain(&self, workers: usize) -> Result<Pace, Error> {
        let started = Instant::now();
        let work = (0..workers).map(|n| {
            let this = self.caller();
            tokio::spawn(async move {
                let claim =
                    ClaimReq::new(HandlerId::new(format!("worker-{n}"))?).with_durability(this.durability);
                let mut took = Vec::new();
                loop {
                    let started = Instant::now();
                    let Some(lease) = this.client.claim(claim.clone()).await?.pop() else {
                        return Ok(took);
                    };
                    let (fence, result) = (lease.fence(), Json::Null);
                    this.write(Op::Complete { fence, result }).await?;
                    took.push(started.elapsed());
                }
            })
        });
        pace(started, work.collect()).await
    }

    fn caller(&self) -> Caller {
        Caller {
            client: self.client.clone(),
            durability: self.durability,
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Caller {
    client: Processor,
    durability: Durability,
}

impl Caller {
    async fn write(&self, op: Op) -> Result<Done, Error> {
        let write = Write::from(op).with_durability(self.durability);
        let mut done = self.client.store().apply(vec![write]).await?;
        Ok(done.pop().ok_or("no answer")??)
    }
}

async fn store(kept: Kept, directory: &Path) -> Result<Arc<dyn TaskStore>, Error> {
    if kept == Kept::Memory {
        let store = MemTaskStore::new(SystemClock, Limits::default()).with_max_rows(100_000_000);
        return Ok(Arc::new(store));
    }
    let path = directory.join(format!("{}.db", TaskId::generate(SystemClock.now())));
    Ok(Arc::new(
        SqliteTaskStore::open(path, SqliteOptions::default()).await?,
    ))
}

async fn pace(started: Instant, work: Vec<JoinHandle<Result<Vec<Duration>, Error>>>) -> Result<Pace, Error> {
    let mut all = Vec::new();
    for worker in work {
        all.extend(worker.await??);
    }
    let per_second = all.len() as f64 / started.elapsed().as_secs_f64();
    all.sort_unstable();
    let at = |percent: usize| {
        let place = (all.len() * percent / 100).min(all.len().saturating_sub(1));
        all.get(place).map_or(0.0, |took| took.as_secs_f64() * 1e3)
    };
    Ok(Pace {
        per_second,
        p50_ms: at(50),
        p99_ms: at(99),
    })
}

/// The middle of 21 flushes of one page to the disk, as it is right now, in milliseconds.
///
/// # Errors
/// When the file cannot be written.
pub fn fsync_p50_ms(directory: &Path) -> std::io::Result<f64> {
    use std::io::Write as _;
    let mut file = std::fs::File::create(directory.join("flush"))?;
    let mut took = Vec::new();
    for _ in 0..21 {
        let started = Instant::now();
        file.write_all(&[7; 4_096])?;
        file.sync_data()?;
        took.push(started.elapsed());
    }
    took.sort_unstable();
    Ok(took[10].as_secs_f64() * 1e3)
}
