//! This host as a machine: files below a held directory, processes under a supervisor.

mod beneath;
mod bridge;
mod cgroup;
mod env;
mod exec;
mod files;
mod first;
mod ignored;
mod limited;
mod line;
mod root;
mod search;
mod tree;
mod trial;
mod walk;
mod warden;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{OnceCell, Semaphore};

pub use self::beneath::Resolution;
use self::files::FileLimits;
use self::root::Root;
#[cfg(feature = "testkit")]
pub(crate) use self::search::compile_glob;
use self::tree::Snapshots;
use crate::bubblewrap::Bubblewrap;
use crate::snapshot::DiffLimits;
use crate::supervisor::{Namespaces, RunAs};
use crate::{
    Capabilities, Durability, EditRequest, Enforcement, Error, ExecLimits, ExecOutput, ExecRequest,
    Execution, GlobOutput, GlobRequest, GrepOutput, GrepRequest, Listing, Machine, NetworkPolicy,
    PatchRequest, ReadOptions, ReadOutput, RelPath, RemoveMode, RenameMode, Result, SnapshotId, Stat, Tier,
    TreeDiff, Watch, WatchRequest, Workspace, WorkspaceSpec, WriteOutput, WriteRequest,
};

/// Most threads of one search.
const MAX_SEARCH_THREADS: usize = 64;

/// Who supervises executions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Supervisor {
    /// This very program, which calls [`run_if_requested`](crate::supervisor::run_if_requested)
    /// first in its `main`.
    #[default]
    Ourselves,
    /// A program that does; the package brings `aion-machine-supervisor`.
    Program(PathBuf),
}

/// Where limits of memory, processes and processor time for a whole process tree come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Cgroups {
    /// From the directory that was delegated to this process, if one was; otherwise from a watchdog.
    #[default]
    Delegated,
    /// From groups below this directory of the cgroup v2 file system.
    At(PathBuf),
    /// From a watchdog.
    Off,
}

/// How a [`LocalMachine`] works.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LocalOptions {
    /// Who supervises executions.
    pub supervisor: Supervisor,
    /// Below this, nothing is executed. Only the operator's configuration sets it.
    pub required: Tier,
    /// Whether kernel namespaces are used where they can be.
    pub namespaces: Namespaces,
    /// Directories of the host that executions may read beside the system's own.
    pub read_only: Vec<PathBuf>,
    /// Who executed programs are. Only the operator's configuration sets it.
    pub run_as: RunAs,
    /// What executed programs cannot change in a workspace, where they have a file system of their own;
    /// for example `.git/hooks`, through which they could have others execute something.
    pub protected: Vec<RelPath>,
    /// Where limits of whole process trees come from.
    pub cgroups: Cgroups,
    /// Environment variables that a request may set although they are named like secrets or are obeyed
    /// by the dynamic loader or a shell.
    pub allowed_env: Vec<String>,
    /// How many executions run at once.
    pub max_executions: usize,
    /// What a request can have at most ([`ExecLimits::at_most`]); as much as it asks for if absent. Only the operator's
    /// configuration sets it.
    pub most: Option<ExecLimits>,
    /// For how many workspaces a supervisor is kept ready, which makes an execution cheaper; 0 for none.
    pub max_wardens: usize,
    /// How long after the end of an execution's time its supervisor may still be about to clean up.
    pub supervisor_grace: Duration,
    /// Larger files are neither written nor edited, in bytes.
    pub max_file_bytes: u64,
    /// Longest diff that a write returns, in bytes.
    pub max_diff_bytes: usize,
    /// What a write survives, unless the request says.
    pub durability: Durability,
    /// How many threads one search has, 1 to 64.
    pub search_threads: usize,
    /// Nothing is written that would leave less than this free on the disk, in bytes.
    pub min_free_bytes: u64,
    /// Whether executions have a way to the network. Only the operator's configuration sets it.
    pub network: NetworkPolicy,
    /// Who makes the namespaces, where the supervisor does not.
    pub(crate) bubblewrap: Option<Arc<Bubblewrap>>,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            supervisor: Supervisor::Ourselves,
            required: Tier::Landlock,
            namespaces: Namespaces::WherePossible,
            read_only: Vec::new(),
            run_as: RunAs::Unprivileged,
            protected: Vec::new(),
            cgroups: Cgroups::Delegated,
            allowed_env: Vec::new(),
            max_executions: 8,
            most: None,
            max_wardens: 8,
            supervisor_grace: Duration::from_secs(10),
            max_file_bytes: 10 << 20,
            max_diff_bytes: crate::diff::MAX_DIFF_BYTES,
            durability: Durability::None,
            search_threads: std::thread::available_parallelism().map_or(2, |n| n.get().min(8)),
            min_free_bytes: 64 << 20,
            network: NetworkPolicy::Off,
            bubblewrap: None,
        }
    }
}

