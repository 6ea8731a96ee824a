//! Integration tests: worked numbers, laws as properties, stores, the handle and the observer.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod diagram;
mod laws;
mod observer;
mod rules;
mod scores;
mod stores;
