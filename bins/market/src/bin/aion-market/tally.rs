//! Scores added up by forecaster.

use std::collections::BTreeMap;
use std::f64::consts::LN_2;

use aion_market::reliability::Reliability;
use aion_market::score;

use crate::input::{Belief, Fault, Row};

/// The most forecasters of one file.
const MAX_FORECASTERS: usize = 10_000;

/// Rows that were read, by forecaster.
#[derive(Debug)]
pub(crate) struct Tally {
    clip: f64,
    by_name: BTreeMap<String, Rows>,
}

/// What is kept of the rows of one forecaster.
#[derive(Debug, Default)]
struct Rows {
    loss_bits: Vec<f64>,
    brier: f64,
    outcome: Vec<u32>,
    /// Probabilities of the event; as many as rows where all have two outcomes.
    event: Vec<f64>,
    /// Losses of a given baseline; as many as rows, or none.
    base_bits: Vec<f64>,
}

/// The scores of one forecaster.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Scores {
    pub(crate) forecaster: String,
    pub(crate) n: u64,
    /// Mean log loss; infinite if something happened that was held impossible.
    #[serde(serialize_with = "finite")]
    pub(crate) loss_bits: f64,
    pub(crate) brier: f64,
    pub(crate) ece: Option<f64>,
    /// Mean gain on the baseline, and its standard error.
    #[serde(serialize_with = "finite")]
    pub(crate) skill_bits: f64,
    pub(crate) skill_se_bits: Option<f64>,
    #[serde(skip)]
    pub(crate) curve: Option<Reliability>,
    /// Mean loss up to about each hundredth of the rows.
    #[serde(skip)]
    pub(crate) path: Vec<(f64, f64)>,
}

/// JSON has no infinities: such a number is `null`.
fn finite<S: serde::Serializer>(x: &f64, to: S) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&Some(*x).filter(|x| x.is_finite()), to)
}

