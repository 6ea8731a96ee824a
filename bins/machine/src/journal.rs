//! The record of keyed requests: begun, answered, or given up, one JSON line each.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How many keys are remembered.
const MAX_KEYS: usize = 10_000;
/// How much their answers may weigh, in bytes.
const MAX_BYTES: usize = 32 << 20;
/// How long they are remembered.
const RETENTION: Duration = Duration::from_secs(24 * 3600);
/// A file above this is written anew without what is forgotten.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// How long to wait for another owner of the file to go away.
const OWNER_WAIT: Duration = Duration::from_secs(2);
const FILE_NAME: &str = "idempotency.jsonl";

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The file cannot be read or written.
    #[error("{} cannot be read or written", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another process has it open.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// Which file.
        path: PathBuf,
    },
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Known {
    /// Nothing: it now belongs to the caller.
    New,
    /// It was begun and its process ended before there was an answer; `expected` is what the answer
    /// would have been. It now belongs to the caller.
    Begun { expected: Option<Value> },
    /// It runs now.
    Running,
    /// It came with another request.
    OtherRequest,
    /// Its answer.
    Answered(Value),
}

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    key: String,
    /// Milliseconds since the epoch.
    at_ms: u64,
    /// A hash of operation, directory and body.
    request: String,
    event: Event,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    Begun { expected: Option<Value> },
    Answered { answer: Value },
    GivenUp,
}

/// A remembered key.
#[derive(Debug)]
struct Entry {
    at_ms: u64,
    request: String,
    event: Event,
    bytes: usize,
    running: bool,
}

/// All keyed requests that are remembered.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<String, Entry>,
    /// In the order in which they came; keys that were given up are still in it.
    order: VecDeque<String>,
    bytes: usize,
    file: Option<(PathBuf, File)>,
}

