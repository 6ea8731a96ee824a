//! The processor as a client meets it: one router, requests without sockets.
#![allow(clippy::unwrap_used)]

mod client;
mod document;
mod faults;
mod inputs;
mod keys;
mod life;
mod objects;
#[cfg(feature = "postgres")]
mod postgres;
mod primitives;
mod queues;
#[cfg(feature = "postgres")]
mod retention;
mod schedules;
mod served;
mod size;
mod steps;
mod store;
mod trees;
mod webhooks;
