//! Reading, searching, comparing.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::json;

use super::{Plan, Sides, tools};
use crate::peers::driver::Driver;
use crate::peers::row::{Better, Row, median, ratio};
use crate::{Error, Result};

const PATTERN: &str = r"fn\s+poll_\w+";
/// A read may take so much of `std::fs::read`.
const READ_GOAL: f64 = 1.5;
const GREP_GOAL: f64 = 1.05;
const GLOB_GOAL: f64 = 1.2;
/// A diff may take so many milliseconds.
const DIFF_GOAL_MS: f64 = 0.4;

#[derive(Deserialize)]
struct Read {
    wall_s: f64,
    bytes: usize,
}

/// 4 KiB, five directories down: awaited and resolved by the kernel below a held directory, beside reads that check
/// nothing and reads that make the path canonical first.
pub(super) fn reads(sides: &mut Sides<'_>, plan: Plan) -> Result<Vec<Row>> {
    const READERS: [&str; 4] = ["unnamed", "named", "std", "canonical"];
    let mut times: [Vec<f64>; 4] = Default::default();
    let dir = sides.scratch.path().join("read");
    for round in 0..plan.rounds {
        for turn in 0..READERS.len() {
            let at = (round + turn) % READERS.len();
            let request =
                json!({ "do": "read", "dir": dir, "reader": READERS[at], "rounds": 3, "reps": plan.reads });
            let read: Read = sides.ours.ask(&request)?;
            if read.bytes != 4096 {
                return Err(Error::Missing(format!(
                    "4096 bytes: {} read {}",
                    READERS[at], read.bytes
                )));
            }
            times[at].push(read.wall_s * 1e6);
        }
    }
    let [unnamed, named, plain, canonical] = times.map(|times| median(&times).unwrap_or(f64::NAN));
    let row = |work: &str, ours: f64, peer: &str, theirs: f64, goal: Option<f64>| Row {
        work: work.to_owned(),
        peer: peer.to_owned(),
        theirs: Some(theirs),
        ratio: Some(ratio(Better::Lower, ours, theirs)),
        goal_ratio: goal,
        limit: goal.map_or_else(String::new, |goal| {
            format!("at most {READ_GOAL} times, so a ratio of {goal:.3}")
        }),
        agreement: "4096 bytes each".to_owned(),
        rounds: plan.rounds,
        ..Row::alone("us", ours)
    };
    let goal = Some(1.0 / READ_GOAL);
    Ok(vec![
        row("read 4 KiB, awaited", unnamed, "std::fs::read", plain, goal),
        row(
            "read 4 KiB, awaited",
            unnamed,
            "canonicalize, compare, read",
            canonical,
            None,
        ),
        row(
            "read 4 KiB with its etag (BLAKE3), awaited",
            named,
            "std::fs::read",
            plain,
            None,
        ),
    ])
}

#[derive(Deserialize)]
struct Searched {
    wall_s: f64,
    hits: usize,
    truncated: bool,
}

/// The tree that is searched.
fn tree() -> Result<PathBuf> {
    let named = std::env::var_os("AION_SEARCH_TREE").map(PathBuf::from);
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    let tree = named.or_else(|| Some(cargo.or(home)?.join("registry/src")));
    tree.filter(|tree| tree.is_dir())
        .ok_or_else(|| Error::Missing("a tree to search: AION_SEARCH_TREE, or cargo's registry".to_owned()))
}

/// One program that searches.
struct Searcher {
    label: String,
    command: Box<dyn Fn() -> Command>,
    goal: Option<f64>,
}

/// Turns of ours and of programs, after one of each that warms up.
fn searches(
    sides: &mut Sides<'_>,
    plan: Plan,
    request: &serde_json::Value,
    work: &str,
    peers: Vec<Searcher>,
) -> Result<Vec<Row>> {
    let _: Searched = sides.ours.ask(request)?;
    let mut rows = Vec::new();
    for peer in peers {
        tools::run(&mut (peer.command)())?;
        let (mut ours, mut theirs, mut agreement) = (Vec::new(), Vec::new(), String::new());
        for round in 0..plan.rounds {
            let ask = |driver: &mut Driver| driver.ask::<Searched>(request);
            let (a, b) = if round % 2 == 0 {
                (ask(&mut sides.ours)?, tools::run(&mut (peer.command)())?)
            } else {
                let b = tools::run(&mut (peer.command)())?;
                (ask(&mut sides.ours)?, b)
            };
            if a.truncated {
                return Err(Error::Missing("a whole search of ours".to_owned()));
            }
            agreement = format!("finds: ours {}, theirs {}", a.hits, b.lines);
            ours.push(a.wall_s);
            theirs.push(b.wall_s);
        }
        let (ours, theirs) = (
            median(&ours).unwrap_or(f64::NAN),
            median(&theirs).unwrap_or(f64::NAN),
        );
        rows.push(Row {
            work: work.to_owned(),
            peer: peer.label,
            theirs: Some(theirs * 1e3),
            ratio: Some(ratio(Better::Lower, ours, theirs)),
            goal_ratio: peer.goal.map(|goal| 1.0 / goal),
            limit: peer
                .goal
                .map_or_else(String::new, |goal| format!("at most {goal} times its time")),
            agreement,
            threads: plan.threads,
            rounds: plan.rounds,
            ..Row::alone("ms", ours * 1e3)
        });
    }
    Ok(rows)
}

