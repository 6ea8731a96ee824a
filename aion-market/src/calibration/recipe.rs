//! How a calibrator is fitted.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::check;

/// Which family of maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Method {
    /// `logit q = a logit p` with `a >= 0`: one parameter, for a handful of rows.
    Temperature,
    /// `logit q = a logit p + c`: tens of rows.
    Platt,
    /// `logit q = a ln p - b ln(1 - p) + c` with `a, b >= 0`: hundreds of rows; holds the identity.
    Beta,
    /// Any monotone map: thousands of rows.
    Isotonic,
}

/// What a row that happened, or did not, is fitted towards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Targets {
    /// 1 and 0, as they are: the plain maximum of the likelihood, which may be certain.
    Raw,
    /// Platt's: `(n1 + 1)/(n1 + 2)` and `1/(n0 + 2)` with `n1` rows that happened and `n0` that did
    /// not, so that no finite set of rows makes a calibrator certain.
    Smoothed,
}

/// How [`super::Calibrator::fit`] goes about it.
///
/// ```
/// use aion_market::calibration::{Method, Recipe, Targets};
///
/// let recipe = Recipe::new(Method::Isotonic).with_targets(Targets::Raw).with_eps(1e-3)?;
/// assert_eq!(recipe.method(), Method::Isotonic);
/// # Ok::<(), aion_market::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    pub(super) method: Method,
    pub(super) targets: Targets,
    pub(super) ridge: f64,
    pub(super) eps: f64,
    pub(super) max_steps: usize,
}

impl Recipe {
    /// Smoothed targets, no ridge, and forecasts clipped to `[1e-6, 1 - 1e-6]` where a logarithm is
    /// taken of them.
    pub const fn new(method: Method) -> Self {
        Self {
            method,
            targets: Targets::Smoothed,
            ridge: 0.0,
            eps: 1e-6,
            max_steps: 100,
        }
    }

    /// The family.
    pub const fn method(&self) -> Method {
        self.method
    }

    /// Sets what rows are fitted towards.
    #[must_use]
    pub const fn with_targets(mut self, targets: Targets) -> Self {
        self.targets = targets;
        self
    }

    /// Sets the strength of the pull of the parameters towards the identity; isotonic maps have none.
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] unless it is finite and at least 0.
    pub fn with_ridge(mut self, ridge: f64) -> Result<Self> {
        self.ridge = check("a ridge", "finite and at least 0", ridge, {
            ridge.is_finite() && ridge >= 0.0
        })?;
        Ok(self)
    }

    /// Sets how near to 0 and 1 a forecast may come before it is clipped.
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] unless it is in `[1e-300, 0.5)`.
    pub fn with_eps(mut self, eps: f64) -> Result<Self> {
        self.eps = check("a clip", "in [1e-300, 0.5)", eps, (1e-300..0.5).contains(&eps))?;
        Ok(self)
    }
}
