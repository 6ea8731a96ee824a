//! What benches and the drivers of `cargo xtask peers` share.
//!
//! - [`adder`]: an agent with a model that costs nothing and a service that adds numbers;
//! - [`driver`]: our side of the protocol between `cargo xtask peers` and a driver.

pub mod adder;
pub mod driver;
