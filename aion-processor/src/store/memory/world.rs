//! Everything that a backend keeps, in the plainest form.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aion_types::{EventKind, EventRecord, Format, Json, MessageRecord, Status, TaskId, Timestamp};

use super::orders::Orders;
use crate::engine::row::{Body, Row};
use crate::engine::rows::{Held, Outcome, Rows, Space};
use crate::{ClaimReq, Delivery, Error, Result, StepRecord, Waiter};

/// Rows of a store that was not told otherwise.
const MAX_ROWS: usize = 10_000_000;

#[derive(Debug, Clone, Default)]
pub(super) struct World {
    /// By place of creation.
    pub(super) tasks: BTreeMap<u64, (Row, Body)>,
    pub(super) by_id: HashMap<TaskId, u64>,
    orders: Orders,
    pub(super) by_key: HashMap<(Option<TaskId>, String), TaskId>,
    pub(super) messages: HashMap<TaskId, Vec<(MessageRecord, Option<String>)>>,
    pub(super) events: Vec<EventRecord>,
    /// `(child, waiter)`, by place of creation.
    pub(super) waits: BTreeSet<(u64, u64)>,
    pub(super) named: BTreeMap<(Space, String), (Option<Timestamp>, String)>,
    /// What is due, the longest due first.
    pub(super) named_due: BTreeSet<(Space, Timestamp, String)>,
    pub(super) holds: BTreeMap<(String, TaskId), Held>,
    pub(super) line: HashMap<TaskId, Waiter>,
    pub(super) items: BTreeMap<(String, u64), Json>,
    pub(super) versions: BTreeMap<(String, u64), Json>,
    pub(super) deliveries: BTreeMap<(String, u64), Delivery>,
    /// By place of creation and `seq`, each with the bytes of all steps up to it.
    pub(super) steps: BTreeMap<(u64, u64), (StepRecord, u64)>,
    next_ord: u64,
    next_seq: u64,
    message_count: usize,
    pub(super) made_ready: u32,
    /// The last event that hints have told of.
    pub(super) hinted: u64,
    pub(super) max_rows: usize,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            max_rows: MAX_ROWS,
            next_ord: 1,
            next_seq: 1,
            ..Self::default()
        }
    }

    pub(super) fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// Whether an operation still fits, with what it may write.
    pub(super) fn room(&self) -> Result<()> {
        if self.is_full() { Err(Error::Full) } else { Ok(()) }
    }

    pub(super) fn is_full(&self) -> bool {
        let tree = self.tasks.len() + self.message_count + self.steps.len() + self.events.len();
        let lines = self.holds.len() + self.line.len() + self.items.len() + self.versions.len();
        let lines = lines + self.deliveries.len();
        tree + lines + self.named.len() + 8 > self.max_rows
    }

    pub(super) fn get(&self, id: TaskId) -> Option<&(Row, Body)> {
        self.by_id.get(&id).and_then(|ord| self.tasks.get(ord))
    }

    pub(super) fn rows(&self) -> impl DoubleEndedIterator<Item = &Row> {
        self.tasks.values().map(|(row, _)| row)
    }

    fn change(&mut self, id: TaskId) -> Result<&mut (Row, Body)> {
        let task = self.by_id.get(&id).and_then(|ord| self.tasks.get_mut(ord));
        task.ok_or(Error::NotFound(id))
    }

    /// Changes a row and the orders in which it stands.
    fn change_row(&mut self, id: TaskId, edit: impl FnOnce(&mut Row)) -> Result<()> {
        let task = self.by_id.get(&id).and_then(|ord| self.tasks.get_mut(ord));
        let (row, _) = task.ok_or(Error::NotFound(id))?;
        self.orders.forget(row);
        edit(row);
        self.orders.add(row);
        Ok(())
    }

    /// The first so many rows by their places of creation.
    fn rows_at(&self, places: impl Iterator<Item = u64>, limit: u32) -> Vec<Row> {
        let found = places.filter_map(|ord| self.tasks.get(&ord));
        found.take(limit as usize).map(|(row, _)| row.clone()).collect()
    }

    /// Ready tasks with this concurrency key, in the order in which they are claimed.
    fn ready_with(&self, key: &str) -> Vec<&Row> {
        let has_key = |row: &&Row| row.concurrency.as_ref().is_some_and(|known| known.key == key);
        let ready = self.rows().filter(|row| row.status == Status::Ready);
        let mut found: Vec<_> = ready.filter(has_key).collect();
        found.sort_by_key(|row| row.rank());
        found
    }

    fn remove(&mut self, row: &Row) {
        if let Some((row, _)) = self.tasks.remove(&row.ord) {
            self.orders.forget(&row);
        }
        self.by_id.remove(&row.id);
        self.steps.retain(|(ord, _), _| *ord != row.ord);
        let gone = self.messages.remove(&row.id);
        self.message_count -= gone.map_or(0, |messages| messages.len());
    }
}

