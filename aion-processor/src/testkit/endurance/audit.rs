//! Holds a store against the notes of those who worked with it.

use std::collections::{HashMap, HashSet};

use aion_types::{EventKind, Status, TaskId, TaskRecord};

use super::Note;
use super::work::SEMAPHORE;
use crate::{EventQuery, Fence, MessageQuery, Processor, Replay, Replayed, Result, TaskQuery};

/// Audits after which a tree is gone that was to be removed.
const REMOVED_WITHIN: u64 = 10;

/// What is known of a task.
#[derive(Debug, Clone)]
struct Known {
    root: TaskId,
    created: bool,
    said: bool,
    /// Under which epochs it was handed out.
    claimed: HashSet<u64>,
    completed: Option<u64>,
    /// The audit that found that it has ended.
    ended: Option<u64>,
}

impl Known {
    fn promised(&self) -> bool {
        self.created || self.said || !self.claimed.is_empty() || self.completed.is_some()
    }
}

/// What an audit found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Answers in the notes.
    pub acknowledged: u64,
    /// Ends among them.
    pub completed: u64,
    /// Tasks that were asked for without an answer, and are there, whole.
    pub unanswered_there: u64,
    /// Tasks that were asked for without an answer, and of which nothing is there.
    pub unanswered_absent: u64,
    /// Broken promises, in words: must be empty.
    pub faults: Vec<String>,
}

/// What workers were promised so far, over any number of kills.
///
/// Tasks that have ended are looked at once more in the next audit, and forgotten then, so that the trees of
/// tasks that ended before the last audit may be removed.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    open: HashMap<TaskId, Known>,
    /// Roots of trees that were to be removed, and the audit that heard of it first.
    removing: HashMap<TaskId, u64>,
    round: u64,
}

impl Audit {
    /// Nothing was promised yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds the store against what was noted since the last audit (whole lines) and what is open since.
    ///
    /// # Errors
    /// A failure of the storage.
    pub async fn check(&mut self, processor: &Processor, notes: &str) -> Result<Report> {
        self.round += 1;
        let mut report = Report::default();
        for line in notes.lines() {
            match line.parse() {
                Ok(note) => self.learn(note, &mut report),
                Err(error) => report.faults.push(error.to_string()),
            }
        }
        let round = self.round;
        self.open
            .retain(|_, known| known.ended.is_none_or(|ended| ended + 1 >= round));
        self.removing.retain(|_, heard| *heard + REMOVED_WITHIN > round);
        let tasks: Vec<TaskId> = self.open.keys().copied().collect();
        for task in tasks {
            self.look(processor, task, &mut report).await?;
        }
        Ok(report)
    }

    fn learn(&mut self, note: Note, report: &mut Report) {
        match note {
            Note::Asked { task, root } => {
                let known = Known {
                    root,
                    created: false,
                    said: false,
                    claimed: HashSet::new(),
                    completed: None,
                    ended: None,
                };
                self.open.insert(task, known);
            }
            Note::Removing(root) => {
                self.removing.insert(root, self.round);
            }
            Note::Created(task) => self.promise(task, report, |known, _| {
                known.created = true;
                None
            }),
            Note::Claimed(fence) => self.promise(fence.task, report, |known, _| claimed(known, fence)),
            Note::Said(fence) => self.promise(fence.task, report, |known, _| {
                known.said = true;
                None
            }),
            Note::Completed(fence) => self.promise(fence.task, report, |known, report| {
                report.completed += 1;
                completed(known, fence)
            }),
        }
    }

    fn promise(
        &mut self,
        task: TaskId,
        report: &mut Report,
        keep: impl FnOnce(&mut Known, &mut Report) -> Option<String>,
    ) {
        report.acknowledged += 1;
        let fault = match self.open.get_mut(&task) {
            Some(known) => keep(known, report),
            None => Some(format!(
                "an answer about task {task}, which ended long ago or was not asked for"
            )),
        };
        report.faults.extend(fault);
    }

    async fn look(&mut self, processor: &Processor, task: TaskId, report: &mut Report) -> Result<()> {
        let Some(known) = self.open.get_mut(&task) else {
            return Ok(());
        };
        let Some(record) = processor.find(task).await? else {
            if !known.promised() {
                report.unanswered_absent += 1;
            } else if !self.removing.contains_key(&known.root) {
                report.faults.push(format!("task {task} is lost: {known:?}"));
            }
            self.open.remove(&task);
            return Ok(());
        };
        if !known.promised() {
            report.unanswered_there += 1;
        }
        let ended = known.ended.is_some();
        if record.status.is_terminal() {
            known.ended.get_or_insert(self.round);
        }
        if !ended {
            let known = known.clone();
            report.faults.extend(compare(processor, &known, &record).await?);
        }
        Ok(())
    }
}

