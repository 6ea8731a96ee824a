//! The thread that runs the model, pass after pass.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};

use aion_types::Timestamp;
use rayon::iter::{IntoParallelRefMutIterator as _, ParallelIterator as _};

use super::held::Held;
use super::plan::{Wish, plan};
use super::prefixes::{Prefixes, Rule};
use super::sequence::{Ending, Given, Sequence, Work, panic_text};
use super::{Bounds, Inbox, Passes, Request, Waiting};
use crate::error::{Error, Result};
use crate::generation::Parts;
use crate::model::{Output, Step, Want};
use crate::request::FinishReason;
use crate::stats::EngineStats;

/// What the thread holds.
#[derive(Debug)]
pub(super) struct Turns {
    passes: Arc<Passes>,
    inbox: Arc<Inbox>,
    bounds: Bounds,
    rule: Rule,
    parts: Parts,
    running: Vec<Running>,
    prefixes: Prefixes<Held>,
    turn: usize,
    counts: EngineStats,
    pace_ms: f64,
}

#[derive(Debug)]
struct Running {
    since: Timestamp,
    sequence: Sequence,
}

impl Turns {
    pub(super) fn new(passes: Arc<Passes>, inbox: Arc<Inbox>, bounds: Bounds, parts: Parts) -> Self {
        let rule = Rule {
            reuse: bounds.reuse,
            chunk: bounds.chunk,
        };
        Self {
            passes,
            inbox,
            bounds,
            rule,
            parts,
            running: Vec::new(),
            prefixes: Prefixes::new(rule),
            turn: 0,
            counts: EngineStats::default(),
            pace_ms: 0.0,
        }
    }

    /// Works until no engine is left to ask and nothing is left to do.
    pub(super) fn run(mut self) {
        loop {
            let turn = catch_unwind(AssertUnwindSafe(|| self.turn()));
            match turn {
                Ok(true) => {}
                Ok(false) => return,
                Err(panic) => self.start_over(&panic_text(&*panic)),
            }
        }
    }

    /// After a panic outside a pass nothing that runs can be trusted.
    fn start_over(&mut self, reason: &str) {
        for running in std::mem::take(&mut self.running) {
            self.counts.failed += running.sequence.work.callers();
            running.sequence.work.fail(|| Error::Panicked(reason.to_owned()));
        }
        self.prefixes = Prefixes::new(self.rule);
    }

    /// One pass with what comes before and after it; false when the thread is done.
    fn turn(&mut self) -> bool {
        if !self.admit() {
            return false;
        }
        self.let_go();
        let wishes = self.look_around();
        self.pass(&wishes);
        self.absorb();
        self.settle();
        true
    }

