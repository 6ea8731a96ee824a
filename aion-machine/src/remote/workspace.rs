//! A directory of a remote machine.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::calls::{Call, Calls, json_bytes, unreachable};
use super::follow::{Following, pass_on};
use crate::wire::{
    At, Compare, Edits, FindLines, FindNames, List, Move, Nothing, Patch, Read, ReadAnswer, Remove, Snapshot,
    Start, Started, Write,
};
use crate::{
    Capabilities, EditRequest, ExecRequest, Execution, GlobOutput, GlobRequest, GrepOutput, GrepRequest,
    Listing, PatchRequest, ReadOptions, ReadOutput, RelPath, RemoveMode, RenameMode, Result, SnapshotId,
    Stat, TreeDiff, Watch, WatchRequest, Workspace, WriteOutput, WriteRequest,
};

/// A directory of a remote machine.
#[derive(Debug, Clone)]
pub(super) struct RemoteWorkspace {
    calls: Arc<Calls>,
    cwd: RelPath,
    capabilities: Capabilities,
}

impl RemoteWorkspace {
    pub(super) fn new(calls: Arc<Calls>, cwd: RelPath, capabilities: Capabilities) -> Self {
        Self {
            calls,
            cwd,
            capabilities,
        }
    }

    /// Looks at its root.
    pub(super) async fn open(&self) -> Result<()> {
        self.looks::<Stat>(
            "stat",
            &At {
                path: RelPath::root(),
            },
        )
        .await
        .map(drop)
    }

    async fn looks<T: DeserializeOwned>(&self, operation: &str, body: &(impl Serialize + Sync)) -> Result<T> {
        let path = format!("/v1/workspace/{operation}");
        self.calls.post(&path, &self.cwd, body, None).await
    }

    async fn acts<T: DeserializeOwned>(&self, operation: &str, body: &(impl Serialize + Sync)) -> Result<T> {
        let path = format!("/v1/workspace/{operation}");
        self.calls.post(&path, &self.cwd, body, Some(&fresh_key())).await
    }
}

/// A key that no other request has.
fn fresh_key() -> String {
    let half = || RandomState::new().build_hasher().finish();
    format!("remote-{:016x}{:016x}", half(), half())
}

async fn start(calls: &Calls, cwd: &RelPath, body: Bytes) -> Result<Started> {
    let key = fresh_key();
    let call = Call {
        method: Method::POST,
        path: "/v1/executions",
        cwd: Some(cwd),
        body: Some(body),
        key: Some(&key),
    };
    calls.call(call).await
}

#[async_trait]
impl Workspace for RemoteWorkspace {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    async fn read(&self, path: &RelPath, options: ReadOptions) -> Result<ReadOutput> {
        let read = Read {
            path: path.clone(),
            range: options.range,
            max_bytes: Some(options.max_bytes),
        };
        self.looks::<ReadAnswer>("read", &read).await?.into_output()
    }

    async fn write(&self, path: &RelPath, request: WriteRequest) -> Result<WriteOutput> {
        self.acts("write", &Write::new(path.clone(), request)).await
    }

    async fn edit(&self, path: &RelPath, request: EditRequest) -> Result<WriteOutput> {
        let edits = Edits {
            path: path.clone(),
            edits: request.edits,
            if_match: request.if_match,
            durability: request.durability,
        };
        self.acts("edit", &edits).await
    }

    async fn patch(&self, path: &RelPath, request: PatchRequest) -> Result<WriteOutput> {
        let patch = Patch {
            path: path.clone(),
            patch: request.patch,
            if_match: request.if_match,
            durability: request.durability,
        };
        self.acts("patch", &patch).await
    }

    async fn stat(&self, path: &RelPath) -> Result<Stat> {
        self.looks("stat", &At { path: path.clone() }).await
    }

    async fn list(&self, path: &RelPath, max_entries: usize) -> Result<Listing> {
        self.looks(
            "list",
            &List {
                path: path.clone(),
                max_entries,
            },
        )
        .await
    }

    async fn mkdir(&self, path: &RelPath) -> Result<()> {
        self.acts::<Nothing>("mkdir", &At { path: path.clone() })
            .await
            .map(drop)
    }

    async fn remove(&self, path: &RelPath, mode: RemoveMode) -> Result<()> {
        self.acts::<Nothing>(
            "remove",
            &Remove {
                path: path.clone(),
                mode,
            },
        )
        .await
        .map(drop)
    }

    async fn rename(&self, from: &RelPath, to: &RelPath, mode: RenameMode) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        self.acts::<Nothing>("move", &Move { from, to, mode })
            .await
            .map(drop)
    }

    async fn glob(&self, request: GlobRequest) -> Result<GlobOutput> {
        self.looks("glob", &FindNames::from(request)).await
    }

    async fn grep(&self, request: GrepRequest) -> Result<GrepOutput> {
        self.looks("grep", &FindLines::from(request)).await
    }

    async fn start(&self, request: ExecRequest) -> Result<Execution> {
        let (execution, feed) = Execution::channel(&request);
        let body = json_bytes(&Start::from(request))?;
        let (calls, cwd) = (Arc::clone(&self.calls), self.cwd.clone());
        let (tell, told) = tokio::sync::oneshot::channel();
        // Who stops waiting for this drops the execution: it is started, and then killed.
        tokio::spawn(async move {
            match start(&calls, &cwd, body).await {
                Ok(Started { id }) => {
                    feed.started();
                    let _ = tell.send(Ok(()));
                    Following { calls, cwd, id, feed }.run().await;
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        });
        let lost = |_| Err(unreachable("the runtime ends"));
        told.await.unwrap_or_else(lost).map(|()| execution)
    }

    async fn snapshot(&self) -> Result<SnapshotId> {
        let taken: Snapshot = self.looks("snapshot", &Nothing {}).await?;
        Ok(taken.snapshot)
    }

    async fn diff(&self, from: SnapshotId, to: SnapshotId) -> Result<TreeDiff> {
        self.looks("diff", &Compare { from, to }).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<Watch> {
        let path = format!("/v1/workspace/watch?{}", query(&request));
        let stream = self.calls.events(&path, &self.cwd, None).await;
        let response = stream.map_err(|failed| failed.error)?;
        let (sender, watch) = Watch::channel(request.max_events);
        tokio::spawn(pass_on(response, sender));
        Ok(watch)
    }
}

fn query(request: &WatchRequest) -> String {
    let mut text = String::from("path=");
    for byte in request.path.as_str().bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text.push_str(&format!("&max_events={}", request.max_events));
    text
}
