//! Rows of numbers behind a pointer and two steps: any slice, and any view of an array.

use std::marker::PhantomData;
use std::ops::Range;

use super::Vector;

/// Runs a body for every column of the rows from `$row` on, in order: `$x` is the column, `$k` its
/// number. A closure would do, if it could ask to be inlined: its body must have the instructions of
/// the vectors in it.
macro_rules! each_column {
    (($k:ident, $x:ident: $v:ident) of $matrix:expr, $proof:ident, $row:ident => $body:block) => {
        let mut done = 0;
        if $matrix.has_fours::<$v>($row) {
            while done + 4 <= $matrix.cols() {
                let four: [$v; 4] = $matrix.four_columns($proof, $row, done);
                for (i, $x) in four.into_iter().enumerate() {
                    let $k = done + i;
                    $body
                }
                done += 4;
            }
        }
        for $k in done..$matrix.cols() {
            let $x: $v = $matrix.column($proof, $row, $k);
            $body
        }
    };
}
pub(crate) use each_column;

/// Runs a body for every column of two matrices of one shape, in order.
macro_rules! each_pair {
    (($p:ident, $q:ident: $v:ident) of $ps:expr, $qs:expr, $proof:ident, $row:ident => $body:block) => {
        let mut done = 0;
        if $ps.has_fours::<$v>($row) && $qs.has_fours::<$v>($row) {
            while done + 4 <= $ps.cols() {
                let ps: [$v; 4] = $ps.four_columns($proof, $row, done);
                let qs: [$v; 4] = $qs.four_columns($proof, $row, done);
                for ($p, $q) in ps.into_iter().zip(qs) {
                    $body
                }
                done += 4;
            }
        }
        for k in done..$ps.cols() {
            let ($p, $q): ($v, $v) = ($ps.column($proof, $row, k), $qs.column($proof, $row, k));
            $body
        }
    };
}
pub(crate) use each_pair;

/// `rows` by `cols` elements, the element of row `r` and column `k` at `r row_step + k col_step`.
///
/// Invariant: every such element is readable for `'a`, and nobody writes to it.
#[derive(Debug)]
pub(crate) struct Strided<'a, T> {
    start: *const T,
    rows: usize,
    cols: usize,
    row_step: isize,
    col_step: isize,
    of: PhantomData<&'a [T]>,
}

impl<T> Clone for Strided<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Strided<'_, T> {}

// SAFETY: it is a shared borrow of elements that threads may share.
unsafe impl<T: Sync> Send for Strided<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Strided<'_, T> {}

impl<'a, T: Copy> Strided<'a, T> {
    /// One column.
    pub(crate) fn of_slice(slice: &'a [T]) -> Self {
        Self::row_major(slice, slice.len(), 1)
    }

    /// A matrix row by row.
    ///
    /// # Panics
    /// If the slice has another length than `rows * cols`.
    pub(crate) fn row_major(slice: &'a [T], rows: usize, cols: usize) -> Self {
        assert!(rows.checked_mul(cols) == Some(slice.len()));
        // SAFETY: the offsets are those of the slice.
        unsafe { Self::from_raw(slice.as_ptr(), [rows, cols], [cols as isize, 1]) }
    }

    /// A matrix column by column.
    ///
    /// # Panics
    /// If the slice has another length than `rows * cols`.
    pub(crate) fn column_major(slice: &'a [T], rows: usize, cols: usize) -> Self {
        assert!(rows.checked_mul(cols) == Some(slice.len()));
        // SAFETY: the offsets are those of the slice.
        unsafe { Self::from_raw(slice.as_ptr(), [rows, cols], [1, rows as isize]) }
    }

    /// Elements at `start + r steps[0] + k steps[1]`.
    ///
    /// # Safety
    /// All of them are readable for `'a`, and nobody writes to them.
    pub(super) unsafe fn from_raw(start: *const T, shape: [usize; 2], steps: [isize; 2]) -> Self {
        Self {
            start,
            rows: shape[0],
            cols: shape[1],
            row_step: steps[0],
            col_step: steps[1],
            of: PhantomData,
        }
    }

