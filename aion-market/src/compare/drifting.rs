//! The empirical-Bernstein confidence sequence: no assumption but the range.
//!
//! With `c` the width of the range and any guesses `g_i` of the differences `d_i` made beforehand,
//! `exp(l sum (d_i - E d_i) - psi(l) sum (d_i - g_i)^2)` is a nonnegative supermartingale for every
//! stake `0 <= l < 1/c`, where `psi(l) = (-ln(1 - c l) - c l) / c^2`: since `(d - g)/c >= -1`, and
//! `exp(s x - (-ln(1 - s) - s) x^2) <= 1 + s x` for `x >= -1` (Fan, Grama and Liu 2015). A mean of
//! such over several stakes is one too, and Ville's inequality bounds how high it ever gets.

use crate::interval::Interval;

/// How many stakes are mixed; each is smaller than the one before by the square root of 2.
const STAKES: i32 = 24;
/// The largest stake, as a share of `1/c`.
const LARGEST: f64 = 0.95;

#[derive(Debug, Clone)]
pub(super) struct Drifting {
    range: Interval,
    n: f64,
    /// `sum d_i`.
    sum: f64,
    /// `sum (d_i - g_i)^2`, with `g_i` the mean before, begun at 0.
    spread: f64,
}

impl Drifting {
    pub(super) const fn new(range: Interval) -> Self {
        Self {
            range,
            n: 0.0,
            sum: 0.0,
            spread: 0.0,
        }
    }

    pub(super) fn push(&mut self, d: f64) {
        let guess = self.sum / (self.n + 1.0);
        self.spread += (d - guess).powi(2);
        self.n += 1.0;
        self.sum += d;
    }

    /// `ln` of the mean capital of all stakes when the differences sum to `excess` above the mean that
    /// is tested.
    fn ln_capital(&self, excess: f64) -> f64 {
        let c = self.range.width();
        let of = |j: i32| {
            let s = LARGEST * 2.0_f64.powf(-0.5 * f64::from(j));
            let psi = -(-s).ln_1p() - s;
            s * excess / c - psi * self.spread / (c * c)
        };
        let highest = (0..STAKES).map(of).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = (0..STAKES).map(|j| (of(j) - highest).exp()).sum();
        highest + (sum / f64::from(STAKES)).ln()
    }

    /// Capital of who bets on `a`, and on `b`.
    pub(super) fn evidence(&self) -> (f64, f64) {
        (self.ln_capital(self.sum).exp(), self.ln_capital(-self.sum).exp())
    }

    /// Both sides at half of alpha.
    pub(super) fn interval(&self, alpha: f64) -> Interval {
        if self.n == 0.0 {
            return self.range;
        }
        let reach = self.reach((2.0 / alpha).ln());
        let mean = self.sum / self.n;
        Interval {
            lower: (mean - reach / self.n).max(self.range.lower),
            upper: (mean + reach / self.n).min(self.range.upper),
        }
    }

    /// The smallest excess whose capital reaches `ln_threshold`, from above.
    fn reach(&self, ln_threshold: f64) -> f64 {
        let (mut low, mut high) = (0.0, self.n * self.range.width());
        if self.ln_capital(high) < ln_threshold {
            return high;
        }
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if self.ln_capital(middle) < ln_threshold {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }
}
