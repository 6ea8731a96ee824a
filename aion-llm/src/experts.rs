//! Which experts a token goes through, and how much each of them counts.
//!
//! `y = sum_e g_e E_e(x)` over the `k` experts with the largest scores; the gates `g` of those sum to 1
//! (`docs/math/mixture.md`).
//!
//! # Sources
//! Shazeer et al. 2017 (top-k gating), Jiang et al. 2024 (Mixtral: softmax over the chosen), Wang et al. 2024 (a bias that
//! balances the load and only chooses).

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The most experts of a layer.
pub(crate) const MAX_EXPERTS: usize = 1_024;

/// How the logits of the chosen experts become weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gating {
    /// Softmax over the chosen.
    Softmax,
    /// The sigmoid of each, divided by their sum.
    Sigmoid,
}

/// What the experts are chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// The router's logits.
    Logits,
    /// The probabilities that the gating gives to all of them, plus a bias for each expert. The bias balances the load and
    /// has no part in the weights.
    Biased,
}

/// A mixture of experts in the place of every feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Experts {
    /// Experts of each layer.
    pub count: usize,
    /// Experts that each token goes through.
    pub used: usize,
    /// How their logits become weights.
    pub gating: Gating,
    /// What they are chosen by.
    pub selection: Selection,
}

/// One expert that a token goes through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Routed {
    /// Its number.
    pub expert: usize,
    /// Its share of the output.
    pub gate: f32,
}

impl Experts {
    /// `used` of `count` experts, chosen by their logits and weighted by softmax.
    #[must_use]
    pub fn new(count: usize, used: usize) -> Self {
        Self {
            count,
            used,
            gating: Gating::Softmax,
            selection: Selection::Logits,
        }
    }

    /// With another way from logits to weights.
    #[must_use]
    pub fn with_gating(mut self, gating: Gating) -> Self {
        self.gating = gating;
        self
    }

    /// Chosen by something else.
    #[must_use]
    pub fn with_selection(mut self, selection: Selection) -> Self {
        self.selection = selection;
        self
    }

    pub(crate) fn checked(self) -> Result<Self> {
        let Self { count, used, .. } = self;
        if !(1..=MAX_EXPERTS).contains(&count) {
            return Err(Error::Config(format!(
                "{count} experts; there may be 1 to {MAX_EXPERTS}"
            )));
        }
        if !(1..=count).contains(&used) {
            return Err(Error::Config(format!("{used} experts are used of {count}")));
        }
        Ok(self)
    }

    /// The experts of one token, the best first; of equal ones the one with the smaller number comes first. The gates sum
    /// to 1, unless a logit is not a number: then none of them is one.
    ///
    /// ```
    /// use aion_llm::{Experts, Gating};
    /// let rule = Experts::new(4, 2);
    /// let routed = rule.route(&[2.0, 1.0, 0.0, -1.0], None);
    /// assert_eq!((routed[0].expert, routed[1].expert), (0, 1));
    /// assert!((routed[0].gate - 0.731059).abs() < 1e-6);
    /// let routed = rule.with_gating(Gating::Sigmoid).route(&[2.0, 1.0, 0.0, -1.0], None);
    /// assert!((routed[0].gate - 0.546449).abs() < 1e-6);
    /// // A bias changes who is chosen, not what the chosen weigh.
    /// let routed = rule.route(&[2.0, 1.0, 0.0, -1.0], Some(&[0.0, -1.0, 0.0, 0.0]));
    /// assert_eq!((routed[0].expert, routed[1].expert), (0, 2));
    /// assert!((routed[0].gate - 0.880797).abs() < 1e-6);
    /// ```
    #[must_use]
    pub fn route(&self, logits: &[f32], bias: Option<&[f32]>) -> Vec<Routed> {
        let scores: Vec<f64> = match bias {
            None => logits.iter().map(|x| f64::from(*x)).collect(),
            Some(bias) => {
                let biased = |(p, bias): (f64, &f32)| p + f64::from(*bias);
                self.probabilities(logits)
                    .into_iter()
                    .zip(bias)
                    .map(biased)
                    .collect()
            }
        };
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        order.truncate(self.used);
        let levels: Vec<f64> = order.iter().map(|expert| self.level(logits[*expert])).collect();
        let damage = if logits.iter().any(|x| x.is_nan()) {
            f64::NAN
        } else {
            0.0
        };
        let gates = softmax(&levels).into_iter().map(|gate| (gate + damage) as f32);
        order
            .into_iter()
            .zip(gates)
            .map(|(expert, gate)| Routed { expert, gate })
            .collect()
    }

    /// The logarithm of what the gating makes of a logit, up to what is the same for all.
    fn level(&self, logit: f32) -> f64 {
        let x = f64::from(logit);
        match self.gating {
            Gating::Softmax => x,
            // ln sigmoid(x), without a difference of nearly equal numbers.
            Gating::Sigmoid => x.min(0.0) - (-x.abs()).exp().ln_1p(),
        }
    }

