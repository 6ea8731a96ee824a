//! The shared plumbing as a client meets it: a sample service with every way to go wrong.
#![allow(clippy::unwrap_used)]

mod access;
mod config;
mod document;
mod metering;
mod problems;
mod sample;
mod serving;
