//! Which crate may know which.

use std::collections::BTreeMap;
use std::path::Path;

use super::workspace::Package;
use crate::{Result, command};

/// A library crate with the crates of ours that it may always, or only optionally, depend on.
struct Layer {
    name: &'static str,
    always: &'static [&'static str],
    behind_features: &'static [&'static str],
}

const LAYERS: [Layer; 9] = [
    Layer {
        name: "aion-types",
        always: &[],
        behind_features: &[],
    },
    Layer {
        name: "aion-sql",
        always: &[],
        behind_features: &[],
    },
    Layer {
        name: "aion-processor",
        always: &["aion-types"],
        behind_features: &["aion-sql"],
    },
    Layer {
        name: "aion-machine",
        always: &["aion-types"],
        behind_features: &[],
    },
    Layer {
        name: "aion-market",
        always: &["aion-types"],
        behind_features: &["aion-sql"],
    },
    Layer {
        name: "aion-router",
        always: &["aion-types"],
        behind_features: &["aion-sql"],
    },
    Layer {
        name: "aion-llm",
        always: &["aion-types"],
        behind_features: &[],
    },
    Layer {
        name: "aion-trust",
        always: &["aion-types", "aion-market"],
        behind_features: &["aion-sql"],
    },
    Layer {
        name: "aion-loop",
        always: &["aion-types", "aion-processor"],
        behind_features: &[
            "aion-sql",
            "aion-market",
            "aion-router",
            "aion-llm",
            "aion-machine",
        ],
    },
];

/// Crates that make an HTTP server; a library has none of them, so that it fits into any program.
const SERVER_CRATES: [&str; 4] = ["axum", "utoipa-axum", "aion-service", "actix-web"];

/// The longest chain of library crates, counted in crates.
const MAX_CHAIN: usize = 4;

/// Rules over declared dependencies.
pub fn violations(packages: &[Package]) -> Vec<String> {
    let mut found = Vec::new();
    for package in packages {
        found.extend(package_violations(package));
    }
    for layer in &LAYERS {
        if !packages.iter().any(|package| package.name == layer.name) {
            found.push(format!("{} is not in the workspace", layer.name));
        }
    }
    let chain = longest_chain(packages);
    if chain.len() > MAX_CHAIN {
        found.push(format!(
            "the chain {} is longer than {MAX_CHAIN} crates",
            chain.join(" <- ")
        ));
    }
    found
}

fn package_violations(package: &Package) -> Vec<String> {
    let name = &package.name;
    let mut found = Vec::new();
    if let Some(layer) = LAYERS.iter().find(|layer| layer.name == *name) {
        for dependency in package
            .shipped()
            .filter(|dependency| dependency.name.starts_with("aion-"))
        {
            let allowed = layer.always.contains(&dependency.name.as_str())
                || (dependency.optional && layer.behind_features.contains(&dependency.name.as_str()));
            if !allowed {
                found.push(format!("{name} may not depend on {}", dependency.name));
            }
        }
        let servers = package
            .shipped()
            .filter(|dependency| SERVER_CRATES.contains(&dependency.name.as_str()));
        found.extend(
            servers.map(|server| format!("{name} is a library and may not depend on {}", server.name)),
        );
    }
    let burns = |dependency: &str| dependency == "burn" || dependency.starts_with("burn-");
    if name != "aion-llm"
        && package
            .dependencies
            .iter()
            .any(|dependency| burns(&dependency.name))
    {
        found.push(format!("{name} depends on Burn; only aion-llm may"));
    }
    if name == "aion-types" {
        found.extend(types_violations(package));
    }
    found
}

fn types_violations(package: &Package) -> Option<String> {
    let mut names: Vec<_> = package
        .shipped()
        .map(|dependency| dependency.name.as_str())
        .collect();
    names.sort_unstable();
    (names != ["serde", "thiserror"])
        .then(|| format!("aion-types depends on {names:?}; it is serde and thiserror only"))
}

/// The longest path among the library crates, from the bottom up.
fn longest_chain(packages: &[Package]) -> Vec<&str> {
    let below: BTreeMap<&str, Vec<&str>> = packages
        .iter()
        .filter(|package| LAYERS.iter().any(|layer| layer.name == package.name))
        .map(|package| {
            let ours = package.shipped().map(|dependency| dependency.name.as_str());
            (
                package.name.as_str(),
                ours.filter(|name| name.starts_with("aion-")).collect(),
            )
        })
        .collect();
    // Cargo refuses cycles, so the recursion ends; the bound holds for planted data too.
    let chains = below.keys().map(|name| chain_under(name, &below, below.len()));
    chains.max_by_key(Vec::len).unwrap_or_default()
}

fn chain_under<'a>(name: &'a str, below: &BTreeMap<&'a str, Vec<&'a str>>, depth: usize) -> Vec<&'a str> {
    let parts = below.get(name).filter(|_| depth > 0).into_iter().flatten();
    let longest = parts
        .map(|part| chain_under(part, below, depth - 1))
        .max_by_key(Vec::len);
    let mut chain = longest.unwrap_or_default();
    chain.push(name);
    chain
}

/// Rules over the resolved tree of each library: no server, and no Burn unless asked for.
///
/// # Errors
/// When cargo fails.
pub fn tree_violations(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for layer in &LAYERS {
        let mut cargo = command::cargo(root);
        cargo.args([
            "tree",
            "--locked",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p} [{f}]",
        ]);
        let tree = command::output(cargo.args(["--package", layer.name]))?;
        found.extend(lines_violations(layer.name, &tree));
    }
    Ok(found)
}

/// Rules over one tree, in lines such as `hyper v1.12.0 [client,http1]`.
pub fn lines_violations(package: &str, tree: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in tree.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let features = line
            .rsplit_once('[')
            .map_or("", |(_, features)| features.trim_end_matches([']', ' ']));
        let serves = name == "hyper" && features.split(',').any(|feature| feature == "server");
        if serves || SERVER_CRATES.contains(&name) {
            found.push(format!("{package} brings in an HTTP server: {name}"));
        }
        if package != "aion-llm" && name == "burn" {
            found.push(format!("{package} brings in Burn with its default features"));
        }
    }
    found.dedup();
    found
}
