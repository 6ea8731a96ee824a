//! Questions to a store in memory.

use aion_types::{EventRecord, MessageRecord, Status, TaskId, TaskRecord, Timestamp};
use serde::de::DeserializeOwned;

use super::world::World;
use crate::engine::named::read;
use crate::engine::row::{Body, Row};
use crate::engine::rows::Space;
use crate::query::{is_overdue, retries};
use crate::store::{SIFT, WAITS, page_size};
use crate::{
    ChildCounts, Cursor, EndedQuery, Error, EventPage, EventQuery, Gather, MessagePage, MessageQuery,
    Metrics, NameQuery, ObjectHead, ObjectRecord, Order, Page, Primitive, Query, Result, StatusCounts,
    StepPage, StepQuery, TaskCopy, TaskPage, TaskQuery, Waits,
};

impl World {
    pub(super) fn read(&self, query: Query, max: u32, now: Timestamp) -> Result<Page> {
        match query {
            Query::Task(id) => Ok(Page::Task(self.get(id).map(record_of).map(Box::new))),
            Query::Tasks(query) => self.tasks(&query, page_size(query.limit, max)?).map(Page::Tasks),
            Query::Ended(limit) => Ok(Page::Tasks(self.ended(page_size(limit, max)?))),
            Query::EndedRoots(query) => Ok(Page::Tasks(self.roots(&query, page_size(query.limit, max)?))),
            Query::Messages(task, query) => self
                .messages(task, query, page_size(query.limit, max)?)
                .map(Page::Messages),
            Query::Steps(task, query) => {
                let limit = page_size(query.limit, max)?;
                self.steps(task, query, limit).map(Page::Steps)
            }
            Query::Events(query) => Ok(Page::Events(self.log(query, page_size(query.limit, max)?))),
            Query::Counts => Ok(Page::Counts(self.counts())),
            Query::Children(task) => self.child_counts(task, now).map(Page::Children),
            Query::Copy(task) => Ok(Page::Copy(self.copy(task).map(Box::new))),
            Query::Primitive(name) => self.one(Space::Primitive, &name).map(Page::Primitives),
            Query::Primitives(query) => self.names(Space::Primitive, &query, max).map(Page::Primitives),
            Query::Holds(task) => Ok(Page::Waits(self.holds(task))),
            Query::Waits(name) => self.waits(name.as_deref()).map(Page::Waits),
            Query::Object(name, version) => self.object(&name, version).map(Page::Object),
            Query::Objects(query) => self.names(Space::Object, &query, max).map(Page::Objects),
            Query::Schedule(name) => self.one(Space::Schedule, &name).map(Page::Schedules),
            Query::Schedules(query) => self.names(Space::Schedule, &query, max).map(Page::Schedules),
            Query::Webhooks(query) => self.webhooks(query, max),
            Query::Metrics => Ok(Page::Metrics(self.metrics())),
        }
    }

    fn tasks(&self, query: &TaskQuery, limit: u32) -> Result<TaskPage> {
        let cursor = query.cursor.as_ref();
        let from = cursor.map(|cursor| cursor.position_in(query.order)).transpose()?;
        let later = |row: &Row| match query.order {
            Order::Oldest => from.is_none_or(|from| row.ord > from),
            Order::Newest => from.is_none_or(|from| row.ord < from),
        };
        let fits = |(row, _): &&(Row, Body)| later(row) && fits(row, query);
        let all: Vec<_> = match query.order {
            Order::Oldest => self.tasks.values().filter(fits).collect(),
            Order::Newest => self.tasks.values().rev().filter(fits).collect(),
        };
        let bound = if query.sifts() { SIFT as usize } else { all.len() };
        let seen = &all[..all.len().min(bound)];
        let mut found: Vec<_> = seen
            .iter()
            .filter(|(row, body)| sifts(row, body, query))
            .collect();
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let last = if more {
            found.last().copied()
        } else {
            seen.last().filter(|_| all.len() > seen.len())
        };
        Ok(TaskPage {
            next: last.map(|(row, _)| Cursor::new(query.order, row.ord)),
            tasks: found.into_iter().map(|task| record_of(task)).collect(),
        })
    }

