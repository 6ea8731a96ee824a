//! Integration tests: the integer logarithm, the laws of the rules, stores and settlements.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ledger;
mod rules;
