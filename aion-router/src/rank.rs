//! One surface ranked: features by column, profiles as distributions, and the candidates among which the
//! budget chooses.

use std::collections::BTreeMap;

use aion_types::TaskId;
use rayon::prelude::*;

use crate::bound::Bound;
use crate::catalog::{Catalog, Shelf};
use crate::columns::{Columns, Distribution, Here, Split};
use crate::feature::{FEATURES, Feature, Weights};
use crate::floats::Floats;
use crate::history::History;
use crate::index::Bm25;
use crate::item::{Item, ItemId, Surface};
use crate::past::Vote;
use crate::profile::{PROFILES, Profile};
use crate::query::{Query, SurfaceBudget};
use crate::sweep::at_least;
use crate::text::names;
use crate::vector::{Asked, Best, Sight};
use crate::words::QueryWords;

/// Recent items that count.
const MAX_RECENT: usize = 64;
/// Items that are looked at closely at least.
const MIN_CANDIDATES: usize = 128;
/// Fewer items than this are ranked faster than a second thread wakes up.
const PARALLEL_FROM: usize = 4_096;
/// The vectors of fewer items than this are near in any case, so all of them are looked at closely.
const ROUGH_FROM: usize = 4_096;
/// Bits of two signatures that may differ between near duplicates.
const NEAR_BITS: u32 = 3;

/// What a ranking is made from.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) query: &'a Query,
    /// The words of its text.
    pub(crate) words: QueryWords,
    /// The slots of the items that it could name, by surface.
    pub(crate) nameable: BTreeMap<&'a Surface, Vec<usize>>,
    /// Its embedding.
    pub(crate) asked: Option<Asked>,
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
    pub(crate) id: &'a ItemId,
    pub(crate) item: &'a Item,
    /// What its renderings cost.
    pub(crate) costs: &'a [u32],
    pub(crate) row: [f64; FEATURES],
    pub(crate) p: [f64; PROFILES],
    /// The probability that it is the one needed.
    pub(crate) q: f64,
    /// What the mixture adds to the learned logit.
    pub(crate) mixture: f64,
    /// What a model adds to it that read the item.
    pub(crate) read: f64,
    pub(crate) unverified: bool,
    pub(crate) pinned: bool,
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
    /// The probability of none, as the candidates' `q`.
    pub(crate) q_none: f64,
    pub(crate) none: [f64; PROFILES],
    pub(crate) rest: [f64; PROFILES],
    pub(crate) expected: [f64; FEATURES],
}