    /// A column of any layout.
    #[cfg(feature = "ndarray")]
    pub(crate) fn of_view_1(view: &ndarray::ArrayView1<'a, T>) -> Self {
        // SAFETY: the view promises its elements for 'a.
        unsafe { Self::from_raw(view.as_ptr(), [view.len(), 1], [view.strides()[0], 1]) }
    }

    /// A matrix of any layout.
    #[cfg(feature = "ndarray")]
    pub(crate) fn of_view_2(view: &ndarray::ArrayView2<'a, T>) -> Self {
        let steps = [view.strides()[0], view.strides()[1]];
        // SAFETY: the view promises its elements for 'a.
        unsafe { Self::from_raw(view.as_ptr(), [view.nrows(), view.ncols()], steps) }
    }

    pub(crate) const fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) const fn cols(&self) -> usize {
        self.cols
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// If they are not there.
    pub(crate) fn part(&self, rows: Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.rows);
        if rows.is_empty() {
            return Self { rows: 0, ..*self };
        }
        // SAFETY: the first of these rows is one of ours.
        let start = unsafe { self.start.offset(rows.start as isize * self.row_step) };
        Self {
            start,
            rows: rows.len(),
            ..*self
        }
    }

    /// One element.
    ///
    /// # Panics
    /// If it is not there.
    #[inline(always)]
    pub(crate) fn at(&self, row: usize, col: usize) -> T {
        assert!(row < self.rows && col < self.cols);
        // SAFETY: it is there.
        unsafe { *self.pointer(row, col) }
    }

    /// # Safety
    /// The element is there.
    #[inline(always)]
    unsafe fn pointer(&self, row: usize, col: usize) -> *const T {
        // SAFETY: the offset is that of an element.
        unsafe {
            self.start
                .offset(row as isize * self.row_step + col as isize * self.col_step)
        }
    }

    /// The elements of one column in `N` rows from `row`; past the end, the last row again.
    #[inline(always)]
    fn last_rows<const N: usize>(&self, row: usize, col: usize) -> [T; N] {
        std::array::from_fn(|i| self.at((row + i).min(self.rows - 1), col))
    }

    /// Whether the rows from `row` fill a vector; false for the last ones.
    #[inline(always)]
    fn full<V: Vector>(&self, row: usize) -> bool {
        row + V::LANES <= self.rows
    }
}

