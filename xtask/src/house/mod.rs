//! The house rules: what keeps the tree in shape, checked without a compiler.

pub mod layers;
pub mod manifests;
pub mod sources;
pub mod workspace;

use std::path::Path;

use crate::{Error, Result};

/// Every broken rule, one sentence each.
///
/// # Errors
/// When the tree or cargo cannot be read.
pub fn violations(root: &Path) -> Result<Vec<String>> {
    let packages = workspace::packages(root)?;
    let tracked = sources::tracked(root)?;
    let mut found = layers::violations(&packages);
    found.extend(layers::tree_violations(root)?);
    found.extend(manifests::violations(root, &packages)?);
    found.extend(sources::violations(&tracked));
    Ok(found)
}

/// Prints every broken rule.
///
/// # Errors
/// [`Error::House`] when there is one.
pub fn report(root: &Path) -> Result<()> {
    let found = violations(root)?;
    for violation in &found {
        eprintln!("house: {violation}");
    }
    if found.is_empty() {
        Ok(())
    } else {
        Err(Error::House(found.len()))
    }
}
