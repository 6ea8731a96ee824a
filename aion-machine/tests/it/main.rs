//! The machine on this host: files, searches, executions, and what must not work.
#![allow(clippy::unwrap_used)]

mod support;

mod attack;
mod bubblewrap;
mod exec;
mod fallback;
mod files;
mod full;
mod limits;
mod network;
mod race;
mod search;
mod warden;
