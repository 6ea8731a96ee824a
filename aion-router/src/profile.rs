//! Profiles: whole ways of ranking that the mixture weighs against each other.

use serde::{Deserialize, Serialize};

use crate::feature::{FEATURES, Feature, Weights};

/// How many profiles there are.
pub const PROFILES: usize = 5;

/// A way of ranking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Profile {
    /// Everything, by the learned weights.
    Learned,
    /// Words and rules alone, by fixed weights: the order without learning, against which bits are gained.
    Baseline,
    /// Words and embeddings, by fixed weights.
    Content,
    /// What was used for queries like this one, by fixed weights.
    History,
    /// Every item alike.
    Uniform,
}

impl Profile {
    /// All of them, in the order of their probabilities in a log.
    pub const ALL: [Self; PROFILES] = [
        Self::Learned,
        Self::Baseline,
        Self::Content,
        Self::History,
        Self::Uniform,
    ];

    /// Its place in a row of probabilities.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The weights that it ranks by, given the fixed ones and the learned ones.
    pub(crate) fn weights(self, fixed: &Weights, learned: &Weights) -> [f64; FEATURES] {
        use Feature::{
            Bias, CoUsed, Lexical, Named, New, Past, Popular, Recent, Semantic, Unverified, Usage,
        };
        let features: &[Feature] = match self {
            Self::Learned => return learned.values(),
            Self::Baseline => &[Bias, Lexical, Recent, Named, Unverified],
            Self::Content => &[Bias, Lexical, Semantic, Recent, Named, Unverified],
            Self::History => &[Bias, Usage, Past, Popular, CoUsed, Recent, Named, Unverified, New],
            Self::Uniform => &[Bias],
        };
        let mut weights = fixed.only(features);
        if self == Self::Content {
            // Without history the usage of an item is that of its description.
            weights.semantic += fixed.usage;
        }
        weights.values()
    }
}
