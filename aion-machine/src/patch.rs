//! Applying a unified diff to one text, strictly: all of it or nothing.

use serde::{Deserialize, Serialize};

use crate::{Durability, Error, Etag, RelPath, Result};

/// Most hunks in a patch.
pub const MAX_PATCH_HUNKS: usize = 1000;
/// How much of a line an error repeats, in bytes.
const MAX_SHOWN_BYTES: usize = 80;

/// A unified diff of one file, to be applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PatchRequest {
    /// The diff, as `diff -u`, `git diff` or [`Diff`](crate::Diff) write it. File names in it are not looked at.
    pub patch: String,
    /// Only apply it if the file now has this etag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<Etag>,
    /// What the write survives; the machine's choice if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
}

impl PatchRequest {
    /// Applies this diff.
    pub fn new(patch: impl Into<String>) -> Self {
        Self {
            patch: patch.into(),
            if_match: None,
            durability: None,
        }
    }

    /// Applies it only to a content of this etag.
    #[must_use]
    pub fn with_if_match(mut self, etag: Etag) -> Self {
        self.if_match = Some(etag);
        self
    }

    /// Chooses what the write survives.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }
}

/// Applies a unified diff of one file to its text; of a new file, to the empty text.
///
/// Every context and removed line must be in the text exactly as the hunk has it. A hunk belongs where its
/// header says; if it does not fit there, it is put at the only other place where it does. A hunk
/// without any old line goes exactly where its header says.
///
/// ```
/// use aion_machine::{RelPath, apply_patch};
/// let path = RelPath::parse("list.txt")?;
/// let patch = "@@ -1,2 +1,3 @@\n milk\n+eggs\n bread\n";
/// assert_eq!(apply_patch(&path, "milk\nbread\n", patch, 1024)?, "milk\neggs\nbread\n");
/// let refused = apply_patch(&path, "milk\nbutter\n", patch, 1024).unwrap_err();
/// assert_eq!(refused.code(), "patch_rejected");
/// assert_eq!(refused.to_string(), "hunk 1 of the patch does not apply to `list.txt`: line 2 is `butter`, the patch has `bread`");
/// # Ok::<(), aion_machine::Error>(())
/// ```
///
/// # Errors
/// [`Error::PatchInvalid`] if it is not a unified diff of one file, [`Error::PatchRejected`] if a hunk
/// does not apply, [`Error::TooLarge`] if the patch or the result has more than `max_bytes`.
pub fn apply_patch(path: &RelPath, text: &str, patch: &str, max_bytes: u64) -> Result<String> {
    Error::check_size(path, patch.len() as u64, max_bytes)?;
    let hunks = parse(patch)?;
    let added: usize = hunks.iter().map(|hunk| hunk.new.len()).sum();
    let removed: usize = hunks.iter().map(|hunk| hunk.old.len()).sum();
    let size_bytes = (text.len() + added).saturating_sub(removed) as u64;
    Error::check_size(path, size_bytes, max_bytes)?;
    let starts = line_starts(text);
    let (mut out, mut done, mut shift) = (String::with_capacity(text.len() + added), 0, 0);
    for (index, hunk) in hunks.iter().enumerate() {
        let place = Place {
            path,
            text,
            starts: &starts,
            done,
            index,
        };
        let at = place.find(hunk, shift)?;
        shift = at.line as i64 - hunk.line as i64;
        out.push_str(&text[done..at.byte]);
        out.push_str(&hunk.new);
        done = at.byte + hunk.old.len();
    }
    out.push_str(&text[done..]);
    Ok(out)
}

/// Some lines that are to become others.
#[derive(Debug, Default, PartialEq, Eq)]
struct Hunk {
    /// Where its old lines begin, from 0.
    line: usize,
    old: String,
    new: String,
}

/// A place in the old text.
#[derive(Debug, Clone, Copy)]
struct At {
    line: usize,
    byte: usize,
}

/// Where a hunk is looked for.
struct Place<'a> {
    path: &'a RelPath,
    text: &'a str,
    starts: &'a [usize],
    /// What lies before this byte was dealt with by earlier hunks.
    done: usize,
    index: usize,
}

