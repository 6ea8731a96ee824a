//! A folder with trees that were removed, one file each.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aion_processor::Processor;
use aion_service::Problem;
use aion_types::TaskId;
use futures::StreamExt;
use http::StatusCode;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Mutex, MutexGuard};

use crate::copies::lines_of;
use crate::problem::in_body;

/// A folder where the exports of removed trees are kept: `ROOT.jsonl` each, as `export_tree` gives them. It belongs to
/// one process.
#[derive(Debug, Clone)]
pub struct Archive {
    folder: PathBuf,
    turn: Arc<Mutex<()>>,
}

impl Archive {
    /// The archive in `folder`, which must be there.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            turn: Arc::default(),
        }
    }

    /// Held while a tree is written out and removed, so that nobody else writes out what is half gone.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Writes out a tree; when this returns, it survives a loss of power.
    pub(crate) async fn keep(&self, processor: &Processor, root: TaskId) -> Result<(), Problem> {
        let part = self.folder.join(format!("{root}.part"));
        let written = write(processor, root, &part).await;
        if written.is_err() {
            // Another try writes it anew.
            let _ = tokio::fs::remove_file(&part).await;
        }
        written?;
        let whole = self.folder.join(format!("{root}.jsonl"));
        tokio::fs::rename(&part, &whole).await.map_err(failed)?;
        let folder = File::open(&self.folder).await.map_err(failed)?;
        folder.sync_all().await.map_err(failed)
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
