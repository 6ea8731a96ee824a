//! One surface ranked: features by column, profiles as distributions, and the candidates among which the
//! budget chooses.

use std::collections::BTreeMap;

use aion_types::TaskId;
use rayon::prelude::*;

use crate::bound::Bound;
use crate::catalog::{Catalog, Shelf};
use crate::columns::{Columns, Distribution, Split};
use crate::feature::{FEATURES, Feature, Weights};
use crate::history::History;
use crate::index::Bm25;
use crate::item::{Item, ItemId, Surface};
use crate::past::Vote;
use crate::profile::{PROFILES, Profile};
use crate::query::{Query, SurfaceBudget};
use crate::text::names;
use crate::vector::Quantized;

/// Recent items that count.
const MAX_RECENT: usize = 64;
/// Items that are looked at closely at least.
const MIN_CANDIDATES: usize = 128;
/// Fewer items than this are ranked faster than a second thread wakes up.
const PARALLEL_FROM: usize = 4_096;
/// Bits of two signatures that may differ between near duplicates.
const NEAR_BITS: u32 = 3;

/// What a ranking is made from.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) query: &'a Query,
    pub(crate) vector: Option<&'a Quantized>,
    pub(crate) bm25: &'a Bm25,
    /// The weights without learning.
    pub(crate) fixed: &'a Weights,
    pub(crate) learned: Option<Learned<'a>>,
    /// Items that a rule wants, with its name.
    pub(crate) ruled: BTreeMap<&'a ItemId, &'a str>,
}

/// What was learned.
#[derive(Debug)]
pub(crate) struct Learned<'a> {
    pub(crate) history: &'a History,
    pub(crate) bound: &'a BTreeMap<Surface, Bound>,
    /// What past queries say, by surface and slot.
    pub(crate) votes: Votes<'a>,
}

pub(crate) type Votes<'a> = BTreeMap<&'a Surface, BTreeMap<usize, Vote>>;

/// An item looked at closely.
#[derive(Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) item: &'a Item,
    pub(crate) row: [f64; FEATURES],
    pub(crate) p: [f64; PROFILES],
    /// The probability that it is the one needed.
    pub(crate) q: f64,
    /// What the mixture adds to the learned logit.
    pub(crate) mixture: f64,
    pub(crate) unverified: bool,
    pub(crate) named: bool,
    pub(crate) rule: Option<&'a str>,
    pub(crate) nearest: Option<(Option<TaskId>, f32)>,
}

/// A surface ranked.
#[derive(Debug)]
pub(crate) struct Ranked<'a> {
    pub(crate) weights: Weights,
    /// Best first, ties by id.
    pub(crate) candidates: Vec<Candidate<'a>>,
    pub(crate) items: usize,
    pub(crate) full_tokens: u64,
    pub(crate) strangers: usize,
    pub(crate) none: [f64; PROFILES],
    pub(crate) rest: [f64; PROFILES],
    pub(crate) expected: [f64; FEATURES],
}