fn may_take(row: &Row, claim: &ClaimReq) -> bool {
    row.status == Status::Ready
        && !row.gated
        && claim.task.is_none_or(|task| row.id == task)
        && (claim.queues.is_empty() || claim.queues.contains(&row.queue))
        && (claim.kinds.is_empty() || claim.kinds.contains(&row.kind))
}

impl Rows for World {
    async fn row(&mut self, id: TaskId) -> Result<Option<Row>> {
        Ok(self.get(id).map(|(row, _)| row.clone()))
    }

    async fn body(&mut self, row: &Row) -> Result<Body> {
        let found = self.get(row.id).map(|(_, body)| body.clone());
        found.ok_or(Error::NotFound(row.id))
    }

    async fn keyed(&mut self, parent: Option<TaskId>, key: &str) -> Result<Option<Row>> {
        let id = self.by_key.get(&(parent, key.to_owned()));
        Ok(id.and_then(|id| self.get(*id)).map(|(row, _)| row.clone()))
    }

    async fn insert(&mut self, row: &mut Row, body: &Body, key: Option<&str>) -> Result<()> {
        row.ord = self.next_ord;
        self.next_ord += 1;
        self.by_id.insert(row.id, row.ord);
        self.orders.add(row);
        self.tasks.insert(row.ord, (row.clone(), body.clone()));
        if let Some(key) = key {
            self.by_key.insert((row.parent_id, key.to_owned()), row.id);
        }
        Ok(())
    }

    async fn put(&mut self, row: &Row, was: Status) -> Result<()> {
        self.change_row(row.id, |known| {
            // Another task's end may have moved this one through its gate since the row was read.
            let gated = if row.status == was { known.gated } else { row.gated };
            *known = Row { gated, ..row.clone() };
        })?;
        self.made_ready += u32::from(row.status == Status::Ready && was != Status::Ready && !row.gated);
        Ok(())
    }

    async fn put_gated(&mut self, row: &Row) -> Result<()> {
        self.change_row(row.id, |known| known.gated = row.gated)?;
        self.made_ready += u32::from(!row.gated);
        Ok(())
    }

    async fn put_outcome(&mut self, row: &Row, outcome: &Outcome) -> Result<()> {
        let body = &mut self.change(row.id)?.1;
        match outcome {
            Outcome::Result(result) => body.result = Some(result.clone()),
            Outcome::Error(error) => body.error = Some(error.clone()),
        }
        Ok(())
    }

    async fn event(&mut self, row: &Row, kind: EventKind, body: Json, at: Timestamp) -> Result<u64> {
        let seq = self.next_seq;
        self.next_seq += 1;
        let (task_id, root_id) = (row.id, row.root_id);
        self.events.push(EventRecord {
            format: Format::default(),
            seq,
            task_id,
            root_id,
            kind,
            body,
            at,
        });
        Ok(seq)
    }

    async fn keyed_message(&mut self, row: &Row, key: &str) -> Result<Option<MessageRecord>> {
        let mut all = self.messages.get(&row.id).into_iter().flatten();
        Ok(all
            .find(|(_, known)| known.as_deref() == Some(key))
            .map(|(message, _)| message.clone()))
    }

