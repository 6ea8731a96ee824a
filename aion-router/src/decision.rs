//! What is kept of a ranking until its outcome is known, and what an outcome says.

use std::collections::HashSet;

use aion_types::{DecisionId, TaskId};
use serde::{Deserialize, Serialize};

use crate::catalog::CatalogVersion;
use crate::feature::FEATURES;
use crate::item::{ItemId, Surface};
use crate::ladder::RungRecord;
use crate::profile::{PROFILES, Profile};
use crate::vector::Quantized;

/// A vector as it is stored: integers and what one of them stands for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredVector {
    /// The integers.
    pub integers: Vec<i8>,
    /// What an integer of 1 stands for.
    pub scale: f32,
}

impl From<&Quantized> for StoredVector {
    fn from(vector: &Quantized) -> Self {
        Self {
            integers: vector.integers().to_vec(),
            scale: vector.scale(),
        }
    }
}

impl StoredVector {
    /// The vector; `None` if the numbers cannot be one.
    pub fn quantized(&self) -> Option<Quantized> {
        Quantized::from_parts(&self.integers, self.scale)
    }
}

/// The least probability that is kept: 1e-30, so that no loss is infinite.
pub(crate) fn kept(p: f64) -> f32 {
    p.max(1e-30) as f32
}

/// An item that a ranking looked at closely.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoggedItem {
    /// The item.
    pub item: ItemId,
    /// Its features, in the order of [`Feature::ALL`](crate::Feature::ALL).
    pub features: [f32; FEATURES],
    /// The probability that each profile gave it, in the order of [`Profile::ALL`].
    pub p: [f32; PROFILES],
    /// Which of its renderings was shown, if it was.
    pub shown: Option<u8>,
}

/// One surface of a ranking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoggedSurface {
    /// The surface.
    pub surface: Surface,
    /// How many items it had.
    pub items: u64,
    /// Those that the ranking looked at closely, best first.
    pub candidates: Vec<LoggedItem>,
    /// The probability that each profile gave to none of the items.
    pub none: [f32; PROFILES],
    /// The probability that each profile gave to all items beyond the candidates together.
    pub rest: [f32; PROFILES],
    /// The mean of each feature under the learned weights.
    pub expected: [f32; FEATURES],
}

impl LoggedSurface {
    /// The probability that each profile gave to an item, or to none of them.
    ///
    /// An item beyond the candidates has an equal share of what was left for all of those.
    pub fn p(&self, used: Option<&ItemId>) -> [f64; PROFILES] {
        let Some(used) = used else {
            return self.none.map(f64::from);
        };
        let found = self.candidates.iter().find(|logged| logged.item == *used);
        let beyond = self.items.saturating_sub(self.candidates.len() as u64).max(1);
        let share = |mass: f32| f64::from(mass) / beyond as f64;
        found.map_or_else(|| self.rest.map(share), |logged| logged.p.map(f64::from))
    }
}

/// A ranking as it is kept: enough to learn from, and to judge another policy by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Its id.
    pub id: DecisionId,
    /// The task that it belongs to.
    pub task: Option<TaskId>,
    /// The embedding of the query, if it had one.
    pub vector: Option<StoredVector>,
    /// Who made it; absent where that was not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Items used last before it, the latest first.
    pub recent: Vec<ItemId>,
    /// The profile whose order was served; `None` for the mixture of all. A surface that learning made worse has the
    /// order without it all the same.
    pub arm: Option<Profile>,
    /// The probability with which just these picks were served; `None` where nothing was left to chance.
    pub propensity: Option<f64>,
    /// Where something was left to chance, the arms that would have served just these picks; `None` is the
    /// mixture.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agreed: Vec<Option<Profile>>,
    /// The surfaces, in the order of the query.
    pub surfaces: Vec<LoggedSurface>,
    /// The catalog that was ranked.
    pub catalog: CatalogVersion,
    /// The rungs that it took, and what they took; none where no ladder was climbed. Nothing is learned from them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rungs: Vec<RungRecord>,
}

impl Decision {
    /// How many items of all surfaces it keeps.
    pub(crate) fn candidates(&self) -> usize {
        self.surfaces.iter().map(|surface| surface.candidates.len()).sum()
    }

    /// The items that were shown.
    pub fn shown(&self) -> impl Iterator<Item = &ItemId> {
        let candidates = self.surfaces.iter().flat_map(|surface| &surface.candidates);
        candidates
            .filter(|logged| logged.shown.is_some())
            .map(|logged| &logged.item)
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeStatus {
    /// What was used served its purpose.
    Succeeded,
    /// It did not: what was used is no example of what was needed.
    Failed,
}

/// What became of a decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The items that were used, of any surface; one that is named twice was used once. A surface without any is one
    /// where none was needed.
    pub used: Vec<ItemId>,
    /// How the step ended.
    pub status: OutcomeStatus,
    /// How far the model of the task was from what came of it, in bits, if that was measured.
    pub kl_bits: Option<f64>,
}

/// The most items that one outcome may name.
pub const MAX_USED: usize = 256;

impl Outcome {
    /// These items were used, and the step succeeded.
    pub fn used(items: impl IntoIterator<Item = ItemId>) -> Self {
        Self {
            used: items.into_iter().collect(),
            status: OutcomeStatus::Succeeded,
            kl_bits: None,
        }
    }

    /// The items that were used, each once, in the order in which they were named.
    pub(crate) fn distinct(&self) -> Vec<&ItemId> {
        let mut seen = HashSet::new();
        self.used.iter().filter(|item| seen.insert(*item)).collect()
    }

    /// Sets how it ended.
    #[must_use]
    pub const fn with_status(mut self, status: OutcomeStatus) -> Self {
        self.status = status;
        self
    }

    /// Sets how far the model of the task was off.
    #[must_use]
    pub const fn with_kl_bits(mut self, bits: f64) -> Self {
        self.kl_bits = Some(bits);
        self
    }
}

/// What an outcome was worth on one surface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SurfaceGain {
    /// The surface.
    pub surface: Surface,
    /// How surprised the router was.
    pub loss_bits: f64,
    /// How surprised the order without learning would have been.
    pub baseline_bits: f64,
}

/// What an outcome was worth: bits gained over the order without learning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gain {
    /// By surface, in the order of the query.
    pub surfaces: Vec<SurfaceGain>,
}

impl Gain {
    /// All bits gained together.
    pub fn bits(&self) -> f64 {
        let gained = self.surfaces.iter().map(|s| s.baseline_bits - s.loss_bits);
        gained.sum()
    }
}
