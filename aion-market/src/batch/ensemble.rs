//! Ensembles of forecasts of a number.

use super::input::{self, Column, Rows};
use super::{BatchOptions, Real};
use crate::error::{Error, Result, check_len};
use crate::kernel::check::{Members, first_bad_block};
use crate::kernel::crps::{Ensemble, Ensemble16, MAX_SORTED, of_large};
use crate::kernel::drive;
use crate::kernel::strided::Strided;

/// Ensembles of `M >= 1` members, `[rows, M]`, and what was observed, `[rows]`.
#[derive(Debug, Clone, Copy)]
pub struct Ensembles<'a, T: Real> {
    x: Strided<'a, T>,
    y: Strided<'a, T>,
    options: BatchOptions,
}

impl<'a, T: Real> Ensembles<'a, T> {
    /// Checks every row.
    ///
    /// # Errors
    /// [`Error::Shape`] for no member or lengths that differ, [`Error::TooManyRows`], and for the first
    /// row with a number that is not finite [`Error::BadCell`] or [`Error::BadEntry`].
    pub fn new(
        members: impl Into<Rows<'a, T>>,
        observations: impl Into<Column<'a, T>>,
        options: BatchOptions,
    ) -> Result<Self> {
        Self::shaped(members.into(), observations.into(), options)?.checked()
    }

    /// Checks every row and scores it as [`crps_into`](Self::crps_into), in one pass for 16 members.
    ///
    /// The numbers are appended to `out`; to use its memory again, clear it before.
    ///
    /// # Errors
    /// As [`Self::new`]; then `out` is as before.
    pub fn crps_onto(
        members: impl Into<Rows<'a, T>>,
        observations: impl Into<Column<'a, T>>,
        options: BatchOptions,
        out: &mut Vec<T>,
    ) -> Result<()> {
        let batch = Self::shaped(members.into(), observations.into(), options)?;
        let (x, y) = (batch.x, batch.y);
        let (level, threads) = (options.level(), options.threads().count());
        if x.cols() == 16 && drive::map_onto(&Ensemble16 { x, y }, &batch.rule(), level, threads, out) {
            return Ok(());
        }
        batch.checked()?;
        let len = out.len();
        out.resize(len + batch.rows(), T::default());
        batch.crps_into(&mut out[len..])
    }

    /// Checks only how many there are.
    fn shaped(members: Rows<'a, T>, observations: Column<'a, T>, options: BatchOptions) -> Result<Self> {
        let (x, y) = (members.0, observations.0);
        input::check_rows(x.rows(), &[("observations", y.rows())])?;
        if x.cols() == 0 {
            return Err(Error::Shape {
                what: "an ensemble",
                found: 0,
                expected: 1,
            });
        }
        Ok(Self { x, y, options })
    }

    fn checked(self) -> Result<Self> {
        let Self { x, y, options } = &self;
        let block = first_bad_block(&self.rule(), options.level(), options.threads().count());
        input::name_first(block, x.rows(), |row| {
            input::check_finite_row("the ensembles", x, row)?;
            input::check_entry("observations", "finite", y, row, f64::is_finite)
        })?;
        Ok(self)
    }

    const fn rule(&self) -> Members<'a, T> {
        Members { x: self.x, y: self.y }
    }

    /// How many rows.
    pub const fn rows(&self) -> usize {
        self.x.rows()
    }

    /// The continuous ranked probability score of each row, as [`crate::score::crps_ensemble`]; not
    /// finite where a distance, or a sum of them, is beyond the largest number.
    ///
    /// # Errors
    /// [`Error::Shape`] if `out` has another length than there are rows; then nothing is written.
    pub fn crps_into(&self, out: &mut [T]) -> Result<()> {
        check_len("out", out.len(), self.rows())?;
        let (x, y) = (self.x, self.y);
        let (level, threads) = (self.options.level(), self.options.threads().count());
        match x.cols() {
            16 => drive::map_into(&Ensemble16 { x, y }, level, threads, out),
            ..=32 => drive::map_into(&Ensemble::<T, 32> { x, y }, level, threads, out),
            33..=MAX_SORTED => drive::map_into(&Ensemble::<T, MAX_SORTED> { x, y }, level, threads, out),
            _ => self.large_into(out),
        }
        Ok(())
    }

    /// The sum of [`crps_into`](Self::crps_into) over all rows.
    pub fn crps_sum(&self) -> f64 {
        let (x, y) = (self.x, self.y);
        let (level, threads) = (self.options.level(), self.options.threads().count());
        match x.cols() {
            16 => drive::sum(&Ensemble16 { x, y }, level, threads),
            ..=32 => drive::sum(&Ensemble::<T, 32> { x, y }, level, threads),
            33..=MAX_SORTED => drive::sum(&Ensemble::<T, MAX_SORTED> { x, y }, level, threads),
            _ => self.large_sum(),
        }
    }

    /// The mean of [`crps_into`](Self::crps_into) over all rows.
    ///
    /// # Errors
    /// [`Error::Shape`] for a batch without rows.
    pub fn crps_mean(&self) -> Result<f64> {
        input::mean(self.crps_sum(), self.rows())
    }

    fn large_into(&self, out: &mut [T]) {
        let mut left = &mut *out;
        let shares = drive::shares(self.rows(), self.options.threads().count()).map(|rows| {
            let (share, rest) = std::mem::take(&mut left).split_at_mut(rows.len());
            left = rest;
            let batch = *self;
            move || {
                let mut scratch = Vec::with_capacity(batch.x.cols());
                for (out, row) in share.iter_mut().zip(rows) {
                    *out = of_large(&batch.x, batch.y.at(row, 0), row, &mut scratch);
                }
            }
        });
        drive::for_each_share(shares);
    }

    fn large_sum(&self) -> f64 {
        let shares = drive::shares(self.rows(), self.options.threads().count()).map(|rows| {
            let batch = *self;
            move || {
                let mut scratch = Vec::with_capacity(batch.x.cols());
                rows.map(|row| of_large(&batch.x, batch.y.at(row, 0), row, &mut scratch).to_f64())
                    .sum::<f64>()
            }
        });
        drive::for_each_share(shares).into_iter().sum()
    }
}
