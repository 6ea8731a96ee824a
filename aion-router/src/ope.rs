//! Off-policy evaluation: what another policy would have been worth, from what was served by chance.
//!
//! # Sources
//! D. Horvitz, D. Thompson, 1952 (IPS); A. Swaminathan, T. Joachims, The self-normalized estimator for
//! counterfactual learning, 2015 (SNIPS); M. Dudik, J. Langford, L. Li, Doubly robust policy evaluation and
//! learning, 2011 (DR); A. Owen, Monte Carlo theory, methods and examples, chapter 9 (effective sample size).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use aion_types::DecisionId;
use serde::{Deserialize, Serialize};

use crate::decision::{Decision, Outcome, OutcomeStatus};
use crate::engine::LogEntry;
use crate::item::ItemId;
use crate::profile::Profile;

/// Decisions that wait for their outcome.
const MAX_WAITING: usize = 65_536;
/// Items that those have shown together.
const MAX_SHOWN: usize = 64 * MAX_WAITING;

/// One decision that was left to chance, with its reward.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Logged {
    /// The probability with which the log's policy served what it served.
    pub propensity: f64,
    /// The probability with which the policy in question would have served the same.
    pub target: f64,
    /// What came of it.
    pub reward: f64,
    /// What a model expects of what was served, if there is one.
    pub model: Option<Modelled>,
}

/// What a model of rewards says of one decision.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Modelled {
    /// The reward that it expects of what was served.
    pub served: f64,
    /// The reward that it expects of the policy in question.
    pub target: f64,
}

/// Gathers from a router's log what one policy needs to be judged by.
#[derive(Debug, Clone)]
pub struct PolicyLog {
    policy: Option<Profile>,
    last: usize,
    waiting: BTreeMap<DecisionId, Waiting>,
    /// Those that waited, in the order of the log.
    order: VecDeque<DecisionId>,
    /// Items shown by those that wait.
    shown: usize,
    most_shown: usize,
    decisions: VecDeque<Logged>,
}

/// What a decision says of the policy, until its outcome is known.
#[derive(Debug, Clone)]
struct Waiting {
    propensity: f64,
    agrees: bool,
    shown: BTreeSet<ItemId>,
}

impl PolicyLog {
    /// For the policy that always serves the order of a profile, or with `None` that of the mixture; the
    /// latest `last` decisions are kept.
    pub const fn new(policy: Option<Profile>, last: usize) -> Self {
        Self {
            policy,
            last,
            waiting: BTreeMap::new(),
            order: VecDeque::new(),
            shown: 0,
            most_shown: MAX_SHOWN,
            decisions: VecDeque::new(),
        }
    }

    /// Reads the next entry. Decisions that were not left to chance say nothing of another policy.
    pub fn read(&mut self, entry: LogEntry) {
        match entry {
            LogEntry::Decided(decision) => self.wait(&decision),
            LogEntry::Recorded { decision, outcome } => {
                let decided = self.take_out(decision);
                self.decisions
                    .extend(decided.map(|decided| decided.judged(&outcome)));
                if self.decisions.len() > self.last {
                    self.decisions.pop_front();
                }
            }
            LogEntry::Forgot { .. } => {}
        }
    }

    /// Waits for an outcome. The oldest ones go when there are too many, or too large ones.
    fn wait(&mut self, decision: &Decision) {
        let Some(propensity) = decision
            .propensity
            .filter(|_| !self.waiting.contains_key(&decision.id))
        else {
            return;
        };
        let shown: BTreeSet<ItemId> = decision.shown().cloned().collect();
        self.shown += shown.len();
        let agrees = decision.agreed.contains(&self.policy);
        let waiting = Waiting {
            propensity,
            agrees,
            shown,
        };
        self.waiting.insert(decision.id, waiting);
        self.order.push_back(decision.id);
        while (self.order.len() > MAX_WAITING || self.shown > self.most_shown)
            && let Some(oldest) = self.order.pop_front()
        {
            self.take_out(oldest);
        }
    }

    fn take_out(&mut self, id: DecisionId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        self.shown -= waiting.shown.len();
        Some(waiting)
    }

    /// What it has gathered, oldest first.
    pub fn into_decisions(self) -> Vec<Logged> {
        self.decisions.into()
    }
}

impl Waiting {
    fn judged(&self, outcome: &Outcome) -> Logged {
        let served = outcome.status == OutcomeStatus::Succeeded
            && outcome.used.iter().all(|item| self.shown.contains(item));
        Logged {
            propensity: self.propensity,
            target: f64::from(u8::from(self.agrees)),
            reward: f64::from(u8::from(served)),
            model: None,
        }
    }
}

