//! Scores, fits, quotes and replays of the market beside numpy, scipy, scoringrules, scikit-learn, linfa and smartcore.
//!
//! Our driver makes the arrays from a seed and writes them to a directory; all sides read the same files. For one
//! thread the processor time of the process counts, so that a busy machine disturbs little; for two, the wall time.
//! Large blocks lie in large pages on all sides.
//! Works that should keep up with the memory take turns with passes over the same arrays that read and write the same bytes
//! and compute nothing.

mod alone;
pub mod contest;
mod limit;
pub mod works;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use self::contest::{Plan, Ring, Vectors};
use self::works::{Contest, Side, WORKS};
use super::driver::{Driver, Nothing};
use super::row::Row;
use super::{Effort, python};
use crate::machine::Machine;
use crate::{Result, command};
pub use contest::largest_difference;

const PEER_PACKAGES: [&str; 5] = [
    "numpy==2.4.6",
    "scipy==1.17.1",
    "numba==0.68.1",
    "scoringrules==0.10.0",
    "scikit-learn==1.9.1",
];
const SEED: u64 = 20_261_122;

#[derive(Serialize)]
struct Make<'a> {
    make: &'a Path,
    seed: u64,
    pairs: usize,
    fours: usize,
    ensembles: usize,
    examples: usize,
}

#[derive(Serialize)]
struct Load<'a> {
    load: &'a Path,
}

/// All rows of the suite.
///
/// # Errors
/// When a driver cannot be built or run, or when two results differ by more than their tolerance.
pub fn rows(root: &Path, machine: &Machine, effort: Effort) -> Result<Vec<Row>> {
    let plan = match effort {
        Effort::Quick => Plan { rounds: 3, reps: 1 },
        Effort::Full => Plan { rounds: 11, reps: 2 },
    };
    let programs = Programs::prepare(root)?;
    let wide = machine.simd.starts_with("avx512");
    let dir = command::scratch()?;
    let mut rows = Vec::new();
    for threads in [1, 2].into_iter().filter(|threads| *threads <= machine.cores) {
        let mut sides = programs.start(threads)?;
        if threads == 1 {
            sides.make(dir.path())?;
        }
        sides.load(dir.path())?;
        let ring = Ring {
            dir: dir.path(),
            threads,
            plan,
            vectors: if wide { Vectors::Avx512 } else { Vectors::Best },
        };
        rows.extend(sides.works(&ring)?);
        if wide && threads == 1 {
            let ring = Ring {
                vectors: Vectors::Avx2,
                ..ring
            };
            rows.extend(sides.works_with_two_goals(&ring)?);
        }
    }
    let mut ours = programs.ours(1)?;
    rows.extend(alone::quotes(&mut ours, plan)?);
    rows.extend(alone::replays(&mut ours, dir.path(), plan)?);
    Ok(rows)
}

/// What is started for each number of threads.
struct Programs {
    ours: PathBuf,
    python: PathBuf,
    script: PathBuf,
    rust: PathBuf,
}

impl Programs {
    fn prepare(root: &Path) -> Result<Self> {
        let python = python::interpreter("market", &PEER_PACKAGES)?;
        let rust = super::rust_peer(root, "market")?;
        let ours = super::release_binary(root, "peer-market", &["--no-default-features"])?;
        Ok(Self {
            ours,
            python,
            script: root.join("benches/peers/market/market.py"),
            rust,
        })
    }

    fn start(&self, threads: usize) -> Result<Sides> {
        Ok(Sides {
            ours: self.ours(threads)?,
            python: Driver::measured(Command::new(&self.python).arg(&self.script), threads)?,
            rust: Driver::measured(&mut Command::new(&self.rust), threads)?,
        })
    }

    fn ours(&self, threads: usize) -> Result<Driver> {
        Driver::measured(&mut Command::new(&self.ours), threads)
    }
}

/// The drivers of one number of threads.
struct Sides {
    ours: Driver,
    python: Driver,
    rust: Driver,
}

impl Sides {
    fn make(&mut self, dir: &Path) -> Result<()> {
        let Nothing {} = self.ours.ask(&Make {
            make: dir,
            seed: SEED,
            pairs: works::PAIRS,
            fours: works::FOURS,
            ensembles: works::ENSEMBLES,
            examples: works::EXAMPLES,
        })?;
        Ok(())
    }

    fn load(&mut self, dir: &Path) -> Result<()> {
        for driver in [&mut self.ours, &mut self.python, &mut self.rust] {
            let Nothing {} = driver.ask(&Load { load: dir })?;
        }
        Ok(())
    }

    fn works(&mut self, ring: &Ring<'_>) -> Result<Vec<Row>> {
        let mut rows = vec![limit::memory_row(&mut self.ours, ring.threads)?];
        for work in &WORKS {
            // A fit of the Rust crates has one thread.
            let wanted = |contest: &&Contest| contest.side == Side::Python || ring.threads == 1;
            for contest in work.contests.iter().filter(wanted) {
                let theirs = match contest.side {
                    Side::Python => &mut self.python,
                    Side::Rust => &mut self.rust,
                };
                let row = ring.hold(work, contest, &mut self.ours, theirs)?;
                rows.push(Row {
                    limit: limit::words(work, row.ours, ring.threads),
                    ..row
                });
            }
            rows.extend(limit::beside_memory(ring, work, &mut self.ours)?);
        }
        Ok(rows)
    }

    /// Once more those works whose goals depend on the instructions.
    fn works_with_two_goals(&mut self, ring: &Ring<'_>) -> Result<Vec<Row>> {
        let depends = |contest: &&Contest| contest.goals.is_some_and(|(avx512, avx2)| avx512 != avx2);
        let mut rows = Vec::new();
        for work in &WORKS {
            for contest in work.contests.iter().filter(depends) {
                let row = ring.hold(work, contest, &mut self.ours, &mut self.python)?;
                rows.push(row);
            }
        }
        Ok(rows)
    }
}
