//! Rows in files of one directory.
//!
//! `audit-N.jsonl` begins with row N. A file that is large enough is closed and the next one begun; the
//! oldest go when they are too old or all are too large together, and `anchor.json` keeps the number and
//! hash of the last row that went, so that the chain of the rest can still be checked.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::AuditSink;
use super::row::{self, AuditEvent, AuditRow, ORIGIN, Outcome};
use crate::RelPath;

const ANCHOR: &str = "anchor.json";
const LOCK: &str = "lock";
/// How long to wait for another owner to go away.
const OWNER_WAIT: Duration = Duration::from_secs(2);
/// The most rows of one page.
const MAX_PAGE: usize = 1000;

/// How much is kept.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AuditOptions {
    /// A file above this is closed, in bytes.
    pub max_file_bytes: u64,
    /// All files together, in bytes. The newest one is kept in any case.
    pub max_bytes: u64,
    /// Closed files that were last written longer ago go.
    pub max_age: Duration,
}

impl Default for AuditOptions {
    /// 8 MiB a file, 512 MiB in all, 90 days.
    fn default() -> Self {
        Self {
            max_file_bytes: 8 << 20,
            max_bytes: 512 << 20,
            max_age: Duration::from_secs(90 * 24 * 3600),
        }
    }
}

impl AuditOptions {
    /// Closes files above this size.
    #[must_use]
    pub fn with_max_file_bytes(mut self, max_file_bytes: u64) -> Self {
        self.max_file_bytes = max_file_bytes;
        self
    }

    /// Keeps this much in all.
    #[must_use]
    pub fn with_max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Keeps closed files for so long.
    #[must_use]
    pub fn with_max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age;
        self
    }
}

/// The last row that is not kept any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Anchor {
    pub(super) seq: u64,
    pub(super) hash: String,
}

impl Anchor {
    pub(super) fn read(dir: &Path) -> std::io::Result<Self> {
        match std::fs::read(dir.join(ANCHOR)) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self {
                seq: 0,
                hash: ORIGIN.to_owned(),
            }),
            Err(e) => Err(e),
        }
    }

    fn write(&self, dir: &Path) -> std::io::Result<()> {
        let next = dir.join("anchor.new");
        std::fs::write(&next, serde_json::to_vec(self)?)?;
        std::fs::rename(next, dir.join(ANCHOR))
    }
}

/// The files of a directory by the number of their first row, in order.
pub(super) fn files(dir: &Path) -> std::io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let number = name
            .strip_prefix("audit-")
            .and_then(|rest| rest.strip_suffix(".jsonl"));
        if let Some(first) = number.and_then(|number| number.parse().ok()) {
            found.push((first, path));
        }
    }
    found.sort();
    Ok(found)
}

/// A page of rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AuditPage {
    /// By their numbers.
    pub rows: Vec<AuditRow>,
    /// The number to go on after.
    pub next: u64,
    /// The number of the newest row of all.
    pub last: u64,
    /// The hash of the newest row of all: who keeps it elsewhere can tell later whether rows at the end were
    /// removed.
    pub last_hash: String,
}

/// A directory of rows that only this value writes to.
#[derive(Debug)]
pub struct AuditLog {
    dir: PathBuf,
    options: AuditOptions,
    inner: Mutex<Inner>,
    /// Held as long as the log is.
    _lock: File,
}

#[derive(Debug)]
struct Inner {
    file: File,
    bytes: u64,
    seq: u64,
    hash: String,
}