impl Tally {
    pub(crate) fn new(clip: f64) -> Self {
        Self {
            clip,
            by_name: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, row: Row) -> Result<(), Fault> {
        let (mut q, is_event) = match row.belief {
            Belief::Event(p) => (vec![p, 1.0 - p], true),
            Belief::Outcomes(q) => (q, false),
        };
        let uniform = self.clip / q.len() as f64;
        q.iter_mut().for_each(|p| *p = *p * (1.0 - self.clip) + uniform);
        let loss_bits = loss(&q, row.outcome)?;
        let brier = score::brier(&q, row.outcome)? / if is_event { 2.0 } else { 1.0 };
        let base = row.base.filter(|_| q.len() == 2);
        let base_bits = base.map(|p| loss(&[p, 1.0 - p], row.outcome)).transpose()?;
        let full = self.by_name.len() >= MAX_FORECASTERS;
        if full && !self.by_name.contains_key(&row.forecaster) {
            let reason = format!("there are more than {MAX_FORECASTERS} forecasters");
            return Err(Fault { column: None, reason });
        }
        let rows = self.by_name.entry(row.forecaster).or_default();
        rows.loss_bits.push(loss_bits);
        rows.brier += brier;
        rows.outcome.push(row.outcome as u32);
        rows.event.extend((q.len() == 2).then_some(q[0]));
        rows.base_bits.extend(base_bits);
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The probabilities of the event and what happened, by forecaster.
    pub(crate) fn events(self) -> impl Iterator<Item = (String, Vec<f64>, Vec<f64>)> {
        self.by_name.into_iter().map(|(name, rows)| {
            let happened = rows.happened();
            (name, rows.event, happened)
        })
    }

    pub(crate) fn finish(self, bins: usize) -> aion_market::Result<Vec<Scores>> {
        let all = self.by_name.into_iter();
        all.map(|(name, rows)| rows.scores(name, bins)).collect()
    }
}

fn loss(q: &[f64], outcome: usize) -> Result<f64, Fault> {
    // The score of a certainty is -0: a loss is never below 0.
    Ok((-score::log_score(q, outcome)? / LN_2).abs())
}

impl Rows {
    fn scores(self, forecaster: String, bins: usize) -> aion_market::Result<Scores> {
        let n = self.loss_bits.len() as f64;
        let curve = self.curve(bins)?;
        let (skill_bits, skill_se_bits) = self.skill();
        Ok(Scores {
            forecaster,
            n: self.loss_bits.len() as u64,
            loss_bits: self.loss_bits.iter().sum::<f64>() / n,
            brier: self.brier / n,
            ece: curve.as_ref().map(Reliability::ece),
            skill_bits,
            skill_se_bits,
            curve,
            path: self.path(),
        })
    }

    fn curve(&self, bins: usize) -> aion_market::Result<Option<Reliability>> {
        if self.event.len() != self.loss_bits.len() {
            return Ok(None);
        }
        Reliability::of(&self.event, &self.happened(), bins).map(Some)
    }

    /// 1 where the first of two outcomes happened.
    fn happened(&self) -> Vec<f64> {
        self.outcome.iter().map(|y| f64::from(*y == 0)).collect()
    }

    /// The mean of `base - loss` over rows, and its standard error.
    fn skill(&self) -> (f64, Option<f64>) {
        let n = self.loss_bits.len() as f64;
        let base = self.base();
        let gains: Vec<f64> = base
            .iter()
            .zip(&self.loss_bits)
            .map(|(base, loss)| base - loss)
            .collect();
        let mean = gains.iter().sum::<f64>() / n;
        let spread: f64 = gains.iter().map(|gain| (gain - mean).powi(2)).sum();
        let error = (spread / (n - 1.0) / n).sqrt();
        (mean, Some(error).filter(|error| error.is_finite()))
    }

    /// The loss of the baseline in each row: as given, or of the frequencies of these rows.
    fn base(&self) -> Vec<f64> {
        if self.base_bits.len() == self.loss_bits.len() {
            return self.base_bits.clone();
        }
        let mut counts: BTreeMap<u32, f64> = BTreeMap::new();
        self.outcome
            .iter()
            .for_each(|y| *counts.entry(*y).or_default() += 1.0);
        let n = self.outcome.len() as f64;
        let bits = |y: &u32| (counts.get(y).map_or(n, |count| n / count)).log2();
        self.outcome.iter().map(bits).collect()
    }

    fn path(&self) -> Vec<(f64, f64)> {
        let every = self.loss_bits.len().div_ceil(100).max(1);
        let (mut sum, mut path) = (0.0, Vec::new());
        for (i, loss) in self.loss_bits.iter().enumerate() {
            sum += loss;
            if (i + 1) % every == 0 || i + 1 == self.loss_bits.len() {
                path.push(((i + 1) as f64, sum / (i + 1) as f64));
            }
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::{Belief, Row, Tally};

    fn row(p: f64, outcome: usize, base: Option<f64>) -> Row {
        Row {
            forecaster: "anna".to_owned(),
            belief: Belief::Event(p),
            outcome,
            base,
        }
    }

    /// Losses of 1 and 2 bits against 1 bit of the frequencies: the gains are 0 and -1.
    #[test]
    fn skill_is_paired_with_the_base_of_the_same_rows() {
        let mut tally = Tally::new(0.0);
        tally.add(row(0.5, 0, None)).unwrap();
        tally.add(row(0.75, 1, None)).unwrap();
        let scores = &tally.finish(10).unwrap()[0];
        assert_eq!((scores.loss_bits, scores.skill_bits), (1.5, -0.5));
        assert!((scores.skill_se_bits.unwrap() - 0.5).abs() < 1e-12);
        assert!((scores.brier - (0.25 + 0.5625) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn a_given_base_is_used_and_clipping_bounds_the_loss() {
        let mut tally = Tally::new(0.01);
        tally.add(row(0.0, 0, Some(0.25))).unwrap();
        let scores = &tally.finish(10).unwrap()[0];
        assert!((scores.loss_bits - 200.0_f64.log2()).abs() < 1e-12);
        assert!((scores.skill_bits - (2.0 - 200.0_f64.log2())).abs() < 1e-12);
        assert_eq!(scores.skill_se_bits, None);
    }
}
