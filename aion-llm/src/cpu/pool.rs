//! Threads that share a piece of work of microseconds: they spin for a moment after each, then sleep.
//!
//! Work is cut into chunks, and whoever is awake takes the next one. The caller takes chunks too, so a thread that is
//! asleep, or that another program keeps from running, delays nothing but the chunk it holds.
#![allow(
    unsafe_code,
    reason = "threads borrow a closure of the caller, who waits until all of it is done"
)]

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a thread waits awake: longer than what lies between two products of one token.
const SPIN: Duration = Duration::from_micros(20);

/// Chunks of one piece of work at most: what the state's fields hold.
const MAX_CHUNKS: usize = 1 << 20;

/// A caller and its threads.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

type Job = *const (dyn Fn(usize) + Sync);

struct Shared {
    /// From the top: number of the work (24 bits), its chunks (20), the next chunk (20).
    state: Line<AtomicU64>,
    done: Line<AtomicUsize>,
    /// Written before `state` names the work, read by those who hold a chunk of it.
    job: UnsafeCell<Option<Job>>,
    asleep: AtomicUsize,
    stop: AtomicBool,
    panicked: AtomicBool,
}

/// A cache line of its own.
#[repr(align(128))]
struct Line<T>(T);

// SAFETY: `job` is written only by the one caller (`run` takes `&mut Pool`) while no chunk is out, and read only by a
// thread that holds a chunk; `state` and `done` order the two.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

fn claim(state: &AtomicU64) -> Option<usize> {
    let mut now = state.load(Ordering::Acquire);
    loop {
        let (chunks, next) = (now >> 20 & 0xF_FFFF, now & 0xF_FFFF);
        if next >= chunks {
            return None;
        }
        match state.compare_exchange_weak(now, now + 1, Ordering::Acquire, Ordering::Acquire) {
            Ok(_) => return Some(next as usize),
            Err(other) => now = other,
        }
    }
}

impl Shared {
    /// Takes chunks as long as there are any; whether there was one.
    fn work(&self) -> bool {
        let mut some = false;
        while let Some(chunk) = claim(&self.state.0) {
            some = true;
            // SAFETY: a chunk is held, so its caller waits, and the closure lives.
            let done = catch_unwind(AssertUnwindSafe(|| unsafe {
                if let Some(job) = *self.job.get() {
                    (*job)(chunk);
                }
            }));
            if done.is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.done.0.fetch_add(1, Ordering::Release);
        }
        some
    }

