//! Rules that move trust once an outcome is known. All of them are integers from end to end.
//!
//! | rule | conserves | never negative | belief is the best report |
//! |---|---|---|---|
//! | [`weighted_score`], the default | yes | yes | yes, within the clip |
//! | [`kelly`] | yes | yes | no: near 1 for whoever minds only the mean |
//! | [`published`] | no | no | no: the voter moves the mean that he is measured against |

pub mod kelly;
pub mod published;
pub mod weighted_score;

use aion_market::Target;
use aion_types::{MilliTrust, PpmDist};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The most trust that one settlement handles, in millitrust: larger sums would leave the integers.
pub const MAX_TRUST_MILLI: u64 = 1 << 42;

/// Which rule moves trust, with its parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Rule {
    /// Weighted-score wagering.
    WeightedScore {
        /// The share of his trust that a voter stakes.
        kappa: Kappa,
    },
    /// Betting a share at the odds of the mean.
    Kelly {
        /// The share of his trust that a voter stakes.
        kappa: Kappa,
    },
    /// The published rule, for compatibility.
    Published {
        /// Millitrust per nat.
        alpha_milli: u32,
    },
}

impl Default for Rule {
    /// Weighted scores with a tenth of the trust at stake.
    fn default() -> Self {
        Self::WeightedScore { kappa: Kappa(100) }
    }
}

/// A share in `(0, 1]`, in whole thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Kappa(u32);

impl Kappa {
    /// All of it.
    pub const ONE: Self = Self(1_000);

    /// Checks the number of thousandths.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] unless in `1..=1000`.
    pub fn new(permille: u32) -> Result<Self> {
        if (1..=1_000).contains(&permille) {
            return Ok(Self(permille));
        }
        let (what, range) = ("kappa in thousandths", "in [1, 1000]");
        Err(Error::OutOfRange {
            what,
            range,
            value: f64::from(permille),
        })
    }

    /// The number of thousandths.
    pub const fn permille(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Kappa {
    type Error = Error;

    fn try_from(permille: u32) -> Result<Self> {
        Self::new(permille)
    }
}

impl From<Kappa> for u32 {
    fn from(kappa: Kappa) -> Self {
        kappa.0
    }
}

/// A voter: how much trust, and which belief.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voter<'a> {
    /// The trust before.
    pub trust: MilliTrust,
    /// The belief.
    pub dist: &'a PpmDist,
}

impl Rule {
    /// What each voter gains or loses, in millitrust, in the order of the voters.
    ///
    /// # Errors
    /// [`Error::NeedsOutcome`] where a rule cannot settle a mixture, [`Error::Overflow`] for more
    /// trust than [`MAX_TRUST_MILLI`].
    pub fn deltas(&self, voters: &[Voter<'_>], target: &Target) -> Result<Vec<i64>> {
        check_total(voters)?;
        match *self {
            Self::WeightedScore { kappa } => weighted_score::deltas(kappa, voters, target),
            Self::Kelly { kappa } => kelly::deltas(kappa, voters, outcome_of(target)?),
            Self::Published { alpha_milli } => published::deltas(alpha_milli, voters, outcome_of(target)?),
        }
    }
}

/// The weight `sum_v t_v q_v(B)` of every outcome, in thousandths of millitrust times 1000
/// (millitrust times parts per million): how much trust stands behind each side of a fork.
///
/// ```
/// use aion_trust::rule::{Voter, fork_weights};
/// use aion_types::{MilliTrust, PpmDist};
///
/// let a = PpmDist::new(vec![800_000, 100_000, 100_000])?;
/// let b = PpmDist::new(vec![300_000, 600_000, 100_000])?;
/// let voters = [
///     Voter { trust: MilliTrust::new(10_000), dist: &a },
///     Voter { trust: MilliTrust::new(5_000), dist: &b },
/// ];
/// let weights: Vec<u128> = fork_weights(&voters).iter().map(|w| w / 1_000_000).collect();
/// assert_eq!(weights, [9_500, 4_000, 1_500]);
/// # Ok::<(), aion_types::Error>(())
/// ```
pub fn fork_weights(voters: &[Voter<'_>]) -> Vec<u128> {
    let outcomes = voters
        .iter()
        .map(|voter| voter.dist.outcomes())
        .max()
        .unwrap_or(0);
    let mut weights = vec![0_u128; outcomes];
    for voter in voters {
        for (weight, part) in weights.iter_mut().zip(voter.dist.parts()) {
            *weight += u128::from(voter.trust.get()) * u128::from(*part);
        }
    }
    weights
}

fn check_total(voters: &[Voter<'_>]) -> Result<()> {
    let total: u128 = voters.iter().map(|voter| u128::from(voter.trust.get())).sum();
    if total > u128::from(MAX_TRUST_MILLI) {
        return Err(Error::Overflow("the trust of a settlement"));
    }
    Ok(())
}

fn outcome_of(target: &Target) -> Result<usize> {
    let parts = target.dist().parts();
    parts
        .iter()
        .position(|part| *part == aion_types::PPM_ONE)
        .ok_or(Error::NeedsOutcome)
}

/// Whole numbers next to `shares[i] / denominator` with the same sum: rounded down, and what is
/// missing goes to the largest remainders, ties to the earlier one. The shares must sum to a
/// multiple of the denominator; here they sum to 0.
fn round_conserving(shares: &[i128], denominator: i128) -> Result<Vec<i64>> {
    let mut rounded: Vec<i128> = shares.iter().map(|share| share.div_euclid(denominator)).collect();
    let missing = -rounded.iter().sum::<i128>();
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(shares[*i].rem_euclid(denominator)), *i));
    for i in order.into_iter().take(usize::try_from(missing).unwrap_or(0)) {
        rounded[i] += 1;
    }
    rounded
        .into_iter()
        .map(|x| i64::try_from(x).map_err(|_| Error::Overflow("a change of trust")))
        .collect()
}
