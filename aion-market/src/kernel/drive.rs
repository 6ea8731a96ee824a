//! Runs a kernel over all rows: into a slice, as a sum, on some threads.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::thread;

use super::check::Rule;
use super::elementary::Float;
use super::{SimdLevel, Vector, Work, dispatch};

/// A number for each row.
pub(crate) trait RowKernel: Copy + Send + Sync {
    /// The type of the number.
    type Scalar: Float;

    /// How many rows.
    fn rows(&self) -> usize;

    /// The same kernel over some of the rows.
    fn part(&self, rows: Range<usize>) -> Self;

    /// The numbers of the rows from `row` on, one a lane; past the end, anything.
    fn block<V: Vector<Scalar = Self::Scalar>>(&self, proof: V::Proof, row: usize) -> V;
}

/// How many rows a thread's share is a multiple of: every vector but the last is full.
const SHARE: usize = 64;

/// Runs of rows that a pass takes side by side. Their memory is asked for at once, and a page whose
/// address has to be looked up holds up none of the other three.
pub(super) const RUNS: usize = 4;

/// Where the vectors of a pass lie: in `RUNS` runs of equal length; the rows left over follow them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Runs {
    start: usize,
    lanes: usize,
    /// Vectors of a run.
    pub(super) blocks: usize,
}

impl Runs {
    /// Over these rows, in vectors of `lanes`; runs begin `64` bytes or a multiple apart.
    pub(super) const fn over(rows: &Range<usize>, lanes: usize) -> Self {
        const APART: usize = 8;
        Self {
            start: rows.start,
            lanes,
            blocks: (rows.end - rows.start) / (RUNS * APART * lanes) * APART,
        }
    }

    /// The first row of a vector.
    #[inline(always)]
    pub(super) const fn row(&self, run: usize, block: usize) -> usize {
        self.start + (run * self.blocks + block) * self.lanes
    }

    /// The first row after all runs.
    pub(super) const fn end(&self) -> usize {
        self.row(RUNS, 0)
    }
}

/// Above so many bytes the results of a call go past the caches, which they would only flush.
const STREAM_BYTES: usize = 4 << 20;

/// What rows must be to have a number.
trait Guard<T: Float>: Copy + Send + Sync {
    /// Whether all of a vector's rows are so.
    fn lets_pass<V: Vector<Scalar = T>>(&self, proof: V::Proof, row: usize) -> bool;
}

/// All rows: they were checked before.
#[derive(Debug, Clone, Copy)]
struct Open;

impl<T: Float> Guard<T> for Open {
    #[inline(always)]
    fn lets_pass<V: Vector<Scalar = T>>(&self, _: V::Proof, _: usize) -> bool {
        true
    }
}

/// Those that keep a rule, counted from `first`.
#[derive(Debug, Clone, Copy)]
struct Ruled<R> {
    rule: R,
    first: usize,
}

impl<R: Rule> Guard<R::Scalar> for Ruled<R> {
    #[inline(always)]
    fn lets_pass<V: Vector<Scalar = R::Scalar>>(&self, proof: V::Proof, row: usize) -> bool {
        V::all(self.rule.keeps::<V>(proof, self.first + row))
    }
}

/// Writes the number of each row, on `threads` threads.
///
/// # Panics
/// If `out` has another length than there are rows.
pub(crate) fn map_into<K: RowKernel>(kernel: &K, level: SimdLevel, threads: usize, out: &mut [K::Scalar]) {
    // SAFETY: only numbers are written there.
    let out = unsafe { &mut *(std::ptr::from_mut(out) as *mut [MaybeUninit<K::Scalar>]) };
    let passed = map_guarded(kernel, |_| Open, level, threads, out);
    debug_assert!(passed, "nothing holds up a row");
}