fn claimed(known: &mut Known, fence: Fence) -> Option<String> {
    let twice = !known.claimed.insert(fence.epoch);
    twice.then(|| format!("epoch {} of task {} was given twice", fence.epoch, fence.task))
}

fn completed(known: &mut Known, fence: Fence) -> Option<String> {
    let task = fence.task;
    if let Some(before) = known.completed.replace(fence.epoch) {
        return Some(format!(
            "task {task} was completed under {before} and {}",
            fence.epoch
        ));
    }
    let unheld = !known.claimed.contains(&fence.epoch);
    unheld.then(|| {
        format!(
            "task {task} was completed under epoch {}, which nobody got",
            fence.epoch
        )
    })
}

/// Whether a task is there as it was promised, and whole.
async fn compare(processor: &Processor, known: &Known, task: &TaskRecord) -> Result<Option<String>> {
    let id = task.id;
    let newest = known.claimed.iter().max().copied().unwrap_or(0);
    if newest > task.lease_epoch {
        return Ok(Some(format!(
            "task {id} is at epoch {}, but {newest} was given",
            task.lease_epoch
        )));
    }
    if let Some(epoch) = known.completed
        && (task.status, task.lease_epoch) != (Status::Completed, epoch)
    {
        let stands = (task.status, task.lease_epoch);
        return Ok(Some(format!(
            "task {id} was completed under {epoch}, but is {stands:?}"
        )));
    }
    let query = EventQuery {
        task: Some(id),
        limit: 2,
        ..EventQuery::default()
    };
    let events = processor.events_of(query).await?.events;
    let kinds: Vec<EventKind> = events.iter().map(|event| event.kind).collect();
    if kinds != [EventKind::Created, EventKind::Ready] || task.payload == aion_types::Json::Null {
        return Ok(Some(format!("task {id} is half there: {kinds:?}")));
    }
    let messages = processor.messages(id, MessageQuery::new()).await?.messages.len();
    let wrong = messages > 1 || (known.said && messages == 0);
    Ok(wrong.then(|| format!("task {id} has {messages} messages")))
}

/// What is wrong with the tree as a whole: it must equal what its log tells. The first fault, in words.
///
/// # Errors
/// A failure of the storage.
pub async fn sound(processor: &Processor) -> Result<Option<String>> {
    let mut replay = Replay::default();
    let mut after = 0;
    loop {
        let page = processor.events(after, 1_000).await?;
        for event in &page.events {
            replay.push(event)?;
        }
        if page.events.is_empty() {
            break;
        }
        after = page.next;
    }
    let mut query = TaskQuery::new().with_limit(1_000);
    let mut counted = [0; 7];
    loop {
        let page = processor.tasks(query.clone()).await?;
        for task in &page.tasks {
            if replay.get(task.id) != Some(&Replayed::from(task)) {
                return Ok(Some(format!(
                    "the log tells {:?} of {task:?}",
                    replay.get(task.id)
                )));
            }
            counted[task.status as usize] += 1;
        }
        let Some(next) = page.next else { break };
        query.cursor = Some(next);
    }
    let tasks: u64 = counted.iter().sum();
    if replay.tasks().count() as u64 != tasks || processor.counts().await?.0 != counted {
        return Ok(Some(format!(
            "{tasks} tasks are there, but the counts say otherwise"
        )));
    }
    Ok(None)
}

/// What is wrong once all leases are over: nothing may run any more, and the semaphore's line must move. The first
/// fault, in words.
///
/// # Errors
/// A failure of the storage.
pub async fn settled(processor: &Processor) -> Result<Option<String>> {
    while processor.tick().await?.more {}
    let running = processor.counts().await?.of(Status::Running);
    if running > 0 {
        return Ok(Some(format!(
            "{running} tasks still run although their holders are gone"
        )));
    }
    let waits = processor.waits(Some(SEMAPHORE.0.to_owned())).await?;
    for (task, wanted) in waits
        .holders
        .iter()
        .map(|holder| (holder.task, Status::Ready))
        .chain(waits.waiters.iter().map(|waiter| (waiter.task, Status::Blocked)))
    {
        let status = processor.get(task).await?.status;
        if status != wanted {
            return Ok(Some(format!("task {task} holds or waits, but is {status}")));
        }
    }
    let semaphore = processor.primitive(SEMAPHORE.0).await?;
    let counted = (semaphore.held as usize, semaphore.waiting as usize);
    let stuck = semaphore.held > SEMAPHORE.1 || (semaphore.waiting > 0 && semaphore.held < SEMAPHORE.1);
    let wrong = stuck || counted != (waits.holders.len(), waits.waiters.len());
    Ok(wrong.then(|| format!("{semaphore:?} with {waits:?}")))
}
