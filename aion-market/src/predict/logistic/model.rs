//! A fitted model that knows its features, its training rows, and refuses to score the latter.

use std::collections::BTreeSet;

use aion_types::Prob;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::cholesky::Cholesky;
use super::fit::{FitStatus, LogisticOptions, dot, fit_weighted};
use super::saved::exact;
use super::standard::Standard;
use crate::Result;
use crate::error::{Error, check};
use crate::features::{Features, SCHEMA};

/// The most training rows that a model keeps the names of.
const MAX_TRAINING_ROWS: usize = 1_000_000;

/// Why a model was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file is none of ours, or of another version.
    #[error("the model is of format {format:?} version {version}, expected \"aion.logistic\" version 1")]
    WrongFormat {
        /// The format that it states.
        format: String,
        /// The version that it states.
        version: u32,
    },
    /// The contents are not those that were saved.
    #[error("the model's digest is {found}, the file states {stated}")]
    WrongDigest {
        /// What the file states.
        stated: String,
        /// What its contents give.
        found: String,
    },
    /// It was trained on other features.
    #[error("the model reads features of schema {found}, this program gives {expected}")]
    WrongSchema {
        /// The schema of the model.
        found: String,
        /// The schema of this program.
        expected: String,
    },
    /// The file cannot be read.
    #[error("the model cannot be read")]
    Unreadable(#[source] serde_json::Error),
    /// The file is larger than any model.
    #[error("the model has more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// Numbers that no fit gives.
    #[error("the model's {0} cannot be those of a fit")]
    Unsound(&'static str),
    /// A model is not asked about what it was trained on.
    #[error("the model was trained on row {0} and does not score it")]
    TrainedOn(RowId),
    /// Nothing to learn from.
    #[error("there is no training row")]
    NoRows,
}

/// Names a row: 16 bytes of the blake3 of whatever identifies it, such as the task's id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId([u8; 16]);

impl RowId {
    /// The row of this name.
    pub fn of(name: impl AsRef<[u8]>) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&blake3::hash(name.as_ref()).as_bytes()[..16]);
        Self(id)
    }
}

impl std::fmt::Display for RowId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for RowId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RowId({self})")
    }
}

impl Serialize for RowId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RowId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let text = std::borrow::Cow::<'_, str>::deserialize(from)?;
        let bits = u128::from_str_radix(&text, 16).ok();
        match bits.filter(|_| text.len() == 32 && !text.starts_with('+')) {
            Some(bits) => Ok(Self(bits.to_be_bytes())),
            None => Err(D::Error::custom("a row id is 32 hex digits")),
        }
    }
}

/// One example: what was seen of a task, and how it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingRow {
    /// Which row; several views of one task carry the same.
    pub id: RowId,
    /// What was seen.
    pub features: Features,
    /// How it ended, in `[0, 1]`: 1 is success.
    pub success: f64,
    /// How much it counts.
    pub weight: f64,
}

impl TrainingRow {
    /// An example that counts once.
    pub const fn new(id: RowId, features: Features, success: f64) -> Self {
        Self {
            id,
            features,
            success,
            weight: 1.0,
        }
    }

    /// Sets how much it counts.
    #[must_use]
    pub const fn with_weight(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }
}

/// Everything that a model is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parts {
    schema: String,
    standard: Standard,
    #[serde(with = "exact")]
    coefficients: Vec<f64>,
    #[serde(with = "exact")]
    precision: Vec<f64>,
    #[serde(with = "exact")]
    ridge: Vec<f64>,
    /// The rows that it was fitted on, and those that it was updated with.
    trained_on: BTreeSet<RowId>,
}

