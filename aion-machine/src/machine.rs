//! The two traits that every backend implements, and that everything else is written against.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    EditRequest, Enforcement, Error, ExecOutput, ExecRequest, Execution, GlobOutput, GlobRequest, GrepOutput,
    GrepRequest, Listing, PatchRequest, ReadOptions, ReadOutput, RelPath, RemoveMode, RenameMode, Result,
    SnapshotId, Stat, TreeDiff, Watch, WatchRequest, WriteOutput, WriteRequest,
};

/// What a machine can do beside reading and writing files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Capabilities {
    /// [`Workspace::start`] and [`Workspace::exec`].
    pub exec: bool,
    /// [`Workspace::snapshot`] and [`Workspace::diff`].
    pub snapshot: bool,
    /// [`Workspace::watch`].
    #[serde(default)]
    pub watch: bool,
    /// Whether contents survive the machine.
    pub durable: bool,
}

/// Which part of a machine to open.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkspaceSpec {
    /// The directory that becomes the root of the workspace; it is created if it is missing.
    pub cwd: RelPath,
}

impl WorkspaceSpec {
    /// The workspace at this directory of the machine.
    pub fn new(cwd: RelPath) -> Self {
        Self { cwd }
    }
}

/// A place with files and processes: this host, a container, a virtual machine, another host.
#[async_trait]
pub trait Machine: Debug + Send + Sync + 'static {
    /// A name for logs.
    fn id(&self) -> &str;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Opens a directory of the machine as a workspace. Nothing outside it can be named through it.
    ///
    /// # Errors
    /// If the directory cannot be created or is not one.
    async fn open(&self, spec: &WorkspaceSpec) -> Result<Arc<dyn Workspace>>;

    /// Executes something harmless and reports what held it in.
    ///
    /// # Errors
    /// If nothing can be executed under the confinement that the machine requires.
    async fn probe(&self) -> Result<Enforcement>;
}

/// The files and processes of one task. All paths are relative to its root.
///
/// Dropping the future of an operation cancels it; that of [`exec`](Self::exec) kills the processes.
#[async_trait]
pub trait Workspace: Debug + Send + Sync + 'static {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Reads a regular file, or a part of it.
    ///
    /// # Errors
    /// If it is not there, is not a regular file, or lies outside.
    async fn read(&self, path: &RelPath, options: ReadOptions) -> Result<ReadOutput>;

    /// Writes a whole file at once: readers see the old content or the new one, never a mixture.
    ///
    /// # Errors
    /// If a condition of the request does not hold, or the content is above the size limit.
    async fn write(&self, path: &RelPath, request: WriteRequest) -> Result<WriteOutput>;

    /// Replaces exact texts, all or none of them.
    ///
    /// # Errors
    /// If a text does not occur, or occurs more often than the edit says, or the file is not the one that the
    /// request is for.
    async fn edit(&self, path: &RelPath, request: EditRequest) -> Result<WriteOutput>;

    /// Applies a unified diff to a file, all of it or nothing; a file that is not there is empty text.
    ///
    /// # Errors
    /// If it is not a diff of one file, or a hunk does not apply.
    async fn patch(&self, path: &RelPath, request: PatchRequest) -> Result<WriteOutput>;

    /// What is at a path. A symbolic link is not followed.
    ///
    /// # Errors
    /// If there is nothing.
    async fn stat(&self, path: &RelPath) -> Result<Stat>;

    /// The entries of a directory, at most `max_entries`.
    ///
    /// # Errors
    /// If it is not a directory.
    async fn list(&self, path: &RelPath, max_entries: usize) -> Result<Listing>;

    /// Creates a directory and its parents; one that exists is left as it is.
    ///
    /// # Errors
    /// If something else is in the way.
    async fn mkdir(&self, path: &RelPath) -> Result<()>;

    /// Removes an entry.
    ///
    /// # Errors
    /// If it is not there, or is a directory with entries and the mode is [`RemoveMode::One`].
    async fn remove(&self, path: &RelPath, mode: RemoveMode) -> Result<()>;

    /// Gives an entry another name.
    ///
    /// # Errors
    /// If the old name is not there, or the new one is and the mode is [`RenameMode::NoReplace`].
    async fn rename(&self, from: &RelPath, to: &RelPath, mode: RenameMode) -> Result<()>;

    /// Finds files by name.
    ///
    /// # Errors
    /// If the pattern is not a glob.
    async fn glob(&self, request: GlobRequest) -> Result<GlobOutput>;

    /// Finds lines by content.
    ///
    /// # Errors
    /// If the pattern is not a regular expression.
    async fn grep(&self, request: GrepRequest) -> Result<GrepOutput>;

    /// Starts a program, to be followed, killed and waited for. It comes back as soon as the program is
    /// held in as required; that there is no such program can also be the result of waiting for it.
    ///
    /// # Errors
    /// If it cannot be started, or not under the required confinement.
    async fn start(&self, request: ExecRequest) -> Result<Execution>;

    /// Executes a program and waits for its end. Nothing that it started outlives this call.
    ///
    /// # Errors
    /// If it cannot be started, or not under the required confinement. A program that fails, runs out
    /// of time or writes too much is not an error.
    async fn exec(&self, request: ExecRequest) -> Result<ExecOutput> {
        self.start(request.with_replay_bytes(0)).await?.wait().await
    }

    /// Remembers the tree as it is. Old snapshots are forgotten when there are many.
    ///
    /// # Errors
    /// If the tree cannot be read.
    async fn snapshot(&self) -> Result<SnapshotId>;

    /// What changed from one snapshot to a later one.
    ///
    /// # Errors
    /// If one of them is not remembered.
    async fn diff(&self, from: SnapshotId, to: SnapshotId) -> Result<TreeDiff>;

    /// Tells of changes below a directory as they happen, from now on.
    ///
    /// # Errors
    /// If it is not a directory, or so much cannot be watched, or the machine cannot watch.
    async fn watch(&self, request: WatchRequest) -> Result<Watch> {
        let _ = request;
        Err(Error::Unsupported {
            what: "watch for changes",
        })
    }
}
