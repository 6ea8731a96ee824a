//! A workspace whose every operation is recorded.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::asked::{Asked, conclude};
use super::row::{AuditEvent, ProgramEnd};
use super::{AuditSink, redacted};
use crate::{
    Capabilities, EditRequest, Error, ExecOutput, ExecRequest, Execution, GlobOutput, GlobRequest,
    GrepOutput, GrepRequest, Listing, PatchRequest, ReadOptions, ReadOutput, RelPath, RemoveMode, RenameMode,
    Result, SnapshotId, Stat, TreeDiff, Watch, WatchRequest, Workspace, WriteOutput, WriteRequest,
};

/// Longer patterns are cut, in characters.
const MAX_PATTERN_CHARS: usize = 200;

/// A workspace that records what it is asked for.
///
/// What changes something, and every execution, has a row before it happens and another one with what came
/// of it; what only looks has one row after it. If a row cannot be written, the operation is refused with
/// [`Error::Audit`], before it happens.
#[derive(Debug, Clone)]
pub struct Audited {
    inner: Arc<dyn Workspace>,
    sink: Arc<dyn AuditSink>,
    task: Option<String>,
    cwd: RelPath,
}

impl Audited {
    /// Records what this workspace, at this directory of its machine, is asked for by this task.
    pub fn new(
        inner: Arc<dyn Workspace>,
        sink: Arc<dyn AuditSink>,
        task: Option<String>,
        cwd: RelPath,
    ) -> Self {
        Self {
            inner,
            sink,
            task,
            cwd,
        }
    }

    fn event(&self, op: &str, what: Value) -> AuditEvent {
        AuditEvent::new(op, self.cwd.clone())
            .with_task(self.task.clone())
            .with_what(what)
    }

    /// Does something that only looks.
    async fn looks<T>(
        &self,
        op: &str,
        what: Value,
        bytes: impl Fn(&T) -> u64,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let begun = Instant::now();
        let done = work.await;
        let mut event = self.event(op, what);
        conclude(&mut event, &done, begun);
        event.bytes = done.as_ref().ok().map(bytes);
        self.sink.record(event).await.map_err(Error::Audit)?;
        done
    }

    /// Does something that changes something.
    async fn acts<T>(
        &self,
        op: &str,
        what: Value,
        bytes: impl Fn(&T) -> u64,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let asked = self.ask(op, what).await?;
        let done = work.await;
        asked.settle(|event| event.bytes = done.as_ref().ok().map(bytes), &done);
        done
    }

    /// Puts on paper that something is about to happen.
    async fn ask(&self, op: &str, what: Value) -> Result<Asked> {
        Asked::record(&self.sink, self.event(op, what)).await
    }
}

fn end_of(output: &ExecOutput) -> ProgramEnd {
    ProgramEnd {
        exit_code: output.exit_code,
        signal: output.signal,
        ending: output.ending,
        tier: output.enforcement.tier(),
        enforcement: output.enforcement.clone(),
        network: output.network.clone(),
    }
}

fn short(pattern: &str) -> String {
    pattern.chars().take(MAX_PATTERN_CHARS).collect()
}

fn nothing<T>(_: &T) -> u64 {
    0
}

#[async_trait]
impl Workspace for Audited {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn read(&self, path: &RelPath, options: ReadOptions) -> Result<ReadOutput> {
        let work = self.inner.read(path, options);
        let bytes = |read: &ReadOutput| read.bytes.len() as u64;
        self.looks("read", json!({"path": path}), bytes, work).await
    }

    async fn write(&self, path: &RelPath, request: WriteRequest) -> Result<WriteOutput> {
        let what = json!({"path": path, "bytes": request.content.len(), "mode": request.mode});
        let bytes = |wrote: &WriteOutput| wrote.size_bytes;
        self.acts("write", what, bytes, self.inner.write(path, request))
            .await
    }

