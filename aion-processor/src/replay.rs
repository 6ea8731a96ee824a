//! The log read again: from the events alone to where every task stands.

use std::collections::{BTreeMap, BTreeSet};

use aion_types::{EventKind, EventRecord, HandlerId, Json, Status, TaskId, TaskRecord, Timestamp};

use crate::{Error, Result};

/// Where a task stands, as far as the log tells: everything but its texts, the end of its lease
/// (heartbeats are not logged) and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// The task above it.
    pub parent_id: Option<TaskId>,
    /// Where it stands.
    pub status: Status,
    /// Who holds it.
    pub handler_id: Option<HandlerId>,
    /// Its fencing token.
    pub lease_epoch: u64,
    /// How many times it has been claimed and not given back.
    pub attempt: u32,
    /// Holders that vanished since an attempt ended by itself.
    pub crash_count: u32,
    /// Earliest start.
    pub run_after: Option<Timestamp>,
    /// Whether somebody asked for it to stop.
    pub cancel_requested: bool,
    /// Children that have not ended.
    pub open_children: u32,
    /// Tasks that it waits for.
    pub waiting_on: u32,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

impl From<&TaskRecord> for Replayed {
    fn from(task: &TaskRecord) -> Self {
        Self {
            parent_id: task.parent_id,
            status: task.status,
            handler_id: task.handler_id.clone(),
            lease_epoch: task.lease_epoch,
            attempt: task.attempt,
            crash_count: task.crash_count,
            run_after: task.run_after,
            cancel_requested: task.cancel_requested,
            open_children: task.open_children,
            waiting_on: task.waiting_on,
            finished_at: task.finished_at,
        }
    }
}

/// Folds events, in order, into the tasks that they tell of.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// use aion_processor::{Limits, MemTaskStore, NewTask, Processor, Replay, Replayed};
/// use aion_types::{SystemClock, TaskId, Timestamp};
///
/// let processor = Processor::new(MemTaskStore::new(SystemClock, Limits::default()));
/// let task = processor.create(NewTask::new(TaskId::generate(Timestamp::from_ms(0)), "demo", "One")).await?;
/// let mut replay = Replay::default();
/// for event in processor.events(0, 100).await?.events {
///     replay.push(&event)?;
/// }
/// assert_eq!(replay.get(task.id), Some(&Replayed::from(&task)));
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Replay {
    tasks: BTreeMap<TaskId, Replayed>,
    waits: BTreeMap<TaskId, BTreeSet<TaskId>>,
    roots: BTreeMap<TaskId, BTreeSet<TaskId>>,
    grants: BTreeMap<(TaskId, String), u64>,
    last_seq: u64,
}

impl Replay {
    /// Where a task stands.
    pub fn get(&self, task: TaskId) -> Option<&Replayed> {
        self.tasks.get(&task)
    }

    /// Every task.
    pub fn tasks(&self) -> impl Iterator<Item = (TaskId, &Replayed)> {
        self.tasks.iter().map(|(id, task)| (*id, task))
    }

    /// What each task holds: the primitive's name and the token.
    pub fn grants(&self) -> impl Iterator<Item = (TaskId, &str, u64)> {
        self.grants
            .iter()
            .map(|((task, primitive), token)| (*task, primitive.as_str(), *token))
    }

    /// Takes the next event of the log. The events of a tree that was removed are gone with it, so
    /// the numbers may have gaps.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it does not come after the last one, or makes no sense.
    pub fn push(&mut self, event: &EventRecord) -> Result<()> {
        if event.seq <= self.last_seq {
            return Err(Error::Corrupt(format!(
                "event {} follows event {}",
                event.seq, self.last_seq
            )));
        }
        self.last_seq = event.seq;
        match event.kind {
            EventKind::Created => self.created(event),
            EventKind::Message | EventKind::Step => Ok(()),
            EventKind::Acquired => self.acquired(event),
            EventKind::Returned => self.returned(event),
            EventKind::Purged => {
                self.purged(event.task_id);
                Ok(())
            }
            _ => self.changed(event),
        }
    }

    fn created(&mut self, event: &EventRecord) -> Result<()> {
        let parent_id = event.body.get("parent_id").and_then(Json::as_str);
        let parent_id = parent_id
            .map(|id| id.parse().map_err(|_| bad(event, "parent_id")))
            .transpose()?;
        let mut task = Replayed {
            parent_id,
            status: Status::Preparing,
            handler_id: None,
            lease_epoch: 0,
            attempt: 0,
            crash_count: 0,
            run_after: moment(event, "run_after"),
            cancel_requested: false,
            open_children: 0,
            waiting_on: 0,
            finished_at: None,
        };
        if let Some(state) = event.body.get("imported") {
            taken_over(event, state, &mut task)?;
        }
        if let Some(parent) = parent_id.filter(|_| !task.status.is_terminal()) {
            self.task(event, parent)?.open_children += 1;
        }
        self.roots.entry(event.root_id).or_default().insert(event.task_id);
        self.tasks.insert(event.task_id, task);
        Ok(())
    }

    fn acquired(&mut self, event: &EventRecord) -> Result<()> {
        let token = number(event, "token")?;
        self.grants.insert((event.task_id, primitive(event)?), token);
        Ok(())
    }

    fn returned(&mut self, event: &EventRecord) -> Result<()> {
        self.grants.remove(&(event.task_id, primitive(event)?));
        Ok(())
    }

    fn purged(&mut self, root: TaskId) {
        for task in self.roots.remove(&root).unwrap_or_default() {
            self.tasks.remove(&task);
        }
    }

