//! [`Engine`]: a catalog, what was learned, and the decisions whose outcome is not known yet. No I/O: what
//! must be stored is handed back, and what was stored is applied again in the same order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use aion_types::DecisionId;
use serde::{Deserialize, Serialize};

use crate::assemble;
use crate::bound::Bound;
use crate::catalog::{Catalog, CatalogVersion};
use crate::decision::{Decision, Gain, LoggedItem, LoggedSurface, MAX_USED, Outcome, kept};
use crate::error::{Error, Result};
use crate::explore::{Exploration, Served};
use crate::history::{History, HistoryOptions, mistaken};
use crate::item::{ContentHash, Item, ItemId, Provenance, Surface};
use crate::ladder::LIKELIEST;
use crate::packed::Packed;
use crate::profile::Profile;
use crate::query::{Query, Shortlist};
use crate::rank::{Learned, Ranked, Sources, Votes};
use crate::rerank::Reading;
use crate::router::Router;
use crate::rules::Rules;
use crate::vector::{Asked, Quantized, Vectors};
use crate::words::QueryWords;

/// Decisions that wait for their outcome.
const MAX_PENDING: usize = 65_536;
/// Candidates of all of them together.
const MAX_CANDIDATES: usize = 64 * MAX_PENDING;
/// Outcomes that are known to have been told.
const MAX_TOLD: usize = 65_536;

/// How an engine ranks and learns.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct EngineOptions {
    /// The ranking without learning.
    pub router: Router,
    /// How it learns.
    pub history: HistoryOptions,
    /// What is left to chance.
    pub exploration: Exploration,
    /// Items that a phrase calls for.
    pub rules: Rules,
    /// How many candidates of a surface a decision keeps; 0 for 64.
    pub logged: usize,
    /// How many decisions wait for their outcome, and how many a log keeps; 0 for 65,536.
    pub kept: usize,
    /// How many candidates the decisions that wait have together, about 100 bytes each; 0 for 4,194,304, which is
    /// 65,536 decisions with 64. The oldest ones wait no longer where there would be more.
    pub candidates: usize,
    /// Who makes the vectors: those of somebody else are not compared with them. A
    /// [`LiveRouter`](crate::LiveRouter) sets it.
    pub model: Option<String>,
}

impl EngineOptions {
    /// Sets the ranking without learning.
    #[must_use]
    pub const fn with_router(mut self, router: Router) -> Self {
        self.router = router;
        self
    }

    /// Sets how it learns.
    #[must_use]
    pub const fn with_history(mut self, history: HistoryOptions) -> Self {
        self.history = history;
        self
    }

    /// Sets what is left to chance.
    #[must_use]
    pub fn with_exploration(mut self, exploration: Exploration) -> Self {
        self.exploration = exploration;
        self
    }

    /// Sets the rules.
    #[must_use]
    pub fn with_rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// Sets how many candidates of a surface a decision keeps.
    #[must_use]
    pub const fn with_logged(mut self, candidates: usize) -> Self {
        self.logged = candidates;
        self
    }

    /// Sets how many decisions are kept: an outcome can be told, and another policy judged, only for the latest so
    /// many. What was learned from older ones stays.
    #[must_use]
    pub const fn with_kept(mut self, decisions: usize) -> Self {
        self.kept = decisions;
        self
    }

    /// Sets how many candidates the decisions that wait for their outcome have together.
    #[must_use]
    pub const fn with_candidates(mut self, candidates: usize) -> Self {
        self.candidates = candidates;
        self
    }

    /// Says who makes the vectors, by [`Embedder::model_id`](crate::Embedder::model_id).
    #[must_use]
    pub fn with_model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// How many candidates wait.
    const fn kept_candidates(&self) -> usize {
        if self.candidates == 0 {
            MAX_CANDIDATES
        } else {
            self.candidates
        }
    }

    /// How many decisions are kept.
    pub const fn kept_decisions(&self) -> usize {
        if self.kept == 0 { MAX_PENDING } else { self.kept }
    }
}

/// What a log holds: replayed in order, it gives the same state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum LogEntry {
    /// A ranking was served.
    Decided(Box<Decision>),
    /// Its outcome became known.
    Recorded {
        /// The decision.
        decision: DecisionId,
        /// What became of it.
        outcome: Outcome,
    },
    /// What an item says changed, so what used it says nothing any more.
    Forgot {
        /// The item.
        item: ItemId,
    },
}

