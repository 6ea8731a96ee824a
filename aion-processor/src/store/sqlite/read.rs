//! Questions to the file, answered by connections that cannot write.

use aion_types::{MessageRecord, Status, TaskId, TaskRecord, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqlitePool};

use super::codec::{self, HOT, hot, int, said, storage, texts};
use crate::query::retries;
use crate::store::memory::message_page;
use crate::store::page_size;
use crate::{
    ChildCounts, Cursor, Error, EventPage, EventQuery, Limits, MessagePage, MessageQuery, Order, Page, Query,
    Result, StatusCounts, TaskPage, TaskQuery,
};

const RECORD: &str = concat!(
    "SELECT ",
    hot!(),
    ", ",
    texts!(),
    " FROM task t JOIN task_body b ON b.task = t.ord WHERE "
);
const BY_ID: &str = concat!(
    "SELECT ",
    hot!(),
    ", ",
    texts!(),
    " FROM task t JOIN task_body b ON b.task = t.ord WHERE t.uid = ?1"
);
pub(super) const ENDED: &str = concat!(
    "SELECT ",
    hot!(),
    ", ",
    texts!(),
    " FROM task t INDEXED BY task_ended JOIN task_body b ON b.task = t.ord WHERE t.finished_at IS NOT NULL \
     ORDER BY t.finished_at DESC, t.ord DESC LIMIT ?1"
);
pub(super) const MESSAGES: &str = concat!(
    "SELECT ",
    said!(),
    " FROM message WHERE task = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"
);
pub(super) const MESSAGES_BACK: &str = concat!(
    "SELECT ",
    said!(),
    " FROM message WHERE task = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3"
);
pub(super) const EVENTS: &str =
    "SELECT seq, task, root, kind, body, at FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2";
pub(super) const EVENTS_OF: &str =
    "SELECT seq, task, root, kind, body, at FROM event WHERE task = ?3 AND seq > ?1 ORDER BY seq LIMIT ?2";
pub(super) const CHILDREN: &str = "SELECT status, count(*), \
     sum(CASE WHEN status < 4 AND deadline < ?2 THEN 1 ELSE 0 END) FROM task INDEXED BY task_child \
     WHERE parent = ?1 GROUP BY status";

/// Answers `query` at `now`.
pub(super) async fn read(pool: &SqlitePool, limits: &Limits, now: Timestamp, query: Query) -> Result<Page> {
    let reader = Reader {
        pool,
        max_page: limits.max_page,
    };
    match query {
        Query::Task(id) => Ok(Page::Task(reader.task(id).await?.map(Box::new))),
        Query::Tasks(query) => reader.tasks(&query).await.map(Page::Tasks),
        Query::Ended(limit) => reader.ended(limit).await.map(Page::Tasks),
        Query::Messages(task, query) => reader.messages(task, query).await.map(Page::Messages),
        Query::Events(query) => reader.events(query).await.map(Page::Events),
        Query::Counts => reader.counts().await.map(Page::Counts),
        Query::Children(task) => reader.children(task, now).await.map(Page::Children),
    }
}

struct Reader<'a> {
    pool: &'a SqlitePool,
    max_page: u32,
}

impl Reader<'_> {
    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>> {
        let statement = sqlx::query(BY_ID).bind(id.as_bytes().to_vec());
        let found = statement.fetch_optional(self.pool).await.map_err(storage)?;
        found.as_ref().map(record).transpose()
    }

    /// One keyset query for each status, merged: each walks its index in order.
    async fn tasks(&self, query: &TaskQuery) -> Result<TaskPage> {
        let limit = page_size(query.limit, self.max_page)?;
        let from = query
            .cursor
            .as_ref()
            .map(|cursor| cursor.position_in(query.order))
            .transpose()?;
        let statuses: Vec<Option<Status>> = match query.statuses.as_slice() {
            // Only a running task has a holder, so that the index of running tasks has them all.
            [] if query.handler.is_some() => vec![Some(Status::Running)],
            [] => vec![None],
            some => Status::ALL
                .into_iter()
                .filter(|status| some.contains(status))
                .map(Some)
                .collect(),
        };
        let mut found = Vec::new();
        for status in statuses {
            let rows = search(query, status, from, limit)
                .build()
                .fetch_all(self.pool)
                .await
                .map_err(storage)?;
            for row in &rows {
                found.push((codec::row(row)?, codec::body(row, HOT)?));
            }
        }
        found.sort_by_key(|(row, _)| row.ord);
        if query.order == Order::Newest {
            found.reverse();
        }
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next = found
            .last()
            .filter(|_| more)
            .map(|(row, _)| Cursor::new(query.order, row.ord));
        Ok(TaskPage {
            tasks: found.into_iter().map(|(row, body)| row.record(body)).collect(),
            next,
        })
    }

    async fn ended(&self, limit: u32) -> Result<TaskPage> {
        let limit = page_size(limit, self.max_page)?;
        let rows = sqlx::query(ENDED)
            .bind(limit)
            .fetch_all(self.pool)
            .await
            .map_err(storage)?;
        Ok(TaskPage {
            tasks: rows.iter().map(record).collect::<Result<_>>()?,
            next: None,
        })
    }

    /// The place of a task in the order of creation.
    async fn ord(&self, task: TaskId) -> Result<i64> {
        let statement =
            sqlx::query_scalar("SELECT ord FROM task WHERE uid = ?1").bind(task.as_bytes().to_vec());
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

    async fn events(&self, query: EventQuery) -> Result<EventPage> {
        let limit = page_size(query.limit, self.max_page)?;
        let statement = match query.task {
            None => sqlx::query(EVENTS).bind(int(query.after)).bind(limit),
            Some(task) => sqlx::query(EVENTS_OF)
                .bind(int(query.after))
                .bind(limit)
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
            "SELECT preparing, ready, running, blocked, completed, failed, cancelled FROM tally WHERE id = 1";
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

fn column(row: &SqliteRow, index: usize) -> Result<i64> {
    row.try_get(index).map_err(storage)
}

fn record(row: &SqliteRow) -> Result<TaskRecord> {
    Ok(codec::row(row)?.record(codec::body(row, HOT)?))
}

/// The statement for one status, or for any; one item longer than the page.
pub(super) fn search(
    query: &TaskQuery,
    status: Option<Status>,
    from: Option<u64>,
    limit: u32,
) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new(RECORD);
    let (compare, direction) = match query.order {
        Order::Oldest => (" > ", "ASC"),
        Order::Newest => (" < ", "DESC"),
    };
    let start = match query.order {
        Order::Oldest => 0,
        Order::Newest => i64::MAX,
    };
    sql.push("t.ord").push(compare).push_bind(from.map_or(start, int));
    if let Some(parent) = query.parent {
        sql.push(" AND t.parent = ").push_bind(parent.as_bytes().to_vec());
    }
    if let Some(root) = query.root {
        sql.push(" AND t.root = ").push_bind(root.as_bytes().to_vec());
    }
    if let Some(status) = status {
        sql.push(" AND t.status = ").push_bind(status as i64);
    }
    if let Some(kind) = &query.kind {
        sql.push(" AND t.kind = ").push_bind(kind.clone());
    }
    if let Some(queue) = &query.queue {
        sql.push(" AND t.queue = ").push_bind(queue.clone());
    }
    if let Some(handler) = &query.handler {
        sql.push(" AND t.handler = ")
            .push_bind(handler.as_str().to_owned());
    }
    sql.push(" ORDER BY t.ord ")
        .push(direction)
        .push(" LIMIT ")
        .push_bind(i64::from(limit) + 1);
    sql
}
