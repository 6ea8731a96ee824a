//! Parts of a content: bytes and lines, in every encoding.

use crate::{Encoding, Etag, Naming, ReadOptions, ReadOutput, ReadRange};

impl ReadOutput {
    /// What a read with these options answers for a file of this content: the range, the size limit, the
    /// encoding and the etag, as every backend must have them.
    ///
    /// ```
    /// use aion_machine::{ReadOptions, ReadOutput, ReadRange};
    /// let second = ReadOptions::default().with_range(ReadRange::Lines { first: 2, count: 1 });
    /// let read = ReadOutput::of(b"one\ntwo\nthree\n".to_vec(), &second);
    /// assert_eq!((read.text_lossy().as_str(), read.size_bytes, read.truncated), ("two\n", 14, true));
    /// ```
    pub fn of(mut whole: Vec<u8>, options: &ReadOptions) -> Self {
        let etag = (options.naming == Naming::Etag).then(|| Etag::of(&whole));
        let (size_bytes, mark) = (whole.len() as u64, Encoding::marked(&whole));
        let (start, end) = span(&whole, options.range, mark);
        let end = end.min(start.saturating_add(options.max_bytes));
        let truncated = end < whole.len();
        whole.truncate(end);
        whole.drain(..start);
        let read = finish(whole, truncated, mark, size_bytes);
        Self { etag, ..read }
    }
}

/// The answer for a part, with its encoding said. It has no etag.
pub(crate) fn finish(
    mut bytes: Vec<u8>,
    truncated: bool,
    mark: Option<Encoding>,
    size_bytes: u64,
) -> ReadOutput {
    if truncated {
        cut_at_character(&mut bytes, mark);
    }
    ReadOutput {
        encoding: mark.unwrap_or_else(|| Encoding::unmarked(&bytes)),
        bytes,
        size_bytes,
        truncated,
        etag: None,
    }
}

/// A character that was cut in two by a limit is not a reason to call a text something else.
fn cut_at_character(bytes: &mut Vec<u8>, mark: Option<Encoding>) {
    if mark.is_some_and(Encoding::is_wide) {
        bytes.truncate(bytes.len() & !1);
    } else if let Err(e) = std::str::from_utf8(bytes)
        && e.error_len().is_none()
        && e.valid_up_to() > 0
    {
        bytes.truncate(e.valid_up_to());
    }
}

/// Where a range begins and ends in a content.
fn span(whole: &[u8], range: ReadRange, mark: Option<Encoding>) -> (usize, usize) {
    match range {
        ReadRange::All => (0, whole.len()),
        ReadRange::Bytes { offset, len } => {
            let clamp = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(whole.len());
            (clamp(offset), clamp(offset.saturating_add(len)))
        }
        ReadRange::Lines { first, count } => {
            let after = |from: usize| match mark {
                Some(Encoding::Utf16Le) => after_wide(whole, from, *b"\n\0"),
                Some(Encoding::Utf16Be) => after_wide(whole, from, *b"\0\n"),
                _ => after_end(whole, from),
            };
            line_span(whole.len(), first.max(1), count, after)
        }
    }
}

/// The bytes of lines `first .. first + count`, counted from 1; `after` says where the next line begins.
fn line_span(len: usize, first: u64, count: u64, after: impl Fn(usize) -> usize) -> (usize, usize) {
    let (mut start, mut at, mut line) = (len, 0, 1);
    let last = first.saturating_add(count);
    while at < len && line < last {
        if line == first {
            start = at;
        }
        at = after(at);
        line += 1;
    }
    (start.min(at), at)
}

fn after_end(whole: &[u8], from: usize) -> usize {
    let end = whole[from..].iter().position(|b| *b == b'\n');
    end.map_or(whole.len(), |n| from + n + 1)
}

fn after_wide(whole: &[u8], from: usize, end: [u8; 2]) -> usize {
    let found = whole[from..].chunks_exact(2).position(|unit| *unit == end);
    found.map_or(whole.len(), |n| from + 2 * n + 2)
}