/// Ranks a catalog and learns from what was used.
///
/// ```
/// use aion_router::{Engine, EngineOptions, Item, Outcome, Query, Surface, SurfaceBudget};
///
/// let mut engine = Engine::new(EngineOptions::default())?;
/// for (name, text) in [("read_file", "Reads a file"), ("exec", "Runs a command"), ("glob", "Finds files")] {
///     engine.upsert(Item::new(Surface::Tool, name, text)?)?;
/// }
/// let query = Query::new("which files are there?", 3).with_surface(SurfaceBudget::new(Surface::Tool));
/// let (shortlist, decision) = engine.rank(&query, None)?;
/// engine.remember(decision);
/// let used = shortlist.picks[0].item.clone();
/// let gain = engine.record(shortlist.decision, &Outcome::used([used]))?;
/// assert!(gain.bits().is_finite());
/// # Ok::<(), aion_router::Error>(())
/// ```
#[derive(Debug)]
pub struct Engine {
    options: EngineOptions,
    catalog: Catalog,
    history: History,
    bound: BTreeMap<Surface, Bound>,
    pending: BTreeMap<DecisionId, Decision>,
    order: VecDeque<DecisionId>,
    /// Candidates of those that wait.
    candidates: usize,
    told: BTreeSet<DecisionId>,
    told_order: VecDeque<DecisionId>,
    /// What used items said when they were taken out.
    gone: BTreeMap<ItemId, ContentHash>,
}

impl Engine {
    /// An engine with an empty catalog.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for options outside their ranges.
    pub fn new(options: EngineOptions) -> Result<Self> {
        options.exploration.check()?;
        Ok(Self {
            history: History::new(*options.router.weights(), options.history)?
                .made_by(options.model.as_deref()),
            catalog: Catalog::new(),
            bound: BTreeMap::new(),
            pending: BTreeMap::new(),
            order: VecDeque::new(),
            candidates: 0,
            told: BTreeSet::new(),
            told_order: VecDeque::new(),
            gone: BTreeMap::new(),
            options,
        })
    }

    /// The catalog.
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// What was learned.
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Adds or replaces an item; what is to be logged, if nobody vouches for what it says now and it said something else
    /// before, also before it was taken out: then what used it is forgotten.
    ///
    /// # Errors
    /// Those of [`Catalog::upsert`].
    pub fn upsert(&mut self, item: Item) -> Result<Option<LogEntry>> {
        let id = item.id().clone();
        let gone = self.gone.get(&id).copied();
        let said = self.catalog.content_hash(&id).or(gone);
        self.take_in(item)?;
        let is_stranger = self.catalog.provenance(&id) == Some(Provenance::Unverified);
        let is_other = said.is_some() && said != self.catalog.content_hash(&id);
        if !(is_stranger && is_other) {
            return Ok(None);
        }
        let entry = LogEntry::Forgot { item: id };
        self.apply(entry.clone());
        Ok(Some(entry))
    }

    /// Adds or replaces an item of which a store has judged whether its history goes.
    pub(crate) fn take_in(&mut self, item: Item) -> Result<()> {
        let id = item.id().clone();
        self.unbind(&id);
        let done = self.catalog.upsert(item).map(drop);
        self.gone.remove(&id);
        self.bind(&id);
        done
    }

    /// Counts changes for the opening of this number.
    pub(crate) fn begin(&mut self, opening: u64) {
        self.catalog.begin(opening);
    }

    /// Takes an item out; whether it was there. What used it is kept for when it comes back saying the same, or
    /// something that somebody vouches for.
    pub fn remove(&mut self, id: &ItemId) -> bool {
        self.unbind(id);
        if let Some(said) = self
            .catalog
            .content_hash(id)
            .filter(|_| self.history.uses(id) > 0)
        {
            self.gone.insert(id.clone(), said);
        }
        self.catalog.remove(id)
    }

    /// Approves what an item says: see [`Catalog::approve`].
    pub fn approve(&mut self, id: &ItemId, hash: ContentHash) -> CatalogVersion {
        self.unbind(id);
        let version = self.catalog.approve(id, hash);
        self.bind(id);
        version
    }

    /// Gives an item its embedding: see [`Catalog::set_vector`].
    ///
    /// # Errors
    /// Those of [`Catalog::set_vector`].
    pub fn set_vector(&mut self, id: &ItemId, vector: &[f32]) -> Result<bool> {
        let is_there = self.catalog.set_vector(id, vector)?;
        self.bind(id);
        Ok(is_there)
    }

    /// Ranks. The decision is to be stored, and remembered by [`Engine::remember`], before its outcome can be
    /// recorded.
    ///
    /// A vector of another dimension than the items' is left out, and the answer says so.
    ///
    /// # Errors
    /// Those of [`Router::rank`].
    pub fn rank(&self, query: &Query, vector: Option<&[f32]>) -> Result<(Shortlist, Decision)> {
        self.rank_read(query, vector, &[])
    }

