//! Features of all items of a surface, by column, and the distributions that weights make of them.

use std::collections::BTreeMap;

use crate::exp::{WHOLE, exp, exponentials, wholes};
use crate::feature::{FEATURES, Feature};
use crate::floats::Floats;
use crate::sweep::{add_scaled, greatest, product};

/// Logits that are summed while they are near.
const BLOCK: usize = 2_048;

/// One feature of all items.
#[derive(Debug, Default)]
enum Column<'a> {
    /// Nothing has it.
    #[default]
    Zero,
    Own(Floats),
    Lent(&'a [f32]),
    /// Few have it: rising by slot.
    Few(Vec<(usize, f32)>),
}

impl Column<'_> {
    fn all(&self) -> &[f32] {
        match self {
            Self::Own(column) => column,
            Self::Lent(column) => column,
            Self::Zero | Self::Few(_) => &[],
        }
    }

    fn few(&self) -> &[(usize, f32)] {
        match self {
            Self::Few(few) => few,
            _ => &[],
        }
    }

    const fn is_zero(&self) -> bool {
        matches!(self, Self::Zero)
    }

    fn get(&self, slot: usize) -> f32 {
        let few = self.few();
        let of_few = || few.binary_search_by_key(&slot, |(slot, _)| *slot).ok();
        match self.all().get(slot) {
            Some(x) => *x,
            None => of_few().map_or(0.0, |at| few[at].1),
        }
    }
}

/// Features by column; that of the bias is all ones.
#[derive(Debug)]
pub(crate) struct Columns<'a> {
    len: usize,
    columns: [Column<'a>; FEATURES],
}

/// Which slots have an item.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Here<'a> {
    pub(crate) is_here: &'a [bool],
    pub(crate) count: usize,
}

impl<'a> Columns<'a> {
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
        let mut column = Floats::new();
        fill(&mut column);
        self.keep(feature, column);
    }

    /// The same, filled already.
    pub(crate) fn keep(&mut self, feature: Feature, mut column: Floats) {
        if !column.is_empty() {
            column.resize(self.len, 0.0);
            self.columns[feature.index()] = Column::Own(column);
        }
    }

    /// A column that is there already.
    pub(crate) fn lend(&mut self, feature: Feature, column: &'a [f32]) {
        if column.len() == self.len {
            self.columns[feature.index()] = Column::Lent(column);
        } else {
            self.fill(feature, |own| own.extend_from_slice(column));
        }
    }

    /// A column that few items have, by slot.
    pub(crate) fn few(&mut self, feature: Feature, few: BTreeMap<usize, f32>) {
        let len = self.len;
        let few: Vec<(usize, f32)> = few.into_iter().filter(|(slot, _)| *slot < len).collect();
        if !few.is_empty() {
            self.columns[feature.index()] = Column::Few(few);
        }
    }

    /// What is seen of a feature when it is looked at closely.
    pub(crate) fn correct(&mut self, feature: Feature, slot: usize, value: f32) {
        if let Column::Own(column) = &mut self.columns[feature.index()]
            && let Some(to) = column.get_mut(slot)
        {
            *to = value;
        }
    }

    /// The feature of all items, empty where few or none have it.
    pub(crate) fn column(&self, feature: Feature) -> &[f32] {
        self.columns[feature.index()].all()
    }

    /// The features of some items.
    pub(crate) fn rows(&self, slots: &[usize]) -> Vec<[f64; FEATURES]> {
        let mut nothing = [0.0; FEATURES];
        nothing[Feature::Bias.index()] = 1.0;
        let mut rows = vec![nothing; slots.len()];
        let some = self
            .columns
            .iter()
            .enumerate()
            .filter(|(_, column)| !column.is_zero());
        for (feature, column) in some.filter(|(feature, _)| *feature != Feature::Bias.index()) {
            for (row, slot) in rows.iter_mut().zip(slots) {
                row[feature] = f64::from(column.get(*slot));
            }
        }
        rows
    }

    /// The mean of each feature under a distribution.
    pub(crate) fn mean(&self, distribution: &Distribution) -> [f64; FEATURES] {
        let scale = distribution.scale();
        let mean = |feature: usize| {
            let column = &self.columns[feature];
            let few = column.few().iter();
            let few = few.map(|(slot, x)| f64::from(x * distribution.exponential(*slot)));
            let all = match &distribution.exponentials {
                Exponentials::Alike(e) => {
                    column.all().iter().map(|x| f64::from(*x)).sum::<f64>() * f64::from(*e)
                }
                Exponentials::Each(each) => product(column.all(), each),
            };
            (few.sum::<f64>() + all) * scale
        };
        let mut mean: [f64; FEATURES] = std::array::from_fn(mean);
        mean[Feature::Bias.index()] = 1.0 - distribution.none();
        mean
    }

    fn logits_into(&self, weights: &[f64; FEATURES], here: Here<'_>, logits: &mut Vec<f32>) {
        logits.clear();
        logits.resize(self.len, weights[Feature::Bias.index()] as f32);
        let weighted = || {
            self.columns
                .iter()
                .zip(weights)
                .filter(|(_, weight)| **weight != 0.0)
        };
        for (at, block) in logits.chunks_mut(BLOCK).enumerate() {
            for (column, weight) in weighted() {
                let all = column.all();
                if !all.is_empty() {
                    add_scaled(*weight as f32, &all[at * BLOCK..], block);
                }
            }
        }
        for (column, weight) in weighted() {
            for (slot, x) in column.few() {
                logits[*slot] += *weight as f32 * x;
            }
        }
        if here.count < self.len {
            for (logit, here) in logits.iter_mut().zip(here.is_here) {
                *logit = if *here { *logit } else { f32::NEG_INFINITY };
            }
        }
    }

    /// The softmax over the items that are here and none, whose logit is 0.
    pub(crate) fn softmax(&self, weights: &[f64; FEATURES], here: Here<'_>) -> Distribution {
        let differ = self.columns.iter().zip(weights);
        let differ = differ.filter(|(column, weight)| **weight != 0.0 && !column.is_zero());
        if differ.count() == 0 {
            return Distribution::alike(weights, here.count);
        }
        let mut each = Floats::new();
        self.logits_into(weights, here, &mut each);
        let most = greatest(&each);
        let sum = exponentials(&mut each, most);
        Distribution {
            weights: *weights,
            most: f64::from(most),
            items: sum as f64 / f64::from(WHOLE),
            exponentials: Exponentials::Each(each),
            none: f64::from(-most).exp(),
        }
    }
}