/// Logistic regression over [`Features`]: standardised columns, a ridge that believes the history's
/// log-odds as they stand, and the names of its training rows.
///
/// ```
/// use aion_market::features::Features;
/// use aion_market::predict::logistic::{LogisticModel, LogisticOptions, ModelError, RowId, TrainingRow};
///
/// let features = |depth: f64| Features::default().with("task.depth", Some(depth));
/// let rows: Vec<TrainingRow> = (0..20)
///     .map(|i| {
///         let (depth, success) = (f64::from(i % 4), f64::from(u8::from(i % 4 < 2)));
///         Ok(TrainingRow::new(RowId::of(format!("run {i}")), features(depth)?, success))
///     })
///     .collect::<aion_market::Result<_>>()?;
/// let model = LogisticModel::fit(&rows, &LogisticOptions::default())?;
/// let (shallow, deep) = (features(0.0)?, features(3.0)?);
/// let fresh = RowId::of("run 20");
/// assert!(model.predict(fresh, &shallow)?.get() > 0.9 && model.predict(fresh, &deep)?.get() < 0.1);
/// // It never scores what it was trained on.
/// assert!(model.predict(RowId::of("run 3"), &deep).is_err());
/// // What is saved is what is read, to the bit.
/// assert_eq!(LogisticModel::from_bytes(&model.to_bytes()?)?, model);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct LogisticModel(Parts);

impl LogisticModel {
    /// Fits a model.
    ///
    /// # Errors
    /// [`ModelError::NoRows`] without a row, [`Error`] for an outcome or a weight outside its range.
    pub fn fit(rows: &[TrainingRow], options: &LogisticOptions) -> Result<Self> {
        if rows.is_empty() {
            return Err(ModelError::NoRows.into());
        }
        if rows.len() > MAX_TRAINING_ROWS {
            return Err(Error::LimitReached {
                what: "training rows",
                limit: MAX_TRAINING_ROWS as u64,
            });
        }
        let standard = Standard::of(&rows.iter().map(|row| &row.features));
        let mut options = options.clone();
        if options.prior.is_empty() {
            options.prior = standard.prior();
        }
        let x: Vec<f64> = rows.iter().flat_map(|row| standard.row(&row.features)).collect();
        let y: Vec<f64> = rows.iter().map(|row| row.success).collect();
        let weight: Vec<f64> = rows.iter().map(|row| row.weight).collect();
        let fit = fit_weighted(&x, standard.width(), &y, &weight, &options)?;
        if fit.status == FitStatus::Separated {
            tracing::warn!(
                rows = rows.len(),
                "the classes are parted and nothing holds the coefficients"
            );
        }
        Ok(Self(Parts {
            schema: SCHEMA.to_owned(),
            standard,
            coefficients: fit.coefficients,
            precision: fit.precision,
            ridge: vec![options.ridge],
            trained_on: rows.iter().map(|row| row.id).collect(),
        }))
    }

    /// The probability of success of a row that it was not trained on.
    ///
    /// # Errors
    /// [`ModelError::TrainedOn`] for one that it was.
    pub fn predict(&self, row: RowId, features: &Features) -> Result<Prob> {
        if self.0.trained_on.contains(&row) {
            return Err(ModelError::TrainedOn(row).into());
        }
        self.prob(features)
    }

    /// Learns one more row without looking at the others again: the minimum of the row's loss plus the
    /// Gaussian that the precision describes. A refit over all rows is near by.
    ///
    /// # Errors
    /// [`ModelError::TrainedOn`] for a row that it knows, [`Error`] for an outcome outside `[0, 1]`.
    ///
    /// # Sources
    /// D. J. Spiegelhalter, S. L. Lauritzen, Sequential updating of conditional probabilities on directed
    /// graphical structures, 1990 (the Gaussian approximation).
    pub fn update(&mut self, row: &TrainingRow) -> Result<()> {
        if self.0.trained_on.contains(&row.id) {
            return Err(ModelError::TrainedOn(row.id).into());
        }
        let in_range = (0.0..=1.0).contains(&row.success);
        check("an outcome", "in [0, 1]", row.success, in_range)?;
        let sound = row.weight.is_finite() && row.weight >= 0.0;
        check("a weight", "finite and at least 0", row.weight, sound)?;
        let mut x = self.0.standard.row(&row.features);
        x.push(1.0);
        self.take_up(&x, row.success, row.weight);
        self.0.trained_on.insert(row.id);
        Ok(())
    }

