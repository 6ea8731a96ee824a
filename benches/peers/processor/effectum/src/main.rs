//! effectum as a driver of `cargo xtask peers processor`: its queue as it comes, so many jobs at once.
//!
//! One JSON object a line. `{"dir", "jobs", "payload", "workers", "most_s"}` is answered with `{"label", "done",
//! "seconds", "bytes"}`: so many jobs with so many bytes each were enqueued, which is in no measured time, then worked on
//! until none was left or `most_s` seconds had passed; `done` of them are completed in the database.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use effectum::{Job, JobRunner, Queue, RunningJob, Worker};
use serde::Deserialize;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Deserialize)]
struct Request {
    dir: PathBuf,
    jobs: usize,
    payload: usize,
    workers: u16,
    most_s: f64,
}

#[derive(Debug, Default)]
struct Seen {
    jobs: AtomicUsize,
    bytes: AtomicUsize,
}

fn main() -> Result<()> {
    say(&json!({ "name": "effectum", "version": "0.7.0" }))?;
    for line in std::io::stdin().lock().lines() {
        let answered = serde_json::from_str(&line?).map_err(Into::into).and_then(answer);
        say(&answered.unwrap_or_else(|error| json!({ "error": error.to_string() })))?;
    }
    Ok(())
}

fn say(document: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{document}")?;
    Ok(out.flush()?)
}

/// In a runtime of its own, so that nothing of a run lives on.
fn answer(request: Request) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let ran = runtime.block_on(run(&request));
    runtime.shutdown_timeout(Duration::from_secs(5));
    ran
}

async fn see(job: RunningJob, seen: Arc<Seen>) -> std::result::Result<(), String> {
    let text: String = job.json_payload().map_err(|error| error.to_string())?;
    seen.bytes.fetch_add(text.len(), Ordering::Relaxed);
    seen.jobs.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

async fn run(request: &Request) -> Result<Value> {
    let queue = Queue::new(&request.dir.join("effectum.db")).await?;
    let text = "x".repeat(request.payload);
    for at in (0..request.jobs).step_by(500) {
        let jobs =
            (at..request.jobs.min(at + 500)).map(|_| Ok(Job::builder("work").json_payload(&text)?.build()));
        queue.add_jobs(jobs.collect::<Result<Vec<_>>>()?).await?;
    }
    let seen = Arc::new(Seen::default());
    let started = Instant::now();
    let worker = Worker::builder(&queue, seen.clone())
        .jobs(vec![JobRunner::builder("work", see).build()])
        .min_concurrency(request.workers)
        .max_concurrency(request.workers.saturating_mul(2))
        .build()
        .await?;
    let mut left = request.jobs;
    while left > 0 && started.elapsed().as_secs_f64() < request.most_s {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if seen.jobs.load(Ordering::Relaxed) >= request.jobs
            || started.elapsed().as_secs_f64() >= request.most_s
        {
            let active = queue.num_active_jobs().await?;
            left = usize::try_from(active.pending + active.running)?;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    worker.unregister(Some(Duration::from_secs(10))).await?;
    queue.close(Duration::from_secs(10)).await?;
    let (done, bytes) = (request.jobs - left, seen.bytes.load(Ordering::Relaxed));
    Ok(json!({ "label": "effectum 0.7.0", "done": done, "seconds": seconds, "bytes": bytes }))
}
