//! From features to the columns of a regression: standardised, missing values filled and marked.

use serde::{Deserialize, Serialize};

use super::saved::exact;
use crate::features::Features;

/// Mean and spread of every feature over the training rows; a missing value becomes the mean and, where
/// the schema lets a feature be missing, sets a column of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Standard {
    #[serde(with = "exact")]
    mean: Vec<f64>,
    #[serde(with = "exact")]
    scale: Vec<f64>,
    /// Which features have a column that says whether they are missing.
    marked: Vec<usize>,
}

impl Standard {
    /// Learned from these rows.
    pub(super) fn of<'a>(rows: &(impl Iterator<Item = &'a Features> + Clone)) -> Self {
        let columns = Features::columns();
        let (mut mean, mut scale) = (Vec::new(), Vec::new());
        for j in 0..columns.len() {
            let values = rows.clone().filter_map(|row| row.at(j));
            let (m, s) = moments(values);
            mean.push(m);
            scale.push(s);
        }
        let marked = columns
            .iter()
            .enumerate()
            .filter(|(_, column)| column.may_be_missing)
            .map(|(j, _)| j)
            .collect();
        Self { mean, scale, marked }
    }

    /// How many columns [`row`](Self::row) gives.
    pub(super) fn width(&self) -> usize {
        self.mean.len() + self.marked.len()
    }

    /// Whether the parts of a read one fit together and to the schema.
    pub(super) fn is_sound(&self) -> bool {
        let n = Features::columns().len();
        self.mean.len() == n
            && self.scale.len() == n
            && self.mean.iter().all(|m| m.is_finite())
            && self.scale.iter().all(|s| s.is_finite() && *s > 0.0)
            && self.marked.iter().all(|j| *j < n)
            && self.marked.len() <= n
    }

    /// The columns of a row: features, then the marks of missing ones.
    pub(super) fn row(&self, features: &Features) -> Vec<f64> {
        let mut row = Vec::with_capacity(self.width());
        for (j, (mean, scale)) in self.mean.iter().zip(&self.scale).enumerate() {
            row.push(features.at(j).map_or(0.0, |x| (x - mean) / scale));
        }
        let missing = |j: &usize| f64::from(u8::from(features.at(*j).is_none()));
        row.extend(self.marked.iter().map(missing));
        row
    }

    /// Where the ridge pulls to: a column of log-odds is believed as it stands.
    pub(super) fn prior(&self) -> Vec<f64> {
        let mut prior = vec![0.0; self.width()];
        for (j, column) in Features::columns().iter().enumerate() {
            if column.is_log_odds {
                prior[j] = self.scale[j];
            }
        }
        prior
    }
}

/// Mean and standard deviation; 0 and 1 where there is nothing to tell.
fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let n = values.clone().count();
    if n == 0 {
        return (0.0, 1.0);
    }
    let mean = values.clone().sum::<f64>() / n as f64;
    let variance = values.map(|x| (x - mean) * (x - mean)).sum::<f64>() / n as f64;
    let scale = variance.sqrt();
    (mean, if scale > 1e-9 { scale } else { 1.0 })
}