/// Appends the number of each row, on `threads` threads, if all rows keep the rule; else `out` is as before.
pub(crate) fn map_onto<K: RowKernel, R: Rule<Scalar = K::Scalar>>(
    kernel: &K,
    rule: &R,
    level: SimdLevel,
    threads: usize,
    out: &mut Vec<K::Scalar>,
) -> bool {
    let rows = kernel.rows();
    out.reserve(rows);
    let guard = |first| Ruled { rule: *rule, first };
    let passed = map_guarded(
        kernel,
        guard,
        level,
        threads,
        &mut out.spare_capacity_mut()[..rows],
    );
    if passed {
        // SAFETY: every row's number was written, as none was held up.
        unsafe { out.set_len(out.len() + rows) };
    }
    passed
}

/// Writes the number of each row unless a guard holds one up; whether none did, and so all are written.
fn map_guarded<K: RowKernel, G: Guard<K::Scalar>>(
    kernel: &K,
    guard: impl Fn(usize) -> G,
    level: SimdLevel,
    threads: usize,
    out: &mut [MaybeUninit<K::Scalar>],
) -> bool {
    assert_eq!(out.len(), kernel.rows());
    let stream = size_of_val(out) > STREAM_BYTES;
    let mut left = &mut *out;
    let shares = shares(kernel.rows(), threads).map(|rows| {
        let (share, rest) = std::mem::take(&mut left).split_at_mut(rows.len());
        left = rest;
        let guard = guard(rows.start);
        let kernel = kernel.part(rows);
        move || {
            dispatch(
                level,
                MapInto {
                    kernel,
                    guard,
                    out: share,
                    stream,
                },
            )
        }
    });
    for_each_share(shares).into_iter().all(|passed| passed)
}

/// The sum of the numbers of all rows, on `threads` threads.
pub(crate) fn sum<K: RowKernel>(kernel: &K, level: SimdLevel, threads: usize) -> f64 {
    let shares = shares(kernel.rows(), threads).map(|rows| {
        let kernel = kernel.part(rows);
        move || dispatch(level, SumOf { kernel })
    });
    for_each_share(shares).into_iter().sum()
}

/// The ranges of rows for each thread: as many as there are threads, at least one, none overlapping.
pub(crate) fn shares(rows: usize, threads: usize) -> impl Iterator<Item = Range<usize>> {
    let threads = threads.clamp(1, rows.div_ceil(SHARE).max(1));
    let share = rows.div_ceil(threads).next_multiple_of(SHARE);
    (0..threads).map(move |i| (i * share).min(rows)..((i + 1) * share).min(rows))
}

/// Runs every share, the first one here and the others on threads of their own; the results in order.
pub(crate) fn for_each_share<R: Send>(shares: impl Iterator<Item = impl FnOnce() -> R + Send>) -> Results<R> {
    let mut shares = shares;
    let Some(first) = shares.next() else {
        return Results::default();
    };
    thread::scope(|scope| {
        let others: Vec<_> = shares.map(|share| scope.spawn(share)).collect();
        let mut results = Results {
            first: Some(first()),
            others: Vec::new(),
        };
        for other in others {
            match other.join() {
                Ok(result) => results.others.push(result),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    })
}

/// What the shares gave; one thread takes no allocation.
#[derive(Debug)]
pub(crate) struct Results<R> {
    first: Option<R>,
    others: Vec<R>,
}

impl<R> Default for Results<R> {
    fn default() -> Self {
        Self {
            first: None,
            others: Vec::new(),
        }
    }
}

impl<R> IntoIterator for Results<R> {
    type Item = R;
    type IntoIter = std::iter::Chain<std::option::IntoIter<R>, std::vec::IntoIter<R>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.others)
    }
}

struct MapInto<'o, K: RowKernel, G> {
    kernel: K,
    guard: G,
    out: &'o mut [MaybeUninit<K::Scalar>],
    stream: bool,
}

