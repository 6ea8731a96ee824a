//! Our machine as a driver of `cargo xtask peers machine`, and what needs no program of its own: plain reads and spawns.
//!
//! One JSON object a line. `{"do": "read", "dir", "reader", "rounds", "reps"}` is answered with the smallest `wall_s`
//! and `cpu_s` of a read; `{"do": "grep" | "glob", "root", "pattern", "threads"}` with `wall_s`, `cpu_s` and `hits`;
//! `{"do": "texts", "dir"}` writes the texts that `{"do": "diff", "old", "new", "reps"}` compares;
//! `{"do": "exec", "dir", "executor", "reps"}` with `cpu_s`, `min_wall_s` and `tier`; `{"do": "resident", "bytes"}` holds
//! memory; `{"do": "post", "address", "path", "body", "clients", "requests"}` with `per_s`, `p50_s`, `p99_s` and `ok`.

use std::net::SocketAddr;
use std::path::PathBuf;

use aion_benches::driver;
use aion_benches::machine::exec::{self, Executor, Resident};
use aion_benches::machine::files::{self, Reader, Reading};
use aion_benches::machine::http;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Request {
    Read {
        dir: PathBuf,
        reader: Reader,
        rounds: usize,
        reps: usize,
    },
    Grep {
        root: PathBuf,
        pattern: String,
        threads: usize,
    },
    Glob {
        root: PathBuf,
        pattern: String,
        threads: usize,
    },
    Texts {
        dir: PathBuf,
    },
    Diff {
        old: PathBuf,
        new: PathBuf,
        reps: usize,
    },
    Exec {
        dir: PathBuf,
        executor: Executor,
        reps: usize,
    },
    Resident {
        bytes: usize,
    },
    Post {
        address: SocketAddr,
        path: String,
        body: String,
        clients: usize,
        requests: usize,
    },
}

fn main() -> Result<()> {
    aion_machine::supervisor::run_if_requested();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut held = Resident::of(0);
    driver::serve("aion-machine", env!("CARGO_PKG_VERSION"), |request| {
        answer(&runtime, &mut held, request)
    })
}

fn answer(runtime: &Runtime, held: &mut Resident, request: Request) -> Result<Value> {
    Ok(match request {
        Request::Read {
            dir,
            reader,
            rounds,
            reps,
        } => json!(Reading::new(&dir)?.run(runtime, reader, rounds, reps)?),
        Request::Grep {
            root,
            pattern,
            threads,
        } => json!(files::grep(runtime, &root, &pattern, threads)?),
        Request::Glob {
            root,
            pattern,
            threads,
        } => json!(files::glob(runtime, &root, &pattern, threads)?),
        Request::Texts { dir } => {
            let (old, new) = files::write_texts(&dir)?;
            json!({ "old": old, "new": new })
        }
        Request::Diff { old, new, reps } => {
            let (s, diff) = files::diff(&old, &new, reps)?;
            json!({ "s": s, "text": diff.text })
        }
        Request::Exec { dir, executor, reps } => json!(exec::run(runtime, &dir, executor, reps)?),
        Request::Resident { bytes } => {
            *held = Resident::of(bytes);
            json!({ "bytes": held.bytes() })
        }
        Request::Post {
            address,
            path,
            body,
            clients,
            requests,
        } => json!(http::post(address, &path, &body, clients, requests).map_err(|error| error.to_string())?),
    })
}
