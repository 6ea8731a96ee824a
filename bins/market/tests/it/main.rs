//! The market as a client meets it: one router, requests without sockets.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod batch;
mod chat;
mod cli;
mod client;
mod document;
mod following;
mod inputs;
mod life;
mod log;
mod sockets;
mod standings;
