//! The hedged capital process: a confidence sequence by betting, for a constant mean.
//!
//! With differences scaled to `x` in `[0, 1]` and any mean `m`, a gambler who stakes `l_i`, fixed
//! before `x_i` is seen, has the capital `prod (1 + l_i (x_i - m))`: a martingale if `m` is the mean.
//! A second one stakes on the other side. What has ever multiplied either by `2/alpha` is no mean
//! (Ville). Stakes are cut at `1/(2m)` and `1/(2(1-m))`, so no bet costs more than half, and the
//! capital falls (rises) with `m`: a grid loses nothing but its spacing.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::{check, check_len};
use crate::interval::Interval;

/// Cells of the grid of means.
const CELLS: usize = 1_024;
/// The most of the capital that one bet may lose.
const MOST: f64 = 0.5;

/// What is kept of it between programs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Stakes {
    sum: f64,
    spread: f64,
    alive: (usize, usize),
    above: Vec<f64>,
    below: Vec<f64>,
    at_zero: (f64, f64),
}

#[derive(Debug, Clone)]
pub(super) struct Betting {
    range: Interval,
    threshold: f64,
    n: f64,
    /// `1/2 + sum x_i`.
    sum: f64,
    /// `1/4 + sum (x_i - mean_i)^2`.
    spread: f64,
    /// Means below this cell are refuted, and those above that one.
    alive: (usize, usize),
    /// Capital of who bets that the mean is above each cell, `[CELLS + 1]`.
    above: Vec<f64>,
    /// Capital of who bets that it is below.
    below: Vec<f64>,
    /// The same for a difference of 0.
    at_zero: (f64, f64),
}

impl Betting {
    pub(super) fn new(range: Interval, alpha: f64) -> Self {
        Self {
            range,
            threshold: 2.0 / alpha,
            n: 0.0,
            sum: 0.5,
            spread: 0.25,
            alive: (0, CELLS),
            above: vec![1.0; CELLS + 1],
            below: vec![1.0; CELLS + 1],
            at_zero: (1.0, 1.0),
        }
    }

    pub(super) fn into_stakes(self) -> Stakes {
        Stakes {
            sum: self.sum,
            spread: self.spread,
            alive: self.alive,
            above: self.above,
            below: self.below,
            at_zero: self.at_zero,
        }
    }

    /// Goes on after `n` events.
    pub(super) fn resumed(range: Interval, alpha: f64, n: u64, stakes: Stakes) -> Result<Self> {
        let Stakes {
            sum,
            spread,
            alive,
            above,
            below,
            at_zero,
        } = stakes;
        check_len("capital by mean", above.len(), CELLS + 1)?;
        check_len("capital by mean", below.len(), CELLS + 1)?;
        let capital = above.iter().chain(&below).chain([&at_zero.0, &at_zero.1]);
        for capital in capital {
            check("a capital", "finite and at least 0", *capital, {
                (0.0..=f64::MAX).contains(capital)
            })?;
        }
        let fits = alive.0 <= alive.1 && alive.1 <= CELLS;
        check(
            "the first mean that is not refuted",
            "a cell up to the last",
            alive.0 as f64,
            fits,
        )?;
        let n = n as f64;
        check(
            "a sum",
            "in the range of its events",
            sum,
            (0.5..=n + 0.5).contains(&sum),
        )?;
        check(
            "a spread",
            "finite and at least 1/4",
            spread,
            (0.25..=f64::MAX).contains(&spread),
        )?;
        Ok(Self {
            n,
            sum,
            spread,
            alive,
            above,
            below,
            at_zero,
            ..Self::new(range, alpha)
        })
    }

    fn scaled(&self, d: f64) -> f64 {
        ((d - self.range.lower) / self.range.width()).clamp(0.0, 1.0)
    }

    pub(super) fn push(&mut self, d: f64) {
        let x = self.scaled(d);
        let stake = self.stake();
        let (first, last) = self.alive;
        for cell in first..=last {
            let m = mean_of(cell);
            win(&mut self.above[cell], factor(stake, x, m));
            win(&mut self.below[cell], factor(stake, 1.0 - x, 1.0 - m));
        }
        let zero = self.scaled(0.0);
        win(&mut self.at_zero.0, factor(stake, x, zero));
        win(&mut self.at_zero.1, factor(stake, 1.0 - x, 1.0 - zero));
        self.n += 1.0;
        self.sum += x;
        self.spread += (x - self.sum / (self.n + 1.0)).powi(2);
        self.refute();
    }

    /// What is staked on the next one: `sqrt(2 ln(2/alpha) / (variance t ln(1 + t)))`.
    fn stake(&self) -> f64 {
        let t = self.n + 1.0;
        let variance = self.spread / t;
        (2.0 * self.threshold.ln() / (variance * t * t.ln_1p())).sqrt()
    }

    /// Takes the means out that have lost; the last cell stays, whatever happens.
    fn refute(&mut self) {
        while self.alive.0 < self.alive.1 && self.above[self.alive.0 + 1] >= self.threshold {
            self.alive.0 += 1;
        }
        while self.alive.0 < self.alive.1 && self.below[self.alive.1 - 1] >= self.threshold {
            self.alive.1 -= 1;
        }
    }

    /// Capital of who bets on `a`, and on `b`.
    pub(super) const fn evidence(&self) -> (f64, f64) {
        self.at_zero
    }

    /// Every mean that is not refuted; a single cell if all are, which says that none is constant.
    pub(super) fn interval(&self) -> Interval {
        let end = |cell: usize| self.range.lower + self.range.width() * mean_of(cell);
        Interval {
            lower: end(self.alive.0),
            upper: end(self.alive.1),
        }
    }
}

/// A capital stays finite: what is beyond all numbers is thrown away, which only makes it less.
fn win(capital: &mut f64, factor: f64) {
    *capital = (*capital * factor).min(f64::MAX);
}

fn mean_of(cell: usize) -> f64 {
    cell as f64 / CELLS as f64
}

/// What a bet on `x > m` multiplies the capital with.
fn factor(stake: f64, x: f64, m: f64) -> f64 {
    // At m = 0 the stake is unbounded; then x >= m and nothing can be lost.
    let stake = if m > 0.0 { stake.min(MOST / m) } else { stake };
    1.0 + stake * (x - m)
}
