//! A folder with trees that were removed, one file each.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aion_processor::Processor;
use aion_service::Problem;
use aion_types::{Clock, SystemClock, TaskId, TaskRecord};
use futures::StreamExt;
use http::StatusCode;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Mutex, MutexGuard};

use crate::copies::lines_of;
use crate::problem::{in_body, in_query};

/// A folder where the exports of removed trees are kept: `ROOT.jsonl` each, as `export_tree` gives them. Servers that share
/// a store may share it: a tree of which the removal has begun is written out by nobody.
#[derive(Debug, Clone)]
pub struct Archive {
    folder: PathBuf,
    /// What nobody else calls the files that are not whole yet: processes in containers may have the same number.
    part: TaskId,
    turn: Arc<Mutex<()>>,
}

impl Archive {
    /// The archive in `folder`, which must be there.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            part: TaskId::generate(SystemClock.now()),
            turn: Arc::default(),
        }
    }

    /// Held while a tree is written out and removed: one is enough for a process.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Writes out a tree; when this returns true, it survives a loss of power. False if it changed before it was written
    /// out, or somebody else had begun to remove it: what there is then may be less than all of it, and is thrown away.
    pub(crate) async fn keep(&self, processor: &Processor, root: &TaskRecord) -> Result<bool, Problem> {
        let part = self.folder.join(format!("{}.{}.part", root.id, self.part));
        let written = match write(processor, root.id, &part).await {
            Ok(()) => processor.stands(root).await.map_err(in_query),
            // What goes meanwhile cannot be read to its end.
            Err(problem) => match processor.stands(root).await {
                Ok(false) => Ok(false),
                _ => Err(problem),
            },
        };
        if !matches!(written, Ok(true)) {
            // Another try writes it anew.
            let _ = tokio::fs::remove_file(&part).await;
            return written;
        }
        let root = root.id;
        let whole = self.folder.join(format!("{root}.jsonl"));
        tokio::fs::rename(&part, &whole).await.map_err(failed)?;
        let folder = File::open(&self.folder).await.map_err(failed)?;
        folder.sync_all().await.map_err(failed)?;
        Ok(true)
    }
}

async fn write(processor: &Processor, root: TaskId, part: &Path) -> Result<(), Problem> {
    let mut file = File::create(part).await.map_err(failed)?;
    let mut pieces = processor.export(root).boxed();
    while let Some(piece) = pieces.next().await {
        let lines = piece.and_then(lines_of).map_err(in_body)?;
        file.write_all(&lines).await.map_err(failed)?;
    }
    file.sync_all().await.map_err(failed)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that map_err asks for"
)]
fn failed(error: io::Error) -> Problem {
    if error.kind() == io::ErrorKind::StorageFull {
        let detail = "the archive has no room: the tree was not removed";
        return Problem::new(StatusCode::INSUFFICIENT_STORAGE, "archive_full", detail);
    }
    tracing::error!(%error, "the archive cannot be written");
    Problem::unavailable(
        "archive_unavailable",
        "the archive cannot be written: the tree was not removed",
    )
}

#[cfg(test)]
mod tests {
    use aion_processor::{CancelMode, Limits, MemTaskStore, NewTask, Op};
    use aion_types::{ManualClock, Timestamp};

    use super::*;

    /// What is left of a tree would stand in the place of all of it.
    #[tokio::test]
    async fn half_a_tree_is_not_kept() {
        let clock = ManualClock::at(Timestamp::from_ms(1_700_000_000_000));
        let processor = Processor::new(MemTaskStore::new(clock.clone(), Limits::default()));
        let id = |n| TaskId::from_parts(Timestamp::from_ms(1_700_000_000_000), [n; 10]);
        let root = NewTask::new(id(1), "test", "root");
        processor.create(root).await.unwrap();
        let child = NewTask::new(id(2), "test", "child").with_parent(id(1));
        processor.create(child).await.unwrap();
        processor.cancel_tree(id(1), CancelMode::Force).await.unwrap();
        let root = processor.get(id(1)).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::new(folder.path());
        assert!(archive.keep(&processor, &root).await.unwrap());
        let whole = folder.path().join(format!("{}.jsonl", root.id));
        let kept = std::fs::read_to_string(&whole).unwrap();
        assert_eq!(
            kept.lines().filter(|line| line.contains("\"test\"")).count(),
            2,
            "{kept}"
        );

        let begun = Op::Purge {
            root: root.id,
            max: 1,
            version: None,
        };
        processor
            .store()
            .apply(vec![begun.into()])
            .await
            .unwrap()
            .remove(0)
            .unwrap();
        // Another server that has listed the root before comes to it now.
        assert!(!archive.keep(&processor, &root).await.unwrap());
        assert_eq!(std::fs::read_to_string(&whole).unwrap(), kept);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
