//! What was used, and what the weights have learned from it. Built from decisions and their outcomes alone:
//! the same ones in the same order give the same history.

mod kept;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::decision::{
    Decision, Gain, LoggedItem, LoggedSurface, Outcome, OutcomeStatus, StoredVector, SurfaceGain,
};
use crate::error::Result;
use crate::feature::{FEATURES, Feature, Weights};
use crate::item::{ItemId, Surface};
use crate::learner::{Learner, LearnerOptions};
use crate::mixture::Mixture;
use crate::past::Past;
use crate::profile::{PROFILES, Profile};
use crate::vector::Quantized;
use crate::veto::{Veto, VetoOptions};

/// Items that are remembered as having come after one.
const MAX_FOLLOWERS: usize = 64;
/// Recent items that an outcome is said to follow.
const MAX_LEADERS: usize = 4;
/// Items of a surface that an outcome counts against.
const MISTAKEN: usize = 2;
/// From which probability on.
const LIKELY: f32 = 0.02;
/// How much a wrong expectation counts against an item, beside what a use counts for it.
const HELD_AGAINST: f32 = 0.6;
/// The weight of the newest example in running means.
const NEWEST: f64 = 0.02;

/// How a history learns.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct HistoryOptions {
    /// How the weights learn.
    pub learner: LearnerOptions,
    /// How much weight of the mixture is dealt out anew after every outcome.
    pub share: f64,
    /// How many past queries are remembered.
    pub past_queries: usize,
    /// Of how many items it is remembered what used them; beyond that, those used least, and longest ago, are let go. A
    /// bound on memory: with vectors of 384 numbers an item takes 1.6 kB, and more with what was used after it.
    pub items: usize,
    /// How many uses a description counts for in an item's usage vector.
    pub description_uses: f32,
    /// How much a bit lost against the holdout takes from an example's weight.
    pub kl_sensitivity: f64,
    /// When a surface goes back to the order without learning.
    pub veto: VetoOptions,
}

impl Default for HistoryOptions {
    /// 16,384 past queries and 131,072 items; a description counts as three uses; a thousandth of the mixture is dealt
    /// out anew.
    fn default() -> Self {
        Self {
            learner: LearnerOptions::default(),
            share: 0.001,
            past_queries: 16_384,
            items: 131_072,
            description_uses: 3.0,
            kl_sensitivity: 0.25,
            veto: VetoOptions::default(),
        }
    }
}

impl HistoryOptions {
    /// Sets how many past queries are remembered.
    #[must_use]
    pub const fn with_past_queries(mut self, queries: usize) -> Self {
        self.past_queries = queries;
        self
    }

    /// Sets of how many items it is remembered what used them.
    #[must_use]
    pub const fn with_items(mut self, items: usize) -> Self {
        self.items = items;
        self
    }
}

/// What was used, and what was learned from it.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    options: HistoryOptions,
    start: Weights,
    surfaces: BTreeMap<Surface, SurfaceHistory>,
    items: BTreeMap<ItemId, ItemHistory>,
    past: Past,
    outcomes: u64,
    /// Who made the vectors, where that was said.
    model: Option<String>,
}

/// What was learned on one surface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SurfaceHistory {
    learner: Learner,
    mixture: Mixture,
    veto: Veto,
    /// By how much usage raises the similarity of items that were used before.
    lift: f64,
}

/// What used an item.
#[derive(Debug, Clone, PartialEq, Default)]
struct ItemHistory {
    uses: u32,
    sum: Vec<f32>,
    followers: BTreeMap<ItemId, u32>,
    followed: u32,
    /// The outcome that told of it last.
    last: u64,
}

