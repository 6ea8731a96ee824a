//! Ranked surfaces and a budget become a shortlist.

use std::collections::{BTreeMap, BTreeSet};

use aion_types::{DecisionId, Timestamp};

use crate::budget::{Bin, Candidate as Choice, fill};
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::feature::{Feature, Weights};
use crate::profile::Profile;
use crate::query::{NearestPast, Pick, Query, ShortlistState, SurfaceBudget, Why};
use crate::rank::{Candidate, Ranked};

/// Surfaces of one query.
const MAX_SURFACES: usize = 64;
/// The longest text of a query, in bytes.
const MAX_QUERY_BYTES: usize = 1 << 20;
/// Recent items of one query.
const MAX_RECENT: usize = 4_096;

/// Which renderings were chosen, by surface and candidate.
pub(crate) type Slate = Vec<Vec<Option<usize>>>;

/// Whether a query may be asked.
pub(crate) fn check(query: &Query) -> Result<()> {
    if query.surfaces.len() > MAX_SURFACES || query.recent.len() > MAX_RECENT {
        return Err(Error::LimitReached {
            what: "the number of surfaces or recent items",
            limit: if query.surfaces.len() > MAX_SURFACES {
                MAX_SURFACES
            } else {
                MAX_RECENT
            },
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

/// Whether all of everything may be shown in full.
fn everything_fits(ranked: &[Option<Ranked<'_>>], query: &Query) -> bool {
    let surfaces = || {
        ranked
            .iter()
            .zip(&query.surfaces)
            .filter_map(|(r, b)| Some((r.as_ref()?, b)))
    };
    let all: u64 = surfaces().map(|(ranked, _)| ranked.full_tokens).sum();
    all <= u64::from(query.total_tokens)
        && surfaces().all(|(ranked, budget)| {
            ranked.strangers == 0
                && ranked.items <= budget.max_items
                && ranked.full_tokens <= u64::from(budget.max_tokens)
        })
}

/// Chooses renderings by the probabilities of one profile, or of the mixture.
pub(crate) fn choose(ranked: &[Option<Ranked<'_>>], query: &Query, arm: Option<Profile>) -> (Slate, bool) {
    if everything_fits(ranked, query) {
        let all = |ranked: &Ranked<'_>| {
            let fullest = ranked.candidates.iter().map(|c| Some(c.costs.len() - 1));
            fullest.collect()
        };
        return (
            ranked
                .iter()
                .map(|r| r.as_ref().map(all).unwrap_or_default())
                .collect(),
            true,
        );
    }
    let bins: Vec<Bin> = query.surfaces.iter().map(bin_of).collect();
    let mut providers: BTreeMap<&str, usize> = BTreeMap::new();
    let mut choices = Vec::new();
    for (bin, ranked) in ranked.iter().enumerate() {
        let of_surface: &[Candidate<'_>] = ranked.as_ref().map_or(&[], |ranked| &ranked.candidates);
        for candidate in of_surface {
            // Only what nobody vouches for counts against its provider.
            let group = candidate.unverified.then(|| {
                let next = providers.len();
                *providers.entry(candidate.item.provider()).or_insert(next)
            });
            choices.push(choice(candidate, bin, group, arm));
        }
    }
    let mut chosen = fill(&choices, &bins, query.total_tokens).into_iter();
    let slate = ranked.iter().map(|ranked| {
        let n = ranked.as_ref().map_or(0, |ranked| ranked.candidates.len());
        chosen.by_ref().take(n).collect()
    });
    (slate.collect(), false)
}

fn choice<'a>(
    candidate: &Candidate<'a>,
    bin: usize,
    group: Option<usize>,
    arm: Option<Profile>,
) -> Choice<&'a [u32]> {
    Choice {
        bin,
        group,
        value: arm.map_or(candidate.q, |arm| candidate.p[arm.index()]),
        costs: candidate.costs,
        must: candidate.must(),
    }
}

fn bin_of(budget: &SurfaceBudget) -> Bin {
    Bin {
        max_items: budget.max_items,
        max_cost: budget.max_tokens,
        floor: budget.floor_tokens,
        max_of_group: budget.max_unverified,
    }
}

impl Candidate<'_> {
    pub(crate) fn must(&self) -> bool {
        self.pinned || self.named || self.rule.is_some()
    }

    fn why(&self, weights: &Weights) -> Why {
        let parts = Feature::ALL.into_iter().zip(weights.values()).zip(self.row);
        let parts = parts.map(|((feature, weight), x)| (feature, weight * x));
        let mut terms: Vec<(Feature, f64)> = Vec::with_capacity(Feature::ALL.len() + 1);
        terms.extend(parts.filter(|(feature, part)| *feature == Feature::Bias || *part != 0.0));
        if self.mixture != 0.0 {
            terms.push((Feature::Mixture, self.mixture));
        }
        Why {
            terms,
            pinned: self.pinned,
            named: self.named,
            rule: self.rule.map(str::to_owned),
            nearest_past: self.nearest.map(|(task, cosine)| NearestPast { task, cosine }),
        }
    }
}

/// The picks of a slate: surfaces in the order of the query, in each by rank.
pub(crate) fn picks(ranked: &[Option<Ranked<'_>>], query: &Query, slate: &Slate) -> Vec<Pick> {
    let shown = slate.iter().flatten().flatten().count();
    let mut picks: Vec<Pick> = Vec::with_capacity(shown);
    for ((ranked, budget), chosen) in ranked.iter().zip(&query.surfaces).zip(slate) {
        let Some(ranked) = ranked else { continue };
        let of_surface = ranked.candidates.iter().zip(chosen);
        let shown = of_surface.filter_map(|(candidate, chosen)| Some((candidate, (*chosen)?)));
        for (rank, (candidate, rendering)) in shown.enumerate() {
            picks.push(Pick {
                item: candidate.id.clone(),
                surface: budget.surface.clone(),
                rank: rank + 1,
                p: candidate.q,
                rendering,
                tokens: candidate.costs[rendering],
                why: candidate.why(&ranked.weights),
            });
        }
    }
    picks
}

/// What the answer says of itself, given what was left out for other reasons.
pub(crate) fn state(
    ranked: &[Option<Ranked<'_>>],
    slate: &Slate,
    fits: bool,
    lost: Option<String>,
) -> ShortlistState {
    let candidates = ranked.iter().zip(slate).flat_map(|(ranked, chosen)| {
        let of_surface = ranked.iter().flat_map(|ranked| &ranked.candidates);
        of_surface.zip(chosen)
    });
    let missing = candidates
        .into_iter()
        .find(|(candidate, chosen)| candidate.must() && chosen.is_none());
    match (missing, lost) {
        (Some((candidate, _)), _) => ShortlistState::Degraded {
            reason: format!("{} must be in and does not fit", candidate.id),
        },
        (None, Some(reason)) => ShortlistState::Degraded { reason },
        (None, None) if fits => ShortlistState::Everything,
        (None, None) => ShortlistState::Active,
    }
}

/// The id of a decision: the same for the same query, seed, items and weights, also after a restart.
pub(crate) fn decision_id(query: &Query, catalog: &Catalog, weights: u64, outcomes: u64) -> DecisionId {
    let mut hasher = blake3::Hasher::new();
    for number in [
        query.seed,
        catalog.digest(),
        weights,
        outcomes,
        u64::from(query.total_tokens),
    ] {
        hasher.update(&number.to_le_bytes());
    }
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

/// What showing everything in full would cost.
pub(crate) fn everything(ranked: &[Option<Ranked<'_>>]) -> u64 {
    ranked.iter().flatten().map(|ranked| ranked.full_tokens).sum()
}
