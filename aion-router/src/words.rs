//! The words of a query, taken apart once for all surfaces, and the keys by which names are found in a text.

use crate::text::{hash_of, mix, terms};

/// Words of a text in which names are looked for.
const MAX_TEXT_WORDS: usize = 4_096;
/// Words by which a name is looked up.
const NAME_WORDS: usize = 8;
/// Terms of a query that are looked at.
const MAX_QUERY_TERMS: usize = 512;

/// What is looked up of a query's text.
#[derive(Debug)]
pub(crate) struct QueryWords {
    /// Each once, in order.
    pub(crate) terms: Vec<String>,
    /// The keys of all names that could stand in it.
    pub(crate) names: Vec<u64>,
}

impl QueryWords {
    pub(crate) fn new(text: &str) -> Self {
        let words: Vec<String> = terms(text).take(MAX_TEXT_WORDS).collect();
        let mut names = vec![NameKey::EMPTY.0];
        for start in 0..words.len() {
            let mut key = NameKey::EMPTY;
            for word in words[start..].iter().take(NAME_WORDS) {
                key = key.and(word);
                names.push(key.0);
            }
        }
        names.sort_unstable();
        names.dedup();
        Self {
            terms: query_terms(words.into_iter()),
            names,
        }
    }
}

/// The terms of a query that are looked at, each once, in order.
pub(crate) fn query_terms(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut words: Vec<String> = words.take(MAX_QUERY_TERMS).collect();
    words.sort_unstable();
    words.dedup();
    words
}

/// The key of a name: a digest of its first words. Two names can share one.
#[derive(Debug, Clone, Copy)]
struct NameKey(u64);

impl NameKey {
    const EMPTY: Self = Self(0);

    fn and(self, word: &str) -> Self {
        Self(mix(self.0.rotate_left(17) ^ hash_of(word.as_bytes())))
    }
}

/// The key by which a name is looked up.
pub(crate) fn key_of(name: &str) -> u64 {
    let words = terms(name).take(NAME_WORDS);
    words.fold(NameKey::EMPTY, |key, word| key.and(&word)).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_the_words_they_begin_with() {
        let words = QueryWords::new("please call read_file, then the otherTool");
        for name in ["read_file", "ReadFile", "other tool", "call", "", "?!"] {
            assert!(words.names.contains(&key_of(name)), "{name}");
        }
        for name in ["file read", "readfile", "read_files now"] {
            assert!(!words.names.contains(&key_of(name)), "{name}");
        }
        assert_eq!(
            words.terms,
            ["call", "file", "other", "please", "read", "the", "then", "tool"]
        );
    }
}
