//! The committed API documents, `openapi/*.json`.
//!
//! A test of this package links the services and compares what they serve with what is committed;
//! writing is the same test with [`WRITE_VARIABLE`] set, so that `cargo xtask` itself stays small.

use std::path::Path;

use crate::{Result, command};

/// When set, the test writes the documents instead of comparing them.
pub const WRITE_VARIABLE: &str = "AION_WRITE_OPENAPI";

/// Writes every document.
///
/// # Errors
/// When a service does not build, or a file cannot be written.
pub fn write(root: &Path) -> Result<()> {
    let mut cargo = command::cargo(root);
    // With the whole workspace, as the tests are built: one package alone would be another build of everything.
    cargo.args(["test", "--workspace", "--test", "it", "openapi_documents_equal"]);
    command::run(cargo.env(WRITE_VARIABLE, "1"))
}
