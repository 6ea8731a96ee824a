//! Files and processes for agents, confined under one root.
//!
//! A [`Machine`] is a place with files and processes; a [`Workspace`] is one directory of it, which is
//! all that a task can name. [`LocalMachine`] is this host: every path is resolved by the kernel
//! against a held directory (`openat2`), and programs run under a supervisor that shuts itself in
//! first, reports what holds ([`Enforcement`]), and leaves no process behind.
//!
//! ```
//! use aion_machine::{Edit, GrepRequest, LocalMachine, LocalOptions, Machine, RelPath, WorkspaceSpec, WriteRequest};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! let machine = LocalMachine::open_root(dir.path(), LocalOptions::default())?;
//! let work = machine.open(&WorkspaceSpec::new(RelPath::parse("tasks/1")?)).await?;
//!
//! let notes = RelPath::parse("notes.txt")?;
//! work.write(&notes, WriteRequest::new("milk\nbread\n")).await?;
//! let edited = work.edit(&notes, Edit::new("milk", "oat milk").into()).await?;
//! assert_eq!((edited.diff.added_lines, edited.diff.removed_lines), (1, 1));
//!
//! let found = work.grep(GrepRequest::new("^oat")).await?;
//! assert_eq!(found.hits[0].line, 1);
//! assert!(RelPath::parse("../2/notes.txt").is_err());
//! # Ok(())
//! # }
//! ```
//!
//! It is for Linux, 5.6 and later; the strongest confinement needs 5.19 and user namespaces.
//!
//! To execute programs, call [`supervisor::run_if_requested`] first in `main`:
//!
//! ```no_run
//! # use aion_machine::{ExecRequest, LocalMachine, LocalOptions, Machine, RelPath, WorkspaceSpec, supervisor};
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     supervisor::run_if_requested();
//!     tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//!         let machine = LocalMachine::open_root("data", LocalOptions::default())?;
//!         let work = machine.open(&WorkspaceSpec::new(RelPath::root())).await?;
//!         let ran = work.exec(ExecRequest::new(["wc", "-l", "notes.txt"])).await?;
//!         println!("{} under {:?}", ran.stdout.text(), ran.enforcement.tier());
//!         Ok(())
//!     })
//! }
//! ```
//!
//! Reading order: [`RelPath`] (what a path is), [`Workspace`] (what can be done), [`LocalMachine`]
//! (how), [`supervisor`] and [`Enforcement`] (what holds a program in), and, behind the feature
//! `testkit`, the conformance kit for backends of your own.
//!
//! # Features
//! - `testkit`: the conformance kit and an in-memory workspace.
//! - `client`: the machine of a server, over HTTP; `wire`: what goes over it.
//! - `task-state`: the keys that sign and verify `X-Task-State`.

pub mod audit;
mod bubblewrap;
mod diff;
mod edit;
mod encoding;
mod enforcement;
mod error;
mod exec;
mod execution;
mod files;
mod local;
mod machine;
mod network;
mod patch;
mod path;
mod range;
#[cfg(feature = "client")]
mod remote;
mod search;
mod snapshot;
pub mod supervisor;
#[cfg(feature = "task-state")]
mod task_state;
#[cfg(feature = "testkit")]
pub mod testkit;
mod watch;
#[cfg(feature = "wire")]
pub mod wire;

pub use aion_types::AddressRange;

pub use self::bubblewrap::{BUBBLEWRAP, BubblewrapMachine};
pub use self::diff::{Diff, MAX_DIFF_BYTES};
pub use self::edit::apply_edits;
pub use self::encoding::Encoding;
pub use self::enforcement::{
    Enforcement, FileConfinement, NetworkConfinement, ProcessConfinement, ResourceLimit, Tier,
};
pub use self::error::{Error, Result};
pub use self::exec::{
    Captured, Ending, ExecLimits, ExecOutput, ExecRequest, ExecStatus, MAX_GRACE_MS, MAX_OUTPUT_BYTES,
    MAX_REPLAY_BYTES, MAX_WALL_MS,
};
pub use self::execution::{
    ExecCursor, ExecEvent, ExecFeed, ExecFollower, ExecHandle, Execution, KillReason, OutputStream,
};
pub use self::files::{
    Durability, Edit, EditRequest, EntryKind, Etag, Listing, Naming, Occurrences, Parents, ReadOptions,
    ReadOutput, ReadRange, RemoveMode, RenameMode, Stat, WriteMode, WriteOutput, WriteRequest,
};
pub use self::local::{Cgroups, LocalMachine, LocalOptions, LocalWorkspace, Resolution, Supervisor};
pub use self::machine::{Capabilities, Machine, Workspace, WorkspaceSpec};
pub use self::network::{
    AllowList, Host, HostPattern, NetworkDecision, NetworkPolicy, NetworkRequest, NetworkVerdict,
    ProxyLimits, Resolve, SystemResolver,
};
pub use self::patch::{MAX_PATCH_HUNKS, PatchRequest, apply_patch};
pub use self::path::{MAX_COMPONENT_BYTES, MAX_PATH_BYTES, PathError, RelPath};
#[cfg(feature = "client")]
pub use self::remote::{RemoteMachine, RemoteOptions};
pub use self::search::{
    Case, GlobOutput, GlobRequest, GrepHit, GrepOutput, GrepRequest, IgnoreRules, WalkLimits,
};
pub use self::snapshot::{ChangeKind, FileChange, SnapshotId, TreeDiff};
pub use self::supervisor::{Namespaces, RunAs};
#[cfg(feature = "task-state")]
pub use self::task_state::{MIN_SECRET_BYTES, TaskClaims, TaskKeys, TaskStateError};
pub use self::watch::{MAX_WATCH_EVENTS, Watch, WatchEvent, WatchRequest, WatchSender};
