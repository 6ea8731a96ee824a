//! Handlers: functions that are run for tasks, through crashes, losses, waits and ends.

mod crash;
mod life;
mod store;
mod waits;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aion_processor::worker::Worker;
use aion_processor::{Backoff, Limits, MemTaskStore, NewTask, Processor, Result};
use aion_types::{Clock, Json, ManualClock, SystemClock, TaskId, TaskRecord, Timestamp};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A store in memory under a clock that is moved by hand.
pub(crate) struct Bench {
    pub(crate) clock: ManualClock,
    pub(crate) processor: Processor,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let clock = ManualClock::at(Timestamp::from_ms(1_000_000));
        let backoff = Backoff {
            first_ms: 1_000,
            max_ms: 1_000,
            jitter_percent: 0,
        };
        let limits = Limits::default().with_poison_limit(1_000).with_backoff(backoff);
        let processor = Processor::new(MemTaskStore::new(clock.clone(), limits));
        Self { clock, processor }
    }

    pub(crate) async fn create(&self, kind: &str, payload: impl Into<Json>) -> TaskId {
        let task = task(kind).with_payload(payload.into());
        self.processor.create(task).await.unwrap().id
    }

    pub(crate) async fn get(&self, task: TaskId) -> TaskRecord {
        self.processor.get(task).await.unwrap()
    }

    /// The task when it has ended.
    pub(crate) async fn ended(&self, task: TaskId) -> TaskRecord {
        soon(self.processor.wait_for(task)).await.unwrap()
    }

    /// Moves the clock, and lets the store notice.
    pub(crate) async fn advance(&self, ms: i64) {
        self.clock.advance_ms(ms);
        self.processor.tick().await.unwrap();
    }

    /// Waits until the task is as `wanted` says.
    pub(crate) async fn until(&self, task: TaskId, wanted: impl Fn(&TaskRecord) -> bool) -> TaskRecord {
        soon(async {
            loop {
                let record = self.get(task).await;
                if wanted(&record) {
                    return record;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await
    }
}

pub(crate) fn task(kind: &str) -> NewTask {
    NewTask::new(TaskId::generate(SystemClock.now()), kind, "A task")
}

/// What `work` gives; panics if that takes too long.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("in time")
}

/// A worker that runs beside the test.
pub(crate) struct Running {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<()>>,
}

impl Running {
    pub(crate) fn start(worker: Worker) -> Self {
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(worker.run(async { drop(stopped.await) }));
        Self { stop, ended }
    }

    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        soon(self.ended).await.unwrap().unwrap();
    }

    /// Ends it as a crash does: nobody says anything any more.
    pub(crate) async fn crash(self) {
        self.ended.abort();
        let _ = soon(self.ended).await;
    }
}

/// Counts.
#[derive(Clone, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

impl Count {
    pub(crate) fn up(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn down(&self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Counts when it is dropped.
pub(crate) struct OnDrop(pub(crate) Count);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.up();
    }
}
