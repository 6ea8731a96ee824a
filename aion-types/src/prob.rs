//! Probabilities: as a float, and as parts per million that sum to exactly one million.

use serde::{Deserialize, Serialize};

use crate::error::check;
use crate::{Error, Result};

/// A probability in `[0, 1]`.
///
/// ```
/// use aion_types::Prob;
///
/// for (ratio, p) in [(0.25, 0.2), (1.0, 0.5), (3.0, 0.75)] {
///     assert_eq!(Prob::from_ratio(ratio)?.get(), p);
/// }
/// assert!(Prob::new(f64::NAN).is_err());
/// # Ok::<(), aion_types::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Prob(f64);

impl Prob {
    /// Impossible.
    pub const ZERO: Self = Self(0.0);
    /// Even odds.
    pub const HALF: Self = Self(0.5);
    /// Certain.
    pub const ONE: Self = Self(1.0);

    /// Checks the value.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if it is not in `[0, 1]`.
    pub fn new(p: f64) -> Result<Self> {
        check("a probability", "in [0, 1]", p, (0.0..=1.0).contains(&p)).map(Self)
    }

    /// The odds link `p = R / (1 + R)`, so that `logit p = ln R`; an infinite ratio gives 1.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if the ratio is negative or NaN.
    ///
    /// # Sources
    /// `docs/math/persistence.md`, odds link.
    pub fn from_ratio(ratio: f64) -> Result<Self> {
        check("a persistence ratio", "at least 0", ratio, ratio >= 0.0)?;
        Ok(Self(if ratio.is_infinite() {
            1.0
        } else {
            ratio / (1.0 + ratio)
        }))
    }

    /// The logistic function: the probability whose log-odds are `logit`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if it is NaN.
    pub fn from_logit(logit: f64) -> Result<Self> {
        check("log-odds", "a number", logit, true)?;
        Ok(Self(if logit >= 0.0 {
            1.0 / (1.0 + (-logit).exp())
        } else {
            logit.exp() / (1.0 + logit.exp())
        }))
    }

    /// The log-odds `ln(p / (1 - p))`, infinite at 0 and 1.
    pub fn logit(self) -> f64 {
        self.0.ln() - (-self.0).ln_1p()
    }

    /// The probability of the opposite.
    pub fn complement(self) -> Self {
        Self(1.0 - self.0)
    }

    /// The value.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Prob {
    type Error = Error;

    fn try_from(p: f64) -> Result<Self> {
        Self::new(p)
    }
}

impl From<Prob> for f64 {
    fn from(p: Prob) -> Self {
        p.0
    }
}

/// One in parts per million.
pub const PPM_ONE: u32 = 1_000_000;

/// A probability in whole parts per million, `0..=1_000_000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Ppm(u32);

impl Ppm {
    /// Checks the value.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] above one million.
    pub fn new(ppm: u32) -> Result<Self> {
        check(
            "a probability in parts per million",
            "in [0, 1000000]",
            f64::from(ppm),
            ppm <= PPM_ONE,
        )?;
        Ok(Self(ppm))
    }

    /// The number of parts.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The same as a float.
    pub fn to_prob(self) -> Prob {
        Prob(f64::from(self.0) / f64::from(PPM_ONE))
    }
}

impl TryFrom<u32> for Ppm {
    type Error = Error;

    fn try_from(ppm: u32) -> Result<Self> {
        Self::new(ppm)
    }
}

impl From<Ppm> for u32 {
    fn from(ppm: Ppm) -> Self {
        ppm.0
    }
}

/// A distribution over 2 to 4,096 outcomes in parts per million; the sum is exactly one million.
///
/// ```
/// use aion_types::PpmDist;
///
/// assert_eq!(PpmDist::from_ratio(1.5)?.parts(), [600_000, 400_000]);
/// assert_eq!(PpmDist::from_ratio(0.7)?.parts(), [411_765, 588_235]);
/// assert!(serde_json::from_str::<PpmDist>("[500000,500001]").is_err());
/// # Ok::<(), aion_types::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u32>", into = "Vec<u32>")]
pub struct PpmDist(Vec<u32>);

