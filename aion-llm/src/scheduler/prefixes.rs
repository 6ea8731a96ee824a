//! Keys and values of texts already read, kept for prompts that begin the same.

use crate::options::PrefixReuse;

/// What a kept text's keys and values must be able to say of themselves.
pub(crate) trait Kept {
    /// Bytes that it takes.
    fn bytes(&self) -> usize;
    /// Forgets all positions from `len` on.
    fn truncate(&mut self, len: usize);
    /// A copy of the first `len` positions.
    fn fork(&self, len: usize) -> Self;
}

/// How much of a text is used again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    pub(crate) reuse: PrefixReuse,
    pub(crate) chunk: usize,
}

impl Rule {
    /// How many tokens of `prompt` can be taken from a text whose first `exact` tokens were computed in whole chunks.
    /// The last token of a prompt always runs, because its logits are wanted.
    pub(crate) fn usable(self, text: &[u32], exact: usize, prompt: &[u32]) -> usize {
        let common = text.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        self.worth(common.min(prompt.len().saturating_sub(1)), exact)
    }

    /// How many of `len` tokens are worth keeping.
    pub(crate) fn worth(self, len: usize, exact: usize) -> usize {
        match self.reuse {
            PrefixReuse::Exact => len.min(exact) / self.chunk * self.chunk,
            PrefixReuse::Longest => len,
            PrefixReuse::Off => 0,
        }
    }
}

/// Kept texts within a bound of bytes; the one used longest ago goes first.
#[derive(Debug)]
pub(crate) struct Prefixes<C> {
    rule: Rule,
    entries: Vec<Entry<C>>,
    uses: u64,
    bytes: usize,
    evictions: u64,
}

#[derive(Debug)]
struct Entry<C> {
    tokens: Vec<u32>,
    exact: usize,
    cache: C,
    used: u64,
}

impl<C: Kept> Prefixes<C> {
    pub(crate) fn new(rule: Rule) -> Self {
        Self {
            rule,
            entries: Vec::new(),
            uses: 0,
            bytes: 0,
            evictions: 0,
        }
    }

    /// Texts kept.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of all kept texts.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Texts that were dropped to stay within the bound.
    pub(crate) fn evictions(&self) -> u64 {
        self.evictions
    }

    /// How many tokens of a prompt the best kept text has.
    pub(crate) fn usable(&self, prompt: &[u32]) -> usize {
        self.best(prompt).map_or(0, |(usable, _)| usable)
    }

    /// A copy of the beginning of the best kept text: its tokens in the cache, and how many of them are exact.
    pub(crate) fn fork(&mut self, prompt: &[u32]) -> Option<(usize, usize, C)> {
        let (usable, i) = self.best(prompt)?;
        self.uses += 1;
        let entry = &mut self.entries[i];
        entry.used = self.uses;
        Some((usable, entry.exact.min(usable), entry.cache.fork(usable)))
    }

    fn best(&self, prompt: &[u32]) -> Option<(usize, usize)> {
        let usable = |entry: &Entry<C>| self.rule.usable(&entry.tokens, entry.exact, prompt);
        let lengths = self.entries.iter().map(usable).zip(0..);
        lengths
            .filter(|(usable, _)| *usable > 0)
            .max_by_key(|(usable, _)| *usable)
    }

    /// Keeps a text, its first `exact` tokens computed in whole chunks, and lets others go until all fit `limit`
    /// bytes. Of two texts of which one is the beginning of the other only the longer stays.
    pub(crate) fn keep(&mut self, mut tokens: Vec<u32>, exact: usize, mut cache: C, limit: usize) {
        tokens.truncate(self.rule.worth(tokens.len(), exact));
        self.uses += 1;
        if tokens.is_empty() || self.touch_longer(&tokens) {
            return self.shrink(limit);
        }
        let shorter = |entry: &Entry<C>| tokens.starts_with(&entry.tokens);
        self.bytes -= self
            .entries
            .iter()
            .filter(|e| shorter(e))
            .map(|e| e.cache.bytes())
            .sum::<usize>();
        self.entries.retain(|entry| !shorter(entry));
        cache.truncate(tokens.len());
        self.bytes += cache.bytes();
        self.entries.push(Entry {
            exact: exact.min(tokens.len()),
            tokens,
            cache,
            used: self.uses,
        });
        self.shrink(limit);
    }

    /// Whether a kept text begins with these tokens; it then counts as used.
    fn touch_longer(&mut self, tokens: &[u32]) -> bool {
        let uses = self.uses;
        let longer = self
            .entries
            .iter_mut()
            .find(|entry| entry.tokens.starts_with(tokens));
        longer.map(|entry| entry.used = uses).is_some()
    }

