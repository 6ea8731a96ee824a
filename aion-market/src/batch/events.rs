//! Forecasts of events that happen or do not.

use super::input::{self, Column};
use super::{BatchOptions, Label, Real, onto, scores};
use crate::error::{Error, Result};
use crate::kernel::check::{Events, first_bad_block};
use crate::kernel::rows::{BinaryBrier, BinaryLog};
use crate::kernel::strided::Strided;

/// Probabilities of events, `[rows]`, and whether they happened: labels 1 and 0, `[rows]`.
#[derive(Debug, Clone, Copy)]
pub struct Binary<'a, T: Real, L: Label> {
    p: Strided<'a, T>,
    y: Strided<'a, L>,
    options: BatchOptions,
}

impl<'a, T: Real, L: Label> Binary<'a, T, L> {
    /// Checks every row.
    ///
    /// # Errors
    /// [`Error::Shape`] if the lengths differ, [`Error::TooManyRows`], [`Error::BadEntry`] for the first
    /// probability outside `[0, 1]`, or [`Error::BadLabel`] for the first label that is neither 0 nor 1,
    /// whichever row comes first.
    pub fn new(
        p: impl Into<Column<'a, T>>,
        y: impl Into<Column<'a, L>>,
        options: BatchOptions,
    ) -> Result<Self> {
        Self::shaped(p.into(), y.into(), options)?.checked()
    }

    /// Checks only how many there are.
    fn shaped(p: Column<'a, T>, y: Column<'a, L>, options: BatchOptions) -> Result<Self> {
        let (p, y) = (p.0, y.0);
        input::check_rows(p.rows(), &[("labels", y.rows())])?;
        Ok(Self { p, y, options })
    }

    fn checked(self) -> Result<Self> {
        let Self { p, y, options } = &self;
        let block = first_bad_block(&self.rule(), options.level(), options.threads().count());
        input::name_first(block, p.rows(), |row| {
            input::check_entry("forecasts", "in [0, 1]", p, row, |x| (0.0..=1.0).contains(&x))?;
            check_label(y, row, 2)
        })?;
        Ok(self)
    }

    const fn rule(&self) -> Events<'a, T, L> {
        Events { p: self.p, y: self.y }
    }

    /// How many rows.
    pub const fn rows(&self) -> usize {
        self.p.rows()
    }

    onto! {
        /// Checks every row and scores it as [`log_score_into`](Self::log_score_into), in one pass.
        log_score_onto like log_score_into over (p: Column<'a, T>, y: Column<'a, L>) => |batch| BinaryLog {
            p: batch.p,
            y: batch.y,
            scale: T::from_f64(batch.options.unit().per_nat()),
        }
    }

    scores! {
        /// The log score of each row: `ln p` of an event that happened, `ln(1 - p)` of one that did not,
        /// as exact for a tiny `p` as `ln_1p(-p)`; at most 0, minus infinity where the forecast was sure
        /// and wrong.
        log_score_into log_score_sum log_score_mean => |self| BinaryLog {
            p: self.p,
            y: self.y,
            scale: T::from_f64(self.options.unit().per_nat()),
        };
        /// The one-sided Brier score of each row, `(p - y)^2`, as [`crate::score::brier_binary`].
        brier_into brier_sum brier_mean => |self| BinaryBrier { p: self.p, y: self.y };
    }
}

/// Checks that one label is below `outcomes`.
pub(super) fn check_label<L: Label>(y: &Strided<'_, L>, row: usize, outcomes: usize) -> Result<()> {
    let label: u32 = y.at(row, 0).into();
    if (label as usize) < outcomes {
        return Ok(());
    }
    Err(Error::BadLabel { row, label, outcomes })
}
