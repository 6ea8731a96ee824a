//! The ladder: from what costs nothing to what costs much, climbing only while the ranking is in doubt and there is
//! money left.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Of each surface, how many of its likeliest items doubt is about, and a model reads.
pub(crate) const LIKELIEST: usize = 16;

/// A step of the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rung {
    /// Words, rules, pinned and named items, and what was used last.
    Lexical,
    /// Embeddings of the query, and with them what was used for queries like it.
    Embedding,
    /// A model that reads the candidates.
    Rerank,
}

/// When to climb.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct LadderOptions {
    /// The doubt, in bits, above which the next rung is worth it.
    pub doubt_bits: f64,
    /// What all rungs together may cost, in microseconds, by what each is said to cost.
    pub budget_us: u64,
    /// What an embedding is said to cost, in microseconds; 0 if the vector is there already.
    pub embedding_us: u64,
    /// What a model's reading is said to cost, in microseconds.
    pub rerank_us: u64,
}

impl Default for LadderOptions {
    /// One bit of doubt; 7 ms an embedding, 1 s a model's reading, 2 s in all: enough for every rung. The last one is
    /// there only where a model is.
    fn default() -> Self {
        Self {
            doubt_bits: 1.0,
            budget_us: 2_000_000,
            embedding_us: 7_000,
            rerank_us: 1_000_000,
        }
    }
}

impl LadderOptions {
    /// Sets the doubt, in bits, above which the next rung is worth it.
    #[must_use]
    pub const fn with_doubt_bits(mut self, bits: f64) -> Self {
        self.doubt_bits = bits;
        self
    }

    /// Sets what all rungs together may cost, in microseconds.
    #[must_use]
    pub const fn with_budget_us(mut self, us: u64) -> Self {
        self.budget_us = us;
        self
    }

    /// Sets what an embedding is said to cost, in microseconds.
    #[must_use]
    pub const fn with_embedding_us(mut self, us: u64) -> Self {
        self.embedding_us = us;
        self
    }

    /// Sets what a model's reading is said to cost, in microseconds.
    #[must_use]
    pub const fn with_rerank_us(mut self, us: u64) -> Self {
        self.rerank_us = us;
        self
    }
}

/// A rung that was stood on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RungRecord {
    /// Which.
    pub rung: Rung,
    /// What it was said to cost, in microseconds: that is what decides.
    pub cost_us: u64,
    /// What it took in truth, in microseconds; nothing is decided by it, so that the same question climbs as far on
    /// every machine.
    pub took_us: u64,
    /// The doubt that was left, in bits.
    pub doubt_bits: f64,
    /// How much doubt it took away; negative if it brought some.
    pub gain_bits: f64,
}

/// Where on the ladder a ranking is.
///
/// ```
/// use std::time::Duration;
/// use aion_router::{Ladder, LadderOptions, Rung};
///
/// let mut ladder = Ladder::new(LadderOptions::default());
/// assert_eq!(ladder.next(), Some(Rung::Lexical));
/// ladder.stood(Rung::Lexical, 3.0, Duration::from_micros(80));
/// assert_eq!(ladder.next(), Some(Rung::Embedding), "three bits of doubt are worth an embedding");
/// ladder.stood(Rung::Embedding, 0.5, Duration::from_millis(5));
/// assert_eq!(ladder.next(), None, "half a bit is worth nothing more");
/// let last = ladder.records()[1];
/// assert_eq!((last.gain_bits, last.cost_us, last.took_us), (2.5, 7_000, 5_000));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Ladder {
    options: LadderOptions,
    records: Vec<RungRecord>,
}

impl Ladder {
    /// At the foot.
    pub const fn new(options: LadderOptions) -> Self {
        Self {
            options,
            records: Vec::new(),
        }
    }

    /// The next rung, if it is worth it and can be paid.
    pub fn next(&self) -> Option<Rung> {
        let Some(last) = self.records.last() else {
            return Some(Rung::Lexical);
        };
        let next = match last.rung {
            Rung::Lexical => Rung::Embedding,
            Rung::Embedding => Rung::Rerank,
            Rung::Rerank => return None,
        };
        let affordable = self.spent_us().saturating_add(self.cost_us(next)) <= self.options.budget_us;
        (last.doubt_bits > self.options.doubt_bits && affordable).then_some(next)
    }

