//! Runs a kernel over all rows: into a slice, as a sum, on some threads.

use std::ops::Range;
use std::thread;

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

/// Above so many bytes the results of a call go past the caches, which they would only flush.
const STREAM_BYTES: usize = 4 << 20;

/// Writes the number of each row, on `threads` threads.
///
/// # Panics
/// If `out` has another length than there are rows.
pub(crate) fn map_into<K: RowKernel>(kernel: &K, level: SimdLevel, threads: usize, out: &mut [K::Scalar]) {
    assert_eq!(out.len(), kernel.rows());
    let stream = size_of_val(out) > STREAM_BYTES;
    let mut left = &mut *out;
    let shares = shares(kernel.rows(), threads).map(|rows| {
        let (share, rest) = std::mem::take(&mut left).split_at_mut(rows.len());
        left = rest;
        let kernel = kernel.part(rows);
        move || {
            dispatch(
                level,
                MapInto {
                    kernel,
                    out: share,
                    stream,
                },
            );
        }
    });
    for_each_share(shares);
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

struct MapInto<'o, K: RowKernel> {
    kernel: K,
    out: &'o mut [K::Scalar],
    stream: bool,
}

impl<K: RowKernel> Work<K::Scalar> for MapInto<'_, K> {
    type Out = ();

    #[inline(always)]
    fn run<V: Vector<Scalar = K::Scalar>>(self, proof: V::Proof) {
        let width = size_of::<V>();
        let off = self.out.as_ptr().align_offset(width).min(self.out.len());
        // A row's number does not depend on where it lies, so a few may come first by themselves.
        let head = if self.stream && off < V::LANES { off } else { 0 };
        if head > 0 {
            partly(self.kernel.block::<V>(proof, 0), &mut self.out[..head]);
        }
        let mut row = head;
        let mut blocks = self.out[head..].chunks_exact_mut(V::LANES);
        if self.stream && off < V::LANES {
            for block in &mut blocks {
                // SAFETY: the block has as many scalars as the vector, and the head has aligned it.
                unsafe { self.kernel.block::<V>(proof, row).stream(block.as_mut_ptr()) };
                row += V::LANES;
            }
            fence();
        } else {
            for block in &mut blocks {
                // SAFETY: the block has as many scalars as the vector.
                unsafe { self.kernel.block::<V>(proof, row).store(block.as_mut_ptr()) };
                row += V::LANES;
            }
        }
        let tail = blocks.into_remainder();
        if !tail.is_empty() {
            partly(self.kernel.block::<V>(proof, row), tail);
        }
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

/// Writes the first lanes.
#[inline(always)]
fn partly<V: Vector>(block: V, out: &mut [V::Scalar]) {
    let mut lanes = [V::Scalar::ZERO; 16];
    // SAFETY: no vector has more than 16 lanes.
    unsafe { block.store(lanes.as_mut_ptr()) };
    out.copy_from_slice(&lanes[..out.len()]);
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
        let rows = self.kernel.rows();
        let full = rows - rows % V::LANES;
        let (mut total, mut row) = (0.0, 0);
        while row < full {
            let end = full.min(row + BLOCKS * V::LANES);
            let mut partial = V::splat(proof, K::Scalar::ZERO);
            while row < end {
                partial = partial + self.kernel.block::<V>(proof, row);
                row += V::LANES;
            }
            total += partial.sum();
        }
        if row < rows {
            let mut lanes = [K::Scalar::ZERO; 16];
            partly(self.kernel.block::<V>(proof, row), &mut lanes[..rows - row]);
            total += lanes.iter().map(|x| x.to_f64()).sum::<f64>();
        }
        total
    }
}
