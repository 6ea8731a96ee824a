//! The processor as a client meets it: one router, requests without sockets.
#![allow(clippy::unwrap_used)]

mod client;
mod document;
mod inputs;
mod life;
