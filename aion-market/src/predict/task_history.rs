//! How the same task ended before: outcomes by what a task asks for, and by its kind, in time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aion_types::{TaskId, TaskRecord, Timestamp};

use crate::Result;
use crate::error::check;
use crate::features::Prospect;

/// How many ends are kept; the oldest go first.
const MAX_ENDS: usize = 50_000;

/// Outcomes of tasks that have ended, shared by the predictors that look back. Cheap to clone.
///
/// Two tasks are the same if they are of one kind and ask for the same: kind, title and words are equal.
/// A task is told only what had ended when it was made.
///
/// ```
/// use aion_market::predict::TaskHistory;
/// use aion_types::TaskRecord;
///
/// # fn task(n: u8, made: i64, ended: i64) -> TaskRecord {
/// #     let id = aion_types::TaskId::from_parts(aion_types::Timestamp::from_ms(0), [n; 10]);
/// #     serde_json::from_value(serde_json::json!({"id": id, "root_id": id, "depth": 0, "kind": "copy",
/// #         "queue": "q", "title": "Copy a.txt", "spec": "", "status": "READY", "priority": 0,
/// #         "lease_epoch": 0, "attempt": 1, "max_attempts": 3, "crash_count": 0, "open_children": 0,
/// #         "waiting_on": 0, "version": 1, "created_at": made, "updated_at": ended})).unwrap()
/// # }
/// let history = TaskHistory::new();
/// history.ended(&task(1, 0, 5), 1.0);
/// history.ended(&task(2, 0, 6), 1.0);
/// // Two of two, pulled towards the kind's (2 + 1) / (2 + 2) with the strength of 2.
/// assert_eq!(history.success(&task(3, 10, 10), 2.0)?, (2.0 + 2.0 * 0.75) / (2.0 + 2.0));
/// // What was made before they ended knows nothing.
/// assert_eq!(history.success(&task(4, 1, 1), 2.0)?, 0.5);
/// # Ok::<(), aion_market::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct TaskHistory(Arc<Mutex<Ends>>);

/// What a task asks for, in 16 bytes.
type Key = [u8; 16];

#[derive(Debug, Default)]
struct Ends {
    known: BTreeSet<TaskId>,
    order: VecDeque<(TaskId, Key, Timestamp)>,
    by_key: BTreeMap<Key, Vec<End>>,
    /// Which key is of which kind; the kind's own ends are under the key of the kind.
    kind_of: BTreeMap<Key, Key>,
}

#[derive(Debug, Clone, Copy)]
struct End {
    task: TaskId,
    at: Timestamp,
    success: f64,
}

impl TaskHistory {
    /// Nothing has ended yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes how a task ended, in `[0, 1]`; a second time changes nothing.
    pub fn ended(&self, task: &TaskRecord, success: f64) {
        let mut ends = self.lock();
        if !success.is_finite() || !ends.known.insert(task.id) {
            return;
        }
        let end = End {
            task: task.id,
            at: task.updated_at,
            success: success.clamp(0.0, 1.0),
        };
        let (key, kind) = (key_of(task), key_of_kind(&task.kind));
        ends.kind_of.insert(key, kind);
        ends.put(key, end);
        ends.put(kind, end);
        ends.order.push_back((task.id, key, end.at));
        if ends.order.len() > MAX_ENDS {
            ends.forget_oldest();
        }
    }

    /// `(s + k b) / (n + k)`: `s` successes in `n` ends of the same task, pulled with the strength `k`
    /// towards the base rate `b = (s_kind + 1) / (n_kind + 2)` of its kind.
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] if the strength is not finite and above 0.
    pub fn success(&self, task: &TaskRecord, strength: f64) -> Result<f64> {
        let ok = strength.is_finite() && strength > 0.0;
        check("a strength", "finite and above 0", strength, ok)?;
        let (n, s) = self.counts(task);
        Ok((s + strength * self.base_rate(task)) / (n + strength))
    }

    /// The base rate of the task's kind, `(s + 1) / (n + 2)`.
    pub fn base_rate(&self, task: &TaskRecord) -> f64 {
        let (n, s) = self.lock().before(key_of_kind(&task.kind), task);
        (s + 1.0) / (n + 2.0)
    }

    /// The same as log-odds, with the number of ends behind them: what a model is told.
    ///
    /// # Errors
    /// Those of [`success`](Self::success).
    pub fn prospect(&self, task: &TaskRecord, strength: f64) -> Result<Prospect> {
        let p = self.success(task, strength)?;
        let (n, _) = self.counts(task);
        Ok(Prospect::new((p / (1.0 - p)).ln(), n))
    }

    /// `(ends, successes)` of the same task before this one was made.
    pub fn counts(&self, task: &TaskRecord) -> (f64, f64) {
        self.lock().before(key_of(task), task)
    }

    fn lock(&self) -> MutexGuard<'_, Ends> {
        // An end is put whole or not at all under each key; half of one only shifts a frequency.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ends {
    /// Keeps the ends of a key in the order of time.
    fn put(&mut self, key: Key, end: End) {
        let ends = self.by_key.entry(key).or_default();
        let place = ends.partition_point(|other| other.at <= end.at);
        ends.insert(place, end);
    }

    /// `(ends, successes)` under a key before a task was made, without its own.
    fn before(&self, key: Key, task: &TaskRecord) -> (f64, f64) {
        let ends = self.by_key.get(&key).map_or(&[][..], Vec::as_slice);
        let known = &ends[..ends.partition_point(|end| end.at <= task.created_at)];
        let others = known.iter().filter(|end| end.task != task.id);
        others.fold((0.0, 0.0), |(n, s), end| (n + 1.0, s + end.success))
    }

    fn forget_oldest(&mut self) {
        let Some((task, key, _)) = self.order.pop_front() else {
            return;
        };
        self.known.remove(&task);
        let kind = self.kind_of.get(&key).copied();
        for key in [Some(key), kind].into_iter().flatten() {
            if let Some(ends) = self.by_key.get_mut(&key) {
                ends.retain(|end| end.task != task);
                if ends.is_empty() {
                    self.by_key.remove(&key);
                    self.kind_of.remove(&key);
                }
            }
        }
    }
}

fn key_of(task: &TaskRecord) -> Key {
    short(&[&task.kind, &task.title, &task.spec])
}

fn key_of_kind(kind: &str) -> Key {
    short(&[kind])
}

/// Length before text, so that no two lists of texts read the same.
fn short(texts: &[&str]) -> Key {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        hasher.update(&(text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    let mut key = [0; 16];
    key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    key
}
