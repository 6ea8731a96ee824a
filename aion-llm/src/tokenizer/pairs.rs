//! Byte-pair encoding by ids: which tokens a word becomes when its neighbours are merged, best merge first.
//!
//! The texts of all tokens lie in one string, and the tables hold ids: fifty thousand tokens and as many merges take
//! 3 MB and some milliseconds to build, where a table of strings takes several times both.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use crate::error::{Error, Result, shown};

/// The texts of tokens, and the id of each text.
#[derive(Debug)]
pub(super) struct Vocabulary {
    texts: String,
    /// Where each token's text ends.
    ends: Vec<u32>,
    ids: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Vocabulary {
    /// The position of a text is its id; of equal texts the last one's.
    pub(super) fn new<T: AsRef<str>>(tokens: &[T]) -> Result<Self> {
        let bytes = tokens.iter().map(|token| token.as_ref().len()).sum();
        if u32::try_from(bytes).is_err() || u32::try_from(tokens.len()).is_err() {
            return Err(Error::Tokenizer(format!("tokens of {bytes} bytes together")));
        }
        let mut vocabulary = Self {
            texts: String::with_capacity(bytes),
            ends: Vec::with_capacity(tokens.len()),
            ids: HashTable::with_capacity(tokens.len()),
            hasher: DefaultHashBuilder::default(),
        };
        tokens.iter().for_each(|token| vocabulary.push(token.as_ref()));
        Ok(vocabulary)
    }

    fn push(&mut self, token: &str) {
        let id = self.ends.len() as u32;
        self.texts.push_str(token);
        self.ends.push(self.texts.len() as u32);
        let Self {
            texts,
            ends,
            ids,
            hasher,
        } = self;
        let same = |id: &u32| text(texts, ends, *id) == Some(token);
        let hash = |id: &u32| hasher.hash_one(text(texts, ends, *id).unwrap_or_default());
        match ids.entry(hasher.hash_one(token), same, hash) {
            Entry::Occupied(mut place) => *place.get_mut() = id,
            Entry::Vacant(place) => {
                place.insert(id);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn text(&self, id: u32) -> Option<&str> {
        text(&self.texts, &self.ends, id)
    }

    pub(super) fn id(&self, wanted: &str) -> Option<u32> {
        let same = |id: &u32| self.text(*id) == Some(wanted);
        self.ids.find(self.hasher.hash_one(wanted), same).copied()
    }
}

fn text<'a>(texts: &'a str, ends: &[u32], id: u32) -> Option<&'a str> {
    let end = *ends.get(id as usize)? as usize;
    let start = id
        .checked_sub(1)
        .map_or(0, |before| ends[before as usize] as usize);
    texts.get(start..end)
}

/// What two neighbours become, and how early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Merge {
    rank: u32,
    id: u32,
}

/// Two tokens and the rank at which they are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) left: u32,
    pub(super) right: u32,
    pub(super) joined: u32,
    pub(super) rank: u32,
}

/// Whether a word that is a token is one without merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WholeWords {
    Merged,
    AsTheyAre,
}

/// A vocabulary with its merges.
#[derive(Debug)]
pub(super) struct Pairs {
    pub(super) vocabulary: Vocabulary,
    merges: HashMap<(u32, u32), Merge>,
    whole_words: WholeWords,
    /// The tokens `<0x00>` to `<0xFF>`, for characters without a token.
    bytes: Vec<Option<u32>>,
    /// What a character becomes that has no token and no bytes; neighbours become one.
    unknown: Option<u32>,
}

/// A part of a word that is a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) id: u32,
    /// Bytes of the word.
    pub(super) len: u32,
    before: u32,
    after: u32,
}

const NONE: u32 = u32::MAX;

impl Pairs {
    pub(super) fn new(vocabulary: Vocabulary, pairs: Vec<Pair>, whole_words: WholeWords) -> Self {
        let merge = |pair: Pair| {
            let merge = Merge {
                rank: pair.rank,
                id: pair.joined,
            };
            ((pair.left, pair.right), merge)
        };
        Self {
            vocabulary,
            merges: pairs.into_iter().map(merge).collect(),
            whole_words,
            bytes: Vec::new(),
            unknown: None,
        }
    }

    /// Spells a character without a token by the tokens of its bytes, or else as `unknown`.
    pub(super) fn with_fallback(mut self, unknown: Option<u32>) -> Self {
        let id = |byte: u8| self.vocabulary.id(&format!("<0x{byte:02X}>"));
        self.bytes = (0..=u8::MAX).map(id).collect();
        self.unknown = unknown;
        self
    }

