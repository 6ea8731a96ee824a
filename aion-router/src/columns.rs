//! Features of all items of a surface, by column, and the distributions that weights make of them.

use crate::exp::{WHOLE, exponentials, wholes};
use crate::feature::{FEATURES, Feature};
use crate::sweep::{add_scaled, greatest, product};

/// Features by column; an empty column is all zeros, and that of the bias all ones.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    len: usize,
    columns: [Vec<f32>; FEATURES],
}

impl Columns {
    pub(crate) fn new(len: usize) -> Self {
        Self {
            len,
            columns: Default::default(),
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// A column to be filled; a longer or shorter one is cut or padded when it comes back.
    pub(crate) fn fill(&mut self, feature: Feature, fill: impl FnOnce(&mut Vec<f32>)) {
        let column = &mut self.columns[feature.index()];
        fill(column);
        if !column.is_empty() {
            column.resize(self.len, 0.0);
        }
    }

    pub(crate) fn column(&self, feature: Feature) -> &[f32] {
        &self.columns[feature.index()]
    }

    pub(crate) fn set(&mut self, feature: Feature, slot: usize, value: f32) {
        let column = &mut self.columns[feature.index()];
        if column.is_empty() {
            column.resize(self.len, 0.0);
        }
        if let Some(to) = column.get_mut(slot) {
            *to = value;
        }
    }

    /// The features of one item.
    pub(crate) fn row(&self, slot: usize) -> [f64; FEATURES] {
        let of = |feature: usize| self.columns[feature].get(slot).map_or(0.0, |x| f64::from(*x));
        let mut row = std::array::from_fn(of);
        row[Feature::Bias.index()] = 1.0;
        row
    }

    /// The mean of each feature under a distribution.
    pub(crate) fn mean(&self, distribution: &Distribution) -> [f64; FEATURES] {
        let scale = distribution.scale();
        let mut mean: [f64; FEATURES] = std::array::from_fn(|feature| {
            product(&self.columns[feature], &distribution.exponentials) * scale
        });
        mean[Feature::Bias.index()] = 1.0 - distribution.none();
        mean
    }

    fn logits(&self, weights: &[f64; FEATURES], is_here: &[bool]) -> Vec<f32> {
        let mut logits = vec![weights[Feature::Bias.index()] as f32; self.len];
        for (column, weight) in self.columns.iter().zip(weights) {
            let weight = *weight as f32;
            if weight != 0.0 && !column.is_empty() {
                add_scaled(weight, column, &mut logits);
            }
        }
        for (logit, here) in logits.iter_mut().zip(is_here) {
            if !here {
                *logit = f32::NEG_INFINITY;
            }
        }
        logits
    }

    /// The softmax over the items that are here and none, whose logit is 0.
    pub(crate) fn softmax(&self, weights: &[f64; FEATURES], is_here: &[bool]) -> Distribution {
        let logits = self.logits(weights, is_here);
        let most = greatest(&logits);
        let mut out = vec![0.0; logits.len()];
        let sum = exponentials(&logits, most, &mut out);
        let none = f64::from(-most).exp();
        Distribution {
            weights: *weights,
            most: f64::from(most),
            items: sum as f64 / f64::from(WHOLE),
            exponentials: out,
            none,
        }
    }
}

/// A distribution over the items of a surface and none.
#[derive(Debug)]
pub(crate) struct Distribution {
    pub(crate) weights: [f64; FEATURES],
    /// The logit that exponentials are relative to.
    most: f64,
    exponentials: Vec<f32>,
    /// The sum of the exponentials of items.
    items: f64,
    none: f64,
}

impl Distribution {
    fn scale(&self) -> f64 {
        1.0 / (self.items + self.none)
    }

    /// The probability of none.
    pub(crate) fn none(&self) -> f64 {
        self.none * self.scale()
    }

    /// About the probability of every item, times `weight`, added to `sum`.
    pub(crate) fn add_to(&self, weight: f64, sum: &mut [f32]) {
        let scale = (weight * self.scale()) as f32;
        add_scaled(scale, &self.exponentials, sum);
    }

    /// The distribution with the items of `slots`, whose features are `rows`, taken exactly: their
    /// probabilities, that of none, and that of all the rest together.
    pub(crate) fn split(&self, slots: &[usize], rows: &[[f64; FEATURES]]) -> Split {
        let taken: u64 = slots
            .iter()
            .map(|slot| u64::from(wholes(self.exponentials[*slot])))
            .sum();
        let rest = (self.items - taken as f64 / f64::from(WHOLE)).max(0.0);
        let logits: Vec<f64> = rows.iter().map(|row| dot(&self.weights, row)).collect();
        let exact: Vec<f64> = logits.iter().map(|logit| (logit - self.most).exp()).collect();
        let sum = exact.iter().sum::<f64>() + rest + self.none;
        Split {
            of: exact.iter().map(|e| e / sum).collect(),
            none: self.none / sum,
            rest: rest / sum,
            logits,
        }
    }
}

/// A distribution over a few items, none, and all the rest.
#[derive(Debug, Clone)]
pub(crate) struct Split {
    pub(crate) of: Vec<f64>,
    pub(crate) none: f64,
    pub(crate) rest: f64,
    pub(crate) logits: Vec<f64>,
}

pub(crate) fn dot(weights: &[f64; FEATURES], row: &[f64; FEATURES]) -> f64 {
    weights.iter().zip(row).map(|(weight, x)| weight * x).sum()
}
