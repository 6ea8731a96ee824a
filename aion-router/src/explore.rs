//! What is left to chance: now and then another profile's order is served, with a known probability, so that
//! policies can be judged by what happened.
//!
//! # Sources
//! L. Bottou et al., Counterfactual reasoning and learning systems, 2013.

use crate::assemble::Slate;
use crate::error::{Error, Result};
use crate::profile::Profile;

/// Probabilities of serving another order than the mixture's. None at first: rankings are deterministic.
///
/// ```
/// use aion_router::{Exploration, Profile};
///
/// let exploration = Exploration::default().with_holdout(0.03).with_arm(Profile::Content, 0.05);
/// assert!((exploration.of(None) - 0.92).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Exploration {
    arms: Vec<(Profile, f64)>,
}

/// What was served.
pub(crate) struct Served {
    pub(crate) arm: Option<Profile>,
    pub(crate) propensity: Option<f64>,
    /// The arms that would have served the same.
    pub(crate) agreed: Vec<Option<Profile>>,
    pub(crate) slate: Slate,
    pub(crate) fits: bool,
}

impl Exploration {
    /// Serves the order without learning with this probability: the holdout.
    #[must_use]
    pub fn with_holdout(self, probability: f64) -> Self {
        self.with_arm(Profile::Baseline, probability)
    }

    /// Serves the order of a profile with this probability.
    #[must_use]
    pub fn with_arm(mut self, arm: Profile, probability: f64) -> Self {
        self.arms.retain(|(other, _)| *other != arm);
        self.arms.push((arm, probability));
        self
    }

    /// The probability of an arm; `None` is the mixture.
    pub fn of(&self, arm: Option<Profile>) -> f64 {
        let explored: f64 = self.arms.iter().map(|(_, p)| p).sum();
        arm.map_or(1.0 - explored, |arm| {
            self.arms
                .iter()
                .find(|(other, _)| *other == arm)
                .map_or(0.0, |(_, p)| *p)
        })
    }

    pub(crate) fn check(&self) -> Result<()> {
        let sum: f64 = self.arms.iter().map(|(_, p)| p).sum();
        let bad = self
            .arms
            .iter()
            .map(|(_, p)| *p)
            .find(|p| !(0.0..=1.0).contains(p));
        match bad.or((!(0.0..1.0).contains(&sum)).then_some(sum)) {
            Some(value) => Err(Error::OutOfRange {
                what: "probabilities of exploring",
                range: "in [0, 1], together below 1",
                value,
            }),
            None => Ok(()),
        }
    }

    /// Draws an arm by what the decision is made from, and serves it. The propensity is that of the slate: arms that
    /// pick the same items count together.
    pub(crate) fn serve(
        &self,
        basis: &[u8; 32],
        choose: impl Fn(Option<Profile>) -> (Slate, bool),
    ) -> Served {
        let active = self.arms.iter().any(|(_, p)| *p > 0.0);
        if !active {
            let (slate, fits) = choose(None);
            return Served {
                arm: None,
                propensity: None,
                agreed: Vec::new(),
                slate,
                fits,
            };
        }
        let arms = std::iter::once(None).chain(self.arms.iter().map(|(arm, _)| Some(*arm)));
        let arms: Vec<(Option<Profile>, f64)> = arms
            .map(|arm| (arm, self.of(arm)))
            .filter(|(_, p)| *p > 0.0)
            .collect();
        let mut slates: Vec<(Slate, bool)> = arms.iter().map(|(arm, _)| choose(*arm)).collect();
        let drawn = draw(&arms, unit(basis));
        let same = slates
            .iter()
            .zip(&arms)
            .filter(|(slate, _)| slate.0 == slates[drawn].0);
        let same: Vec<(Option<Profile>, f64)> = same.map(|(_, arm)| *arm).collect();
        let (slate, fits) = slates.swap_remove(drawn);
        Served {
            arm: arms[drawn].0,
            // Shares that sum to one can do so with a rounding error above it.
            propensity: Some(same.iter().map(|(_, p)| p).sum::<f64>().min(1.0)),
            agreed: same.into_iter().map(|(arm, _)| arm).collect(),
            slate,
            fits,
        }
    }
}

fn draw(arms: &[(Option<Profile>, f64)], at: f64) -> usize {
    let mut left = at;
    for (i, (_, p)) in arms.iter().enumerate() {
        left -= p;
        if left < 0.0 {
            return i;
        }
    }
    arms.len() - 1
}

/// A number in `[0, 1)` from a digest.
fn unit(basis: &[u8; 32]) -> f64 {
    let hash = crate::text::hash_of(basis);
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}
