//! The task engine beside apalis-sqlite, effectum, honker, graphile_worker, procrastinate and SKIP LOCKED by hand.
//!
//! A turn is an empty database, so many jobs of 1 KB enqueued in no measured time, and workers that claim and complete
//! until none is left or the time is over. What counts is what the database calls completed, a second. Ours writes an
//! event for every change and checks a fence with every completion; what peers leave out is theirs.

mod alone;
mod contest;
mod programs;

use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};

use self::contest::{CONTESTS, Contest, Ring};
use self::programs::Programs;
use super::Effort;
use super::row::Row;
use crate::machine::fsync_p50;
use crate::{Error, Result, command};

/// How long to measure.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rounds: usize,
    /// Jobs in a turn.
    jobs: usize,
    /// A turn ends after so many seconds.
    most_s: f64,
    /// Rows of the file in which single operations are timed.
    rows: usize,
    /// Tasks that are enqueued and drained while memory is watched.
    tasks: usize,
    /// Children of one parent.
    children: usize,
    /// Requests to the server.
    requests: usize,
}

impl Plan {
    const fn of(effort: Effort) -> Self {
        match effort {
            Effort::Quick => Self {
                rounds: 1,
                jobs: 4_000,
                most_s: 4.0,
                rows: 20_000,
                tasks: 20_000,
                children: 10_000,
                requests: 10_000,
            },
            Effort::Full => Self {
                rounds: 3,
                jobs: 20_000,
                most_s: 12.0,
                rows: 1_000_000,
                tasks: 1_000_000,
                children: 100_000,
                requests: 100_000,
            },
        }
    }
}

/// The rows of the suite whose group's name holds `only`; a peer that cannot be had or fails is a row that says why.
///
/// # Errors
/// When ours cannot be built or run, or when it loses a job.
pub fn rows(root: &Path, effort: Effort, only: Option<&str>) -> Result<Vec<Row>> {
    let plan = Plan::of(effort);
    let wanted = |name: &str| only.is_none_or(|only| name.contains(only));
    let contests: Vec<&Contest> = CONTESTS.iter().filter(|contest| wanted(contest.name)).collect();
    let alone: Vec<&alone::Work> = alone::WORKS.iter().filter(|work| wanted(work.name)).collect();
    let mut programs = Programs::prepare(root)?;
    let turns: usize = contests.iter().map(|contest| contest.turns(plan)).sum();
    let bar = progress(turns + alone.len());
    let scratch = command::scratch()?;
    let mut rows = Vec::new();
    for contest in contests {
        let fsync_us = fsync_p50(scratch.path())?.as_secs_f64() * 1e6;
        let ring = Ring {
            plan,
            scratch: &scratch,
            bar: &bar,
            fsync_us,
        };
        rows.extend(ring.hold(contest, &mut programs)?);
    }
    for work in alone {
        bar.set_message(work.name);
        match (work.rows)(&mut programs, &scratch, plan) {
            Ok(more) => rows.extend(more),
            Err(error) => rows.push(failed(work.name, &error)),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(rows)
}

/// What was not measured, and why.
fn failed(work: &str, error: &Error) -> Row {
    Row {
        work: work.to_owned(),
        kept: Some(false),
        limit: format!("FAILED: {}", contest::words(error)),
        ..Row::alone("-", f64::NAN)
    }
}

fn progress(steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar
}