impl<K: RowKernel, G: Guard<K::Scalar>> Work<K::Scalar> for MapInto<'_, K, G> {
    type Out = bool;

    #[inline(always)]
    fn run<V: Vector<Scalar = K::Scalar>>(mut self, proof: V::Proof) -> bool {
        let off = self.out.as_ptr().align_offset(size_of::<V>());
        if !self.stream || off >= V::LANES {
            let next = self.runs::<V, false>(proof, 0);
            return next.is_some_and(|row| self.rest::<V>(proof, row..self.out.len()));
        }
        // A row's number does not depend on where it lies, so a few may come first by themselves.
        if !self.rest::<V>(proof, 0..off) {
            return false;
        }
        let next = self.runs::<V, true>(proof, off);
        fence();
        next.is_some_and(|row| self.rest::<V>(proof, row..self.out.len()))
    }
}

impl<K: RowKernel, G: Guard<K::Scalar>> MapInto<'_, K, G> {
    /// All runs from `row` on; gives the first row after them, unless a row is held up. Streaming asks
    /// that `row` is aligned.
    #[inline(always)]
    fn runs<V: Vector<Scalar = K::Scalar>, const STREAM: bool>(
        &mut self,
        proof: V::Proof,
        row: usize,
    ) -> Option<usize> {
        let runs = Runs::over(&(row..self.out.len()), V::LANES);
        assert!(runs.end() <= self.out.len());
        let out: *mut K::Scalar = self.out.as_mut_ptr().cast();
        for block in 0..runs.blocks {
            let mut passed = true;
            for run in 0..RUNS {
                let row = runs.row(run, block);
                passed &= self.guard.lets_pass::<V>(proof, row);
                let numbers = self.kernel.block::<V>(proof, row);
                // SAFETY: the vector ends before the runs do, and every one is as aligned as the first.
                unsafe {
                    if STREAM {
                        numbers.stream(out.add(row));
                    } else {
                        numbers.store(out.add(row));
                    }
                }
            }
            if !passed {
                return None;
            }
        }
        Some(runs.end())
    }

    /// Some rows, one vector after another, until one is held up; whether none is.
    #[inline(always)]
    fn rest<V: Vector<Scalar = K::Scalar>>(&mut self, proof: V::Proof, rows: Range<usize>) -> bool {
        let mut row = rows.start;
        for out in self.out[rows].chunks_mut(V::LANES) {
            if !self.guard.lets_pass::<V>(proof, row) {
                return false;
            }
            let numbers = lanes_of(self.kernel.block::<V>(proof, row));
            for (out, number) in out.iter_mut().zip(numbers) {
                out.write(number);
            }
            row += V::LANES;
        }
        true
    }
}

/// Makes streamed stores visible before whatever follows.
fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has the instruction.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// The lanes, and zeros after them.
#[inline(always)]
fn lanes_of<V: Vector>(block: V) -> [V::Scalar; 16] {
    let mut lanes = [V::Scalar::ZERO; 16];
    // SAFETY: no vector has more than 16 lanes.
    unsafe { block.store(lanes.as_mut_ptr()) };
    lanes
}

struct SumOf<K: RowKernel> {
    kernel: K,
}

impl<K: RowKernel> Work<K::Scalar> for SumOf<K> {
    type Out = f64;

    /// Lanes are added up in their own precision for some blocks only, and in doubles from there.
    #[inline(always)]
    fn run<V: Vector<Scalar = K::Scalar>>(self, proof: V::Proof) -> f64 {
        const BLOCKS: usize = 32;
        let zero = V::splat(proof, K::Scalar::ZERO);
        let rows = self.kernel.rows();
        let runs = Runs::over(&(0..rows), V::LANES);
        let mut total = 0.0;
        for start in (0..runs.blocks).step_by(BLOCKS) {
            let mut partial = [zero; RUNS];
            for block in start..runs.blocks.min(start + BLOCKS) {
                for (run, partial) in partial.iter_mut().enumerate() {
                    *partial = *partial + self.kernel.block::<V>(proof, runs.row(run, block));
                }
            }
            total += partial.into_iter().map(V::sum).sum::<f64>();
        }
        for row in (runs.end()..rows).step_by(V::LANES) {
            let lanes = lanes_of(self.kernel.block::<V>(proof, row));
            let count = V::LANES.min(rows - row);
            total += lanes[..count].iter().map(|x| x.to_f64()).sum::<f64>();
        }
        total
    }
}
