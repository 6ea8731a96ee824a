//! Borrowed numbers: columns and matrices of any layout, and the checks that every batch makes.

use crate::error::{Error, Result, check_len};
use crate::kernel::check::RUN;
use crate::kernel::strided::Strided;
use crate::kernel::{Float, Real};

/// The most rows of a batch: as many as 32 bits count.
pub const MAX_ROWS: usize = u32::MAX as usize;

/// The most outcomes of a row: every label up to there is a number in single precision too.
pub const MAX_OUTCOMES: usize = 1 << 24;

/// One number for each row: a slice, or with the feature `ndarray` a view of any stride.
#[derive(Debug)]
pub struct Column<'a, T>(pub(crate) Strided<'a, T>);

/// A matrix: rows of equally many numbers.
#[derive(Debug)]
pub struct Rows<'a, T>(pub(crate) Strided<'a, T>);

impl<T> Clone for Column<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Column<'_, T> {}

impl<T> Clone for Rows<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Rows<'_, T> {}

impl<'a, T: Copy> Rows<'a, T> {
    /// `values` row after row: `[rows, cols]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the length is not a multiple of `cols`.
    pub fn new(values: &'a [T], cols: usize) -> Result<Self> {
        let rows = values.len() / cols.max(1);
        check_len("a row-major matrix", values.len(), rows * cols)?;
        Ok(Self(Strided::row_major(values, rows, cols)))
    }

    /// `values` column after column: `[cols, rows]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the length is not a multiple of `cols`.
    pub fn by_column(values: &'a [T], cols: usize) -> Result<Self> {
        let rows = values.len() / cols.max(1);
        check_len("a column-major matrix", values.len(), rows * cols)?;
        Ok(Self(Strided::column_major(values, rows, cols)))
    }
}

impl<'a, T: Copy> From<&'a [T]> for Column<'a, T> {
    fn from(values: &'a [T]) -> Self {
        Self(Strided::of_slice(values))
    }
}

impl<'a, T: Copy> From<&'a Vec<T>> for Column<'a, T> {
    fn from(values: &'a Vec<T>) -> Self {
        Self(Strided::of_slice(values))
    }
}

impl<'a, T: Copy, const N: usize> From<&'a [T; N]> for Column<'a, T> {
    fn from(values: &'a [T; N]) -> Self {
        Self(Strided::of_slice(values))
    }
}

#[cfg(feature = "ndarray")]
impl<'a, T: Copy> From<ndarray::ArrayView1<'a, T>> for Column<'a, T> {
    fn from(view: ndarray::ArrayView1<'a, T>) -> Self {
        Self(Strided::of_view_1(&view))
    }
}

#[cfg(feature = "ndarray")]
impl<'a, T: Copy> From<&'a ndarray::Array1<T>> for Column<'a, T> {
    fn from(array: &'a ndarray::Array1<T>) -> Self {
        array.view().into()
    }
}

#[cfg(feature = "ndarray")]
impl<'a, T: Copy> From<ndarray::ArrayView2<'a, T>> for Rows<'a, T> {
    fn from(view: ndarray::ArrayView2<'a, T>) -> Self {
        Self(Strided::of_view_2(&view))
    }
}

#[cfg(feature = "ndarray")]
impl<'a, T: Copy> From<&'a ndarray::Array2<T>> for Rows<'a, T> {
    fn from(array: &'a ndarray::Array2<T>) -> Self {
        array.view().into()
    }
}

/// Checks that a batch is not too long and that what belongs to it is as long.
pub(super) fn check_rows(rows: usize, others: &[(&'static str, usize)]) -> Result<()> {
    if rows > MAX_ROWS {
        return Err(Error::TooManyRows {
            rows,
            limit: MAX_ROWS,
        });
    }
    others
        .iter()
        .try_for_each(|(what, len)| check_len(what, *len, rows))
}

/// Checks that rows may be distributions: at least 2 outcomes, and not more than labels can name.
pub(super) fn check_outcomes(what: &'static str, cols: usize) -> Result<()> {
    if (2..=MAX_OUTCOMES).contains(&cols) {
        return Ok(());
    }
    Err(Error::Shape {
        what,
        found: cols,
        expected: cols.clamp(2, MAX_OUTCOMES),
    })
}

/// Checks one entry of a column.
pub(super) fn check_entry<T: Real>(
    what: &'static str,
    range: &'static str,
    column: &Strided<'_, T>,
    row: usize,
    ok: fn(f64) -> bool,
) -> Result<()> {
    let value = column.at(row, 0).to_f64();
    if ok(value) {
        return Ok(());
    }
    Err(Error::BadEntry {
        what,
        index: row,
        range,
        value,
    })
}

/// Checks one row of a matrix of finite numbers.
pub(super) fn check_finite_row<T: Real>(what: &'static str, x: &Strided<'_, T>, row: usize) -> Result<()> {
    match (0..x.cols()).find(|k| !x.at(row, *k).to_f64().is_finite()) {
        None => Ok(()),
        Some(column) => Err(Error::BadCell {
            what,
            row,
            column,
            range: "finite",
            value: x.at(row, column).to_f64(),
        }),
    }
}

/// Checks that one row is a distribution, by the sums that the vectors make.
pub(super) fn check_dist_row<T: Real>(what: &'static str, p: &Strided<'_, T>, row: usize) -> Result<()> {
    let bound = 1.0 + T::SUM_TOLERANCE.to_f64();
    let entry = |k: usize| p.at(row, k).to_f64();
    if let Some(column) = (0..p.cols()).find(|k| !(0.0..=bound).contains(&entry(*k))) {
        return Err(Error::BadCell {
            what,
            row,
            column,
            range: "in [0, 1]",
            value: entry(column),
        });
    }
    let sum = sum_of_row(p, row);
    if (sum - 1.0).abs() <= T::SUM_TOLERANCE.to_f64() {
        return Ok(());
    }
    Err(Error::BadRow {
        what,
        row,
        range: "a distribution that sums to 1",
        value: sum,
    })
}

fn sum_of_row<T: Float>(p: &Strided<'_, T>, row: usize) -> f64 {
    let (mut sum, mut run) = (T::ZERO, T::ZERO);
    let add = |a: T, b: T| T::from_f64(a.to_f64() + b.to_f64());
    for k in 0..p.cols() {
        run = add(run, p.at(row, k));
        if k % RUN == RUN - 1 {
            sum = add(sum, run);
            run = T::ZERO;
        }
    }
    add(sum, run).to_f64()
}

/// Asks `check` about the rows of a vector that has a bad one.
pub(super) fn name_first(
    block: Option<usize>,
    rows: usize,
    check: impl FnMut(usize) -> Result<()>,
) -> Result<()> {
    let Some(start) = block else {
        return Ok(());
    };
    (start..rows).try_for_each(check)
}

/// The mean of a sum over some rows.
pub(super) fn mean(sum: f64, rows: usize) -> Result<f64> {
    if rows == 0 {
        return Err(Error::Shape {
            what: "a batch",
            found: 0,
            expected: 1,
        });
    }
    Ok(sum / rows as f64)
}
