//! Many requests, one model: who waits, who has a place, and what each pass over the weights does.
//!
//! A thread of its own runs the passes. Between two of them new requests get places, and whoever is cancelled, has
//! ended or has failed leaves. A request gets a place when the most that it may come to need fits the memory for keys
//! and values; so a request that runs never fails for want of memory, and no two can wait for each other. Kept
//! prefixes fill what the running sequences leave, and give way to them.

mod held;
mod plan;
mod prefixes;
mod queue;
mod sequence;
mod turns;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::generation::Parts;
use crate::model::{Model, Output, Step};
use crate::options::PrefixReuse;
use crate::stats::EngineStats;
#[cfg(feature = "testkit")]
use crate::testkit::Faults;
use held::Held;
pub use queue::FairQueue;
pub(crate) use sequence::{Job, Member, Scoring, Summing, Work};
use turns::Turns;

/// What bounds the work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes of keys and values, those of kept prefixes included.
    pub(crate) cache_bytes: usize,
    /// Sequences that run at once.
    pub(crate) sequences: usize,
    /// Prompt tokens of one pass.
    pub(crate) chunk: usize,
    pub(crate) reuse: PrefixReuse,
    /// Numbers of a row of logits.
    pub(crate) vocab: usize,
}

/// The model as the passes run it.
#[derive(Debug)]
pub(crate) struct Passes {
    pub(crate) model: Model,
    /// Reads what the model reads and writes.
    pub(crate) teacher: Option<Model>,
    #[cfg(feature = "testkit")]
    pub(crate) faults: Option<Arc<Faults>>,
}

impl Passes {
    /// An empty cache of one sequence.
    fn new_cache(&self) -> Held {
        Held {
            model: self.model.new_cache(),
            teacher: self.teacher.as_ref().map(Model::new_cache),
        }
    }

    /// Bytes of a cache that holds so many positions.
    fn cache_bytes(&self, positions: usize) -> usize {
        let teacher = self.teacher.as_ref();
        self.model.cache_bytes(positions) + teacher.map_or(0, |teacher| teacher.cache_bytes(positions))
    }

    /// The teacher's part of a pass.
    fn teach(&self, steps: &mut [Step<'_>]) -> Result<Vec<Output>> {
        match &self.teacher {
            Some(teacher) if !steps.is_empty() => teacher.run(steps),
            _ => Ok(Vec::new()),
        }
    }

    #[cfg(not(feature = "testkit"))]
    fn run(&self, steps: &mut [Step<'_>]) -> Result<Vec<Output>> {
        self.model.run(steps)
    }

    #[cfg(feature = "testkit")]
    fn run(&self, steps: &mut [Step<'_>]) -> Result<Vec<Output>> {
        let Some(faults) = &self.faults else {
            return self.model.run(steps);
        };
        let tokens: Vec<&[u32]> = steps.iter().map(|step| step.tokens).collect();
        faults.before(&tokens);
        let mut outputs = self.model.run(steps)?;
        for (tokens, output) in tokens.iter().zip(&mut outputs) {
            faults.after(tokens, &mut output.values);
        }
        Ok(outputs)
    }
}

/// The way to the thread that runs the model.
#[derive(Debug)]
pub(crate) struct Scheduler {
    inbox: Arc<Inbox>,
    passes: Arc<Passes>,
    bounds: Bounds,
}

#[derive(Debug)]
struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Debug)]
struct Waiting {
    queue: FairQueue<Request>,
    /// How many may wait beside those for whom there is a place.
    limit: usize,
    /// Places that are taken.
    taken: usize,
    /// No engine is left to ask.
    closed: bool,
    /// How long a request took lately, from its place to its end, in milliseconds.
    pace_ms: f64,
    stats: EngineStats,
}

/// A job with what it needs.
#[derive(Debug)]
struct Request {
    job: Job,
    bytes: usize,
    places: usize,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// An error when there is no room for so many prompts, of so many places each, to wait, or never will be.
    fn check(&mut self, asked: usize, places: usize, sequences: usize) -> Result<()> {
        let waiting = self.queue.len();
        let most = self.limit.saturating_add(sequences / places.max(1));
        if asked > most.max(1) {
            return Err(Error::Request {
                field: "prompt",
                reason: format!("{asked} prompts of one request, the limit is {most}"),
            });
        }
        if waiting + asked <= self.limit.saturating_add(self.seated(asked, places, sequences)) {
            return Ok(());
        }
        self.stats.refused += 1;
        let running = self.stats.reading + self.stats.writing;
        let seconds = self.pace_ms * (waiting + 1) as f64 / running.max(1) as f64 / 1000.0;
        Err(Error::Busy {
            waiting,
            retry_after_s: seconds.ceil().clamp(1.0, 60.0) as u32,
        })
    }
}

impl Waiting {
    /// How many of those who wait, and of those who ask, have a place now.
    fn seated(&self, asked: usize, places: usize, sequences: usize) -> usize {
        let mut free = sequences.saturating_sub(self.taken);
        let wanted = self.queue.items().map(|request| request.places);
        let wanted = wanted.chain(std::iter::repeat_n(places, asked));
        let fits = wanted.take_while(|places| {
            let left = free.checked_sub(*places);
            free = left.unwrap_or(free);
            left.is_some()
        });
        fits.count()
    }
}

impl Scheduler {
    /// Starts the thread. `pool` is what the model computes with.
    pub(crate) fn start(
        passes: Passes,
        bounds: Bounds,
        queue: usize,
        parts: Parts,
        pool: rayon::ThreadPool,
    ) -> Result<Self> {
        let passes = Arc::new(passes);
        let stats = EngineStats {
            cache: crate::stats::CacheStats {
                limit: bounds.cache_bytes,
                ..Default::default()
            },
            ..Default::default()
        };
        let waiting = Waiting {
            queue: FairQueue::default(),
            limit: queue,
            taken: 0,
            closed: false,
            pace_ms: 0.0,
            stats,
        };
        let inbox = Arc::new(Inbox {
            waiting: Mutex::new(waiting),
            arrived: Condvar::new(),
        });
        let turns = Turns::new(Arc::clone(&passes), Arc::clone(&inbox), bounds, parts);
        std::thread::Builder::new()
            .name("aion-llm".into())
            .spawn(move || pool.install(|| turns.run()))
            .map_err(|error| Error::Device {
                device: "cpu".into(),
                reason: format!("no thread: {error}"),
            })?;
        Ok(Self {
            inbox,
            passes,
            bounds,
        })
    }

