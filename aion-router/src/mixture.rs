//! A mixture of profiles by Bayes' rule, which a profile that turns good again can win back.
//!
//! # Sources
//! M. Herbster, M. Warmuth, Tracking the best expert, 1998 (fixed share). Without sharing it is Bayes'
//! rule: the bits of the mixture are at most those of the best of `K` profiles and `log2 K` more, on every
//! sequence.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Weights of profiles that sum to 1.
///
/// ```
/// use aion_router::Mixture;
///
/// let mut mixture = Mixture::new(2, 0.0)?;
/// // The first gave what happened a probability of .8, the second of .2.
/// let bits = mixture.update(&[-0.8_f64.log2(), -0.2_f64.log2()]);
/// assert!((bits - 1.0).abs() < 1e-12, "the mixture gave it one half");
/// assert!((mixture.weights()[0] - 0.8).abs() < 1e-12);
/// # Ok::<(), aion_router::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mixture {
    weights: Vec<f64>,
    share: f64,
}

impl Mixture {
    /// So many profiles of equal weight; `share` of all weight is dealt out anew after every update.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for no profile, or a share outside `[0, 1]`.
    pub fn new(profiles: usize, share: f64) -> Result<Self> {
        if profiles == 0 || !(0.0..=1.0).contains(&share) {
            return Err(Error::OutOfRange {
                what: "the share of a mixture of at least one profile",
                range: "in [0, 1]",
                value: share,
            });
        }
        let weights = vec![1.0 / profiles as f64; profiles];
        Ok(Self { weights, share })
    }

    /// The same weights with another share.
    ///
    /// # Errors
    /// As [`Mixture::new`].
    pub(crate) fn with_share(mut self, share: f64) -> Result<Self> {
        self.share = Self::new(self.weights.len(), share)?.share;
        Ok(self)
    }

    /// The weights, which sum to 1.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The bits that the mixture lost on what happened, given those that each profile lost.
    ///
    /// A profile that thought it impossible (infinite bits) loses its weight; if all did, nothing changes
    /// and the loss is infinite.
    ///
    /// # Panics
    /// If there is not one loss for each profile.
    pub fn bits(&self, losses: &[f64]) -> f64 {
        assert_eq!(losses.len(), self.weights.len(), "one loss a profile");
        let (least, sum) = self.likelihood(losses);
        least - sum.log2()
    }

    /// The same, then moves weight to the profiles that lost less.
    ///
    /// # Panics
    /// If there is not one loss for each profile.
    pub fn update(&mut self, losses: &[f64]) -> f64 {
        let bits = self.bits(losses);
        if !bits.is_finite() {
            return bits;
        }
        let (least, sum) = self.likelihood(losses);
        let even = self.share / self.weights.len() as f64;
        for (weight, loss) in self.weights.iter_mut().zip(losses) {
            let posterior = *weight * (least - loss).exp2() / sum;
            *weight = (1.0 - self.share) * posterior + even;
        }
        bits
    }

    /// The least loss, and the weighted sum of the likelihoods relative to it.
    fn likelihood(&self, losses: &[f64]) -> (f64, f64) {
        let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
        if !least.is_finite() {
            return (f64::INFINITY, 1.0);
        }
        let terms = self.weights.iter().zip(losses);
        (
            least,
            terms.map(|(weight, loss)| weight * (least - loss).exp2()).sum(),
        )
    }
}