    fn probabilities(&self, logits: &[f32]) -> Vec<f64> {
        let levels: Vec<f64> = logits.iter().map(|x| self.level(*x)).collect();
        match self.gating {
            Gating::Softmax => softmax(&levels),
            Gating::Sigmoid => levels.into_iter().map(f64::exp).collect(),
        }
    }
}

fn softmax(levels: &[f64]) -> Vec<f64> {
    let most = levels.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = levels.iter().map(|x| (x - most).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gates(rule: Experts, logits: &[f32], bias: Option<&[f32]>) -> Vec<(usize, f32)> {
        let routed = rule.route(logits, bias);
        routed.into_iter().map(|r| (r.expert, r.gate)).collect()
    }

    #[test]
    fn worked_numbers() {
        let logits = [2.0, 1.0, 0.0, -1.0];
        for (gating, expected) in [
            (Gating::Softmax, [0.731_059, 0.268_941]),
            (Gating::Sigmoid, [0.546_449, 0.453_551]),
        ] {
            let found = gates(Experts::new(4, 2).with_gating(gating), &logits, None);
            assert_eq!((found[0].0, found[1].0), (0, 1));
            assert!((found[0].1 - expected[0]).abs() < 1e-6 && (found[1].1 - expected[1]).abs() < 1e-6);
        }
    }

    #[test]
    fn extremes_stay_numbers_and_damage_is_not_hidden() {
        for gating in [Gating::Softmax, Gating::Sigmoid] {
            let rule = Experts::new(3, 2).with_gating(gating);
            let far = gates(rule, &[-3e4, -3.0001e4, -3.1e4], Some(&[0.0; 3]));
            assert_eq!((far[0].0, far[1].0), (0, 1));
            assert!((far[0].1 + far[1].1 - 1.0).abs() < 1e-6, "{far:?}");
            for broken in [f32::NAN, -f32::NAN] {
                let found = gates(rule, &[1.0, broken, 2.0], None);
                assert!(found.iter().all(|(_, gate)| gate.is_nan()), "{found:?}");
            }
        }
        assert_eq!(
            gates(Experts::new(3, 2), &[1.0; 3], None)[1].0,
            1,
            "ties go to the first"
        );
    }

    #[test]
    fn impossible_mixtures_are_refused() {
        for (count, used) in [(0, 0), (4, 0), (4, 5), (MAX_EXPERTS + 1, 1)] {
            assert!(matches!(
                Experts::new(count, used).checked(),
                Err(Error::Config(_))
            ));
        }
        assert!(Experts::new(1, 1).checked().is_ok());
    }

    fn rules() -> impl Strategy<Value = (Experts, Vec<f32>, Option<Vec<f32>>)> {
        (1usize..20, any::<bool>()).prop_flat_map(|(count, sigmoid)| {
            let gating = if sigmoid { Gating::Sigmoid } else { Gating::Softmax };
            let logits = proptest::collection::vec(-9.0f32..9.0, count);
            let bias = proptest::option::of(proptest::collection::vec(-0.5f32..0.5, count));
            (1..=count, logits, bias)
                .prop_map(move |(used, x, bias)| (Experts::new(count, used).with_gating(gating), x, bias))
        })
    }

    proptest! {
        /// The gates sum to 1; all experts together weigh what the whole mixture weighs them; a permutation of the experts
        /// permutes them; the bias never enters the weights.
        #[test]
        fn laws_of_the_gate((rule, logits, bias) in rules(), turn in 0usize..20) {
            let found = gates(rule, &logits, bias.as_deref());
            prop_assert_eq!(found.len(), rule.used);
            prop_assert!((found.iter().map(|(_, gate)| gate).sum::<f32>() - 1.0).abs() < 1e-5);
            let level = |x: f32| match rule.gating {
                Gating::Softmax => f64::from(x).exp(),
                Gating::Sigmoid => 1.0 / (1.0 + (-f64::from(x)).exp()),
            };
            let chosen: f64 = found.iter().map(|(expert, _)| level(logits[*expert])).sum();
            for (expert, gate) in &found {
                prop_assert!((f64::from(*gate) - level(logits[*expert]) / chosen).abs() < 1e-6);
            }
            if bias.is_none() {
                let last = logits[found[found.len() - 1].0];
                let better = logits.iter().filter(|x| **x > last).count();
                prop_assert!(better < rule.used);
            }
            let n = rule.count;
            let turned = |x: &[f32]| -> Vec<f32> { (0..n).map(|i| x[(i + turn) % n]).collect() };
            let same = gates(rule, &turned(&logits), bias.as_deref().map(turned).as_deref());
            // Equal scores are told apart by their numbers.
            let mut distinct: Vec<u64> = logits.iter().map(|x| u64::from(x.to_bits())).collect();
            distinct.sort_unstable();
            distinct.dedup();
            if distinct.len() == n {
                let back: Vec<(usize, f32)> = same.into_iter().map(|(i, gate)| ((i + turn) % n, gate)).collect();
                if bias.is_none() {
                    prop_assert_eq!(back, found);
                } else {
                    // The probabilities of the choice are sums in another order.
                    prop_assert!(back.iter().zip(&found).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-6));
                }
            }
        }
    }
}
