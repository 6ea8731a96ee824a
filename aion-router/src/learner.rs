//! Weights that learn from what was used: one step of AdaGrad on the log loss of every outcome.
//!
//! # Sources
//! J. Duchi, E. Hazan, Y. Singer, Adaptive subgradient methods, 2011, with a projection onto the signs that
//! the features have.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::feature::{FEATURES, Feature, Weights};

/// How fast the weights learn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LearnerOptions {
    /// The length of the first step, in units of a weight.
    pub rate: f64,
    /// What the sum of squared gradients starts from: larger is more patient.
    pub patience: f64,
}

impl Default for LearnerOptions {
    /// A rate of 0.5 and a patience of 1.
    fn default() -> Self {
        Self {
            rate: 0.5,
            patience: 1.0,
        }
    }
}

/// Weights and how much each has been moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Learner {
    weights: [f64; FEATURES],
    squares: [f64; FEATURES],
    version: u64,
    options: LearnerOptions,
}

impl Learner {
    /// Learns from these weights on.
    ///
    /// # Errors
    /// Those of [`Weights::check`].
    pub fn new(start: &Weights, options: LearnerOptions) -> Result<Self> {
        start.check()?;
        Ok(Self {
            weights: start.values(),
            squares: [options.patience; FEATURES],
            version: start.version,
            options,
        })
    }

    /// The weights as they are now.
    pub const fn weights(&self) -> Weights {
        Weights::from_values(self.version, self.weights)
    }

    /// The same weights, learning on under other options.
    pub(crate) const fn with_options(mut self, options: LearnerOptions) -> Self {
        self.options = options;
        self
    }

    /// One step towards an item with the features `used`, from what was `expected` under the present
    /// weights (the mean of the features by probability): the gradient of the log of a softmax is their
    /// difference. `importance` is the weight of the example.
    pub fn learn(&mut self, used: &[f64; FEATURES], expected: &[f64; FEATURES], importance: f64) {
        for feature in Feature::ALL {
            let i = feature.index();
            // What the surface says of an item's newness is a bonus, not evidence; nor is who vouches.
            if matches!(feature, Feature::New | Feature::Unverified) {
                continue;
            }
            let gradient = importance * (used[i] - expected[i]);
            if gradient.is_finite() && gradient != 0.0 {
                self.squares[i] += gradient * gradient;
                self.weights[i] += self.options.rate * scale(feature) * gradient / self.squares[i].sqrt();
            }
        }
        Weights::clip(&mut self.weights);
        self.version += 1;
    }
}

/// Weights of similarities are large numbers, those of marks small ones.
const fn scale(feature: Feature) -> f64 {
    match feature {
        Feature::Lexical | Feature::Semantic | Feature::Usage | Feature::Past => 2.0,
        _ => 0.5,
    }
}
