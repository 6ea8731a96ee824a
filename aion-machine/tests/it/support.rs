//! A machine in a fresh directory, for every test its own.

use std::path::Path;
use std::sync::Arc;

use aion_machine::{
    ExecOutput, ExecRequest, LocalMachine, LocalOptions, Machine, Namespaces, RelPath, Result, RunAs,
    Supervisor, Workspace, WorkspaceSpec, WriteRequest,
};
use tempfile::TempDir;

/// A workspace and the directory that it is.
pub(crate) struct Place {
    dir: TempDir,
    pub(crate) work: Arc<dyn Workspace>,
}

/// Who supervises in the tests. `AION_TEST_SUPERVISOR` names a copy that another user can reach, for a
/// run of this binary as that user.
pub(crate) fn supervisor() -> String {
    let built = env!("CARGO_BIN_EXE_aion-machine-supervisor").to_owned();
    std::env::var("AION_TEST_SUPERVISOR").unwrap_or(built)
}

pub(crate) fn options() -> LocalOptions {
    LocalOptions::default().with_supervisor(Supervisor::Program(supervisor().into()))
}

/// Both ways to confine: as strong as this host allows, and what is left without namespaces.
pub(crate) fn both() -> [LocalOptions; 2] {
    [options(), without_namespaces()]
}

/// Without namespaces root's workspace cannot be shown as somebody else's, so root has to insist.
pub(crate) fn without_namespaces() -> LocalOptions {
    options()
        .with_namespaces(Namespaces::Never)
        .with_run_as(RunAs::Service)
}

pub(crate) fn path(text: &str) -> RelPath {
    RelPath::parse(text).unwrap()
}

impl Place {
    pub(crate) async fn new() -> Self {
        Self::with(options()).await
    }

    pub(crate) async fn with(options: LocalOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("work")).unwrap();
        let machine = LocalMachine::open_root(dir.path(), options).unwrap();
        let work = machine.open(&WorkspaceSpec::new(path("work"))).await.unwrap();
        Self { dir, work }
    }

    /// The workspace on the host.
    pub(crate) fn inside(&self) -> std::path::PathBuf {
        self.dir.path().join("work")
    }

    /// The directory above it, which nobody inside may touch.
    pub(crate) fn outside(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) async fn put(&self, name: &str, content: &str) {
        self.work
            .write(&path(name), WriteRequest::new(content))
            .await
            .unwrap();
    }

    pub(crate) async fn sh(&self, line: &str) -> Result<ExecOutput> {
        self.work.exec(ExecRequest::shell(line)).await
    }
}