/// The file with its lock, or none while another process has it. A child that is being started holds a
/// copy of every lock for a moment, so the owner before us may be gone although its lock is not yet.
fn owned(path: &Path) -> std::io::Result<Option<File>> {
    let started = Instant::now();
    loop {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(path)?;
        if file.try_lock().is_ok() {
            return Ok(Some(file));
        }
        if started.elapsed() > OWNER_WAIT {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Journal {
    /// Remembers in memory only.
    pub(crate) fn in_memory() -> Self {
        Self {
            inner: Arc::default(),
        }
    }

    /// Remembers in a file of this directory, beginning with what it holds.
    pub(crate) fn open(dir: &Path) -> Result<Self, JournalError> {
        let path = dir.join(FILE_NAME);
        let fail = |source| JournalError::File {
            path: path.clone(),
            source,
        };
        let file = owned(&path).map_err(fail)?;
        let Some(file) = file else {
            return Err(JournalError::InUse { path });
        };
        let mut inner = Inner::default();
        for line in BufReader::new(&file).split(b'\n') {
            // The last line may be half of one: its process was killed while writing it.
            if let Ok(line) = serde_json::from_slice::<Line>(&line.map_err(fail)?) {
                inner.replay(line);
            }
        }
        inner.file = Some((path.clone(), file));
        inner.forget();
        inner.rewrite().map_err(fail)?;
        Ok(Self {
            inner: Arc::new(Mutex::new(inner)),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes to another file from now on; the one before.
    #[cfg(test)]
    pub(crate) fn set_file(&self, file: Option<File>) -> Option<File> {
        let next = file.map(|file| (PathBuf::from(FILE_NAME), file));
        std::mem::replace(&mut self.lock().file, next).map(|(_, file)| file)
    }

    /// Looks a key up and takes it if it is free.
    pub(crate) fn claim(&self, key: &str, request: &str) -> (Known, Option<Claim>) {
        let mut inner = self.lock();
        let known = match inner.entries.get_mut(key) {
            None => Known::New,
            Some(entry) if entry.request != request => Known::OtherRequest,
            Some(entry) if entry.running => Known::Running,
            Some(entry) => match &entry.event {
                Event::Answered { answer } => Known::Answered(answer.clone()),
                Event::Begun { expected } => {
                    entry.running = true;
                    Known::Begun {
                        expected: expected.clone(),
                    }
                }
                Event::GivenUp => Known::New,
            },
        };
        if known == Known::New {
            // Held from now on, but on paper only when something is about to happen.
            inner.insert(key, request, now_ms(), Event::Begun { expected: None }, 0);
            if let Some(entry) = inner.entries.get_mut(key) {
                entry.running = true;
            }
        }
        let taken = matches!(known, Known::New | Known::Begun { .. });
        let claim = taken.then(|| Claim {
            journal: self.clone(),
            key: key.to_owned(),
            request: request.to_owned(),
            begun: matches!(known, Known::Begun { .. }),
            settled: false,
        });
        (known, claim)
    }
}

/// The right to work on a key. Dropped without an answer, it leaves a begun request to be settled by
/// the next caller, and frees one that was not begun.
#[derive(Debug)]
pub(crate) struct Claim {
    journal: Journal,
    key: String,
    request: String,
    begun: bool,
    settled: bool,
}

impl Claim {
    /// Puts on paper that the effect is about to happen, and what the answer will be.
    ///
    /// # Errors
    /// If it cannot be written. Then it is not begun.
    pub(crate) fn begin(&mut self, expected: Option<Value>) -> std::io::Result<()> {
        let line = self.line(Event::Begun { expected });
        let mut inner = self.journal.lock();
        inner.append(&line)?;
        self.begun = true;
        inner.replay(line);
        if let Some(entry) = inner.entries.get_mut(&self.key) {
            entry.running = true;
        }
        inner.tidy();
        Ok(())
    }

    /// Keeps the answer, in memory at least.
    pub(crate) fn answer(self, answer: Value) {
        self.settle(Event::Answered { answer });
    }

    /// Nothing happened: the key is free again.
    pub(crate) fn give_up(self) {
        if self.begun {
            self.settle(Event::GivenUp);
        }
    }

    /// What has happened cannot be refused any more: if there is no room to write it down, a process that
    /// comes after this one will find the request begun, and look.
    fn settle(mut self, event: Event) {
        self.settled = true;
        let line = self.line(event);
        let mut inner = self.journal.lock();
        if let Err(error) = inner.append(&line) {
            tracing::warn!(%error, "the end of a keyed request is remembered in memory only");
        }
        inner.replay(line);
        inner.tidy();
    }

    fn line(&self, event: Event) -> Line {
        Line {
            key: self.key.clone(),
            at_ms: now_ms(),
            request: self.request.clone(),
            event,
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let mut inner = self.journal.lock();
        if !self.begun {
            inner.remove(&self.key);
        } else if let Some(entry) = inner.entries.get_mut(&self.key) {
            entry.running = false;
        }
    }
}

impl Inner {
    fn replay(&mut self, line: Line) {
        let bytes = serde_json::to_vec(&line).map_or(0, |text| text.len());
        match line.event {
            Event::GivenUp => self.remove(&line.key),
            event => self.insert(&line.key, &line.request, line.at_ms, event, bytes),
        }
    }

    fn insert(&mut self, key: &str, request: &str, at_ms: u64, event: Event, bytes: usize) {
        let request = request.to_owned();
        let entry = Entry {
            at_ms,
            request,
            event,
            bytes,
            running: false,
        };
        self.bytes += bytes;
        match self.entries.insert(key.to_owned(), entry) {
            Some(old) => self.bytes -= old.bytes,
            None => self.order.push_back(key.to_owned()),
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(old) = self.entries.remove(key) {
            self.bytes -= old.bytes;
            self.order.retain(|other| other != key);
        }
    }

    /// Drops the oldest that are too old or too many; what runs now stays.
    fn forget(&mut self) {
        let limit_ms = now_ms().saturating_sub(u64::try_from(RETENTION.as_millis()).unwrap_or(u64::MAX));
        while let Some(entry) = self.order.front().and_then(|key| self.entries.get(key)) {
            let too_much = self.entries.len() > MAX_KEYS || self.bytes > MAX_BYTES;
            if entry.running || (entry.at_ms >= limit_ms && !too_much) {
                return;
            }
            let Some(key) = self.order.pop_front() else { return };
            if let Some(old) = self.entries.remove(&key) {
                self.bytes -= old.bytes;
            }
        }
    }

    /// Writes one line with one call, so that a killed process leaves whole lines but for the last.
    fn append(&mut self, line: &Line) -> std::io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let Some((_, file)) = &mut self.file else {
            return Ok(());
        };
        let whole = file.metadata()?.len();
        file.write_all(&text).inspect_err(|_| {
            // The part that had room would spoil the next line.
            let _ = file.set_len(whole);
        })
    }

    /// Forgets what is old. A file that cannot be written anew now stays as it is until it can.
    fn tidy(&mut self) {
        self.forget();
        if let Err(error) = self.rewrite_if_large() {
            tracing::warn!(%error, "the journal of keys cannot be written anew");
        }
    }

    fn rewrite_if_large(&mut self) -> std::io::Result<()> {
        let large = match &self.file {
            Some((_, file)) => file.metadata()?.len() > MAX_FILE_BYTES,
            None => false,
        };
        if large { self.rewrite() } else { Ok(()) }
    }

    /// Replaces the file by one that holds only what is remembered.
    fn rewrite(&mut self) -> std::io::Result<()> {
        let Some((path, _)) = &self.file else {
            return Ok(());
        };
        let path = path.clone();
        let next = path.with_extension("new");
        let _ = std::fs::remove_file(&next);
        let mut file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .read(true)
            .open(&next)?;
        file.try_lock().map_err(std::io::Error::other)?;
        let mut text = Vec::new();
        for (key, entry) in self
            .order
            .iter()
            .filter_map(|key| Some((key, self.entries.get(key)?)))
        {
            let (key, request) = (key.clone(), entry.request.clone());
            let line = Line {
                key,
                at_ms: entry.at_ms,
                request,
                event: entry.event.clone(),
            };
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
        }
        file.write_all(&text)?;
        std::fs::rename(&next, &path)?;
        self.file = Some((path, file));
        Ok(())
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claimed(journal: &Journal, key: &str) -> (Known, Claim) {
        let (known, claim) = journal.claim(key, "r");
        (known, claim.unwrap())
    }

    #[test]
    fn an_answer_is_given_again_and_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let (known, mut claim) = claimed(&journal, "k");
        assert_eq!(known, Known::New);
        assert_eq!(journal.claim("k", "r").0, Known::Running);
        claim.begin(None).unwrap();
        claim.answer(json!({"a": 1}));
        assert_eq!(journal.claim("k", "other").0, Known::OtherRequest);
        assert!(matches!(
            Journal::open(dir.path()),
            Err(JournalError::InUse { .. })
        ));
        drop(journal);
        let journal = Journal::open(dir.path()).unwrap();
        assert_eq!(journal.claim("k", "r").0, Known::Answered(json!({"a": 1})));
    }

    #[test]
    fn what_was_begun_is_known_to_be_and_half_a_line_is_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let (_, mut claim) = claimed(&journal, "k");
        claim.begin(Some(json!("expected"))).unwrap();
        drop(claim);
        assert_eq!(
            claimed(&journal, "k").0,
            Known::Begun {
                expected: Some(json!("expected"))
            }
        );
        drop(journal);
        let file = dir.path().join(FILE_NAME);
        let mut text = std::fs::read(&file).unwrap();
        text.extend_from_slice(b"{\"key\": \"half");
        std::fs::write(&file, text).unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        assert!(matches!(claimed(&journal, "k").0, Known::Begun { .. }));
        assert_eq!(claimed(&journal, "half").0, Known::New);
    }

    #[test]
    fn a_failure_frees_the_key() {
        let journal = Journal::in_memory();
        let (_, mut claim) = claimed(&journal, "k");
        claim.begin(None).unwrap();
        claim.give_up();
        assert_eq!(claimed(&journal, "k").0, Known::New);
        assert_eq!(
            claimed(&journal, "k").0,
            Known::New,
            "dropped before it was begun"
        );
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let journal = Journal::in_memory();
        for i in 0..MAX_KEYS + 5 {
            let (_, mut claim) = claimed(&journal, &i.to_string());
            claim.begin(None).unwrap();
            claim.answer(json!(i));
        }
        assert_eq!(journal.lock().entries.len(), MAX_KEYS);
        assert_eq!(claimed(&journal, "0").0, Known::New);
        assert_eq!(
            journal.claim(&MAX_KEYS.to_string(), "r").0,
            Known::Answered(json!(MAX_KEYS))
        );
    }
}
