//! Questions to the database, each answered from what was committed when it was asked.

mod lines;
mod search;

use aion_types::{MessageRecord, TaskId, TaskRecord, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row as _};

use super::codec::{self, HOT, hot, int, said, storage, texts};
use super::hooks;
use crate::engine::rows::Space;
use crate::query::retries;
use crate::store::memory::read::message_page;
use crate::store::page_size;
use crate::{
    ChildCounts, Concurrency, EndedQuery, Error, EventPage, EventQuery, Limits, MessagePage, MessageQuery,
    Order, Page, Query, Result, StatusCounts, StepPage, StepQuery, TaskCopy, TaskPage, WebhookQuery,
};

#[cfg(test)]
pub(super) use lines::{GATHERS, HOLDERS, HOLDERS_OF, NAMES, OLDEST, WAITERS, WAITERS_OF};
#[cfg(test)]
pub(super) use search::search;

const BY_ID: &str = concat!(
    "SELECT ",
    hot!(),
    ", ",
    texts!(),
    " FROM entry e JOIN task t ON t.ord = e.ord JOIN task_body b ON b.task = t.ord WHERE e.uid = $1"
);
pub(super) const ENDED: &str = concat!(
    "SELECT ",
    hot!(),
    ", ",
    texts!(),
    " FROM task t JOIN task_body b ON b.task = t.ord WHERE t.finished_at IS NOT NULL \
     ORDER BY t.finished_at DESC, t.ord DESC LIMIT $1"
);
pub(super) const ENDED_ROOTS: &str = concat!(
    "SELECT ",
    hot!(),
    ", ",
    texts!(),
    " FROM task t JOIN task_body b ON b.task = t.ord WHERE t.parent IS NULL \
     AND t.finished_at IS NOT NULL AND NOT t.purging AND t.finished_at < $1 AND (t.finished_at, t.uid) > ($2, $3) \
     ORDER BY t.finished_at, t.uid LIMIT $4"
);
pub(super) const MESSAGES: &str = concat!(
    said!(),
    "WHERE m.task = $1 AND m.seq > $2 ORDER BY m.seq LIMIT $3"
);
pub(super) const MESSAGES_BACK: &str = concat!(
    said!(),
    "WHERE m.task = $1 AND m.seq < $2 ORDER BY m.seq DESC LIMIT $3"
);
pub(super) const STEPS: &str =
    "SELECT seq, name, result, at FROM step WHERE task = $1 AND seq > $2 ORDER BY seq LIMIT $3";
pub(super) const EVENTS: &str =
    "SELECT seq, task, root, kind, body, at FROM event WHERE seq > $1 ORDER BY seq LIMIT $2";
pub(super) const EVENTS_OF: &str =
    "SELECT seq, task, root, kind, body, at FROM event WHERE task = $3 AND seq > $1 ORDER BY seq LIMIT $2";
pub(super) const CHILDREN: &str = "SELECT t.status, count(*), \
     sum(CASE WHEN t.status < 4 AND t.deadline < $2 THEN 1 ELSE 0 END) FROM entry e JOIN task t ON t.ord = e.ord \
     WHERE e.parent = $1 GROUP BY t.status";

