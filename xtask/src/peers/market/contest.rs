//! Ours and a peer take turns; both results are compared.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::works::{Contest, Unit, Work};
use crate::peers::driver::Driver;
use crate::peers::row::{Better, Row, median, ratio};
use crate::{Error, Result};

/// How long to measure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Turns of each side.
    pub(super) rounds: usize,
    /// Passes in a turn; the fastest counts.
    pub(super) reps: usize,
}

#[derive(Serialize)]
pub(super) struct Request<'a> {
    work: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    simd: Option<&'a str>,
    threads: usize,
    reps: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    out: Option<&'a Path>,
}

/// What a driver measured.
#[derive(Deserialize)]
pub(super) struct Answer {
    label: String,
    cpu_s: f64,
    wall_s: f64,
}

/// Instructions of our side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vectors {
    /// The machine's best, with the goals for AVX-512.
    Avx512,
    /// The machine's best, with the goals for AVX2.
    Best,
    /// AVX2 on a machine that has more.
    Avx2,
}

/// Where a contest is held.
pub(super) struct Ring<'a> {
    /// Where results go to be compared.
    pub(super) dir: &'a Path,
    /// Threads that each side uses.
    pub(super) threads: usize,
    /// How long.
    pub(super) plan: Plan,
    /// Which goals hold, and which instructions ours is told to use.
    pub(super) vectors: Vectors,
}

impl Ring<'_> {
    /// One row: medians over the rounds of each turn's fastest pass; processor time for one thread, wall time for more.
    pub(super) fn hold(
        &self,
        work: &Work,
        contest: &Contest,
        ours: &mut Driver,
        theirs: &mut Driver,
    ) -> Result<Row> {
        let (our_file, their_file) = (self.dir.join("out.ours"), self.dir.join("out.theirs"));
        let (mut our_s, mut their_s) = (Vec::new(), Vec::new());
        let mut said = (String::new(), String::new());
        for round in 0..=self.plan.rounds {
            let outs = (round == 0).then_some((our_file.as_path(), their_file.as_path()));
            let our_turn = self.request(work, contest, outs.map(|outs| outs.0));
            let their_turn = self.request(work, contest, outs.map(|outs| outs.1));
            let (a, b): (Answer, Answer) = if round % 2 == 0 {
                (ours.ask(&our_turn)?, theirs.ask(&their_turn)?)
            } else {
                let theirs = theirs.ask(&their_turn)?;
                (ours.ask(&our_turn)?, theirs)
            };
            if round == 0 {
                said = (compared(contest, &b.label, &our_file, &their_file)?, b.label);
                continue; // the first round warms up
            }
            our_s.push(self.time(&a));
            their_s.push(self.time(&b));
        }
        let (agreement, peer) = said;
        let rate = |seconds: &[f64]| told(work, median(seconds).unwrap_or(f64::NAN));
        Ok(self.row(work, contest, (rate(&our_s), rate(&their_s)), agreement, peer))
    }

    fn request<'a>(&self, work: &'a Work, contest: &'a Contest, out: Option<&'a Path>) -> Request<'a> {
        Request {
            work: work.name,
            peer: Some(contest.peer),
            out,
            ..self.alone(work, self.plan.reps)
        }
    }

    /// Our passes without a peer.
    pub(super) fn alone<'a>(&self, work: &'a Work, reps: usize) -> Request<'a> {
        Request {
            work: work.name,
            peer: None,
            simd: (self.vectors == Vectors::Avx2).then_some("avx2"),
            threads: self.threads,
            reps,
            out: None,
        }
    }

    /// The time that counts, in seconds.
    pub(super) fn time(&self, answer: &Answer) -> f64 {
        if self.threads == 1 {
            answer.cpu_s
        } else {
            answer.wall_s
        }
    }

    fn row(
        &self,
        work: &Work,
        contest: &Contest,
        (ours, theirs): (f64, f64),
        agreement: String,
        peer: String,
    ) -> Row {
        let better = match work.unit {
            Unit::MegaRows => Better::Higher,
            Unit::Millis(_) => Better::Lower,
        };
        let goal = contest.goals.filter(|_| self.threads == 1);
        let title = match self.vectors {
            Vectors::Avx2 => format!("{}, ours with AVX2", work.title),
            Vectors::Avx512 | Vectors::Best => work.title.to_owned(),
        };
        Row {
            work: title,
            unit: unit_name(work.unit),
            ours,
            peer,
            theirs: Some(theirs),
            ratio: Some(ratio(better, ours, theirs)),
            goal_ratio: goal.map(|(avx512, avx2)| {
                if self.vectors == Vectors::Avx512 {
                    avx512
                } else {
                    avx2
                }
            }),
            kept: None,
            limit: "-".to_owned(),
            agreement,
            threads: self.threads,
            rounds: self.plan.rounds,
        }
        .judged()
    }
}

fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::MegaRows => "Mrow/s",
        Unit::Millis(_) => "ms",
    }
}

fn told(work: &Work, seconds: f64) -> f64 {
    match work.unit {
        Unit::MegaRows => work.rows as f64 / seconds / 1e6,
        Unit::Millis(_) => seconds * 1e3,
    }
}

/// The largest difference of two results, in words; an error where it is more than the tolerance.
fn compared(contest: &Contest, peer: &str, ours: &Path, theirs: &Path) -> Result<String> {
    let (ours, theirs) = (numbers(ours)?, numbers(theirs)?);
    let disagree = |what| Error::Disagree {
        peer: peer.to_owned(),
        what,
    };
    if ours.len() != theirs.len() || ours.is_empty() {
        let what = format!("{} results beside {}", ours.len(), theirs.len());
        return Err(disagree(what));
    }
    let (difference, at) = largest_difference(&ours, &theirs);
    if difference > contest.tolerance || difference.is_nan() {
        let what = format!("row {at}: {} beside {}", ours[at], theirs[at]);
        return Err(disagree(what));
    }
    Ok(format!(
        "{} values within {difference:.0e}, at most {:.0e}",
        ours.len(),
        contest.tolerance
    ))
}

/// The largest `|a - b| / max(1, |b|)` and where it is. A NaN is larger than everything.
///
/// ```
/// use xtask::peers::market::largest_difference;
/// assert_eq!(largest_difference(&[1.0, 2.0], &[1.0, 2.5]), (0.2, 1));
/// assert!(largest_difference(&[f64::NAN], &[0.0]).0.is_nan());
/// ```
pub fn largest_difference(ours: &[f64], theirs: &[f64]) -> (f64, usize) {
    let each = ours.iter().zip(theirs).enumerate();
    each.map(|(at, (a, b))| ((a - b).abs() / b.abs().max(1.0), at))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .unwrap_or((0.0, 0))
}

fn numbers(path: &Path) -> Result<Vec<f64>> {
    let bytes = std::fs::read(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })?;
    let (eights, _) = bytes.as_chunks();
    Ok(eights.iter().map(|eight| f64::from_le_bytes(*eight)).collect())
}
