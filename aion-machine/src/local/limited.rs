//! A matcher that looks at the clock: a pattern that takes long for each byte is ended in time.

use std::cell::Cell;
use std::time::{Duration, Instant};

use grep::matcher::{ByteSet, LineMatchKind, LineTerminator, Match, Matcher, NoCaptures};
use grep::regex::RegexMatcher;

/// What is looked at between two looks at the clock, at first and at most, in bytes.
const FIRST_BLOCK: usize = 1 << 10;
const MAX_BLOCK: usize = 1 << 20;
/// How long that may take before less is looked at.
const SLOW: Duration = Duration::from_millis(10);
const FAST: Duration = Duration::from_millis(2);

/// The time is over.
#[derive(Debug)]
pub(crate) struct Late;

impl std::fmt::Display for Late {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the time for the search is over")
    }
}

/// Matches line by line until a deadline. Lines are given to the pattern in blocks; the slower
/// the pattern proves to be, the smaller they are.
#[derive(Debug)]
pub(crate) struct LimitedMatcher {
    inner: RegexMatcher,
    deadline: Instant,
    block: Cell<usize>,
    late: Cell<bool>,
}

impl LimitedMatcher {
    pub(crate) fn new(inner: RegexMatcher, deadline: Instant) -> Self {
        Self {
            inner,
            deadline,
            block: Cell::new(FIRST_BLOCK),
            late: Cell::new(false),
        }
    }

    /// Whether a search ended because the time was over.
    pub(crate) fn is_late(&self) -> bool {
        self.late.get()
    }

    fn check(&self, now: Instant) -> Result<(), Late> {
        if now < self.deadline {
            return Ok(());
        }
        self.late.set(true);
        Err(Late)
    }

    /// Does some work on a number of bytes, and learns how fast that is.
    fn timed<T>(&self, len: usize, work: impl FnOnce() -> T) -> Result<T, Late> {
        let started = Instant::now();
        self.check(started)?;
        let done = work();
        let block = self.block.get();
        if len >= block / 2 {
            let took = started.elapsed();
            if took > SLOW {
                self.block.set((block / 4).max(1));
            } else if took < FAST {
                self.block.set((block * 4).min(MAX_BLOCK));
            }
        }
        Ok(done)
    }

    /// A line that is longer than a block cannot be divided. Its beginning is tried in growing parts, and
    /// given up when the whole would take longer than there is time.
    fn dare(&self, line: &[u8]) -> Result<(), Late> {
        let mut part = self.block.get();
        while part < line.len() {
            let started = Instant::now();
            self.check(started)?;
            let _ = self.inner.is_match(&line[..part]);
            let now = Instant::now();
            let whole = now
                .duration_since(started)
                .mul_f64(line.len() as f64 / part as f64);
            if whole < SLOW {
                return Ok(());
            }
            self.check(now + whole.min(Duration::from_secs(3600)))?;
            part = part.saturating_mul(4);
        }
        Ok(())
    }

    /// Where a block of whole lines ends that begins here.
    fn block_end(&self, haystack: &[u8], at: usize) -> usize {
        let wanted = at.saturating_add(self.block.get());
        if wanted >= haystack.len() {
            return haystack.len();
        }
        let within = haystack[at..wanted].iter().rposition(|b| *b == b'\n');
        let after = || {
            haystack[wanted..]
                .iter()
                .position(|b| *b == b'\n')
                .map(|n| wanted + n + 1)
        };
        within
            .map(|n| at + n + 1)
            .or_else(after)
            .unwrap_or(haystack.len())
    }

    /// Something that does not go beyond one line.
    fn on_line<T>(&self, line: &[u8], work: impl FnOnce() -> T) -> Result<T, Late> {
        self.dare(line)?;
        self.timed(line.len(), work)
    }
}

/// What cannot fail has a value.
fn sure<T>(result: Result<T, grep::matcher::NoError>) -> Option<T> {
    result.ok()
}

impl Matcher for LimitedMatcher {
    type Captures = NoCaptures;
    type Error = Late;

    fn find_at(&self, haystack: &[u8], at: usize) -> Result<Option<Match>, Late> {
        let found = self.on_line(haystack, || self.inner.find_at(haystack, at))?;
        Ok(sure(found).flatten())
    }

    fn new_captures(&self) -> Result<NoCaptures, Late> {
        Ok(NoCaptures::new())
    }

    fn is_match_at(&self, haystack: &[u8], at: usize) -> Result<bool, Late> {
        let found = self.on_line(haystack, || self.inner.is_match_at(haystack, at))?;
        Ok(sure(found).unwrap_or(false))
    }

    fn shortest_match_at(&self, haystack: &[u8], at: usize) -> Result<Option<usize>, Late> {
        let found = self.on_line(haystack, || self.inner.shortest_match_at(haystack, at))?;
        Ok(sure(found).flatten())
    }

    fn non_matching_bytes(&self) -> Option<&ByteSet> {
        self.inner.non_matching_bytes()
    }

    fn line_terminator(&self) -> Option<LineTerminator> {
        self.inner.line_terminator()
    }

    fn find_candidate_line(&self, haystack: &[u8]) -> Result<Option<LineMatchKind>, Late> {
        let mut at = 0;
        while at < haystack.len() {
            let end = self.block_end(haystack, at);
            let block = &haystack[at..end];
            if block.len() > self.block.get() {
                self.dare(block)?;
            }
            let found = self.timed(block.len(), || self.inner.find_candidate_line(block))?;
            match sure(found).flatten() {
                None => at = end,
                Some(LineMatchKind::Confirmed(n)) => return Ok(Some(LineMatchKind::Confirmed(at + n))),
                Some(LineMatchKind::Candidate(n)) => return Ok(Some(LineMatchKind::Candidate(at + n))),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grep::regex::RegexMatcherBuilder;

    fn matcher(pattern: &str, time: Duration) -> LimitedMatcher {
        let mut builder = RegexMatcherBuilder::new();
        let inner = builder
            .line_terminator(Some(b'\n'))
            .size_limit(10 << 20)
            .dfa_size_limit(1 << 10);
        LimitedMatcher::new(inner.build(pattern).unwrap(), Instant::now() + time)
    }

    /// The text between two looks at the clock does not change what is found.
    #[test]
    fn blocks_do_not_change_what_is_found() {
        let text = "abc\n".repeat(50_000) + "needle\n" + &"abc\n".repeat(10);
        let matcher = matcher("^need.e$", Duration::from_secs(60));
        let at = match matcher.find_candidate_line(text.as_bytes()).unwrap().unwrap() {
            LineMatchKind::Confirmed(at) | LineMatchKind::Candidate(at) => at,
        };
        assert!((200_000..=200_006).contains(&at), "{at}");
    }

    /// A pattern of which every byte takes long, over one line and over many: both end soon after the time.
    #[test]
    fn a_slow_pattern_is_ended_in_time() {
        for text in ["ab".repeat(4 << 20), "abababababababab\n".repeat(500_000)] {
            let slow = matcher(
                "(a|b|ab|[ab]{5}){1,300}x(a|b|ab|[ab]{5}){1,300}[cd]",
                Duration::from_millis(300),
            );
            let started = Instant::now();
            let found = slow.find_candidate_line(text.as_bytes());
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "{:?}",
                started.elapsed()
            );
            assert!(found.is_ok_and(|found| found.is_none()) || slow.is_late());
        }
    }
}
