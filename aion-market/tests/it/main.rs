//! Integration tests: worked numbers, laws as properties, stores, the handle and the observer.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod calibrators;
mod comparison;
mod curves;
mod diagram;
mod golden_scores;
mod laws;
mod observer;
mod rules;
mod scores;
mod scoring;
mod stores;