impl Place<'_> {
    /// Where the header says, else where it would be after the shift of the hunk before, else at the only other place.
    fn find(&self, hunk: &Hunk, shift: i64) -> Result<At> {
        let shifted = usize::try_from((hunk.line as i64).saturating_add(shift)).unwrap_or(usize::MAX);
        let near = [hunk.line, shifted]
            .into_iter()
            .find_map(|line| self.fits(hunk, line));
        match near {
            Some(at) => Ok(at),
            None if hunk.old.is_empty() => Err(self.rejected(format!(
                "it has no old lines and goes to line {}, which is not there or already passed",
                hunk.line + 1
            ))),
            None => self.elsewhere(hunk),
        }
    }

    fn fits(&self, hunk: &Hunk, line: usize) -> Option<At> {
        let byte = *self.starts.get(line)?;
        let rest = self.text.get(byte..).filter(|_| byte >= self.done)?;
        let whole = rest.starts_with(&hunk.old) && self.ends_at_line(byte + hunk.old.len());
        // Nothing may follow a line without an end.
        let inside =
            hunk.new.is_empty() || hunk.new.ends_with('\n') || byte + hunk.old.len() == self.text.len();
        (whole && inside && self.is_at_line(byte)).then_some(At { line, byte })
    }

    /// A text whose last line has no end has no line after it to put something at.
    fn is_at_line(&self, byte: usize) -> bool {
        byte == 0 || self.text.as_bytes()[byte - 1] == b'\n'
    }

    fn ends_at_line(&self, byte: usize) -> bool {
        byte == self.text.len() || self.is_at_line(byte)
    }

    /// The only line after the earlier hunks where the old lines are, in linear time.
    fn elsewhere(&self, hunk: &Hunk) -> Result<At> {
        let found = match self.places(&hunk.old).as_slice() {
            [] => return Err(self.rejected(self.first_difference(hunk))),
            [one] => *one,
            _ => {
                return Err(self.rejected(format!(
                    "its old lines are not at line {}, and at several others",
                    hunk.line + 1
                )));
            }
        };
        let line = self.starts.partition_point(|start| *start < found);
        self.fits(hunk, line)
            .ok_or_else(|| self.rejected("it would leave a line without an end inside the text"))
    }

    /// The first two places where these whole lines are.
    fn places(&self, old: &str) -> Vec<usize> {
        if !old.ends_with('\n') {
            // The last line of the text is the only one without an end.
            let at = self.text.len().checked_sub(old.len());
            let fits = |at: &usize| *at >= self.done && self.text.ends_with(old) && self.is_at_line(*at);
            return at.filter(fits).into_iter().collect();
        }
        let needle = format!("\n{old}");
        let first = (self.done == 0 && self.text.starts_with(old)).then_some(0);
        let mut at = self.done.saturating_sub(1);
        let later = std::iter::from_fn(|| {
            at += self.text.get(at..)?.find(&needle)? + 1;
            Some(at)
        });
        first.into_iter().chain(later).take(2).collect()
    }

    fn rejected(&self, reason: impl Into<String>) -> Error {
        Error::PatchRejected {
            path: self.path.clone(),
            hunk: self.index + 1,
            reason: reason.into(),
        }
    }

    /// The first line at the place of the header that is not what the hunk has.
    fn first_difference(&self, hunk: &Hunk) -> String {
        for (offset, wanted) in hunk.old.split_inclusive('\n').enumerate() {
            let line = hunk.line + offset;
            let start = self.starts.get(line).copied().unwrap_or(self.text.len());
            let end = self.starts.get(line + 1).copied().unwrap_or(self.text.len());
            let found = &self.text[start..end];
            if found == wanted {
                continue;
            }
            return difference(line + 1, found, wanted);
        }
        format!(
            "its old lines overlap those of the hunk before (line {})",
            hunk.line + 1
        )
    }
}

