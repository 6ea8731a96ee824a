//! graphile_worker with its local queue and batched completion.

use std::sync::Arc;
use std::time::{Duration, Instant};

use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, WorkerContext, WorkerOptions,
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use super::{Ran, Request, Result, Seen};

/// Jobs that the local queue fetches at once.
const LOCAL_QUEUE: usize = 500;
/// How long completions are gathered.
const BATCH_DELAY: Duration = Duration::from_millis(5);

#[derive(Debug, Clone)]
struct Shared(Arc<Seen>);

#[derive(Debug, Serialize, Deserialize)]
struct Work {
    text: String,
}

impl TaskHandler for Work {
    const IDENTIFIER: &'static str = "work";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        if let Some(seen) = context.get_ext::<Shared>() {
            seen.0.add(self.text.len());
        }
        Ok::<(), String>(())
    }
}

pub(super) async fn run(request: &Request) -> Result<Ran> {
    let pool = PgPoolOptions::new()
        .max_connections(20)
        .connect(request.database()?)
        .await?;
    let seen = Arc::new(Seen::default());
    let worker = WorkerOptions::default()
        .pg_pool(pool.clone())
        .schema("graphile_worker")
        .concurrency(request.workers)
        .poll_interval(Duration::from_millis(5))
        .complete_job_batch_delay(BATCH_DELAY)
        .local_queue(LocalQueueConfig::default().with_size(LOCAL_QUEUE))
        .listen_os_shutdown_signals(false)
        .add_extension(Shared(seen.clone()))
        .define_job::<Work>()
        .init()
        .await?;
    let job = || RawJobSpec {
        identifier: "work".to_owned(),
        payload: serde_json::json!({ "text": request.text() }),
        spec: JobSpec::default(),
    };
    let utils = worker.create_utils();
    for at in (0..request.jobs).step_by(1_000) {
        let jobs: Vec<RawJobSpec> = (at..request.jobs.min(at + 1_000)).map(|_| job()).collect();
        utils.add_raw_jobs(&jobs).await?;
    }
    let worker = Arc::new(worker);
    let started = Instant::now();
    let running = tokio::spawn({
        let worker = worker.clone();
        async move { worker.run().await }
    });
    while seen.jobs() < request.jobs && !request.is_over(started) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut left = left(&pool).await?;
    while left > 0 && !request.is_over(started) {
        tokio::time::sleep(Duration::from_millis(2)).await;
        left = self::left(&pool).await?;
    }
    let took = started.elapsed();
    worker.request_shutdown();
    running.await??;
    let label = format!("graphile_worker 0.14.1, local queue {LOCAL_QUEUE}, completions batched");
    Ok(seen.ran(label, request.jobs - left, took))
}

/// Jobs that are not completed: those that are go away.
async fn left(pool: &PgPool) -> Result<usize> {
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM graphile_worker._private_jobs")
        .fetch_one(pool)
        .await?;
    Ok(usize::try_from(left)?)
}
