//! The ranking: logits from features, probabilities beside none, and a filling of the budget.

use std::collections::{BTreeMap, BTreeSet};

use aion_types::{DecisionId, Timestamp};

use crate::budget::{Bin, Candidate, fill};
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::index::Bm25;
use crate::item::{Item, Provenance};
use crate::query::{Feature, Pick, Query, Shortlist, ShortlistState, SurfaceBudget, Why};
use crate::text::names;

/// Surfaces of one query.
const MAX_SURFACES: usize = 64;
/// The longest text of a query, in bytes.
const MAX_QUERY_BYTES: usize = 1 << 20;
/// Recent items that count.
const MAX_RECENT: usize = 64;

/// What each feature adds to a logit.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Weights {
    /// Grows with every change of the weights.
    pub version: u64,
    /// What every item starts from, beside none at 0.
    pub bias: f64,
    /// For the best possible overlap of words.
    pub lexical: f64,
    /// For being named.
    pub named: f64,
    /// For being the item used last; the `n`-th before it gets `1/n` of this.
    pub recent: f64,
    /// For coming from anybody; at most 0.
    pub unverified: f64,
}

impl Default for Weights {
    /// Set by hand, until they are learned from what was used.
    fn default() -> Self {
        Self {
            version: 1,
            bias: -4.0,
            lexical: 10.0,
            named: 4.0,
            recent: 1.0,
            unverified: -1.0,
        }
    }
}

/// Ranks catalogs. It holds weights and nothing else, so equal inputs give equal answers.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Router {
    weights: Weights,
    bm25: Bm25,
}

/// An item with what speaks for it.
struct Scored<'a> {
    item: &'a Item,
    bin: usize,
    p: f64,
    why: Why,
}

impl Router {
    /// A router with these weights.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a weight that is not finite, or of the wrong sign.
    pub fn new(weights: Weights, bm25: Bm25) -> Result<Self> {
        let not_negative = [
            ("lexical", weights.lexical),
            ("named", weights.named),
            ("recent", weights.recent),
        ];
        let signs = [
            ("unverified", -weights.unverified),
            ("k1", bm25.k1),
            ("b", bm25.b),
        ];
        let fields = bm25.field_weights.map(|weight| ("field", weight));
        for (what, value) in not_negative.into_iter().chain(signs).chain(fields) {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::OutOfRange {
                    what,
                    range: "finite and of its sign",
                    value,
                });
            }
        }
        if !weights.bias.is_finite() || bm25.b > 1.0 {
            let value = if bm25.b > 1.0 { bm25.b } else { weights.bias };
            return Err(Error::OutOfRange {
                what: "b or the bias",
                range: "in [0, 1] or finite",
                value,
            });
        }
        Ok(Self { weights, bm25 })
    }

    /// Picks what belongs in the next step.
    ///
    /// Pinned items and items that the query names go in first; ties are decided by id. The budget
    /// holds even for them: where they do not fit, the answer says so.
    ///
    /// # Errors
    /// [`Error`] for a query with too many surfaces, one of them twice, or floors over its budget.
    pub fn rank(&self, catalog: &Catalog, query: &Query) -> Result<Shortlist> {
        check(query)?;
        let mut scored = Vec::new();
        for (bin, budget) in query.surfaces.iter().enumerate() {
            scored.extend(self.score_surface(catalog, query, budget, bin));
        }
        let everything: u64 = scored.iter().map(|s| u64::from(s.item.full_tokens())).sum();
        let (chosen, fits) = choose(&scored, query, everything);
        let missing = scored
            .iter()
            .zip(&chosen)
            .find(|(s, chosen)| s.must() && chosen.is_none());
        let state = match missing {
            _ if fits => ShortlistState::Everything,
            None => ShortlistState::Active,
            Some((s, _)) => ShortlistState::Degraded {
                reason: format!("{} must be in and does not fit", s.item.id()),
            },
        };
        let picks = picks(scored, &chosen);
        let tokens = picks.iter().map(|pick| pick.tokens).sum();
        Ok(Shortlist {
            decision: self.decision(catalog, query),
            tokens,
            saved_tokens: everything - u64::from(tokens),
            picks,
            catalog: catalog.version(),
            weights: self.weights.version,
            state,
        })
    }

    /// The items of a surface, best first.
    fn score_surface<'a>(
        &self,
        catalog: &'a Catalog,
        query: &'a Query,
        budget: &'a SurfaceBudget,
        bin: usize,
    ) -> Vec<Scored<'a>> {
        let lexical = catalog
            .index(&budget.surface)
            .map(|index| index.scores(&query.text, &self.bm25));
        let lexical = lexical.unwrap_or_default();
        let mut scored: Vec<Scored<'a>> = catalog
            .of_surface(&budget.surface)
            .map(|item| {
                let why = self.why(item, query, lexical.get(item.id()).copied().unwrap_or(0.0));
                Scored {
                    item,
                    bin,
                    p: 0.0,
                    why,
                }
            })
            .collect();
        scored.sort_by(|a, b| {
            b.why
                .logit()
                .total_cmp(&a.why.logit())
                .then_with(|| a.item.id().cmp(b.item.id()))
        });
        give_probabilities(&mut scored);
        scored
    }

    fn why(&self, item: &Item, query: &Query, lexical: f64) -> Why {
        let named = names(&query.text, &item.fields().name) || names(&query.text, item.id().as_str());
        let place = query
            .recent
            .iter()
            .take(MAX_RECENT)
            .position(|id| id == item.id());
        let mut terms = vec![
            (Feature::Bias, self.weights.bias),
            (Feature::Lexical, self.weights.lexical * lexical),
        ];
        if named {
            terms.push((Feature::Named, self.weights.named));
        }
        if let Some(place) = place {
            terms.push((Feature::Recent, self.weights.recent / (place + 1) as f64));
        }
        if item.provenance() == Provenance::Unverified {
            terms.push((Feature::Unverified, self.weights.unverified));
        }
        Why {
            terms,
            pinned: item.is_pinned(),
            named,
        }
    }

    fn decision(&self, catalog: &Catalog, query: &Query) -> DecisionId {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&query.seed.to_le_bytes());
        hasher.update(&catalog.version().get().to_le_bytes());
        hasher.update(&self.weights.version.to_le_bytes());
        hasher.update(&query.total_tokens.to_le_bytes());
        hasher.update(query.task.as_ref().map_or(&[0; 16], |task| task.as_bytes()));
        for budget in &query.surfaces {
            hasher.update(format!("{budget:?}").as_bytes());
        }
        for id in &query.recent {
            hasher.update(id.as_str().as_bytes());
            hasher.update(b" ");
        }
        hasher.update(query.text.as_bytes());
        let mut random = [0; 10];
        random.copy_from_slice(&hasher.finalize().as_bytes()[..10]);
        let at = query.task.map_or(Timestamp::from_ms(0), |task| task.timestamp());
        DecisionId::from_parts(at, random)
    }
}