    /// The same where something has read items, and says of each how far its text speaks for it.
    ///
    /// It moves the order of the mixture. The profiles' probabilities, from which weights are learned and by which the
    /// holdout is served, stay what they are without it.
    ///
    /// # Errors
    /// Those of [`Router::rank`], and [`Error::OutOfRange`] for a reading that is not finite.
    pub fn rank_read(
        &self,
        query: &Query,
        vector: Option<&[f32]>,
        readings: &[Reading],
    ) -> Result<(Shortlist, Decision)> {
        assemble::check(query)?;
        let (vector, lost) = self.usable(query, vector);
        let sources = self.sources(query, vector.as_ref());
        let mut ranked = sources.rank_all();
        read(&mut ranked, readings)?;
        let versions = ranked.iter().flatten().map(|ranked| ranked.weights.version);
        let weights = versions.max().unwrap_or(self.options.router.weights().version);
        let versions = [weights, self.history.outcomes()];
        let basis = assemble::basis(query, &self.catalog, versions, vector.as_ref(), readings);
        let is_vetoed = |surface: &Surface| self.history.is_vetoed(surface);
        let served = self.options.exploration.serve(&basis, |arm| {
            let arm_of = |surface: &Surface| match is_vetoed(surface) {
                true => Some(Profile::Baseline),
                false => arm,
            };
            assemble::choose(&ranked, query, arm_of)
        });
        let Served {
            arm,
            propensity,
            agreed,
            slate,
            fits,
        } = served;
        let surfaces = query.surfaces.iter().map(|budget| &budget.surface);
        let vetoed = surfaces.filter(|surface| is_vetoed(surface)).map(|surface| {
            let surface = surface.as_str();
            format!("learning made {surface} worse: the order without it is served")
        });
        let id = assemble::decision_id(query, &basis, &ranked, &slate, propensity);
        let picks = assemble::picks(&ranked, query, &slate);
        let tokens = picks.iter().map(|pick| pick.tokens).sum();
        let shortlist = Shortlist {
            decision: id,
            tokens,
            saved_tokens: assemble::everything(&ranked).saturating_sub(u64::from(tokens)),
            none: assemble::none(&ranked),
            doubt_bits: assemble::doubt_bits(&ranked),
            picks,
            catalog: self.catalog.version(),
            weights,
            propensity,
            state: assemble::state(&ranked, &slate, fits, lost.into_iter().chain(vetoed)),
        };
        let decision = Decision {
            id,
            task: query.task,
            vector: vector.as_ref().map(Into::into),
            model: self.options.model.clone().filter(|_| vector.is_some()),
            recent: query.recent.iter().take(8).cloned().collect(),
            arm,
            propensity,
            agreed,
            surfaces: self.logged(query, &ranked, &slate),
            catalog: self.catalog.version(),
            rungs: Vec::new(),
        };
        Ok((shortlist, decision))
    }

    /// The items of a decision that a model should read: the likeliest of each surface, with their texts.
    pub(crate) fn to_read(&self, decision: &Decision) -> Vec<(ItemId, String)> {
        // Beyond these, a decision has only what was shown, which may have been left to chance.
        let likeliest = LIKELIEST.min(self.keep());
        let candidates = decision
            .surfaces
            .iter()
            .flat_map(|surface| surface.candidates.iter().take(likeliest));
        let texts = candidates.filter_map(|candidate| {
            let text = self.catalog.embedded_text(&candidate.item)?;
            Some((candidate.item.clone(), text))
        });
        texts.collect()
    }

    fn usable(&self, query: &Query, vector: Option<&[f32]>) -> (Option<Quantized>, Option<String>) {
        let Some(vector) = vector else {
            return (None, None);
        };
        let quantized = match Quantized::new(vector) {
            Ok(quantized) => quantized,
            Err(error) => {
                return (
                    None,
                    Some(format!("the embedding of the query is left out: {error}")),
                );
            }
        };
        let dims = query
            .surfaces
            .iter()
            .filter_map(|budget| self.catalog.vectors(&budget.surface));
        let other = dims
            .map(Vectors::dim)
            .find(|dim| *dim != 0 && *dim != quantized.dim());
        let lost = other.map(|dim| {
            format!(
                "the embedding of the query has {} numbers, not {dim}",
                quantized.dim()
            )
        });
        (Some(quantized).filter(|_| lost.is_none()), lost)
    }

