//! Which lines differ, and how that is written down.

use std::fmt::Write;
use std::ops::Range;

use imara_diff::{Algorithm, Diff, InternedInput};

/// How many equal lines are shown around a change.
const CONTEXT: usize = 3;
/// With more lines than this, nothing finer than "these became those" is looked for.
const MAX_LINES: usize = 100_000;

/// Lines that became others, by their numbers in the middle, from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hunk {
    pub(super) old: Range<usize>,
    pub(super) new: Range<usize>,
}

/// Two texts without what they have in common at both ends, but for some lines of context.
pub(super) struct Middle<'t> {
    old: Vec<&'t str>,
    new: Vec<&'t str>,
    /// How many lines of both come before.
    before: usize,
}

impl<'t> Middle<'t> {
    /// Most of a text that was edited is as it was: comparing bytes is faster than comparing lines.
    pub(super) fn of(old: &'t str, new: &'t str) -> Self {
        let start = back_lines(old, line_start(old, common_prefix(old, new)), CONTEXT);
        let (old_rest, new_rest) = (&old[start..], &new[start..]);
        let tail = common_suffix(old_rest, new_rest);
        // Whole lines that both end with, less the context.
        let tail_start = next_line(old_rest, old_rest.len() - tail);
        let kept = forward_lines(old_rest, tail_start, CONTEXT);
        let tail = old_rest.len() - kept;
        Self {
            old: old_rest[..kept].split_inclusive('\n').collect(),
            new: new_rest[..new_rest.len() - tail].split_inclusive('\n').collect(),
            before: count_lines(&old[..start]),
        }
    }

    pub(super) fn hunks(&self) -> Vec<Hunk> {
        if self.old.len().max(self.new.len()) > MAX_LINES {
            return self.one_hunk();
        }
        let mut input = InternedInput::default();
        input.reserve(self.old.len() as u32, self.new.len() as u32);
        input.update_before(self.old.iter().map(|line| line.as_bytes()));
        input.update_after(self.new.iter().map(|line| line.as_bytes()));
        let mut diff = Diff::compute(Algorithm::Histogram, &input);
        diff.postprocess_lines(&input);
        let range = |range: Range<u32>| range.start as usize..range.end as usize;
        let hunks = diff.hunks().map(|hunk| Hunk {
            old: range(hunk.before),
            new: range(hunk.after),
        });
        hunks.collect()
    }

    /// All lines but those that both begin and end with.
    fn one_hunk(&self) -> Vec<Hunk> {
        let equal = |(a, b): &(&&str, &&str)| a == b;
        let head = self.old.iter().zip(&self.new).take_while(equal).count();
        let (old, new) = (&self.old[head..], &self.new[head..]);
        let tail = old.iter().rev().zip(new.iter().rev()).take_while(equal).count();
        vec![Hunk {
            old: head..self.old.len() - tail,
            new: head..self.new.len() - tail,
        }]
    }
}

/// How many bytes both begin with.
fn common_prefix(old: &str, new: &str) -> usize {
    const BLOCK: usize = 256;
    let (old, new) = (old.as_bytes(), new.as_bytes());
    let blocks = old.chunks_exact(BLOCK).zip(new.chunks_exact(BLOCK));
    let at = blocks.take_while(|(a, b)| a == b).count() * BLOCK;
    let rest = old[at..].iter().zip(&new[at..]);
    at + rest.take_while(|(a, b)| a == b).count()
}

/// How many bytes both end with.
fn common_suffix(old: &str, new: &str) -> usize {
    const BLOCK: usize = 256;
    let (old, new) = (old.as_bytes(), new.as_bytes());
    let blocks = old.rchunks_exact(BLOCK).zip(new.rchunks_exact(BLOCK));
    let at = blocks.take_while(|(a, b)| a == b).count() * BLOCK;
    let (old, new) = (&old[..old.len() - at], &new[..new.len() - at]);
    let rest = old.iter().rev().zip(new.iter().rev());
    at + rest.take_while(|(a, b)| a == b).count()
}

/// Where the line begins that this byte is in.
fn line_start(text: &str, at: usize) -> usize {
    let end = text.as_bytes()[..at].iter().rposition(|b| *b == b'\n');
    end.map_or(0, |end| end + 1)
}

/// Where the first line begins at or after this byte.
fn next_line(text: &str, at: usize) -> usize {
    if at == 0 {
        return 0;
    }
    let end = text.as_bytes()[at - 1..].iter().position(|b| *b == b'\n');
    end.map_or(text.len(), |end| at + end)
}

fn back_lines(text: &str, mut at: usize, lines: usize) -> usize {
    for _ in 0..lines {
        at = line_start(text, at.saturating_sub(1));
    }
    at
}

fn forward_lines(text: &str, mut at: usize, lines: usize) -> usize {
    for _ in 0..lines {
        at = next_line(text, (at + 1).min(text.len()));
    }
    at
}

fn count_lines(text: &str) -> usize {
    text.bytes().filter(|b| *b == b'\n').count()
}

/// A diff that is being written down.
pub(super) struct Unified<'a> {
    pub(super) name: &'a str,
    pub(super) middle: &'a Middle<'a>,
    pub(super) hunks: &'a [Hunk],
}

impl Unified<'_> {
    /// The whole text, or more than `max_bytes` of it.
    pub(super) fn text(&self, max_bytes: usize) -> String {
        let mut out = format!("--- a/{0}\n+++ b/{0}\n", self.name);
        let near = |a: &Hunk, b: &Hunk| b.old.start - a.old.end <= 2 * CONTEXT;
        for group in self.hunks.chunk_by(near) {
            if out.len() > max_bytes {
                break;
            }
            self.group(group, max_bytes, &mut out);
        }
        out
    }

    fn group(&self, group: &[Hunk], max_bytes: usize, out: &mut String) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            return;
        };
        let lead = CONTEXT.min(first.old.start);
        let trail = CONTEXT.min(self.middle.old.len() - last.old.end);
        let old = first.old.start - lead..last.old.end + trail;
        let new = first.new.start - lead..last.new.end + trail;
        // Writing to a text does not fail.
        let _ = writeln!(out, "@@ -{} +{} @@", self.span(&old), self.span(&new));
        let mut at = old.start;
        for hunk in group {
            self.lines(' ', &self.middle.old[at..hunk.old.start], max_bytes, out);
            self.lines('-', &self.middle.old[hunk.old.clone()], max_bytes, out);
            self.lines('+', &self.middle.new[hunk.new.clone()], max_bytes, out);
            at = hunk.old.end;
        }
        self.lines(' ', &self.middle.old[at..old.end], max_bytes, out);
    }

    /// The first line and how many; of no lines, the line before them.
    fn span(&self, lines: &Range<usize>) -> String {
        let first = self.middle.before + lines.start;
        match lines.len() {
            0 => format!("{first},0"),
            1 => format!("{}", first + 1),
            len => format!("{},{len}", first + 1),
        }
    }

    fn lines(&self, sign: char, lines: &[&str], max_bytes: usize, out: &mut String) {
        for line in lines {
            if out.len() > max_bytes {
                return;
            }
            out.push(sign);
            out.push_str(line);
            if !line.ends_with('\n') {
                out.push_str("\n\\ No newline at end of file\n");
            }
        }
    }
}
