//! A fitted calibrator: its map, and what it was fitted on.

use serde::{Deserialize, Serialize};

use super::examples::{Examples, RowKey};
use super::map::Map;
use super::recipe::{Method, Recipe, Targets};
use super::{beta, exact, isotonic, platt};
use crate::Result;
use crate::error::{Error, check, check_entries, check_len};

/// A map from forecasts to calibrated forecasts, fitted on rows that it remembers.
///
/// Saved as JSON it keeps every bit, and [`digest`](Self::digest) names it.
///
/// ```
/// use aion_market::calibration::{Calibrator, Examples, Method, Recipe};
///
/// let rows = Examples::new(&[0.2, 0.4, 0.6, 0.8], &[0.0, 1.0, 0.0, 1.0])?.with_keys(["a", "b", "c", "d"])?;
/// let fit = Calibrator::fit(Recipe::new(Method::Beta), &rows)?;
/// // It does not grade its own homework.
/// let again = Examples::new(&[0.7], &[1.0])?.with_keys(["c"])?;
/// assert!(matches!(fit.evaluate(&again), Err(aion_market::Error::TrainedOn { row: 0 })));
/// # Ok::<(), aion_market::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Saved", into = "Saved")]
pub struct Calibrator {
    map: Map,
    eps: f64,
    targets: Targets,
    training: Training,
}

/// The rows that a calibrator was fitted on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// How many rows.
    pub rows: u64,
    /// A digest of them, in any order.
    pub digest: String,
    /// Their names, if they had some, in order and each once.
    pub keys: Vec<RowKey>,
}

impl Calibrator {
    /// Fits a map.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] never: the examples were checked when they were made.
    pub fn fit(recipe: Recipe, examples: &Examples<'_>) -> Result<Self> {
        let targets = recipe.targets.of(examples);
        let map = match recipe.method {
            Method::Temperature => platt::temperature(&recipe, examples, &targets),
            Method::Platt => platt::platt(&recipe, examples, &targets),
            Method::Beta => beta::beta(&recipe, examples, &targets),
            Method::Isotonic => isotonic::map(examples, &targets),
        };
        Ok(Self {
            map: map.checked()?,
            eps: recipe.eps,
            targets: recipe.targets,
            training: Training {
                rows: examples.len() as u64,
                digest: examples.digest(),
                keys: examples.known(),
            },
        })
    }

    /// The calibrated forecast of `p`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] outside `[0, 1]`.
    pub fn apply(&self, p: f64) -> Result<f64> {
        check("a forecast", "in [0, 1]", p, (0.0..=1.0).contains(&p))?;
        Ok(self.map.apply(p, self.eps))
    }

    /// [`apply`](Self::apply) for every forecast.
    ///
    /// # Errors
    /// [`Error`] if the lengths differ or a forecast is outside `[0, 1]`; `out` is as it was.
    pub fn apply_into(&self, p: &[f64], out: &mut [f64]) -> Result<()> {
        check_len("calibrated forecasts", out.len(), p.len())?;
        check_entries("forecasts", "in [0, 1]", p, |x| (0.0..=1.0).contains(&x))?;
        for (p, out) in p.iter().zip(out) {
            *out = self.map.apply(*p, self.eps);
        }
        Ok(())
    }

    /// Its map.
    pub const fn map(&self) -> &Map {
        &self.map
    }

    /// How near to 0 and 1 a forecast may come before it is clipped.
    pub const fn eps(&self) -> f64 {
        self.eps
    }

    /// The rows that it was fitted on.
    pub const fn training(&self) -> &Training {
        &self.training
    }

    /// 32 hexadecimal digits of the BLAKE3 of its JSON: the same map of the same rows has the same
    /// digest, before and after it was saved.
    ///
    /// ```
    /// use aion_market::calibration::{Calibrator, Examples, Method, Recipe};
    ///
    /// let rows = Examples::new(&[0.2, 0.4, 0.6, 0.8], &[0.0, 1.0, 0.0, 1.0])?;
    /// let fit = Calibrator::fit(Recipe::new(Method::Isotonic), &rows)?;
    /// let read: Calibrator = serde_json::from_str(&serde_json::to_string(&fit)?)?;
    /// assert_eq!(read.digest()?, fit.digest()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Store`] never: it can be written as JSON.
    pub fn digest(&self) -> Result<String> {
        crate::report::digest(self)
    }

    /// Refuses rows that it was fitted on, as far as names or the rows themselves show it.
    ///
    /// # Errors
    /// [`Error::TrainedOn`] with the first such row.
    pub fn check_unseen(&self, examples: &Examples<'_>) -> Result<()> {
        let seen = examples.first_of(&self.training.keys);
        let same = || (examples.digest() == self.training.digest).then_some(0);
        match seen.or_else(same) {
            Some(row) => Err(Error::TrainedOn { row }),
            None => Ok(()),
        }
    }
}

impl Targets {
    /// What the rows are fitted towards; a row that happened in part lies between.
    fn of(self, examples: &Examples<'_>) -> Vec<f64> {
        if self == Self::Raw {
            return examples.o.to_vec();
        }
        let total = examples.total();
        let happened = total * examples.mean(|_, o| o);
        let (high, low) = (
            (happened + 1.0) / (happened + 2.0),
            1.0 / (total - happened + 2.0),
        );
        examples.o.iter().map(|o| low + (high - low) * o).collect()
    }
}

/// The form on disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    rules: u32,
    map: Map,
    #[serde(with = "exact")]
    eps: f64,
    targets: Targets,
    training: Training,
}

/// The version of the form and of what it means.
const RULES: u32 = 1;

impl From<Calibrator> for Saved {
    fn from(of: Calibrator) -> Self {
        Self {
            rules: RULES,
            map: of.map,
            eps: of.eps,
            targets: of.targets,
            training: of.training,
        }
    }
}

impl TryFrom<Saved> for Calibrator {
    type Error = Error;

    fn try_from(saved: Saved) -> Result<Self> {
        let rules = f64::from(saved.rules);
        check(
            "the rules of a calibrator",
            "version 1",
            rules,
            saved.rules == RULES,
        )?;
        Ok(Self {
            map: saved.map.checked()?,
            eps: check(
                "a clip",
                "in [1e-300, 0.5)",
                saved.eps,
                (1e-300..0.5).contains(&saved.eps),
            )?,
            targets: saved.targets,
            training: saved.training,
        })
    }
}
