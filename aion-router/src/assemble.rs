//! Ranked surfaces and a budget become a shortlist.

use std::collections::{BTreeMap, BTreeSet};

use aion_types::{DecisionId, Timestamp};

use crate::budget::{Bin, Candidate as Choice, fill};
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::feature::{Feature, Weights};
use crate::item::Surface;
use crate::ladder::{LIKELIEST, surface_doubt_bits};
use crate::profile::Profile;
use crate::query::{NearestPast, Pick, Query, ShortlistState, SurfaceBudget, Why};
use crate::rank::{Candidate, Ranked};
use crate::rerank::Reading;
use crate::vector::Quantized;

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
            strangers_fit(ranked, budget.max_unverified)
                && ranked.items <= budget.max_items
                && ranked.full_tokens <= u64::from(budget.max_tokens)
        })
}

/// Whether all of a surface is among the candidates, no provider with more items that nobody vouches for than may be
/// shown. Copies are no candidates.
fn strangers_fit(ranked: &Ranked<'_>, most: usize) -> bool {
    let mut of_provider: BTreeMap<&str, usize> = BTreeMap::new();
    let strangers = ranked.candidates.iter().filter(|candidate| candidate.unverified);
    for candidate in strangers {
        *of_provider.entry(candidate.item.provider()).or_default() += 1;
    }
    ranked.candidates.len() == ranked.items && of_provider.into_values().all(|items| items <= most)
}

/// Chooses renderings by the probabilities of one profile, or of the mixture, for each surface.
pub(crate) fn choose(
    ranked: &[Option<Ranked<'_>>],
    query: &Query,
    arm_of: impl Fn(&Surface) -> Option<Profile>,
) -> (Slate, bool) {
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
        let arm = arm_of(&query.surfaces[bin].surface);
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
        let mut terms: Vec<(Feature, f64)> = Vec::with_capacity(Feature::ALL.len() + 2);
        terms.extend(parts.filter(|(feature, part)| *feature == Feature::Bias || *part != 0.0));
        if self.mixture != 0.0 {
            terms.push((Feature::Mixture, self.mixture));
        }
        if self.read != 0.0 {
            terms.push((Feature::Read, self.read));
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

/// What the answer says of itself, given why other things were left out.
pub(crate) fn state(
    ranked: &[Option<Ranked<'_>>],
    slate: &Slate,
    fits: bool,
    lost: impl IntoIterator<Item = String>,
) -> ShortlistState {
    let mut candidates = ranked.iter().zip(slate).flat_map(|(ranked, chosen)| {
        let of_surface = ranked.iter().flat_map(|ranked| &ranked.candidates);
        of_surface.zip(chosen)
    });
    let missing = candidates.find(|(candidate, chosen)| candidate.must() && chosen.is_none());
    let missing = missing.map(|(candidate, _)| format!("{} must be in and does not fit", candidate.id));
    let whole = if fits {
        ShortlistState::Everything
    } else {
        ShortlistState::Active
    };
    missing
        .into_iter()
        .chain(lost)
        .fold(whole, ShortlistState::because)
}

/// A digest of what a ranking is made from: the query, the items, the versions of what was learned, the embedding, and
/// what was read. What is left to chance is drawn by it.
pub(crate) fn basis(
    query: &Query,
    catalog: &Catalog,
    versions: [u64; 2],
    vector: Option<&Quantized>,
    readings: &[Reading],
) -> [u8; 32] {
    let mut bytes = Vec::with_capacity(1_024);
    let [weights, outcomes] = versions;
    for number in [
        query.seed,
        catalog.digest(),
        weights,
        outcomes,
        u64::from(query.total_tokens),
    ] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(query.task.as_ref().map_or(&[0; 16], |task| task.as_bytes()));
    put_count(&mut bytes, query.surfaces.len());
    for budget in &query.surfaces {
        put_text(&mut bytes, &format!("{budget:?}"));
    }
    put_count(&mut bytes, query.recent.len());
    for id in &query.recent {
        put_text(&mut bytes, id.as_str());
    }
    put_text(&mut bytes, &query.text);
    put_count(&mut bytes, vector.map_or(0, Quantized::dim));
    if let Some(vector) = vector {
        vector.put_bytes(&mut bytes);
    }
    for reading in readings {
        put_text(&mut bytes, reading.item.as_str());
        bytes.extend(reading.counted().to_le_bytes());
    }
    blake3::hash(&bytes).into()
}

/// The id of a decision: the same for the same basis, picks and propensity, also after a restart, so that what is
/// stored under it is what was served.
pub(crate) fn decision_id(
    query: &Query,
    basis: &[u8; 32],
    ranked: &[Option<Ranked<'_>>],
    slate: &Slate,
    propensity: Option<f64>,
) -> DecisionId {
    let mut bytes = Vec::with_capacity(8_192);
    bytes.extend(basis);
    bytes.extend(propensity.unwrap_or_default().to_le_bytes());
    for (ranked, chosen) in ranked.iter().zip(slate) {
        put_count(&mut bytes, chosen.iter().flatten().count());
        let candidates = ranked.iter().flat_map(|ranked| &ranked.candidates);
        for (candidate, chosen) in candidates.zip(chosen) {
            if let Some(rendering) = chosen {
                put_text(&mut bytes, candidate.id.as_str());
                put_count(&mut bytes, *rendering);
            }
        }
    }
    let mut random = [0; 10];
    random.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..10]);
    let at = query.task.map_or(Timestamp::from_ms(0), |task| task.timestamp());
    DecisionId::from_parts(at, random)
}

fn put_count(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend((count as u64).to_le_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_count(bytes, text.len());
    bytes.extend(text.as_bytes());
}

/// What showing everything in full would cost.
pub(crate) fn everything(ranked: &[Option<Ranked<'_>>]) -> u64 {
    ranked.iter().flatten().map(|ranked| ranked.full_tokens).sum()
}

/// The probability of none, by surface: 1 for a surface that never had an item.
pub(crate) fn none(ranked: &[Option<Ranked<'_>>]) -> Vec<f64> {
    let none = ranked.iter().map(Option::as_ref);
    none.map(|ranked| ranked.map_or(1.0, |ranked| ranked.q_none))
        .collect()
}

/// The doubt of the surface that has most of it, in bits, whatever is drawn to be served.
pub(crate) fn doubt_bits(ranked: &[Option<Ranked<'_>>]) -> f64 {
    let of = |ranked: &Ranked<'_>| {
        let likeliest = ranked.candidates.iter().take(LIKELIEST);
        let likeliest: Vec<f64> = likeliest.map(|candidate| candidate.q).collect();
        surface_doubt_bits(&likeliest, ranked.q_none)
    };
    ranked.iter().flatten().map(of).fold(0.0, f64::max)
}