impl LocalOptions {
    /// Chooses who supervises executions.
    #[must_use]
    pub fn with_supervisor(mut self, supervisor: Supervisor) -> Self {
        self.supervisor = supervisor;
        self
    }

    /// Executes nothing below this tier.
    #[must_use]
    pub fn with_required(mut self, required: Tier) -> Self {
        self.required = required;
        self
    }

    /// Chooses whether namespaces are used.
    #[must_use]
    pub fn with_namespaces(mut self, namespaces: Namespaces) -> Self {
        self.namespaces = namespaces;
        self
    }

    /// Lets executions read a directory of the host, at the same path.
    #[must_use]
    pub fn with_read_only(mut self, path: impl Into<PathBuf>) -> Self {
        self.read_only.push(path.into());
        self
    }

    /// Chooses who executed programs are.
    #[must_use]
    pub fn with_run_as(mut self, run_as: RunAs) -> Self {
        self.run_as = run_as;
        self
    }

    /// Protects a file or directory of every workspace from executed programs.
    #[must_use]
    pub fn with_protected(mut self, path: RelPath) -> Self {
        self.protected.push(path);
        self
    }

    /// Chooses where limits of whole process trees come from.
    #[must_use]
    pub fn with_cgroups(mut self, cgroups: Cgroups) -> Self {
        self.cgroups = cgroups;
        self
    }

    /// Lets requests set an environment variable that they may not set otherwise.
    #[must_use]
    pub fn with_allowed_env(mut self, name: impl Into<String>) -> Self {
        self.allowed_env.push(name.into());
        self
    }

    /// Runs at most this many executions at once.
    #[must_use]
    pub fn with_max_executions(mut self, max_executions: usize) -> Self {
        self.max_executions = max_executions;
        self
    }

    /// Gives no request more than this.
    #[must_use]
    pub fn with_most(mut self, most: ExecLimits) -> Self {
        self.most = Some(most);
        self
    }

    /// Keeps a supervisor ready for at most this many workspaces.
    #[must_use]
    pub fn with_max_wardens(mut self, max_wardens: usize) -> Self {
        self.max_wardens = max_wardens;
        self
    }

    /// Ends a supervisor that is later than this after the end of its execution's time.
    #[must_use]
    pub fn with_supervisor_grace(mut self, supervisor_grace: Duration) -> Self {
        self.supervisor_grace = supervisor_grace;
        self
    }

    /// Neither writes nor edits larger files.
    #[must_use]
    pub fn with_max_file_bytes(mut self, max_file_bytes: u64) -> Self {
        self.max_file_bytes = max_file_bytes;
        self
    }

    /// Chooses whether executions have a way to the network.
    #[must_use]
    pub fn with_network(mut self, network: NetworkPolicy) -> Self {
        self.network = network;
        self
    }

    /// Chooses what a write survives.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Gives one search this many threads.
    #[must_use]
    pub fn with_search_threads(mut self, search_threads: usize) -> Self {
        self.search_threads = search_threads;
        self
    }

    /// Leaves at least this much free on the disk; 0 for no such floor.
    #[must_use]
    pub fn with_min_free_bytes(mut self, min_free_bytes: u64) -> Self {
        self.min_free_bytes = min_free_bytes;
        self
    }
}

const CAPABILITIES: Capabilities = Capabilities {
    exec: true,
    snapshot: true,
    watch: true,
    durable: true,
};

/// A directory of this host, and the right to execute programs in it.
#[derive(Debug, Clone)]
pub struct LocalMachine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    id: String,
    root: Root,
    options: LocalOptions,
    /// One writer at a time, so that a condition still holds when the write happens.
    writer: Mutex<()>,
    executions: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    no_namespaces: exec::NoNamespaces,
    wardens: Arc<warden::Wardens>,
    /// What came of attacking our own walls.
    tried: OnceCell<trial::Tried>,
    /// Where groups are made.
    groups: Option<PathBuf>,
}

