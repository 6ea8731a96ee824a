//! What `GET /state` shows of a task's directory.
//!
//! Files are a map from path to a short text with size and content hash, so that the JSON difference of
//! two states has one line for each file that was created, changed or deleted.

use std::sync::Arc;
use std::time::Duration;

use aion_machine::{EntryKind, GlobRequest, ReadOptions, Stat, WalkLimits, Workspace};
use aion_service::{Problem, StateQuery, StateSource};
use async_trait::async_trait;
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::problem::from_error;
use crate::task::TaskState;

/// How many files are shown.
const MAX_FILES: usize = 100;
/// Larger files are shown by size and time, without being read.
const MAX_HASHED_BYTES: u64 = 1 << 20;
const WALK_TIME: Duration = Duration::from_secs(2);

/// The state of a directory of the machine.
pub(crate) struct FilesState {
    context: Arc<Context>,
}

impl FilesState {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

#[async_trait]
impl StateSource for FilesState {
    async fn state(&self, query: &StateQuery) -> Result<Value, Problem> {
        let task = TaskState::parse_optional(query.task_state.as_deref())?;
        let work = self.context.workspace(&task).await?;
        let limits = WalkLimits::default().with_time(WALK_TIME);
        let request = GlobRequest::new("*").with_max_hits(MAX_FILES).with_limits(limits);
        let found = work.glob(request).await.map_err(|e| from_error(&e, ""))?;
        let mut files = Map::new();
        for stat in found.hits {
            files.insert(stat.path.to_string(), describe(&*work, &stat).await.into());
        }
        let mut state = json!({"cwd": task.cwd, "files": files});
        if found.truncated {
            state["files_truncated"] = true.into();
        }
        if let Some(last) = self.context.last_exec(&task.cwd) {
            state["last_exec"] = last;
        }
        Ok(state)
    }

    async fn ready(&self) -> Result<(), String> {
        let root = TaskState::default();
        self.context
            .workspace(&root)
            .await
            .map(drop)
            .map_err(|e| e.to_string())
    }
}

/// `41 bytes #9f3a1c2b`.
async fn describe(work: &dyn Workspace, stat: &Stat) -> String {
    if stat.kind != EntryKind::File {
        return stat.kind.name().to_owned();
    }
    let small = stat.size_bytes <= MAX_HASHED_BYTES;
    let read = if small {
        work.read(&stat.path, ReadOptions::default()).await.ok()
    } else {
        None
    };
    match read.and_then(|read| Some((read.size_bytes, read.etag?))) {
        Some((size, etag)) => format!("{size} bytes #{}", &etag.as_str()[..8]),
        None => format!("{} bytes @{}", stat.size_bytes, stat.modified_ms),
    }
}
