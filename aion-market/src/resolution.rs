//! How a market ends: an outcome, a mixture of outcomes, or void.

use aion_types::{PPM_ONE, PpmDist};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::{check_len, check_outcome};
use crate::spec::check_text;

/// How a market ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Resolution {
    /// This outcome happened.
    Outcome {
        /// Its index.
        outcome: usize,
    },
    /// Each outcome happened in part.
    Mixture {
        /// The parts.
        dist: PpmDist,
    },
    /// The question has no answer: money goes back and nobody scores.
    Void {
        /// Why, in words.
        reason: String,
    },
}

impl Resolution {
    /// This outcome happened.
    pub const fn outcome(outcome: usize) -> Self {
        Self::Outcome { outcome }
    }

    /// The question has no answer.
    pub fn void(reason: impl Into<String>) -> Self {
        Self::Void {
            reason: reason.into(),
        }
    }

    /// What forecasts are scored against; `None` when void.
    ///
    /// # Errors
    /// [`crate::Error`] if it does not fit a market of so many outcomes.
    pub fn target(&self, outcomes: usize) -> Result<Option<Target>> {
        match self {
            Self::Outcome { outcome } => Target::outcome(*outcome, outcomes).map(Some),
            Self::Mixture { dist } => {
                check_len("a mixture", dist.outcomes(), outcomes)?;
                Ok(Some(Target(dist.clone())))
            }
            Self::Void { reason } => check_text("a reason", reason).map(|()| None),
        }
    }
}

/// What forecasts are scored against: the share of each outcome in what happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Target(PpmDist);

impl Target {
    /// All of one outcome.
    ///
    /// # Errors
    /// [`crate::Error::UnknownOutcome`] if there is no such outcome.
    pub fn outcome(outcome: usize, outcomes: usize) -> Result<Self> {
        check_outcome(outcome, outcomes)?;
        let mut parts = vec![0; outcomes];
        parts[outcome] = PPM_ONE;
        Ok(Self(PpmDist::new(parts)?))
    }

    /// The shares.
    pub const fn dist(&self) -> &PpmDist {
        &self.0
    }

    /// The shares as probabilities, for [`crate::score::ScoringRule::expected`].
    pub fn shares(&self) -> Vec<f64> {
        self.0
            .parts()
            .iter()
            .map(|part| f64::from(*part) / f64::from(PPM_ONE))
            .collect()
    }
}
