//! The link from a persistence ratio to a probability, which the words of every crate have.

pub use aion_types::{Calibration, Fit, FitOptions};
