//! BM25 over fields, incremental: adding and removing items gives exactly the index that would be
//! built anew.
//!
//! `score = sum_t idf(t) tf'(t) / (k1 + tf'(t))` with
//! `tf'(t) = sum_f w_f tf_f(t) / (1 - b + b len_f / mean len_f)`.
//!
//! # Sources
//! S. Robertson, H. Zaragoza, The probabilistic relevance framework: BM25 and beyond, 2009, section 3.6.

use std::collections::{BTreeMap, BTreeSet};

use crate::item::{Fields, ItemId, Provenance};
use crate::text::terms;

/// Fields of an item that are searched: name, text, parameters, tags.
pub const FIELDS: usize = 4;
/// Words of an unverified item's text that are searched: long texts are how items are smuggled in.
const UNVERIFIED_WORDS: usize = 32;
/// Terms of a query that are looked at.
const MAX_QUERY_TERMS: usize = 512;

/// The parameters of BM25.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bm25 {
    /// How soon more of the same word stops counting.
    pub k1: f64,
    /// How much a long field is held against its words, in `[0, 1]`.
    pub b: f64,
    /// Weight of name, text, parameters and tags.
    pub field_weights: [f64; FIELDS],
}

impl Default for Bm25 {
    /// `k1 = 1.5, b = 0.75`; a word in the name counts twice, in the parameters half.
    fn default() -> Self {
        Self {
            k1: 1.5,
            b: 0.75,
            field_weights: [2.0, 1.0, 0.5, 1.0],
        }
    }
}

type Counts = [u32; FIELDS];

/// The words of the items of one surface.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Index {
    postings: BTreeMap<String, BTreeMap<ItemId, Counts>>,
    entries: BTreeMap<ItemId, Entry>,
    totals: [u64; FIELDS],
}

/// What has to be taken back when an item goes.
#[derive(Debug, Clone, Default, PartialEq)]
struct Entry {
    lengths: Counts,
    terms: Vec<String>,
}

impl Index {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many items it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The ids of its items, in order.
    pub fn ids(&self) -> impl Iterator<Item = &ItemId> {
        self.entries.keys()
    }

    /// Adds an item, or replaces the one of the same id.
    pub fn insert(&mut self, id: &ItemId, fields: &Fields, provenance: Provenance) {
        self.remove(id);
        let mut entry = Entry::default();
        for (term, counts) in count(fields, provenance) {
            for (length, n) in entry.lengths.iter_mut().zip(counts) {
                *length = length.saturating_add(n);
            }
            entry.terms.push(term.clone());
            self.postings.entry(term).or_default().insert(id.clone(), counts);
        }
        for (total, length) in self.totals.iter_mut().zip(entry.lengths) {
            *total += u64::from(length);
        }
        self.entries.insert(id.clone(), entry);
    }

    /// Takes an item out; whether it was there.
    pub fn remove(&mut self, id: &ItemId) -> bool {
        let Some(entry) = self.entries.remove(id) else {
            return false;
        };
        for (total, length) in self.totals.iter_mut().zip(entry.lengths) {
            *total -= u64::from(length);
        }
        for term in &entry.terms {
            let Some(items) = self.postings.get_mut(term) else {
                continue;
            };
            items.remove(id);
            if items.is_empty() {
                self.postings.remove(term);
            }
        }
        true
    }

    /// The items that share a word with the text, each with its score as a share of the best possible
    /// one, in `[0, 1)`.
    pub fn scores(&self, text: &str, bm25: &Bm25) -> BTreeMap<ItemId, f64> {
        let wanted: BTreeSet<String> = terms(text).take(MAX_QUERY_TERMS).collect();
        let mut scores: BTreeMap<&ItemId, f64> = BTreeMap::new();
        let mut best = 0.0;
        for term in &wanted {
            let Some(items) = self.postings.get(term) else {
                continue;
            };
            let idf = self.idf(items.len());
            best += idf;
            for (id, counts) in items {
                let tf = self.weighted_tf(id, counts, bm25);
                *scores.entry(id).or_insert(0.0) += idf * tf / (bm25.k1 + tf);
            }
        }
        scores
            .into_iter()
            .map(|(id, score)| (id.clone(), score / best))
            .collect()
    }

    /// `ln(1 + (N - n + 1/2) / (n + 1/2))`, always above 0.
    fn idf(&self, having: usize) -> f64 {
        let (all, having) = (self.entries.len() as f64, having as f64);
        ((all - having + 0.5) / (having + 0.5)).ln_1p()
    }

    fn weighted_tf(&self, id: &ItemId, counts: &Counts, bm25: &Bm25) -> f64 {
        let lengths = self
            .entries
            .get(id)
            .map(|entry| entry.lengths)
            .unwrap_or_default();
        let items = self.entries.len() as f64;
        (0..FIELDS)
            .filter(|field| counts[*field] > 0)
            .map(|field| {
                let mean = self.totals[field] as f64 / items;
                let norm = 1.0 - bm25.b + bm25.b * f64::from(lengths[field]) / mean;
                bm25.field_weights[field] * f64::from(counts[field]) / norm
            })
            .sum()
    }
}

fn count(fields: &Fields, provenance: Provenance) -> BTreeMap<String, Counts> {
    let mut counted: BTreeMap<String, Counts> = BTreeMap::new();
    let limit = match provenance {
        Provenance::Builtin | Provenance::Verified => usize::MAX,
        Provenance::Unverified => UNVERIFIED_WORDS,
    };
    let tags = fields.tags.join(" ");
    let texts = [&fields.name, &fields.text, &fields.parameters, &tags];
    for (field, text) in texts.into_iter().enumerate() {
        for term in terms(text).take(limit) {
            let n = &mut counted.entry(term).or_default()[field];
            *n = n.saturating_add(1);
        }
    }
    counted
}