    /// Notes the doubt that a rung left, and what it took.
    pub fn stood(&mut self, rung: Rung, doubt_bits: f64, took: Duration) {
        let before = self.records.last().map_or(doubt_bits, |last| last.doubt_bits);
        self.records.push(RungRecord {
            rung,
            cost_us: self.cost_us(rung),
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            doubt_bits,
            gain_bits: before - doubt_bits,
        });
    }

    /// The rungs so far.
    pub fn records(&self) -> &[RungRecord] {
        &self.records
    }

    fn spent_us(&self) -> u64 {
        self.records
            .iter()
            .fold(0, |spent, record| spent.saturating_add(record.cost_us))
    }

    const fn cost_us(&self, rung: Rung) -> u64 {
        match rung {
            Rung::Lexical => 0,
            Rung::Embedding => self.options.embedding_us,
            Rung::Rerank => self.options.rerank_us,
        }
    }
}

/// The doubt between things of these weights, in bits: the entropy of their shares; 0 where nothing has a weight.
///
/// ```
/// use aion_router::doubt_bits;
///
/// assert_eq!(doubt_bits(&[0.5, 0.25, 0.25]), 1.5);
/// assert_eq!(doubt_bits(&[3.0, 3.0]), 1.0);
/// assert_eq!(doubt_bits(&[1.0, 0.0]), 0.0);
/// ```
pub fn doubt_bits(weights: &[f64]) -> f64 {
    let sum: f64 = weights.iter().sum();
    let shares = weights.iter().map(|weight| weight / sum).filter(|p| *p > 0.0);
    shares.map(|p| -p * p.log2()).sum::<f64>().max(0.0)
}

/// The doubt between the likeliest items of a surface, and none of them.
///
/// None counts for at most as much as makes the doubt greatest: while little speaks for any item, none looks sure, and
/// the next rung may know better.
pub(crate) fn surface_doubt_bits(likeliest: &[f64], none: f64) -> f64 {
    let sum: f64 = likeliest.iter().sum();
    if sum <= 0.0 {
        return 0.0;
    }
    let most_doubtful = sum * (-doubt_bits(likeliest)).exp2();
    let all = likeliest.iter().copied().chain([none.min(most_doubtful)]);
    doubt_bits(&all.collect::<Vec<f64>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between items of entropy `h` and none, doubt is at most `log2(1 + 2^h)`, where none has `1 / (1 + 2^h)` of it all.
    #[test]
    fn none_takes_no_doubt_away() {
        for likeliest in [vec![0.01; 16], vec![0.01, 0.01], vec![0.02, 0.001], vec![1e-3]] {
            let sum: f64 = likeliest.iter().sum();
            let greatest = (1.0 + doubt_bits(&likeliest).exp2()).log2();
            let said = surface_doubt_bits(&likeliest, 1.0 - sum);
            assert!((said - greatest).abs() < 1e-9, "{said} {greatest}");
            let mut before = doubt_bits(&likeliest) - 1e-9;
            for step in 0..100 {
                let doubt = surface_doubt_bits(&likeliest, f64::from(step) * sum / 50.0);
                assert!(
                    before <= doubt && doubt <= greatest + 1e-9,
                    "{before} {doubt} {greatest}"
                );
                before = doubt - 1e-9;
            }
        }
    }

    #[test]
    fn what_stands_out_is_not_doubted() {
        assert!(surface_doubt_bits(&[0.95, 0.01], 0.04) < 0.4);
        assert_eq!(surface_doubt_bits(&[0.5, 0.25], 0.25), 1.5);
        assert_eq!(surface_doubt_bits(&[], 1.0), 0.0);
        assert!((surface_doubt_bits(&[0.01, 0.01], 0.98) - 3.0_f64.log2()).abs() < 1e-12);
    }

    #[test]
    fn the_last_rung_is_paid_for_by_default_and_not_from_too_small_a_budget() {
        let climbed = |options: LadderOptions| {
            let mut ladder = Ladder::new(options);
            while let Some(rung) = ladder.next() {
                ladder.stood(rung, 3.0, Duration::ZERO);
            }
            ladder.records().last().map(|record| record.rung)
        };
        assert_eq!(climbed(LadderOptions::default()), Some(Rung::Rerank));
        let poor = LadderOptions::default().with_budget_us(20_000);
        assert_eq!(climbed(poor), Some(Rung::Embedding));
        assert_eq!(climbed(poor.with_rerank_us(13_000)), Some(Rung::Rerank));
        assert_eq!(climbed(poor.with_embedding_us(u64::MAX)), Some(Rung::Lexical));
        assert_eq!(climbed(poor.with_doubt_bits(3.0)), Some(Rung::Lexical));
    }
}