impl<'a> Sources<'a> {
    /// Ranks the surfaces of the query, on several threads where there is much to do.
    pub(crate) fn rank_all(&self) -> Vec<Option<Ranked<'a>>> {
        let surfaces = &self.query.surfaces;
        let rank = |budget: &SurfaceBudget| self.rank(&budget.surface, budget.max_items);
        let shelves = surfaces
            .iter()
            .filter_map(|budget| self.catalog.shelf(&budget.surface));
        let items: usize = shelves.map(|shelf| shelf.words.slots().len()).sum();
        if items < PARALLEL_FROM {
            return surfaces.iter().map(rank).collect();
        }
        surfaces.par_iter().map(rank).collect()
    }

    /// Ranks a surface; `None` if it never had an item.
    pub(crate) fn rank(&self, surface: &Surface, max_items: usize) -> Option<Ranked<'a>> {
        let shelf = self.catalog.shelf(surface)?;
        let slots = shelf.words.slots();
        let named = self.named(shelf);
        let votes = self
            .learned
            .as_ref()
            .and_then(|learned| learned.votes.get(surface));
        let columns = self.columns(surface, shelf, &named, votes);
        let (weights, mixture) = self.weights(surface);
        let distributions: Vec<Distribution> = Profile::ALL
            .iter()
            .zip(mixture)
            .filter(|(_, weight)| *weight > 0.0)
            .map(|(profile, _)| columns.softmax(&profile.weights(self.fixed, &weights), &shelf.is_here))
            .collect();
        let mut q = vec![0.0; columns.len()];
        let used = mixture.iter().filter(|weight| **weight > 0.0);
        for (distribution, weight) in distributions.iter().zip(used) {
            distribution.add_to(*weight, &mut q);
        }
        let musts = named.iter().chain(&shelf.pinned).copied();
        let musts = musts.chain(self.ruled.keys().filter_map(|id| slots.get(id)));
        let wanted = MIN_CANDIDATES.max(2 * max_items);
        let chosen = closest(shelf, &q, wanted, musts);
        let rows: Vec<[f64; FEATURES]> = chosen.iter().map(|slot| columns.row(*slot)).collect();
        let splits = Splits::new(&distributions, &mixture, &chosen, &rows);
        let expected = columns.mean(&distributions[0]);
        let mut candidates: Vec<Candidate<'a>> = Vec::with_capacity(chosen.len());
        for (i, slot) in chosen.iter().enumerate() {
            let Some(item) = shelf.items[*slot].as_deref() else {
                continue;
            };
            candidates.push(Candidate {
                item,
                row: rows[i],
                p: splits.p(i),
                q: splits.q(i, &mixture),
                mixture: splits.mixture_term(i, &mixture),
                unverified: shelf.unverified[*slot],
                named: named.contains(slot),
                rule: self.ruled.get(item.id()).copied(),
                nearest: votes.and_then(|votes| votes.get(slot)).map(|vote| vote.nearest),
            });
        }
        candidates.sort_by(|a, b| b.q.total_cmp(&a.q).then_with(|| a.item.id().cmp(b.item.id())));
        collapse(shelf, &mut candidates);
        Some(Ranked {
            weights,
            candidates,
            items: slots.len(),
            full_tokens: shelf.full_tokens,
            strangers: shelf.strangers,
            none: splits.none(),
            rest: splits.rest(),
            expected,
        })
    }

    /// The learned weights and those of the profiles; without learning, the fixed ones alone.
    fn weights(&self, surface: &Surface) -> (Weights, [f64; PROFILES]) {
        let mut alone = [0.0; PROFILES];
        alone[Profile::Learned.index()] = 1.0;
        match &self.learned {
            None => (*self.fixed, alone),
            Some(learned) => (learned.history.weights(surface), learned.history.mixture(surface)),
        }
    }

    /// The slots of items that the query names.
    fn named(&self, shelf: &Shelf) -> Vec<usize> {
        let mut found: Vec<usize> = shelf.nameable(&self.query.text);
        found.retain(|slot| {
            let item = shelf.items[*slot].as_deref();
            item.is_some_and(|item| {
                names(&self.query.text, &item.fields().name) || names(&self.query.text, item.id().as_str())
            })
        });
        found.sort_unstable();
        found.dedup();
        found
    }

    fn columns(
        &self,
        surface: &Surface,
        shelf: &Shelf,
        named: &[usize],
        votes: Option<&BTreeMap<usize, Vote>>,
    ) -> Columns {
        let slots = shelf.words.slots();
        let mut columns = Columns::new(slots.capacity());
        columns.fill(Feature::Lexical, |column| {
            shelf.words.scores_into(&self.query.text, self.bm25, column);
        });
        if let Some(vector) = self.vector {
            columns.fill(Feature::Semantic, |column| {
                shelf.vectors.cosines_into(vector, column);
            });
        }
        named
            .iter()
            .for_each(|slot| columns.set(Feature::Named, *slot, 1.0));
        for (place, id) in self.query.recent.iter().take(MAX_RECENT).enumerate().rev() {
            if let Some(slot) = slots.get(id) {
                columns.set(Feature::Recent, slot, 1.0 / (place + 1) as f32);
            }
        }
        if shelf.strangers > 0 {
            for (slot, unverified) in shelf.unverified.iter().enumerate().filter(|(_, is)| **is) {
                columns.set(Feature::Unverified, slot, f32::from(u8::from(*unverified)));
            }
        }
        for (slot, vote) in votes.into_iter().flatten() {
            columns.set(Feature::Past, *slot, vote.strength());
        }
        match &self.learned {
            Some(learned) => self.history_columns(learned, surface, shelf, &mut columns),
            // Without history the usage of an item is that of its description.
            None => {
                let semantic = columns.column(Feature::Semantic).to_vec();
                columns.fill(Feature::Usage, |column| *column = semantic);
            }
        }
        columns
    }

    fn history_columns(
        &self,
        learned: &Learned<'_>,
        surface: &Surface,
        shelf: &Shelf,
        columns: &mut Columns,
    ) {
        let slots = shelf.words.slots();
        let bound = learned.bound.get(surface);
        if let Some(vector) = self.vector {
            let semantic = columns.column(Feature::Semantic).to_vec();
            let lift = learned.history.lift(surface) as f32;
            columns.fill(Feature::Usage, |column| {
                usage_into(bound, vector, &semantic, &shelf.unverified, lift, column);
            });
        }
        if let Some(bound) = bound.filter(|bound| bound.is_used()) {
            columns.fill(Feature::New, |column| {
                bound.newness_into(&shelf.unverified, column);
            });
            columns.fill(Feature::Popular, |column| {
                bound.popularity_into(&shelf.unverified, column);
            });
        }
        for (place, leader) in self.query.recent.iter().take(3).enumerate().rev() {
            for (id, share) in learned.history.followers(leader) {
                if let Some(slot) = slots.get(id) {
                    let before = columns.column(Feature::CoUsed).get(slot).copied().unwrap_or(0.0);
                    let share = share as f32 / (place + 1) as f32;
                    columns.set(Feature::CoUsed, slot, before.max(share));
                }
            }
        }
    }
}

