//! What every manifest says, and what none may forget.

use std::path::Path;

use super::workspace::Package;
use crate::{Result, command};

/// Dependencies whose default features are wanted, each with the reason in a word.
pub const DEFAULT_FEATURES: [(&str, &str); 25] = [
    ("async-trait", "has none"),
    ("base64", "std"),
    ("bytes", "std"),
    ("eventsource-stream", "std"),
    ("grep", "has none"),
    ("http", "std"),
    ("http-body", "has none"),
    ("http-body-util", "has none"),
    ("ignore", "has none"),
    ("landlock", "has none"),
    ("libc", "std"),
    ("memmap2", "has none"),
    ("metrics", "has none"),
    ("secrecy", "has none"),
    ("seccompiler", "has none"),
    ("serde", "std"),
    ("serde_json", "std"),
    ("serde_path_to_error", "has none"),
    ("serde_yaml_ng", "has none"),
    ("sha2", "alloc"),
    ("subtle", "std"),
    ("tempfile", "getrandom"),
    ("thiserror", "std"),
    ("toktrie", "has none"),
    ("utoipa-axum", "has none"),
];

/// Rules over the manifests.
///
/// # Errors
/// When a manifest cannot be read.
pub fn violations(root: &Path, packages: &[Package]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for package in packages {
        found.extend(package_violations(package));
        let text = command::read(&package.manifest_path)?;
        if !inherits_lints(&text) {
            found.push(format!(
                "{} does not inherit the lints of the workspace",
                package.name
            ));
        }
    }
    for file in ["LICENSE-MIT", "LICENSE-APACHE", "Cargo.lock"] {
        if !root.join(file).is_file() {
            found.push(format!("{file} is missing"));
        }
    }
    Ok(found)
}

fn package_violations(package: &Package) -> Vec<String> {
    let mut found = Vec::new();
    let name = &package.name;
    if package.license.as_deref() != Some("MIT OR Apache-2.0") {
        found.push(format!("{name} is not under MIT OR Apache-2.0"));
    }
    if package
        .publish
        .as_ref()
        .is_none_or(|registries| !registries.is_empty())
    {
        found.push(format!("{name} could be published by accident"));
    }
    for dependency in &package.dependencies {
        let ours = dependency.name.starts_with("aion-");
        let listed = DEFAULT_FEATURES.iter().any(|(name, _)| *name == dependency.name);
        if dependency.uses_default_features && !ours && !listed {
            found.push(format!(
                "{name} takes {} with default features; name the features",
                dependency.name
            ));
        }
    }
    found
}

fn inherits_lints(manifest: &str) -> bool {
    let mut lines = manifest
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != "[lints]");
    lines.nth(1) == Some("workspace = true")
}
