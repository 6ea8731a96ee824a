//! Executions that were started and can be asked for: while they run, and some time after.

mod events;

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use aion_machine::audit::redacted;
use aion_machine::wire::Ended;
use aion_machine::{ExecCursor, ExecHandle, Execution, RelPath};
use aion_service::Problem;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use utoipa::ToSchema;

pub(crate) use self::events::stream;
use crate::options::ExecutionOptions;
use crate::problem::Refusal;

/// How an execution came to its end.
pub(crate) type Done = Result<Ended, Refusal>;

/// All executions that can be asked for, and how many run for each task.
#[derive(Debug)]
pub(crate) struct Executions {
    options: ExecutionOptions,
    running: Arc<Mutex<BTreeMap<RelPath, usize>>>,
    kept: Arc<Mutex<Kept>>,
}

/// Those that can be asked for, and room for those that are being started.
#[derive(Debug, Default)]
struct Kept {
    entries: VecDeque<Arc<Entry>>,
    reserved: usize,
}

/// One execution.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: String,
    cwd: RelPath,
    command: String,
    started_ms: u64,
    pub(crate) handle: ExecHandle,
    /// How it ended, once it has.
    pub(crate) done: watch::Receiver<Option<Arc<Done>>>,
    ended: Mutex<Option<Instant>>,
}

/// Whether an execution goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// It does.
    Running,
    /// It does not.
    Ended,
}

/// What is known of an execution.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExecutionStatus {
    /// By which it is asked for.
    pub(crate) id: String,
    /// Whether it goes on.
    state: Phase,
    /// Its command line, shortened, without what looks like a secret.
    command: String,
    /// When it was started, in milliseconds since 1970.
    started_ms: u64,
    /// How many bytes it wrote to standard output so far.
    stdout_bytes: u64,
    /// How many to standard error.
    stderr_bytes: u64,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    result: Option<Ended>,
    /// Why there is no such end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Object)]
    problem: Option<Refusal>,
}

/// A place among the executions of a task, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    cwd: RelPath,
    running: Arc<Mutex<BTreeMap<RelPath, usize>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut running = lock(&self.running);
        if let Some(count) = running.get_mut(&self.cwd) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.cwd);
            }
        }
    }
}

/// Room to remember one more, and its place among those of its task.
#[derive(Debug)]
pub(crate) struct Reserved {
    place: Place,
    room: Room,
}

/// Room for one, until it is dropped.
#[derive(Debug)]
struct Room(Arc<Mutex<Kept>>);