/// The similarity to what used an item; for one that nothing used, that to its description, raised as usage
/// raises it elsewhere if somebody vouches for it.
fn usage_into(
    bound: Option<&Bound>,
    vector: &Quantized,
    semantic: &[f32],
    unverified: &[bool],
    lift: f32,
    column: &mut Vec<f32>,
) {
    column.clear();
    if let Some(bound) = bound {
        bound.usage.cosines_into(vector, column);
    }
    column.resize(semantic.len(), 0.0);
    for (slot, x) in column.iter_mut().enumerate() {
        let warm = bound.is_some_and(|bound| bound.usage.has(slot));
        if !warm {
            let lifted = if unverified[slot] { 0.0 } else { lift };
            *x = semantic[slot] + lifted;
        }
    }
}

/// The slots of the `wanted` most likely items, ties by id, and of those that must be looked at; the most likely first.
fn closest(shelf: &Shelf, q: &[f32], wanted: usize, musts: impl Iterator<Item = usize>) -> Vec<usize> {
    let slots = shelf.words.slots();
    let mut chosen: Vec<usize> = if slots.len() <= wanted {
        slots.iter().map(|(_, slot)| slot).collect()
    } else {
        let bar = nth_largest(q, &shelf.is_here, wanted);
        let above = slots.by_slot().filter(|(slot, _)| q[*slot] > bar);
        let mut chosen: Vec<usize> = above.map(|(slot, _)| slot).collect();
        let left = wanted - chosen.len();
        let ties = slots.by_slot().filter(|(slot, _)| q[*slot] == bar);
        let mut ties: Vec<usize> = ties.map(|(slot, _)| slot).collect();
        if ties.len() > left {
            ties.sort_unstable_by_key(|slot| slots.id(*slot));
        }
        chosen.extend(ties.into_iter().take(left));
        chosen
    };
    chosen.extend(musts);
    // Ids are texts: they are compared only where the numbers are equal.
    chosen.sort_unstable_by(|a, b| {
        q[*b]
            .total_cmp(&q[*a])
            .then_with(|| slots.id(*a).cmp(&slots.id(*b)))
    });
    chosen.dedup();
    chosen
}

