//! Snapshots of a held directory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::Stat as RawStat;

use super::root::{Root, stat_in};
use super::walk::{Flow, Met, Visit, Walk, read_small};
use crate::snapshot::{Snapshot, SnapshotFile, Stamp};
use crate::{EntryKind, Error, Etag, IgnoreRules, RelPath, Result, SnapshotId, WalkLimits};

/// How many snapshots a workspace remembers.
const MAX_SNAPSHOTS: usize = 16;
/// How many files a snapshot holds.
const MAX_FILES: usize = 20_000;
/// Files above this are compared by their stamp only.
const MAX_HASHED_BYTES: u64 = 16 << 20;
/// Text files up to this are kept for diffs...
const MAX_KEPT_BYTES: usize = 128 << 10;
/// ...until so much is kept.
const MAX_KEPT_TOTAL_BYTES: usize = 32 << 20;
/// A file that changed this short before a snapshot may change again under the same stamp.
const SETTLING: Duration = Duration::from_millis(100);

/// The snapshots of a workspace, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    next: u64,
    held: VecDeque<(SnapshotId, Arc<Snapshot>)>,
}

impl Snapshots {
    pub(crate) fn latest(&self) -> Option<Arc<Snapshot>> {
        self.held.back().map(|(_, snapshot)| Arc::clone(snapshot))
    }

    pub(crate) fn keep(&mut self, snapshot: Snapshot) -> SnapshotId {
        if self.held.len() == MAX_SNAPSHOTS {
            self.held.pop_front();
        }
        self.next += 1;
        let id = SnapshotId(self.next);
        self.held.push_back((id, Arc::new(snapshot)));
        id
    }

    pub(crate) fn get(&self, id: SnapshotId) -> Result<Arc<Snapshot>> {
        let found = self.held.iter().find(|(held, _)| *held == id);
        found
            .map(|(_, snapshot)| Arc::clone(snapshot))
            .ok_or(Error::UnknownSnapshot { id: id.get() })
    }
}

/// Looks at every file, reading those whose stamp is not that of the previous snapshot.
pub(crate) fn take(root: &Root, previous: Option<&Snapshot>) -> Result<Snapshot> {
    let limits = WalkLimits::default()
        .with_max_entries(MAX_FILES)
        .with_time(Duration::from_secs(30));
    let walk = Walk::new(root, IgnoreRules::Off, &limits);
    let now_ns = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos() as i128);
    let mut builder = Builder {
        root,
        previous,
        now_ns,
        kept_bytes: 0,
        snapshot: Snapshot::default(),
    };
    walk.run(&RelPath::root(), &mut builder)?;
    builder.snapshot.truncated = walk.is_truncated();
    Ok(builder.snapshot)
}

struct Builder<'a> {
    root: &'a Root,
    previous: Option<&'a Snapshot>,
    now_ns: i128,
    kept_bytes: usize,
    snapshot: Snapshot,
}

impl Visit for Builder<'_> {
    fn meet(&mut self, met: Met<'_>) -> Flow {
        match met.kind {
            EntryKind::File => self.file(met),
            EntryKind::Symlink => self.link(met),
            _ => {}
        }
        Flow::Continue
    }
}

impl Builder<'_> {
    fn file(&mut self, met: Met<'_>) {
        let Ok(raw) = stat_in(met.dir(), met.name()) else {
            return;
        };
        let stamp = self.stamp_of(&raw);
        let known = self.previous.and_then(|p| p.files.get(&met.path));
        let file = match known.filter(|known| known.stamp == stamp && stamp != Stamp::default()) {
            Some(known) => known.clone(),
            None => read_file(self.root, &met, stamp, u64::try_from(raw.st_size).unwrap_or(0)),
        };
        self.insert(met.path, file);
    }

    /// A symbolic link is its target, in words.
    fn link(&mut self, met: Met<'_>) {
        let Ok(target) = rustix::fs::readlinkat(met.dir(), met.name(), Vec::new()) else {
            return;
        };
        let content = format!("symbolic link to {}\n", target.to_string_lossy());
        let file = SnapshotFile {
            stamp: Stamp::default(),
            size_bytes: 0,
            etag: Some(Etag::of(content.as_bytes())),
            content: Some(Arc::from(content.as_bytes())),
        };
        self.insert(met.path, file);
    }

    fn insert(&mut self, path: RelPath, mut file: SnapshotFile) {
        let len = file.content.as_ref().map_or(0, |content| content.len());
        if self.kept_bytes + len > MAX_KEPT_TOTAL_BYTES {
            file.content = None;
        } else {
            self.kept_bytes += len;
        }
        self.snapshot.files.insert(path, file);
    }

    /// The stamp, or the default one, which equals no other, while it cannot be trusted yet.
    fn stamp_of(&self, raw: &RawStat) -> Stamp {
        let ns = |s: i64, ns: u64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        let changed_ns = ns(raw.st_ctime, raw.st_ctime_nsec);
        let stamp = Stamp {
            inode: raw.st_ino,
            size_bytes: u64::try_from(raw.st_size).unwrap_or(0),
            changed_ns,
            modified_ns: ns(raw.st_mtime, raw.st_mtime_nsec),
        };
        let settled = self.now_ns - changed_ns > SETTLING.as_nanos() as i128;
        // Contents too large to be read have nothing else to be compared by.
        if settled || stamp.size_bytes > MAX_HASHED_BYTES {
            stamp
        } else {
            Stamp::default()
        }
    }
}

fn read_file(root: &Root, met: &Met<'_>, stamp: Stamp, size_bytes: u64) -> SnapshotFile {
    let content = read_small(root, met.dir(), met.name(), MAX_HASHED_BYTES);
    let etag = content.as_deref().map(Etag::of);
    let content = content
        .filter(|c| c.len() <= MAX_KEPT_BYTES && !c.contains(&0))
        .map(Arc::from);
    SnapshotFile {
        stamp,
        size_bytes,
        etag,
        content,
    }
}