impl LocalMachine {
    /// Holds a directory, which must exist.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open_root(path: impl AsRef<Path>, options: LocalOptions) -> std::io::Result<Self> {
        let root = Root::hold(path.as_ref())?;
        let id = format!("local:{}", root.host_path().display());
        let groups = match &options.cgroups {
            Cgroups::Delegated => cgroup::delegated(),
            Cgroups::At(path) => Some(path.clone()),
            Cgroups::Off => None,
        };
        groups.iter().for_each(|base| cgroup::sweep(base));
        let wardens = warden::Wardens::new(options.max_wardens);
        let executions = Arc::new(Semaphore::new(options.max_executions.min(Semaphore::MAX_PERMITS)));
        Ok(Self {
            shared: Arc::new(Shared {
                id,
                root,
                options,
                writer: Mutex::new(()),
                executions,
                watches: Arc::new(Semaphore::new(watch::MAX_WATCHES)),
                no_namespaces: exec::NoNamespaces::new(),
                wardens,
                tried: OnceCell::new(),
                groups,
            }),
        })
    }

    /// Who resolves paths on this host.
    pub fn resolution(&self) -> Resolution {
        self.shared.root.resolution()
    }

    /// Opens a directory below as a workspace, as [`Machine::open`] does.
    ///
    /// # Errors
    /// If the directory cannot be created or is not one.
    pub fn workspace(&self, spec: &WorkspaceSpec) -> Result<LocalWorkspace> {
        self.shared.root.create_dirs(&spec.cwd)?;
        let root = Arc::new(self.shared.root.descend(&spec.cwd)?);
        let snapshots = Mutex::default();
        Ok(LocalWorkspace {
            held: Arc::new(Held {
                shared: Arc::clone(&self.shared),
                root,
                snapshots,
            }),
        })
    }
}

#[async_trait]
impl Machine for LocalMachine {
    fn id(&self) -> &str {
        &self.shared.id
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    async fn open(&self, spec: &WorkspaceSpec) -> Result<Arc<dyn Workspace>> {
        let (machine, spec) = (self.clone(), spec.clone());
        let workspace = blocking(move || machine.workspace(&spec)).await?;
        Ok(Arc::new(workspace))
    }

    async fn probe(&self) -> Result<Enforcement> {
        let plan = exec::plan(
            &self.shared.root,
            &self.shared.options,
            &ExecRequest::new(["true"]),
        )?;
        let tried = exec::tried(&self.shared, &plan).await?;
        if !tried.leaks.is_empty() && self.shared.options.required > Tier::Limits {
            let gaps = tried.leaks.clone();
            return Err(Error::ConfinementUnavailable { gaps });
        }
        let mut report = tried.enforcement.clone();
        report.gaps.extend(tried.leaks.iter().cloned());
        Ok(report)
    }
}

/// A directory of a [`LocalMachine`].
#[derive(Debug, Clone)]
pub struct LocalWorkspace {
    held: Arc<Held>,
}

#[derive(Debug)]
struct Held {
    shared: Arc<Shared>,
    root: Arc<Root>,
    snapshots: Mutex<Snapshots>,
}

impl Held {
    fn limits(&self) -> FileLimits {
        let options = &self.shared.options;
        FileLimits {
            max_file_bytes: options.max_file_bytes,
            max_diff_bytes: options.max_diff_bytes,
            durability: options.durability,
            min_free_bytes: options.min_free_bytes,
        }
    }

    /// How many threads a search has.
    fn threads(&self) -> usize {
        self.shared.options.search_threads.clamp(1, MAX_SEARCH_THREADS)
    }

    fn snapshots(&self) -> MutexGuard<'_, Snapshots> {
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, ()> {
        self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LocalWorkspace {
    /// [`Workspace::read`] on this thread, for programs without a runtime.
    ///
    /// # Errors
    /// As [`Workspace::read`].
    pub fn read_blocking(&self, path: &RelPath, options: &ReadOptions) -> Result<ReadOutput> {
        files::read(&self.held.root, path, options, &self.held.limits())
    }

    /// Starts a program, and does not wait until it was started.
    fn begin(&self, request: ExecRequest) -> Result<Execution> {
        let shared = &self.held.shared;
        let Ok(permit) = Arc::clone(&shared.executions).try_acquire_owned() else {
            return Err(Error::Busy {
                limit: shared.options.max_executions,
            });
        };
        exec::begin(&self.held.root, shared, request, Some(permit))
    }

    /// Runs a piece of file work off the runtime's threads.
    async fn on_files<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Held) -> Result<T> + Send + 'static,
    {
        let held = Arc::clone(&self.held);
        blocking(move || work(&held)).await
    }
}

async fn blocking<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(_) => Err(Error::invalid("the runtime is shutting down")),
    }
}