/// When an evaluation is refused.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct OpeOptions {
    /// The least effective sample size.
    pub min_effective: f64,
    /// The largest weight of one decision.
    pub max_weight: f64,
}

impl OpeOptions {
    /// Sets the least effective sample size.
    #[must_use]
    pub const fn with_min_effective(mut self, decisions: f64) -> Self {
        self.min_effective = decisions;
        self
    }

    /// Sets the largest weight of one decision.
    #[must_use]
    pub const fn with_max_weight(mut self, weight: f64) -> Self {
        self.max_weight = weight;
        self
    }
}

impl Default for OpeOptions {
    /// At least 100 decisions' worth, none with a weight above 50.
    fn default() -> Self {
        Self {
            min_effective: 100.0,
            max_weight: 50.0,
        }
    }
}

/// What a policy would have been worth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    /// Decisions in the log.
    pub decisions: usize,
    /// Inverse propensities: unbiased, and the noisiest.
    pub ips: f64,
    /// The same, divided by the sum of the weights: between the least and the largest reward.
    pub snips: f64,
    /// Doubly robust, if every decision has a model.
    pub dr: Option<f64>,
    /// Half of a 95% interval around `snips`.
    pub half_width: f64,
    /// How many decisions of the policy itself would say as much.
    pub effective: f64,
    /// The largest weight of one decision.
    pub max_weight: f64,
    /// The share of decisions that the policy could have served.
    pub coverage: f64,
}

impl Estimate {
    /// Whether all of it are numbers; the interval of a policy that was never served has no end.
    fn is_finite(&self) -> bool {
        let served = self.coverage > 0.0 && self.max_weight > 0.0;
        let ends = if served { self.half_width } else { 0.0 };
        let all = [self.ips, self.snips, self.dr.unwrap_or(0.0), ends, self.effective];
        all.iter().all(|number| number.is_finite())
    }
}

/// Why a log cannot say what a policy is worth.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// A decision was not left to chance, or its numbers are no probabilities.
    #[error("decision {at} of the log has a propensity of {propensity} and a target of {target}")]
    BadPropensity {
        /// Its place in the log.
        at: usize,
        /// Its propensity.
        propensity: f64,
        /// Its probability under the policy.
        target: f64,
    },
    /// A reward or a model's number that is not finite.
    #[error("decision {at} of the log has a number that is not finite")]
    NotFinite {
        /// Its place in the log.
        at: usize,
    },
    /// Numbers so large, or propensities so small, that their sums are none.
    #[error("the numbers of the log are too far apart to be added")]
    TooLarge,
    /// Too little of the log is of use.
    #[error("the log says as much as {effective:.1} decisions of the policy would, {needed} are needed")]
    TooFew {
        /// The effective sample size.
        effective: f64,
        /// What is needed.
        needed: f64,
    },
    /// A few decisions would decide everything.
    #[error("one decision has a weight of {weight:.1}, above {limit}")]
    TooHeavy {
        /// The largest weight.
        weight: f64,
        /// The limit.
        limit: f64,
    },
}

/// Estimates what a policy would have been worth.
///
/// ```
/// use aion_router::ope::{Logged, OpeOptions, evaluate};
///
/// // Two arms served with .8 and .2; the second is worth 1, the first 0. The policy always serves the second.
/// let log: Vec<Logged> = (0..1000)
///     .map(|i| match i % 5 {
///         0 => Logged { propensity: 0.2, target: 1.0, reward: 1.0, model: None },
///         _ => Logged { propensity: 0.8, target: 0.0, reward: 0.0, model: None },
///     })
///     .collect();
/// let estimate = evaluate(&log, &OpeOptions::default())?;
/// assert!((estimate.ips - 1.0).abs() < 1e-9 && (estimate.effective - 200.0).abs() < 1e-9);
/// # Ok::<(), aion_router::ope::Refused>(())
/// ```
///
/// # Errors
/// [`Refused`] when the log cannot know.
pub fn evaluate(log: &[Logged], options: &OpeOptions) -> Result<Estimate, Refused> {
    let weights = log.iter().enumerate().map(|(at, logged)| weight(at, logged));
    let weights: Vec<f64> = weights.collect::<Result<_, _>>()?;
    let estimate = estimate(log, &weights);
    if !estimate.is_finite() {
        return Err(Refused::TooLarge);
    }
    if estimate.effective < options.min_effective {
        return Err(Refused::TooFew {
            effective: estimate.effective,
            needed: options.min_effective,
        });
    }
    if estimate.max_weight > options.max_weight {
        return Err(Refused::TooHeavy {
            weight: estimate.max_weight,
            limit: options.max_weight,
        });
    }
    Ok(estimate)
}

