//! What speaks for an item, and how much each of it weighs.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How many features a logit is made of.
pub const FEATURES: usize = 11;

/// What a part of a logit comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Feature {
    /// How rarely any item is needed.
    Bias,
    /// Words shared with the query.
    Lexical,
    /// A description near the query.
    Semantic,
    /// A description, with what used it, near the query.
    Usage,
    /// Past queries near this one used it.
    Past,
    /// How often it was used at all.
    Popular,
    /// It was used just now.
    Recent,
    /// It was used with what was used just now.
    CoUsed,
    /// The query names it.
    Named,
    /// Nobody vouches for it.
    Unverified,
    /// It is new, and vouched for.
    New,
    /// What the other profiles say of it, beyond the learned weights.
    Mixture,
    /// What a model says that read it.
    Read,
}

impl Feature {
    /// The features of a logit, in their order; [`Feature::Mixture`] and [`Feature::Read`] are none of them.
    pub const ALL: [Self; FEATURES] = [
        Self::Bias,
        Self::Lexical,
        Self::Semantic,
        Self::Usage,
        Self::Past,
        Self::Popular,
        Self::Recent,
        Self::CoUsed,
        Self::Named,
        Self::Unverified,
        Self::New,
    ];

    /// Its place in a row of features.
    ///
    /// # Panics
    /// For [`Feature::Mixture`] and [`Feature::Read`], which have none.
    pub const fn index(self) -> usize {
        assert!(
            !matches!(self, Self::Mixture | Self::Read),
            "the mixture and what was read are no features of an item"
        );
        self as usize
    }

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bias => "bias",
            Self::Lexical => "lexical",
            Self::Semantic => "semantic",
            Self::Usage => "usage",
            Self::Past => "past",
            Self::Popular => "popular",
            Self::Recent => "recent",
            Self::CoUsed => "co_used",
            Self::Named => "named",
            Self::Unverified => "unverified",
            Self::New => "new",
            Self::Mixture => "mixture",
            Self::Read => "read",
        }
    }
}

/// What each feature adds to a logit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Weights {
    /// Grows with every change of the weights.
    pub version: u64,
    /// What every item starts from, beside none at 0.
    pub bias: f64,
    /// For the best possible overlap of words.
    pub lexical: f64,
    /// For a description whose embedding is that of the query.
    pub semantic: f64,
    /// For a description, with what used it, that is.
    pub usage: f64,
    /// For having been used by all past queries near this one.
    pub past: f64,
    /// For each doubling of how often it was used.
    pub popular: f64,
    /// For being the item used last; the `n`-th before it gets `1/n` of this.
    pub recent: f64,
    /// For always being used after the items used last.
    pub co_used: f64,
    /// For being named.
    pub named: f64,
    /// For coming from anybody; at most 0.
    pub unverified: f64,
    /// For never having been used, if somebody vouches for it; half of it after the first use.
    pub new: f64,
}

impl Default for Weights {
    /// Set once for all catalogs; learning starts from them.
    fn default() -> Self {
        Self {
            version: 1,
            bias: -6.0,
            lexical: 12.0,
            semantic: 4.0,
            usage: 16.0,
            past: 4.0,
            popular: 0.0,
            recent: 1.0,
            co_used: 1.0,
            named: 4.0,
            unverified: -1.0,
            new: 0.5,
        }
    }
}

impl Weights {
    /// The weights in the order of [`Feature::ALL`].
    pub const fn values(&self) -> [f64; FEATURES] {
        [
            self.bias,
            self.lexical,
            self.semantic,
            self.usage,
            self.past,
            self.popular,
            self.recent,
            self.co_used,
            self.named,
            self.unverified,
            self.new,
        ]
    }

    /// Weights from their order in [`Feature::ALL`].
    pub const fn from_values(version: u64, values: [f64; FEATURES]) -> Self {
        let [
            bias,
            lexical,
            semantic,
            usage,
            past,
            popular,
            recent,
            co_used,
            named,
            unverified,
            new,
        ] = values;
        Self {
            version,
            bias,
            lexical,
            semantic,
            usage,
            past,
            popular,
            recent,
            co_used,
            named,
            unverified,
            new,
        }
    }

    /// Those in which nothing but `features` counts.
    #[must_use]
    pub fn only(&self, features: &[Feature]) -> Self {
        let mut values = self.values();
        for feature in Feature::ALL
            .into_iter()
            .filter(|feature| !features.contains(feature))
        {
            values[feature.index()] = 0.0;
        }
        Self::from_values(self.version, values)
    }

    /// Whether every weight is finite and of its sign.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for the first that is not.
    pub fn check(&self) -> Result<()> {
        for (feature, value) in Feature::ALL.into_iter().zip(self.values()) {
            let fits = match feature {
                Feature::Bias => true,
                Feature::Unverified => value <= 0.0,
                _ => value >= 0.0,
            };
            if !(value.is_finite() && fits) {
                return Err(Error::OutOfRange {
                    what: feature.as_str(),
                    range: "finite and of its sign",
                    value,
                });
            }
        }
        Ok(())
    }

    /// The nearest weights of the right signs.
    pub(crate) fn clip(values: &mut [f64; FEATURES]) {
        for (feature, value) in Feature::ALL.into_iter().zip(values) {
            match feature {
                Feature::Bias => *value = value.clamp(-30.0, 30.0),
                Feature::Unverified => *value = value.clamp(-30.0, 0.0),
                _ => *value = value.clamp(0.0, 60.0),
            }
        }
    }
}
