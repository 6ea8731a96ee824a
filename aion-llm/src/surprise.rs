//! What one row of raw logits says: surprise, entropy, the best tokens.

use crate::error::{Error, Result};
use crate::softmax;

/// A distribution over the vocabulary given by raw logits, normalised in `f64`.
///
/// ```
/// use aion_llm::Prediction;
/// let prediction = Prediction::new(&[2.0, 1.0, 0.0])?;
/// assert!((prediction.surprise_nats(0) - 0.407_606).abs() < 1e-6);
/// // A constant added to all logits changes nothing.
/// assert_eq!(Prediction::new(&[12.0, 11.0, 10.0])?.surprise_nats(0), prediction.surprise_nats(0));
/// # Ok::<(), aion_llm::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Prediction<'a> {
    logits: &'a [f32],
    max: f64,
    log_sum: f64,
    entropy: f64,
}

impl<'a> Prediction<'a> {
    /// Normalises one row of logits.
    ///
    /// # Errors
    /// [`Error::Numeric`] when the row is empty, or a logit is not a number or is plus infinity.
    pub fn new(logits: &'a [f32]) -> Result<Self> {
        let max = softmax::max(logits)
            .filter(|max| max.is_finite())
            .ok_or_else(|| Error::Numeric("logits that are not numbers".into()))?;
        let (sum, weighted) = softmax::sums(logits, max);
        let log_sum = sum.ln();
        Ok(Self {
            logits,
            max: f64::from(max),
            log_sum,
            entropy: (log_sum - weighted / sum).max(0.0),
        })
    }

    /// `-ln p(token)`, in nats; infinite for a token outside the row.
    #[must_use]
    pub fn surprise_nats(&self, token: u32) -> f64 {
        let logit = self
            .logits
            .get(token as usize)
            .map_or(f64::NEG_INFINITY, |logit| f64::from(*logit));
        (self.log_sum - (logit - self.max)).max(0.0)
    }

    /// The entropy of the prediction, in nats.
    #[must_use]
    pub fn entropy_nats(&self) -> f64 {
        self.entropy
    }

    /// The `k` most probable tokens with their log-probabilities, best first, ties by id.
    #[must_use]
    pub fn top(&self, k: usize) -> Vec<(u32, f64)> {
        let k = k.min(self.logits.len());
        if k == 0 {
            return Vec::new();
        }
        let mut ids: Vec<u32> = (0..self.logits.len() as u32).collect();
        let order = |a: &u32, b: &u32| {
            let (x, y) = (self.logits[*a as usize], self.logits[*b as usize]);
            y.total_cmp(&x).then(a.cmp(b))
        };
        ids.select_nth_unstable_by(k - 1, order);
        ids.truncate(k);
        ids.sort_unstable_by(order);
        ids.into_iter().map(|id| (id, -self.surprise_nats(id))).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_flat_row_has_the_entropy_of_its_size() {
        let prediction = Prediction::new(&[0.5; 64]).unwrap();
        assert!((prediction.entropy_nats() - 64f64.ln()).abs() < 1e-12);
        assert!((prediction.surprise_nats(63) - 64f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn what_is_not_a_number_is_an_error() {
        assert!(Prediction::new(&[]).is_err());
        assert!(Prediction::new(&[1.0, f32::NAN]).is_err());
        assert!(Prediction::new(&[1.0, f32::INFINITY]).is_err());
        assert_eq!(
            Prediction::new(&[0.0, f32::NEG_INFINITY])
                .unwrap()
                .surprise_nats(1),
            f64::INFINITY
        );
    }

    #[test]
    fn ties_go_to_the_smaller_id() {
        let prediction = Prediction::new(&[1.0, 3.0, 3.0, 2.0]).unwrap();
        assert_eq!(
            prediction.top(3).iter().map(|(id, _)| *id).collect::<Vec<_>>(),
            [1, 2, 3]
        );
    }

    proptest! {
        /// The probabilities sum to one, the entropy is the mean surprise, and neither moves with a constant.
        #[test]
        fn a_prediction_is_a_distribution(logits in proptest::collection::vec(-30.0f32..30.0, 1..80), c in -50.0f32..50.0) {
            let prediction = Prediction::new(&logits).unwrap();
            let surprises: Vec<f64> = (0..logits.len() as u32).map(|id| prediction.surprise_nats(id)).collect();
            let total: f64 = surprises.iter().map(|s| (-s).exp()).sum();
            let mean: f64 = surprises.iter().map(|s| (-s).exp() * s).sum();
            prop_assert!((total - 1.0).abs() < 1e-9);
            prop_assert!((mean - prediction.entropy_nats()).abs() < 1e-9);
            let moved: Vec<f32> = logits.iter().map(|logit| logit + c).collect();
            let moved = Prediction::new(&moved).unwrap().surprise_nats(0);
            prop_assert!((moved - surprises[0]).abs() < 1e-4);
        }
    }
}