    fn sources<'a>(&'a self, query: &'a Query, vector: Option<&'a Quantized>) -> Sources<'a> {
        let words = QueryWords::new(&query.text);
        Sources {
            nameable: self.catalog.nameable(&words),
            catalog: &self.catalog,
            query,
            words,
            asked: vector.map(Asked::new),
            bm25: self.options.router.bm25(),
            fixed: self.options.router.weights(),
            learned: Some(Learned {
                history: &self.history,
                bound: &self.bound,
                votes: vector.map(|vector| self.votes(vector)).unwrap_or_default(),
            }),
            ruled: self.options.rules.wanted(&query.text),
        }
    }

    /// What past queries say of the items that are there.
    fn votes(&self, vector: &Quantized) -> Votes<'_> {
        let mut votes = Votes::new();
        let by_place = self.history.past().votes(vector, |id| self.catalog.place(id));
        for ((surface, slot), vote) in by_place {
            votes.entry(surface).or_default().insert(slot, vote);
        }
        votes
    }

    /// How many candidates of a surface a decision keeps.
    const fn keep(&self) -> usize {
        if self.options.logged == 0 {
            64
        } else {
            self.options.logged
        }
    }

    fn logged(
        &self,
        query: &Query,
        ranked: &[Option<Ranked<'_>>],
        slate: &assemble::Slate,
    ) -> Vec<LoggedSurface> {
        let keep = self.keep();
        let surfaces = query.surfaces.iter().zip(ranked).zip(slate);
        let logged = surfaces.filter_map(|((budget, ranked), chosen)| {
            let ranked = ranked.as_ref()?;
            let all = || ranked.candidates.iter().zip(chosen).enumerate();
            let is_kept = |(i, (_, chosen)): &(usize, (&crate::rank::Candidate<'_>, &Option<usize>))| {
                *i < keep || chosen.is_some()
            };
            let mut rest = ranked.rest;
            for (_, (candidate, _)) in all().filter(|pair| !is_kept(pair)) {
                rest.iter_mut().zip(candidate.p).for_each(|(rest, p)| *rest += p);
            }
            let candidates = all().filter(is_kept).map(|(_, (candidate, chosen))| LoggedItem {
                item: candidate.id.clone(),
                features: candidate.row.map(|x| x as f32),
                p: candidate.p.map(kept),
                shown: chosen.map(|rendering| u8::try_from(rendering).unwrap_or(u8::MAX)),
            });
            Some(LoggedSurface {
                surface: budget.surface.clone(),
                items: ranked.items as u64,
                candidates: candidates.collect(),
                none: ranked.none.map(kept),
                rest: rest.map(kept),
                expected: ranked.expected.map(|x| x as f32),
            })
        });
        logged.collect()
    }

    /// Remembers a decision until its outcome is known. The oldest ones go when there are too many, or too large ones.
    pub fn remember(&mut self, decision: Decision) {
        let id = decision.id;
        if self.told.contains(&id) || self.pending.contains_key(&id) {
            return;
        }
        self.candidates += decision.candidates();
        self.pending.insert(id, decision);
        self.order.push_back(id);
        let room = self.options.kept_decisions().min(MAX_PENDING);
        let candidates = self.options.kept_candidates();
        while (self.order.len() > room || self.candidates > candidates)
            && self.order.len() > 1
            && let Some(oldest) = self.order.pop_front()
        {
            self.take_out(oldest);
        }
    }

    /// A decision that waits no longer.
    fn take_out(&mut self, id: DecisionId) -> Option<Decision> {
        let decision = self.pending.remove(&id)?;
        self.candidates -= decision.candidates();
        Some(decision)
    }

    /// A decision whose outcome is not known yet.
    pub fn explain(&self, id: DecisionId) -> Option<&Decision> {
        self.pending.get(&id)
    }

    /// Learns what became of a decision; the bits gained over the order without learning.
    ///
    /// # Errors
    /// [`Error::UnknownDecision`], [`Error::OutcomeTwice`], or [`Error::LimitReached`] for too many items.
    pub fn record(&mut self, id: DecisionId, outcome: &Outcome) -> Result<Gain> {
        self.check_outcome(id, outcome)?;
        let decision = self.take_out(id).ok_or(Error::UnknownDecision(id))?;
        self.note_told(id);
        let (gain, forgotten) = self.history.learn_from(&decision, outcome);
        for item in &forgotten {
            self.gone.remove(item);
            self.bind(item);
        }
        outcome.used.iter().for_each(|item| self.bind(item));
        mistaken(&decision, outcome).for_each(|(item, _)| self.bind(item));
        Ok(gain)
    }

    /// Whether [`Engine::record`] would take an outcome, so that it can be stored first.
    ///
    /// # Errors
    /// Those of [`Engine::record`].
    pub fn check_outcome(&self, id: DecisionId, outcome: &Outcome) -> Result<()> {
        if outcome.used.len() > MAX_USED {
            return Err(Error::LimitReached {
                what: "the number of used items",
                limit: MAX_USED,
            });
        }
        match (self.told.contains(&id), self.pending.contains_key(&id)) {
            (true, _) => Err(Error::OutcomeTwice(id)),
            (false, false) => Err(Error::UnknownDecision(id)),
            (false, true) => Ok(()),
        }
    }

    fn note_told(&mut self, id: DecisionId) {
        self.told.insert(id);
        self.told_order.push_back(id);
        if self.told_order.len() > MAX_TOLD
            && let Some(oldest) = self.told_order.pop_front()
        {
            self.told.remove(&oldest);
        }
    }

    /// Applies an entry of the log. Outcomes of decisions that are not in the log are passed over.
    pub fn apply(&mut self, entry: LogEntry) {
        match entry {
            LogEntry::Decided(decision) => self.remember(*decision),
            LogEntry::Forgot { item } => {
                self.history.forget(&item);
                self.bind(&item);
            }
            LogEntry::Recorded { decision, outcome } => {
                // A log can begin after a decision; then its outcome cannot be learned from.
                let _ = self.record(decision, &outcome);
            }
        }
    }

    /// Applies an entry of the log whose lesson is in the history already: only what it says of waiting decisions.
    pub fn recall(&mut self, entry: LogEntry) {
        match entry {
            LogEntry::Decided(decision) => self.remember(*decision),
            LogEntry::Recorded { decision, .. } => {
                self.take_out(decision);
                self.note_told(decision);
            }
            LogEntry::Forgot { .. } => {}
        }
    }

    /// Goes on from what [`History::to_bytes`] gave, in place of what was learned here.
    ///
    /// # Errors
    /// Those of [`History::from_bytes`].
    pub fn restore(&mut self, learned: &[u8]) -> Result<()> {
        let (start, options) = (*self.options.router.weights(), self.options.history);
        self.history = History::from_bytes(start, options, learned)?.made_by(self.options.model.as_deref());
        let ids: Vec<ItemId> = self.catalog.after(None).map(|item| item.id().clone()).collect();
        ids.iter().for_each(|id| self.bind(id));
        Ok(())
    }

    /// Puts what is known of an item where rankings look it up.
    fn bind(&mut self, id: &ItemId) {
        let Some((surface, slot)) = self.catalog.place(id) else {
            return;
        };
        let uses = self.history.uses(id);
        let vectors = self.catalog.vectors(surface);
        let description = vectors.and_then(|vectors| vectors.get(slot));
        // What used it by another model's vectors cannot be compared; the description alone counts then.
        let dim = vectors.map_or(0, Vectors::dim);
        let is_comparable = |vector: &Vec<f32>| dim == 0 || vector.len() == dim;
        let usage = self.history.usage_vector(id, description.as_ref());
        let bound = self.bound.entry(surface.clone()).or_default();
        bound.set_uses(slot, uses);
        match usage.filter(is_comparable) {
            Some(vector) if set_usage(&mut bound.usage, slot, &vector).is_ok() => {}
            _ => bound.usage.clear(slot),
        }
    }

    fn unbind(&mut self, id: &ItemId) {
        if let Some((surface, slot)) = self.catalog.place(id)
            && let Some(bound) = self.bound.get_mut(surface)
        {
            bound.clear(slot);
        }
    }
}

/// To 8 bits: rankings read no more.
fn set_usage(usage: &mut Packed, slot: usize, vector: &[f32]) -> Result<()> {
    usage.set(slot, &Quantized::new(vector)?.rounded())
}

/// Counts what reading says of the candidates.
fn read(ranked: &mut [Option<Ranked<'_>>], readings: &[Reading]) -> Result<()> {
    if let Some(bad) = readings.iter().find(|reading| !reading.logit.is_finite()) {
        return Err(Error::OutOfRange {
            what: "what reading adds to a logit",
            range: "finite",
            value: bad.logit,
        });
    }
    if readings.is_empty() {
        return Ok(());
    }
    let readings = readings
        .iter()
        .map(|reading| (&reading.item, reading.counted()))
        .collect();
    ranked
        .iter_mut()
        .flatten()
        .for_each(|ranked| ranked.read(&readings));
    Ok(())
}
