//! The one who writes rows, on a thread of its own.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedReceiver;

use super::AuditOptions;
use super::queue::{Job, Waiting, receipt};
use super::row::{self, AuditEvent, ORIGIN, Outcome};
use crate::{Durability, RelPath};

const ANCHOR: &str = "anchor.json";
const LOCK: &str = "lock";
/// How long to wait for another owner to go away.
const OWNER_WAIT: Duration = Duration::from_secs(2);
/// How many rows are forced to the disk at once.
const BATCH: usize = 64;

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
        let mut file = File::create(&next)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        // It is the only record of the rows that go: a crash must not leave an empty one.
        file.sync_data()?;
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

/// The number and hash of the newest row, for those who read.
#[derive(Debug)]
pub(super) struct Newest(Mutex<(u64, String)>);

impl Newest {
    pub(super) fn get(&self) -> (u64, String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, seq: u64, hash: &str) {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        newest.0 = seq;
        hash.clone_into(&mut newest.1);
    }
}

/// The newest file, and where the chain stands.
#[derive(Debug)]
pub(super) struct Writer {
    dir: PathBuf,
    options: AuditOptions,
    file: File,
    /// The whole rows of the file, in bytes.
    bytes: u64,
    /// Whether there may be a part of a row after them.
    is_torn: bool,
    /// Whether rows were written and not forced to the disk.
    is_ahead: bool,
    seq: u64,
    hash: String,
    newest: Arc<Newest>,
    /// Ends that there was no room for yet.
    late: VecDeque<Waiting>,
    /// Held as long as the log is.
    _lock: File,
}