fn ripgrep(program: &Path, threads: usize, tree: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(program);
    // What ours does: hidden files too, ignore files also outside of a repository, and no settings of the user.
    command.args([
        "--no-config",
        "--hidden",
        "--no-require-git",
        "--no-ignore-global",
        "--no-ignore-exclude",
    ]);
    command
        .arg("--threads")
        .arg(threads.to_string())
        .args(more)
        .arg(tree);
    command
}

/// Lines of a tree by a pattern.
pub(super) fn greps(sides: &mut Sides<'_>, plan: Plan) -> Result<Vec<Row>> {
    let (tree, program) = (tree()?, tools::ripgrep()?);
    let mut peers = vec![Searcher {
        label: tools::version(&program)?,
        command: {
            let tree = tree.clone();
            Box::new(move || {
                ripgrep(
                    &program,
                    plan.threads,
                    &tree,
                    &["--line-number", "--no-heading", PATTERN],
                )
            })
        },
        goal: Some(GREP_GOAL),
    }];
    if let Some(program) = tools::find("grep") {
        let (label, tree) = (tools::version(&program)?, tree.clone());
        let command = move || {
            let mut command = Command::new(&program);
            command.args(["-rnIE", PATTERN]).arg(&tree);
            command
        };
        peers.push(Searcher {
            label,
            command: Box::new(command),
            goal: None,
        });
    }
    let request = json!({ "do": "grep", "root": tree, "pattern": PATTERN, "threads": plan.threads });
    searches(
        sides,
        plan,
        &request,
        &format!("grep `{PATTERN}`, a registry's sources"),
        peers,
    )
}

/// All files of a tree.
pub(super) fn globs(sides: &mut Sides<'_>, plan: Plan) -> Result<Vec<Row>> {
    let (tree, program) = (tree()?, tools::ripgrep()?);
    let request = json!({ "do": "glob", "root": tree, "pattern": "*", "threads": plan.threads });
    let label = format!("{} --files", tools::version(&program)?);
    let peer = Searcher {
        label,
        command: Box::new(move || ripgrep(&program, plan.threads, &tree, &["--files"])),
        goal: Some(GLOB_GOAL),
    };
    let work = "glob of every file with its size and time, the same sources";
    searches(sides, plan, &request, work, vec![peer])
}

#[derive(Deserialize)]
struct Texts {
    old: PathBuf,
    new: PathBuf,
}

#[derive(Deserialize)]
struct Compared {
    s: f64,
    text: String,
}

/// 5,000 lines with three edits.
pub(super) fn diffs(sides: &mut Sides<'_>, plan: Plan) -> Result<Vec<Row>> {
    let mut diffy = Driver::start(&mut Command::new(crate::peers::rust_peer(sides.root, "machine")?))?;
    let texts: Texts = sides
        .ours
        .ask(&json!({ "do": "texts", "dir": sides.scratch.path() }))?;
    let ours_asked = json!({ "do": "diff", "old": texts.old, "new": texts.new, "reps": 30 });
    let theirs_asked = json!({ "old": texts.old, "new": texts.new, "reps": 30 });
    let (mut ours, mut theirs, mut same) = (Vec::new(), Vec::new(), true);
    for _ in 0..plan.rounds {
        let (a, b): (Compared, Compared) = (sides.ours.ask(&ours_asked)?, diffy.ask(&theirs_asked)?);
        same &= hunks(&a.text).eq(hunks(&b.text));
        ours.push(a.s * 1e3);
        theirs.push(b.s * 1e3);
    }
    let (ours, theirs) = (
        median(&ours).unwrap_or(f64::NAN),
        median(&theirs).unwrap_or(f64::NAN),
    );
    Ok(vec![Row {
        work: "unified diff of 5,000 lines, 3 edits, CPU".to_owned(),
        peer: diffy.label(),
        theirs: Some(theirs),
        ratio: Some(ratio(Better::Lower, ours, theirs)),
        kept: Some(ours <= DIFF_GOAL_MS),
        limit: format!("at most {DIFF_GOAL_MS} ms"),
        agreement: if same { "the same hunks" } else { "other hunks" }.to_owned(),
        rounds: plan.rounds,
        ..Row::alone("ms", ours)
    }])
}

/// The diff without the names of the files.
fn hunks(text: &str) -> impl Iterator<Item = &str> {
    text.lines().skip_while(|line| !line.starts_with("@@"))
}
