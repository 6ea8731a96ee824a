//! A backend of your own: here a machine around another one, whose workspaces have a limit of bytes.
//! `cargo run -p aion-examples --example custom_backend`
//!
//! Expect: the public conformance kit passes, executions and all; a write over the limit is refused with a typed error;
//! and the same machine behind the tools of the service.
#![allow(clippy::print_stdout)]

use std::sync::Arc;

use aion_machine::testkit::check_machine;
use aion_machine::{
    Capabilities, EditRequest, Enforcement, Error, ExecRequest, Execution, GlobOutput, GlobRequest,
    GrepOutput, GrepRequest, IgnoreRules, Listing, LocalMachine, LocalOptions, Machine, PatchRequest,
    ReadOptions, ReadOutput, RelPath, RemoveMode, RenameMode, Result, SnapshotId, Stat, TreeDiff, Watch,
    WatchRequest, Workspace, WorkspaceSpec, WriteOutput, WriteRequest,
};
use aion_machine_server::MachineOptions;
use async_trait::async_trait;

/// A machine whose workspaces hold so many bytes.
#[derive(Debug)]
struct Limited {
    inner: Arc<dyn Machine>,
    limit_bytes: u64,
}

#[derive(Debug)]
struct LimitedWorkspace {
    inner: Arc<dyn Workspace>,
    limit_bytes: u64,
}

#[async_trait]
impl Machine for Limited {
    fn id(&self) -> &str {
        self.inner.id()
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    async fn open(&self, spec: &WorkspaceSpec) -> Result<Arc<dyn Workspace>> {
        let (inner, limit_bytes) = (self.inner.open(spec).await?, self.limit_bytes);
        Ok(Arc::new(LimitedWorkspace { inner, limit_bytes }))
    }
    async fn probe(&self) -> Result<Enforcement> {
        self.inner.probe().await
    }
}

impl LimitedWorkspace {
    /// What is there, whoever wrote it, and what comes: is it too much?
    async fn check(&self, path: &RelPath, more_bytes: usize) -> Result<()> {
        let all = GlobRequest::new("*")
            .with_ignore(IgnoreRules::Off)
            .with_max_hits(100_000);
        let others = self
            .inner
            .glob(all)
            .await?
            .hits
            .into_iter()
            .filter(|stat| stat.path != *path);
        let size_bytes = others.map(|stat| stat.size_bytes).sum::<u64>() + more_bytes as u64;
        if size_bytes <= self.limit_bytes {
            return Ok(());
        }
        let (path, limit_bytes) = (path.clone(), self.limit_bytes);
        Err(Error::TooLarge {
            path,
            size_bytes,
            limit_bytes,
        })
    }
}

/// Writing is checked; everything else is the other machine's business.
#[async_trait]
impl Workspace for LimitedWorkspace {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    async fn read(&self, path: &RelPath, options: ReadOptions) -> Result<ReadOutput> {
        self.inner.read(path, options).await
    }
    async fn write(&self, path: &RelPath, request: WriteRequest) -> Result<WriteOutput> {
        self.check(path, request.content.len()).await?;
        self.inner.write(path, request).await
    }
    async fn edit(&self, path: &RelPath, request: EditRequest) -> Result<WriteOutput> {
        self.check(path, request.edits.iter().map(|edit| edit.new.len()).sum())
            .await?;
        self.inner.edit(path, request).await
    }
    async fn patch(&self, path: &RelPath, request: PatchRequest) -> Result<WriteOutput> {
        self.check(path, 0).await?;
        self.inner.patch(path, request).await
    }
    async fn stat(&self, path: &RelPath) -> Result<Stat> {
        self.inner.stat(path).await
    }
    async fn list(&self, path: &RelPath, max_entries: usize) -> Result<Listing> {
        self.inner.list(path, max_entries).await
    }
    async fn mkdir(&self, path: &RelPath) -> Result<()> {
        self.inner.mkdir(path).await
    }
    async fn remove(&self, path: &RelPath, mode: RemoveMode) -> Result<()> {
        self.inner.remove(path, mode).await
    }
    async fn rename(&self, from: &RelPath, to: &RelPath, mode: RenameMode) -> Result<()> {
        self.inner.rename(from, to, mode).await
    }
    async fn glob(&self, request: GlobRequest) -> Result<GlobOutput> {
        self.inner.glob(request).await
    }
    async fn grep(&self, request: GrepRequest) -> Result<GrepOutput> {
        self.inner.grep(request).await
    }
    async fn start(&self, request: ExecRequest) -> Result<Execution> {
        self.inner.start(request).await
    }
    async fn snapshot(&self) -> Result<SnapshotId> {
        self.inner.snapshot().await
    }
    async fn diff(&self, from: SnapshotId, to: SnapshotId) -> Result<TreeDiff> {
        self.inner.diff(from, to).await
    }
    async fn watch(&self, request: WatchRequest) -> Result<Watch> {
        self.inner.watch(request).await
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    // First of all: this program is started again as the supervisor of what it executes.
    aion_machine::supervisor::run_if_requested();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(show())
}

async fn show() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("custom-backend-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let inner = Arc::new(LocalMachine::open_root(&dir, LocalOptions::default())?);
    let machine = Arc::new(Limited {
        inner,
        limit_bytes: 32 << 20,
    });
    check_machine(&*machine, "kit").await;
    println!("the conformance kit passes");

    let work = machine
        .open(&WorkspaceSpec::new(RelPath::parse("tasks/1")?))
        .await?;
    let large = WriteRequest::new(vec![b'x'; 9 << 20]);
    for name in ["a", "b", "c", "d"] {
        match work.write(&RelPath::parse(name)?, large.clone()).await {
            Ok(wrote) => println!("{name}: {} bytes", wrote.size_bytes),
            Err(error) => println!("{name}: {}, {error}", error.code()),
        }
    }
    let service = aion_machine_server::service(MachineOptions::over(machine))?;
    println!("served as {} on port {}", service.name(), service.default_port());
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
