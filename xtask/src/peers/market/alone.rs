//! Works without a peer: quotes of a maker, and a recorded market read and written.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::contest::Plan;
use crate::Result;
use crate::machine::fsync_p50;
use crate::peers::driver::Driver;
use crate::peers::row::{Row, median};

const BETS: usize = 10_000;

#[derive(Serialize)]
struct Quote {
    quote_outcomes: usize,
}

#[derive(Deserialize)]
struct Quoted {
    ns: f64,
}

#[derive(Serialize)]
struct Replay {
    replay: &'static str,
    bets: usize,
}

#[derive(Deserialize)]
struct Replayed {
    seconds: f64,
    bets: usize,
    batch: usize,
}

/// A quote of a purchase, without any peer.
pub(super) fn quotes(ours: &mut Driver, plan: Plan) -> Result<Vec<Row>> {
    let goals = [(2, 20.0), (10, 60.0), (100, 400.0)];
    let row = |(outcomes, most): (usize, f64)| {
        let quote = Quote {
            quote_outcomes: outcomes,
        };
        let times: Result<Vec<f64>> = (0..plan.rounds)
            .map(|_| Ok(ours.ask::<Quoted>(&quote)?.ns))
            .collect();
        let ns = median(&times?).unwrap_or(f64::NAN);
        Ok(Row {
            work: format!("LMSR quote, K={outcomes}"),
            kept: Some(ns <= most),
            limit: format!("at most {most} ns"),
            rounds: plan.rounds,
            ..Row::alone("ns", ns)
        })
    };
    goals.into_iter().map(row).collect()
}

/// A recorded market of many bets: folded from memory, and written durably in batches.
pub(super) fn replays(ours: &mut Driver, dir: &Path, plan: Plan) -> Result<Vec<Row>> {
    let rounds = plan.rounds.min(7);
    let mut run = |replay| -> Result<(f64, usize)> {
        let runs: Result<Vec<Replayed>> = (0..rounds)
            .map(|_| ours.ask(&Replay { replay, bets: BETS }))
            .collect();
        let runs = runs?;
        let seconds: Vec<f64> = runs.iter().map(|run| run.seconds / run.bets as f64).collect();
        let batch = runs.first().map_or(0, |run| run.batch);
        Ok((median(&seconds).unwrap_or(f64::NAN), batch))
    };
    let (memory_s, _) = run("memory")?;
    let (sqlite_s, batch) = run("sqlite")?;
    let fsync_us = fsync_p50(dir)?.as_secs_f64() * 1e6;
    let (memory_ms, per_s) = (memory_s * BETS as f64 * 1e3, sqlite_s.recip());
    Ok(vec![
        Row {
            work: format!("replay {BETS} bets from memory"),
            kept: Some(memory_ms < 5.0),
            limit: "under 5 ms".to_owned(),
            rounds,
            ..Row::alone("ms", memory_ms)
        },
        Row {
            work: format!("bets into SQLite, durable, {batch} a batch"),
            kept: Some(per_s >= 20_000.0),
            limit: format!("at least 20,000 bets/s; fdatasync p50 {fsync_us:.0} us"),
            rounds,
            ..Row::alone("bets/s", per_s)
        },
    ])
}
