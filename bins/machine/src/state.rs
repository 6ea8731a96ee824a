//! What `GET /state` shows of a task's directory.
//!
//! Files are a map from path to a short text with size and content hash, so that the JSON difference of
//! two states has one line for each file that was created, changed or deleted. Where there are more files
//! than are shown, or ignored ones, `more` has their count and a digest of their names, sizes and times, so
//! that no change leaves the state as it was.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use aion_machine::{
    EntryKind, Etag, GlobOutput, GlobRequest, IgnoreRules, ReadOptions, Stat, WalkLimits, Workspace,
};
use aion_service::{Problem, StateQuery, StateSource};
use async_trait::async_trait;
use serde_json::{Map, Value, json};

use crate::context::{Context, blocking};
use crate::problem::from_error;
use crate::task::TaskState;

/// How many files are shown.
const MAX_FILES: usize = 100;
/// Larger files are shown by size and time, without being read.
const MAX_HASHED_BYTES: u64 = 1 << 20;
/// How many entries are looked at. The time is for a disk that hangs; to be cut by it is to be cut anywhere.
const MAX_ENTRIES: usize = 50_000;
const WALK_TIME: Duration = Duration::from_secs(10);
/// How much of a digest is shown, in hexadecimal digits.
const DIGEST_DIGITS: usize = 16;

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
        let task = self.context.task(query.task_state.as_deref()).await?;
        let work = self.context.workspace(&task).await?;
        let shown = find(&*work, IgnoreRules::Respect, MAX_FILES).await?.hits;
        let mut files = Map::new();
        for stat in &shown {
            files.insert(stat.path.to_string(), describe(&*work, stat).await.into());
        }
        let mut state = json!({"cwd": task.cwd, "files": files});
        let all = find(&*work, IgnoreRules::Off, MAX_ENTRIES).await?;
        if let Some(more) = blocking(move || more(&shown, &all)).await? {
            state["more"] = more;
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

async fn find(work: &dyn Workspace, ignore: IgnoreRules, max_hits: usize) -> Result<GlobOutput, Problem> {
    let limits = WalkLimits::default()
        .with_max_entries(MAX_ENTRIES)
        .with_time(WALK_TIME);
    let request = GlobRequest::new("*")
        .with_ignore(ignore)
        .with_max_hits(max_hits)
        .with_limits(limits);
    work.glob(request).await.map_err(|e| from_error(&e, ""))
}

/// How many files are not shown, and a digest that is another one when one of them is.
fn more(shown: &[Stat], all: &GlobOutput) -> Option<Value> {
    let shown: BTreeSet<_> = shown.iter().map(|stat| &stat.path).collect();
    let (mut count, mut text) = (0_u64, String::new());
    for stat in all.hits.iter().filter(|stat| !shown.contains(&stat.path)) {
        count += 1;
        let (kind, size, at) = (stat.kind.name(), stat.size_bytes, stat.modified_ms);
        // A path has no NUL, so that no two lists are the same text. Writing to a text cannot fail.
        let _ = write!(text, "{}\0{kind}\0{size}\0{at}\0", stat.path);
    }
    if count == 0 && !all.truncated {
        return None;
    }
    let digest = Etag::of(text.as_bytes());
    let mut more = json!({"count": count, "digest": digest.as_str()[..DIGEST_DIGITS]});
    if all.truncated {
        more["truncated"] = true.into();
    }
    Some(more)
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
