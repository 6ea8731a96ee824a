//! The Bayesian pseudo-count maker: `alpha_k += w q_k`, price `alpha / sum alpha`.
//!
//! Order does not matter, and the price stays inside the convex hull of the prior and the reports.
//! It gathers beliefs; it pays no money and has no loss bound.

use aion_types::PpmDist;
use serde::{Deserialize, Serialize};

use super::{check_micro, price_of_counts};
use crate::Result;
use crate::error::{Error, check_len};

/// Pseudo-counts in units of 1e-12: millionths of a report times parts per million, so that every
/// sum is exact in any order.
///
/// ```
/// use aion_market::maker::PseudoCount;
/// use aion_types::PpmDist;
///
/// let dist = |p| PpmDist::new(vec![p, 1_000_000 - p]);
/// let mut maker = PseudoCount::open(&dist(500_000)?, 2_000_000)?;
/// let mut prices = vec![maker.price()?.parts()[0]];
/// for (p, weight_micro) in [(800_000, 2_000_000), (600_000, 1_000_000), (100_000, 1_000_000)] {
///     maker.report(&dist(p)?, weight_micro)?;
///     prices.push(maker.price()?.parts()[0]);
/// }
/// assert_eq!(prices, [500_000, 650_000, 640_000, 550_000]);
/// assert_eq!(maker.counts(), [3.3, 2.7]);
/// # Ok::<(), aion_market::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PseudoCount {
    counts: Vec<u128>,
}

impl PseudoCount {
    /// Counts in proportion to the prior that sum to the strength.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a strength outside `[0.001, 10^6]` reports.
    pub fn open(prior: &PpmDist, strength_micro: u64) -> Result<Self> {
        let strength = u128::from(check_micro("the strength of a prior", strength_micro)?);
        let counts = prior
            .parts()
            .iter()
            .map(|part| u128::from(*part) * strength)
            .collect();
        Ok(Self { counts })
    }

    /// Adds a report.
    ///
    /// # Errors
    /// [`Error`] if the report has another number of outcomes, or a count would overflow.
    pub fn report(&mut self, dist: &PpmDist, weight_micro: u64) -> Result<()> {
        *self = self.with_report(dist, weight_micro)?;
        Ok(())
    }

    /// The counts with one more report.
    pub(crate) fn with_report(&self, dist: &PpmDist, weight_micro: u64) -> Result<Self> {
        check_len("a report", dist.outcomes(), self.counts.len())?;
        let mut counts = self.counts.clone();
        for (count, part) in counts.iter_mut().zip(dist.parts()) {
            let added = u128::from(*part) * u128::from(weight_micro);
            *count = count
                .checked_add(added)
                .ok_or(Error::Overflow("a pseudo-count"))?;
        }
        Ok(Self { counts })
    }

    /// The counts in reports.
    pub fn counts(&self) -> Vec<f64> {
        self.counts.iter().map(|count| *count as f64 / 1e12).collect()
    }

    /// The price: the counts in proportion, in parts per million.
    ///
    /// # Errors
    /// [`Error::Overflow`] if the counts are beyond what integers hold.
    pub fn price(&self) -> Result<PpmDist> {
        price_of_counts(&self.counts)
    }
}