fn nth_largest(q: &[f32], is_here: &[bool], n: usize) -> f32 {
    let mut here: Vec<f32> = q
        .iter()
        .zip(is_here)
        .filter(|(_, here)| **here)
        .map(|(q, _)| *q)
        .collect();
    let (_, bar, _) = here.select_nth_unstable_by(n - 1, |a, b| b.total_cmp(a));
    *bar
}

/// Takes out what nobody vouches for and says nearly the same as something better placed or vouched for.
fn collapse(shelf: &Shelf, candidates: &mut Vec<Candidate<'_>>) {
    if shelf.strangers == 0 {
        return;
    }
    let signature = |candidate: &Candidate<'_>| {
        let slot = shelf.words.slots().get(candidate.item.id());
        slot.map_or(0, |slot| shelf.signatures[slot])
    };
    let vouched = candidates.iter().filter(|candidate| !candidate.unverified);
    let mut kept: Vec<u64> = vouched.map(signature).collect();
    candidates.retain(|candidate| {
        if !candidate.unverified || candidate.must() {
            return true;
        }
        let own = signature(candidate);
        let is_copy = own != 0 && kept.iter().any(|other| (other ^ own).count_ones() <= NEAR_BITS);
        if !is_copy {
            kept.push(own);
        }
        !is_copy
    });
}

/// Every profile's distribution over the candidates, none, and the rest.
struct Splits {
    by_profile: [Option<Split>; PROFILES],
    candidates: usize,
}

impl Splits {
    fn new(
        distributions: &[Distribution],
        mixture: &[f64; PROFILES],
        slots: &[usize],
        rows: &[[f64; FEATURES]],
    ) -> Self {
        let mut given = distributions.iter();
        let by_profile = std::array::from_fn(|i| {
            let distribution = if mixture[i] > 0.0 { given.next() } else { None };
            distribution.map(|distribution| distribution.split(slots, rows))
        });
        Self {
            by_profile,
            candidates: slots.len(),
        }
    }

    fn each(&self, of: impl Fn(&Split) -> f64) -> [f64; PROFILES] {
        std::array::from_fn(|i| self.by_profile[i].as_ref().map_or(0.0, &of))
    }

    fn p(&self, i: usize) -> [f64; PROFILES] {
        debug_assert!(i < self.candidates);
        self.each(|split| split.of[i])
    }

    fn none(&self) -> [f64; PROFILES] {
        self.each(|split| split.none)
    }

    fn rest(&self) -> [f64; PROFILES] {
        self.each(|split| split.rest)
    }

    fn q(&self, i: usize, mixture: &[f64; PROFILES]) -> f64 {
        blend(&self.p(i), mixture)
    }

    /// What the mixture's logit of an item, beside none, has beyond that of the learned weights.
    fn mixture_term(&self, i: usize, mixture: &[f64; PROFILES]) -> f64 {
        let learned = self.by_profile[Profile::Learned.index()].as_ref();
        let alone = mixture.iter().filter(|weight| **weight > 0.0).count() == 1;
        let (false, Some(learned)) = (alone, learned) else {
            return 0.0;
        };
        let mixed = self.q(i, mixture) / blend(&self.none(), mixture);
        let term = mixed.ln() - learned.logits[i];
        if term.is_finite() { term } else { 0.0 }
    }
}

fn blend(p: &[f64; PROFILES], mixture: &[f64; PROFILES]) -> f64 {
    p.iter().zip(mixture).map(|(p, weight)| p * weight).sum()
}