fn difference(line: usize, found: &str, wanted: &str) -> String {
    let bare = |text: &str| text.trim_end_matches(['\r', '\n']).to_owned();
    if found.is_empty() {
        return format!(
            "the text ends before line {line}, where the patch has `{}`",
            shown(&bare(wanted))
        );
    }
    if bare(found) == bare(wanted) {
        return format!(
            "line {line} ends with {}, in the patch with {}",
            end_of(found),
            end_of(wanted)
        );
    }
    format!(
        "line {line} is `{}`, the patch has `{}`",
        shown(&bare(found)),
        shown(&bare(wanted))
    )
}

fn end_of(line: &str) -> &'static str {
    match line {
        line if line.ends_with("\r\n") => "CR LF",
        line if line.ends_with('\n') => "LF",
        _ => "the text",
    }
}

/// The beginning of a line, without characters that would show as something else.
fn shown(line: &str) -> String {
    let head = &line[..line.floor_char_boundary(MAX_SHOWN_BYTES)];
    let dots = if head.len() < line.len() { ".." } else { "" };
    format!("{}{dots}", head.escape_debug())
}

/// Where lines begin; also where a line after the last one would.
fn line_starts(text: &str) -> Vec<usize> {
    let ends = text
        .bytes()
        .enumerate()
        .filter(|(_, b)| *b == b'\n')
        .map(|(at, _)| at + 1);
    std::iter::once(0).chain(ends).collect()
}

/// Reads the hunks of a patch of one file; lines before the first hunk are a header.
fn parse(patch: &str) -> Result<Vec<Hunk>> {
    let mut hunks: Vec<Hunk> = Vec::new();
    let mut lines = patch.split_inclusive('\n').enumerate().peekable();
    let mut files = 0;
    while let Some((number, line)) = lines.next() {
        if let Some(header) = line.strip_prefix("@@ -") {
            let (hunk, old, new) = parse_header(number, header)?;
            if hunks.len() == MAX_PATCH_HUNKS {
                return Err(invalid(number, format!("more than {MAX_PATCH_HUNKS} hunks")));
            }
            hunks.push(parse_body(hunk, old, new, &mut lines)?);
        } else if line.starts_with("--- ") || line.starts_with("diff ") && !hunks.is_empty() {
            files += 1;
            if files > 1 || !hunks.is_empty() {
                return Err(invalid(number, "a second file; send a patch for each file"));
            }
        } else if !hunks.is_empty() && !line.trim().is_empty() {
            return Err(invalid(
                number,
                "this is neither a line of the hunk, whose counts are used up, nor a hunk",
            ));
        }
    }
    if hunks.is_empty() {
        return Err(invalid(
            0,
            "no hunk; one begins with `@@ -line,count +line,count @@`",
        ));
    }
    Ok(hunks)
}

fn invalid(line: usize, reason: impl Into<String>) -> Error {
    Error::PatchInvalid {
        line: line + 1,
        reason: reason.into(),
    }
}

/// `a,b +c,d @@`: an empty hunk, and how many old and new lines it has.
fn parse_header(number: usize, header: &str) -> Result<(Hunk, usize, usize)> {
    let bad = || invalid(number, "a hunk begins with `@@ -line,count +line,count @@`");
    let (old, rest) = header.split_once(" +").ok_or_else(bad)?;
    let (new, _) = rest.split_once(" @@").ok_or_else(bad)?;
    let span = |text: &str| -> Option<(usize, usize)> {
        let (line, count) = text.split_once(',').unwrap_or((text, "1"));
        Some((line.parse().ok()?, count.parse().ok()?))
    };
    let ((line, old), (_, new)) = span(old).zip(span(new)).ok_or_else(bad)?;
    // A hunk without old lines names the line before it.
    let line = if old == 0 { line } else { line.saturating_sub(1) };
    let line = i64::try_from(line)
        .ok()
        .and_then(|line| usize::try_from(line).ok())
        .ok_or_else(bad)?;
    let hunk = Hunk {
        line,
        ..Hunk::default()
    };
    Ok((hunk, old, new))
}