    async fn edit(&self, path: &RelPath, request: EditRequest) -> Result<WriteOutput> {
        let what = json!({"path": path, "edits": request.edits.len()});
        let bytes = |wrote: &WriteOutput| wrote.size_bytes;
        self.acts("edit", what, bytes, self.inner.edit(path, request))
            .await
    }

    async fn patch(&self, path: &RelPath, request: PatchRequest) -> Result<WriteOutput> {
        let what = json!({"path": path, "patch_bytes": request.patch.len()});
        let bytes = |wrote: &WriteOutput| wrote.size_bytes;
        self.acts("patch", what, bytes, self.inner.patch(path, request))
            .await
    }

    async fn watch(&self, request: WatchRequest) -> Result<Watch> {
        let what = json!({"path": request.path});
        self.looks("watch", what, nothing, self.inner.watch(request))
            .await
    }

    async fn stat(&self, path: &RelPath) -> Result<Stat> {
        self.looks("stat", json!({"path": path}), nothing, self.inner.stat(path))
            .await
    }

    async fn list(&self, path: &RelPath, max_entries: usize) -> Result<Listing> {
        let work = self.inner.list(path, max_entries);
        self.looks("list", json!({"path": path}), nothing, work).await
    }

    async fn mkdir(&self, path: &RelPath) -> Result<()> {
        self.acts("mkdir", json!({"path": path}), nothing, self.inner.mkdir(path))
            .await
    }

    async fn remove(&self, path: &RelPath, mode: RemoveMode) -> Result<()> {
        let what = json!({"path": path, "mode": mode});
        self.acts("remove", what, nothing, self.inner.remove(path, mode))
            .await
    }

    async fn rename(&self, from: &RelPath, to: &RelPath, mode: RenameMode) -> Result<()> {
        let what = json!({"path": from, "to": to, "mode": mode});
        self.acts("rename", what, nothing, self.inner.rename(from, to, mode))
            .await
    }

    async fn glob(&self, request: GlobRequest) -> Result<GlobOutput> {
        let what = json!({"path": request.path, "pattern": short(&request.pattern)});
        self.looks("glob", what, nothing, self.inner.glob(request)).await
    }

    async fn grep(&self, request: GrepRequest) -> Result<GrepOutput> {
        // The pattern may be a secret that is searched for.
        let what = json!({"path": request.path, "glob": request.glob.as_deref().map(short)});
        self.looks("grep", what, nothing, self.inner.grep(request)).await
    }

    async fn start(&self, request: ExecRequest) -> Result<Execution> {
        let what = json!({
            "argv": redacted(&request.argv),
            "cwd": request.cwd,
            "env": request.env.keys().collect::<Vec<_>>(),
            "stdin_bytes": request.stdin.len(),
            "wall_ms": request.limits.wall_ms,
        });
        let asked = self.ask("exec", what).await?;
        match self.inner.start(request).await {
            Ok(execution) => {
                execution.when_ended(move |ended| {
                    let add = |event: &mut AuditEvent| {
                        let Ok(output) = ended else { return };
                        event.bytes = Some(output.stdout.total_bytes + output.stderr.total_bytes);
                        event.end = Some(end_of(output));
                    };
                    asked.settle(add, ended);
                });
                Ok(execution)
            }
            failed => {
                asked.settle(|_| {}, &failed);
                failed
            }
        }
    }

    async fn snapshot(&self) -> Result<SnapshotId> {
        self.looks("snapshot", Value::Null, nothing, self.inner.snapshot())
            .await
    }

