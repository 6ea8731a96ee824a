//! How often each token stands in a corpus: the counts behind the unigram reference.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::tokenizer::{Specials, Tokenizer};

/// Text is cut into pieces of about this many bytes, at the ends of lines where there are any.
const PIECE_BYTES: usize = 1 << 20;

/// A file of counts is refused above this size.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// How often each token of a vocabulary stands in a text.
///
/// ```
/// use aion_llm::UnigramCounts;
/// let mut counts = UnigramCounts::new(3);
/// counts.add(&[0, 2, 2]);
/// // One is added to each count, so that every token has a finite code length: -ln((c + 1) / (N + V)).
/// let nats = counts.code_lengths();
/// assert!((nats[2] - 2f64.ln()).abs() < 1e-12 && (nats[1] - 6f64.ln()).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnigramCounts {
    counts: Vec<u64>,
}

impl UnigramCounts {
    /// No text yet.
    #[must_use]
    pub fn new(vocab_size: usize) -> Self {
        Self {
            counts: vec![0; vocab_size],
        }
    }

    /// The count of each token.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Tokens counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Tokens that were seen at least once.
    #[must_use]
    pub fn distinct(&self) -> usize {
        self.counts.iter().filter(|n| **n > 0).count()
    }

    /// Counts tokens; those outside the vocabulary are left out.
    pub fn add(&mut self, tokens: &[u32]) {
        for token in tokens {
            if let Some(count) = self.counts.get_mut(*token as usize) {
                *count += 1;
            }
        }
    }

    /// Counts the tokens of a text file, special tokens spelled out; `on_bytes` hears how many bytes each step took.
    /// Bytes that are not UTF-8 count as `U+FFFD`.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Tokenizer`] when a character has no token.
    pub fn add_file(
        &mut self,
        tokenizer: &Tokenizer,
        path: &Path,
        on_bytes: &mut dyn FnMut(usize),
    ) -> Result<()> {
        let file = File::open(path).map_err(Error::io(path))?;
        let mut pieces = Pieces::new(BufReader::with_capacity(1 << 16, file));
        while let Some(piece) = pieces.next().map_err(Error::io(path))? {
            let text = String::from_utf8_lossy(&piece);
            self.add(&tokenizer.encode(&text, Specials::AsText)?);
            on_bytes(piece.len());
        }
        Ok(())
    }

    /// `-ln((c + 1) / (N + V))` of every token, in nats.
    #[must_use]
    pub fn code_lengths(&self) -> Vec<f64> {
        let all: f64 = self.counts.iter().map(|count| *count as f64 + 1.0).sum();
        let length = |count: &u64| -((*count as f64 + 1.0) / all).ln();
        self.counts.iter().map(length).collect()
    }

    /// Reads a file that [`UnigramCounts::write`] wrote.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Config`] when it is not such a file.
    pub fn read(path: &Path) -> Result<Self> {
        let len = std::fs::metadata(path).map_err(Error::io(path))?.len();
        if len > MAX_FILE_BYTES {
            return Err(Error::Config(format!(
                "unigram counts of {len} bytes, the limit is {MAX_FILE_BYTES}"
            )));
        }
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        serde_json::from_str(&text).map_err(|error| Error::Config(format!("unigram counts: {error}")))
    }

    /// Writes the counts as `{"counts": [...]}`, in one step.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(self).map_err(|error| Error::Config(error.to_string()))?;
        let mut file = crate::fresh_file::FreshFile::create(path)?;
        file.write_all(text.as_bytes()).map_err(Error::io(path))?;
        file.replace()
    }
}

/// A text in pieces that end with a line, or at least between two characters.
struct Pieces<R> {
    reader: R,
    rest: Vec<u8>,
}

impl<R: Read> Pieces<R> {
    fn new(reader: R) -> Self {
        Self {
            reader,
            rest: Vec::new(),
        }
    }

    fn next(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut piece = std::mem::take(&mut self.rest);
        let wanted = PIECE_BYTES.saturating_sub(piece.len()) as u64;
        let read = self.reader.by_ref().take(wanted).read_to_end(&mut piece)?;
        if piece.is_empty() {
            return Ok(None);
        }
        if (read as u64) == wanted {
            self.rest = piece.split_off(cut(&piece));
        }
        Ok(Some(piece))
    }
}

/// Where to cut a piece that may go on: behind the last line, else behind the last whole character, else at the end.
fn cut(piece: &[u8]) -> usize {
    if let Some(at) = piece.iter().rposition(|byte| *byte == b'\n') {
        return at + 1;
    }
    let start = piece
        .iter()
        .rposition(|byte| byte & 0xC0 != 0x80)
        .unwrap_or(piece.len());
    if start == 0 || piece.len() - start > 4 {
        piece.len()
    } else {
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut pieces = Pieces::new(bytes);
        std::iter::from_fn(|| pieces.next().unwrap()).collect()
    }

    #[test]
    fn pieces_end_with_lines_and_lose_nothing() {
        let text = "a line of some length\n".repeat(PIECE_BYTES / 10);
        let cut = pieces(text.as_bytes());
        assert!(cut.len() > 1 && cut.iter().all(|piece| piece.ends_with(b"\n")));
        assert_eq!(cut.concat(), text.as_bytes());
        let one_line = "é".repeat(PIECE_BYTES);
        let cut = pieces(one_line.as_bytes());
        assert!(cut.iter().all(|piece| std::str::from_utf8(piece).is_ok()));
        assert_eq!(cut.concat(), one_line.as_bytes());
        let broken = vec![0x80; PIECE_BYTES * 2 + 5];
        assert_eq!(pieces(&broken).concat(), broken);
        assert!(pieces(b"").is_empty());
    }

    #[test]
    fn counts_survive_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("unigram.json");
        let mut counts = UnigramCounts::new(5);
        counts.add(&[1, 1, 4, 9]);
        counts.write(&path).unwrap();
        let read = UnigramCounts::read(&path).unwrap();
        assert_eq!(
            (read.counts(), read.total(), read.distinct()),
            (&[0, 2, 0, 0, 1][..], 3, 2)
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(UnigramCounts::read(&path), Err(Error::Config(_))));
    }
}
