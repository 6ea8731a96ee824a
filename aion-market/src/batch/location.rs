//! Forecasts of a number by a location and a scale.

use super::input::{self, Column};
use super::{BatchOptions, Real, scores};
use crate::error::Result;
use crate::kernel::check::{self, first_bad_block};
use crate::kernel::crps::{Logistic, Normal};
use crate::kernel::strided::Strided;

/// A location and a scale above 0 in each row, and what was observed, `[rows]` all three.
#[derive(Debug, Clone, Copy)]
pub struct Locations<'a, T: Real> {
    mu: Strided<'a, T>,
    sigma: Strided<'a, T>,
    y: Strided<'a, T>,
    options: BatchOptions,
}

impl<'a, T: Real> Locations<'a, T> {
    /// Checks every row.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the lengths differ, [`crate::Error::TooManyRows`], or
    /// [`crate::Error::BadEntry`] for the first row with a number that is not finite or a scale that is
    /// not above 0.
    pub fn new(
        mu: impl Into<Column<'a, T>>,
        sigma: impl Into<Column<'a, T>>,
        observations: impl Into<Column<'a, T>>,
        options: BatchOptions,
    ) -> Result<Self> {
        let (mu, sigma, y) = (mu.into().0, sigma.into().0, observations.into().0);
        input::check_rows(mu.rows(), &[("scales", sigma.rows()), ("observations", y.rows())])?;
        let rule = check::Locations { mu, sigma, y };
        let block = first_bad_block(&rule, options.level(), options.threads().count());
        input::name_first(block, mu.rows(), |row| {
            let positive = |x: f64| x.is_finite() && x > 0.0;
            input::check_entry("locations", "finite", &mu, row, f64::is_finite)?;
            input::check_entry("scales", "finite and above 0", &sigma, row, positive)?;
            input::check_entry("observations", "finite", &y, row, f64::is_finite)
        })?;
        Ok(Self {
            mu,
            sigma,
            y,
            options,
        })
    }

    /// How many rows.
    pub const fn rows(&self) -> usize {
        self.mu.rows()
    }

    scores! {
        /// The continuous ranked probability score of a normal forecast in each row:
        /// `sigma (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt pi)` with `z = (y - mu) / sigma`.
        normal_crps_into normal_crps_sum normal_crps_mean =>
            |self| Normal { mu: self.mu, sigma: self.sigma, y: self.y };
        /// The continuous ranked probability score of a logistic forecast in each row:
        /// `sigma (z - 2 ln F(z) - 1)` with `z = (y - mu) / sigma` and `F` the logistic function.
        logistic_crps_into logistic_crps_sum logistic_crps_mean =>
            |self| Logistic { mu: self.mu, sigma: self.sigma, y: self.y };
    }
}
