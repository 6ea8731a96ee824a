//! A comparison as it is stored.

use serde::{Deserialize, Serialize};

use super::betting::{Betting, Stakes};
use super::drifting::Drifting;
use super::{Assumption, Comparison, Options, State};
use crate::Error;
use crate::error::check;

/// Beyond this many events their number is no whole `f64` any more.
const MAX_EVENTS: u64 = 1 << 53;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saved {
    least: f64,
    most: f64,
    alpha: f64,
    n: u64,
    sum: f64,
    best_e: f64,
    state: SavedState,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SavedState {
    Drifting { spread: f64 },
    Constant(Stakes),
}

impl From<Comparison> for Saved {
    fn from(comparison: Comparison) -> Self {
        let Options { range, alpha, .. } = comparison.options;
        Self {
            least: range.lower,
            most: range.upper,
            alpha,
            n: comparison.n,
            sum: comparison.sum,
            best_e: comparison.best_e,
            state: match comparison.state {
                State::Drifting(state) => SavedState::Drifting {
                    spread: state.spread(),
                },
                State::Constant(state) => SavedState::Constant(state.into_stakes()),
            },
        }
    }
}

impl TryFrom<Saved> for Comparison {
    type Error = Error;

    fn try_from(saved: Saved) -> Result<Self, Error> {
        let Saved { n, sum, best_e, .. } = saved;
        let assumption = match saved.state {
            SavedState::Drifting { .. } => Assumption::Drifting,
            SavedState::Constant(_) => Assumption::Constant,
        };
        let options = Options::new(saved.least, saved.most)?
            .with_alpha(saved.alpha)?
            .with_assumption(assumption);
        check("a number of events", "at most 2^53", n as f64, n <= MAX_EVENTS)?;
        let (least, most) = (n as f64 * saved.least, n as f64 * saved.most);
        // A sum of many terms may be off by some of its last digits.
        let slack = 1e-9 * (most - least);
        let fits = (least - slack..=most + slack).contains(&sum);
        check("a sum", "in the range of its events", sum, fits)?;
        check("the best evidence", "finite and at least 1", best_e, {
            (1.0..=f64::MAX).contains(&best_e)
        })?;
        let range = options.range;
        let state = match saved.state {
            SavedState::Drifting { spread } => {
                State::Drifting(Box::new(Drifting::resumed(range, n, sum, spread)?))
            }
            SavedState::Constant(stakes) => {
                State::Constant(Box::new(Betting::resumed(range, options.alpha, n, stakes)?))
            }
        };
        Ok(Self {
            options,
            n,
            sum,
            best_e,
            state,
        })
    }
}