/// The lines of a hunk, as many as its header says.
fn parse_body<'p>(
    mut hunk: Hunk,
    mut old: usize,
    mut new: usize,
    lines: &mut std::iter::Peekable<impl Iterator<Item = (usize, &'p str)>>,
) -> Result<Hunk> {
    let mut last = 0;
    while old > 0 || new > 0 {
        let Some((number, line)) = lines.next() else {
            let reason = format!("the hunk ends before its {old} old and {new} new lines that are left");
            return Err(invalid(last, reason));
        };
        last = number + 1;
        let short = || invalid(number, "more lines of this kind than the header of the hunk says");
        let (kind, content) = kind_of(line);
        let ends = lines.peek().is_some_and(|(_, next)| next.starts_with('\\'));
        let content = if ends {
            content.strip_suffix('\n').unwrap_or(content)
        } else {
            content
        };
        if matches!(kind, ' ' | '-') {
            old = old.checked_sub(1).ok_or_else(short)?;
            hunk.old.push_str(content);
        }
        if matches!(kind, ' ' | '+') {
            new = new.checked_sub(1).ok_or_else(short)?;
            hunk.new.push_str(content);
        }
        match kind {
            ' ' | '-' | '+' => {}
            _ => return Err(invalid(number, "a line of a hunk begins with ` `, `-` or `+`")),
        }
        if ends {
            lines.next();
            let whole = (kind == '-' || new == 0) && (kind == '+' || old == 0);
            if !whole {
                return Err(invalid(number + 1, "a line without an end is not the last one"));
            }
        } else if !content.ends_with('\n') {
            return Err(invalid(number, "the last line of the patch has no end"));
        }
    }
    Ok(hunk)
}

