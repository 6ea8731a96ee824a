//! What a ranking is asked, and what it answers.

use aion_types::{DecisionId, TaskId};
use serde::Serialize;

use crate::catalog::CatalogVersion;
use crate::feature::Feature;
use crate::item::{ItemId, Surface};

/// What one surface may take of a shortlist.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SurfaceBudget {
    /// The surface.
    pub surface: Surface,
    /// How many items at most.
    pub max_items: usize,
    /// How many tokens at most.
    pub max_tokens: u32,
    /// How many tokens are kept for it.
    pub floor_tokens: u32,
    /// How many unverified items of one provider at most.
    pub max_unverified: usize,
}

impl SurfaceBudget {
    /// Up to 64 items, no share of its own, at most 2 unverified items of one provider.
    pub const fn new(surface: Surface) -> Self {
        Self {
            surface,
            max_items: 64,
            max_tokens: u32::MAX,
            floor_tokens: 0,
            max_unverified: 2,
        }
    }

    /// Sets how many items at most.
    #[must_use]
    pub const fn with_max_items(mut self, items: usize) -> Self {
        self.max_items = items;
        self
    }

    /// Sets how many tokens at most.
    #[must_use]
    pub const fn with_max_tokens(mut self, tokens: u32) -> Self {
        self.max_tokens = tokens;
        self
    }

    /// Keeps tokens for this surface.
    #[must_use]
    pub const fn with_floor_tokens(mut self, tokens: u32) -> Self {
        self.floor_tokens = tokens;
        self
    }

    /// Sets how many unverified items of one provider at most.
    #[must_use]
    pub const fn with_max_unverified(mut self, items: usize) -> Self {
        self.max_unverified = items;
        self
    }
}

/// What a ranking is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Query {
    /// What the next step is about, in words.
    pub text: String,
    /// The task that it belongs to.
    pub task: Option<TaskId>,
    /// Items used last, the latest first.
    pub recent: Vec<ItemId>,
    /// The surfaces wanted, in the order of the answer.
    pub surfaces: Vec<SurfaceBudget>,
    /// How many tokens all picks together may have.
    pub total_tokens: u32,
    /// Tells apart decisions on the same query.
    pub seed: u64,
}

impl Query {
    /// A query without surfaces yet.
    pub fn new(text: impl Into<String>, total_tokens: u32) -> Self {
        let (text, recent, surfaces) = (text.into(), Vec::new(), Vec::new());
        Self {
            text,
            task: None,
            recent,
            surfaces,
            total_tokens,
            seed: 0,
        }
    }

    /// Asks for a surface.
    #[must_use]
    pub fn with_surface(mut self, budget: SurfaceBudget) -> Self {
        self.surfaces.push(budget);
        self
    }

    /// Names the task.
    #[must_use]
    pub const fn with_task(mut self, task: TaskId) -> Self {
        self.task = Some(task);
        self
    }

    /// Names the items used last, the latest first.
    #[must_use]
    pub fn with_recent(mut self, items: Vec<ItemId>) -> Self {
        self.recent = items;
        self
    }

    /// Sets the seed.
    #[must_use]
    pub const fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// Why an item was picked: parts that add up to its logit, and rules that put it in anyway.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Why {
    /// The parts of the logit, in a fixed order. Without learning it is the sum of weights times features;
    /// with it, a further part says what the other profiles add, and a last one what a model adds that read the item.
    pub terms: Vec<(Feature, f64)>,
    /// Whether it is pinned.
    pub pinned: bool,
    /// Whether the query names it.
    pub named: bool,
    /// The rule that wants it.
    pub rule: Option<String>,
    /// The past query nearest to this one that used it.
    pub nearest_past: Option<NearestPast>,
}

/// A past query that used an item.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NearestPast {
    /// The task that it belonged to.
    pub task: Option<TaskId>,
    /// The cosine of its embedding with this one's.
    pub cosine: f32,
}

impl Why {
    /// The sum of the parts.
    pub fn logit(&self) -> f64 {
        self.terms.iter().map(|(_, part)| part).sum()
    }
}

/// An item of the shortlist.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pick {
    /// The item.
    pub item: ItemId,
    /// Its surface.
    pub surface: Surface,
    /// Its place among the picks of its surface, from 1.
    pub rank: usize,
    /// The probability that it is the one needed, beside the other items of its surface and none.
    pub p: f64,
    /// Which of its renderings is shown, from 0.
    pub rendering: usize,
    /// What that costs.
    pub tokens: u32,
    /// Why.
    pub why: Why,
}

/// Whether something was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ShortlistState {
    /// The picks are a selection.
    Active,
    /// Everything fits in full, so nothing is left out.
    Everything,
    /// Something that must be in is not, or a part of the ranking was left out.
    Degraded {
        /// What, and why; several reasons are parted by semicolons.
        reason: String,
    },
}

impl ShortlistState {
    /// Degraded for this reason, beside those that there are.
    #[must_use]
    pub(crate) fn because(self, reason: String) -> Self {
        let reason = match self {
            Self::Degraded { reason: before } => format!("{before}; {reason}"),
            _ => reason,
        };
        Self::Degraded { reason }
    }
}

/// The answer: what belongs in the next step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shortlist {
    /// The id of this decision: the same for the same query, seed, catalog and weights, with the same embedding and the
    /// same picks; another where one of them differs.
    pub decision: DecisionId,
    /// The picks: surfaces in the order of the query, in each by rank.
    pub picks: Vec<Pick>,
    /// What the picks cost together; never more than the budget.
    pub tokens: u32,
    /// What showing everything in full would cost beyond that.
    pub saved_tokens: u64,
    /// The catalog that was ranked.
    pub catalog: CatalogVersion,
    /// The weights that ranked it: the newest of those of its surfaces.
    pub weights: u64,
    /// The probability with which just these picks were made; `None` where nothing was left to chance.
    pub propensity: Option<f64>,
    /// For each surface in the order of the query, the probability that none of its items is needed.
    pub none: Vec<f64>,
    /// How much doubt is left on the surface that has most of it, in bits: the entropy of its 16 likeliest items and
    /// none, whichever order was drawn to be served. None counts for at most as much as makes it greatest: that little
    /// speaks for any item is no reason to look no further.
    pub doubt_bits: f64,
    /// Whether something was left out.
    pub state: ShortlistState,
}
