//! Forecasts over several outcomes, one of which happened.

use super::events::check_label;
use super::input::{self, Column, Rows};
use super::{BatchOptions, Label, Real, onto, scores};
use crate::error::Result;
use crate::kernel::check::{Labelled, first_bad_block};
use crate::kernel::rows::{Brier, Log, Rps, Spherical};
use crate::kernel::strided::Strided;

/// Distributions over `K >= 2` outcomes, `[rows, K]`, and which one happened, `[rows]`.
#[derive(Debug, Clone, Copy)]
pub struct Categorical<'a, T: Real, L: Label> {
    q: Strided<'a, T>,
    y: Strided<'a, L>,
    options: BatchOptions,
}

impl<'a, T: Real, L: Label> Categorical<'a, T, L> {
    /// Checks every row.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for fewer than 2 outcomes or lengths that differ,
    /// [`crate::Error::TooManyRows`], and for the first bad row [`crate::Error::BadCell`],
    /// [`crate::Error::BadRow`] if its sum is further from 1 than [`Real::SUM_TOLERANCE`], or
    /// [`crate::Error::BadLabel`].
    pub fn new(
        q: impl Into<Rows<'a, T>>,
        y: impl Into<Column<'a, L>>,
        options: BatchOptions,
    ) -> Result<Self> {
        Self::shaped(q.into(), y.into(), options)?.checked()
    }

    /// Checks only how many there are.
    fn shaped(q: Rows<'a, T>, y: Column<'a, L>, options: BatchOptions) -> Result<Self> {
        let (q, y) = (q.0, y.0);
        input::check_rows(q.rows(), &[("labels", y.rows())])?;
        input::check_outcomes("the forecasts", q.cols())?;
        Ok(Self { q, y, options })
    }

    fn checked(self) -> Result<Self> {
        let Self { q, y, options } = &self;
        let block = first_bad_block(&self.rule(), options.level(), options.threads().count());
        input::name_first(block, q.rows(), |row| {
            input::check_dist_row("the forecasts", q, row)?;
            check_label(y, row, q.cols())
        })?;
        Ok(self)
    }

    const fn rule(&self) -> Labelled<'a, T, L> {
        Labelled { p: self.q, y: self.y }
    }

    /// How many rows.
    pub const fn rows(&self) -> usize {
        self.q.rows()
    }

    onto! {
        /// Checks every row and scores it as [`brier_into`](Self::brier_into), in one pass.
        brier_onto like brier_into over (q: Rows<'a, T>, y: Column<'a, L>) =>
            |batch| Brier { p: batch.q, y: batch.y }
    }

    onto! {
        /// Checks every row and scores it as [`rps_into`](Self::rps_into), in one pass.
        rps_onto like rps_into over (q: Rows<'a, T>, y: Column<'a, L>) => |batch| Rps { p: batch.q, y: batch.y }
    }

    scores! {
        /// The log score `ln q(y)` of each row, as [`crate::score::log_score`].
        log_score_into log_score_sum log_score_mean => |self| Log {
            p: self.q,
            y: self.y,
            scale: T::from_f64(self.options.unit().per_nat()),
        };
        /// The Brier score of each row, as [`crate::score::brier`].
        brier_into brier_sum brier_mean => |self| Brier { p: self.q, y: self.y };
        /// The ranked probability score of each row, as [`crate::score::rps`].
        rps_into rps_sum rps_mean => |self| Rps { p: self.q, y: self.y };
        /// The spherical score of each row, as [`crate::score::spherical`].
        spherical_into spherical_sum spherical_mean => |self| Spherical { p: self.q, y: self.y };
    }
}
