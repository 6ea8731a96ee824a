//! Unified diffs with a bound on their length.

use serde::{Deserialize, Serialize};
use similar::{Algorithm, ChangeTag, TextDiff};

/// Longest diff text, in bytes, unless asked otherwise.
pub const MAX_DIFF_BYTES: usize = 16 * 1024;
/// Contents above this are not compared line by line.
const MAX_DIFF_INPUT_BYTES: usize = 4 * 1024 * 1024;
/// The comparison settles for a longer diff after this time.
const DIFF_TIME: std::time::Duration = std::time::Duration::from_millis(500);

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
        let diff = TextDiff::configure()
            .algorithm(Algorithm::Myers)
            .timeout(DIFF_TIME)
            .diff_lines(old, new);
        let (mut added_lines, mut removed_lines) = (0, 0);
        for change in diff.iter_all_changes() {
            match change.tag() {
                ChangeTag::Insert => added_lines += 1,
                ChangeTag::Delete => removed_lines += 1,
                ChangeTag::Equal => {}
            }
        }
        let whole = diff
            .unified_diff()
            .header(&format!("a/{name}"), &format!("b/{name}"))
            .to_string();
        let (text, truncated) = cut_at_line(whole, max_bytes);
        Self {
            text,
            added_lines,
            removed_lines,
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
