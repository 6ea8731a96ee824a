//! BM25 over fields, incremental: adding and removing items gives exactly the scores that an index
//! built anew would give.
//!
//! `score = sum_t idf(t) tf'(t) / (k1 + tf'(t))` with
//! `tf'(t) = sum_f w_f tf_f(t) / (1 - b + b len_f / mean len_f)`, as a share of the best possible score: of an item in
//! which every word stood often. Words that no item has count for half of the rarest there.
//!
//! # Sources
//! S. Robertson, H. Zaragoza, The probabilistic relevance framework: BM25 and beyond, 2009, section 3.6.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use crate::item::{Fields, ItemId, Provenance, UNVERIFIED_WORDS};
use crate::slots::Slots;
use crate::sweep::add_scaled;
use crate::text::terms;
use crate::vector::Best;
use crate::words::query_terms;

/// Fields of an item that are searched: name, text, parameters, tags.
pub const FIELDS: usize = 4;

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
    /// `k1 = 0.5, b = 0.75`; a word in the name counts twice.
    fn default() -> Self {
        Self {
            k1: 0.5,
            b: 0.75,
            field_weights: [2.0, 1.0, 1.0, 1.0],
        }
    }
}

/// How often a word stands in each field; 255 is "very often".
type Counts = [u8; FIELDS];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Posting {
    slot: u32,
    counts: Counts,
}

/// The items that have a word.
#[derive(Debug, Clone, Default)]
struct List {
    /// Its place among the lists.
    number: usize,
    /// Rising by slot.
    postings: Vec<Posting>,
}

/// What a word of a query that no item has counts for, as a share of the rarest word that there can be: who has the
/// only word of ten that is known says little.
const UNKNOWN: f64 = 0.5;

/// Where one item in so many has a word, all are gone through: that is faster than to go from one to the next.
const OFTEN: usize = 8;

/// What a word is worth to items, but for its rarity.
#[derive(Debug, Clone)]
enum Worths {
    /// To those that have it.
    Few(Box<[Impact]>),
    /// By slot, 0 for those that do not.
    All(Box<[f32]>),
}

/// What a word is worth to the item of a slot.
#[derive(Debug, Clone, Copy)]
struct Impact {
    slot: u32,
    worth: f32,
}

/// The words of the items of one surface.
#[derive(Debug, Clone, Default)]
pub struct Index {
    slots: Slots,
    postings: HashMap<String, List>,
    /// Places of lists that are gone.
    free: Vec<usize>,
    /// What has to be taken back when the item of a slot goes.
    entries: Vec<Entry>,
    totals: [u64; FIELDS],
    scales: OnceLock<Scales>,
}

#[derive(Debug, Clone, Default)]
struct Entry {
    lengths: [u32; FIELDS],
    terms: Vec<String>,
}

/// By slot, what one occurrence in each field is worth; as the mean lengths are now.
#[derive(Debug, Clone)]
struct Scales {
    bm25: Bm25,
    rows: Vec<[f32; FIELDS]>,
    /// By the number of a list, made when the word is first asked for.
    worths: Vec<OnceLock<Worths>>,
}

impl Index {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many items it has.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ids of its items, in order.
    pub fn ids(&self) -> impl Iterator<Item = &ItemId> {
        self.slots.iter().map(|(id, _)| id)
    }

    pub(crate) const fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Adds an item, or replaces the one of the same id.
    pub fn insert(&mut self, id: &ItemId, fields: &Fields, provenance: Provenance) {
        self.remove(id);
        self.scales.take();
        let slot = self.slots.take(id);
        let mut entry = Entry::default();
        for (term, counts) in count(fields, provenance) {
            for (length, n) in entry.lengths.iter_mut().zip(counts) {
                *length += u32::from(n);
            }
            let numbers = self.postings.len() + self.free.len();
            let list = self.postings.entry(term.clone()).or_insert_with(|| List {
                number: self.free.pop().unwrap_or(numbers),
                postings: Vec::new(),
            });
            let list = &mut list.postings;
            let at = list.partition_point(|posting| (posting.slot as usize) < slot);
            list.insert(
                at,
                Posting {
                    slot: slot as u32,
                    counts,
                },
            );
            entry.terms.push(term);
        }
        for (total, length) in self.totals.iter_mut().zip(entry.lengths) {
            *total += u64::from(length);
        }
        self.entries.resize(self.slots.capacity(), Entry::default());
        self.entries[slot] = entry;
    }

    /// Takes an item out; whether it was there.
    pub fn remove(&mut self, id: &ItemId) -> bool {
        let Some(slot) = self.slots.leave(id) else {
            return false;
        };
        self.scales.take();
        let entry = std::mem::take(&mut self.entries[slot]);
        for (total, length) in self.totals.iter_mut().zip(entry.lengths) {
            *total -= u64::from(length);
        }
        for term in &entry.terms {
            let Some(list) = self.postings.get_mut(term) else {
                continue;
            };
            let at = list
                .postings
                .partition_point(|posting| (posting.slot as usize) < slot);
            list.postings.remove(at);
            if list.postings.is_empty() {
                self.free.push(list.number);
                self.postings.remove(term);
            }
        }
        true
    }

    /// The items that share a word with the text, each with its score as a share of the best possible
    /// one, in `[0, 1)`.
    pub fn scores(&self, text: &str, bm25: &Bm25) -> BTreeMap<ItemId, f64> {
        let mut column = Vec::new();
        self.scores_into(&query_terms(terms(text)), bm25, &mut column);
        let found = self.slots.by_slot().filter(|(slot, _)| column[*slot] > 0.0);
        found
            .map(|(slot, id)| (id.clone(), f64::from(column[slot])))
            .collect()
    }