impl History {
    /// Nothing used yet; weights are learned from `start` on.
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] for weights of the wrong sign, or a share outside `[0, 1]`.
    pub fn new(start: Weights, options: HistoryOptions) -> Result<Self> {
        // Checked once here, so that a surface that appears later cannot fail.
        SurfaceHistory::new(&start, &options)?;
        Ok(Self {
            past: Past::new(options.past_queries),
            options,
            start,
            surfaces: BTreeMap::new(),
            items: BTreeMap::new(),
            outcomes: 0,
            model: None,
        })
    }

    /// The same from here on with vectors of this model. Those of another one say nothing beside them and go; how often
    /// items were used stays.
    pub(crate) fn made_by(mut self, model: Option<&str>) -> Self {
        if model.is_some() && self.model.as_deref().is_some_and(|before| Some(before) != model) {
            self.past = Past::new(self.options.past_queries);
            self.items.values_mut().for_each(|history| history.sum.clear());
        }
        self.model = model.map(str::to_owned).or(self.model);
        self
    }

    /// How many outcomes it has learned from.
    pub const fn outcomes(&self) -> u64 {
        self.outcomes
    }

    /// The weights of a surface as learned so far.
    pub fn weights(&self, surface: &Surface) -> Weights {
        self.surfaces
            .get(surface)
            .map_or(self.start, |s| s.learner.weights())
    }

    /// The weights before any outcome.
    pub const fn start(&self) -> &Weights {
        &self.start
    }

    /// The weights of the profiles on a surface, in the order of [`Profile::ALL`].
    pub fn mixture(&self, surface: &Surface) -> [f64; PROFILES] {
        let even = [1.0 / PROFILES as f64; PROFILES];
        let known = self.surfaces.get(surface);
        known.map_or(even, |s| std::array::from_fn(|i| s.mixture.weights()[i]))
    }

    /// Whether learning is shown to have made a surface worse than its holdout.
    pub fn is_vetoed(&self, surface: &Surface) -> bool {
        self.surfaces.get(surface).is_some_and(|s| s.veto.is_down())
    }

    /// How often an item was used.
    pub fn uses(&self, item: &ItemId) -> u32 {
        self.items.get(item).map_or(0, |history| history.uses)
    }

    pub(crate) fn lift(&self, surface: &Surface) -> f64 {
        self.surfaces.get(surface).map_or(0.0, |s| s.lift)
    }

    pub(crate) const fn past(&self) -> &Past {
        &self.past
    }

    /// How often each item was used right after `leader`, as a share.
    pub(crate) fn followers(&self, leader: &ItemId) -> impl Iterator<Item = (&ItemId, f64)> {
        let history = self.items.get(leader);
        history.into_iter().flat_map(|history| {
            let all = f64::from(history.followed) + 1.0;
            history
                .followers
                .iter()
                .map(move |(id, n)| (id, f64::from(*n) / all))
        })
    }

    /// The description and what used the item, as one vector; `None` if nothing used it.
    pub(crate) fn usage_vector(&self, item: &ItemId, description: Option<&Quantized>) -> Option<Vec<f32>> {
        let history = self.items.get(item).filter(|history| !history.sum.is_empty())?;
        let mut vector = history.sum.clone();
        let description = description.filter(|description| description.dim() == vector.len());
        for (x, y) in vector
            .iter_mut()
            .zip(description.map(Quantized::values).unwrap_or_default())
        {
            *x += self.options.description_uses * y;
        }
        Some(vector)
    }

    /// Forgets an item: what it says has changed, so what used it says nothing any more.
    pub fn forget(&mut self, item: &ItemId) {
        self.items.remove(item);
        for history in self.items.values_mut() {
            history.followers.remove(item);
        }
        self.past.forget(item);
    }

    /// What an outcome is worth, without learning from it.
    pub fn gain(&self, decision: &Decision, outcome: &Outcome) -> Gain {
        let surfaces = decision.surfaces.iter().map(|logged| {
            let (mut loss_bits, mut baseline_bits) = (0.0, 0.0);
            let used = used_of(logged, outcome);
            let mixture = self.surfaces.get(&logged.surface).map(|s| &s.mixture);
            for item in &used {
                let losses = logged.p(*item).map(|p| -p.log2());
                let even = || Mixture::new(PROFILES, 0.0).map_or(f64::INFINITY, |m| m.bits(&losses));
                loss_bits += mixture.map_or_else(even, |m| m.bits(&losses));
                baseline_bits += losses[Profile::Baseline.index()];
            }
            let n = used.len() as f64;
            SurfaceGain {
                surface: logged.surface.clone(),
                loss_bits: loss_bits / n,
                baseline_bits: baseline_bits / n,
            }
        });
        Gain {
            surfaces: surfaces.collect(),
        }
    }

    /// Learns from an outcome; what it was worth under the weights before.
    ///
    /// A step that failed says nothing of what was needed. A surface that learning made worse is watched
    /// in any case.
    pub fn learn(&mut self, decision: &Decision, outcome: &Outcome) -> Gain {
        self.learn_from(decision, outcome).0
    }

    /// The same, and the items of which nothing is remembered any more to make room.
    pub(crate) fn learn_from(&mut self, decision: &Decision, outcome: &Outcome) -> (Gain, Vec<ItemId>) {
        let gain = self.gain(decision, outcome);
        self.outcomes += 1;
        for logged in &decision.surfaces {
            self.learn_surface(decision, logged, outcome);
        }
        if outcome.status == OutcomeStatus::Succeeded {
            self.remember(decision, outcome);
        }
        (gain, self.make_room())
    }

    /// Once there are a sixteenth too many, lets go of the items that were used least, and longest ago.
    fn make_room(&mut self) -> Vec<ItemId> {
        let room = self.options.items.max(1);
        if self.items.len() <= room + room / 16 {
            return Vec::new();
        }
        let items = self.items.iter();
        let mut least: Vec<(u32, u64, &ItemId)> = items
            .map(|(id, history)| (history.uses, history.last, id))
            .collect();
        let going = least.len() - room;
        least.select_nth_unstable(going - 1);
        let gone: Vec<ItemId> = least[..going].iter().map(|(_, _, id)| (*id).clone()).collect();
        gone.iter().for_each(|id| drop(self.items.remove(id)));
        gone
    }

    fn learn_surface(&mut self, decision: &Decision, logged: &LoggedSurface, outcome: &Outcome) {
        let (start, options) = (&self.start, &self.options);
        if !self.surfaces.contains_key(&logged.surface) {
            let Ok(fresh) = SurfaceHistory::new(start, options) else {
                return;
            };
            self.surfaces.insert(logged.surface.clone(), fresh);
        }
        let Some(history) = self.surfaces.get_mut(&logged.surface) else {
            return;
        };
        let used = used_of(logged, outcome);
        let importance = history.watch(decision, outcome, options);
        if outcome.status == OutcomeStatus::Failed || importance <= 0.0 {
            return;
        }
        for item in &used {
            history.learn(logged, *item, importance / used.len() as f64);
        }
        let is_known = |item: &ItemId| self.items.get(item).is_some_and(|history| history.uses > 0);
        history.learn_lift(logged, is_known);
    }

    fn remember(&mut self, decision: &Decision, outcome: &Outcome) {
        let other = |model: &String| self.model.as_ref().is_some_and(|ours| ours != model);
        let vector = decision.vector.as_ref().and_then(StoredVector::quantized);
        let vector = vector.filter(|_| !decision.model.as_ref().is_some_and(other));
        let used = outcome.distinct();
        for &item in &used {
            let history = self.items.entry(item.clone()).or_default();
            history.uses = history.uses.saturating_add(1);
            history.last = self.outcomes;
            if let Some(vector) = &vector {
                history.add(vector, 1.0 + surprise(decision, item));
            }
        }
        if let Some(vector) = &vector {
            for (item, p) in mistaken(decision, outcome) {
                if let Some(history) = self.items.get_mut(item).filter(|history| history.uses > 0) {
                    history.add(vector, -HELD_AGAINST * p);
                }
            }
        }
        for leader in decision.recent.iter().take(MAX_LEADERS) {
            let history = self.items.entry(leader.clone()).or_default();
            history.followed = history.followed.saturating_add(1);
            history.last = self.outcomes;
            for item in &used {
                history.follow(item);
            }
        }
        if let Some(vector) = vector.filter(|_| !used.is_empty()) {
            let used = used.into_iter().cloned().collect();
            self.past.push(&vector, decision.task, used);
        }
    }
}