fn weight(at: usize, logged: &Logged) -> Result<f64, Refused> {
    let Logged {
        propensity,
        target,
        reward,
        model,
    } = *logged;
    if !(propensity > 0.0 && propensity <= 1.0 && (0.0..=1.0).contains(&target)) {
        return Err(Refused::BadPropensity {
            at,
            propensity,
            target,
        });
    }
    let modelled = model.map_or(0.0, |model| model.served + model.target);
    if !(reward + modelled).is_finite() {
        return Err(Refused::NotFinite { at });
    }
    Ok(target / propensity)
}

/// The estimates without any refusal, given the weights.
fn estimate(log: &[Logged], weights: &[f64]) -> Estimate {
    let n = log.len().max(1) as f64;
    let pairs = || log.iter().zip(weights);
    let sum: f64 = weights.iter().sum();
    let squares: f64 = weights.iter().map(|w| w * w).sum();
    let weighted: f64 = pairs().map(|(logged, w)| w * logged.reward).sum();
    let snips = if sum > 0.0 { weighted / sum } else { 0.0 };
    let spread: f64 = pairs()
        .map(|(logged, w)| (w * (logged.reward - snips)).powi(2))
        .sum();
    let robust = |(logged, w): (&Logged, &f64)| {
        let model = logged.model?;
        Some(model.target + w * (logged.reward - model.served))
    };
    Estimate {
        decisions: log.len(),
        ips: weighted / n,
        snips,
        dr: pairs().map(robust).sum::<Option<f64>>().map(|sum| sum / n),
        half_width: if sum > 0.0 {
            1.96 * spread.sqrt() / sum
        } else {
            f64::INFINITY
        },
        effective: if squares > 0.0 { sum * sum / squares } else { 0.0 },
        max_weight: weights.iter().copied().fold(0.0, f64::max),
        coverage: weights.iter().filter(|w| **w > 0.0).count() as f64 / n,
    }
}

#[cfg(test)]
mod tests {
    use aion_types::Timestamp;

    use super::*;
    use crate::catalog::CatalogVersion;
    use crate::decision::{LoggedItem, LoggedSurface};
    use crate::feature::FEATURES;
    use crate::item::Surface;
    use crate::profile::PROFILES;

    /// A decision that showed so many items; the ids of later ones are not larger.
    fn decided(n: u8, shown: usize) -> (DecisionId, LogEntry) {
        let id = DecisionId::from_parts(Timestamp::from_ms(0), [255 - n; 10]);
        let candidates = (0..shown).map(|i| LoggedItem {
            item: ItemId::new(format!("tool:{i}")).unwrap(),
            features: [0.0; FEATURES],
            p: [0.5; PROFILES],
            shown: Some(0),
        });
        let surface = LoggedSurface {
            surface: Surface::Tool,
            items: shown as u64,
            candidates: candidates.collect(),
            none: [0.5; PROFILES],
            rest: [0.0; PROFILES],
            expected: [0.0; FEATURES],
        };
        let decision = Decision {
            id,
            task: None,
            vector: None,
            model: None,
            recent: Vec::new(),
            arm: None,
            propensity: Some(0.5),
            agreed: vec![None],
            surfaces: vec![surface],
            catalog: CatalogVersion::from(1),
            rungs: Vec::new(),
        };
        (id, LogEntry::Decided(Box::new(decision)))
    }

    #[test]
    fn the_oldest_of_the_log_wait_no_longer_where_many_items_were_shown() {
        let mut log = PolicyLog::new(None, 10);
        log.most_shown = 5;
        let entries = [decided(0, 2), decided(1, 2), decided(2, 2)];
        let ids = entries.each_ref().map(|(id, _)| *id);
        for (_, entry) in entries {
            log.read(entry.clone());
            // A log that says it twice is no reason to count it twice.
            log.read(entry);
        }
        for decision in ids {
            let outcome = Outcome::used([ItemId::new("tool:1").unwrap()]);
            log.read(LogEntry::Recorded { decision, outcome });
        }
        assert_eq!((log.shown, log.waiting.len()), (0, 0));
        let judged = log.into_decisions();
        assert_eq!(judged.len(), 2, "the first was let go");
        assert!(
            judged
                .iter()
                .all(|logged| (logged.reward, logged.target) == (1.0, 1.0))
        );
    }
}
