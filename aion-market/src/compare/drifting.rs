//! The empirical-Bernstein confidence sequence: no assumption but the range.
//!
//! With `c` the width of the range and any guesses `g_i` of the differences `d_i` made beforehand,
//! `exp(l sum (d_i - E d_i) - psi(l) sum (d_i - g_i)^2)` is a nonnegative supermartingale for every
//! stake `0 <= l < 1/c`, where `psi(l) = (-ln(1 - c l) - c l) / c^2`: since `(d - g)/c >= -1`, and
//! `exp(s x - (-ln(1 - s) - s) x^2) <= 1 + s x` for `x >= -1` (Fan, Grama and Liu 2015). A mean of
//! such over several stakes is one too, and Ville's inequality bounds how high it ever gets.

use crate::Result;
use crate::error::check;
use crate::interval::Interval;

/// How many stakes are mixed; each is smaller than the one before by the square root of 2.
const STAKES: usize = 24;
/// The largest stake, as a share of `1/c`.
const LARGEST: f64 = 0.95;

#[derive(Debug, Clone)]
pub(super) struct Drifting {
    range: Interval,
    /// `l` and `psi(l)` of each stake.
    stakes: [(f64, f64); STAKES],
    n: f64,
    /// `sum d_i`.
    sum: f64,
    /// `sum (d_i - g_i)^2`, with `g_i` the mean before, begun at 0.
    spread: f64,
}

impl Drifting {
    pub(super) fn new(range: Interval) -> Self {
        let c = range.width();
        let stakes = std::array::from_fn(|j| {
            let share = LARGEST * 0.5_f64.powf(0.5 * j as f64);
            (share / c, (-(-share).ln_1p() - share) / (c * c))
        });
        Self {
            range,
            stakes,
            n: 0.0,
            sum: 0.0,
            spread: 0.0,
        }
    }

    /// Goes on after `n` events that sum to `sum`.
    pub(super) fn resumed(range: Interval, n: u64, sum: f64, spread: f64) -> Result<Self> {
        let spread = check("a spread", "finite and at least 0", spread, {
            (0.0..=f64::MAX).contains(&spread)
        })?;
        Ok(Self {
            n: n as f64,
            sum,
            spread,
            ..Self::new(range)
        })
    }

    pub(super) const fn spread(&self) -> f64 {
        self.spread
    }

    pub(super) fn push(&mut self, d: f64) {
        let guess = self.sum / (self.n + 1.0);
        self.spread += (d - guess).powi(2);
        self.n += 1.0;
        self.sum += d;
    }

    /// `ln` of the mean capital of all stakes when the differences sum to `excess` above the mean that
    /// is tested, and its slope in `excess`.
    fn ln_capital(&self, excess: f64) -> (f64, f64) {
        let logs = self.stakes.map(|(stake, psi)| stake * excess - psi * self.spread);
        let highest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (mut sum, mut slope) = (0.0, 0.0);
        for (log, (stake, _)) in logs.iter().zip(&self.stakes) {
            let capital = (log - highest).exp();
            sum += capital;
            slope += stake * capital;
        }
        (highest + (sum / STAKES as f64).ln(), slope / sum)
    }

    /// Capital of who bets on `a`, and on `b`.
    pub(super) fn evidence(&self) -> (f64, f64) {
        let (a, b) = (self.ln_capital(self.sum).0, self.ln_capital(-self.sum).0);
        (a.exp().min(f64::MAX), b.exp().min(f64::MAX))
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

    /// The excess whose capital is `ln_threshold`, from above: the logarithm is convex and rises, so
    /// Newton's steps from a point that is too high stay too high.
    fn reach(&self, ln_threshold: f64) -> f64 {
        let mut reach = self.n * self.range.width();
        for _ in 0..100 {
            let (ln_capital, slope) = self.ln_capital(reach);
            let over = ln_capital - ln_threshold;
            if over <= 1e-13 * ln_threshold {
                break;
            }
            reach -= over / slope;
        }
        reach
    }
}
