//! The task tree in memory: the reference model of the tests, and a store for programs that need
//! no disk.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use aion_types::{
    Clock, EventKind, EventRecord, Format, Json, MessageRecord, Status, TaskId, TaskRecord, Timestamp,
};
use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::sync::{Mutex, broadcast};

use super::{DueReport, SchemaInfo, TaskStore, Wake, hints, page_size};
use crate::engine::apply::{apply, claim, due};
use crate::engine::check;
use crate::engine::row::{Body, Row};
use crate::engine::rows::{Outcome, Rows};
use crate::query::{is_overdue, retries};
use crate::{
    ChildCounts, ClaimReq, Cursor, Done, Error, EventPage, EventQuery, Lease, Limits, MessagePage,
    MessageQuery, Order, Page, Query, Result, StatusCounts, TaskPage, TaskQuery, Write,
};

/// A store that forgets everything with the process.
///
/// It holds at most as many tasks, messages and events as [`with_max_rows`](Self::with_max_rows)
/// says, then it is full.
#[derive(Debug)]
pub struct MemTaskStore {
    clock: Arc<dyn Clock>,
    limits: Limits,
    world: Mutex<World>,
    wake: broadcast::Sender<Wake>,
}

impl MemTaskStore {
    /// An empty store.
    pub fn new(clock: impl Clock, limits: Limits) -> Self {
        let world = World {
            max_rows: 10_000_000,
            ..World::default()
        };
        Self {
            clock: Arc::new(clock),
            limits,
            world: Mutex::new(world),
            wake: broadcast::channel(64).0,
        }
    }

    /// Sets how many tasks, messages and events it holds together.
    #[must_use]
    pub fn with_max_rows(mut self, rows: usize) -> Self {
        self.world.get_mut().max_rows = rows;
        self
    }

    fn hint(&self, world: &mut World) {
        let ready = std::mem::take(&mut world.made_ready);
        if std::mem::replace(&mut world.hinted, world.events.len()) == world.events.len() {
            return;
        }
        // Nobody listening is fine: the hint is only a hint.
        let _ = self.wake.send(Wake {
            last_seq: world.events.len() as u64,
            ready,
        });
    }
}

#[async_trait]
impl TaskStore for MemTaskStore {
    async fn open_schema(&self) -> Result<SchemaInfo> {
        Ok(SchemaInfo {
            engine: "memory".to_owned(),
            version: 1,
        })
    }

    async fn apply(&self, writes: Vec<Write>) -> Result<Vec<Result<Done>>> {
        check::at_most("writes", writes.len() as u64, self.limits.max_ops as u64)?;
        let mut world = self.world.lock().await;
        let now = self.clock.now();
        let mut done = Vec::with_capacity(writes.len());
        for write in &writes {
            let room = world.room();
            done.push(match room {
                Ok(()) => apply(&mut *world, &self.limits, now, &write.op).await,
                Err(full) => Err(full),
            });
        }
        self.hint(&mut world);
        Ok(done)
    }

    async fn claim(&self, req: ClaimReq) -> Result<Vec<Lease>> {
        let mut world = self.world.lock().await;
        world.room()?;
        let leases = claim(&mut *world, &self.limits, self.clock.now(), &req).await?;
        self.hint(&mut world);
        Ok(leases)
    }

    async fn due(&self, limit: u32) -> Result<DueReport> {
        let mut world = self.world.lock().await;
        let report = due(&mut *world, &self.limits, self.clock.now(), limit).await?;
        self.hint(&mut world);
        Ok(report)
    }

    async fn read(&self, query: Query) -> Result<Page> {
        let world = self.world.lock().await;
        let max = self.limits.max_page;
        match query {
            Query::Task(id) => Ok(Page::Task(world.record(id).map(Box::new))),
            Query::Tasks(query) => world.tasks(&query, page_size(query.limit, max)?).map(Page::Tasks),
            Query::Ended(limit) => Ok(Page::Tasks(world.ended(page_size(limit, max)?))),
            Query::Messages(task, query) => world
                .messages(task, query, page_size(query.limit, max)?)
                .map(Page::Messages),
            Query::Events(query) => Ok(Page::Events(world.log(query, page_size(query.limit, max)?))),
            Query::Counts => Ok(Page::Counts(world.counts())),
            Query::Children(task) => world.children(task, self.clock.now()).map(Page::Children),
        }
    }

    async fn now(&self) -> Result<Timestamp> {
        Ok(self.clock.now())
    }

    fn wake(&self) -> BoxStream<'static, Wake> {
        hints(self.wake.subscribe())
    }
}

