//! One binary for all integration tests: tiny models for every path, and SmolLM2 for what only real weights can show.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod convert;
mod damage;
mod devices;
mod fuzz;
mod generate;
mod golden;
mod grammar;
mod import;
mod mixture;
mod persistence;
mod plain;
mod real;
mod share;

use aion_llm::testkit::TinyModel;
use aion_llm::{Engine, EngineOptions};

/// A tiny model on one thread.
fn tiny(seed: u64) -> Engine {
    Engine::load(
        &TinyModel::random(seed).endless().source(),
        EngineOptions::default().with_threads(1),
    )
    .unwrap()
}

/// The largest difference of surprises of the same tokens.
fn largest_gap(a: &[aion_llm::TokenScore], b: &[aion_llm::TokenScore]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a.surprise_nats - b.surprise_nats).abs())
        .fold(0.0, f64::max)
}