    /// The minimum of `1/2 (b - b0)' P (b - b0) + w loss(x . b, y)`, and the precision there.
    fn take_up(&mut self, x: &[f64], y: f64, weight: f64) {
        let width = x.len();
        let before = self.0.coefficients.clone();
        let direction = Cholesky::of(&self.0.precision, width).solve(x);
        let spread: f64 = direction.iter().zip(x).map(|(a, b)| a * b).sum();
        // Along `P^-1 x` the problem has one unknown: how far to go, `t` in `b = b0 - t P^-1 x`.
        let z0: f64 = before.iter().zip(x).map(|(a, b)| a * b).sum();
        let t = far(z0, spread, y, weight);
        for (b, step) in self.0.coefficients.iter_mut().zip(&direction) {
            *b -= t * step;
        }
        let (_, curve) = slope_of(z0 - t * spread);
        for j in 0..width {
            for k in 0..width {
                self.0.precision[j * width + k] += weight * curve * x[j] * x[k];
            }
        }
    }

    /// The ridge that it was fitted with.
    pub fn ridge(&self) -> f64 {
        self.0.ridge.first().copied().unwrap_or_default()
    }

    /// How many rows it has learned from.
    pub fn training_rows(&self) -> usize {
        self.0.trained_on.len()
    }

    /// blake3 over the ids of its training rows in order, hex.
    pub fn training_digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for id in &self.0.trained_on {
            hasher.update(&id.0);
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Its schema of features.
    pub fn schema(&self) -> &str {
        &self.0.schema
    }

    /// The coefficient of each standardised column, and of the marks of missing values; the intercept last.
    pub fn coefficients(&self) -> &[f64] {
        &self.0.coefficients
    }

    fn prob(&self, features: &Features) -> Result<Prob> {
        let row = self.0.standard.row(features);
        Ok(Prob::from_logit(dot(&self.0.coefficients, &row))?)
    }

    pub(super) const fn parts(&self) -> &Parts {
        &self.0
    }

    pub(super) fn from_parts(parts: Parts) -> Result<Self, ModelError> {
        if parts.schema != SCHEMA {
            return Err(ModelError::WrongSchema {
                found: parts.schema.chars().take(128).collect(),
                expected: SCHEMA.to_owned(),
            });
        }
        if !parts.standard.is_sound() {
            return Err(ModelError::Unsound("columns"));
        }
        let width = parts.standard.width() + 1;
        let finite = |values: &[f64]| values.iter().all(|x| x.is_finite());
        if parts.coefficients.len() != width || !finite(&parts.coefficients) {
            return Err(ModelError::Unsound("coefficients"));
        }
        if parts.precision.len() != width * width || !finite(&parts.precision) {
            return Err(ModelError::Unsound("precision"));
        }
        if parts.ridge.len() != 1 || !finite(&parts.ridge) {
            return Err(ModelError::Unsound("ridge"));
        }
        Ok(Self(parts))
    }
}

/// The `t` at which `t = w (sigmoid(z0 - t s) - y)`: bisected, since both sides are monotone in `t`.
fn far(z0: f64, spread: f64, y: f64, weight: f64) -> f64 {
    let (mut low, mut high) = (-weight * y, weight * (1.0 - y));
    for _ in 0..64 {
        let t = 0.5 * (low + high);
        let (p, _) = slope_of(z0 - t * spread);
        if weight * (p - y) > t {
            low = t;
        } else {
            high = t;
        }
    }
    0.5 * (low + high)
}

/// `sigmoid(z)` and its derivative.
fn slope_of(z: f64) -> (f64, f64) {
    let tail = (-z.abs()).exp();
    let p = if z >= 0.0 { 1.0 } else { tail } / (1.0 + tail);
    (p, tail / ((1.0 + tail) * (1.0 + tail)))
}