    fn ended(&self, limit: u32) -> TaskPage {
        let tasks = self.tasks.values();
        let mut ended: Vec<_> = tasks.filter(|(row, _)| row.finished_at.is_some()).collect();
        ended.sort_by_key(|(row, _)| std::cmp::Reverse((row.finished_at, row.ord)));
        TaskPage {
            tasks: ended.into_iter().take(limit as usize).map(record_of).collect(),
            next: None,
        }
    }

    fn roots(&self, query: &EndedQuery, limit: u32) -> TaskPage {
        let place = |row: &Row| row.finished_at.map(|at| (at, row.id));
        let fits = |(row, _): &&(Row, Body)| {
            row.parent_id.is_none()
                && !row.purging
                && row.finished_at.is_some_and(|at| at < query.before)
                && query.after.is_none_or(|after| place(row) > Some(after))
        };
        let mut found: Vec<_> = self.tasks.values().filter(fits).collect();
        found.sort_by_key(|(row, _)| place(row));
        TaskPage {
            tasks: found.into_iter().take(limit as usize).map(record_of).collect(),
            next: None,
        }
    }

    fn messages(&self, task: TaskId, query: MessageQuery, limit: u32) -> Result<MessagePage> {
        self.get(task).ok_or(Error::NotFound(task))?;
        let all = self.messages.get(&task).map_or(&[][..], Vec::as_slice);
        let all = all.iter().map(|(message, _)| message);
        let wanted = limit as usize + 1;
        let found: Vec<_> = match query.order {
            Order::Oldest => all.filter(|m| m.seq > query.from).take(wanted).cloned().collect(),
            Order::Newest => all
                .rev()
                .filter(|m| query.from == 0 || m.seq < query.from)
                .take(wanted)
                .cloned()
                .collect(),
        };
        Ok(message_page(found, limit))
    }

    fn steps(&self, task: TaskId, query: StepQuery, limit: u32) -> Result<StepPage> {
        let (row, _) = self.get(task).ok_or(Error::NotFound(task))?;
        let later = self
            .steps
            .range((row.ord, query.after.saturating_add(1))..=(row.ord, u64::MAX));
        let found = later.take(limit as usize + 1).map(|(_, (step, _))| step.clone());
        Ok(StepPage::cut(found.collect(), limit))
    }

    fn log(&self, query: EventQuery, limit: u32) -> EventPage {
        let fits = |event: &&EventRecord| query.task.is_none_or(|task| event.task_id == task);
        let start = self.events.partition_point(|event| event.seq <= query.after);
        let later = self.events[start..].iter().filter(fits);
        let events: Vec<_> = later.take(limit as usize).cloned().collect();
        EventPage {
            next: events.last().map_or(query.after, |event| event.seq),
            events,
        }
    }

    fn counts(&self) -> StatusCounts {
        self.rows().fold(StatusCounts::default(), |mut counts, row| {
            counts.0[row.status as usize] += 1;
            counts
        })
    }

    fn child_counts(&self, task: TaskId, now: Timestamp) -> Result<ChildCounts> {
        let (parent, _) = self.get(task).ok_or(Error::NotFound(task))?;
        let mut counts = ChildCounts {
            retries: retries(parent.attempt, parent.crash_count),
            ..ChildCounts::default()
        };
        for row in self.rows().filter(|row| row.parent_id == Some(task)) {
            counts.statuses.0[row.status as usize] += 1;
            counts.overdue += u64::from(is_overdue(row.status, row.deadline, now));
        }
        Ok(counts)
    }

    fn copy(&self, task: TaskId) -> Option<TaskCopy> {
        let found = self.get(task)?;
        let key = self.by_key.iter().find(|(_, id)| **id == task);
        Some(TaskCopy {
            task: record_of(found),
            key: key.map(|((_, key), _)| key.clone()),
            concurrency: found.0.concurrency.clone(),
        })
    }

    pub(super) fn one<T: DeserializeOwned>(&self, space: Space, name: &str) -> Result<Vec<T>> {
        let found = self.named.get(&(space, name.to_owned()));
        found.iter().map(|(_, text)| read(text)).collect()
    }

