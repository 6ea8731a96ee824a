//! Vocabularies of SentencePiece's pair encoding: pieces with scores, from which the merges follow.
//!
//! # Sources
//! T. Kudo, J. Richardson, "SentencePiece" (2018): of all neighbours that join to a piece those with the highest score
//! are joined first, the leftmost of equals; so two pieces merge whenever what they join to is a piece, at the rank of
//! its score.

use super::pairs::{Pair, Vocabulary};
use crate::error::{Error, Result};

/// The longest piece: every place where it can be cut is tried.
const MAX_PIECE_BYTES: usize = 1024;

/// Kinds of `tokenizer.ggml.token_type` that merges neither make nor take.
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const BYTE: i64 = 6;

/// What merges work on. Without `kinds` every piece is an ordinary one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pieces<'a> {
    pub(super) tokens: &'a [String],
    pub(super) kinds: &'a [i64],
    pub(super) scores: &'a [f64],
    /// The token for what has no other, where the file says so.
    pub(super) unknown: Option<u32>,
}

impl Pieces<'_> {
    /// The token for what has no other.
    pub(super) fn unknown(&self) -> Option<u32> {
        let first = || self.kinds.iter().position(|kind| *kind == UNKNOWN);
        let at = self.unknown.or_else(|| u32::try_from(first()?).ok());
        at.filter(|id| (*id as usize) < self.tokens.len())
    }

    /// Every pair of pieces that joins to a piece.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for scores that are missing or no numbers, and for a piece that is too long.
    pub(super) fn pairs(&self, vocabulary: &Vocabulary) -> Result<Vec<Pair>> {
        let ranks = self.ranks()?;
        let mut pairs = Vec::new();
        for (id, token) in (0..).zip(self.tokens) {
            if !self.merges(id) || vocabulary.id(token) != Some(id) {
                continue;
            }
            if token.len() > MAX_PIECE_BYTES {
                let reason = format!("a piece of {} bytes, the limit is {MAX_PIECE_BYTES}", token.len());
                return Err(Error::Tokenizer(reason));
            }
            let cuts = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
            pairs.extend(cuts.filter_map(|(left, right)| {
                let part = |text: &str| vocabulary.id(text).filter(|id| self.merges(*id));
                Some(Pair {
                    left: part(left)?,
                    right: part(right)?,
                    joined: id,
                    rank: ranks[id as usize],
                })
            }));
        }
        Ok(pairs)
    }

    fn merges(&self, id: u32) -> bool {
        let kind = self.kinds.get(id as usize);
        !kind.is_some_and(|kind| matches!(*kind, UNKNOWN | CONTROL | USER_DEFINED | BYTE))
    }

    /// The place of each score among all, the highest first; equal ones share it.
    fn ranks(&self) -> Result<Vec<u32>> {
        if self.scores.len() != self.tokens.len() || self.scores.iter().any(|score| score.is_nan()) {
            return Err(Error::Tokenizer(format!(
                "`tokenizer.ggml.scores` must be {} numbers",
                self.tokens.len()
            )));
        }
        let mut sorted = self.scores.to_vec();
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        sorted.dedup();
        let rank = |score: &f64| sorted.partition_point(|other| other > score) as u32;
        Ok(self.scores.iter().map(rank).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_join_ordinary_pieces_at_the_rank_of_the_score() {
        let tokens = ["<unk>", "a", "b", "ab", "aab", "<0x41>", "ba", "aaa"].map(str::to_owned);
        let kinds = [2, 1, 1, 1, 1, 6, 3, 1];
        let scores = [0.0, -9.0, -9.0, -1.0, -2.0, 0.0, -0.5, -2.0];
        let pieces = Pieces {
            tokens: &tokens,
            kinds: &kinds,
            scores: &scores,
            unknown: None,
        };
        let vocabulary = Vocabulary::new(&tokens).unwrap();
        let pairs = pieces.pairs(&vocabulary).unwrap();
        let pair = |left, right, joined, rank| Pair {
            left,
            right,
            joined,
            rank,
        };
        // `aaa` has no two parts, and `ba` is no ordinary piece.
        assert_eq!(pairs, [pair(1, 2, 3, 2), pair(1, 3, 4, 3)]);
        assert_eq!(pieces.unknown(), Some(0));
    }

    #[test]
    fn what_cannot_be_scored_is_an_error() {
        let tokens = ["a".to_owned(), "é".repeat(513)];
        let vocabulary = Vocabulary::new(&tokens).unwrap();
        for scores in [&[0.0][..], &[0.0, f64::NAN], &[0.0, 1.0]] {
            let pieces = Pieces {
                tokens: &tokens,
                kinds: &[],
                scores,
                unknown: Some(2),
            };
            assert_eq!(pieces.unknown(), None);
            assert!(matches!(pieces.pairs(&vocabulary), Err(Error::Tokenizer(_))));
        }
    }
}