impl Writer {
    pub(super) fn open(dir: &Path, options: AuditOptions) -> std::io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let lock = owned(&dir.join(LOCK))?;
        let anchor = Anchor::read(dir)?;
        let mut kept = files(dir)?;
        let newest = kept.pop();
        let path = newest.map_or_else(|| name(dir, anchor.seq + 1), |(_, path)| path);
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
        let mut writer = Self {
            dir: dir.to_owned(),
            options,
            file,
            bytes: end.bytes,
            is_torn: false,
            is_ahead: false,
            seq: end.seq,
            newest: Arc::new(Newest(Mutex::new((end.seq, end.hash.clone())))),
            hash: end.hash,
            late: VecDeque::new(),
            _lock: lock,
        };
        if end.torn_bytes > 0 {
            let torn = AuditEvent::new("audit_recovered", RelPath::root())
                .with_outcome(Outcome::Done, None)
                .with_what(serde_json::json!({"torn_bytes": end.torn_bytes}));
            writer.write(&torn, now_ms())?;
        }
        writer.sync()?;
        Ok(writer)
    }

    pub(super) fn newest(&self) -> Arc<Newest> {
        Arc::clone(&self.newest)
    }

    /// Works until nobody can ask for anything any more and all that was asked for is done.
    pub(super) fn run(mut self, mut jobs: UnboundedReceiver<Job>) {
        let mut batch = Vec::with_capacity(BATCH);
        while jobs.blocking_recv_many(&mut batch, BATCH) > 0 {
            self.work(&mut batch);
        }
        if let Err(error) = self.catch_up().and_then(|()| self.sync()) {
            let rows = self.late.len();
            tracing::error!(%error, rows, "the last rows of the audit log cannot be written");
        }
    }

    /// Writes a batch, forces it to the disk if that is wanted, and then says so.
    fn work(&mut self, batch: &mut Vec<Job>) {
        let mut answers = Vec::new();
        for job in batch.drain(..) {
            match job {
                Job::Record { row, end, written } => {
                    // What came before is in the log before.
                    let done = self.catch_up().and_then(|()| self.write(&row.event, row.at_ms));
                    answers.push((row, end, written, done));
                }
                Job::Conclude(row) => {
                    self.late.push_back(row);
                    let waiting = self.late.len();
                    if let Err(error) = self.catch_up()
                        && waiting == 1
                    {
                        tracing::warn!(%error, "what came of something waits for room in the audit log");
                    }
                }
                Job::Flush(done) => {
                    let _ = self.catch_up();
                    let _ = done.send(());
                }
            }
        }
        let synced = self.sync();
        for (row, end, written, done) in answers {
            let seq = done.as_ref().ok().copied();
            let done = match (&synced, done) {
                (Err(error), Ok(_)) => Err(std::io::Error::new(error.kind(), error.to_string())),
                (_, done) => done,
            };
            let is_refused = done.is_err();
            if written.send(done.map(|seq| receipt(seq, end))).is_err() || is_refused {
                self.does_not_happen(row, seq);
            }
        }
    }

    /// Who asked has gone before there was an answer, or is refused although there is a row.
    fn does_not_happen(&mut self, mut row: Waiting, seq: Option<u64>) {
        if row.event.outcome == Outcome::Asked && seq.is_some() {
            row.event = row.event.cancelled();
            row.event.of = seq;
            self.late.push_back(row);
            let _ = self.catch_up();
        }
    }

    /// Writes the ends that there was no room for.
    fn catch_up(&mut self) -> std::io::Result<()> {
        while let Some(row) = self.late.pop_front() {
            if let Err(error) = self.write(&row.event, row.at_ms) {
                self.late.push_front(row);
                return Err(error);
            }
        }
        Ok(())
    }

    fn write(&mut self, event: &AuditEvent, at_ms: u64) -> std::io::Result<u64> {
        self.mend()?;
        if self.bytes > self.options.max_file_bytes {
            self.turn_over()?;
        }
        let seq = self.seq + 1;
        let (line, hash) = row::line(seq, at_ms, &self.hash, event)?;
        self.is_torn = true;
        self.file.write_all(line.as_bytes()).inspect_err(|_| {
            // The part that had room would spoil the next row.
            self.is_torn = self.file.set_len(self.bytes).is_err();
        })?;
        (self.is_torn, self.is_ahead) = (false, true);
        self.bytes += line.len() as u64;
        (self.seq, self.hash) = (seq, hash);
        self.newest.set(self.seq, &self.hash);
        Ok(seq)
    }

    fn mend(&mut self) -> std::io::Result<()> {
        if self.is_torn {
            self.file.set_len(self.bytes)?;
            self.is_torn = false;
        }
        Ok(())
    }

    fn sync(&mut self) -> std::io::Result<()> {
        if self.is_ahead && self.options.durability != Durability::None {
            self.file.sync_data()?;
        }
        self.is_ahead = false;
        Ok(())
    }

    /// Closes a full file and lets go of old ones.
    fn turn_over(&mut self) -> std::io::Result<()> {
        self.sync()?;
        self.file = append_to(&name(&self.dir, self.seq + 1))?;
        self.bytes = 0;
        if self.options.durability == Durability::Full {
            File::open(&self.dir)?.sync_all()?;
        }
        if let Err(error) = self.let_go() {
            tracing::warn!(%error, "old files of the audit log cannot be let go of");
        }
        Ok(())
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

pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::super::{Receipt, verify};
    use super::*;

    fn row(op: &str, outcome: Outcome) -> Waiting {
        Waiting {
            event: AuditEvent::new(op, RelPath::root()).with_outcome(outcome, None),
            at_ms: 7,
            _place: None,
        }
    }

    type Answer = oneshot::Receiver<std::io::Result<Receipt>>;

    fn ask(op: &str) -> (Job, Answer) {
        let (written, answer) = oneshot::channel();
        let row = row(op, Outcome::Asked);
        let end = None;
        (Job::Record { row, end, written }, answer)
    }

    fn ops(dir: &Path) -> Vec<(String, Outcome)> {
        assert!(verify(dir, None).is_ok());
        let text = std::fs::read_to_string(name(dir, 1)).unwrap();
        let rows = text.lines().map(|line| row::parse(line).unwrap().event);
        rows.map(|event| (event.op, event.outcome)).collect()
    }

    /// A full disk refuses what is asked for, and what had happened is written as soon as there is room.
    #[test]
    fn an_end_waits_for_room_and_what_is_asked_meanwhile_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(dir.path(), AuditOptions::default()).unwrap();
        let answered = |writer: &mut Writer, ended: Option<Waiting>, op: &str| {
            let (job, mut answer) = ask(op);
            let mut batch: Vec<_> = ended.map(Job::Conclude).into_iter().chain([job]).collect();
            writer.work(&mut batch);
            answer.try_recv().unwrap().map(|receipt| receipt.seq())
        };
        assert_eq!(answered(&mut writer, None, "first").unwrap(), 1);
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let disk = std::mem::replace(&mut writer.file, full);
        let refused = answered(&mut writer, Some(row("first", Outcome::Done)), "second");
        // What cannot be cut back either is not written after.
        assert!(refused.is_err() && writer.is_torn);
        assert!(answered(&mut writer, None, "second").is_err());
        assert_eq!(writer.late.len(), 1);
        writer.file = disk;
        assert_eq!(answered(&mut writer, None, "third").unwrap(), 3);
        let expected = [
            ("first", Outcome::Asked),
            ("first", Outcome::Done),
            ("third", Outcome::Asked),
        ];
        assert_eq!(
            ops(dir.path()),
            expected.map(|(op, outcome)| (op.to_owned(), outcome))
        );
    }

    /// What is in the file and not on the disk is refused, and has an end.
    #[test]
    fn what_cannot_be_forced_to_the_disk_is_cancelled() {
        let dir = tempfile::tempdir().unwrap();
        let options = AuditOptions::default().with_durability(Durability::File);
        let mut writer = Writer::open(dir.path(), options).unwrap();
        // A pipe takes what is written, and cannot be forced to a disk.
        let (read, write) = rustix::pipe::pipe().unwrap();
        writer.file = File::from(write);
        let (job, mut answer) = ask("write");
        writer.work(&mut vec![job]);
        assert!(answer.try_recv().unwrap().is_err());
        drop(writer);
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).unwrap();
        let rows: Vec<_> = text.lines().map(|line| row::parse(line).unwrap().event).collect();
        let said: Vec<_> = rows.iter().map(|row| (row.outcome, row.of)).collect();
        assert_eq!(said, [(Outcome::Asked, None), (Outcome::Cancelled, Some(1))]);
    }

    /// Who went away before there was an answer does not do it, and the log says so.
    #[test]
    fn what_nobody_waits_for_is_cancelled() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(dir.path(), AuditOptions::default()).unwrap();
        let (job, answer) = ask("write");
        drop(answer);
        writer.work(&mut vec![job]);
        let expected = [Outcome::Asked, Outcome::Cancelled].map(|outcome| ("write".to_owned(), outcome));
        assert_eq!(ops(dir.path()), expected);
    }
}
