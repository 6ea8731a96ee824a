//! The laws and the worked numbers of `docs/math/persistence.md`, and what serde refuses.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod equation;
mod persistence;
mod prob;
mod records;
mod task_persistence;