/// The items of a surface that were used, or none of them.
fn used_of<'a>(logged: &'a LoggedSurface, outcome: &'a Outcome) -> Vec<Option<&'a ItemId>> {
    let prefix = |item: &ItemId| {
        logged.candidates.iter().any(|candidate| candidate.item == *item)
            || outcome_surface(item) == Some(logged.surface.as_str())
    };
    let used: Vec<Option<&ItemId>> = outcome
        .distinct()
        .into_iter()
        .filter(|item| prefix(item))
        .map(Some)
        .collect();
    if used.is_empty() { vec![None] } else { used }
}

/// Items that a ranking thought likely and that were not used, with how likely: the two likeliest of each surface of
/// which something was used.
pub(crate) fn mistaken<'a>(
    decision: &'a Decision,
    outcome: &'a Outcome,
) -> impl Iterator<Item = (&'a ItemId, f32)> {
    let is_used = |candidate: &&LoggedItem| outcome.used.contains(&candidate.item);
    let surfaces = decision.surfaces.iter();
    let answered = surfaces.filter(move |surface| surface.candidates.iter().any(|c| is_used(&c)));
    answered.flat_map(move |surface| {
        let others = surface.candidates.iter().filter(move |c| !is_used(c));
        // Candidates come the likeliest first under the mixture, of which the learned weights are nearly all.
        let likely = others
            .take(MISTAKEN)
            .map(|c| (&c.item, c.p[Profile::Learned.index()]));
        likely.filter(|(_, p)| *p >= LIKELY)
    })
}