/// Answers `query` at `now`; `full` says whether the server had no room.
pub(super) async fn read(
    pool: &PgPool,
    limits: &Limits,
    now: Timestamp,
    full: bool,
    query: Query,
) -> Result<Page> {
    let reader = Reader {
        pool,
        max_page: limits.max_page,
    };
    match query {
        Query::Task(id) => Ok(Page::Task(reader.task(id).await?.map(Box::new))),
        Query::Tasks(query) => reader.tasks(&query).await.map(Page::Tasks),
        Query::Ended(limit) => reader.ended(limit).await.map(Page::Tasks),
        Query::EndedRoots(query) => reader.ended_roots(&query).await.map(Page::Tasks),
        Query::Messages(task, query) => reader.messages(task, query).await.map(Page::Messages),
        Query::Steps(task, query) => reader.steps(task, query).await.map(Page::Steps),
        Query::Events(query) => reader.events(query).await.map(Page::Events),
        Query::Counts => reader.counts().await.map(Page::Counts),
        Query::Children(task) => reader.children(task, now).await.map(Page::Children),
        Query::Copy(task) => reader.copy(task).await.map(Page::Copy),
        Query::Primitive(name) => reader.one(Space::Primitive, &name).await.map(Page::Primitives),
        Query::Primitives(query) => reader.names(Space::Primitive, &query).await.map(Page::Primitives),
        Query::Holds(task) => reader.holds(task).await.map(Page::Waits),
        Query::Waits(name) => reader.waits(name.as_deref()).await.map(Page::Waits),
        Query::Object(name, version) => reader.object(&name, version).await.map(Page::Object),
        Query::Objects(query) => reader.names(Space::Object, &query).await.map(Page::Objects),
        Query::Schedule(name) => reader.one(Space::Schedule, &name).await.map(Page::Schedules),
        Query::Schedules(query) => reader.names(Space::Schedule, &query).await.map(Page::Schedules),
        Query::Webhooks(query) => reader.webhooks(query).await,
        Query::Metrics => reader.metrics(full).await.map(Page::Metrics),
    }
}

struct Reader<'a> {
    pool: &'a PgPool,
    max_page: u32,
}

