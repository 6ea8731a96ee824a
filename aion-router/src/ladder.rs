//! The ladder: from what costs nothing to what costs much, climbing only while the shortlist is in doubt and
//! there is money left.

use serde::{Deserialize, Serialize};

use crate::query::Shortlist;

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
    /// What all rungs together may cost, in microseconds.
    pub budget_us: u64,
    /// What an embedding costs, in microseconds; 0 if the vector is there already.
    pub embedding_us: u64,
    /// What a model's reading costs, in microseconds.
    pub rerank_us: u64,
}

impl Default for LadderOptions {
    /// One bit of doubt; 20 ms in all, 7 ms an embedding; no model unless there is time for it.
    fn default() -> Self {
        Self {
            doubt_bits: 1.0,
            budget_us: 20_000,
            embedding_us: 7_000,
            rerank_us: 1_000_000,
        }
    }
}

/// A rung that was stood on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RungRecord {
    /// Which.
    pub rung: Rung,
    /// What it was said to cost, in microseconds.
    pub cost_us: u64,
    /// The doubt that was left, in bits.
    pub doubt_bits: f64,
    /// How much doubt it took away; negative if it brought some.
    pub gain_bits: f64,
}

/// Where on the ladder a ranking is.
///
/// ```
/// use aion_router::{Ladder, LadderOptions, Rung};
///
/// let mut ladder = Ladder::new(LadderOptions::default());
/// assert_eq!(ladder.next(), Some(Rung::Lexical));
/// ladder.stood(Rung::Lexical, 3.0);
/// assert_eq!(ladder.next(), Some(Rung::Embedding), "three bits of doubt are worth an embedding");
/// ladder.stood(Rung::Embedding, 0.5);
/// assert_eq!(ladder.next(), None, "half a bit is worth nothing more");
/// assert_eq!(ladder.records()[1].gain_bits, 2.5);
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

    /// Notes the doubt that a rung left.
    pub fn stood(&mut self, rung: Rung, doubt_bits: f64) {
        let before = self.records.last().map_or(doubt_bits, |last| last.doubt_bits);
        self.records.push(RungRecord {
            rung,
            cost_us: self.cost_us(rung),
            doubt_bits,
            gain_bits: before - doubt_bits,
        });
    }

    /// The rungs so far.
    pub fn records(&self) -> &[RungRecord] {
        &self.records
    }

    fn spent_us(&self) -> u64 {
        self.records.iter().map(|record| record.cost_us).sum()
    }

    const fn cost_us(&self, rung: Rung) -> u64 {
        match rung {
            Rung::Lexical => 0,
            Rung::Embedding => self.options.embedding_us,
            Rung::Rerank => self.options.rerank_us,
        }
    }
}

/// The doubt of a shortlist in bits: for each surface the entropy over its picks, given that one of them is
/// needed; the largest of them.
pub fn doubt_bits(shortlist: &Shortlist) -> f64 {
    let mut doubt: f64 = 0.0;
    let mut surfaces: Vec<_> = shortlist.picks.iter().map(|pick| &pick.surface).collect();
    surfaces.dedup();
    for surface in surfaces {
        let of_surface = || shortlist.picks.iter().filter(|pick| pick.surface == *surface);
        let sum: f64 = of_surface().map(|pick| pick.p).sum();
        let terms = of_surface().map(|pick| pick.p / sum).filter(|p| *p > 0.0);
        doubt = doubt.max(terms.map(|p| -p * p.log2()).sum());
    }
    doubt
}
