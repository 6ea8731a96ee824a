//! The link from a persistence ratio to a probability, fitted on resolved tasks.

use aion_types::Prob;
use serde::{Deserialize, Serialize};

use super::newton::Logistic;
use crate::Result;
use crate::error::{check, check_entries, check_finite, check_len};

/// How a persistence ratio becomes a probability: `p = sigmoid(a ln R + c)`.
///
/// `a = 1, c = 0`, the odds link `p = R/(1+R)`, until fitted.
///
/// ```
/// use aion_market::Calibration;
///
/// assert_eq!(Calibration::default().prob(3.0)?.get(), 0.75);
/// # Ok::<(), aion_market::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Slope: how far `ln R` may be trusted.
    pub a: f64,
    /// Intercept: what a ratio of 1 stands for, in log-odds.
    pub c: f64,
}

impl Default for Calibration {
    fn default() -> Self {
        Self { a: 1.0, c: 0.0 }
    }
}

/// How [`Calibration::fit`] goes about it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct FitOptions {
    ridge: f64,
    max_steps: usize,
}

impl Default for FitOptions {
    /// A ridge of 1 towards the odds link, so that a handful of tasks cannot make it certain.
    fn default() -> Self {
        Self {
            ridge: 1.0,
            max_steps: 50,
        }
    }
}

impl FitOptions {
    /// Sets the strength of the pull towards `a = 1, c = 0`; 0 is plain maximum likelihood.
    #[must_use]
    pub const fn with_ridge(mut self, ridge: f64) -> Self {
        self.ridge = ridge;
        self
    }
}

/// What a fit came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fit {
    /// The calibration.
    pub calibration: Calibration,
    /// How many examples it saw.
    pub n: usize,
    /// Newton steps taken.
    pub steps: usize,
    /// Mean log loss of the examples before, in bits.
    pub bits_before: f64,
    /// Mean log loss of the examples after, in bits.
    pub bits_after: f64,
}

impl Calibration {
    /// The probability that a ratio stands for.
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] for a ratio that is negative or NaN.
    pub fn prob(&self, ratio: f64) -> Result<Prob> {
        check("a persistence ratio", "at least 0", ratio, ratio >= 0.0)?;
        self.prob_of_ln(ratio.ln())
    }

    /// The probability that `ln R` stands for.
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] for NaN.
    pub fn prob_of_ln(&self, ln_ratio: f64) -> Result<Prob> {
        check("ln R", "a number", ln_ratio, true)?;
        // A slope of 0 says that R tells nothing, however far out it is.
        let logit = if self.a == 0.0 {
            self.c
        } else {
            self.a * ln_ratio + self.c
        };
        Ok(Prob::from_logit(logit)?)
    }

    /// Logistic regression of outcomes in `[0, 1]` on `ln R`, by Newton's method with halved steps.
    ///
    /// Minimises `sum log loss + ridge/2 ((a - 1)^2 + c^2)`; without an example it is the odds link.
    ///
    /// ```
    /// use aion_market::Calibration;
    /// use aion_market::calibration::FitOptions;
    ///
    /// // Whatever the ratio says, one task in four succeeds.
    /// let ln_r = [2.0, 2.0, 2.0, 2.0, -2.0, -2.0, -2.0, -2.0];
    /// let outcome = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
    /// let fit = Calibration::fit(&ln_r, &outcome, FitOptions::default().with_ridge(0.0))?;
    /// assert!(fit.calibration.a.abs() < 1e-9);
    /// assert!((fit.calibration.c - (1.0_f64 / 3.0).ln()).abs() < 1e-9);
    /// # Ok::<(), aion_market::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error`] if the lists differ in length, `ln R` is not finite, an outcome is outside
    /// `[0, 1]`, or the ridge is negative.
    pub fn fit(ln_ratios: &[f64], outcomes: &[f64], options: FitOptions) -> Result<Fit> {
        check_len("outcomes", outcomes.len(), ln_ratios.len())?;
        check_finite("ln R", ln_ratios)?;
        check_entries("outcomes", "in [0, 1]", outcomes, |x| (0.0..=1.0).contains(&x))?;
        let ridge = check("a ridge", "finite and at least 0", options.ridge, {
            options.ridge.is_finite() && options.ridge >= 0.0
        })?;
        let rows: Vec<[f64; 2]> = ln_ratios.iter().map(|x| [*x, 1.0]).collect();
        let identity = [1.0, 0.0];
        let problem = Logistic {
            rows: &rows,
            targets: outcomes,
            weights: &[],
            ridge,
            centre: identity,
            free: [true; 2],
        };
        let (at, steps) = problem.solve(identity, options.max_steps);
        let n = ln_ratios.len();
        let scale = std::f64::consts::LN_2 * n.max(1) as f64;
        Ok(Fit {
            calibration: Self { a: at[0], c: at[1] },
            n,
            steps,
            bits_before: problem.loss(&identity) / scale,
            bits_after: problem.loss(&at) / scale,
        })
    }
}