    /// Gives places to those who wait, in order; waits itself when there is nothing to do.
    fn admit(&mut self) -> bool {
        let inbox = Arc::clone(&self.inbox);
        let mut waiting = inbox.lock();
        let mut gone;
        loop {
            gone = waiting.queue.take(|request| request.job.is_cancelled());
            self.seat(&mut waiting);
            self.prefixes.shrink(self.bounds.cache_bytes - self.reserved());
            self.publish(&mut waiting);
            if !self.running.is_empty() || !gone.is_empty() {
                break;
            }
            if waiting.closed {
                return false;
            }
            waiting = inbox
                .arrived
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        drop(waiting);
        let gone = gone
            .into_iter()
            .map(|request| (request.job.work, Departure::Cancelled));
        let gone: Vec<_> = gone.collect();
        self.counts.cancelled += gone.iter().map(|(work, _)| work.callers()).sum::<u64>();
        self.hand_over(gone);
        true
    }

    fn seat(&mut self, waiting: &mut Waiting) {
        let mut free = self.bounds.cache_bytes - self.reserved();
        let mut places = self.bounds.sequences.saturating_sub(self.places());
        while let Some(head) = waiting.queue.head() {
            if head.bytes > free || head.places > places {
                return;
            }
            let Some(Request {
                job,
                bytes,
                places: taken,
            }) = waiting.queue.pop()
            else {
                return;
            };
            free -= bytes;
            places -= taken;
            let cache = self.passes.new_cache();
            self.running.push(Running {
                since: self.parts.clock.now(),
                sequence: Sequence::new(job, cache, bytes),
            });
        }
    }

    fn reserved(&self) -> usize {
        self.running.iter().map(|running| running.sequence.reserved).sum()
    }

    fn places(&self) -> usize {
        let callers = |running: &Running| running.sequence.work.callers() as usize;
        self.running.iter().map(callers).sum()
    }

    fn publish(&self, waiting: &mut Waiting) {
        let sequences = || self.running.iter().map(|running| &running.sequence);
        let writing = sequences().filter(|sequence| sequence.is_writing()).count();
        let stats = &mut waiting.stats;
        let (requests, refused, limit) = (stats.requests, stats.refused, self.bounds.cache_bytes);
        *stats = self.counts;
        (stats.requests, stats.refused) = (requests, refused);
        (stats.reading, stats.writing) = (self.running.len() - writing, writing);
        stats.cache.limit = limit;
        stats.cache.reserved = self.reserved();
        stats.cache.used = sequences().map(|sequence| sequence.cache.bytes()).sum();
        stats.cache.kept = self.prefixes.bytes();
        stats.prefix.entries = self.prefixes.len();
        stats.prefix.evictions = self.prefixes.evictions();
        waiting.taken = self.places();
        waiting.pace_ms = self.pace_ms;
    }

    /// Takes the places of those for whom nobody waits any more.
    fn let_go(&mut self) {
        let mut leaving = Vec::new();
        for running in &mut self.running {
            if let Work::Read(members) = &mut running.sequence.work {
                let some_stay = members.iter().any(|member| !member.outlet.is_cancelled());
                let leaves = |member: &mut super::Member| some_stay && member.outlet.is_cancelled();
                let members = members.extract_if(.., leaves).map(Box::new).map(Work::Write);
                leaving.extend(members.map(|work| (work, Departure::Cancelled)));
            }
        }
        let gone = self
            .running
            .extract_if(.., |running| running.sequence.is_cancelled());
        for running in gone.collect::<Vec<_>>() {
            leaving.push((self.keep(running.sequence), Departure::Cancelled));
        }
        self.counts.cancelled += leaving.iter().map(|(work, _)| work.callers()).sum::<u64>();
        self.hand_over(leaving);
    }

    /// What everyone wants of the next pass. Who begins to read first takes over what others have read already, or
    /// waits for one that is about to read it.
    fn look_around(&mut self) -> Vec<Wish> {
        let mut wishes = Vec::with_capacity(self.running.len());
        for i in 0..self.running.len() {
            let new =
                !self.running[i].sequence.looked && matches!(self.running[i].sequence.work, Work::Read(_));
            if new && self.should_wait(i) {
                wishes.push(Wish::Wait);
                continue;
            }
            if new {
                self.take_over(i);
            }
            wishes.push(self.running[i].sequence.wish());
        }
        wishes
    }

    /// Whether one that came before is about to read at least one more chunk of the same beginning than is there now.
    fn should_wait(&self, i: usize) -> bool {
        let prompt = &self.running[i].sequence.tokens;
        let there = self.usable(i).0;
        self.running[..i].iter().any(|other| {
            let other = &other.sequence;
            let total = other.tokens.len();
            let to_come = self.rule.usable(&other.tokens, total, prompt);
            let goes_on = other.cache.both() == other.cache.len() && !other.is_writing();
            other.cache.len() < total && goes_on && to_come >= there + self.bounds.chunk
        })
    }

    /// How much of a prompt is there already, and whether a running sequence has it (else a kept one).
    fn usable(&self, i: usize) -> (usize, Option<usize>) {
        let prompt = &self.running[i].sequence.tokens;
        let held = |other: &Running| {
            let other = &other.sequence;
            self.rule
                .usable(&other.tokens[..other.cache.both()], other.exact, prompt)
        };
        let others = self.running.iter().enumerate().filter(|(j, _)| *j != i);
        let best = others.map(|(j, other)| (held(other), j)).max();
        let kept = self.prefixes.usable(prompt);
        match best {
            Some((usable, j)) if usable > kept => (usable, Some(j)),
            _ => (kept, None),
        }
    }

    fn take_over(&mut self, i: usize) {
        let (usable, from) = self.usable(i);
        let taken = match from {
            Some(j) => {
                let other = &self.running[j].sequence;
                Some((other.exact.min(usable), other.cache.fork(usable)))
            }
            None => self
                .prefixes
                .fork(&self.running[i].sequence.tokens)
                .map(|(_, exact, cache)| (exact, cache)),
        };
        let sequence = &mut self.running[i].sequence;
        sequence.looked = true;
        if let Some((exact, cache)) = taken {
            self.counts.prefix.hits += 1;
            self.counts.prefix.reused_tokens += usable as u64;
            (sequence.exact, sequence.cache) = (exact, cache);
        } else {
            self.counts.prefix.misses += 1;
        }
        if let Work::Read(members) = &mut sequence.work {
            members
                .iter_mut()
                .for_each(|member| member.generation.begin(usable));
        }
    }

    /// Runs the model once. What goes wrong there ends the sequences of this pass and no others.
    fn pass(&mut self, wishes: &[Wish]) {
        if wishes.is_empty() {
            return;
        }
        let readers: Vec<usize> = (0..wishes.len())
            .filter(|i| matches!(wishes[*i], Wish::Read { .. }))
            .collect();
        self.turn = self.turn.wrapping_add(1);
        let first = readers
            .get(self.turn % readers.len().max(1))
            .copied()
            .unwrap_or(0);
        let rows = plan(wishes, first, self.bounds.chunk);
        let starts: Vec<usize> = self
            .running
            .iter()
            .map(|running| running.sequence.cache.len())
            .collect();
        let result = self.run_model(&rows);
        self.counts.passes += 1;
        let mut outputs = match result {
            Ok(outputs) => outputs.into_iter(),
            Err(reason) => return self.fail_pass(&rows, &reason),
        };
        for ((running, rows), start) in self.running.iter_mut().zip(&rows).zip(starts) {
            if *rows == 0 {
                continue;
            }
            if !running.sequence.is_writing() {
                self.counts.read_tokens += *rows as u64;
            }
            let given = outputs.next().unwrap_or_default();
            running
                .sequence
                .ran(start, start + rows, self.bounds.chunk, given);
        }
    }

    /// The pass itself, and then the teacher's over the same tokens.
    fn run_model(&mut self, rows: &[usize]) -> Result<Vec<Given>, Reason> {
        let (mut steps, mut taught, mut pupils) =
            (Vec::with_capacity(self.running.len()), Vec::new(), Vec::new());
        for (running, rows) in self.running.iter_mut().zip(rows).filter(|(_, rows)| **rows > 0) {
            let want = running.sequence.want(*rows);
            let Sequence { tokens, cache, .. } = &mut running.sequence;
            let start = cache.len();
            let tokens = &tokens[start..start + rows];
            // Nobody asks how surprising an embedded text is.
            if let Some(cache) = cache.teacher.as_mut().filter(|_| want != Want::Hidden) {
                pupils.push(steps.len());
                self.counts.teacher_tokens += *rows as u64;
                taught.push(Step { tokens, cache, want });
            }
            let cache = &mut cache.model;
            steps.push(Step { tokens, cache, want });
        }
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let pass = || Ok((self.passes.run(&mut steps)?, self.passes.teach(&mut taught)?));
        let result: Result<(Vec<Output>, Vec<Output>)> = match catch_unwind(AssertUnwindSafe(pass)) {
            Ok(result) => result,
            Err(panic) => return Err(Reason::Panicked(panic_text(&*panic))),
        };
        let (outputs, teachers) = result.map_err(Reason::of)?;
        let given = |Output { values }| Given {
            values,
            teacher: Vec::new(),
        };
        let mut given: Vec<Given> = outputs.into_iter().map(given).collect();
        for (i, output) in pupils.into_iter().zip(teachers) {
            given[i].teacher = output.values;
        }
        Ok(given)
    }

    fn fail_pass(&mut self, rows: &[usize], reason: &Reason) {
        for (running, _) in self.running.iter_mut().zip(rows).filter(|(_, rows)| **rows > 0) {
            running.sequence.ending = Some(Ending::Broken(reason.error()));
        }
    }

    /// Those whose prompt is read begin to write; then everyone looks at what the pass gave.
    fn absorb(&mut self) {
        if self.running.iter().any(Running::has_read) {
            let all = std::mem::take(&mut self.running).into_iter();
            self.running = all.flat_map(Running::split).collect();
        }
        let (parts, vocab) = (&self.parts, self.bounds.vocab);
        let busy = |running: &&mut Running| running.sequence.given.is_some();
        let mut busy: Vec<&mut Running> = self.running.iter_mut().filter(busy).collect();
        let made = |busy: &[&mut Running]| busy.iter().map(|running| running.sequence.made()).sum::<usize>();
        let before = made(&busy);
        match busy.as_mut_slice() {
            [one] => one.sequence.absorb(parts, vocab),
            many => many
                .par_iter_mut()
                .for_each(|running| running.sequence.absorb(parts, vocab)),
        }
        self.counts.written_tokens += (made(&busy) - before) as u64;
    }

    /// Those that have ended leave.
    fn settle(&mut self) {
        let ended = self
            .running
            .extract_if(.., |running| running.sequence.ending.is_some());
        let mut leaving = Vec::new();
        for running in ended.collect::<Vec<_>>() {
            let took = self.parts.clock.now().since_ms(running.since).max(0) as f64;
            self.pace_ms = if self.pace_ms == 0.0 {
                took
            } else {
                0.8 * self.pace_ms + 0.2 * took
            };
            match running.sequence.ending {
                Some(Ending::Broken(error)) => {
                    self.counts.failed += running.sequence.work.callers();
                    leaving.push((running.sequence.work, Departure::Failed(error)));
                }
                Some(Ending::Whole(finish)) => {
                    self.counts.completed += running.sequence.work.callers();
                    let work = self.keep(running.sequence);
                    leaving.push((work, Departure::Ended(finish)));
                }
                None => {}
            }
        }
        self.hand_over(leaving);
    }

    /// Tells those that leave how it ended. The engine's numbers know of it first.
    fn hand_over(&self, leaving: Vec<(Work, Departure)>) {
        if leaving.is_empty() {
            return;
        }
        self.publish(&mut self.inbox.lock());
        for (work, departure) in leaving {
            match departure {
                Departure::Ended(finish) => work.end(finish),
                Departure::Cancelled => work.cancel(),
                Departure::Failed(error) => {
                    let text = error.to_string();
                    let mut error = Some(error);
                    work.fail(|| error.take().unwrap_or_else(|| Error::Panicked(text.clone())));
                }
            }
        }
    }

    /// Keeps what a sequence read for prompts that begin the same, in the memory that nobody else needs. Gives back the
    /// rest of it.
    fn keep(&mut self, sequence: Sequence) -> Work {
        let Sequence {
            work,
            mut tokens,
            cache,
            exact,
            ..
        } = sequence;
        tokens.truncate(cache.len());
        let worth = self.rule.worth(tokens.len(), exact);
        if worth == 0 || !matches!(work, Work::Read(_) | Work::Write(_)) {
            return work;
        }
        let snug = cache.bytes() <= 2 * self.passes.cache_bytes(worth);
        let cache = if snug { cache } else { cache.fork(worth) };
        let limit = self.bounds.cache_bytes - self.reserved();
        self.prefixes.keep(tokens, exact, cache, limit);
        work
    }
}

impl Running {
    fn has_read(&self) -> bool {
        let sequence = &self.sequence;
        matches!(sequence.work, Work::Read(_))
            && sequence.cache.len() == sequence.tokens.len()
            && sequence.ending.is_none()
    }

    fn split(self) -> Vec<Self> {
        if !self.has_read() {
            return vec![self];
        }
        let since = self.since;
        let parts = self.sequence.split().into_iter();
        parts.map(|sequence| Self { since, sequence }).collect()
    }
}

/// How a sequence leaves.
#[derive(Debug)]
enum Departure {
    Ended(FinishReason),
    Cancelled,
    Failed(Error),
}

/// Why a pass gave nothing.
#[derive(Debug)]
enum Reason {
    Numeric(String),
    Panicked(String),
}

impl Reason {
    fn of(error: Error) -> Self {
        match error {
            Error::Numeric(what) => Self::Numeric(what),
            error => Self::Panicked(error.to_string()),
        }
    }

    fn error(&self) -> Error {
        match self {
            Self::Numeric(what) => Error::Numeric(what.clone()),
            Self::Panicked(what) => Error::Panicked(what.clone()),
        }
    }
}
