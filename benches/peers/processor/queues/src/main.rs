//! apalis-sqlite, graphile_worker and plain SKIP LOCKED as a driver of `cargo xtask peers processor`.
//!
//! One JSON object a line. `{"peer", "dir", "url", "jobs", "payload", "workers", "most_s"}` is answered with `{"label",
//! "done", "seconds", "bytes"}`: so many jobs with so many bytes each were enqueued, which is in no measured time, then
//! worked on until none was left or `most_s` seconds had passed; `done` of them are completed in the database, and their
//! handlers saw `bytes`. `dir` is an empty directory, `url` an empty database.

mod apalis_sqlite_queue;
mod graphile;
mod skip_locked;

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Debug, Clone, Deserialize)]
struct Request {
    peer: Peer,
    dir: PathBuf,
    url: Option<String>,
    jobs: usize,
    payload: usize,
    workers: usize,
    most_s: f64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Peer {
    ApalisSqlite,
    Graphile,
    SkipLocked,
}

#[derive(Debug, Serialize)]
struct Ran {
    label: String,
    done: usize,
    seconds: f64,
    bytes: usize,
}

/// What the handlers of a run have seen.
#[derive(Debug, Default)]
struct Seen {
    jobs: AtomicUsize,
    bytes: AtomicUsize,
}

impl Seen {
    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.jobs.fetch_add(1, Ordering::Relaxed);
    }

    fn jobs(&self) -> usize {
        self.jobs.load(Ordering::Relaxed)
    }

    fn ran(&self, label: String, done: usize, took: Duration) -> Ran {
        Ran {
            label,
            done,
            seconds: took.as_secs_f64(),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

impl Request {
    fn text(&self) -> String {
        "x".repeat(self.payload)
    }

    fn database(&self) -> Result<&str> {
        Ok(self.url.as_deref().ok_or("no Postgres server was named")?)
    }

    fn is_over(&self, started: Instant) -> bool {
        started.elapsed().as_secs_f64() > self.most_s
    }
}

fn main() -> Result<()> {
    say(&json!({ "name": "Rust queues", "version": "release" }))?;
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
    let ran = runtime.block_on(async {
        match request.peer {
            Peer::ApalisSqlite => apalis_sqlite_queue::run(&request).await,
            Peer::Graphile => graphile::run(&request).await,
            Peer::SkipLocked => skip_locked::run(&request).await,
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    Ok(serde_json::to_value(ran?)?)
}