    pub(super) fn names<T: DeserializeOwned>(
        &self,
        space: Space,
        query: &NameQuery,
        max: u32,
    ) -> Result<Vec<T>> {
        let limit = page_size(query.limit, max)?;
        let after = query.after.as_deref().unwrap_or_default();
        let all = self.named.iter();
        let later = all.filter(|((known, name), _)| *known == space && name.as_str() > after);
        let texts = later.take(limit as usize);
        texts.map(|(_, (_, text))| read(text)).collect()
    }

    fn holds(&self, task: TaskId) -> Waits {
        let all = self.holds.values().map(|held| &held.holder);
        Waits {
            holders: all.filter(|holder| holder.task == task).cloned().collect(),
            ..Waits::default()
        }
    }

    fn waits(&self, name: Option<&str>) -> Result<Waits> {
        let wanted = |known: &str| name.is_none_or(|name| name == known);
        let all = self.named.iter();
        let texts = all.filter(|((space, name), _)| *space == Space::Primitive && wanted(name));
        let mut primitives: Vec<Primitive> = texts.map(|(_, (_, text))| read(text)).collect::<Result<_>>()?;
        primitives.retain(|primitive| primitive.held > 0 || primitive.waiting > 0);
        let held = self.holds.values().map(|held| &held.holder);
        let mut holders: Vec<_> = held.filter(|h| wanted(&h.grant.primitive)).cloned().collect();
        holders.sort_by(|a, b| (&a.grant.primitive, a.grant.token).cmp(&(&b.grant.primitive, b.grant.token)));
        let line = self.line.values();
        let mut waiters: Vec<_> = line.filter(|waiter| wanted(&waiter.primitive)).cloned().collect();
        waiters.sort_by(|a, b| (&a.primitive, a.place).cmp(&(&b.primitive, b.place)));
        let mut waits = Waits {
            primitives,
            holders,
            waiters,
            gathers: self.gathers(name),
            cut: false,
        };
        waits.cut_to(WAITS);
        Ok(waits)
    }

    fn gathers(&self, name: Option<&str>) -> Vec<Gather> {
        let pairs = self.waits.iter().filter(|_| name.is_none());
        let gathers = pairs.filter_map(|(child, waiter)| {
            let waiter = &self.tasks.get(waiter)?.0;
            Some(Gather {
                waiter: waiter.id,
                task: self.tasks.get(child)?.0.id,
                policy: waiter.gather?,
            })
        });
        gathers.collect()
    }

    fn object(&self, name: &str, version: Option<u64>) -> Result<Option<Box<ObjectRecord>>> {
        let Some(head) = self.one::<ObjectHead>(Space::Object, name)?.pop() else {
            return Ok(None);
        };
        let version = version.unwrap_or(head.version);
        let body = self.versions.get(&(name.to_owned(), version)).cloned();
        Ok(body.map(|body| Box::new(ObjectRecord { head, version, body })))
    }

    fn metrics(&self) -> Metrics {
        let mut oldest = [None; Status::ALL.len()];
        for row in self.rows() {
            oldest[row.status as usize].get_or_insert(row.created_at);
        }
        Metrics {
            bytes: 0,
            free_bytes: None,
            last_seq: self.last_seq(),
            oldest_event: self.events.first().map(|event| event.at),
            oldest,
            full: self.is_full(),
        }
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
    let handler = query.handler.as_ref();
    query.parent.is_none_or(|parent| row.parent_id == Some(parent))
        && query.root.is_none_or(|root| row.root_id == root)
        && (query.statuses.is_empty() || query.statuses.contains(&row.status))
        && query.kind.as_ref().is_none_or(|kind| row.kind == *kind)
        && query.queue.as_ref().is_none_or(|queue| row.queue == *queue)
        && handler.is_none_or(|handler| row.handler_id.as_ref() == Some(handler))
}

/// Whether a task has the text and the time that are looked for.
fn sifts(row: &Row, body: &Body, query: &TaskQuery) -> bool {
    let has = |text: &str, part: &str| text.to_ascii_lowercase().contains(&part.to_ascii_lowercase());
    query
        .text
        .as_ref()
        .is_none_or(|part| has(&body.title, part) || has(&body.spec, part))
        && query.created_from.is_none_or(|from| row.created_at >= from)
        && query.created_to.is_none_or(|to| row.created_at < to)
}
