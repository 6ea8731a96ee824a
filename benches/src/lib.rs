//! What benches and the drivers of `cargo xtask peers` share.
//!
//! - `adder`, with the feature `loop`: an agent with a model that costs nothing and a service that adds numbers;
//! - [`arrays`], [`kernels`]: what the suite `market` computes, and on what;
//! - [`bets`]: a market of many bets, from memory and on SQLite;
//! - `cycles`, `scale`, with the feature `processor`: tasks through a store, and what single operations cost in a full one;
//! - `machine`, with the feature of that name: a file read, a tree searched, texts compared, programs executed, requests answered;
//! - [`memory`]: what the memory of the machine can do;
//! - `router`, with the feature of that name: search, words, a sentence encoder, rankings and how good they are;
//! - `served`, with the feature of that name: the processor behind HTTP on loopback;
//! - [`driver`]: our side of the protocol between `cargo xtask peers` and a driver.

#[cfg(feature = "loop")]
pub mod adder;
pub mod arrays;
pub mod bets;
#[cfg(feature = "processor")]
pub mod cycles;
pub mod driver;
pub mod kernels;
#[cfg(feature = "machine")]
pub mod machine;
pub mod memory;
#[cfg(feature = "router")]
pub mod router;
#[cfg(feature = "processor")]
pub mod scale;
#[cfg(feature = "served")]
pub mod served;