/// A distribution over the items of a surface and none.
#[derive(Debug)]
pub(crate) struct Distribution {
    pub(crate) weights: [f64; FEATURES],
    /// The logit that exponentials are relative to.
    most: f64,
    exponentials: Exponentials,
    /// The sum of the exponentials of items.
    items: f64,
    none: f64,
}

#[derive(Debug)]
enum Exponentials {
    /// Those of all items are the same.
    Alike(f32),
    Each(Floats),
}

impl Distribution {
    /// Every item has the logit of the bias.
    fn alike(weights: &[f64; FEATURES], items: usize) -> Self {
        let logit = weights[Feature::Bias.index()] as f32;
        let most = logit.max(0.0);
        let e = exp(logit - most);
        let sum = u64::from(wholes(e)) * items as u64;
        Self {
            weights: *weights,
            most: f64::from(most),
            items: sum as f64 / f64::from(WHOLE),
            exponentials: Exponentials::Alike(e),
            none: f64::from(-most).exp(),
        }
    }

    fn scale(&self) -> f64 {
        1.0 / (self.items + self.none)
    }

    /// The probability of none.
    pub(crate) fn none(&self) -> f64 {
        self.none * self.scale()
    }

    fn exponential(&self, slot: usize) -> f32 {
        match &self.exponentials {
            Exponentials::Alike(e) => *e,
            Exponentials::Each(each) => each[slot],
        }
    }

    /// About the probability of every item, times `weight`, added to `sum`; where all are alike, nothing: it would
    /// not tell them apart.
    pub(crate) fn add_to(&self, weight: f64, sum: &mut [f32]) {
        if let Exponentials::Each(each) = &self.exponentials {
            let scale = (weight * self.scale()) as f32;
            add_scaled(scale, each, sum);
        }
    }

    /// The distribution with the items of `slots`, whose features are `rows`, taken exactly: their
    /// probabilities, that of none, and that of all the rest together.
    pub(crate) fn split(&self, slots: &[usize], rows: &[[f64; FEATURES]]) -> Split {
        let taken: u64 = slots
            .iter()
            .map(|slot| u64::from(wholes(self.exponential(*slot))))
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
