//! Baseline, peer and spot scores as Metaculus gives them, at one moment and over a question's time.
//!
//! Metaculus takes no forecast below 0.001 or above 0.999; [`crate::clip::Clamped`] does that here,
//! and carries its floor. A forecaster's forecasts count from when they are made until the next one
//! or until they are withdrawn; [`baseline_over_time`] and [`peer_over_time`] average the score of the
//! moment over the time that the question was to be open, so what is not covered scores 0.

mod over_time;

pub use over_time::{
    Covered, Period, TimedForecast, baseline_over_time, peer_over_time, spot_baseline, spot_peer,
};

use super::{Log, ScoringRule};
use crate::Result;
use crate::error::{Error, check, check_entries};

/// What sort of question, which fixes the reference and the scale of its scores.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Question {
    /// One of `outcomes` outcomes; the reference is the uniform distribution.
    Discrete {
        /// How many outcomes.
        outcomes: usize,
    },
    /// A number, forecast as shares of buckets; the reference is `reference` for the bucket that
    /// happened, and scores are halved.
    Continuous {
        /// What the reference gives to that bucket.
        reference: f64,
    },
}

impl Question {
    /// One of so many outcomes.
    ///
    /// # Errors
    /// [`Error::Shape`] for fewer than two.
    pub fn discrete(outcomes: usize) -> Result<Self> {
        if outcomes < 2 {
            return Err(Error::Shape {
                what: "outcomes",
                found: outcomes,
                expected: 2,
            });
        }
        Ok(Self::Discrete { outcomes })
    }

    /// A number that fell into one of `buckets` within the range; `open_ends` of the range's ends
    /// (0 to 2) are open, and each of those has 5% of the reference.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for no bucket or more than two ends.
    pub fn within_range(buckets: usize, open_ends: u8) -> Result<Self> {
        check("buckets", "at least 1", buckets as f64, buckets > 0)?;
        check("open ends", "at most 2", f64::from(open_ends), open_ends <= 2)?;
        let reference = (1.0 - OUTSIDE * f64::from(open_ends)) / buckets as f64;
        Ok(Self::Continuous { reference })
    }

    /// A number that fell beyond an open end of the range.
    pub const fn beyond_range() -> Self {
        Self::Continuous { reference: OUTSIDE }
    }

    /// The baseline score of what a forecast gave to what happened: `100 ln(p K)/ln K` for one of K
    /// outcomes, `50 ln(p / reference)` for a number.
    ///
    /// ```
    /// use aion_market::score::metaculus::Question;
    ///
    /// assert!((Question::discrete(2)?.baseline(0.8)? - 67.807_190_511_263_77).abs() < 1e-12);
    /// assert!((Question::within_range(200, 2)?.baseline(0.045)? - 50.0 * 10.0_f64.ln()).abs() < 1e-12);
    /// # Ok::<(), aion_market::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a probability outside `(0, 1]`.
    pub fn baseline(self, p: f64) -> Result<f64> {
        check("a probability", "in (0, 1]", p, p > 0.0 && p <= 1.0)?;
        Ok(match self {
            Self::Discrete { outcomes } => {
                let k = outcomes as f64;
                100.0 * (p.ln() + k.ln()) / k.ln()
            }
            Self::Continuous { reference } => 50.0 * (p.ln() - reference.ln()),
        })
    }

    /// What a peer score is multiplied with.
    const fn peer_scale(self) -> f64 {
        match self {
            Self::Discrete { .. } => 100.0,
            Self::Continuous { .. } => 50.0,
        }
    }
}

/// What the reference gives to each open end of a range.
const OUTSIDE: f64 = 0.05;

/// The baseline score of Metaculus without its time average: `100 ln(q(y) K) / ln K`; 0 for the
/// uniform forecast, 100 for a sure and right one, minus infinity for 0.
///
/// ```
/// use aion_market::score::metaculus_baseline;
///
/// assert!((metaculus_baseline(&[0.8, 0.2], 0)? - 67.807_190_511_263_77).abs() < 1e-12);
/// assert_eq!(metaculus_baseline(&[0.25; 4], 2)?, 0.0);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error`] if `q` is no distribution or has no outcome `y`.
///
/// # Sources
/// Metaculus, Scores FAQ, "What is the Baseline score?".
pub fn metaculus_baseline(q: &[f64], y: usize) -> Result<f64> {
    let outcomes = q.len() as f64;
    Log.score(q, y)
        .map(|score| 100.0 * (score + outcomes.ln()) / outcomes.ln())
}

/// The peer score of Metaculus without its time average: `100 N/(N-1) (ln p_i - mean ln p)` for each
/// of `N >= 2` forecasters, from what each gave to the outcome that happened. The scores sum to 0.
///
/// ```
/// use aion_market::score::metaculus_peer;
///
/// let scores = metaculus_peer(&[0.8, 0.2])?;
/// assert!((scores[0] - 100.0 * 4.0_f64.ln()).abs() < 1e-12 && (scores[0] + scores[1]).abs() < 1e-12);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error`] for fewer than two, or a probability outside `(0, 1]`.
///
/// # Sources
/// Metaculus, Scores FAQ, "What is the Peer score?".
pub fn metaculus_peer(p_of_outcome: &[f64]) -> Result<Vec<f64>> {
    let n = p_of_outcome.len();
    if n < 2 {
        return Err(Error::Shape {
            what: "peers",
            found: n,
            expected: 2,
        });
    }
    check_entries("peers", "in (0, 1]", p_of_outcome, |p| p > 0.0 && p <= 1.0)?;
    let mean = p_of_outcome.iter().map(|p| p.ln()).sum::<f64>() / n as f64;
    let scale = 100.0 * n as f64 / (n - 1) as f64;
    Ok(p_of_outcome.iter().map(|p| scale * (p.ln() - mean)).collect())
}