/// How little the learned weights had expected an item, from 0 to 1: what was known already teaches less.
fn surprise(decision: &Decision, item: &ItemId) -> f32 {
    let candidates = decision.surfaces.iter().flat_map(|surface| &surface.candidates);
    let found = candidates.into_iter().find(|candidate| candidate.item == *item);
    found.map_or(1.0, |found| {
        1.0 - found.p[Profile::Learned.index()].clamp(0.0, 1.0)
    })
}

/// The surface that an id of the common form `surface:name` says.
fn outcome_surface(item: &ItemId) -> Option<&str> {
    item.as_str().split_once(':').map(|(surface, _)| surface)
}

impl SurfaceHistory {
    fn new(start: &Weights, options: &HistoryOptions) -> Result<Self> {
        Ok(Self {
            learner: Learner::new(start, options.learner)?,
            mixture: Mixture::new(PROFILES, options.share)?,
            veto: Veto::new(options.veto),
            lift: 0.0,
        })
    }

    /// Counts the divergence for or against learning; how much the example weighs.
    ///
    /// What counts for it is every step that it led, whether or not it showed what was needed: not to show it is the
    /// harm. Both sides are drawn by chance, so that nothing else tells them apart.
    fn watch(&mut self, decision: &Decision, outcome: &Outcome, options: &HistoryOptions) -> f64 {
        if self.veto.is_down() {
            self.veto.rest();
        }
        let Some(bits) = outcome.kl_bits.filter(|bits| bits.is_finite()) else {
            return 1.0;
        };
        let is_counted = decision.propensity.is_some() && !self.veto.is_down();
        match decision.arm {
            Some(Profile::Baseline) => {
                if is_counted {
                    self.veto.control(bits);
                }
                return 1.0;
            }
            None | Some(Profile::Learned) if is_counted => self.veto.influenced(bits),
            _ => {}
        }
        let control = self.veto.control_mean();
        control.map_or(1.0, |control| {
            (1.0 + options.kl_sensitivity * (control - bits)).clamp(0.0, 2.0)
        })
    }

    fn learn(&mut self, logged: &LoggedSurface, used: Option<&ItemId>, importance: f64) {
        self.mixture.update(&logged.p(used).map(|p| -p.log2()));
        let nothing = [0.0; FEATURES];
        let features = match used {
            None => nothing,
            Some(id) => {
                let Some(found) = logged.candidates.iter().find(|logged| logged.item == *id) else {
                    return;
                };
                found.features.map(f64::from)
            }
        };
        self.learner
            .learn(&features, &logged.expected.map(f64::from), importance);
    }

    fn learn_lift(&mut self, logged: &LoggedSurface, is_known: impl Fn(&ItemId) -> bool) {
        let known = logged
            .candidates
            .iter()
            .take(10)
            .filter(|candidate| is_known(&candidate.item));
        let lift = |candidate: &crate::decision::LoggedItem| {
            f64::from(
                candidate.features[Feature::Usage.index()] - candidate.features[Feature::Semantic.index()],
            )
        };
        let (mut n, mut sum) = (0.0, 0.0);
        for candidate in known {
            (n, sum) = (n + 1.0, sum + lift(candidate));
        }
        if n > 0.0 {
            self.lift += NEWEST * (sum / n - self.lift);
        }
    }
}

impl ItemHistory {
    fn add(&mut self, vector: &Quantized, weight: f32) {
        if self.sum.len() != vector.dim() {
            self.sum = vec![0.0; vector.dim()];
        }
        let scale = weight * vector.scale();
        for (sum, x) in self.sum.iter_mut().zip(vector.integers()) {
            *sum += scale * f32::from(*x);
        }
    }

    fn follow(&mut self, item: &ItemId) {
        if self.followers.len() >= MAX_FOLLOWERS && !self.followers.contains_key(item) {
            let least = self
                .followers
                .iter()
                .min_by_key(|(_, n)| **n)
                .map(|(id, _)| id.clone());
            least.map(|id| self.followers.remove(&id));
        }
        *self.followers.entry(item.clone()).or_default() += 1;
    }
}