    /// The merges of a list of `left right`, in its order.
    pub(super) fn listed(vocabulary: &Vocabulary, merges: &[String]) -> impl Iterator<Item = Result<Pair>> {
        let mut joined = String::new();
        merges.iter().zip(0..).map(move |(merge, rank)| {
            let pair = merge.split_once(' ');
            let (left, right) =
                pair.ok_or_else(|| Error::Tokenizer(format!("merge `{}` is no pair", shown(merge))))?;
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            let id = |text: &str| {
                let missing = || Error::Tokenizer(format!("`{}` of a merge is no token", shown(text)));
                vocabulary.id(text).ok_or_else(missing)
            };
            Ok(Pair {
                left: id(left)?,
                right: id(right)?,
                joined: id(&joined)?,
                rank,
            })
        })
    }

    /// The tokens of a word. A character that has none is left out, as the library and llama.cpp do: byte-level
    /// vocabularies that were trained on clean text lack some bytes.
    pub(super) fn pieces(&self, word: &str) -> Vec<Piece> {
        if self.whole_words == WholeWords::AsTheyAre
            && let Some(id) = self.vocabulary.id(word)
        {
            return vec![Piece {
                id,
                len: word.len() as u32,
                before: NONE,
                after: NONE,
            }];
        }
        let mut pieces = self.characters(word);
        self.merge(&mut pieces);
        pieces
    }

