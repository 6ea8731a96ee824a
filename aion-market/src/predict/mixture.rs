//! The Bayes mixture of several forecasters under log loss.

use crate::Result;
use crate::error::{Error, check, check_entries, check_len};

/// Weights over `K` forecasters, multiplied by the probability that each gave to what happened.
///
/// Without a share, its loss over any sequence is at most `log2 K` bits more than the loss of the best of
/// the `K`: it is the mixture of their products. With a share `a`, every weight gives up `a` of itself in
/// equal parts to all after each round, so that it can follow a best one that changes (fixed share).
///
/// ```
/// use aion_market::predict::Mixture;
///
/// let mut mixture = Mixture::new(2)?;
/// let says = [Some(0.9), Some(0.3)];
/// assert!((mixture.mix(&says)?.unwrap_or(0.0) - 0.6).abs() < 1e-15);
/// mixture.update(&says, 1.0)?;
/// assert!((mixture.weights()[0] - 0.75).abs() < 1e-15);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Sources
/// V. Vovk, A game of prediction with expert advice, 1998; M. Herbster and M. Warmuth, Tracking the best
/// expert, 1998; Y. Freund et al., Using and combining predictors that specialize, 1997 (silence).
#[derive(Debug, Clone, PartialEq)]
pub struct Mixture {
    weights: Vec<f64>,
    share: f64,
}

impl Mixture {
    /// Equal weights over so many forecasters.
    ///
    /// # Errors
    /// [`Error::Shape`] for none.
    pub fn new(forecasters: usize) -> Result<Self> {
        if forecasters == 0 {
            return Err(Error::Shape {
                what: "forecasters",
                found: 0,
                expected: 1,
            });
        }
        Ok(Self {
            weights: vec![1.0 / forecasters as f64; forecasters],
            share: 0.0,
        })
    }

    /// Sets the share that every weight gives up each round.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] outside `[0, 1]`.
    pub fn with_share(mut self, share: f64) -> Result<Self> {
        self.share = check("a share", "in [0, 1]", share, (0.0..=1.0).contains(&share))?;
        Ok(self)
    }

    /// The weights; they sum to 1.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The mixture of what they say, `None` for one that is silent: the weighted mean over those that
    /// speak; `None` if nobody does.
    ///
    /// # Errors
    /// [`Error`] for another number of forecasters, or a probability outside `[0, 1]`.
    pub fn mix(&self, says: &[Option<f64>]) -> Result<Option<f64>> {
        self.check(says)?;
        let (mut sum, mut weight) = (0.0, 0.0);
        for (w, p) in self.weights.iter().zip(says) {
            if let Some(p) = p {
                sum += w * p;
                weight += w;
            }
        }
        Ok((weight > 0.0).then(|| (sum / weight).clamp(0.0, 1.0)))
    }

    /// Learns what happened (`outcome` in `[0, 1]`, 1 for what the probabilities were of).
    ///
    /// Those that spoke keep their sum, so silence neither gains nor loses. Where all of them gave it no
    /// chance at all, nothing is learned.
    ///
    /// # Errors
    /// [`Error`] for another number of forecasters, or a number outside `[0, 1]`.
    pub fn update(&mut self, says: &[Option<f64>], outcome: f64) -> Result<()> {
        self.check(says)?;
        check("an outcome", "in [0, 1]", outcome, (0.0..=1.0).contains(&outcome))?;
        let (mut before, mut after) = (0.0, 0.0);
        let mut next = self.weights.clone();
        for (w, p) in next.iter_mut().zip(says) {
            let Some(p) = p else { continue };
            before += *w;
            *w *= likelihood(*p, outcome);
            after += *w;
        }
        if after > 0.0 {
            for (w, _) in next.iter_mut().zip(says).filter(|(_, p)| p.is_some()) {
                *w *= before / after;
            }
            self.weights = next;
        }
        let even = self.share / self.weights.len() as f64;
        for w in &mut self.weights {
            *w = *w * (1.0 - self.share) + even;
        }
        self.normalise();
        Ok(())
    }

    /// Keeps the sum at 1 over any number of rounds.
    fn normalise(&mut self) {
        let sum: f64 = self.weights.iter().sum();
        if sum > 0.0 {
            self.weights.iter_mut().for_each(|w| *w /= sum);
        }
    }

    fn check(&self, says: &[Option<f64>]) -> Result<()> {
        check_len("probabilities", says.len(), self.weights.len())?;
        let given: Vec<f64> = says.iter().map(|p| p.unwrap_or(0.5)).collect();
        check_entries("probabilities", "in [0, 1]", &given, |p| (0.0..=1.0).contains(&p))
    }
}

/// `p^o (1 - p)^(1 - o)`.
fn likelihood(p: f64, outcome: f64) -> f64 {
    match outcome {
        1.0 => p,
        0.0 => 1.0 - p,
        _ => p.powf(outcome) * (1.0 - p).powf(1.0 - outcome),
    }
}
