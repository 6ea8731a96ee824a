//! Integration tests: the laws of a ranking, and what a catalog refuses.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bounds;
mod catalog;
mod fixture;
mod import;
mod judging;
mod ladder;
mod laws;
mod learning;
mod mcp;
mod minilm;
mod pins;
mod remote;
mod stores;
mod vectors;
