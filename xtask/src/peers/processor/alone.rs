//! Works without a peer: single operations in a small and a large file, memory, the children of one parent.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tempfile::TempDir;

use super::Plan;
use super::programs::{Program, Programs, turn};
use crate::Result;
use crate::peers::row::{Better, Row, ratio};

/// Rows of a small file.
const FEW: usize = 1_000;
/// By how many bytes memory may grow and still be called flat.
const FLAT: u64 = 32 << 20;
/// How much slower the last children may be.
const SLOWER: f64 = 1.5;
/// What the server must do in a second.
const SERVED: f64 = 10_000.0;
const CALLERS: usize = 256;

/// Something that ours does by itself.
pub(super) struct Work {
    pub(super) name: &'static str,
    pub(super) rows: fn(&mut Programs, &TempDir, Plan) -> Result<Vec<Row>>,
}

pub(super) const WORKS: [Work; 4] = [
    Work {
        name: "scale",
        rows: scale,
    },
    Work {
        name: "memory",
        rows: memory,
    },
    Work {
        name: "children",
        rows: children,
    },
    Work {
        name: "server",
        rows: server,
    },
];

/// In the small file and in the large one.
#[derive(Deserialize)]
struct Costs {
    claim_us: [f64; 2],
    gather_us: [f64; 2],
    page_us: [f64; 2],
}

fn ask<T: DeserializeOwned>(
    programs: &mut Programs,
    scratch: &TempDir,
    what: &str,
    count: usize,
) -> Result<T> {
    let dir = turn(scratch)?;
    programs.ask(Program::Ours, &json!({ what: count, "dir": dir.path() }))
}

fn scale(programs: &mut Programs, scratch: &TempDir, plan: Plan) -> Result<Vec<Row>> {
    let dir = turn(scratch)?;
    let costs: Costs = programs.ask(
        Program::Ours,
        &json!({ "costs": plan.rows, "beside": FEW, "dir": dir.path() }),
    )?;
    let row = |what: &str, [theirs, ours]: [f64; 2]| Row {
        work: format!("{what}, {} rows", plan.rows),
        peer: format!("itself at {FEW} rows, by turns"),
        theirs: Some(theirs),
        ratio: Some(ratio(Better::Lower, ours, theirs)),
        goal_ratio: Some(0.5),
        limit: "at most twice the time".to_owned(),
        ..Row::alone("us", ours)
    };
    Ok(vec![
        row("SQLite NORMAL: claim", costs.claim_us),
        row("SQLite NORMAL: gather step", costs.gather_us),
        row("SQLite: page of 100 messages", costs.page_us),
    ])
}

#[derive(Deserialize)]
struct Memory {
    enqueued: Vec<u64>,
    drained: Vec<u64>,
    seconds: f64,
}

fn memory(programs: &mut Programs, scratch: &TempDir, plan: Plan) -> Result<Vec<Row>> {
    let memory: Memory = ask(programs, scratch, "memory", plan.tasks)?;
    let all = || memory.enqueued.iter().chain(&memory.drained).copied();
    let (first, most) = (all().next().unwrap_or(0), all().max().unwrap_or(0));
    let mb = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Ok(vec![Row {
        work: format!(
            "memory while {} tasks of 1 KB are enqueued and drained",
            plan.tasks
        ),
        kept: Some(first > 0 && most <= first + FLAT),
        limit: format!(
            "{:.0} MB after a tenth, {:.0} at most, flat within 32; {:.0} s",
            mb(first),
            mb(most),
            memory.seconds
        ),
        threads: 64,
        ..Row::alone("MB", mb(most))
    }])
}

#[derive(Deserialize)]
struct Tenths {
    seconds: Vec<f64>,
}

fn children(programs: &mut Programs, scratch: &TempDir, plan: Plan) -> Result<Vec<Row>> {
    let tenths: Tenths = ask(programs, scratch, "children", plan.children)?;
    let rate = |seconds: Option<&f64>| seconds.map_or(f64::NAN, |s| plan.children as f64 / 10.0 / s);
    let (first, last) = (rate(tenths.seconds.first()), rate(tenths.seconds.last()));
    Ok(vec![Row {
        work: format!("{} children of one parent: the last tenth", plan.children),
        peer: "itself, the first tenth".to_owned(),
        theirs: Some(first),
        ratio: Some(ratio(Better::Higher, last, first)),
        goal_ratio: Some(SLOWER.recip()),
        limit: format!(
            "at most {SLOWER} times slower; all in {:.1} s",
            tenths.seconds.iter().sum::<f64>()
        ),
        threads: 64,
        ..Row::alone("cycles/s", last)
    }])
}

#[derive(Deserialize)]
struct Served {
    create: Pace,
    drain: Pace,
    fsync_p50_ms: f64,
}

#[derive(Deserialize)]
struct Pace {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// A client with many callers, whose calls join on the way; the server is in the same process.
fn server(programs: &mut Programs, _: &TempDir, plan: Plan) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (kept, name) in [("memory", "memory"), ("sqlite", "SQLite NORMAL")] {
        let request = json!({
            "kept": kept,
            "tasks": plan.requests,
            "workers": CALLERS,
            "payload_chars": 1_024,
        });
        let served: Served = programs.ask(Program::Served, &request)?;
        let row = |what: &str, pace: &Pace| Row {
            work: format!("server over HTTP, {name}: {what}"),
            kept: Some(pace.per_second >= SERVED),
            limit: format!(
                "at least {SERVED:.0}; p50 {:.1} ms, p99 {:.1} ms; fdatasync p50 {:.0} us",
                pace.p50_ms,
                pace.p99_ms,
                served.fsync_p50_ms * 1e3
            ),
            threads: CALLERS,
            ..Row::alone("calls/s", pace.per_second)
        };
        rows.push(row("create", &served.create));
        rows.push(Row {
            unit: "cycles/s",
            ..row("claim and complete, a call each", &served.drain)
        });
    }
    Ok(rows)
}