    fn serve(&self) {
        let mut since = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            if self.work() {
                since = Instant::now();
                continue;
            }
            for _ in 0..16 {
                std::hint::spin_loop();
            }
            if since.elapsed() > SPIN {
                self.sleep();
                since = Instant::now();
            }
        }
    }

    fn sleep(&self) {
        self.asleep.fetch_add(1, Ordering::SeqCst);
        let now = self.state.0.load(Ordering::SeqCst);
        // Whoever gives out work after this look sees a sleeper, and wakes it.
        if now & 0xF_FFFF >= now >> 20 & 0xF_FFFF && !self.stop.load(Ordering::SeqCst) {
            std::thread::park();
        }
        self.asleep.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Pool {
    /// The caller and `threads - 1` more.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub(crate) fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Line(AtomicU64::new(0)),
            done: Line(AtomicUsize::new(0)),
            job: UnsafeCell::new(None),
            asleep: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
        });
        let mut pool = Self {
            shared,
            threads: Vec::new(),
        };
        for i in 1..threads {
            let shared = pool.shared.clone();
            let thread = std::thread::Builder::new().name(format!("aion-llm-{i}"));
            pool.threads.push(thread.spawn(move || shared.serve())?);
        }
        Ok(pool)
    }

    /// Threads, the caller among them.
    pub(crate) fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// Calls `job` once for each of `0..chunks`, and returns when all have returned.
    ///
    /// # Panics
    /// When a call panics.
    pub(crate) fn run(&mut self, chunks: usize, job: &(dyn Fn(usize) + Sync)) {
        if self.threads.is_empty() || chunks <= 1 {
            return (0..chunks).for_each(job);
        }
        for start in (0..chunks).step_by(MAX_CHUNKS - 1) {
            let n = (chunks - start).min(MAX_CHUNKS - 1);
            self.share(n, &|chunk| job(start + chunk));
        }
    }

    fn share(&mut self, chunks: usize, job: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; this call does not return before the last chunk is done.
        let job = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Job>(job) };
        // SAFETY: nobody reads the cell now: all chunks of the last work are done.
        unsafe { *shared.job.get() = Some(job) };
        shared.done.0.store(0, Ordering::Relaxed);
        let number = (shared.state.0.load(Ordering::Relaxed) >> 40).wrapping_add(1) & 0xFF_FFFF;
        shared
            .state
            .0
            .store(number << 40 | (chunks as u64) << 20, Ordering::SeqCst);
        if shared.asleep.load(Ordering::SeqCst) > 0 {
            self.threads.iter().for_each(|thread| thread.thread().unpark());
        }
        shared.work();
        let since = Instant::now();
        while shared.done.0.load(Ordering::Acquire) < chunks {
            std::hint::spin_loop();
            if since.elapsed() > SPIN {
                std::thread::yield_now();
            }
        }
        if shared.panicked.swap(false, Ordering::Relaxed) {
            let reason: Box<dyn Any + Send> = Box::new("a thread of the model panicked");
            resume_unwind(reason);
        }
    }

    /// Calls `job` with each piece of `len` elements of `data`, and its number.
    pub(crate) fn pieces<T: Send>(
        &mut self,
        data: &mut [T],
        len: usize,
        job: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let split = Split::new(data, len);
        // SAFETY: every number comes once.
        self.run(split.pieces(), &|i| job(i, unsafe { split.piece(i) }));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            if thread.join().is_err() {
                // A thread catches what its work throws, so there is nothing to tell.
                continue;
            }
        }
    }
}

/// A slice cut into pieces that different threads may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Split<'a, T> {
    start: *mut T,
    len: usize,
    piece: usize,
    data: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: it is a slice that is borrowed for writing; `piece` asks that no two threads hold the same part.
unsafe impl<T: Send> Send for Split<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Split<'_, T> {}

impl<'a, T> Split<'a, T> {
    /// Pieces of `piece` elements; the last may be shorter.
    pub(crate) fn new(data: &'a mut [T], piece: usize) -> Self {
        Self {
            start: data.as_mut_ptr(),
            len: data.len(),
            piece: piece.max(1),
            data: std::marker::PhantomData,
        }
    }

    pub(crate) fn pieces(&self) -> usize {
        self.len.div_ceil(self.piece)
    }

    /// Piece number `i`.
    ///
    /// # Safety
    /// Nobody else holds the same piece.
    ///
    /// # Panics
    /// When there is no such piece.
    pub(crate) unsafe fn piece(&self, i: usize) -> &'a mut [T] {
        let start = i * self.piece;
        assert!(start < self.len, "piece {i} of {}", self.pieces());
        // SAFETY: within the slice; the caller promises that no other reference to it lives.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), self.piece.min(self.len - start)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_is_done_once() {
        for threads in [1, 2, 5] {
            let mut pool = Pool::new(threads).unwrap();
            for chunks in [0, 1, 2, 7, 100, 3000] {
                let counts: Vec<AtomicUsize> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(chunks, &|i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    /// Short works one right after the other, some after a sleep: none is lost and none hangs.
    #[test]
    fn many_works_after_each_other() {
        let mut pool = Pool::new(3).unwrap();
        let mut data = vec![0u64; 64];
        for round in 0..5000 {
            pool.pieces(&mut data, 8, |i, piece| {
                piece.iter_mut().for_each(|x| *x += i as u64 + 1);
            });
            if round % 1000 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let expected: Vec<u64> = (0..64).map(|i| 5000 * (i / 8 + 1)).collect();
        assert_eq!(data, expected);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let mut pool = Pool::new(2).unwrap();
        let broken = catch_unwind(AssertUnwindSafe(|| {
            pool.run(50, &|i| assert!(i != 20, "chunk 20 breaks"));
        }));
        assert!(broken.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(50, &|i| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 1225);
    }
}
