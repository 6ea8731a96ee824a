//! What a number of ours is held against beside the peers: a time, or what the memory can do.

use serde::{Deserialize, Serialize};

use super::contest::{Answer, Ring};
use super::works::{Unit, Work};
use crate::Result;
use crate::peers::driver::Driver;
use crate::peers::row::{Row, median};

/// Passes in a turn; the fastest counts.
const REPS: usize = 3;

#[derive(Serialize)]
struct Probe {
    probe_threads: usize,
    bytes: usize,
}

/// What the memory can do, in bytes per second.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Bandwidth {
    read_bytes_per_s: f64,
    copy_bytes_per_s: f64,
}

/// What the memory of this machine can do, as a row of its own.
pub(super) fn memory_row(ours: &mut Driver, threads: usize) -> Result<Row> {
    let found: Bandwidth = ours.ask(&Probe {
        probe_threads: threads,
        bytes: 256 << 20,
    })?;
    Ok(Row {
        work: "read 256 MiB of memory".to_owned(),
        limit: format!("copying: {:.1} GB/s", found.copy_bytes_per_s / 1e9),
        threads,
        ..Row::alone("GB/s", found.read_bytes_per_s / 1e9)
    })
}

#[derive(Serialize)]
struct Move<'a> {
    only_move: &'a str,
    threads: usize,
    reps: usize,
}

/// The work in turns with passes over the same arrays that read and write the same bytes and compute nothing, for works
/// that should keep up with the memory.
pub(super) fn beside_memory(ring: &Ring<'_>, work: &Work, ours: &mut Driver) -> Result<Option<Row>> {
    let Some((bytes, share)) = work.traffic else {
        return Ok(None);
    };
    let moving = Move {
        only_move: work.name,
        threads: ring.threads,
        reps: REPS,
    };
    let (mut our_s, mut moving_s) = (Vec::new(), Vec::new());
    for round in 0..=ring.plan.rounds {
        let answer: Answer = ours.ask(&ring.alone(work, REPS))?;
        let moved: Answer = ours.ask(&moving)?;
        if round > 0 {
            our_s.push(ring.time(&answer));
            moving_s.push(ring.time(&moved));
        }
    }
    let rate = |seconds: &[f64]| work.rows as f64 / median(seconds).unwrap_or(f64::NAN) / 1e6;
    let (ours, theirs) = (rate(&our_s), rate(&moving_s));
    Ok(Some(
        Row {
            work: format!("{}, beside memory", work.title),
            peer: "moving the same bytes".to_owned(),
            theirs: Some(theirs),
            ratio: Some(ours / theirs),
            goal_ratio: Some(share),
            limit: format!("{bytes} bytes a row, {:.1} GB/s", theirs * bytes as f64 / 1e3),
            threads: ring.threads,
            rounds: ring.plan.rounds,
            ..Row::alone("Mrow/s", ours)
        }
        .judged(),
    ))
}

/// What a number of ours is held against, in words.
pub(super) fn words(work: &Work, ours: f64, threads: usize) -> String {
    match work.unit {
        Unit::Millis(most) if threads == 1 => {
            let kept = if ours <= most { "kept" } else { "MISSED" };
            format!("at most {most} ms: {kept}")
        }
        _ => "-".to_owned(),
    }
}
