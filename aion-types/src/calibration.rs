//! The link from a persistence ratio to a probability, fitted on what came of it.
//!
//! See `docs/math/persistence.md`.

use serde::{Deserialize, Serialize};

use crate::error::check;
use crate::{Prob, Result};

/// How a persistence ratio becomes a probability: `p = sigmoid(a ln R + c)`.
///
/// `a = 1, c = 0`, the odds link `p = R/(1+R)`, until fitted.
///
/// ```
/// use aion_types::Calibration;
///
/// assert_eq!(Calibration::default().prob(3.0)?.get(), 0.75);
/// # Ok::<(), aion_types::Error>(())
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
    /// A ridge of 1 towards the odds link, so that a handful of outcomes cannot make it certain.
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
        Prob::from_logit(logit)
    }

    /// Logistic regression of outcomes in `[0, 1]` on `ln R`, by Newton's method with halved steps.
    ///
    /// Minimises `sum log loss + ridge/2 ((a - 1)^2 + c^2)`; without an example it is the odds link.
    ///
    /// ```
    /// use aion_types::{Calibration, FitOptions};
    ///
    /// // Whatever the ratio says, one task in four succeeds.
    /// let ln_r = [2.0, 2.0, 2.0, 2.0, -2.0, -2.0, -2.0, -2.0];
    /// let outcome = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
    /// let fit = Calibration::fit(&ln_r, &outcome, FitOptions::default().with_ridge(0.0))?;
    /// assert!(fit.calibration.a.abs() < 1e-9);
    /// assert!((fit.calibration.c - (1.0_f64 / 3.0).ln()).abs() < 1e-9);
    /// # Ok::<(), aion_types::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] if the lists differ in length, `ln R` is not finite, an outcome is outside
    /// `[0, 1]`, or the ridge is negative.
    pub fn fit(ln_ratios: &[f64], outcomes: &[f64], options: FitOptions) -> Result<Fit> {
        let n = ln_ratios.len();
        let found = outcomes.len();
        check(
            "the number of outcomes",
            "that of ratios",
            found as f64,
            found == n,
        )?;
        for (ln_ratio, outcome) in ln_ratios.iter().zip(outcomes) {
            check("ln R", "finite", *ln_ratio, ln_ratio.is_finite())?;
            check("an outcome", "in [0, 1]", *outcome, (0.0..=1.0).contains(outcome))?;
        }
        let ridge = options.ridge;
        check(
            "a ridge",
            "finite and at least 0",
            ridge,
            ridge.is_finite() && ridge >= 0.0,
        )?;
        let problem = Regression {
            ln_ratios,
            outcomes,
            ridge,
        };
        let before = Self::default();
        let (calibration, steps) = problem.solve(before, options.max_steps);
        let scale = std::f64::consts::LN_2 * n.max(1) as f64;
        Ok(Fit {
            calibration,
            n,
            steps,
            bits_before: problem.loss(before) / scale,
            bits_after: problem.loss(calibration) / scale,
        })
    }
}

/// What is not worth another step, in nats.
const LEFT: f64 = 1e-24;

/// `sum (softplus(z) - t z) + ridge/2 ((a - 1)^2 + c^2)` with `z = a ln R + c`, over `a` and `c`.
struct Regression<'a> {
    ln_ratios: &'a [f64],
    outcomes: &'a [f64],
    ridge: f64,
}

/// Gradient and Hessian: by `a`, by `c`; by `a a`, `a c`, `c c`.
#[derive(Debug, Clone, Copy)]
struct Local {
    g: [f64; 2],
    h: [f64; 3],
}

impl Regression<'_> {
    fn examples(&self) -> impl Iterator<Item = (f64, f64)> {
        self.ln_ratios.iter().copied().zip(self.outcomes.iter().copied())
    }

    /// The log loss in nats, without the pull.
    fn loss(&self, at: Calibration) -> f64 {
        let one = |(x, t): (f64, f64)| {
            let z = at.a * x + at.c;
            z.max(0.0) + (-z.abs()).exp().ln_1p() - t * z
        };
        self.examples().map(one).sum()
    }

    fn objective(&self, at: Calibration) -> f64 {
        self.loss(at) + 0.5 * self.ridge * ((at.a - 1.0).powi(2) + at.c.powi(2))
    }

    fn local(&self, at: Calibration) -> Local {
        let ridge = self.ridge;
        let start = Local {
            g: [ridge * (at.a - 1.0), ridge * at.c],
            h: [ridge, 0.0, ridge],
        };
        self.examples().fold(start, |Local { g, h }, (x, t)| {
            let p = 1.0 / (1.0 + (-(at.a * x + at.c)).exp());
            let curvature = p * (1.0 - p);
            Local {
                g: [g[0] + (p - t) * x, g[1] + (p - t)],
                h: [h[0] + curvature * x * x, h[1] + curvature * x, h[2] + curvature],
            }
        })
    }

    /// The minimum that a start leads to, and how many steps it took.
    fn solve(&self, start: Calibration, max_steps: usize) -> (Calibration, usize) {
        let mut at = start;
        for step in 0..max_steps {
            let Some(next) = self.newton_step(at) else {
                return (at, step);
            };
            at = next;
        }
        (at, max_steps)
    }

    /// The next point, or `None` where no step makes it better.
    fn newton_step(&self, at: Calibration) -> Option<Calibration> {
        let Local { g, mut h } = self.local(at);
        // A little on the diagonal where the examples leave a direction open.
        let slack = 1e-12 * (h[0] + h[2]) + 1e-300;
        h[0] += slack;
        h[2] += slack;
        let rest = h[2] - h[1] / h[0] * h[1];
        let c = (g[1] - h[1] / h[0] * g[0]) / rest;
        let step = [(g[0] - h[1] * c) / h[0], c];
        // Twice what is left to gain, in nats.
        if g[0] * step[0] + g[1] * step[1] < LEFT {
            return None;
        }
        let (before, slope) = (self.objective(at), norm(g));
        (0..40).map(|halvings| 0.5_f64.powi(halvings)).find_map(|scale| {
            let next = Calibration {
                a: at.a - scale * step[0],
                c: at.c - scale * step[1],
            };
            self.is_better(next, before, slope).then_some(next)
        })
    }

    /// Whether a point is lower; or, where the objective has run out of digits, flatter.
    fn is_better(&self, next: Calibration, before: f64, slope: f64) -> bool {
        if !next.a.is_finite() || !next.c.is_finite() {
            return false;
        }
        let after = self.objective(next);
        after < before || (after <= before + 1e-12 * (1.0 + before) && norm(self.local(next).g) < slope)
    }
}

fn norm(g: [f64; 2]) -> f64 {
    g[0].hypot(g[1])
}
