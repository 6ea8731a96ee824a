//! The tree keeps every house rule, and each rule sees a planted fault.

use std::path::PathBuf;

use xtask::command::workspace_root;
use xtask::house::sources::{self, Tracked, opening_violation};
use xtask::house::workspace::{Dependency, Package};
use xtask::house::{layers, manifests, workspace};

fn none(found: &[String]) {
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn crates_keep_their_layers() {
    none(&layers::violations(
        &workspace::packages(&workspace_root()).unwrap(),
    ));
}

#[test]
fn libraries_bring_in_no_server_and_no_burn() {
    none(&layers::tree_violations(&workspace_root()).unwrap());
}

#[test]
fn manifests_inherit_and_name_their_features() {
    let root = workspace_root();
    none(&manifests::violations(&root, &workspace::packages(&root).unwrap()).unwrap());
}

#[test]
fn sources_open_with_what_they_are_and_stay_short() {
    none(&sources::violations(
        &sources::tracked(&workspace_root()).unwrap(),
    ));
}

fn package(name: &str, dependencies: &[(&str, bool)]) -> Package {
    let dependency = |(name, optional): &(&str, bool)| Dependency {
        name: (*name).to_owned(),
        kind: None,
        optional: *optional,
        uses_default_features: false,
    };
    Package {
        name: name.to_owned(),
        manifest_path: PathBuf::new(),
        license: None,
        publish: None,
        dependencies: dependencies.iter().map(dependency).collect(),
    }
}

fn found_in(packages: &[Package], fault: &str) -> bool {
    layers::violations(packages)
        .iter()
        .any(|violation| violation.contains(fault))
}

#[test]
fn planted_faults_of_layers_are_found() {
    let sideways = package("aion-market", &[("aion-types", false), ("aion-llm", false)]);
    assert!(found_in(&[sideways], "aion-market may not depend on aion-llm"));
    let always = package("aion-loop", &[("aion-llm", false)]);
    assert!(found_in(&[always], "aion-loop may not depend on aion-llm"));
    let optional = package("aion-loop", &[("aion-llm", true)]);
    assert!(!found_in(&[optional], "aion-loop may not"));
    let server = package("aion-processor", &[("axum", true)]);
    assert!(found_in(&[server], "may not depend on axum"));
    let burning = package("aion-cli", &[("burn-flex", false)]);
    assert!(found_in(&[burning], "depends on Burn"));
    let heavy = package(
        "aion-types",
        &[("serde", false), ("thiserror", false), ("regex", false)],
    );
    assert!(found_in(&[heavy], "serde and thiserror only"));
}

#[test]
fn a_long_chain_is_found() {
    let chain = [
        "aion-types",
        "aion-market",
        "aion-trust",
        "aion-router",
        "aion-loop",
    ];
    let packages: Vec<_> = (0..chain.len())
        .map(|at| {
            let below: Vec<_> = at
                .checked_sub(1)
                .map(|below| (chain[below], true))
                .into_iter()
                .collect();
            package(chain[at], &below)
        })
        .collect();
    assert!(found_in(&packages, "longer than 4 crates"));
    assert!(!found_in(&packages[..4], "longer than 4 crates"));
}

#[test]
fn a_server_deep_in_the_tree_is_found() {
    let tree = "aion-loop v0.1.0 (aion-loop) []\nreqwest v0.13.0 [stream]\nhyper v1.12.0 [client,http1]\n";
    assert!(layers::lines_violations("aion-loop", tree).is_empty());
    let serving = tree.replace("[client,http1]", "[client,http1,server]");
    assert_eq!(layers::lines_violations("aion-loop", &serving).len(), 1);
    assert_eq!(
        layers::lines_violations("aion-loop", "burn v0.22.1 []\n").len(),
        1
    );
    assert!(layers::lines_violations("aion-llm", "burn v0.22.1 []\n").is_empty());
}

fn source_faults(path: &str, text: String) -> usize {
    sources::violations(&[Tracked {
        path: path.to_owned(),
        text,
    }])
    .len()
}

#[test]
fn planted_faults_of_sources_are_found() {
    assert!(opening_violation("a.rs", "#![allow(x)]\n//! Late.\n").is_some());
    assert_eq!(source_faults("a/src/lib.rs", "//! Fine.\n".to_owned()), 0);
    assert_eq!(source_faults("a/src/lib.rs", "//! Long.\n".repeat(801)), 1);
    assert_eq!(
        source_faults("a/tests/it/case.rs", "//! A module.\n".to_owned()),
        0
    );
    assert_eq!(
        source_faults("a/tests/second.rs", "//! A binary.\n".to_owned()),
        1
    );
    assert_eq!(
        source_faults("a/tests/other/main.rs", "//! A binary.\n".to_owned()),
        1
    );
    let path = ["//! See /ro", "ot/.cache/x\n"].concat();
    assert_eq!(source_faults("a/src/lib.rs", path), 1);
    let many = (0..4).map(|at| Tracked {
        path: format!("aion-types/src/m{at}.rs"),
        text: "//! Lines.\n".repeat(751),
    });
    assert_eq!(
        sources::violations(&many.collect::<Vec<_>>()).len(),
        1,
        "3004 lines"
    );
}
