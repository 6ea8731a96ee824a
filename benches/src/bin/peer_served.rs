//! Our processor behind HTTP as a driver of `cargo xtask peers processor`.
//!
//! One JSON object a line. `{"kept": "memory" | "sqlite" | "sqlite_full", "tasks", "workers", "payload_chars"}` is
//! answered with the pace of creating the tasks, one a call, and of claiming and completing them, one a call each:
//! `{"create": {"per_second", "p50_ms", "p99_ms"}, "drain": {..}, "fsync_p50_ms"}`.

use std::error::Error;
use std::path::Path;

use aion_benches::driver;
use aion_benches::served::{Kept, Pace, Served, fsync_p50_ms};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Builder;

#[derive(Deserialize)]
struct Request {
    kept: Kept,
    tasks: usize,
    workers: usize,
    payload_chars: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let directory = tempfile::tempdir()?;
    driver::serve(
        "aion-processor over HTTP",
        env!("CARGO_PKG_VERSION"),
        |request: Request| {
            let answered = runtime.block_on(answer(&request, directory.path()));
            answered.map_err(|error| -> Box<dyn Error> { error })
        },
    )
}

async fn answer(request: &Request, directory: &Path) -> Result<Value, Box<dyn Error + Send + Sync>> {
    let served = Served::new(request.kept, directory).await?;
    let fsync = fsync_p50_ms(directory)?;
    let create = served
        .create(request.tasks, request.workers, request.payload_chars)
        .await?;
    let drain = served.drain(request.workers).await?;
    Ok(json!({ "create": told(create), "drain": told(drain), "fsync_p50_ms": fsync }))
}

fn told(pace: Pace) -> Value {
    json!({ "per_second": pace.per_second, "p50_ms": pace.p50_ms, "p99_ms": pace.p99_ms })
}