    async fn diff(&self, from: SnapshotId, to: SnapshotId) -> Result<TreeDiff> {
        let what = json!({"from": from, "to": to});
        self.looks("diff", what, nothing, self.inner.diff(from, to)).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::{Outcome, Receipt};
    use super::*;
    use crate::testkit::MemoryWorkspace;
    use crate::{ExecStatus, OutputStream};

    #[derive(Debug, Default)]
    struct Rows {
        rows: Mutex<Vec<AuditEvent>>,
        full: std::sync::atomic::AtomicBool,
    }

    #[async_trait]
    impl AuditSink for Rows {
        async fn record(&self, event: AuditEvent) -> std::io::Result<Receipt> {
            if self.full.load(std::sync::atomic::Ordering::SeqCst) {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            let mut rows = self.rows.lock().unwrap();
            rows.push(event);
            Ok(Receipt::new(rows.len() as u64))
        }

        fn conclude(&self, receipt: Receipt, mut event: AuditEvent) {
            event.of = Some(receipt.seq());
            self.rows.lock().unwrap().push(event);
        }
    }

    fn path(text: &str) -> RelPath {
        RelPath::parse(text).unwrap()
    }

    #[tokio::test]
    async fn what_happens_is_recorded_without_contents() {
        let rows = Arc::new(Rows::default());
        let work = Audited::new(
            MemoryWorkspace::open(),
            rows.clone(),
            Some("t1".to_owned()),
            path("tasks/t1"),
        );
        work.write(&path("a"), WriteRequest::new("the secret content"))
            .await
            .unwrap();
        work.read(&path("a"), ReadOptions::default()).await.unwrap();
        work.read(&path("b"), ReadOptions::default()).await.unwrap_err();
        let seen = rows.rows.lock().unwrap().clone();
        let outcomes: Vec<_> = seen
            .iter()
            .map(|row| (row.op.as_str(), row.outcome, row.of))
            .collect();
        assert_eq!(
            outcomes,
            [
                ("write", Outcome::Asked, None),
                ("write", Outcome::Done, Some(1)),
                ("read", Outcome::Done, None),
                ("read", Outcome::Failed, None),
            ]
        );
        assert_eq!(
            (seen[1].bytes, seen[3].code.as_deref()),
            (Some(18), Some("not_found"))
        );
        assert!(
            seen.iter()
                .all(|row| row.task.as_deref() == Some("t1") && row.cwd == path("tasks/t1"))
        );
        assert!(!serde_json::to_string(&seen).unwrap().contains("secret"));
    }

    #[tokio::test]
    async fn what_cannot_be_recorded_does_not_happen() {
        let rows = Arc::new(Rows::default());
        let inner = MemoryWorkspace::open();
        let work = Audited::new(Arc::clone(&inner), rows.clone(), None, RelPath::root());
        rows.full.store(true, std::sync::atomic::Ordering::SeqCst);
        let refused = work.write(&path("a"), WriteRequest::new("x")).await.unwrap_err();
        assert_eq!(refused.code(), "audit_no_space");
        assert_eq!(inner.stat(&path("a")).await.unwrap_err().code(), "not_found");
        rows.full.store(false, std::sync::atomic::Ordering::SeqCst);
        work.write(&path("a"), WriteRequest::new("x")).await.unwrap();
    }

    /// A workspace whose programs end when they are told to.
    #[tokio::test]
    async fn the_end_of_an_execution_is_recorded_also_if_nobody_waits() {
        let rows = Arc::new(Rows::default());
        let request = ExecRequest::new(["x"]);
        let (execution, feed) = Execution::channel(&request);
        let work = Audited::new(MemoryWorkspace::open(), rows.clone(), None, RelPath::root());
        let asked = work
            .ask("exec", json!({"argv": redacted(&request.argv)}))
            .await
            .unwrap();
        execution.when_ended(move |ended| asked.settle(|_| {}, ended));
        feed.started();
        feed.push(OutputStream::Stdout, b"out");
        drop(execution);
        feed.finish(Ok(ExecStatus::signaled(9)));
        let last = rows.rows.lock().unwrap().pop().unwrap();
        assert_eq!((last.outcome, last.of), (Outcome::Done, Some(1)));
        drop(work.ask("write", Value::Null).await.unwrap());
        assert_eq!(
            rows.rows.lock().unwrap().pop().unwrap().outcome,
            Outcome::Cancelled
        );
        assert_eq!(work.exec(request).await.unwrap_err().code(), "unsupported");
        assert_eq!(rows.rows.lock().unwrap().pop().unwrap().outcome, Outcome::Failed);
    }
}