    /// An error when a request of so many prompts, `n` completions each, would be refused now.
    pub(crate) fn check_room(&self, prompts: usize, n: usize) -> Result<()> {
        self.inbox.lock().check(prompts, n, self.bounds.sequences)
    }

    /// Lets the jobs of one request wait for their places: all of them, or none.
    pub(crate) fn submit(&self, client: &Arc<str>, jobs: Vec<Job>) -> Result<()> {
        let jobs: Vec<Request> = jobs
            .into_iter()
            .map(|job| self.request(job))
            .collect::<Result<_>>()?;
        let mut waiting = self.inbox.lock();
        let places = jobs.iter().map(|job| job.places).max().unwrap_or(1);
        waiting.check(jobs.len(), places, self.bounds.sequences)?;
        waiting.stats.requests += 1;
        for job in jobs {
            waiting.queue.push(client, job);
        }
        drop(waiting);
        self.inbox.arrived.notify_one();
        Ok(())
    }

    /// A job with what it needs; an error when that is more than there is.
    fn request(&self, job: Job) -> Result<Request> {
        let (positions, places) = job.need();
        let bytes = self.passes.cache_bytes(positions).saturating_mul(places);
        if bytes > self.bounds.cache_bytes {
            return Err(Error::CacheFull {
                needed: bytes,
                limit: self.bounds.cache_bytes,
            });
        }
        Ok(Request { job, bytes, places })
    }

    /// Sequences that run at once.
    pub(crate) fn most_sequences(&self) -> usize {
        self.bounds.sequences
    }

    /// The most positions that each of so many sequences can have.
    pub(crate) fn most_positions(&self, context: usize, sequences: usize) -> usize {
        let share = self.bounds.cache_bytes / sequences.max(1);
        let fits = |positions: &usize| self.passes.cache_bytes(*positions) <= share;
        if fits(&context) {
            return context;
        }
        let (mut low, mut high) = (0, context);
        while low + 1 < high {
            let middle = low.midpoint(high);
            if fits(&middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Sets how many requests may wait beside those for whom there is a place.
    pub(crate) fn limit_queue(&self, requests: usize) {
        self.inbox.lock().limit = requests;
    }

    pub(crate) fn stats(&self) -> EngineStats {
        let waiting = self.inbox.lock();
        EngineStats {
            waiting: waiting.queue.len(),
            ..waiting.stats
        }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.inbox.lock().closed = true;
        self.inbox.arrived.notify_one();
    }
}
