//! What the memory can do, and the processor time of this process.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Passes over the buffers; the fastest counts.
const PASSES: usize = 7;

/// The processor time that this process has used, all threads together.
pub fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The smallest processor time and the smallest wall time of `passes` passes.
pub fn fastest(passes: usize, mut pass: impl FnMut()) -> (Duration, Duration) {
    let (mut cpu, mut wall) = (Duration::MAX, Duration::MAX);
    for _ in 0..passes.max(1) {
        let (cpu_start, wall_start) = (cpu_time(), Instant::now());
        pass();
        wall = wall.min(wall_start.elapsed());
        cpu = cpu.min(cpu_time().saturating_sub(cpu_start));
    }
    (cpu, wall)
}

/// Bytes per second that `threads` threads read together, of `bytes` in all: two equal halves are compared, which the
/// C library does with the widest vectors that there are.
pub fn read_bytes_per_s(threads: usize, bytes: usize) -> f64 {
    let (ones, others) = (buffers(threads, bytes / 2), buffers(threads, bytes / 2));
    rate(threads, bytes, || {
        each(ones.iter().zip(&others).collect(), |(one, other)| {
            assert!(black_box(one) == black_box(other), "both halves hold the same");
        });
    })
}

/// Bytes per second that `threads` threads move together by copying: half of `bytes` is read, half is written.
pub fn copy_bytes_per_s(threads: usize, bytes: usize) -> f64 {
    let sources = buffers(threads, bytes / 2);
    let mut targets = sources.clone();
    rate(threads, bytes, || {
        each(sources.iter().zip(&mut targets).collect(), |(source, target)| {
            target.copy_from_slice(black_box(source));
            black_box(target);
        });
    })
}

fn buffers(threads: usize, bytes: usize) -> Vec<Vec<u64>> {
    let words = bytes / 8 / threads.max(1);
    (1..=threads.max(1) as u64)
        .map(|seed| vec![seed; words])
        .collect()
}

/// By processor time for one thread, which a busy machine disturbs little; by wall time for more.
fn rate(threads: usize, bytes: usize, pass: impl FnMut()) -> f64 {
    let (cpu, wall) = fastest(PASSES, pass);
    let time = if threads == 1 { cpu } else { wall };
    bytes as f64 / time.as_secs_f64()
}

/// The first part here, the others on threads of their own.
fn each<T: Send>(parts: Vec<T>, work: impl Fn(T) + Sync) {
    let mut parts = parts.into_iter();
    let first = parts.next();
    std::thread::scope(|scope| {
        for part in parts {
            scope.spawn(|| work(part));
        }
        first.map(&work);
    });
}

/// Reads `wide` (so many numbers a row) and `narrow` (one byte a row) and fills `out` (one number a row), as fast as
/// memory allows: sums of bits, four streams of rows side by side, on `threads` threads. Rows beyond a multiple of 32
/// a thread are left out.
pub fn move_rows(threads: usize, wide: &[f64], narrow: &[u8], out: &mut [f64]) {
    let rows = out.len() / threads.max(1);
    if rows == 0 {
        return;
    }
    let per_row = wide.len() / out.len();
    let parts = wide
        .chunks_exact(rows * per_row)
        .zip(narrow.chunks_exact(rows))
        .zip(out.chunks_exact_mut(rows));
    each(parts.collect(), |((wide, narrow), out)| {
        four_streams(per_row, wide, narrow, out);
    });
}

fn four_streams(per_row: usize, wide: &[f64], narrow: &[u8], out: &mut [f64]) {
    const LINE: usize = 8;
    let rows = out.len() / 4;
    if rows == 0 {
        return;
    }
    let mut streams = wide
        .chunks_exact(rows * per_row)
        .zip(narrow.chunks_exact(rows))
        .zip(out.chunks_exact_mut(rows))
        .map(|((wide, narrow), out)| {
            let read = wide
                .chunks_exact(LINE * per_row)
                .zip(narrow.as_chunks::<LINE>().0);
            read.zip(out.as_chunks_mut::<LINE>().0)
        });
    let (Some(a), Some(b), Some(c), Some(d)) =
        (streams.next(), streams.next(), streams.next(), streams.next())
    else {
        return;
    };
    for (((a, b), c), d) in a.zip(b).zip(c).zip(d) {
        for ((wide, narrow), out) in [a, b, c, d] {
            let mut sums = [u64::from_ne_bytes(*narrow); LINE];
            for line in wide.as_chunks::<LINE>().0 {
                for (sum, word) in sums.iter_mut().zip(line) {
                    *sum = sum.wrapping_add(word.to_bits());
                }
            }
            *out = sums.map(f64::from_bits);
        }
    }
}
