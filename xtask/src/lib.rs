//! Every rule of the repository as a program: `cargo xtask ci | check | openapi | peers SUITE | soak`.
//!
//! - [`house`]: rules over manifests and sources (layers, sizes, openings, licences), also run as tests;
//! - [`ci`]: the stages that a change must pass, in order, with their times;
//! - [`openapi`]: writes the committed API documents;
//! - [`fuzz_http`]: generated requests to every server, held against its own document;
//! - [`mcp_conformance`]: the official suite of the Model Context Protocol, against the machine's server;
//! - [`peers`]: comparisons with other programs, ours and theirs taking turns;
//! - [`soak`]: workers that are killed for hours, while the store's promises are checked;
//! - [`machine`]: what the numbers were measured on.
//!
//! ```
//! let clean = xtask::house::sources::opening_violation("src/lib.rs", "//! What it is.\n");
//! assert_eq!(clean, None);
//! assert!(xtask::house::sources::opening_violation("src/lib.rs", "use std::fmt;\n").is_some());
//! ```

pub mod ci;
pub mod clients;
pub mod command;
pub mod error;
pub mod fuzz_http;
pub mod house;
pub mod machine;
pub mod mcp_conformance;
mod node;
pub mod openapi;
pub mod peers;
pub mod soak;

pub use error::{Error, Result};