/// The first character and the rest; an empty line is an empty line of context whose space was lost.
fn kind_of(line: &str) -> (char, &str) {
    match line.chars().next() {
        Some('\n') => (' ', line),
        Some('\r') if line == "\r\n" => (' ', line),
        Some(kind) => (kind, &line[kind.len_utf8()..]),
        None => (' ', line),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Diff;

    fn apply(text: &str, patch: &str) -> Result<String> {
        apply_patch(&RelPath::parse("t").unwrap(), text, patch, 1 << 20)
    }

    fn why(text: &str, patch: &str) -> String {
        apply(text, patch).unwrap_err().to_string()
    }

    #[test]
    fn a_patch_as_git_writes_it_applies() {
        let patch = "diff --git a/t b/t\nindex 1..2 100644\n--- a/t\n+++ b/t\n@@ -1,3 +1,3 @@ fn main\n a\n-b\n+B\n c\n@@ -7 +7,2 @@\n g\n+h\n";
        assert_eq!(
            apply("a\nb\nc\nd\ne\nf\ng\n", patch).unwrap(),
            "a\nB\nc\nd\ne\nf\ng\nh\n"
        );
        assert_eq!(apply("", "@@ -0,0 +1,2 @@\n+x\n+y\n").unwrap(), "x\ny\n");
        assert_eq!(apply("x\ny\n", "@@ -1,2 +0,0 @@\n-x\n-y\n").unwrap(), "");
    }

    #[test]
    fn ends_of_files_are_kept_exactly() {
        let marked = "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n";
        assert_eq!(apply("a", marked).unwrap(), "b\n");
        assert_eq!(
            why("a\n", marked),
            "hunk 1 of the patch does not apply to `t`: line 1 ends with LF, in the patch with the text"
        );
        let dropped = "@@ -1 +1 @@\n-a\n+b\n\\ No newline at end of file\n";
        assert_eq!(apply("a\n", dropped).unwrap(), "b");
        assert_eq!(apply("a\nc\n", dropped).unwrap_err().code(), "patch_rejected");
        assert!(
            why("a\r\n", "@@ -1 +1 @@\n-a\n+b\n").ends_with("line 1 ends with CR LF, in the patch with LF")
        );
    }

    /// The line numbers of a hunk may be wrong where its old lines are at one place only.
    #[test]
    fn a_hunk_moves_to_the_only_place() {
        let patch = "@@ -9,2 +9,2 @@\n b\n-c\n+C\n";
        assert_eq!(apply("a\nb\nc\n", patch).unwrap(), "a\nb\nC\n");
        assert!(why("b\nc\nb\nc\n", patch).ends_with("not at line 9, and at several others"));
        assert!(why("b\nx\n", patch).ends_with("the text ends before line 9, where the patch has `b`"));
        assert!(why("bb\nc\n", patch).contains("hunk 1"));
        let two = "@@ -3 +3 @@\n-c\n+C\n@@ -1 +1 @@\n-a\n+A\n";
        assert!(why("a\nb\nc\n", two).contains("hunk 2"), "backwards");
        assert!(why("a\n", "@@ -5,0 +6 @@\n+x\n").contains("no old lines"));
    }

    #[test]
    fn what_is_no_patch_says_where() {
        for (patch, line) in [
            ("", 1),
            ("hello\n", 1),
            ("@@ -1 +1 @\n", 1),
            ("@@ -1 +1 @@\n-a\n", 3),
            ("@@ -1 +1 @@\n-a\n+b", 3),
            ("@@ -1 +1 @@\n-a\n-b\n", 3),
            ("@@ -1 +1 @@\n-a\n+b\nrest\n", 4),
            ("@@ -1 +1 @@\n*a\n", 2),
            ("@@ -1 +1 @@\n-a\n+b\n--- a/u\n", 4),
            ("@@ -1 +1 @@\n-a\n+b\ndiff --git a/u b/u\n", 4),
            ("@@ -1,2 +1,2 @@\n a\n\\ No\n b\n", 3),
            ("@@ -99999999999999999999 +1 @@\n-a\n+b\n", 1),
        ] {
            match apply("a\n", patch).unwrap_err() {
                Error::PatchInvalid { line: found, .. } => assert_eq!(found, line, "{patch:?}"),
                other => panic!("{patch:?}: {other}"),
            }
        }
        let far = format!("@@ -{} +1 @@\n-b\n+c\n", i64::MAX);
        assert_eq!(apply("a\n", &far).unwrap_err().code(), "patch_rejected");
    }

    /// Looking at every place of lines that overlap themselves would take hours.
    #[test]
    fn a_hunk_that_is_nearly_everywhere_takes_linear_time() {
        let text = "a\n".repeat(300_000);
        let old = " a\n".repeat(100_000);
        let path = RelPath::parse("t").unwrap();
        let patch = format!("@@ -900000,100001 +1,100000 @@\n{old}-b\n");
        assert!(apply_patch(&path, &text, &patch, 1 << 24).is_err());
        let unended = format!("@@ -900000,100001 +1,100000 @@\n{old}-a\n\\ No newline\n");
        assert!(apply_patch(&path, &text, &unended, 1 << 24).is_err());
    }

    fn cases() -> ProptestConfig {
        let asked = std::env::var("AION_FUZZ_CASES").ok().and_then(|n| n.parse().ok());
        ProptestConfig::with_cases(asked.unwrap_or(512))
    }

    proptest! {
        #![proptest_config(cases())]

        /// The diff from one text to another is a patch that makes the one the other.
        #[test]
        fn a_diff_is_a_patch(old in "([ab]{0,2}\n){0,30}[ab]{0,2}", new in "([ab]{0,2}\n){0,30}[ab]{0,2}") {
            let diff = Diff::between("t", old.as_bytes(), new.as_bytes(), 1 << 20);
            if old != new {
                prop_assert_eq!(apply(&old, &diff.text).unwrap(), new, "{}", diff.text);
            }
        }

        /// Whatever is sent as a patch is answered without a panic, and within the limit.
        #[test]
        fn anything_is_answered(text in "([ab]\n){0,6}a?", patch in "(@@ -[0-4](,[0-3])? \\+[0-4](,[0-3])? @@\n([ +-][ab]\n|\n|\\\\\n){0,5}|.{0,9}\n){0,4}") {
            if let Ok(new) = apply_patch(&RelPath::parse("t").unwrap(), &text, &patch, 64) {
                prop_assert!(new.len() <= 64);
            }
        }
    }
}
