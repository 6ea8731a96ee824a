//! Proper scores of one forecast against what happened.
//!
//! Log scores are rewards in nats (0 is best); Brier, ranked probability, CRPS and interval scores
//! are losses (0 is best); the spherical score is a reward (1 is best). Nothing is clipped: a
//! forecast of 0 for what happened has a log score of minus infinity. Whoever wants a floor makes a
//! [`crate::clip::Clipped`] first, which carries its epsilon.
//!
//! | forecast of | scores |
//! |---|---|
//! | one of K outcomes | [`log_score`], [`brier`], [`rps`], [`spherical`]; [`ScoringRule`] for all of them, for mixtures and for batches |
//! | an event, yes or no | [`brier_binary`] |
//! | a number | [`crps_ensemble`], [`crps_fair`], [`crps_normal`], [`crps_logistic`]; [`crate::interval`] |
//! | a question on Metaculus | [`metaculus_baseline`], [`metaculus_peer`], [`metaculus`] over time |
//! | the same events by two forecasters | [`skill`], and [`crate::compare`] while they still come |
//!
//! Definitions and worked numbers: `docs/math/scoring.md`.

mod categorical;
mod crps;
pub mod metaculus;
mod rule;
pub mod skill;

pub use categorical::{brier, brier_binary, log_score, rps, spherical};
pub use crps::{crps_ensemble, crps_fair, crps_logistic, crps_normal, crps_sorted};
pub use metaculus::{metaculus_baseline, metaculus_peer};
pub use rule::{Brier, Log, Orientation, Rps, ScoringRule, Spherical};
