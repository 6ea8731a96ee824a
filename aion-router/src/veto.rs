//! When learning has made things worse: a test that may be looked at after every outcome.
//!
//! # Sources
//! H. Robbins, Statistical methods related to the law of the iterated logarithm, 1970 (the normal mixture);
//! S. Howard et al., Time-uniform, nonparametric, nonasymptotic confidence sequences, 2021. Divergences are
//! clipped, so their means are sub-Gaussian.

use serde::{Deserialize, Serialize};

/// When a surface goes back to the order without learning.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VetoOptions {
    /// The probability of ever going back although learning is no worse.
    pub alpha: f64,
    /// Where a divergence is clipped, in bits.
    pub most_bits: f64,
    /// After so many outcomes without learning it is tried again, and both sides are counted anew.
    #[serde(default = "rest")]
    pub rest: u64,
}

const fn rest() -> u64 {
    1_000
}

impl Default for VetoOptions {
    /// One in twenty, divergences clipped at 8 bits; learning is tried again after 1,000 outcomes.
    fn default() -> Self {
        Self {
            alpha: 0.05,
            most_bits: 8.0,
            rest: rest(),
        }
    }
}

impl VetoOptions {
    /// Sets after how many outcomes without learning it is tried again.
    #[must_use]
    pub const fn with_rest(mut self, outcomes: u64) -> Self {
        self.rest = outcomes;
        self
    }
}

/// Divergences of steps that learning led, and of those of the holdout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Veto {
    options: VetoOptions,
    influenced: Mean,
    control: Mean,
    down: bool,
    /// Outcomes since it went back.
    #[serde(default)]
    rested: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Mean {
    n: f64,
    sum: f64,
}

impl Veto {
    pub(crate) const fn new(options: VetoOptions) -> Self {
        let empty = Mean { n: 0.0, sum: 0.0 };
        Self {
            options,
            influenced: empty,
            control: empty,
            down: false,
            rested: 0,
        }
    }

    /// What was seen, looked at under other options from now on.
    pub(crate) const fn with_options(mut self, options: VetoOptions) -> Self {
        self.options = options;
        self
    }

    /// The divergence of a step that learning led.
    pub(crate) fn influenced(&mut self, bits: f64) {
        self.influenced.add(bits.clamp(0.0, self.options.most_bits));
        self.look();
    }

    /// The divergence of a step of the holdout.
    pub(crate) fn control(&mut self, bits: f64) {
        self.control.add(bits.clamp(0.0, self.options.most_bits));
        self.look();
    }

    /// A step without learning: after enough of them both sides begin anew.
    pub(crate) fn rest(&mut self) {
        self.rested += 1;
        if self.rested >= self.options.rest {
            *self = Self::new(self.options);
        }
    }

    pub(crate) fn control_mean(&self) -> Option<f64> {
        (self.control.n > 0.0).then(|| self.control.mean())
    }

    /// Whether influenced steps were shown to be worse than the holdout.
    pub(crate) const fn is_down(&self) -> bool {
        self.down
    }

    fn look(&mut self) {
        let each = self.options.alpha / 2.0;
        let radius = |mean: &Mean| mean.radius(each, self.options.most_bits);
        let worse = self.influenced.mean() - radius(&self.influenced);
        let least = self.control.mean() + radius(&self.control);
        if self.influenced.n > 0.0 && self.control.n > 0.0 && worse > least {
            self.down = true;
        }
    }
}

impl Mean {
    fn add(&mut self, x: f64) {
        (self.n, self.sum) = (self.n + 1.0, self.sum + x);
    }

    fn mean(&self) -> f64 {
        self.sum / self.n.max(1.0)
    }

    /// Half of the interval that holds the true mean at all times with probability `1 - alpha`: numbers in
    /// `[0, most]` are sub-Gaussian with `most / 2`; the mixture is tightest at about a hundred of them.
    fn radius(&self, alpha: f64, most: f64) -> f64 {
        const TIGHTEST_AT: f64 = 100.0;
        let n = self.n.max(1.0);
        let v = (n + TIGHTEST_AT)
            * ((n + TIGHTEST_AT) / TIGHTEST_AT)
                .sqrt()
                .ln()
                .mul_add(2.0, -2.0 * (alpha / 2.0).ln());
        most / 2.0 * v.sqrt() / n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_worse_is_noticed_and_alike_is_not() {
        let (mut worse, mut alike) = (
            Veto::new(VetoOptions::default()),
            Veto::new(VetoOptions::default()),
        );
        for i in 0..400 {
            let bits = f64::from(i % 5) / 2.0;
            worse.control(bits);
            worse.influenced(bits + 4.0);
            alike.control(bits);
            alike.influenced(f64::from((i + 2) % 5) / 2.0);
        }
        assert!(worse.is_down() && !alike.is_down());
        assert_eq!(alike.control_mean(), Some(1.0));
        for _ in 0..1_000 {
            assert!(worse.is_down());
            worse.rest();
        }
        assert!(
            !worse.is_down() && worse.control_mean().is_none(),
            "it is tried again"
        );
    }

    #[test]
    fn the_interval_covers_at_all_times() {
        // Fair coins scaled to [0, 8]: of 200 paths at most about alpha may ever leave the interval.
        let mut left = 0;
        for path in 0..200_u64 {
            let mut mean = Mean::default();
            let mut state = path;
            for _ in 0..500 {
                state = crate::text::mix(state);
                mean.add(if state & 1 == 0 { 0.0 } else { 8.0 });
                if (mean.mean() - 4.0).abs() > mean.radius(0.05, 8.0) {
                    left += 1;
                    break;
                }
            }
        }
        assert!(left <= 10, "{left} of 200 left");
    }
}