    async fn insert_message(&mut self, row: &Row, message: &MessageRecord, key: Option<&str>) -> Result<()> {
        self.message_count += 1;
        let all = self.messages.entry(row.id).or_default();
        all.push((message.clone(), key.map(str::to_owned)));
        Ok(())
    }

    async fn ready(&mut self, claim: &ClaimReq) -> Result<Vec<(Row, Body)>> {
        let tasks: Vec<&(Row, Body)> = match claim.task {
            Some(task) => self.get(task).into_iter().collect(),
            None => {
                let ready: Box<dyn Iterator<Item = u64> + Send> = match claim.queues.as_slice() {
                    [queue] => Box::new(self.orders.ready_in(queue)),
                    _ => Box::new(self.orders.ready()),
                };
                let ready = ready.filter_map(|ord| self.tasks.get(&ord));
                let found = ready.filter(|(row, _)| may_take(row, claim));
                found.take(claim.max as usize).collect()
            }
        };
        let found = tasks.into_iter().filter(|(row, _)| may_take(row, claim));
        Ok(found.take(claim.max as usize).cloned().collect())
    }

    async fn ready_queues(&mut self, from: &str, limit: u32) -> Result<Vec<String>> {
        let queues = self.orders.queues(from).take(limit as usize);
        Ok(queues.map(str::to_owned).collect())
    }

    async fn first_gated(&mut self, key: &str) -> Result<Option<Row>> {
        let ready = self.ready_with(key);
        Ok(ready.into_iter().find(|row| row.gated).cloned())
    }

    async fn last_placed(&mut self, key: &str) -> Result<Option<Row>> {
        let ready = self.ready_with(key);
        Ok(ready.into_iter().rev().find(|row| !row.gated).cloned())
    }

    async fn expired(&mut self, now: Timestamp, limit: u32) -> Result<Vec<Row>> {
        Ok(self.rows_at(self.orders.expired(now), limit))
    }

    async fn delayed(&mut self, now: Timestamp, limit: u32) -> Result<Vec<Row>> {
        Ok(self.rows_at(self.orders.delayed(now), limit))
    }

    async fn children(&mut self, parent: TaskId, after: u64, limit: u32) -> Result<Vec<Row>> {
        let later = self.tasks.range(after + 1..).map(|(_, (row, _))| row);
        let children = later.filter(|row| row.parent_id == Some(parent));
        Ok(children.take(limit as usize).cloned().collect())
    }

    async fn wait(&mut self, waiter: &Row, child: &Row) -> Result<()> {
        self.waits.insert((child.ord, waiter.ord));
        Ok(())
    }

    async fn take_waiters(&mut self, child: &Row) -> Result<Vec<TaskId>> {
        let range = (child.ord, 0)..=(child.ord, u64::MAX);
        let taken: Vec<_> = self.waits.range(range).copied().collect();
        for pair in &taken {
            self.waits.remove(pair);
        }
        let waiters = taken.iter().filter_map(|(_, ord)| self.tasks.get(ord));
        Ok(waiters.map(|(row, _)| row.id).collect())
    }

    async fn drop_waits(&mut self, waiter: &Row) -> Result<()> {
        self.waits.retain(|(_, by)| *by != waiter.ord);
        Ok(())
    }

    async fn open_in_tree(&mut self, root: TaskId) -> Result<Option<TaskId>> {
        let mut tree = self.rows().filter(|row| row.root_id == root);
        Ok(tree.find(|row| !row.status.is_terminal()).map(|row| row.id))
    }

    async fn purge(&mut self, root: TaskId, max: u32) -> Result<u32> {
        let tree = self.rows().rev().filter(|row| row.root_id == root);
        let gone: Vec<Row> = tree.take(max as usize).cloned().collect();
        for row in &gone {
            self.remove(row);
        }
        let ids: BTreeSet<TaskId> = gone.iter().map(|row| row.id).collect();
        self.by_key.retain(|_, id| !ids.contains(id));
        self.events.retain(|event| !ids.contains(&event.task_id));
        Ok(gone.len() as u32)
    }
}
