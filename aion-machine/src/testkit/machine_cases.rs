//! The cases that need a whole machine: workspaces beside each other, and what it says of itself.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::cases::{path, put, text};
use crate::{ExecRequest, Machine, Workspace, WorkspaceSpec};

/// Opens a workspace at a directory of the machine.
pub async fn open(machine: &dyn Machine, cwd: &str) -> Arc<dyn Workspace> {
    machine.open(&WorkspaceSpec::new(path(cwd))).await.unwrap()
}

/// Two workspaces have no files in common; the same one opened twice has.
pub async fn workspaces_are_apart(machine: &dyn Machine, at: &str) {
    let (one, two) = (
        open(machine, &format!("{at}/1")).await,
        open(machine, &format!("{at}/2")).await,
    );
    put(&*one, "t", "one").await;
    assert_eq!(two.stat(&path("t")).await.unwrap_err().code(), "not_found");
    let again = open(machine, &format!("{at}/1")).await;
    assert_eq!(text(&*again, "t").await, "one");
}

/// A machine and its workspaces can do the same.
pub async fn capabilities_are_those_of_the_workspaces(machine: &dyn Machine, at: &str) {
    let work = open(machine, at).await;
    assert_eq!(work.capabilities(), machine.capabilities());
}

/// A probe says what held it in, as every execution does; a machine that executes nothing cannot be probed.
pub async fn a_probe_says_what_an_execution_says(machine: &dyn Machine, at: &str) {
    let work = open(machine, at).await;
    if !machine.capabilities().exec {
        assert_eq!(machine.probe().await.unwrap_err().code(), "unsupported");
        return;
    }
    let probed = machine.probe().await.unwrap();
    let ran = work.exec(ExecRequest::new(["true"])).await.unwrap();
    assert_eq!(ran.enforcement.tier(), probed.tier());
}
