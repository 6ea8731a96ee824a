//! Everything in one process on SQLite, and the command line `aion`.
//!
//! ```
//! use aion_cli::model::{ModelCache, ModelSource};
//!
//! let dir = std::env::temp_dir().join("aion-cli-example");
//! let cache = ModelCache::at(&dir);
//! let source: ModelSource = "smollm2".parse()?;
//! assert_eq!(source.file_name(), "SmolLM2-135M-Instruct.Q4_1.gguf");
//! assert!(cache.find(&source).is_err());
//! # Ok::<(), aion_cli::Error>(())
//! ```

pub mod cli;
pub mod demo;
pub mod doctor;
mod error;
pub mod feed;
pub mod forecaster;
pub mod judge;
pub mod model;
pub mod node;
pub mod render;
pub mod run;
pub mod small;
pub mod terminal;
pub mod trust;
pub mod up;
pub mod workspace;

pub use error::{Error, Result};
