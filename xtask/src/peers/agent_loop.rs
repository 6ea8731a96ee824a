//! The agent loop beside a Python agent library: the same steps with a model that costs nothing.
//!
//! A run is `n` model calls, of which the first `n - 1` ask for the tool `add` with 1, 2, ..; the total that the
//! tool has added up must be `n (n - 1) / 2` on both sides.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::driver::Driver;
use super::row::{Better, Row, median, ratio};
use super::{Effort, python};
use crate::machine::fsync_p50;
use crate::{Error, Result};

const PEER_PACKAGES: [&str; 1] = ["pydantic-ai-slim==2.68.0"];
const STEPS: usize = 32;
/// What a step of ours may cost, in microseconds.
const LIMIT_US: f64 = 1000.0;

#[derive(Serialize)]
struct Run {
    steps: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<&'static str>,
}

#[derive(Deserialize)]
struct Ran {
    seconds: f64,
    total: usize,
}

#[derive(Serialize)]
struct Parse {
    parse_chunks: usize,
}

#[derive(Deserialize)]
struct Parsed {
    seconds: f64,
    bytes: f64,
    text_bytes: f64,
}

/// Microseconds per step, with the steps in memory and in SQLite; and the parser of model streams.
///
/// # Errors
/// When a driver cannot be built or run, or when a total is wrong.
pub fn rows(root: &Path, effort: Effort) -> Result<Vec<Row>> {
    let rounds = if effort == Effort::Quick { 5 } else { 31 };
    let python = python::interpreter("loop", &PEER_PACKAGES)?;
    let ours = super::release_binary(
        root,
        "peer-loop",
        &["--no-default-features", "--features", "loop"],
    )?;
    let mut ours = Driver::start(&mut Command::new(ours))?;
    let mut theirs =
        Driver::start(Command::new(python).arg(root.join("benches/peers/loop/pydantic_ai_steps.py")))?;
    let kept = |us: f64| {
        format!(
            "< {LIMIT_US:.0} us: {}",
            if us < LIMIT_US { "kept" } else { "MISSED" }
        )
    };
    let fsync_us = fsync_p50(&std::env::temp_dir())?.as_secs_f64() * 1e6;
    let mut memory = steps_row(&mut ours, &mut theirs, "memory", rounds)?;
    memory.limit = kept(memory.ours);
    let mut sqlite = steps_row(&mut ours, &mut theirs, "sqlite", rounds)?;
    sqlite.work = "the same, durable in SQLite before each tool call".to_owned();
    sqlite.limit = format!(
        "{}; {:.1} times fdatasync, which is {fsync_us:.0} us here",
        kept(sqlite.ours),
        sqlite.ours / fsync_us
    );
    let mut rows = vec![memory, sqlite];
    rows.push(parse_row(&mut ours, rounds)?);
    Ok(rows)
}

fn steps_row(ours: &mut Driver, theirs: &mut Driver, store: &'static str, rounds: usize) -> Result<Row> {
    let (mut our_us, mut their_us) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let our_run = Run {
            steps: STEPS,
            store: Some(store),
        };
        let their_run = Run {
            steps: STEPS,
            store: None,
        };
        let (a, b): (Ran, Ran) = if round % 2 == 0 {
            (ours.ask(&our_run)?, theirs.ask(&their_run)?)
        } else {
            let theirs = theirs.ask(&their_run)?;
            (ours.ask(&our_run)?, theirs)
        };
        for (who, ran) in [(ours.label(), &a), (theirs.label(), &b)] {
            check_total(&who, ran)?;
        }
        if round > 0 {
            our_us.push(a.seconds * 1e6 / STEPS as f64);
            their_us.push(b.seconds * 1e6 / STEPS as f64);
        } // the first round warms up
    }
    let (our_us, their_us) = (
        median(&our_us).unwrap_or(f64::NAN),
        median(&their_us).unwrap_or(f64::NAN),
    );
    Ok(Row {
        work: "a step with one tool call, in memory".to_owned(),
        unit: "us/step",
        ours: our_us,
        peer: format!("{}, in memory", theirs.label()),
        theirs: Some(their_us),
        ratio: Some(ratio(Better::Lower, our_us, their_us)),
        goal_ratio: Some(2.0),
        kept: None,
        limit: format!(
            "< {LIMIT_US:.0} us: {}",
            if our_us < LIMIT_US { "kept" } else { "MISSED" }
        ),
        agreement: "the totals of all rounds".to_owned(),
        threads: 1,
        rounds,
    })
}

fn check_total(who: &str, ran: &Ran) -> Result<()> {
    let wanted = STEPS * (STEPS - 1) / 2;
    if ran.total == wanted {
        return Ok(());
    }
    let what = format!("{who} added up to {}, not {wanted}", ran.total);
    Err(Error::Disagree {
        peer: who.to_owned(),
        what,
    })
}

fn parse_row(ours: &mut Driver, rounds: usize) -> Result<Row> {
    const CHUNKS: usize = 4096;
    let mut rates = Vec::new();
    for _ in 0..rounds {
        let parsed: Parsed = ours.ask(&Parse { parse_chunks: CHUNKS })?;
        if parsed.text_bytes <= 0.0 {
            return Err(Error::Disagree {
                peer: ours.label(),
                what: "the stream held text, none was read".into(),
            });
        }
        rates.push(parsed.bytes / 1e6 / parsed.seconds);
    }
    Ok(Row {
        work: format!("parse a model stream of {CHUNKS} chunks"),
        unit: "MB/s",
        ours: median(&rates).unwrap_or(f64::NAN),
        peer: "none".to_owned(),
        theirs: None,
        ratio: None,
        goal_ratio: None,
        kept: None,
        limit: "a server sends well under 1 MB/s".to_owned(),
        agreement: "the text that went in comes out".to_owned(),
        threads: 1,
        rounds,
    })
}