impl PpmDist {
    /// The most outcomes of one distribution.
    pub const MAX_OUTCOMES: usize = 4_096;

    /// Checks parts that are given.
    ///
    /// # Errors
    /// [`Error::NotADistribution`] for fewer than 2 or more than 4,096 parts, or another sum.
    pub fn new(parts: Vec<u32>) -> Result<Self> {
        check_outcomes(parts.len())?;
        let sum: u64 = parts.iter().map(|part| u64::from(*part)).sum();
        if sum != u64::from(PPM_ONE) {
            let reason = format!("the parts sum to {sum}, not to {PPM_ONE}");
            return Err(Error::NotADistribution { reason });
        }
        Ok(Self(parts))
    }

    /// Rounds non-negative weights by largest remainder; ties go to the lower index.
    ///
    /// # Errors
    /// [`Error::NotADistribution`] for a negative or infinite weight, NaN, or a sum of zero.
    pub fn from_weights(weights: &[f64]) -> Result<Self> {
        check_outcomes(weights.len())?;
        if let Some(bad) = weights.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
            return Err(Error::NotADistribution {
                reason: format!("the weight {bad} is not finite and >= 0"),
            });
        }
        let sum: f64 = weights.iter().sum();
        if sum <= 0.0 || !sum.is_finite() {
            return Err(Error::NotADistribution {
                reason: format!("the weights sum to {sum}"),
            });
        }
        Ok(Self(largest_remainder(weights, sum)))
    }

    /// The pair `[p, 1 - p]`.
    pub fn binary(p: Prob) -> Self {
        Self(largest_remainder(&[p.get(), 1.0 - p.get()], 1.0))
    }

    /// The pair for `p = R / (1 + R)`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if the ratio is negative or NaN.
    pub fn from_ratio(ratio: f64) -> Result<Self> {
        Prob::from_ratio(ratio).map(Self::binary)
    }

    /// The parts, in the order of the outcomes.
    pub fn parts(&self) -> &[u32] {
        &self.0
    }

    /// The part of one outcome.
    pub fn get(&self, outcome: usize) -> Option<Ppm> {
        self.0.get(outcome).copied().map(Ppm)
    }

    /// How many outcomes there are.
    pub fn outcomes(&self) -> usize {
        self.0.len()
    }
}

fn check_outcomes(n: usize) -> Result<()> {
    if (2..=PpmDist::MAX_OUTCOMES).contains(&n) {
        return Ok(());
    }
    let reason = format!("{n} outcomes, expected 2 to {}", PpmDist::MAX_OUTCOMES);
    Err(Error::NotADistribution { reason })
}

/// Whole parts of [`PPM_ONE`] in proportion to `weights`; what rounding down leaves over goes to
/// the largest remainders.
fn largest_remainder(weights: &[f64], sum: f64) -> Vec<u32> {
    let exact: Vec<f64> = weights.iter().map(|w| w / sum * f64::from(PPM_ONE)).collect();
    let mut parts: Vec<u32> = exact.iter().map(|x| x.floor() as u32).collect();
    let given: i64 = parts.iter().map(|part| i64::from(*part)).sum();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by(|a, b| exact[*b].fract().total_cmp(&exact[*a].fract()).then(a.cmp(b)));
    let mut left = i64::from(PPM_ONE) - given;
    for i in order.iter().cycle() {
        match left {
            0 => break,
            1.. => {
                parts[*i] += 1;
                left -= 1;
            }
            // Floating point can round a part up across a whole number: take it back where there is one.
            _ if parts[*i] > 0 => {
                parts[*i] -= 1;
                left += 1;
            }
            _ => {}
        }
    }
    parts
}

impl TryFrom<Vec<u32>> for PpmDist {
    type Error = Error;

    fn try_from(parts: Vec<u32>) -> Result<Self> {
        Self::new(parts)
    }
}

impl From<PpmDist> for Vec<u32> {
    fn from(dist: PpmDist) -> Self {
        dist.0
    }
}
