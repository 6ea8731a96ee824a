//! Unified diffs with a bound on their length.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use self::lines::{Hunk, Middle, Unified};

mod lines;

/// Longest diff text, in bytes, unless asked otherwise.
pub const MAX_DIFF_BYTES: usize = 16 * 1024;
/// Contents above this are not compared line by line.
const MAX_DIFF_INPUT_BYTES: usize = 4 * 1024 * 1024;

/// From one content to another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Diff {
    /// A unified diff; empty when nothing changed, one line when it is not text.
    pub text: String,
    /// How many lines were added.
    pub added_lines: u64,
    /// How many lines were removed.
    pub removed_lines: u64,
    /// Whether `text` was cut off.
    pub truncated: bool,
}

impl Diff {
    /// Compares two contents; `max_bytes` bounds the text that comes back.
    ///
    /// ```
    /// use aion_machine::Diff;
    /// let diff = Diff::between("notes.txt", b"one\ntwo\n", b"one\n2\n", 1024);
    /// assert_eq!((diff.added_lines, diff.removed_lines), (1, 1));
    /// assert!(diff.text.ends_with(" one\n-two\n+2\n"));
    /// ```
    pub fn between(name: &str, old: &[u8], new: &[u8], max_bytes: usize) -> Self {
        if old == new {
            return Self::default();
        }
        if old.len().max(new.len()) > MAX_DIFF_INPUT_BYTES {
            return Self::opaque(name, old.len(), new.len(), "large");
        }
        match (std::str::from_utf8(old), std::str::from_utf8(new)) {
            (Ok(old), Ok(new)) if !old.contains('\0') && !new.contains('\0') => {
                Self::of_text(name, old, new, max_bytes)
            }
            _ => Self::opaque(name, old.len(), new.len(), "binary"),
        }
    }

    fn opaque(name: &str, old_len: usize, new_len: usize, what: &str) -> Self {
        let text = format!("{what} file {name}: {old_len} -> {new_len} bytes\n");
        Self {
            text,
            truncated: true,
            ..Self::default()
        }
    }

    fn of_text(name: &str, old: &str, new: &str, max_bytes: usize) -> Self {
        let middle = Middle::of(old, new);
        let hunks = middle.hunks();
        let text = Unified {
            name,
            middle: &middle,
            hunks: &hunks,
        }
        .text(max_bytes);
        let (text, truncated) = cut_at_line(text, max_bytes);
        let lines = |side: fn(&Hunk) -> &Range<usize>| hunks.iter().map(|h| side(h).len() as u64).sum();
        Self {
            text,
            added_lines: lines(|hunk| &hunk.new),
            removed_lines: lines(|hunk| &hunk.old),
            truncated,
        }
    }
}

/// Cuts a text to at most `max_bytes`, after a whole line where there is one.
fn cut_at_line(text: String, max_bytes: usize) -> (String, bool) {
    if text.len() <= max_bytes {
        return (text, false);
    }
    let head = &text[..text.floor_char_boundary(max_bytes)];
    let end = head.rfind('\n').map_or(head.len(), |at| at + 1);
    (head[..end].to_owned(), true)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn text(old: &str, new: &str) -> String {
        Diff::between("t", old.as_bytes(), new.as_bytes(), 1 << 20).text
    }

    #[test]
    fn hunks_are_as_diff_writes_them() {
        let old: String = (1..=20).map(|n| format!("{n}\n")).collect();
        let new = old.replace("2\n3\n4\n", "2\nthree\n4\n").replace("18\n", "");
        let want = "--- a/t\n+++ b/t\n@@ -1,6 +1,6 @@\n 1\n 2\n-3\n+three\n 4\n 5\n 6\n@@ -15,6 +15,5 @@\n 15\n 16\n 17\n-18\n 19\n 20\n";
        assert_eq!(text(&old, &new), want);
        assert_eq!(text("", "a\nb\n"), "--- a/t\n+++ b/t\n@@ -0,0 +1,2 @@\n+a\n+b\n");
        assert_eq!(text("a\n", ""), "--- a/t\n+++ b/t\n@@ -1 +0,0 @@\n-a\n");
        assert_eq!(
            text("a\nb", "a\nb\n"),
            "--- a/t\n+++ b/t\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n"
        );
    }

    /// Hunks that are near share their context.
    #[test]
    fn near_hunks_are_one() {
        let old = "a\n1\n2\n3\n4\n5\n6\nb\n";
        assert_eq!(
            text(old, &old.replace('a', "A").replace('b', "B"))
                .matches("@@ -")
                .count(),
            1
        );
        let old = "a\n1\n2\n3\n4\n5\n6\n7\nb\n";
        assert_eq!(
            text(old, &old.replace('a', "A").replace('b', "B"))
                .matches("@@ -")
                .count(),
            2
        );
    }

    /// Lines in no order, few different ones or none alike: 4 MiB are compared in bounded time.
    #[test]
    fn what_has_little_in_common_is_compared_in_time() {
        let mut seed = 1_u64;
        let mut random = |lines: u64, of: u64| -> String {
            let mut next = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 33) % of
            };
            (0..lines).map(|_| format!("{}\n", next())).collect()
        };
        for (lines, of) in [(1_000_000, 2), (900_000, 10), (300_000, 1_000_000)] {
            let (old, new) = (random(lines, of), random(lines, of));
            let started = Instant::now();
            let diff = Diff::between("t", old.as_bytes(), new.as_bytes(), 1024);
            assert!(diff.truncated && diff.text.len() <= 1024);
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "{of}: {:?}",
                started.elapsed()
            );
        }
    }
}