impl AuditLog {
    /// Opens or begins a log. Half a line at its end, of a process that was killed while it wrote, is taken
    /// away, and a row says so.
    ///
    /// # Errors
    /// If it cannot be read or written, is in use by another process, or its end does not fit together.
    pub fn open(dir: impl Into<PathBuf>, options: AuditOptions) -> std::io::Result<Self> {
        let dir = dir.into();
        std::fs::create_dir_all(&dir)?;
        let lock = owned(&dir.join(LOCK))?;
        let anchor = Anchor::read(&dir)?;
        let mut kept = files(&dir)?;
        let newest = kept.pop();
        let path = newest.map_or_else(|| name(&dir, anchor.seq + 1), |(_, path)| path);
        let mut file = append_to(&path)?;
        // A file that was begun and got no whole row goes on from the end of the one before.
        let before = match kept.pop() {
            Some((_, path)) => {
                let End { seq, hash, .. } = end_of(&mut File::open(path)?, anchor)?;
                Anchor { seq, hash }
            }
            None => anchor,
        };
        let end = end_of(&mut file, before)?;
        if end.torn_bytes > 0 {
            file.set_len(end.bytes)?;
        }
        let log = Self {
            dir,
            options,
            inner: Mutex::new(Inner {
                file,
                bytes: end.bytes,
                seq: end.seq,
                hash: end.hash,
            }),
            _lock: lock,
        };
        if end.torn_bytes > 0 {
            let torn = AuditEvent::new("audit_recovered", RelPath::root())
                .with_outcome(Outcome::Done, None)
                .with_what(serde_json::json!({"torn_bytes": end.torn_bytes}));
            log.record(&torn)?;
        }
        Ok(log)
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rows after a number, at most `limit` (and at most 1000) of them, those of one task if that is given.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn page(&self, after: u64, limit: usize, task: Option<&str>) -> std::io::Result<AuditPage> {
        let (last, last_hash) = {
            let inner = self.inner();
            (inner.seq, inner.hash.clone())
        };
        let limit = limit.clamp(1, MAX_PAGE);
        let (mut rows, mut next) = (Vec::new(), after);
        let files = files(&self.dir)?;
        // The file with the row to begin with, and those after it.
        let skipped = files.partition_point(|(first, _)| *first <= after.saturating_add(1));
        for (_, path) in files.into_iter().skip(skipped.saturating_sub(1)) {
            for line in BufReader::new(File::open(path)?).lines() {
                let Some(row) = row::parse(&line?) else { continue };
                if row.seq <= after || row.seq > last {
                    continue;
                }
                next = row.seq;
                if task.is_none_or(|task| row.event.task.as_deref() == Some(task)) {
                    rows.push(row);
                }
                if rows.len() == limit {
                    return Ok(AuditPage {
                        rows,
                        next,
                        last,
                        last_hash,
                    });
                }
            }
        }
        Ok(AuditPage {
            rows,
            next,
            last,
            last_hash,
        })
    }

    /// Closes a full file and lets go of old ones.
    fn turn_over(&self, inner: &mut Inner) -> std::io::Result<()> {
        let path = name(&self.dir, inner.seq + 1);
        inner.file = append_to(&path)?;
        inner.bytes = 0;
        self.let_go()
    }

    fn let_go(&self) -> std::io::Result<()> {
        let mut files = files(&self.dir)?;
        files.pop();
        let mut kept: u64 = self.options.max_file_bytes;
        let mut gone = 0;
        for (at, (_, path)) in files.iter().enumerate().rev() {
            let about = std::fs::metadata(path)?;
            kept += about.len();
            let age = about.modified()?.elapsed().unwrap_or_default();
            if kept > self.options.max_bytes || age > self.options.max_age {
                gone = at + 1;
                break;
            }
        }
        let Some((_, newest_gone)) = gone.checked_sub(1).and_then(|at| files.get(at)) else {
            return Ok(());
        };
        let end = end_of(&mut File::open(newest_gone)?, Anchor::read(&self.dir)?)?;
        // First the anchor: rows before it that are still there do no harm.
        Anchor {
            seq: end.seq,
            hash: end.hash,
        }
        .write(&self.dir)?;
        files[..gone]
            .iter()
            .try_for_each(|(_, path)| std::fs::remove_file(path))
    }
}

impl AuditSink for AuditLog {
    fn record(&self, event: &AuditEvent) -> std::io::Result<u64> {
        let mut inner = self.inner();
        if inner.bytes > self.options.max_file_bytes {
            self.turn_over(&mut inner)?;
        }
        let seq = inner.seq + 1;
        let (line, hash) = row::line(seq, now_ms(), &inner.hash, event)?;
        let whole = inner.bytes;
        inner.file.write_all(line.as_bytes()).inspect_err(|_| {
            // The part that had room would spoil the next row.
            let _ = inner.file.set_len(whole);
        })?;
        inner.bytes += line.len() as u64;
        (inner.seq, inner.hash) = (seq, hash);
        Ok(seq)
    }
}

fn name(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("audit-{first:012}.jsonl"))
}

fn append_to(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).read(true).open(path)
}

/// The lock of a directory. A child that is being started holds a copy of every lock for a moment, so the
/// owner before us may be gone although its lock is not yet.
fn owned(path: &Path) -> std::io::Result<File> {
    let file = append_to(path)?;
    let started = Instant::now();
    while file.try_lock().is_err() {
        if started.elapsed() > OWNER_WAIT {
            let reason = "another process writes to this audit log";
            return Err(std::io::Error::new(std::io::ErrorKind::ResourceBusy, reason));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(file)
}

struct End {
    seq: u64,
    hash: String,
    bytes: u64,
    torn_bytes: u64,
}

/// The last whole row of a file.
fn end_of(file: &mut File, before: Anchor) -> std::io::Result<End> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let lines = &bytes[..whole.saturating_sub(1)];
    let start = lines.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let torn_bytes = (bytes.len() - whole) as u64;
    if whole == 0 {
        let Anchor { seq, hash } = before;
        return Ok(End {
            seq,
            hash,
            bytes: 0,
            torn_bytes,
        });
    }
    let last = std::str::from_utf8(&lines[start..]).ok().and_then(row::parse);
    let Some(last) = last else {
        let reason = "the last row of the audit log is not as it was written; `verify` says more";
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, reason));
    };
    Ok(End {
        seq: last.seq,
        hash: last.hash,
        bytes: whole as u64,
        torn_bytes,
    })
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
