//! The router's search, words, encoder and rankings beside faiss, usearch, bm25s and onnxruntime; how good its rankings
//! are beside BM25, MiniLM and both put together, asked the same questions in the same run.
//!
//! `AION_DATA` names a folder of sets (each a folder with `items.jsonl` and `queries.jsonl`), `AION_MINILM` a folder with
//! a sentence encoder. What needs them and has them not is a row that says so. Speed is processor time of one thread, the
//! fastest of a turn's passes and the median over the turns; large blocks lie in large pages on all sides.

mod quality;
mod speed;

use std::path::{Path, PathBuf};
use std::process::Command;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::driver::{Driver, Nothing};
use super::row::Row;
use super::{Effort, python};
use crate::{Result, command};

const PEER_PACKAGES: [&str; 10] = [
    "faiss-cpu==1.15.1",
    "usearch==2.26.6",
    "bm25s==0.3.16",
    "PyStemmer==3.1.0",
    "onnxruntime==1.31.1",
    "onnx==1.23.2",
    "tokenizers==0.23.3",
    "safetensors==0.8.0",
    "numba==0.68.1",
    "numpy==2.4.6",
];

/// How long to measure.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rounds: usize,
    reps: usize,
    effort: Effort,
}

/// A group of rows; with a name, so that it can be run by itself.
struct Work {
    name: &'static str,
    /// What it cannot do without.
    needs: &'static [&'static str],
    rows: fn(&mut Sides, Plan) -> Result<Vec<Row>>,
}

const WORKS: [Work; 11] = [
    work("scan", &[], speed::scans),
    work("words", &[DATA], speed::words),
    work("encoder", &[MINILM], speed::encoder),
    work("cache", &[DATA, MINILM], speed::cache),
    work("rank", &[], speed::rank),
    work("replay", &[], speed::replay),
    work("metatool", &[DATA, MINILM], quality::metatool),
    work("bfcl", &[DATA, MINILM], quality::bfcl),
    work("cold", &[DATA, MINILM], quality::cold),
    work("poisoned", &[DATA, MINILM], quality::poisoned),
    work("budget", &[DATA, MINILM], quality::budget),
];

const fn work(
    name: &'static str,
    needs: &'static [&'static str],
    rows: fn(&mut Sides, Plan) -> Result<Vec<Row>>,
) -> Work {
    Work { name, needs, rows }
}

const DATA: &str = "AION_DATA";
const MINILM: &str = "AION_MINILM";

/// The rows of the works whose name holds `only`; a work that fails is a row that says why.
///
/// # Errors
/// When a driver cannot be built or started.
pub fn rows(root: &Path, effort: Effort, only: Option<&str>) -> Result<Vec<Row>> {
    let (rounds, reps) = match effort {
        Effort::Quick => (1, 2),
        Effort::Full => (5, 3),
    };
    let plan = Plan { rounds, reps, effort };
    let mut sides = Sides::start(root)?;
    let works: Vec<&Work> = WORKS
        .iter()
        .filter(|work| only.is_none_or(|only| work.name.contains(only)))
        .collect();
    let bar = ProgressBar::new(works.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    let mut rows = Vec::new();
    for work in works {
        bar.set_message(work.name);
        let missing = work
            .needs
            .iter()
            .find(|variable| std::env::var_os(variable).is_none());
        match missing {
            Some(variable) => rows.push(unmeasured(
                work.name,
                format!("not measured: {variable} names no folder"),
            )),
            None => match (work.rows)(&mut sides, plan) {
                Ok(more) => rows.extend(more),
                Err(error) => rows.push(unmeasured(work.name, format!("FAILED: {error}"))),
            },
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(rows)
}

fn unmeasured(work: &str, why: String) -> Row {
    Row {
        work: work.to_owned(),
        kept: why.starts_with("FAILED").then_some(false),
        limit: why,
        ..Row::alone("-", f64::NAN)
    }
}

/// Both drivers, and the directory that they share.
struct Sides {
    ours: Driver,
    python: Driver,
    scratch: TempDir,
}

/// Seconds of processor time for one query, and what was found.
#[derive(Deserialize)]
struct Timed<T> {
    #[serde(default)]
    label: String,
    cpu_s: f64,
    found: Option<Vec<T>>,
}

impl Sides {
    fn start(root: &Path) -> Result<Self> {
        let features = ["--no-default-features", "--features", "router"];
        let ours = super::release_binary(root, "peer-router", &features)?;
        let mut script = Command::new(python::interpreter("router", &PEER_PACKAGES)?);
        script.arg(root.join("benches/peers/router/router.py"));
        let scratch = command::scratch()?;
        let mut sides = Self {
            ours: Driver::measured(&mut Command::new(ours), 1)?,
            python: Driver::measured(&mut script, 1)?,
            scratch,
        };
        let folder = |variable| std::env::var_os(variable).map(PathBuf::from);
        let open = json!({
            "do": "open",
            "data": folder(DATA),
            "minilm": folder(MINILM),
            "cache": python::cache_dir()?.join("peers/router-vectors"),
            "dir": sides.scratch.path(),
        });
        sides.both(&open)?;
        Ok(sides)
    }

    fn ours<T: DeserializeOwned>(&mut self, request: &Value) -> Result<T> {
        self.ours.ask(request)
    }

    fn theirs<T: DeserializeOwned>(&mut self, request: &Value) -> Result<T> {
        self.python.ask(request)
    }

    fn both(&mut self, request: &Value) -> Result<()> {
        let Nothing {} = self.ours.ask(request)?;
        let Nothing {} = self.python.ask(request)?;
        Ok(())
    }
}

/// The share of what `truth` holds that `found` holds too.
///
/// ```
/// use xtask::peers::router::overlap;
/// assert_eq!(overlap(&[vec![1, 2], vec![3, 4]], &[vec![2, 1], vec![4, 5]]), 0.75);
/// ```
pub fn overlap(found: &[Vec<usize>], truth: &[Vec<usize>]) -> f64 {
    let both = found.iter().zip(truth);
    let shared: usize = both
        .map(|(found, truth)| truth.iter().filter(|slot| found.contains(slot)).count())
        .sum();
    shared as f64 / truth.iter().map(Vec::len).sum::<usize>().max(1) as f64
}