    fn characters(&self, word: &str) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::with_capacity(word.len());
        let mut add = |id: u32, len: u32| {
            let at = pieces.len() as u32;
            match pieces.last_mut() {
                // Neighbours without a token are one.
                Some(last) if self.unknown == Some(id) && last.id == id => last.len += len,
                last => {
                    let before = last.map_or(NONE, |last| {
                        last.after = at;
                        at - 1
                    });
                    pieces.push(Piece {
                        id,
                        len,
                        before,
                        after: NONE,
                    });
                }
            }
        };
        let mut utf8 = [0; 4];
        for c in word.chars() {
            let text: &str = c.encode_utf8(&mut utf8);
            if let Some(id) = self.vocabulary.id(text) {
                add(id, text.len() as u32);
                continue;
            }
            let byte = |byte: u8| self.bytes.get(usize::from(byte)).copied().flatten();
            match (text.bytes().map(byte).collect::<Option<Vec<u32>>>(), self.unknown) {
                (Some(ids), _) => ids.into_iter().for_each(|id| add(id, 1)),
                (None, Some(id)) => add(id, text.len() as u32),
                (None, None) => {}
            }
        }
        pieces
    }

    /// Merges the best pair, the leftmost of equals, as long as there is one.
    fn merge(&self, pieces: &mut Vec<Piece>) {
        let found = |pieces: &[Piece], at: u32| {
            let piece = pieces[at as usize];
            let after = pieces.get(piece.after as usize)?;
            let merge = self.merges.get(&(piece.id, after.id))?;
            Some(Reverse((merge.rank, at, merge.id)))
        };
        let starts = 0..pieces.len() as u32;
        let mut queue: BinaryHeap<_> = starts.filter_map(|at| found(pieces, at)).collect();
        while let Some(Reverse((_, at, id))) = queue.pop() {
            let piece = pieces[at as usize];
            // What was queued may be gone, or have other neighbours by now.
            let still = piece.len > 0 && found(pieces, at).is_some_and(|Reverse((.., now))| now == id);
            if !still {
                continue;
            }
            let right = pieces[piece.after as usize];
            pieces[piece.after as usize].len = 0;
            if let Some(next) = pieces.get_mut(right.after as usize) {
                next.before = at;
            }
            let merged = &mut pieces[at as usize];
            (merged.id, merged.len, merged.after) = (id, piece.len + right.len, right.after);
            queue.extend(found(pieces, at));
            if piece.before != NONE {
                queue.extend(found(pieces, piece.before));
            }
        }
        pieces.retain(|piece| piece.len > 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::Model as _;
    use tokenizers::models::bpe::{BPE, Vocab};

    use super::*;

    /// Characters, and what merges of them give: each merge joins two tokens that are there already.
    fn tokens_and_merges(choices: &[(usize, usize)]) -> (Vec<String>, Vec<String>) {
        let mut tokens: Vec<String> = ["a", "b", "c", "é", "<"].map(str::to_owned).to_vec();
        tokens.extend(
            (0..=u8::MAX)
                .filter(|byte| *byte != 0xE2)
                .map(|byte| format!("<0x{byte:02X}>")),
        );
        let mut mergeable: Vec<String> = tokens[..5].to_vec();
        let mut merges = Vec::new();
        for (left, right) in choices {
            let pick = |i: usize| mergeable[i % mergeable.len()].clone();
            let (left, right) = (pick(*left), pick(*right));
            let joined = format!("{left}{right}");
            merges.push(format!("{left} {right}"));
            if !tokens.contains(&joined) {
                mergeable.push(joined.clone());
                tokens.push(joined);
            }
        }
        (tokens, merges)
    }

    fn library(tokens: &[String], merges: &[String], fallback: bool) -> BPE {
        let vocabulary: Vocab = tokens.iter().cloned().zip(0..).collect();
        let pairs = merges.iter().map(|merge| {
            let (left, right) = merge.split_once(' ').unwrap();
            (left.to_owned(), right.to_owned())
        });
        BPE::builder()
            .vocab_and_merges(vocabulary, pairs.collect())
            .byte_fallback(fallback)
            .build()
            .unwrap()
    }

    fn ours(tokens: &[String], merges: &[String]) -> Pairs {
        let vocabulary = Vocabulary::new(tokens).unwrap();
        let listed = Pairs::listed(&vocabulary, merges).collect::<Result<_>>().unwrap();
        Pairs::new(vocabulary, listed, WholeWords::Merged)
    }

    proptest! {
        /// Any merges, any word: the ids and lengths are the library's.
        #[test]
        fn words_are_cut_as_the_library_cuts_them(
            choices in proptest::collection::vec((0usize..40, 0usize..40), 0..60),
            word in "[abcé<]{0,40}",
            odd in "[abcé<xüΩ]{0,20}",
        ) {
            let (tokens, merges) = tokens_and_merges(&choices);
            let theirs = |bpe: &BPE, word: &str| -> Vec<(u32, u32)> {
                let tokens = bpe.tokenize(word).unwrap();
                tokens.iter().map(|t| (t.id, (t.offsets.1 - t.offsets.0) as u32)).collect()
            };
            let pieces = |pairs: &Pairs, word: &str| -> Vec<(u32, u32)> {
                pairs.pieces(word).iter().map(|piece| (piece.id, piece.len)).collect()
            };
            let pairs = ours(&tokens, &merges);
            prop_assert_eq!(pieces(&pairs, &word), theirs(&library(&tokens, &merges, false), &word));
            let pairs = pairs.with_fallback(None);
            prop_assert_eq!(pieces(&pairs, &odd), theirs(&library(&tokens, &merges, true), &odd));
        }
    }

    #[test]
    fn what_has_no_token_is_left_out_or_one_unknown() {
        let (tokens, merges) = tokens_and_merges(&[(0, 1)]);
        let pairs = ours(&tokens, &merges);
        let left: Vec<_> = pairs
            .pieces("€a€b")
            .iter()
            .map(|piece| (piece.id, piece.len))
            .filter(|(_, len)| *len > 0)
            .collect();
        let theirs = library(&tokens, &merges, false).tokenize("€a€b").unwrap();
        assert_eq!(
            left.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
            theirs.iter().map(|t| t.id).collect::<Vec<_>>()
        );
        assert!(pairs.pieces("€").is_empty());
        // The first byte of `€` is the one without a token here.
        let pairs = pairs.with_fallback(Some(4));
        let ids = |word: &str| -> Vec<(u32, u32)> {
            pairs
                .pieces(word)
                .iter()
                .map(|piece| (piece.id, piece.len))
                .collect()
        };
        assert_eq!(
            ids("ab€€a"),
            [(pairs.vocabulary.id("ab").unwrap(), 2), (4, 6), (0, 1)]
        );
    }

    #[test]
    fn merges_that_contradict_the_vocabulary_are_errors() {
        let vocabulary = Vocabulary::new(&["a", "b", "a"]).unwrap();
        assert_eq!(
            (vocabulary.id("a"), vocabulary.text(0), vocabulary.len()),
            (Some(2), Some("a"), 3)
        );
        for merge in ["ab", "a c", "a b"] {
            let pair = Pairs::listed(&vocabulary, &[merge.to_owned()]).next().unwrap();
            assert!(matches!(pair, Err(Error::Tokenizer(_))), "{merge}");
        }
    }
}
