//! The service: every operation through its router, the header, the keys, and a kill in the middle.
#![allow(clippy::unwrap_used)]

mod executions;
mod keys;
mod mcp;
mod operations;
mod remote;
mod support;
mod tasks;