impl Scored<'_> {
    fn must(&self) -> bool {
        self.why.pinned || self.why.named
    }
}

fn check(query: &Query) -> Result<()> {
    if query.surfaces.len() > MAX_SURFACES {
        return Err(Error::LimitReached {
            what: "the number of surfaces",
            limit: MAX_SURFACES,
        });
    }
    if query.text.len() > MAX_QUERY_BYTES {
        return Err(Error::Length {
            what: "a query",
            found: query.text.len(),
            limit: MAX_QUERY_BYTES,
        });
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = query.surfaces.iter().find(|budget| !seen.insert(&budget.surface)) {
        return Err(Error::SurfaceTwice(twice.surface.as_str().to_owned()));
    }
    let floors = query
        .surfaces
        .iter()
        .map(|budget| u64::from(budget.floor_tokens))
        .sum();
    if floors > u64::from(query.total_tokens) {
        return Err(Error::FloorsOverBudget {
            floors,
            total: query.total_tokens,
        });
    }
    Ok(())
}

/// The softmax over the items of a surface and none, whose logit is 0.
fn give_probabilities(scored: &mut [Scored<'_>]) {
    let most = scored.iter().map(|s| s.why.logit()).fold(0.0, f64::max);
    let weights: Vec<f64> = scored.iter().map(|s| (s.why.logit() - most).exp()).collect();
    let sum: f64 = weights.iter().sum::<f64>() + (-most).exp();
    for (s, weight) in scored.iter_mut().zip(weights) {
        s.p = weight / sum;
    }
}

/// The rendering of each item, and whether everything fits in full.
fn choose(scored: &[Scored<'_>], query: &Query, everything: u64) -> (Vec<Option<usize>>, bool) {
    let bins: Vec<Bin> = query.surfaces.iter().map(bin_of).collect();
    let within = |(bin, limits): (usize, &Bin)| {
        let of_bin = || scored.iter().filter(move |s| s.bin == bin);
        let tokens: u64 = of_bin().map(|s| u64::from(s.item.full_tokens())).sum();
        of_bin().count() <= limits.max_items && tokens <= u64::from(limits.max_cost)
    };
    let trusted = scored
        .iter()
        .all(|s| s.item.provenance() != Provenance::Unverified);
    if trusted && everything <= u64::from(query.total_tokens) && bins.iter().enumerate().all(within) {
        return (
            scored
                .iter()
                .map(|s| Some(s.item.renderings().len() - 1))
                .collect(),
            true,
        );
    }
    let mut providers: BTreeMap<&str, usize> = BTreeMap::new();
    let mut candidates = Vec::with_capacity(scored.len());
    for s in scored {
        let next = providers.len();
        let provider = *providers.entry(s.item.provider()).or_insert(next);
        candidates.push(Candidate {
            bin: s.bin,
            group: (s.item.provenance() == Provenance::Unverified).then_some(provider),
            value: s.p,
            costs: s
                .item
                .renderings()
                .iter()
                .map(|rendering| rendering.tokens)
                .collect(),
            must: s.must(),
        });
    }
    (fill(&candidates, &bins, query.total_tokens), false)
}

fn bin_of(budget: &SurfaceBudget) -> Bin {
    Bin {
        max_items: budget.max_items,
        max_cost: budget.max_tokens,
        floor: budget.floor_tokens,
        max_of_group: budget.max_unverified,
    }
}

fn picks(scored: Vec<Scored<'_>>, chosen: &[Option<usize>]) -> Vec<Pick> {
    let mut picks: Vec<Pick> = Vec::new();
    for (s, chosen) in scored.into_iter().zip(chosen) {
        let Some(rendering) = *chosen else { continue };
        let surface = s.item.surface().clone();
        let rank = picks.iter().filter(|pick| pick.surface == surface).count() + 1;
        picks.push(Pick {
            item: s.item.id().clone(),
            surface,
            rank,
            p: s.p,
            rendering,
            tokens: s.item.renderings()[rendering].tokens,
            why: s.why,
        });
    }
    picks
}
