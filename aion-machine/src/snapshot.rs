//! What a tree was, and what changed in it since: the feedback of an agent's step.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Diff, Etag, RelPath};

/// A snapshot that a workspace remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(value_type = u64))]
pub struct SnapshotId(pub(crate) u64);

impl SnapshotId {
    /// The snapshot of this number, of a backend of your own.
    pub fn new(id: u64) -> Self {
        Self(id)
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum ChangeKind {
    /// It is new.
    Created,
    /// Its content is another one.
    Modified,
    /// It is gone.
    Deleted,
}

/// One changed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct FileChange {
    /// Which file.
    pub path: RelPath,
    /// What happened to it.
    pub kind: ChangeKind,
    /// The size it has now, in bytes.
    pub size_bytes: u64,
    /// The difference, where both contents are known text.
    pub diff: Diff,
}

impl FileChange {
    /// A change of which nothing else is known.
    pub fn new(path: RelPath, kind: ChangeKind) -> Self {
        Self {
            path,
            kind,
            size_bytes: 0,
            diff: Diff::default(),
        }
    }
}

/// All that changed between two snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TreeDiff {
    /// In byte order of the paths.
    pub changes: Vec<FileChange>,
    /// How many files changed, also beyond those listed.
    pub changed_files: u64,
    /// Whether files or diff lines were left out.
    pub truncated: bool,
}

impl TreeDiff {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.changed_files == 0
    }
}

/// Bounds on what a [`TreeDiff`] shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DiffLimits {
    pub(crate) max_changes: usize,
    pub(crate) max_file_diff_bytes: usize,
    pub(crate) max_total_diff_bytes: usize,
}

impl Default for DiffLimits {
    fn default() -> Self {
        Self {
            max_changes: 200,
            max_file_diff_bytes: 8 << 10,
            max_total_diff_bytes: 64 << 10,
        }
    }
}

/// One file of a snapshot.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotFile {
    /// Equal stamps are taken to mean equal contents without reading.
    pub(crate) stamp: Stamp,
    pub(crate) size_bytes: u64,
    /// Absent for files that are too large to be read.
    pub(crate) etag: Option<Etag>,
    /// Kept for small text files within a total, so that a diff can be shown.
    pub(crate) content: Option<Arc<[u8]>>,
}

/// What the file system says of a version of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamp {
    pub(crate) inode: u64,
    pub(crate) size_bytes: u64,
    pub(crate) changed_ns: i128,
    pub(crate) modified_ns: i128,
}

/// The files of a tree at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) files: BTreeMap<RelPath, SnapshotFile>,
    pub(crate) truncated: bool,
}

impl Snapshot {
    /// What changed from this snapshot to a later one.
    pub(crate) fn diff(&self, later: &Self, limits: &DiffLimits) -> TreeDiff {
        let mut out = TreeDiff {
            truncated: self.truncated || later.truncated,
            ..TreeDiff::default()
        };
        let mut budget = limits.max_total_diff_bytes;
        let paths: std::collections::BTreeSet<_> = self.files.keys().chain(later.files.keys()).collect();
        for path in paths {
            let (old, new) = (self.files.get(path), later.files.get(path));
            let Some(kind) = change_kind(old, new) else {
                continue;
            };
            out.changed_files += 1;
            if out.changes.len() == limits.max_changes {
                out.truncated = true;
                continue;
            }
            let diff = file_diff(path, old, new, limits.max_file_diff_bytes.min(budget));
            budget -= diff.text.len().min(budget);
            out.truncated |= diff.truncated;
            let size_bytes = new.map_or(0, |file| file.size_bytes);
            out.changes.push(FileChange {
                path: path.clone(),
                kind,
                size_bytes,
                diff,
            });
        }
        out
    }
}

fn change_kind(old: Option<&SnapshotFile>, new: Option<&SnapshotFile>) -> Option<ChangeKind> {
    match (old, new) {
        (None, Some(_)) => Some(ChangeKind::Created),
        (Some(_), None) => Some(ChangeKind::Deleted),
        (Some(old), Some(new)) if differs(old, new) => Some(ChangeKind::Modified),
        _ => None,
    }
}

fn differs(old: &SnapshotFile, new: &SnapshotFile) -> bool {
    match (&old.etag, &new.etag) {
        (Some(a), Some(b)) => a != b,
        _ => old.stamp != new.stamp,
    }
}

/// The diff of one file; of a missing side as of an empty file, of an unknown side not at all.
fn file_diff(path: &RelPath, old: Option<&SnapshotFile>, new: Option<&SnapshotFile>, max: usize) -> Diff {
    let known = |file: Option<&SnapshotFile>| match file {
        None => Some(Arc::from(&[][..])),
        Some(file) => file.content.clone(),
    };
    match (known(old), known(new)) {
        (Some(old), Some(new)) => Diff::between(path.as_str(), &old, &new, max),
        _ => Diff {
            truncated: true,
            ..Diff::default()
        },
    }
}
