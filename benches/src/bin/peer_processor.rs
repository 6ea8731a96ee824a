//! Our task engine as a driver of `cargo xtask peers processor`.
//!
//! One JSON object a line. `{"cycles": medium, "durability", "step", "dir", "url", "jobs", "payload", "workers", "most_s"}` is
//! answered with `{"label", "done", "seconds", "bytes", "p99_ms"}`; `{"costs": rows, "beside": rows, "dir"}` with
//! `{"claim_us", "gather_us", "page_us"}`, each `[few, many]`, in files with so many tasks and messages that take turns; `{"memory": tasks, "dir"}` with the resident bytes by tenths;
//! `{"children": count, "dir"}` with the seconds by tenths that the children of one parent took.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use aion_benches::cycles::{Crew, Medium, Step, fill, open, work};
use aion_benches::{driver, scale};
use aion_processor::Durability;
use aion_sql::testkit::{TestDatabase, VARIABLE};
use aion_types::Status;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

#[derive(Deserialize)]
#[serde(untagged)]
enum Request {
    Cycles {
        cycles: Medium,
        durability: Durability,
        #[serde(default)]
        step: Step,
        dir: PathBuf,
        #[serde(default)]
        url: String,
        jobs: usize,
        payload: usize,
        workers: usize,
        most_s: f64,
    },
    Database {
        database: Change,
    },
    Costs {
        costs: usize,
        beside: usize,
        dir: PathBuf,
    },
    Memory {
        memory: usize,
        dir: PathBuf,
    },
    Children {
        children: usize,
        dir: PathBuf,
    },
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Change {
    Make,
    Drop,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut database = None;
    driver::serve("aion-processor", env!("CARGO_PKG_VERSION"), |request: Request| {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let answered = match request {
            Request::Database { database: change } => runtime.block_on(changed(&mut database, change)),
            request => answer(&runtime, request),
        };
        // The writer of a store that was dropped may still be closing its file.
        runtime.shutdown_timeout(Duration::from_secs(5));
        answered
    })
}

/// Makes an empty database on the server that `AION_TEST_POSTGRES` names, or removes it.
async fn changed(database: &mut Option<TestDatabase>, change: Change) -> Result<Value, Box<dyn Error>> {
    if let Some(made) = database.take() {
        made.remove().await;
    }
    let named = std::env::var_os(VARIABLE).is_some();
    if named && matches!(change, Change::Make) {
        *database = TestDatabase::create().await;
    }
    Ok(json!({ "url": database.as_ref().map(TestDatabase::url) }))
}

fn answer(runtime: &Runtime, request: Request) -> Result<Value, Box<dyn Error>> {
    match request {
        Request::Cycles {
            cycles,
            durability,
            step,
            dir,
            url,
            jobs,
            payload,
            workers,
            most_s,
        } => runtime.block_on(async {
            let processor = open(cycles, &dir, &url).await?;
            fill(&processor, jobs, payload).await?;
            let crew = Crew {
                workers,
                step,
                most: Duration::from_secs_f64(most_s),
                durability,
            };
            let mut worked = work(&processor, crew).await?;
            let completed = processor.counts().await?.of(Status::Completed);
            Ok(json!({
                "label": label(cycles, step),
                "done": completed,
                "seconds": worked.took.as_secs_f64(),
                "bytes": worked.bytes,
                "p99_ms": worked.percentile(99).as_secs_f64() * 1e3,
            }))
        }),
        Request::Database { .. } => Err("a database is made elsewhere".into()),
        Request::Costs { costs, beside, dir } => {
            let scale::Beside { few, many } = runtime.block_on(scale::costs(&dir, beside, costs))?;
            let us = |few: Duration, many: Duration| [few, many].map(|time| time.as_secs_f64() * 1e6);
            Ok(json!({
                "claim_us": us(few.claim, many.claim),
                "gather_us": us(few.gather, many.gather),
                "page_us": us(few.page, many.page),
            }))
        }
        Request::Memory { memory, dir } => {
            let memory = runtime.block_on(scale::memory(&dir, memory))?;
            Ok(json!({
                "enqueued": memory.enqueued,
                "drained": memory.drained,
                "seconds": memory.took.as_secs_f64(),
            }))
        }
        Request::Children { children, dir } => {
            let tenths = runtime.block_on(scale::children(&dir, children))?;
            let seconds: Vec<f64> = tenths.iter().map(Duration::as_secs_f64).collect();
            Ok(json!({ "seconds": seconds }))
        }
    }
}

/// Ours, and how it worked if not as it comes.
fn label(medium: Medium, step: Step) -> String {
    let mut label = format!("aion-processor {}", env!("CARGO_PKG_VERSION"));
    if medium == Medium::SqliteUnbatched {
        label.push_str(", a commit for each operation");
    }
    if step == Step::Apart {
        label.push_str(", claims and completions apart");
    }
    label
}
