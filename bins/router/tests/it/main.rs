//! The router as a client meets it: one router, requests without sockets.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cli;
mod client;
mod document;
mod far;
mod inputs;
mod life;