impl Reader<'_> {
    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>> {
        let statement = sqlx::query(BY_ID).bind(id.as_bytes().to_vec());
        let found = statement.fetch_optional(self.pool).await.map_err(storage)?;
        found.as_ref().map(record).transpose()
    }

    async fn ended(&self, limit: u32) -> Result<TaskPage> {
        let limit = page_size(limit, self.max_page)?;
        let rows = sqlx::query(ENDED)
            .bind(i64::from(limit))
            .fetch_all(self.pool)
            .await
            .map_err(storage)?;
        Ok(TaskPage {
            tasks: rows.iter().map(record).collect::<Result<_>>()?,
            next: None,
        })
    }

    async fn ended_roots(&self, query: &EndedQuery) -> Result<TaskPage> {
        let limit = page_size(query.limit, self.max_page)?;
        let (at, id) = match query.after {
            Some((at, id)) => (at.as_ms(), id.as_bytes().to_vec()),
            None => (i64::MIN, Vec::new()),
        };
        let statement = sqlx::query(ENDED_ROOTS)
            .bind(query.before.as_ms())
            .bind(at)
            .bind(id);
        let rows = statement
            .bind(i64::from(limit))
            .fetch_all(self.pool)
            .await
            .map_err(storage)?;
        Ok(TaskPage {
            tasks: rows.iter().map(record).collect::<Result<_>>()?,
            next: None,
        })
    }

    async fn webhooks(&self, query: WebhookQuery) -> Result<Page> {
        match query {
            WebhookQuery::One(name) if name.is_empty() => Ok(Page::Webhooks(Vec::new())),
            WebhookQuery::One(name) => self.one(Space::Webhook, &name).await.map(Page::Webhooks),
            WebhookQuery::All(query) => self.names(Space::Webhook, &query).await.map(Page::Webhooks),
            WebhookQuery::Deliveries(query) => {
                let found = hooks::page(self.pool, &query, self.max_page).await;
                found.map(Page::Deliveries)
            }
        }
    }

    async fn copy(&self, task: TaskId) -> Result<Option<Box<TaskCopy>>> {
        let sql = "SELECT e.idem_key, t.ckey, t.ckey_max FROM entry e JOIN task t ON t.ord = e.ord WHERE e.uid = $1";
        type Rest = (Option<String>, Option<String>, Option<i64>);
        let statement = sqlx::query_as::<_, Rest>(sql).bind(task.as_bytes().to_vec());
        let rest = statement.fetch_optional(self.pool).await.map_err(storage)?;
        let (Some(task), Some((key, shared, max))) = (self.task(task).await?, rest) else {
            return Ok(None);
        };
        let concurrency = shared.zip(max).map(|(key, max)| Concurrency {
            key: codec::plain(key),
            max: u32::try_from(max).unwrap_or(u32::MAX),
        });
        Ok(Some(Box::new(TaskCopy {
            task,
            key: key.map(codec::plain),
            concurrency,
        })))
    }

    /// The place of a task in the order of creation.
    async fn ord(&self, task: TaskId) -> Result<i64> {
        let statement =
            sqlx::query_scalar("SELECT ord FROM entry WHERE uid = $1").bind(task.as_bytes().to_vec());
        statement
            .fetch_optional(self.pool)
            .await
            .map_err(storage)?
            .ok_or(Error::NotFound(task))
    }

    async fn messages(&self, task: TaskId, query: MessageQuery) -> Result<MessagePage> {
        let limit = page_size(query.limit, self.max_page)?;
        let ord = self.ord(task).await?;
        let (sql, from) = match (query.order, query.from) {
            (Order::Oldest, from) => (MESSAGES, int(from)),
            (Order::Newest, 0) => (MESSAGES_BACK, i64::MAX),
            (Order::Newest, from) => (MESSAGES_BACK, int(from)),
        };
        let statement = sqlx::query(sql).bind(ord).bind(from).bind(i64::from(limit) + 1);
        let rows = statement.fetch_all(self.pool).await.map_err(storage)?;
        let found = rows
            .iter()
            .map(|row| codec::message(task, row))
            .collect::<Result<Vec<MessageRecord>>>()?;
        Ok(message_page(found, limit))
    }

    async fn steps(&self, task: TaskId, query: StepQuery) -> Result<StepPage> {
        let limit = page_size(query.limit, self.max_page)?;
        let statement = sqlx::query(STEPS)
            .bind(self.ord(task).await?)
            .bind(int(query.after));
        let statement = statement.bind(i64::from(limit) + 1);
        let rows = statement.fetch_all(self.pool).await.map_err(storage)?;
        let found = rows.iter().map(|row| codec::step(task, row));
        Ok(StepPage::cut(found.collect::<Result<_>>()?, limit))
    }

    async fn events(&self, query: EventQuery) -> Result<EventPage> {
        let limit = page_size(query.limit, self.max_page)?;
        let statement = match query.task {
            None => sqlx::query(EVENTS).bind(int(query.after)).bind(i64::from(limit)),
            Some(task) => sqlx::query(EVENTS_OF)
                .bind(int(query.after))
                .bind(i64::from(limit))
                .bind(task.as_bytes().to_vec()),
        };
        let rows = statement.fetch_all(self.pool).await.map_err(storage)?;
        let events = rows.iter().map(codec::event).collect::<Result<Vec<_>>>()?;
        Ok(EventPage {
            next: events.last().map_or(query.after, |event| event.seq),
            events,
        })
    }

    async fn counts(&self) -> Result<StatusCounts> {
        let sql =
            "SELECT preparing, ready, running, blocked, completed, failed, cancelled FROM state WHERE id = 1";
        let row = sqlx::query(sql).fetch_one(self.pool).await.map_err(storage)?;
        let mut counts = StatusCounts::default();
        for (index, count) in counts.0.iter_mut().enumerate() {
            *count = column(&row, index)?.unsigned_abs();
        }
        Ok(counts)
    }

    async fn children(&self, task: TaskId, now: Timestamp) -> Result<ChildCounts> {
        let parent = self.task(task).await?.ok_or(Error::NotFound(task))?;
        let statement = sqlx::query(CHILDREN)
            .bind(task.as_bytes().to_vec())
            .bind(now.as_ms());
        let rows = statement.fetch_all(self.pool).await.map_err(storage)?;
        let mut counts = ChildCounts {
            retries: retries(parent.attempt, parent.crash_count),
            ..ChildCounts::default()
        };
        for row in &rows {
            counts.statuses.0[codec::status(column(row, 0)?)? as usize] = column(row, 1)?.unsigned_abs();
            counts.overdue += column(row, 2)?.unsigned_abs();
        }
        Ok(counts)
    }
}

fn column(row: &PgRow, index: usize) -> Result<i64> {
    row.try_get(index).map_err(storage)
}

fn record(row: &PgRow) -> Result<TaskRecord> {
    Ok(codec::row(row)?.record(codec::body(row, HOT)?))
}
