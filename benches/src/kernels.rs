//! The passes over the arrays that the suite `market` of `cargo xtask peers` measures.
//!
//! A batch checks its rows once, when it is made, which is outside of the measured time. The works called `Checked..`
//! check and score in one pass, all of it measured, for peers that check as well.

use std::num::NonZeroUsize;

use aion_market::batch::{BatchOptions, Binary, Categorical, DistPairs, Ensembles, Rows, SimdLevel, Threads};
use aion_market::predict::logistic::{LogisticOptions, fit};
use serde::Deserialize;

use crate::arrays::{Arrays, FEATURES, MEMBERS, OUTCOMES};
use crate::memory::{fastest, move_rows};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// The log score of every pair.
    LogScore,
    /// The same, the rows checked.
    CheckedLogScore,
    /// The mean log score of all pairs, the rows checked.
    MeanLogScore,
    /// The divergence of every pair of distributions.
    Kl,
    /// The same, the rows checked.
    CheckedKl,
    /// The Brier score of every row.
    Brier,
    /// The same, the rows checked.
    CheckedBrier,
    /// The ranked probability score of every row.
    Rps,
    /// The same, the rows checked.
    CheckedRps,
    /// The continuous ranked probability score of every ensemble.
    Crps,
    /// The same, the rows checked.
    CheckedCrps,
    /// Weights and intercept of a logistic regression with an L2 penalty of 1.
    Logistic,
}

/// The smallest times of some passes, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Of the processor, all threads together.
    pub cpu_s: f64,
    /// From start to end.
    pub wall_s: f64,
}

/// The arrays with a place for results.
#[derive(Debug)]
pub struct Kernels {
    arrays: Arrays,
    targets: Vec<f64>,
    out: Vec<f64>,
}

impl Kernels {
    /// Over these arrays.
    pub fn new(arrays: Arrays) -> Self {
        Self {
            targets: arrays.t.iter().map(|t| f64::from(*t)).collect(),
            arrays,
            out: Vec::new(),
        }
    }

    /// The results of the last measured work.
    pub fn results(&self) -> &[f64] {
        &self.out
    }

    /// Moves the bytes of the work and does nothing with them, `reps` times on `threads` threads: what memory allows.
    ///
    /// # Errors
    /// When the work is no pass over pairs or over rows of four.
    pub fn only_move(&mut self, work: Work, threads: usize, reps: usize) -> Result<Times> {
        let Self { arrays, out, .. } = self;
        let (wide, narrow) = match work {
            Work::LogScore => (&arrays.p, &arrays.y),
            Work::Brier | Work::Rps => (&arrays.p4, &arrays.label4),
            _ => return Err("only moving is for passes over pairs and over rows of four".into()),
        };
        out.resize(narrow.len(), 0.0);
        timed(reps, (), |()| {
            move_rows(threads, wide, narrow, out);
            Ok(())
        })
    }

    /// Does the work `reps` times on `threads` threads with the instructions of `level`. A fit has one thread and the
    /// best instructions.
    ///
    /// # Errors
    /// When the arrays are refused.
    pub fn measure(&mut self, work: Work, level: SimdLevel, threads: usize, reps: usize) -> Result<Times> {
        let threads = NonZeroUsize::new(threads).ok_or("no thread")?;
        let options = BatchOptions::default()
            .with_level(level)
            .with_threads(match threads.get() {
                1 => Threads::One,
                _ => Threads::Count(threads),
            });
        let Self { arrays, targets, out } = self;
        out.resize(results_of(work, arrays), 0.0);
        let Arrays {
            p,
            y,
            label4,
            observed,
            ..
        } = &*arrays;
        let p4 = Rows::new(&arrays.p4, OUTCOMES)?;
        let q4 = Rows::new(&arrays.q4, OUTCOMES)?;
        let members = Rows::new(&arrays.members, MEMBERS)?;
        let pairs = || Binary::new(p, y, options);
        let fours = || Categorical::new(p4, label4, options);
        let both = || DistPairs::new(p4, q4, options);
        let ensembles = || Ensembles::new(members, observed, options);
        match work {
            Work::LogScore => timed(reps, pairs()?, |batch| batch.log_score_into(out)),
            Work::CheckedLogScore => timed(reps, (), |()| {
                again(out, |out| Binary::log_score_onto(p, y, options, out))
            }),
            Work::MeanLogScore => timed(reps, (), |()| {
                out[0] = pairs()?.log_score_mean()?;
                Ok(())
            }),
            Work::Kl => timed(reps, both()?, |batch| batch.kl_into(out)),
            Work::CheckedKl => timed(reps, (), |()| {
                again(out, |out| DistPairs::kl_onto(p4, q4, options, out))
            }),
            Work::Brier => timed(reps, fours()?, |batch| batch.brier_into(out)),
            Work::CheckedBrier => timed(reps, (), |()| {
                again(out, |out| Categorical::brier_onto(p4, label4, options, out))
            }),
            Work::Rps => timed(reps, fours()?, |batch| batch.rps_into(out)),
            Work::CheckedRps => timed(reps, (), |()| {
                again(out, |out| Categorical::rps_onto(p4, label4, options, out))
            }),
            Work::Crps => timed(reps, ensembles()?, |batch| batch.crps_into(out)),
            Work::CheckedCrps => timed(reps, (), |()| {
                again(out, |out| Ensembles::crps_onto(members, observed, options, out))
            }),
            Work::Logistic => timed(reps, (), |()| {
                let fitted = fit(&arrays.x, FEATURES, targets, &LogisticOptions::default())?;
                out.copy_from_slice(&fitted.coefficients);
                Ok(())
            }),
        }
    }
}

/// Clears the results and fills them again.
fn again(
    out: &mut Vec<f64>,
    fill: impl FnOnce(&mut Vec<f64>) -> aion_market::Result<()>,
) -> aion_market::Result<()> {
    out.clear();
    fill(out)
}

fn results_of(work: Work, arrays: &Arrays) -> usize {
    match work {
        Work::LogScore | Work::CheckedLogScore => arrays.p.len(),
        Work::MeanLogScore => 1,
        Work::Crps | Work::CheckedCrps => arrays.observed.len(),
        Work::Logistic => FEATURES + 1,
        Work::Kl | Work::CheckedKl | Work::Brier | Work::CheckedBrier | Work::Rps | Work::CheckedRps => {
            arrays.label4.len()
        }
    }
}

fn timed<B: Copy>(
    reps: usize,
    batch: B,
    mut pass: impl FnMut(B) -> aion_market::Result<()>,
) -> Result<Times> {
    let mut passed = Ok(());
    let (cpu, wall) = fastest(reps, || passed = pass(batch));
    passed?;
    Ok(Times {
        cpu_s: cpu.as_secs_f64(),
        wall_s: wall.as_secs_f64(),
    })
}
