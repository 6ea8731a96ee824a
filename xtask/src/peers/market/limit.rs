//! What a number of ours is held against beside the peers: a time, or what the memory can do.

use serde::{Deserialize, Serialize};

use super::works::{Unit, Work};
use crate::Result;
use crate::peers::driver::Driver;
use crate::peers::row::Row;

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

impl Bandwidth {
    fn best(self) -> f64 {
        self.read_bytes_per_s.max(self.copy_bytes_per_s)
    }
}

fn probe(ours: &mut Driver, threads: usize, bytes: usize) -> Result<Bandwidth> {
    ours.ask(&Probe {
        probe_threads: threads,
        bytes,
    })
}

/// What the memory of this machine can do, as a row of its own.
pub(super) fn memory_row(ours: &mut Driver, threads: usize) -> Result<Row> {
    const BYTES: usize = 256 << 20;
    let found = probe(ours, threads, BYTES)?;
    Ok(Row {
        work: "read 256 MiB of memory".to_owned(),
        limit: format!("copying: {:.1} GB/s", found.copy_bytes_per_s / 1e9),
        threads,
        ..Row::alone("GB/s", found.read_bytes_per_s / 1e9)
    })
}

/// What our number is held against, beside the peers.
pub(super) enum Limit {
    None,
    Millis(f64),
    Memory {
        bytes: usize,
        share: f64,
        bytes_per_s: f64,
    },
}

impl Limit {
    /// Measures the memory over as many bytes as the work moves, where a share of it is a goal.
    pub(super) fn of(work: &Work, ours: &mut Driver, threads: usize) -> Result<Self> {
        Ok(match (work.traffic, work.unit) {
            (Some((bytes, share)), _) => Self::Memory {
                bytes,
                share,
                bytes_per_s: probe(ours, threads, bytes * work.rows)?.best(),
            },
            (None, Unit::Millis(most)) if threads == 1 => Self::Millis(most),
            (None, _) => Self::None,
        })
    }

    pub(super) fn words(&self, work: &Work, ours: f64) -> String {
        match *self {
            Self::None => "arithmetic".to_owned(),
            Self::Millis(most) => format!("at most {most} ms: {}", kept_word(ours <= most)),
            Self::Memory {
                bytes,
                share,
                bytes_per_s,
            } => {
                let reached = ours * 1e6 * bytes as f64 / bytes_per_s;
                format!(
                    "{:.0}% of {:.1} GB/s over {} MB, at least {:.0}%: {}",
                    reached * 100.0,
                    bytes_per_s / 1e9,
                    bytes * work.rows / 1_000_000,
                    share * 100.0,
                    kept_word(reached >= share)
                )
            }
        }
    }
}

fn kept_word(kept: bool) -> &'static str {
    if kept { "kept" } else { "MISSED" }
}
