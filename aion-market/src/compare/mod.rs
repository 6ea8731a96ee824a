//! Which of two forecasters is better, answered while the events still come in.
//!
//! A test that is looked at after every event, and stopped when it pleases, is wrong more often than
//! it says; an *anytime-valid* one is not. [`Comparison`] keeps a confidence sequence of the mean
//! difference of two scores, valid at all times at once with probability `1 - alpha`, and e-values:
//! the capital of a gambler who bets that one of the two is better, at odds that are fair if not.
//!
//! ```
//! use aion_market::compare::{Comparison, Options};
//! use aion_market::score::{Brier, ScoringRule};
//!
//! // Brier scores over two outcomes lie in [0, 2], so their differences in [-2, 2].
//! let mut comparison = Comparison::new(Options::new(-2.0, 2.0)?);
//! for event in 0..400 {
//!     let rained = usize::from(event % 5 == 0);
//!     let (a, b) = (Brier.reward(&[0.8, 0.2], rained)?, Brier.reward(&[0.5, 0.5], rained)?);
//!     comparison.push(a, b)?;
//! }
//! let verdict = comparison.verdict();
//! assert!(verdict.interval.lower > 0.0 && verdict.a_is_better());
//! assert!((verdict.mean - 0.18).abs() < 1e-12 && verdict.p_value < 0.01);
//! # Ok::<(), aion_market::Error>(())
//! ```
//!
//! # Sources
//! Y. J. Choe and A. Ramdas, Comparing sequential forecasters, 2021; I. Waudby-Smith and A. Ramdas,
//! Estimating means of bounded random variables by betting, 2021; S. R. Howard et al., Time-uniform,
//! nonparametric, nonasymptotic confidence sequences, 2021. `docs/math/comparison.md`.

mod betting;
mod drifting;
mod saved;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::check;
use crate::interval::Interval;
use betting::Betting;
use drifting::Drifting;

/// What is assumed of the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Assumption {
    /// Nothing: the expected difference may change from event to event, and the interval is about its
    /// mean over the events so far. An empirical-Bernstein bound mixed over 24 stakes.
    #[default]
    Drifting,
    /// The expected difference is the same at every event, given all before: hedged capital over a
    /// grid of 1,025 means. The interval is tighter and only shrinks.
    Constant,
}

/// What to compare within.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    range: Interval,
    alpha: f64,
    assumption: Assumption,
}

impl Options {
    /// Differences `a - b` in `[least, most]`, intervals of 95%, nothing assumed of the events.
    ///
    /// Bounds of the rules: Brier over K outcomes 2, one-sided Brier 1, RPS `K - 1`, spherical 1, log
    /// score of forecasts with a floor `-ln floor`; the difference lies between minus that and that.
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] unless both are finite and 0 lies between them.
    pub fn new(least: f64, most: f64) -> Result<Self> {
        let width = most - least;
        check("the least difference", "finite and below 0", least, {
            least.is_finite() && least < 0.0
        })?;
        check("the largest difference", "finite and above 0", most, {
            most.is_finite() && most > 0.0 && width.is_finite()
        })?;
        Ok(Self {
            range: Interval::new(least, most)?,
            alpha: 0.05,
            assumption: Assumption::Drifting,
        })
    }

    /// Differences of Brier scores over any number of outcomes: in `[-2, 2]`.
    pub const fn brier() -> Self {
        Self {
            range: Interval {
                lower: -2.0,
                upper: 2.0,
            },
            alpha: 0.05,
            assumption: Assumption::Drifting,
        }
    }

    /// Sets how often an interval may ever be wrong.
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] unless it is in `[1e-12, 1)`.
    pub fn with_alpha(mut self, alpha: f64) -> Result<Self> {
        self.alpha = check("a level", "in [1e-12, 1)", alpha, (1e-12..1.0).contains(&alpha))?;
        Ok(self)
    }

    /// Sets what is assumed of the events.
    #[must_use]
    pub const fn with_assumption(mut self, assumption: Assumption) -> Self {
        self.assumption = assumption;
        self
    }
}

/// What a comparison has come to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Verdict {
    /// How many events.
    pub n: u64,
    /// Mean of `a - b`; 0 before the first.
    pub mean: f64,
    /// Where the expected mean difference lies, with probability `1 - alpha` at all times at once.
    pub interval: Interval,
    /// Evidence against "`a` is not better than `b`": the capital of who bet 1 on `a`.
    pub e_a_better: f64,
    /// Evidence against "`b` is not better than `a`".
    pub e_b_better: f64,
    /// Evidence against "they are equally good": the mean of both.
    pub e_value: f64,
    /// `1 / max e_value` so far: at most `x` with probability `x`, ever, if they are equally good.
    pub p_value: f64,
}

impl Verdict {
    /// Whether the interval lies above 0.
    pub fn a_is_better(&self) -> bool {
        self.interval.lower > 0.0
    }

    /// Whether the interval lies below 0.
    pub fn b_is_better(&self) -> bool {
        self.interval.upper < 0.0
    }
}

/// Two forecasters on the same events, as they come.
///
/// It can be stored, and goes on where it was after it is read back: a comparison need not see an event
/// twice. What is read back is checked, whoever wrote it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "saved::Saved", try_from = "saved::Saved")]
pub struct Comparison {
    options: Options,
    n: u64,
    sum: f64,
    best_e: f64,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    Drifting(Box<Drifting>),
    Constant(Box<Betting>),
}

impl Comparison {
    /// Of no event yet.
    pub fn new(options: Options) -> Self {
        let state = match options.assumption {
            Assumption::Drifting => State::Drifting(Box::new(Drifting::new(options.range))),
            Assumption::Constant => State::Constant(Box::new(Betting::new(options.range, options.alpha))),
        };
        Self {
            options,
            n: 0,
            sum: 0.0,
            best_e: 1.0,
            state,
        }
    }

    /// The scores of both on one more event, larger being better (see
    /// [`ScoringRule::reward`](crate::score::ScoringRule::reward)).
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] if the difference is not a number or outside the range; the
    /// comparison is as it was.
    pub fn push(&mut self, a: f64, b: f64) -> Result<()> {
        let difference = check(
            "a difference of scores",
            "in the range of the comparison",
            a - b,
            self.options.range.contains(a - b),
        )?;
        self.n += 1;
        self.sum += difference;
        match &mut self.state {
            State::Drifting(state) => state.push(difference),
            State::Constant(state) => state.push(difference),
        }
        let (a, b) = self.evidence();
        self.best_e = self.best_e.max(f64::midpoint(a, b));
        Ok(())
    }

    /// How many events there were.
    pub const fn n(&self) -> u64 {
        self.n
    }

    /// What it has come to.
    pub fn verdict(&self) -> Verdict {
        let (e_a_better, e_b_better) = self.evidence();
        Verdict {
            n: self.n,
            mean: self.sum / self.n.max(1) as f64,
            interval: self.interval(),
            e_a_better,
            e_b_better,
            e_value: f64::midpoint(e_a_better, e_b_better),
            p_value: 1.0 / self.best_e,
        }
    }

    /// Where the expected mean difference lies, with probability `1 - alpha` at all times at once.
    pub fn interval(&self) -> Interval {
        match &self.state {
            State::Drifting(state) => state.interval(self.options.alpha),
            State::Constant(state) => state.interval(),
        }
    }

    fn evidence(&self) -> (f64, f64) {
        match &self.state {
            State::Drifting(state) => state.evidence(),
            State::Constant(state) => state.evidence(),
        }
    }
}