/// Everything that a backend keeps, in the plainest form.
#[derive(Debug, Default)]
struct World {
    tasks: Vec<(Row, Body)>,
    by_id: HashMap<TaskId, usize>,
    by_key: HashMap<(Option<TaskId>, String), TaskId>,
    messages: HashMap<TaskId, Vec<(MessageRecord, Option<String>)>>,
    events: Vec<EventRecord>,
    /// `(child, waiter)`, by place of creation.
    waits: BTreeSet<(u64, u64)>,
    message_count: usize,
    made_ready: u32,
    /// Events that hints have told of.
    hinted: usize,
    max_rows: usize,
}

impl World {
    /// Whether an operation still fits, with what it may write.
    fn room(&self) -> Result<()> {
        let rows = self.tasks.len() + self.message_count + self.events.len();
        if rows + 8 > self.max_rows {
            Err(Error::Full)
        } else {
            Ok(())
        }
    }

    fn get(&self, id: TaskId) -> Option<&(Row, Body)> {
        self.by_id.get(&id).map(|place| &self.tasks[*place])
    }

    fn record(&self, id: TaskId) -> Option<TaskRecord> {
        self.get(id).map(record_of)
    }

    fn tasks(&self, query: &TaskQuery, limit: u32) -> Result<TaskPage> {
        let from = query
            .cursor
            .as_ref()
            .map(|cursor| cursor.position_in(query.order))
            .transpose()?;
        let fits = |(row, _): &&(Row, Body)| {
            fits(row, query)
                && match query.order {
                    Order::Oldest => from.is_none_or(|from| row.ord > from),
                    Order::Newest => from.is_none_or(|from| row.ord < from),
                }
        };
        let wanted = limit as usize + 1;
        let found: Vec<_> = match query.order {
            Order::Oldest => self.tasks.iter().filter(fits).take(wanted).collect(),
            Order::Newest => self.tasks.iter().rev().filter(fits).take(wanted).collect(),
        };
        let kept = &found[..found.len().min(limit as usize)];
        let more = found.len() > kept.len();
        let next = kept
            .last()
            .filter(|_| more)
            .map(|(row, _)| Cursor::new(query.order, row.ord));
        Ok(TaskPage {
            tasks: kept.iter().map(|task| record_of(task)).collect(),
            next,
        })
    }

    fn ended(&self, limit: u32) -> TaskPage {
        let mut ended: Vec<_> = self
            .tasks
            .iter()
            .filter(|(row, _)| row.finished_at.is_some())
            .collect();
        ended.sort_by_key(|(row, _)| std::cmp::Reverse((row.finished_at, row.ord)));
        TaskPage {
            tasks: ended.into_iter().take(limit as usize).map(record_of).collect(),
            next: None,
        }
    }

    fn messages(&self, task: TaskId, query: MessageQuery, limit: u32) -> Result<MessagePage> {
        self.get(task).ok_or(Error::NotFound(task))?;
        let all = self
            .messages
            .get(&task)
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .map(|(message, _)| message);
        let found: Vec<_> = match query.order {
            Order::Oldest => all
                .filter(|m| m.seq > query.from)
                .take(limit as usize + 1)
                .cloned()
                .collect(),
            Order::Newest => all
                .rev()
                .filter(|m| query.from == 0 || m.seq < query.from)
                .take(limit as usize + 1)
                .cloned()
                .collect(),
        };
        Ok(message_page(found, limit))
    }

    fn log(&self, query: EventQuery, limit: u32) -> EventPage {
        let fits = |event: &&EventRecord| query.task.is_none_or(|task| event.task_id == task);
        let start = usize::try_from(query.after)
            .unwrap_or(usize::MAX)
            .min(self.events.len());
        let events: Vec<_> = self.events[start..]
            .iter()
            .filter(fits)
            .take(limit as usize)
            .cloned()
            .collect();
        EventPage {
            next: events.last().map_or(query.after, |event| event.seq),
            events,
        }
    }

    fn counts(&self) -> StatusCounts {
        self.tasks
            .iter()
            .fold(StatusCounts::default(), |mut counts, (row, _)| {
                counts.0[row.status as usize] += 1;
                counts
            })
    }

    fn children(&self, task: TaskId, now: Timestamp) -> Result<ChildCounts> {
        let (parent, _) = self.get(task).ok_or(Error::NotFound(task))?;
        let mut counts = ChildCounts {
            retries: retries(parent.attempt, parent.crash_count),
            ..ChildCounts::default()
        };
        for (row, _) in self.tasks.iter().filter(|(row, _)| row.parent_id == Some(task)) {
            counts.statuses.0[row.status as usize] += 1;
            counts.overdue += u64::from(is_overdue(row.status, row.deadline, now));
        }
        Ok(counts)
    }

    fn find(&self, limit: u32, wanted: impl Fn(&Row) -> Option<Timestamp>) -> Vec<Row> {
        let mut found: Vec<_> = self
            .tasks
            .iter()
            .filter_map(|(row, _)| wanted(row).map(|at| (at, row.ord, row)))
            .collect();
        found.sort_by_key(|(at, ord, _)| (*at, *ord));
        found
            .into_iter()
            .take(limit as usize)
            .map(|(_, _, row)| row.clone())
            .collect()
    }
}

