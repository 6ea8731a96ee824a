//! Rows in files of one directory.
//!
//! `audit-N.jsonl` begins with row N. A file that is large enough is closed and the next one begun; the
//! oldest go when they are too old or all are too large together, and `anchor.json` keeps the number and
//! hash of the last row that went, so that the chain of the rest can still be checked.
//!
//! A thread of its own writes them, in the order in which they were recorded; nobody else waits for a disk.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use tokio::sync::mpsc::unbounded_channel;

use super::AuditSink;
use super::queue::{PLACE_WAIT, PLACES, Queue, Receipt};
use super::row::{self, AuditEvent, AuditRow};
use super::writer::{Newest, Writer, files, now_ms};
use crate::Durability;

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
    /// What a row survives once what it tells of may happen: by default the end of this process, and not that of
    /// the host.
    pub durability: Durability,
}

impl Default for AuditOptions {
    /// 8 MiB a file, 512 MiB in all, 90 days; not forced to the disk.
    fn default() -> Self {
        Self {
            max_file_bytes: 8 << 20,
            max_bytes: 512 << 20,
            max_age: Duration::from_secs(90 * 24 * 3600),
            durability: Durability::None,
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

    /// Chooses what a row survives.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }
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
///
/// [`record`](AuditSink::record) comes back when its row is written. Ends are written in the order in which they
/// come, and each of them has its place from the moment that what it ends was asked for: however slow the disk is,
/// at most 8192 rows wait, and then what is asked for is refused after five seconds. If the disk is full, an end
/// waits for room, and what is asked for meanwhile is refused. Dropping the log writes what waits. A process that is
/// killed loses the ends that wait, and no row of what was asked for.
#[derive(Debug)]
pub struct AuditLog {
    dir: PathBuf,
    newest: Arc<Newest>,
    /// Gone when the log is dropped, which is how the writer learns of it.
    queue: Option<Queue>,
    writing: Option<JoinHandle<()>>,
}

impl AuditLog {
    /// Opens or begins a log. Half a line at its end, of a process that was killed while it wrote, is taken
    /// away, and a row says so.
    ///
    /// # Errors
    /// If it cannot be read or written, is in use by another process, or its end does not fit together.
    pub fn open(dir: impl Into<PathBuf>, options: AuditOptions) -> std::io::Result<Self> {
        Self::with_places(dir.into(), options, (PLACES, PLACE_WAIT))
    }

    /// With so many places, for each of which one waits so long.
    fn with_places(dir: PathBuf, options: AuditOptions, places: (usize, Duration)) -> std::io::Result<Self> {
        let writer = Writer::open(&dir, options)?;
        let newest = writer.newest();
        let (jobs, waiting) = unbounded_channel();
        let writing = std::thread::Builder::new()
            .name("aion-audit".to_owned())
            .spawn(move || writer.run(waiting))?;
        Ok(Self {
            dir,
            newest,
            queue: Some(Queue::new(jobs, places)),
            writing: Some(writing),
        })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Rows after a number, at most `limit` (and at most 1000) of them, those of one task if that is given; all
    /// that was recorded before this call is among them. It reads files, on this thread.
    ///
    /// # Errors
    /// If a file cannot be read. One that was let go of meanwhile is no error: its rows are not kept any more.
    pub fn page(&self, after: u64, limit: usize, task: Option<&str>) -> std::io::Result<AuditPage> {
        self.queue.iter().for_each(Queue::flush);
        let (last, last_hash) = self.newest.get();
        let limit = limit.clamp(1, MAX_PAGE);
        let mut page = AuditPage {
            rows: Vec::new(),
            next: after,
            last,
            last_hash,
        };
        let files = files(&self.dir)?;
        // The file with the row to begin with, and those after it.
        let skipped = files.partition_point(|(first, _)| *first <= after.saturating_add(1));
        for (_, path) in files.into_iter().skip(skipped.saturating_sub(1)) {
            let file = match File::open(path) {
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                opened => opened?,
            };
            for line in BufReader::new(file).split(b'\n') {
                let line = line?;
                let Some(row) = std::str::from_utf8(&line).ok().and_then(row::parse) else {
                    continue;
                };
                if row.seq <= after || row.seq > last {
                    continue;
                }
                page.next = row.seq;
                if task.is_none_or(|task| row.event.task.as_deref() == Some(task)) {
                    page.rows.push(row);
                }
                if page.rows.len() == limit {
                    return Ok(page);
                }
            }
        }
        Ok(page)
    }
}

#[async_trait]
impl AuditSink for AuditLog {
    async fn record(&self, event: AuditEvent) -> std::io::Result<Receipt> {
        match &self.queue {
            Some(queue) => queue.record(event, now_ms()).await,
            // There is one until the log is dropped.
            None => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    fn conclude(&self, receipt: Receipt, event: AuditEvent) {
        if let Some(queue) = &self.queue {
            queue.conclude(receipt, event, now_ms());
        }
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.queue = None;
        if self.writing.take().is_some_and(|writing| writing.join().is_err()) {
            tracing::error!("the writer of the audit log has panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::{Asked, Outcome, verify};
    use super::*;
    use crate::{Error, RelPath};

    fn asked(op: &str) -> AuditEvent {
        AuditEvent::new(op, RelPath::root())
    }

    fn looked(op: &str) -> AuditEvent {
        asked(op).with_outcome(Outcome::Done, None)
    }

    fn rows(dir: &Path) -> Vec<AuditRow> {
        let log = AuditLog::open(dir, AuditOptions::default()).unwrap();
        log.page(0, MAX_PAGE, None).unwrap().rows
    }

    /// Whatever many do at once is in the log in an order that fits, also what was told in the last moment.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn order_is_kept_and_nothing_is_lost_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let sink: Arc<dyn AuditSink> = Arc::new(AuditLog::open(dir.path(), AuditOptions::default()).unwrap());
        let tasks: Vec<_> = (0..20)
            .map(|task| {
                let sink = Arc::clone(&sink);
                tokio::spawn(async move {
                    for _ in 0..10 {
                        let event = asked("write").with_task(Some(task.to_string()));
                        let asked = Asked::record(&sink, event).await.unwrap();
                        tokio::task::yield_now().await;
                        asked.settle(|_| {}, &Ok::<_, Error>(()));
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        drop(sink);
        assert_eq!(verify(dir.path(), None).unwrap().rows, 400);
        let mut open = std::collections::BTreeMap::new();
        for row in rows(dir.path()) {
            match row.event.of {
                None => assert!(open.insert(row.seq, row.event.task).is_none()),
                Some(of) => assert_eq!(open.remove(&of), Some(row.event.task), "{}", row.seq),
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    /// What goes on has its place; who finds none waits, and is refused after a while.
    #[tokio::test]
    async fn who_finds_no_place_waits_and_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let few = (2, Duration::from_millis(200));
        let log = AuditLog::with_places(dir.path().to_owned(), AuditOptions::default(), few).unwrap();
        let sink: Arc<dyn AuditSink> = Arc::new(log);
        let first = Asked::record(&sink, asked("exec")).await.unwrap();
        sink.record(looked("read")).await.unwrap();
        let refused = Asked::record(&sink, asked("exec")).await.unwrap_err();
        assert_eq!(refused.code(), "audit_unavailable");
        let (second, ()) = tokio::join!(Asked::record(&sink, asked("exec")), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            first.settle(|_| {}, &Ok::<_, Error>(()));
        });
        drop(second.unwrap());
        drop(sink);
        let ends: Vec<_> = rows(dir.path())
            .into_iter()
            .map(|row| (row.event.outcome, row.event.of))
            .collect();
        assert_eq!(
            ends,
            [
                (Outcome::Asked, None),
                (Outcome::Done, None),
                (Outcome::Done, Some(1)),
                (Outcome::Asked, None),
                (Outcome::Cancelled, Some(4)),
            ]
        );
    }

    /// Who asks goes away after the row was written and before it was heard of.
    #[tokio::test]
    async fn what_was_granted_and_not_heard_of_is_cancelled() {
        let dir = tempfile::tempdir().unwrap();
        let few = (2, Duration::from_millis(200));
        let log = AuditLog::with_places(dir.path().to_owned(), AuditOptions::default(), few).unwrap();
        for _ in 0..20 {
            let mut asking = Box::pin(log.record(asked("exec")));
            let early = std::future::poll_fn(|cx| std::task::Poll::Ready(asking.as_mut().poll(cx))).await;
            // Twice: the answer comes after the batch that the row is in.
            let _ = (log.page(0, 1, None).unwrap(), log.page(0, 1, None).unwrap());
            drop(asking);
            if let std::task::Poll::Ready(receipt) = early {
                let end = asked("exec").with_outcome(Outcome::Cancelled, None);
                log.conclude(receipt.unwrap(), end);
            }
            // There is room for the next only if the place of the end was given back.
            let _ = log.page(0, 1, None).unwrap();
        }
        drop(log);
        let rows = rows(dir.path());
        let ends: Vec<_> = rows.iter().filter_map(|row| row.event.of).collect();
        assert_eq!((rows.len(), ends.len()), (40, 20));
        let cancelled = |row: &&AuditRow| row.event.outcome == Outcome::Cancelled;
        assert_eq!(rows.iter().filter(cancelled).count(), 20);
    }

    /// A page goes on over a file that was let go of while it was read.
    #[tokio::test]
    async fn a_file_that_vanishes_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let small = AuditOptions::default()
            .with_max_file_bytes(500)
            .with_durability(Durability::Full);
        let log = AuditLog::open(dir.path(), small).unwrap();
        for _ in 0..20 {
            log.record(looked("read").with_what(Value::from("x")))
                .await
                .unwrap();
        }
        let all = log.page(0, 100, None).unwrap();
        assert_eq!(all.rows.len(), 20);
        let (first, path) = files(dir.path()).unwrap().remove(1);
        std::fs::remove_file(path).unwrap();
        let rest = log.page(0, 100, None).unwrap();
        assert!(rest.rows.len() < 20 && rest.rows.iter().all(|row| row.seq != first));
        assert_eq!((rest.next, rest.last), (20, 20));
    }

    /// A process that died right after it began a file: the chain goes on from the file before.
    #[tokio::test]
    async fn a_file_without_a_row_goes_on_from_the_one_before() {
        for begun in ["", "{\"seq\":21,\"at_"] {
            let dir = tempfile::tempdir().unwrap();
            let small = AuditOptions::default().with_max_file_bytes(500);
            let log = AuditLog::open(dir.path(), small.clone()).unwrap();
            for _ in 0..20 {
                log.record(looked("read")).await.unwrap();
            }
            drop(log);
            assert!(files(dir.path()).unwrap().len() > 3);
            std::fs::write(dir.path().join("audit-000000000021.jsonl"), begun).unwrap();
            let log = AuditLog::open(dir.path(), small).unwrap();
            let seq = log.record(looked("write")).await.unwrap().seq();
            drop(log);
            let said = u64::from(!begun.is_empty());
            assert_eq!(seq, 21 + said);
            let verified = verify(dir.path(), None).unwrap();
            assert_eq!((verified.rows, verified.torn_bytes), (21 + said, 0), "{begun}");
        }
    }
}
