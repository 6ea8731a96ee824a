//! The packages of the workspace, as `cargo metadata` gives them.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{Result, command};

/// A package of the workspace.
#[derive(Debug, Clone, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its manifest.
    pub manifest_path: PathBuf,
    /// Its licence.
    pub license: Option<String>,
    /// The registries that it may be published to; empty for none.
    pub publish: Option<Vec<String>>,
    /// What it depends on, as declared.
    pub dependencies: Vec<Dependency>,
}

/// A declared dependency.
#[derive(Debug, Clone, Deserialize)]
pub struct Dependency {
    /// The package that is depended on.
    pub name: String,
    /// `None` for a normal one, else `dev` or `build`.
    pub kind: Option<String>,
    /// Whether a feature brings it in.
    pub optional: bool,
    /// Whether its default features are on.
    pub uses_default_features: bool,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// Reads the packages of the workspace.
///
/// # Errors
/// When cargo fails.
pub fn packages(root: &Path) -> Result<Vec<Package>> {
    let mut cargo = command::cargo(root);
    cargo.args(["metadata", "--format-version", "1", "--no-deps"]);
    command::json::<Metadata>(&mut cargo).map(|metadata| metadata.packages)
}

impl Package {
    /// The dependencies that end up in a build of it, as opposed to its tests.
    pub fn shipped(&self) -> impl Iterator<Item = &Dependency> {
        self.dependencies
            .iter()
            .filter(|dependency| dependency.kind.as_deref() != Some("dev"))
    }
}
