//! Integration tests of the loop: the step machine, the wire, tools, dispatch, crashes, traces.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test that cannot go on may stop"
)]

mod agent;
mod cassettes;
mod client;
mod crash;
mod machine;
mod measure;
mod openapi;
mod ranking;
mod run;
mod stores;
mod traces;
mod world;