/// Cuts the page out of what was found, which is one item longer if there is more.
pub(crate) fn message_page(mut found: Vec<MessageRecord>, limit: u32) -> MessagePage {
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    MessagePage {
        next: found.last().filter(|_| more).map(|message| message.seq),
        messages: found,
    }
}

fn record_of((row, body): &(Row, Body)) -> TaskRecord {
    row.clone().record(body.clone())
}

fn fits(row: &Row, query: &TaskQuery) -> bool {
    query.parent.is_none_or(|parent| row.parent_id == Some(parent))
        && query.root.is_none_or(|root| row.root_id == root)
        && (query.statuses.is_empty() || query.statuses.contains(&row.status))
        && query.kind.as_ref().is_none_or(|kind| row.kind == *kind)
        && query.queue.as_ref().is_none_or(|queue| row.queue == *queue)
        && query
            .handler
            .as_ref()
            .is_none_or(|handler| row.handler_id.as_ref() == Some(handler))
}

fn may_take(row: &Row, claim: &ClaimReq) -> bool {
    row.status == Status::Ready
        && claim.task.is_none_or(|task| row.id == task)
        && (claim.queues.is_empty() || claim.queues.contains(&row.queue))
        && (claim.kinds.is_empty() || claim.kinds.contains(&row.kind))
}

impl Rows for World {
    async fn row(&mut self, id: TaskId) -> Result<Option<Row>> {
        Ok(self.get(id).map(|(row, _)| row.clone()))
    }

    async fn body(&mut self, row: &Row) -> Result<Body> {
        self.get(row.id)
            .map(|(_, body)| body.clone())
            .ok_or(Error::NotFound(row.id))
    }

    async fn keyed(&mut self, parent: Option<TaskId>, key: &str) -> Result<Option<Row>> {
        let id = self.by_key.get(&(parent, key.to_owned()));
        Ok(id.and_then(|id| self.get(*id)).map(|(row, _)| row.clone()))
    }

    async fn insert(&mut self, row: &mut Row, body: &Body, key: Option<&str>) -> Result<()> {
        row.ord = self.tasks.len() as u64 + 1;
        self.by_id.insert(row.id, self.tasks.len());
        self.tasks.push((row.clone(), body.clone()));
        if let Some(key) = key {
            self.by_key.insert((row.parent_id, key.to_owned()), row.id);
        }
        Ok(())
    }

    async fn put(&mut self, row: &Row, was: Status) -> Result<()> {
        let place = *self.by_id.get(&row.id).ok_or(Error::NotFound(row.id))?;
        self.tasks[place].0 = row.clone();
        self.made_ready += u32::from(row.status == Status::Ready && was != Status::Ready);
        Ok(())
    }

    async fn put_outcome(&mut self, row: &Row, outcome: &Outcome) -> Result<()> {
        let place = *self.by_id.get(&row.id).ok_or(Error::NotFound(row.id))?;
        let body = &mut self.tasks[place].1;
        match outcome {
            Outcome::Result(result) => body.result = Some(result.clone()),
            Outcome::Error(error) => body.error = Some(error.clone()),
        }
        Ok(())
    }

    async fn event(&mut self, row: &Row, kind: EventKind, body: Json, at: Timestamp) -> Result<u64> {
        let seq = self.events.len() as u64 + 1;
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
        self.messages
            .entry(row.id)
            .or_default()
            .push((message.clone(), key.map(str::to_owned)));
        Ok(())
    }

    async fn ready(&mut self, claim: &ClaimReq) -> Result<Vec<(Row, Body)>> {
        let mut found: Vec<_> = self
            .tasks
            .iter()
            .filter(|(row, _)| may_take(row, claim))
            .collect();
        found.sort_by_key(|(row, _)| (std::cmp::Reverse(row.priority), row.ready_seq));
        Ok(found.into_iter().take(claim.max as usize).cloned().collect())
    }

    async fn expired(&mut self, now: Timestamp, limit: u32) -> Result<Vec<Row>> {
        Ok(self.find(limit, |row| row.lease_until.filter(|until| *until <= now)))
    }

    async fn delayed(&mut self, now: Timestamp, limit: u32) -> Result<Vec<Row>> {
        let preparing = |row: &Row| row.status == Status::Preparing;
        Ok(self.find(limit, |row| {
            row.run_after.filter(|at| preparing(row) && *at <= now)
        }))
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
        Ok(taken
            .into_iter()
            .map(|(_, ord)| self.tasks[ord as usize - 1].0.id)
            .collect())
    }

    async fn drop_waits(&mut self, waiter: &Row) -> Result<()> {
        self.waits.retain(|(_, by)| *by != waiter.ord);
        Ok(())
    }
}