impl Ranked<'_> {
    /// Counts what reading some of the candidates says: the mixture's order is that of its logits with it. The profiles'
    /// probabilities stay as they are, and with them what weights are learned from and what the holdout serves.
    pub(crate) fn read(&mut self, readings: &BTreeMap<&ItemId, f64>) {
        let before: f64 = self.candidates.iter().map(|candidate| candidate.q).sum();
        let mut sum = (1.0 - before).max(self.q_none);
        for candidate in &mut self.candidates {
            if let Some(logit) = readings.get(candidate.id) {
                candidate.read = *logit;
                candidate.q *= logit.exp();
            }
            sum += candidate.q;
        }
        let scale = 1.0 / sum;
        self.q_none *= scale;
        for candidate in &mut self.candidates {
            candidate.q *= scale;
        }
        self.candidates
            .sort_by(|a, b| b.q.total_cmp(&a.q).then_with(|| a.id.cmp(b.id)));
    }
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
        let named = self.named(surface, shelf);
        let votes = self
            .learned
            .as_ref()
            .and_then(|learned| learned.votes.get(surface));
        let wanted = MIN_CANDIDATES.max(max_items.saturating_mul(2));
        let sight = if slots.len() <= wanted.max(ROUGH_FROM) {
            Sight::Close
        } else {
            Sight::Rough
        };
        let mut columns = self.columns(surface, shelf, &named, votes, sight);
        let (weights, mixture) = self.weights(surface);
        let here = Here {
            is_here: &shelf.is_here,
            count: slots.len(),
        };
        let distributions: Vec<Distribution> = Profile::ALL
            .iter()
            .zip(mixture)
            .filter(|(_, weight)| *weight > 0.0)
            .map(|(profile, _)| columns.softmax(&profile.weights(self.fixed, &weights), here))
            .collect();
        let mut q = Floats::new();
        q.resize(columns.len(), 0.0);
        let used = mixture.iter().filter(|weight| **weight > 0.0);
        for (distribution, weight) in distributions.iter().zip(used) {
            distribution.add_to(*weight, &mut q);
        }
        let musts = named.iter().chain(&shelf.pinned).copied();
        let musts = musts.chain(self.ruled.keys().filter_map(|id| slots.get(id)));
        let chosen = closest(shelf, &q, wanted, musts);
        chosen.iter().for_each(|slot| shelf.ask_for(*slot));
        let expected = columns.mean(&distributions[0]);
        if sight == Sight::Rough {
            self.look_closely(surface, shelf, &chosen, &mut columns);
        }
        let rows = columns.rows(&chosen);
        let splits = Splits::new(&distributions, &mixture, &chosen, &rows);
        let mut order: Vec<(f64, usize)> = (0..chosen.len()).map(|i| (splits.q(i, &mixture), i)).collect();
        order.sort_unstable_by(|a, b| {
            let ids = || slots.id(chosen[a.1]).cmp(&slots.id(chosen[b.1]));
            b.0.total_cmp(&a.0).then_with(ids)
        });
        let mut candidates: Vec<Candidate<'a>> = Vec::with_capacity(chosen.len());
        for (q, i) in order {
            let slot = chosen[i];
            let (Some(id), Some(item)) = (slots.id(slot), shelf.items[slot].as_deref()) else {
                continue;
            };
            candidates.push(Candidate {
                id,
                item,
                costs: shelf.costs(slot),
                row: rows[i],
                p: splits.p(i),
                q,
                mixture: splits.mixture_term(i, &mixture),
                read: 0.0,
                unverified: shelf.unverified[slot],
                pinned: shelf.pinned.contains(&slot),
                named: named.contains(&slot),
                rule: self.ruled.get(id).copied(),
                nearest: votes.and_then(|votes| votes.get(&slot)).map(|vote| vote.nearest),
            });
        }
        collapse(shelf, &mut candidates);
        Some(Ranked {
            weights,
            candidates,
            items: slots.len(),
            full_tokens: shelf.full_tokens,
            q_none: blend(&splits.none(), &mixture),
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
    fn named(&self, surface: &Surface, shelf: &Shelf) -> Vec<usize> {
        let mut found = self.nameable.get(surface).cloned().unwrap_or_default();
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
        shelf: &'a Shelf,
        named: &[usize],
        votes: Option<&BTreeMap<usize, Vote>>,
        sight: Sight,
    ) -> Columns<'a> {
        let slots = shelf.words.slots();
        let mut columns = Columns::new(slots.capacity());
        columns.fill(Feature::Lexical, |column| {
            shelf.words.scores_into(&self.words.terms, self.bm25, column);
        });
        if let Some(asked) = &self.asked {
            columns.fill(Feature::Semantic, |column| {
                shelf.vectors.seen_into(asked, sight, column);
            });
        }
        columns.few(Feature::Named, named.iter().map(|slot| (*slot, 1.0)).collect());
        let recent = self.query.recent.iter().take(MAX_RECENT).enumerate().rev();
        let recent = recent.filter_map(|(place, id)| Some((slots.get(id)?, 1.0 / (place + 1) as f32)));
        columns.few(Feature::Recent, recent.collect());
        if shelf.strangers > 0 {
            columns.fill(Feature::Unverified, |column| {
                column.extend(shelf.unverified.iter().map(|is| f32::from(u8::from(*is))));
            });
        }
        let past = votes.into_iter().flatten();
        columns.few(
            Feature::Past,
            past.map(|(slot, vote)| (*slot, vote.strength())).collect(),
        );
        self.usage_column(surface, shelf, sight, &mut columns);
        if let Some(learned) = &self.learned {
            self.history_columns(learned, surface, shelf, &mut columns);
        }
        columns
    }

    /// The similarity to what used an item; for one that nothing used, that to its description, raised as usage raises
    /// it elsewhere if somebody vouches for it. Without history the usage of an item is that of its description.
    fn usage_column(&self, surface: &Surface, shelf: &Shelf, sight: Sight, columns: &mut Columns<'a>) {
        let Some(asked) = &self.asked else { return };
        let mut usage = Floats::new();
        let (bound, lift) = self.usage_of(surface);
        usage.extend_from_slice(columns.column(Feature::Semantic));
        if shelf.strangers == 0 {
            usage.iter_mut().for_each(|x| *x += lift);
        } else {
            let vouched = usage.iter_mut().zip(&shelf.unverified).filter(|(_, is)| !**is);
            vouched.for_each(|(x, _)| *x += lift);
        }
        if let Some(bound) = bound {
            bound.usage.seen(asked, sight, |slot, cosine| {
                if let Some(usage) = usage.get_mut(slot) {
                    *usage = cosine;
                }
            });
        }
        columns.keep(Feature::Usage, usage);
    }

    /// The usage vectors of a surface, and by how much usage raises similarity.
    fn usage_of(&self, surface: &Surface) -> (Option<&'a Bound>, f32) {
        self.learned.as_ref().map_or((None, 0.0), |learned| {
            (learned.bound.get(surface), learned.history.lift(surface) as f32)
        })
    }

    /// Sees the similarities of these slots to 8 bits where they were seen roughly.
    fn look_closely(&self, surface: &Surface, shelf: &Shelf, chosen: &[usize], columns: &mut Columns<'_>) {
        let Some(asked) = &self.asked else { return };
        let (bound, lift) = self.usage_of(surface);
        let usage = bound.map(|bound| &bound.usage);
        let is_warm = |slot: usize| usage.is_some_and(|usage| usage.has(slot));
        if !shelf.vectors.are_few() {
            let seen: Vec<usize> = chosen
                .iter()
                .copied()
                .filter(|slot| shelf.vectors.has(*slot))
                .collect();
            shelf.vectors.cosines_at(asked, &seen, |slot, cosine| {
                columns.correct(Feature::Semantic, slot, cosine);
                if !is_warm(slot) {
                    let lifted = if shelf.unverified[slot] { 0.0 } else { lift };
                    columns.correct(Feature::Usage, slot, cosine + lifted);
                }
            });
        }
        if let Some(usage) = usage.filter(|usage| usage.sight(Sight::Rough) == Sight::Rough) {
            usage.seen_at(asked, chosen, |slot, cosine| {
                columns.correct(Feature::Usage, slot, cosine);
            });
        }
    }

    fn history_columns(
        &self,
        learned: &Learned<'a>,
        surface: &Surface,
        shelf: &Shelf,
        columns: &mut Columns<'a>,
    ) {
        let slots = shelf.words.slots();
        if let Some(bound) = learned.bound.get(surface).filter(|bound| bound.is_used()) {
            let counted = bound.counted(&shelf.unverified);
            columns.lend(Feature::New, &counted.newness);
            columns.lend(Feature::Popular, &counted.popularity);
        }
        let mut followers: BTreeMap<usize, f32> = BTreeMap::new();
        for (place, leader) in self.query.recent.iter().take(3).enumerate().rev() {
            for (id, share) in learned.history.followers(leader) {
                if let Some(slot) = slots.get(id) {
                    let share = share as f32 / (place + 1) as f32;
                    let most = followers.entry(slot).or_default();
                    *most = most.max(share);
                }
            }
        }
        columns.few(Feature::CoUsed, followers);
    }
}

