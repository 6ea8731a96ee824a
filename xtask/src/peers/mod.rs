//! `cargo xtask peers SUITE`: ours beside others, alternating in one run on one machine.
//!
//! A *driver* is a program that does one piece of work when told so, and answers with the time it took and
//! what it computed ([`driver`]). Ours are binaries of `aion-benches`; theirs live in `benches/peers`, in
//! Python environments or Rust workspaces of their own. For each work the two take turns, their answers are
//! compared, and the medians make a [`Row`].
#![allow(clippy::print_stdout)] // this is a terminal program

pub mod agent_loop;
pub mod driver;
pub mod llm;
pub mod machine;
pub mod market;
pub mod processor;
pub mod python;
pub mod router;
pub mod row;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::machine::Machine;
use crate::{Error, Result, command};
pub use row::Row;

/// What to compare, and how long.
#[derive(Debug, Clone, Args)]
pub struct PeersArgs {
    /// The suite
    #[arg(value_enum)]
    suite: Suite,
    /// Few rounds: under a minute once built
    #[arg(long)]
    quick: bool,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
    /// Of the suites `llm`, `machine`, `processor` and `router`: only works whose name holds this (candle, batch, .. and grep, http, .. and sqlite-normal, postgres, .. and scan, metatool, ..)
    #[arg(long, value_name = "WORK")]
    only: Option<String>,
}

/// A set of works with its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Suite {
    /// Tokens per second of the language model beside llama.cpp and candle
    Llm,
    /// Overhead per step of the agent loop beside a Python agent library
    Loop,
    /// The machine's reads, searches, diffs and executions beside plain ones, ripgrep, diffy and bubblewrap
    Machine,
    /// The market's kernels, fits, quotes and replays beside Python's numeric libraries and Rust crates
    Market,
    /// The task engine beside other queues on SQLite and Postgres; one file of a million tasks
    Processor,
    /// The router's search, words, encoder and rankings beside vector indexes, BM25 and a runtime of models
    Router,
}

/// How long to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Enough for a look.
    Quick,
    /// Enough for a number to be written down.
    Full,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    suite: Suite,
    machine: &'a Machine,
    rows: &'a [Row],
}

/// Runs a suite and prints its rows.
///
/// # Errors
/// When a driver cannot be built or run, or when the answers disagree.
pub fn run(root: &Path, args: &PeersArgs) -> Result<()> {
    let effort = if args.quick { Effort::Quick } else { Effort::Full };
    let machine = Machine::probe();
    let rows = match args.suite {
        Suite::Llm => llm::rows(root, effort, args.only.as_deref())?,
        Suite::Loop => agent_loop::rows(root, effort)?,
        Suite::Machine => machine::rows(root, effort, args.only.as_deref())?,
        Suite::Market => market::rows(root, &machine, effort)?,
        Suite::Processor => processor::rows(root, effort, args.only.as_deref())?,
        Suite::Router => router::rows(root, effort, args.only.as_deref())?,
    };
    let rows: Vec<Row> = rows.into_iter().map(Row::judged).collect();
    if args.json {
        let report = Report {
            suite: args.suite,
            machine: &machine,
            rows: &rows,
        };
        let text = serde_json::to_string_pretty(&report).map_err(|source| Error::Json {
            command: "the report".to_owned(),
            source,
        })?;
        println!("{text}");
    } else {
        println!("{}\n\n{}", machine.line(), row::table(&rows));
    }
    Ok(())
}

/// Builds a binary of `aion-benches` in release mode and returns its path.
///
/// # Errors
/// When it does not build.
fn release_binary(root: &Path, name: &str, more: &[&str]) -> Result<PathBuf> {
    let mut cargo = command::cargo(root);
    cargo.args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--package",
        "aion-benches",
        "--bin",
        name,
    ]);
    cargo.args(more).args(["--message-format", "json"]);
    let programs = command::executables(&mut cargo)?;
    programs
        .into_iter()
        .next_back()
        .ok_or_else(|| Error::Missing(format!("the path of {name}")))
}

/// Builds a Rust peer, which has a workspace and a target directory of its own: `market` or `processor/queues`, below
/// `benches/peers`.
///
/// # Errors
/// When it does not build.
fn rust_peer(root: &Path, name: &str) -> Result<PathBuf> {
    let (suite, part) = name.split_once('/').unwrap_or((name, ""));
    let target = python::cache_dir()?
        .join(format!("peers/{suite}-target"))
        .join(part);
    let mut cargo = command::cargo(&root.join("benches/peers").join(name));
    cargo.env("CARGO_TARGET_DIR", target);
    cargo.args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--message-format",
        "json",
    ]);
    let programs = command::executables(&mut cargo)?;
    programs
        .into_iter()
        .next_back()
        .ok_or_else(|| Error::Missing(format!("the path of the peer {name}")))
}
