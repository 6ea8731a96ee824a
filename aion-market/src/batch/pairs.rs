//! Divergences between rows of two matrices.

use super::input::{self, Rows};
use super::{BatchOptions, Real, onto, scores};
use crate::error::{Result, check_len};
use crate::kernel::check::{self, first_bad_block};
use crate::kernel::pairs::{CrossEntropy, JensenShannon, Kl};
use crate::kernel::strided::Strided;

/// Two distributions over `K >= 2` outcomes in each row, `[rows, K]` both.
#[derive(Debug, Clone, Copy)]
pub struct DistPairs<'a, T: Real> {
    p: Strided<'a, T>,
    q: Strided<'a, T>,
    options: BatchOptions,
}

impl<'a, T: Real> DistPairs<'a, T> {
    /// Checks every row.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for fewer than 2 outcomes or shapes that differ,
    /// [`crate::Error::TooManyRows`], and for the first bad row [`crate::Error::BadCell`] or
    /// [`crate::Error::BadRow`] if a sum is further from 1 than [`Real::SUM_TOLERANCE`].
    pub fn new(p: impl Into<Rows<'a, T>>, q: impl Into<Rows<'a, T>>, options: BatchOptions) -> Result<Self> {
        Self::shaped(p.into(), q.into(), options)?.checked()
    }

    /// Checks only how many there are.
    fn shaped(p: Rows<'a, T>, q: Rows<'a, T>, options: BatchOptions) -> Result<Self> {
        let (p, q) = (p.0, q.0);
        input::check_rows(p.rows(), &[("q", q.rows())])?;
        input::check_outcomes("p", p.cols())?;
        check_len("a row of q", q.cols(), p.cols())?;
        Ok(Self { p, q, options })
    }

    fn checked(self) -> Result<Self> {
        let Self { p, q, options } = &self;
        let block = first_bad_block(&self.rule(), options.level(), options.threads().count());
        input::name_first(block, p.rows(), |row| {
            input::check_dist_row("p", p, row)?;
            input::check_dist_row("q", q, row)
        })?;
        Ok(self)
    }

    const fn rule(&self) -> check::DistPairs<'a, T> {
        check::DistPairs { p: self.p, q: self.q }
    }

    /// How many rows.
    pub const fn rows(&self) -> usize {
        self.p.rows()
    }

    fn scale(&self) -> T {
        T::from_f64(self.options.unit().per_nat())
    }

    onto! {
        /// Checks every row and compares it as [`kl_into`](Self::kl_into), in one pass.
        kl_onto like kl_into over (p: Rows<'a, T>, q: Rows<'a, T>) =>
            |batch| Kl { p: batch.p, q: batch.q, scale: batch.scale() }
    }

    scores! {
        /// `KL(p || q)` of each row, as [`crate::divergence::kl`]: nearly equal rows do not cancel, and
        /// it is infinite where `q = 0 < p`.
        kl_into kl_sum kl_mean => |self| Kl { p: self.p, q: self.q, scale: self.scale() };
        /// The Jensen-Shannon divergence of each row, as [`crate::divergence::jensen_shannon`].
        jensen_shannon_into jensen_shannon_sum jensen_shannon_mean =>
            |self| JensenShannon { p: self.p, q: self.q, scale: self.scale() };
        /// The cross-entropy of each row, as [`crate::divergence::cross_entropy`].
        cross_entropy_into cross_entropy_sum cross_entropy_mean =>
            |self| CrossEntropy { p: self.p, q: self.q, scale: self.scale() };
    }
}