/// The slots of the `wanted` most likely items, ties by id, and of those that must be looked at; the most likely first.
fn closest(shelf: &Shelf, q: &[f32], wanted: usize, musts: impl Iterator<Item = usize>) -> Vec<usize> {
    let slots = shelf.words.slots();
    let mut chosen: Vec<usize> = if slots.len() <= wanted {
        slots.iter().map(|(_, slot)| slot).collect()
    } else {
        likeliest(shelf, q, wanted)
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

fn likeliest(shelf: &Shelf, q: &[f32], wanted: usize) -> Vec<usize> {
    let slots = shelf.words.slots();
    let mut best = Best::new(wanted);
    best.offer(0, q, &shelf.is_here);
    best.raise();
    let bar = best.bar();
    let mut places = Vec::new();
    at_least(q, bar, &mut places);
    let here = places
        .into_iter()
        .map(|slot| slot as usize)
        .filter(|slot| shelf.is_here[*slot]);
    let (mut chosen, mut ties): (Vec<usize>, Vec<usize>) = here.partition(|slot| q[*slot] > bar);
    let left = wanted - chosen.len();
    if ties.len() > left {
        ties.sort_unstable_by_key(|slot| slots.id(*slot));
    }
    chosen.extend(ties.into_iter().take(left));
    chosen
}

/// Takes out what nobody vouches for and says nearly the same as something better placed or vouched for.
fn collapse(shelf: &Shelf, candidates: &mut Vec<Candidate<'_>>) {
    if shelf.strangers == 0 {
        return;
    }
    let signature = |candidate: &Candidate<'_>| {
        let slot = shelf.words.slots().get(candidate.id);
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
