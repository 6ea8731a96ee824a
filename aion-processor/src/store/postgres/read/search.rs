//! Searches: pages of tasks by what their rows and their texts say.

use aion_types::{Status, Timestamp};
use sqlx::{Postgres, QueryBuilder};

use super::{Reader, record};
use crate::store::postgres::codec::{self, HOT, hot, int, storage, text, texts};
use crate::store::{SIFT, page_size};
use crate::{Cursor, Order, Result, TaskPage, TaskQuery};

const RECORD: &str = concat!("SELECT ", hot!(), ", ", texts!(), " FROM ");
/// What a search looks at: it walks an index of `entry` where one of its columns is asked for, or else one of `task`.
const BY_ENTRY: &str = "entry e JOIN task t ON t.ord = e.ord JOIN task_body b ON b.task = t.ord WHERE e.ord";
const BY_TASK: &str = "task t JOIN task_body b ON b.task = t.ord WHERE t.ord";

impl Reader<'_> {
    /// One keyset query for each status, merged: each walks its index in order.
    pub(super) async fn tasks(&self, query: &TaskQuery) -> Result<TaskPage> {
        let limit = page_size(query.limit, self.max_page)?;
        let cursor = query.cursor.as_ref();
        let from = cursor.map(|cursor| cursor.position_in(query.order)).transpose()?;
        if query.sifts() {
            return self.sift(query, from, limit).await;
        }
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

    /// Looks at the texts of a bounded number of tasks. The page ends with the last of those if it is
    /// not full by then.
    async fn sift(&self, query: &TaskQuery, from: Option<u64>, limit: u32) -> Result<TaskPage> {
        let mut sql = looked_at(query, from);
        let statement = sql
            .push(" LIMIT ")
            .push_bind(i64::from(limit) + 1)
            .build_query_scalar();
        let mut hits: Vec<i64> = statement.fetch_all(self.pool).await.map_err(storage)?;
        let more = hits.len() > limit as usize;
        hits.truncate(limit as usize);
        let last = if more {
            hits.last().copied()
        } else {
            self.end_of_sift(query, from).await?
        };
        let rows = sqlx::query(BY_PLACES)
            .bind(hits)
            .fetch_all(self.pool)
            .await
            .map_err(storage)?;
        let mut tasks = Vec::with_capacity(rows.len());
        for row in &rows {
            tasks.push(record(row)?);
        }
        if query.order == Order::Newest {
            tasks.reverse();
        }
        Ok(TaskPage {
            tasks,
            next: last.map(|ord| Cursor::new(query.order, ord.unsigned_abs())),
        })
    }

    /// The last task that is looked at, if there are more behind it.
    async fn end_of_sift(&self, query: &TaskQuery, from: Option<u64>) -> Result<Option<i64>> {
        let mut sql = QueryBuilder::new("SELECT t.ord FROM ");
        filter_all(&mut sql, query, from);
        sql.push(order(query)).push(" LIMIT 2 OFFSET ");
        let statement = sql.push_bind(i64::from(SIFT) - 1).build_query_scalar();
        let ends: Vec<i64> = statement.fetch_all(self.pool).await.map_err(storage)?;
        Ok(ends.first().copied().filter(|_| ends.len() > 1))
    }
}

const BY_PLACES: &str = concat!(
    "SELECT ",
    hot!(),
    ", ",
    texts!(),
    " FROM task t JOIN task_body b ON b.task = t.ord WHERE t.ord = ANY($1::int8[]) ORDER BY t.ord"
);

/// The places of the tasks that have the text and the time, among those that are looked at.
fn looked_at(query: &TaskQuery, from: Option<u64>) -> QueryBuilder<Postgres> {
    let mut sql = QueryBuilder::new("SELECT ord FROM (SELECT t.ord AS ord, (");
    let part = query.text.as_ref().map(|part| text(&part.to_ascii_lowercase()));
    sql.push("(").push_bind(part.clone()).push("::text IS NULL");
    for column in ["b.title", "b.spec"] {
        sql.push(" OR strpos(lower(").push(column).push("), ");
        sql.push_bind(part.clone()).push(") > 0");
    }
    let start = query.created_from.map_or(i64::MIN, Timestamp::as_ms);
    let end = query.created_to.map_or(i64::MAX, Timestamp::as_ms);
    sql.push(") AND t.created_at >= ").push_bind(start);
    sql.push(" AND t.created_at < ").push_bind(end);
    sql.push(") AS hit FROM ");
    filter_all(&mut sql, query, from);
    sql.push(order(query)).push(" LIMIT ");
    sql.push_bind(i64::from(SIFT)).push(") s WHERE hit");
    sql
}

/// Everything but text and time, for all the statuses at once.
fn filter_all(sql: &mut QueryBuilder<Postgres>, query: &TaskQuery, from: Option<u64>) {
    filter(sql, query, None, from);
    if query.statuses.is_empty() {
        return;
    }
    sql.push(" AND t.status IN (");
    let mut list = sql.separated(", ");
    for status in &query.statuses {
        list.push_bind(*status as i64);
    }
    sql.push(")");
}

/// The statement for one status, or for any; one item longer than the page.
pub(in crate::store::postgres) fn search(
    query: &TaskQuery,
    status: Option<Status>,
    from: Option<u64>,
    limit: u32,
) -> QueryBuilder<Postgres> {
    let mut sql = QueryBuilder::new(RECORD);
    filter(&mut sql, query, status, from);
    sql.push(order(query))
        .push(" LIMIT ")
        .push_bind(i64::from(limit) + 1);
    sql
}

/// Whether an index of `entry` has what is asked for, as those of `task` have statuses.
const fn by_entry(query: &TaskQuery) -> bool {
    query.parent.is_some() || query.root.is_some() || query.kind.is_some() || query.queue.is_some()
}

const fn order(query: &TaskQuery) -> &'static str {
    match (by_entry(query), query.order) {
        (true, Order::Oldest) => " ORDER BY e.ord ASC",
        (true, Order::Newest) => " ORDER BY e.ord DESC",
        (false, Order::Oldest) => " ORDER BY t.ord ASC",
        (false, Order::Newest) => " ORDER BY t.ord DESC",
    }
}

/// Where to look, and everything but text and time.
fn filter(sql: &mut QueryBuilder<Postgres>, query: &TaskQuery, status: Option<Status>, from: Option<u64>) {
    let (compare, start) = match query.order {
        Order::Oldest => (" > ", 0),
        Order::Newest => (" < ", i64::MAX),
    };
    sql.push(if by_entry(query) { BY_ENTRY } else { BY_TASK });
    sql.push(compare).push_bind(from.map_or(start, int));
    if let Some(parent) = query.parent {
        sql.push(" AND e.parent = ").push_bind(parent.as_bytes().to_vec());
    }
    if let Some(root) = query.root {
        sql.push(" AND e.root = ").push_bind(root.as_bytes().to_vec());
    }
    if let Some(status) = status {
        sql.push(" AND t.status = ").push_bind(status as i64);
    }
    if let Some(kind) = &query.kind {
        sql.push(" AND e.kind = ").push_bind(text(kind));
    }
    if let Some(queue) = &query.queue {
        sql.push(" AND e.queue = ").push_bind(text(queue));
    }
    if let Some(handler) = &query.handler {
        sql.push(" AND t.handler = ").push_bind(text(handler.as_str()));
    }
}
