//! Calibration learned: from what was said to how often it happened.
//!
//! | what is given | what is learned | type |
//! |---|---|---|
//! | a persistence ratio | `p = sigmoid(a ln R + c)` | [`Calibration`] |
//! | a probability | Platt, beta, isotonic or temperature | [`Calibrator`], by [`Recipe`] |
//!
//! A [`Calibrator`] knows the rows that it was fitted on and refuses to be evaluated on them:
//! [`out_of_fold`] calibrates a set of rows by fits that have not seen them.
//!
//! ```
//! use aion_market::calibration::{Calibrator, Examples, Method, Recipe};
//!
//! // Who dares too much: of ten 0.9s only six happen, of ten 0.1s four do. Platt brings them to
//! // 0.6 and 0.4, but for what twenty rows leave open.
//! let p = [[0.9; 10], [0.1; 10]].concat();
//! let o = [[1.0; 6].as_slice(), &[0.0; 4], &[1.0; 4], &[0.0; 6]].concat();
//! let fit = Calibrator::fit(Recipe::new(Method::Platt), &Examples::new(&p, &o)?)?;
//! assert!((fit.apply(0.9)? - 0.583_333).abs() < 1e-6);
//! assert!((fit.apply(0.1)? - 0.416_667).abs() < 1e-6);
//! # Ok::<(), aion_market::Error>(())
//! ```
//!
//! Definitions and worked numbers: `docs/math/calibration.md`.

mod beta;
mod calibrator;
mod evaluation;
mod exact;
mod examples;
mod isotonic;
mod link;
mod map;
mod newton;
mod platt;
mod recipe;

pub use calibrator::{Calibrator, Training};
pub use evaluation::{Evaluation, Folds, Losses, out_of_fold};
pub use examples::{Examples, MAX_EXAMPLES, RowKey};
pub use isotonic::{isotonic, isotonic_into};
pub use link::{Calibration, Fit, FitOptions};
pub use map::{Knot, Map};
pub use recipe::{Method, Recipe, Targets};