impl Drop for Room {
    fn drop(&mut self) {
        lock(&self.0).reserved -= 1;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Executions {
    pub(crate) fn new(options: ExecutionOptions) -> Self {
        Self {
            options,
            running: Arc::default(),
            kept: Arc::default(),
        }
    }

    pub(crate) fn max_replay_bytes(&self) -> usize {
        self.options.max_replay_bytes
    }

    /// A place for one more execution of a task.
    pub(crate) fn place(&self, cwd: &RelPath) -> Result<Place, Problem> {
        let limit = self.options.max_per_task;
        let mut running = lock(&self.running);
        let count = running.entry(cwd.clone()).or_default();
        if *count >= limit {
            let detail = format!("{limit} executions of this task are running already");
            return Err(Problem::too_many("task_busy", detail, 1));
        }
        *count += 1;
        Ok(Place {
            cwd: cwd.clone(),
            running: Arc::clone(&self.running),
        })
    }

    /// A place for one that is about to be started, and room to remember it; those that ended first make some.
    pub(crate) fn reserve(&self, cwd: &RelPath) -> Result<Reserved, Problem> {
        let place = self.place(cwd)?;
        let mut kept = lock(&self.kept);
        self.forget(&mut kept.entries);
        if kept.entries.len() + kept.reserved >= self.options.max_kept {
            let ended = |entry: &Arc<Entry>| lock(&entry.ended).is_some();
            let Some(oldest) = kept.entries.iter().position(ended) else {
                let running = kept.entries.len() + kept.reserved;
                let detail = format!("{running} executions are running already");
                return Err(Problem::unavailable("busy", detail));
            };
            kept.entries.remove(oldest);
        }
        kept.reserved += 1;
        let room = Room(Arc::clone(&self.kept));
        Ok(Reserved { place, room })
    }

    /// Keeps an execution, and sees to it that its end becomes known.
    pub(crate) fn keep(
        &self,
        Reserved { place, room }: Reserved,
        argv: &[String],
        execution: Execution,
        at_end: impl FnOnce(&Done) + Send + 'static,
    ) -> Arc<Entry> {
        let (ending, done) = watch::channel(None);
        let entry = Arc::new(Entry {
            id: fresh_id(),
            cwd: place.cwd.clone(),
            command: command_line(argv, 200),
            started_ms: now_ms(),
            handle: execution.handle(),
            done,
            ended: Mutex::default(),
        });
        lock(&self.kept).entries.push_back(Arc::clone(&entry));
        drop(room);
        let kept = Arc::clone(&entry);
        tokio::spawn(async move {
            let done = execution.wait().await;
            let done = done
                .map(|output| (&output).into())
                .map_err(|e| Refusal::of(&e, "cwd"));
            drop(place);
            *lock(&kept.ended) = Some(Instant::now());
            at_end(&done);
            ending.send_replace(Some(Arc::new(done)));
        });
        entry
    }

    fn forget(&self, entries: &mut VecDeque<Arc<Entry>>) {
        let keep = self.options.keep;
        entries.retain(|entry| lock(&entry.ended).is_none_or(|ended| ended.elapsed() <= keep));
    }

    /// An execution of a task. Those of others are as if they were not there.
    pub(crate) fn get(&self, cwd: &RelPath, id: &str) -> Result<Arc<Entry>, Problem> {
        let mut kept = lock(&self.kept);
        self.forget(&mut kept.entries);
        let found = kept
            .entries
            .iter()
            .find(|entry| entry.id == id && entry.cwd == *cwd);
        found.cloned().ok_or_else(|| {
            let detail = "there is no such execution of this task, or it ended a while ago";
            Problem::not_found("unknown_execution", detail)
        })
    }

    /// The executions of a task, the oldest first.
    pub(crate) fn list(&self, cwd: &RelPath) -> Vec<ExecutionStatus> {
        let mut kept = lock(&self.kept);
        self.forget(&mut kept.entries);
        let own = kept.entries.iter().filter(|entry| entry.cwd == *cwd);
        own.map(|entry| entry.status()).collect()
    }
}

/// A command line to be shown: shortened, without what looks like a secret.
pub(crate) fn command_line(argv: &[String], max_chars: usize) -> String {
    redacted(argv).join(" ").chars().take(max_chars).collect()
}

impl Entry {
    /// What the audit log says of what is done to it.
    pub(crate) fn named(&self) -> Value {
        json!({"execution": self.id, "command": self.command})
    }

    pub(crate) fn status(&self) -> ExecutionStatus {
        let done = self.done.borrow().clone();
        let ExecCursor { stdout, stderr } = self.handle.written();
        ExecutionStatus {
            id: self.id.clone(),
            state: if done.is_some() {
                Phase::Ended
            } else {
                Phase::Running
            },
            command: self.command.clone(),
            started_ms: self.started_ms,
            stdout_bytes: stdout,
            stderr_bytes: stderr,
            result: done
                .as_ref()
                .and_then(|done| done.as_ref().as_ref().ok().cloned()),
            problem: done
                .as_ref()
                .and_then(|done| done.as_ref().as_ref().err().cloned()),
        }
    }
}

/// A name that nobody can guess from another one.
fn fresh_id() -> String {
    let half = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", half(), half())
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