impl<T: super::Float> Strided<'_, T> {
    /// Column `col` of the rows from `row` on, one row a lane; past the end, the last row again.
    #[inline(always)]
    pub(crate) fn column<V: Vector<Scalar = T>>(&self, proof: V::Proof, row: usize, col: usize) -> V {
        assert!(row < self.rows && col < self.cols);
        if !self.full::<V>(row) {
            let lanes: [T; 16] = self.last_rows(row, col);
            // SAFETY: no vector has more than 16 lanes.
            return unsafe { V::load(proof, lanes.as_ptr()) };
        }
        // SAFETY: all of these rows are there.
        unsafe {
            let at = self.pointer(row, col);
            if self.row_step == 1 {
                ask_ahead::<T, V>(at, 1);
                V::load(proof, at)
            } else {
                V::gather(proof, at, self.row_step)
            }
        }
    }

    /// Whether four columns of the rows from `row` on lie side by side: what [`Self::four_columns`] asks.
    #[inline(always)]
    pub(crate) fn has_fours<V: Vector>(&self, row: usize) -> bool {
        self.col_step == 1 && self.full::<V>(row)
    }

    /// Four columns whose elements lie side by side, in a full vector of rows.
    #[inline(always)]
    pub(crate) fn four_columns<V: Vector<Scalar = T>>(
        &self,
        proof: V::Proof,
        row: usize,
        col: usize,
    ) -> [V; 4] {
        assert!(self.has_fours::<V>(row) && col + 4 <= self.cols);
        // SAFETY: all of these elements are there, and each row's four are neighbours.
        unsafe {
            if self.row_step == self.cols as isize {
                // Every four columns ask for their share of the rows that follow.
                ask_ahead::<T, V>(self.pointer(row, 0).wrapping_add(col * V::LANES), 4);
            }
            V::load_4(proof, self.pointer(row, col), self.row_step)
        }
    }

    /// In each lane's row, the column that `labels` names.
    ///
    /// # Panics
    /// If a label is no column.
    #[inline(always)]
    pub(crate) fn picked<V: Vector<Scalar = T>>(&self, row: usize, labels: V) -> V {
        let proof = labels.proof();
        let cols = labels.same(T::from_f64(self.cols as f64));
        assert!(V::all(V::and(labels.same(T::ZERO).le(labels), labels.lt(cols))));
        let small = self.row_step.unsigned_abs().max(self.cols) <= 1 << 16;
        if small && self.col_step == 1 && self.full::<V>(row) {
            let mut lanes = [T::ZERO; 16];
            for (i, lane) in lanes.iter_mut().enumerate() {
                *lane = T::from_f64(i as f64 * self.row_step as f64);
            }
            // SAFETY: every row is there, every label is a column, and the offsets stay below 2^21,
            // where both kinds of lanes hold every whole number.
            return unsafe {
                let rows = V::load(proof, lanes.as_ptr());
                (rows + labels).pick(self.pointer(row, 0))
            };
        }
        let mut lanes = [T::ZERO; 16];
        // SAFETY: no vector has more than 16 lanes.
        unsafe {
            labels.store(lanes.as_mut_ptr());
            for (i, lane) in lanes.iter_mut().enumerate().take(V::LANES) {
                *lane = self.at((row + i).min(self.rows - 1), lane.to_f64() as usize);
            }
            V::load(proof, lanes.as_ptr())
        }
    }
}

/// How many bytes ahead of a pass memory is asked for.
const AHEAD: usize = 1024;

/// Asks for the memory that a pass comes to soon, as much as `vectors` of it: the CPU, which asks by itself, asks too late
/// and for no more than the page.
#[inline(always)]
fn ask_ahead<T, V: Vector>(at: *const T, vectors: usize) {
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, vectors);
    #[cfg(target_arch = "x86_64")]
    for line in 0..(vectors * size_of::<V>()).div_ceil(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: any address may be asked for.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_byte_add(AHEAD + 64 * line).cast()) };
    }
}

/// A label of a batch: `u8` or `u32`.
pub trait Label: Copy + Send + Sync + Into<u32> + 'static {
    /// `LANES` labels as numbers.
    ///
    /// # Safety
    /// They are readable.
    #[doc(hidden)]
    unsafe fn load<V: Vector>(proof: V::Proof, at: *const Self) -> V;
}

impl Label for u8 {
    #[inline(always)]
    unsafe fn load<V: Vector>(proof: V::Proof, at: *const Self) -> V {
        // SAFETY: as this function's.
        unsafe { V::load_u8(proof, at) }
    }
}

impl Label for u32 {
    #[inline(always)]
    unsafe fn load<V: Vector>(proof: V::Proof, at: *const Self) -> V {
        // SAFETY: as this function's.
        unsafe { V::load_u32(proof, at) }
    }
}

impl<L: Label> Strided<'_, L> {
    /// The labels of the rows from `row` on, one a lane; past the end, the last one again.
    #[inline(always)]
    pub(crate) fn labels<V: Vector>(&self, proof: V::Proof, row: usize) -> V {
        assert!(row < self.rows && self.cols == 1);
        if self.full::<V>(row) && self.row_step == 1 {
            // SAFETY: all of these rows are there, side by side.
            return unsafe { L::load(proof, self.pointer(row, 0)) };
        }
        let lanes: [L; 16] = self.last_rows(row, 0);
        // SAFETY: no vector has more than 16 lanes.
        unsafe { L::load(proof, lanes.as_ptr()) }
    }
}
