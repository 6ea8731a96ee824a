//! The machine beside what people use: plain reads, ripgrep and GNU grep, diffy, plain spawns and bubblewrap.
//!
//! Works of one process are timed by our driver, so that all see the same process; searches alternate with programs
//! of their own, each after one turn that warms up. The tree that is searched is the sources of cargo's registry, or
//! what `AION_SEARCH_TREE` names.

mod exec;
mod files;
mod tools;

use std::path::Path;
use std::process::Command;

use indicatif::{ProgressBar, ProgressStyle};
use tempfile::TempDir;

use super::Effort;
use super::driver::Driver;
use super::row::Row;
use crate::{Result, command};

/// How long to measure.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rounds: usize,
    /// Reads in a round.
    reads: usize,
    /// Executions in a round.
    executions: usize,
    /// Requests to the server in a round.
    requests: usize,
    /// Threads of a search.
    threads: usize,
}

impl Plan {
    fn of(effort: Effort) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
        match effort {
            Effort::Quick => Self {
                rounds: 3,
                reads: 2_000,
                executions: 100,
                requests: 400,
                threads,
            },
            Effort::Full => Self {
                rounds: 9,
                reads: 20_000,
                executions: 300,
                requests: 3_000,
                threads,
            },
        }
    }
}

/// What a work needs.
struct Sides<'r> {
    root: &'r Path,
    ours: Driver,
    scratch: TempDir,
}

struct Work {
    name: &'static str,
    rows: fn(&mut Sides<'_>, Plan) -> Result<Vec<Row>>,
}

const WORKS: [Work; 7] = [
    Work {
        name: "read",
        rows: files::reads,
    },
    Work {
        name: "grep",
        rows: files::greps,
    },
    Work {
        name: "glob",
        rows: files::globs,
    },
    Work {
        name: "diff",
        rows: files::diffs,
    },
    Work {
        name: "exec",
        rows: exec::executions,
    },
    Work {
        name: "resident",
        rows: exec::resident,
    },
    Work {
        name: "http",
        rows: exec::http,
    },
];

/// The rows of the works whose name holds `only`; a work that fails is a row that says why.
///
/// # Errors
/// When our driver cannot be built or started.
pub fn rows(root: &Path, effort: Effort, only: Option<&str>) -> Result<Vec<Row>> {
    let plan = Plan::of(effort);
    let features = ["--no-default-features", "--features", "machine"];
    let program = super::release_binary(root, "peer-machine", &features)?;
    let mut sides = Sides {
        root,
        ours: Driver::start(&mut Command::new(program))?,
        scratch: command::scratch()?,
    };
    let wanted = |work: &&Work| only.is_none_or(|only| work.name.contains(only));
    let works: Vec<&Work> = WORKS.iter().filter(wanted).collect();
    let bar = ProgressBar::new(works.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    let mut rows = Vec::new();
    for work in works {
        bar.set_message(work.name);
        match (work.rows)(&mut sides, plan) {
            Ok(more) => rows.extend(more),
            Err(error) => rows.push(failed(work.name, &error.to_string())),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(rows)
}

/// What was not measured, and why.
fn failed(work: &str, why: &str) -> Row {
    Row {
        work: work.to_owned(),
        kept: Some(false),
        limit: format!("FAILED: {}", why.split_whitespace().collect::<Vec<_>>().join(" ")),
        ..Row::alone("-", f64::NAN)
    }
}