    /// The `k` items with the highest scores, best first, ties in the order in which they came.
    ///
    /// ```
    /// use aion_router::index::{Bm25, Index};
    /// use aion_router::{Item, Provenance, Surface};
    ///
    /// let mut index = Index::new();
    /// for (name, text) in [("read", "Reads a file"), ("send", "Sends a message")] {
    ///     let item = Item::new(Surface::Tool, name, text)?;
    ///     index.insert(item.id(), item.fields(), Provenance::Builtin);
    /// }
    /// let best = index.best("a message to send", &Bm25::default(), 1);
    /// assert_eq!(best[0].0.as_str(), "tool:send");
    /// # Ok::<(), aion_router::Error>(())
    /// ```
    pub fn best(&self, text: &str, bm25: &Bm25, k: usize) -> Vec<(&ItemId, f32)> {
        let mut column = Vec::new();
        self.scores_into(&query_terms(terms(text)), bm25, &mut column);
        let mut best = Best::new(k);
        best.offer_positive(&column);
        let found = best.into_sorted().into_iter();
        found
            .filter_map(|found| Some((self.slots.id(found.slot)?, found.score)))
            .collect()
    }

    /// The scores by slot for these terms: 0 for items that have none of them.
    pub(crate) fn scores_into(&self, terms: &[String], bm25: &Bm25, out: &mut Vec<f32>) {
        out.clear();
        out.resize(self.slots.capacity(), 0.0);
        let own;
        let cached = self.scales.get_or_init(|| self.scales(bm25));
        let scales = if cached.bm25 == *bm25 {
            cached
        } else {
            own = self.scales(bm25);
            &own
        };
        let lists = terms.iter().filter_map(|term| self.postings.get(term.as_str()));
        let lists: Vec<(&List, f64)> = lists.map(|list| (list, self.idf(list.postings.len()))).collect();
        let unknown = (terms.len() - lists.len()) as f64 * self.idf(0);
        let best = lists.iter().map(|(_, idf)| idf).sum::<f64>() + UNKNOWN * unknown;
        for (list, idf) in lists {
            let share = (idf / best) as f32;
            match scales.worths(list) {
                Worths::All(worths) => add_scaled(share, worths, out),
                Worths::Few(impacts) => {
                    for impact in impacts {
                        out[impact.slot as usize] += share * impact.worth;
                    }
                }
            }
        }
    }

    /// `ln(1 + (N - n + 1/2) / (n + 1/2))`, always above 0.
    fn idf(&self, having: usize) -> f64 {
        let (all, having) = (self.len() as f64, having as f64);
        ((all - having + 0.5) / (having + 0.5)).ln_1p()
    }

    fn scales(&self, bm25: &Bm25) -> Scales {
        let items = self.len().max(1) as f64;
        let means = self
            .totals
            .map(|total| (total as f64 / items).max(f64::MIN_POSITIVE));
        let row = |entry: &Entry| {
            std::array::from_fn(|field| {
                let norm = 1.0 - bm25.b + bm25.b * f64::from(entry.lengths[field]) / means[field];
                (bm25.field_weights[field] / norm) as f32
            })
        };
        Scales {
            bm25: *bm25,
            rows: self.entries.iter().map(row).map(finite).collect(),
            worths: vec![OnceLock::new(); self.postings.len() + self.free.len()],
        }
    }

    /// What it holds, whatever the order in which it came.
    fn content(&self) -> BTreeMap<&str, BTreeMap<&ItemId, Counts>> {
        let of_list = |list: &List| {
            let pairs = list
                .postings
                .iter()
                .map(|posting| (posting.slot as usize, posting.counts));
            pairs
                .filter_map(|(slot, counts)| Some((self.slots.id(slot)?, counts)))
                .collect()
        };
        let lists = self.postings.iter();
        lists.map(|(term, list)| (term.as_str(), of_list(list))).collect()
    }
}

impl Scales {
    fn worths(&self, list: &List) -> &Worths {
        self.worths[list.number].get_or_init(|| {
            let postings = list.postings.iter();
            if list.postings.len() * OFTEN < self.rows.len() {
                let impact = |posting: &Posting| Impact {
                    slot: posting.slot,
                    worth: self.worth(posting),
                };
                return Worths::Few(postings.map(impact).collect());
            }
            let mut all = vec![0.0; self.rows.len()];
            postings.for_each(|posting| all[posting.slot as usize] = self.worth(posting));
            Worths::All(all.into())
        })
    }

    fn worth(&self, posting: &Posting) -> f32 {
        let scale = &self.rows[posting.slot as usize];
        let counts = posting.counts.map(f32::from);
        let tf =
            (counts[0] * scale[0] + counts[1] * scale[1]) + (counts[2] * scale[2] + counts[3] * scale[3]);
        tf / (self.bm25.k1 as f32 + tf)
    }
}

impl PartialEq for Index {
    fn eq(&self, other: &Self) -> bool {
        self.totals == other.totals && self.content() == other.content() && self.ids().eq(other.ids())
    }
}

/// An empty field has a length of 0 and, with `b = 1`, no norm: none of its words is ever counted.
fn finite(row: [f32; FIELDS]) -> [f32; FIELDS] {
    row.map(|scale| if scale.is_finite() { scale } else { 0.0 })
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