#[async_trait]
impl Workspace for LocalWorkspace {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    async fn read(&self, path: &RelPath, options: ReadOptions) -> Result<ReadOutput> {
        if let Some(read) = files::read_at_once(&self.held.root, path, &options, &self.held.limits()) {
            return Ok(read);
        }
        let path = path.clone();
        self.on_files(move |held| files::read(&held.root, &path, &options, &held.limits()))
            .await
    }

    async fn write(&self, path: &RelPath, request: WriteRequest) -> Result<WriteOutput> {
        let path = path.clone();
        self.on_files(move |held| {
            let _writer = held.writer();
            files::write(&held.root, &path, &request, &held.limits())
        })
        .await
    }

    async fn edit(&self, path: &RelPath, request: EditRequest) -> Result<WriteOutput> {
        let path = path.clone();
        self.on_files(move |held| {
            let _writer = held.writer();
            files::edit(&held.root, &path, &request, &held.limits())
        })
        .await
    }

    async fn patch(&self, path: &RelPath, request: PatchRequest) -> Result<WriteOutput> {
        let path = path.clone();
        self.on_files(move |held| {
            let _writer = held.writer();
            files::patch(&held.root, &path, &request, &held.limits())
        })
        .await
    }

    async fn stat(&self, path: &RelPath) -> Result<Stat> {
        let path = path.clone();
        self.on_files(move |held| files::stat(&held.root, &path)).await
    }

    async fn list(&self, path: &RelPath, max_entries: usize) -> Result<Listing> {
        let path = path.clone();
        self.on_files(move |held| files::list(&held.root, &path, max_entries))
            .await
    }

    async fn mkdir(&self, path: &RelPath) -> Result<()> {
        let path = path.clone();
        self.on_files(move |held| held.root.create_dirs(&path)).await
    }

    async fn remove(&self, path: &RelPath, mode: RemoveMode) -> Result<()> {
        let path = path.clone();
        self.on_files(move |held| {
            let _writer = held.writer();
            files::remove(&held.root, &path, mode)
        })
        .await
    }

    async fn rename(&self, from: &RelPath, to: &RelPath, mode: RenameMode) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        self.on_files(move |held| {
            let _writer = held.writer();
            files::rename(&held.root, &from, &to, mode)
        })
        .await
    }

    async fn glob(&self, request: GlobRequest) -> Result<GlobOutput> {
        self.on_files(move |held| search::glob(&held.root, &request, held.threads()))
            .await
    }

    async fn grep(&self, request: GrepRequest) -> Result<GrepOutput> {
        self.on_files(move |held| search::grep(&held.root, &request, held.threads()))
            .await
    }

    async fn start(&self, request: ExecRequest) -> Result<Execution> {
        let execution = self.begin(request)?;
        execution.started().await?;
        Ok(execution)
    }

    async fn exec(&self, request: ExecRequest) -> Result<ExecOutput> {
        self.begin(request.with_replay_bytes(0))?.wait().await
    }

    async fn snapshot(&self) -> Result<SnapshotId> {
        self.on_files(|held| {
            let previous = held.snapshots().latest();
            let snapshot = tree::take(&held.root, previous.as_deref())?;
            Ok(held.snapshots().keep(snapshot))
        })
        .await
    }

    async fn diff(&self, from: SnapshotId, to: SnapshotId) -> Result<TreeDiff> {
        self.on_files(move |held| {
            let (from, to) = {
                let snapshots = held.snapshots();
                (snapshots.get(from)?, snapshots.get(to)?)
            };
            Ok(from.diff(&to, &DiffLimits::default()))
        })
        .await
    }

    async fn watch(&self, request: WatchRequest) -> Result<Watch> {
        self.on_files(move |held| watch::start(Arc::clone(&held.root), &held.shared.watches, &request))
            .await
    }
}
