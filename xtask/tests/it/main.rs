//! The rules of the house, as tests; and tests that the rules can fail.
#![allow(clippy::unwrap_used)]

mod house;
mod openapi;
mod peers;
