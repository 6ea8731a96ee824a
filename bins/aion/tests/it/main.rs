//! The program as its users run it.
//!
//! Tests that need the model's weights or another model server are ignored by default; `.ci/e2e`
//! runs them all.
#![allow(clippy::unwrap_used)]

mod convert;
mod crash;
mod hub;
mod invariants;
mod model;
mod real;
mod scripted;
mod up;
mod world;