    fn changed(&mut self, event: &EventRecord) -> Result<()> {
        let status = status_of(event).ok_or_else(|| bad(event, "status"))?;
        let task = self.task(event, event.task_id)?;
        task.status = status;
        task.run_after = moment(event, "run_after");
        if status != Status::Running {
            task.handler_id = None;
        }
        if status == Status::Ready {
            task.waiting_on = 0;
        }
        match event.kind {
            EventKind::Claimed => {
                task.lease_epoch = number(event, "epoch")?;
                task.attempt += 1;
                let handler = event.body.get("handler_id").and_then(Json::as_str);
                task.handler_id = handler.and_then(|id| HandlerId::new(id).ok());
            }
            EventKind::Released => task.attempt = task.attempt.saturating_sub(1),
            EventKind::LeaseExpired => {
                task.attempt = task.attempt.saturating_sub(1);
                task.crash_count = task.crash_count.saturating_add(1);
            }
            EventKind::CancelRequested => task.cancel_requested = true,
            _ => {}
        }
        let ends_by_itself = matches!(
            event.kind,
            EventKind::Released | EventKind::Retried | EventKind::Blocked
        );
        // Logs of older versions count on.
        if ends_by_itself && event.body.get("crash_count").is_some() {
            task.crash_count = 0;
        }
        match event.kind {
            EventKind::Blocked => self.blocked(event),
            kind if kind.is_terminal() => self.ended(event, status),
            _ => Ok(()),
        }
    }

    fn blocked(&mut self, event: &EventRecord) -> Result<()> {
        let waits = event.body.get("waits").ok_or_else(|| bad(event, "waits"))?;
        let Some(Json::List(listed)) = waits.get("tasks") else {
            waits.get("primitive").ok_or_else(|| bad(event, "waits"))?;
            let task = self.task(event, event.task_id)?;
            task.attempt = task.attempt.saturating_sub(1);
            task.waiting_on = 1;
            return Ok(());
        };
        let waits: BTreeSet<TaskId> = listed.iter().filter_map(|id| id.as_str()?.parse().ok()).collect();
        let task = self.task(event, event.task_id)?;
        task.attempt = task.attempt.saturating_sub(1);
        task.waiting_on = waits.len() as u32;
        self.waits.insert(event.task_id, waits);
        Ok(())
    }

    fn ended(&mut self, event: &EventRecord, status: Status) -> Result<()> {
        let crashed = event.body.get("crash_count").is_some();
        let task = self.task(event, event.task_id)?;
        task.finished_at = Some(event.at);
        task.waiting_on = 0;
        if crashed {
            task.crash_count = task.crash_count.saturating_add(1);
            task.attempt = task.attempt.saturating_sub(1);
        }
        if status == Status::Cancelled || event.body.get("epoch").is_some() {
            task.lease_epoch = number(event, "epoch")?;
        }
        task.cancel_requested |= status == Status::Cancelled;
        let parent = task.parent_id;
        self.waits.remove(&event.task_id);
        if let Some(parent) = parent {
            let above = self.task(event, parent)?;
            above.open_children = above.open_children.saturating_sub(1);
        }
        for (waiter, waits) in &mut self.waits {
            if waits.remove(&event.task_id)
                && let Some(task) = self.tasks.get_mut(waiter)
            {
                task.waiting_on = waits.len() as u32;
            }
        }
        Ok(())
    }

    fn task(&mut self, event: &EventRecord, id: TaskId) -> Result<&mut Replayed> {
        self.tasks.get_mut(&id).ok_or_else(|| bad(event, "task_id"))
    }
}

/// Where a task stood that was taken over from another store.
fn taken_over(event: &EventRecord, state: &Json, task: &mut Replayed) -> Result<()> {
    let count = |member| match state.get(member) {
        Some(Json::Int(n)) => u64::try_from(*n).map_err(|_| bad(event, member)),
        _ => Err(bad(event, member)),
    };
    let small = |member| count(member).and_then(|n| u32::try_from(n).map_err(|_| bad(event, member)));
    let status = state.get("status").and_then(named_status);
    task.status = status.ok_or_else(|| bad(event, "imported"))?;
    task.lease_epoch = count("epoch")?;
    task.attempt = small("attempt")?;
    task.crash_count = small("crash_count")?;
    task.cancel_requested = state.get("cancel_requested") == Some(&Json::Bool(true));
    task.finished_at = match state.get("finished_at") {
        Some(Json::Int(ms)) => Some(Timestamp::from_ms(*ms)),
        _ => None,
    };
    Ok(())
}

fn primitive(event: &EventRecord) -> Result<String> {
    let name = event.body.get("primitive").and_then(Json::as_str);
    name.map(str::to_owned).ok_or_else(|| bad(event, "primitive"))
}

fn named_status(name: &Json) -> Option<Status> {
    let text = name.as_str()?;
    Status::ALL.into_iter().find(|status| status.as_str() == text)
}

fn status_of(event: &EventRecord) -> Option<Status> {
    named_status(event.body.get("status")?)
}

fn moment(event: &EventRecord, member: &str) -> Option<Timestamp> {
    match event.body.get(member) {
        Some(Json::Int(ms)) => Some(Timestamp::from_ms(*ms)),
        _ => None,
    }
}

fn number(event: &EventRecord, member: &'static str) -> Result<u64> {
    match event.body.get(member) {
        Some(Json::Int(n)) => u64::try_from(*n).map_err(|_| bad(event, member)),
        _ => Err(bad(event, member)),
    }
}

fn bad(event: &EventRecord, member: &str) -> Error {
    Error::Corrupt(format!(
        "event {} ({}) has no good {member}",
        event.seq,
        event.kind.as_str()
    ))
}
