//! Integration tests: worked numbers, laws as properties, stores, the handle and the observer.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alarms;
mod attacks;
mod batch;
mod batch_bad_input;
mod batch_golden;
mod calibrators;
mod comparison;
mod contests;
mod curves;
mod diagram;
mod faults;
mod golden_scores;
mod histories;
mod laws;
mod makers;
mod measure;
mod observer;
mod predictors;
mod rules;
mod scores;
mod scoring;
mod stores;