    /// Drops the texts used longest ago until the rest fits.
    pub(crate) fn shrink(&mut self, limit: usize) {
        while self.bytes > limit {
            let Some(oldest) = (0..self.entries.len()).min_by_key(|i| self.entries[*i].used) else {
                return;
            };
            self.bytes -= self.entries.swap_remove(oldest).cache.bytes();
            self.evictions += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Ten bytes a position, and 7 whatever it holds.
    #[derive(Debug, Clone)]
    struct Fake(usize);

    impl Kept for Fake {
        fn bytes(&self) -> usize {
            7 + 10 * self.0
        }

        fn truncate(&mut self, len: usize) {
            self.0 = self.0.min(len);
        }

        fn fork(&self, len: usize) -> Self {
            assert!(len <= self.0, "a fork of {len} of {}", self.0);
            Self(len)
        }
    }

    fn prefixes(reuse: PrefixReuse) -> Prefixes<Fake> {
        Prefixes::new(Rule { reuse, chunk: 4 })
    }

    fn keep(prefixes: &mut Prefixes<Fake>, text: &[u32], exact: usize, limit: usize) {
        prefixes.keep(text.to_vec(), exact, Fake(text.len()), limit);
    }

    const TEXT: [u32; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

    #[test]
    fn each_rule_takes_what_it_may() {
        let usable = |reuse, prompt: &[u32]| {
            let mut prefixes = prefixes(reuse);
            keep(&mut prefixes, &TEXT, 8, 1000);
            prefixes.fork(prompt).map_or(0, |(usable, _, cache)| {
                assert_eq!(cache.0, usable);
                usable
            })
        };
        assert_eq!(usable(PrefixReuse::Exact, &TEXT), 8);
        assert_eq!(
            usable(PrefixReuse::Exact, &TEXT[..8]),
            4,
            "the last token always runs"
        );
        assert_eq!(usable(PrefixReuse::Exact, &[1, 2, 3, 4, 5, 6, 99, 8]), 4);
        assert_eq!(usable(PrefixReuse::Longest, &TEXT), 9);
        assert_eq!(usable(PrefixReuse::Longest, &[1, 2, 3, 99]), 3);
        assert_eq!(usable(PrefixReuse::Off, &TEXT), 0);
        assert_eq!(usable(PrefixReuse::Longest, &[99]), 0);
    }

    #[test]
    fn of_a_text_and_its_beginning_the_longer_stays() {
        let mut prefixes = prefixes(PrefixReuse::Longest);
        keep(&mut prefixes, &TEXT[..6], 4, 1000);
        keep(&mut prefixes, &TEXT, 8, 1000);
        keep(&mut prefixes, &TEXT[..3], 0, 1000);
        assert_eq!(
            (prefixes.len(), prefixes.bytes(), prefixes.evictions()),
            (1, 107, 0)
        );
    }

    #[test]
    fn the_one_used_longest_ago_goes_first() {
        let mut prefixes = prefixes(PrefixReuse::Longest);
        let texts = [[1, 1, 1], [2, 2, 2], [3, 3, 3]];
        texts.iter().for_each(|text| keep(&mut prefixes, text, 0, 1000));
        assert!(prefixes.fork(&[1, 1, 1, 1]).is_some());
        prefixes.shrink(2 * 37);
        assert_eq!((prefixes.len(), prefixes.evictions()), (2, 1));
        let left = texts.map(|text| prefixes.usable(&[text[0]; 4]));
        assert_eq!(left, [3, 0, 3]);
    }

    proptest! {
        /// Bytes are those of what is kept and never over the bound; what is found is a beginning of the prompt; no
        /// text is kept beside one that it begins.
        #[test]
        fn the_books_are_right(
            texts in proptest::collection::vec((proptest::collection::vec(0u32..3, 1..14), 0usize..14, 0usize..400), 1..30),
            longest: bool,
        ) {
            let mut prefixes = prefixes(if longest { PrefixReuse::Longest } else { PrefixReuse::Exact });
            for (text, exact, limit) in &texts {
                let exact = (*exact).min(text.len()) / 4 * 4;
                if let Some((usable, exact, cache)) = prefixes.fork(text) {
                    prop_assert!(usable < text.len() && cache.0 == usable && exact <= usable);
                    prop_assert!(prefixes.entries.iter().any(|entry| entry.tokens.starts_with(&text[..usable])));
                }
                keep(&mut prefixes, text, exact, *limit);
                prop_assert!(prefixes.bytes() <= *limit);
                prop_assert_eq!(prefixes.bytes(), prefixes.entries.iter().map(|e| e.cache.bytes()).sum::<usize>());
                for (i, a) in prefixes.entries.iter().enumerate() {
                    prop_assert_eq!(a.cache.0, a.tokens.len());
                    prop_assert!(prefixes.entries.iter().enumerate().all(|(j, b)| i == j || !b.tokens.starts_with(&a.tokens)));
                }
            }
        }
    }
}
