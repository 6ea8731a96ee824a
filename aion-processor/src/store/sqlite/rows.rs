//! The rows of the engine inside one transaction of SQLite.

use aion_types::{EventKind, Json, MessageRecord, Status, TaskId, Timestamp};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Row as _, Sqlite, SqliteConnection};

use super::codec::{self, HOT, hot, int, said, storage, texts, to_text};
use crate::engine::row::{Body, Row};
use crate::engine::rows::{Outcome, Rows};
use crate::{ClaimReq, Error, Result};

type Statement<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

/// The statements that every claim, completion and look at the clock runs; their plans are tested.
pub(super) mod hot_sql {
    use super::{hot, texts};

    pub(crate) const BY_ID: &str = concat!("SELECT ", hot!(), " FROM task t WHERE t.uid = ?1");
    pub(crate) const READY: &str = concat!(
        "SELECT ",
        hot!(),
        ", ",
        texts!(),
        " FROM task t INDEXED BY task_ready CROSS JOIN task_body b ON b.task = t.ord WHERE t.status = 1 ORDER BY t.priority DESC, t.ready_seq LIMIT ?1"
    );
    pub(crate) const READY_QUEUE: &str = concat!(
        "SELECT ",
        hot!(),
        ", ",
        texts!(),
        " FROM task t INDEXED BY task_ready_queue CROSS JOIN task_body b ON b.task = t.ord WHERE t.status = 1 AND t.queue = ?1 \
         AND (?2 = '[]' OR t.kind IN (SELECT value FROM json_each(?2))) \
         ORDER BY t.priority DESC, t.ready_seq LIMIT ?3"
    );
    pub(crate) const READY_KIND: &str = concat!(
        "SELECT ",
        hot!(),
        ", ",
        texts!(),
        " FROM task t INDEXED BY task_ready_kind CROSS JOIN task_body b ON b.task = t.ord WHERE t.status = 1 AND t.kind = ?1 \
         ORDER BY t.priority DESC, t.ready_seq LIMIT ?2"
    );
    pub(crate) const EXPIRED: &str = concat!(
        "SELECT ",
        hot!(),
        " FROM task t INDEXED BY task_lease WHERE t.status = 2 AND t.lease_until <= ?1 \
         ORDER BY t.lease_until, t.ord LIMIT ?2"
    );
    pub(crate) const DELAYED: &str = concat!(
        "SELECT ",
        hot!(),
        " FROM task t INDEXED BY task_delayed WHERE t.status = 0 AND t.run_after IS NOT NULL \
         AND t.run_after <= ?1 ORDER BY t.run_after, t.ord LIMIT ?2"
    );
    pub(crate) const WAITERS: &str =
        "SELECT t.uid FROM dep d JOIN task t ON t.ord = d.waiter WHERE d.child = ?1 ORDER BY d.waiter";
    pub(crate) const KEYED: &str = concat!(
        "SELECT ",
        hot!(),
        " FROM task t INDEXED BY task_key WHERE ifnull(t.parent, x'') = ?1 AND t.idem_key = ?2"
    );
}

/// A change of status touches every index that knows statuses.
const PUT: &str = "UPDATE task SET status = ?2, ready_seq = ?3, handler = ?4, lease_epoch = ?5, lease_until = ?6, \
     attempt = ?7, crash_count = ?8, run_after = ?9, cancel_requested = ?10, open_children = ?11, waiting_on = ?12, \
     gather = ?13, gather_failed = ?14, messages = ?15, version = ?16, updated_at = ?17, finished_at = ?18 WHERE ord = ?1";
/// A heartbeat, a message or a counter touches one index at most.
const PUT_QUIET: &str = "UPDATE task SET lease_until = ?2, cancel_requested = ?3, open_children = ?4, \
     waiting_on = ?5, gather_failed = ?6, messages = ?7, version = ?8, updated_at = ?9 WHERE ord = ?1";

/// How many tasks are in each status, changed by so many, in the order of their life.
const ADD_TO_TALLY: &str = "UPDATE tally SET preparing = preparing + ?1, ready = ready + ?2, running = running + ?3, \
     blocked = blocked + ?4, completed = completed + ?5, failed = failed + ?6, cancelled = cancelled + ?7 WHERE id = 1";

/// One transaction on its way: what it has written so far.
#[derive(Debug)]
pub(super) struct Tx<'c> {
    pub(super) conn: &'c mut SqliteConnection,
    /// `seq` of the next event.
    pub(super) next_seq: u64,
    /// How the number of tasks in each status changes.
    pub(super) tally: [i64; Status::ALL.len()],
    /// Tasks that became ready.
    pub(super) ready: u32,
    /// Statements that wrote.
    pub(super) writes: u64,
}

impl<'c> Tx<'c> {
    pub(super) fn new(conn: &'c mut SqliteConnection, next_seq: u64) -> Self {
        Self {
            conn,
            next_seq,
            tally: [0; Status::ALL.len()],
            ready: 0,
            writes: 0,
        }
    }

    async fn write(&mut self, statement: Statement<'_>) -> Result<()> {
        self.writes += 1;
        statement
            .execute(&mut *self.conn)
            .await
            .map(drop)
            .map_err(storage)
    }

    async fn one(&mut self, statement: Statement<'_>) -> Result<Option<SqliteRow>> {
        statement.fetch_optional(&mut *self.conn).await.map_err(storage)
    }

    async fn rows(&mut self, statement: Statement<'_>) -> Result<Vec<Row>> {
        let rows = statement.fetch_all(&mut *self.conn).await.map_err(storage)?;
        rows.iter().map(codec::row).collect()
    }

    /// Hot rows with their bodies.
    async fn whole(&mut self, statement: Statement<'_>) -> Result<Vec<(Row, Body)>> {
        let rows = statement.fetch_all(&mut *self.conn).await.map_err(storage)?;
        rows.iter()
            .map(|row| Ok((codec::row(row)?, codec::body(row, HOT)?)))
            .collect()
    }

    /// Writes the changed numbers of tasks in each status.
    pub(super) async fn flush_tally(&mut self) -> Result<()> {
        if self.tally.iter().all(|by| *by == 0) {
            return Ok(());
        }
        let statement = self
            .tally
            .iter()
            .fold(sqlx::query(ADD_TO_TALLY), |statement, by| statement.bind(*by));
        self.write(statement).await
    }

    fn count(&mut self, was: Option<Status>, is: Status) {
        if was == Some(is) {
            return;
        }
        if let Some(was) = was {
            self.tally[was as usize] -= 1;
        }
        self.tally[is as usize] += 1;
        self.ready += u32::from(is == Status::Ready);
    }

    async fn ready_in_queues(&mut self, claim: &ClaimReq) -> Result<Vec<(Row, Body)>> {
        let kinds = to_text(&claim.kinds)?;
        let mut found = Vec::new();
        for queue in &claim.queues {
            let statement = sqlx::query(hot_sql::READY_QUEUE)
                .bind(queue.clone())
                .bind(kinds.clone());
            found.extend(self.whole(statement.bind(i64::from(claim.max))).await?);
        }
        Ok(found)
    }

    async fn ready_of_kinds(&mut self, claim: &ClaimReq) -> Result<Vec<(Row, Body)>> {
        let mut found = Vec::new();
        for kind in &claim.kinds {
            let statement = sqlx::query(hot_sql::READY_KIND)
                .bind(kind.clone())
                .bind(i64::from(claim.max));
            found.extend(self.whole(statement).await?);
        }
        Ok(found)
    }

    async fn ready_task(&mut self, claim: &ClaimReq, task: TaskId) -> Result<Vec<(Row, Body)>> {
        let fits = |row: &Row| {
            row.status == Status::Ready
                && claim.max > 0
                && (claim.queues.is_empty() || claim.queues.contains(&row.queue))
                && (claim.kinds.is_empty() || claim.kinds.contains(&row.kind))
        };
        match self.row(task).await?.filter(fits) {
            Some(row) => Ok(vec![(row.clone(), self.body(&row).await?)]),
            None => Ok(Vec::new()),
        }
    }
}

impl Rows for Tx<'_> {
    async fn row(&mut self, id: TaskId) -> Result<Option<Row>> {
        let found = self
            .one(sqlx::query(hot_sql::BY_ID).bind(&id.as_bytes()[..]))
            .await?;
        found.as_ref().map(codec::row).transpose()
    }

    async fn body(&mut self, row: &Row) -> Result<Body> {
        const SQL: &str = concat!("SELECT ", texts!(), " FROM task_body b WHERE b.task = ?1");
        let found = self.one(sqlx::query(SQL).bind(int(row.ord))).await?;
        let found = found.ok_or_else(|| Error::Corrupt(format!("task {} has no body", row.id)))?;
        codec::body(&found, 0)
    }

    async fn keyed(&mut self, parent: Option<TaskId>, key: &str) -> Result<Option<Row>> {
        let parent = parent.map_or_else(Vec::new, |id| id.as_bytes().to_vec());
        let found = self
            .one(sqlx::query(hot_sql::KEYED).bind(parent).bind(key.to_owned()))
            .await?;
        found.as_ref().map(codec::row).transpose()
    }

    async fn insert(&mut self, row: &mut Row, body: &Body, key: Option<&str>) -> Result<()> {
        let statement = sqlx::query(
            "INSERT INTO task (uid, root, parent, depth, kind, queue, status, priority, ready_seq, lease_epoch, \
             attempt, max_attempts, crash_count, run_after, deadline, cancel_requested, open_children, waiting_on, \
             gather_failed, messages, version, created_at, updated_at, idem_key) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, 0, 0, ?9, 0, ?10, ?11, 0, 0, 0, 0, 0, ?12, ?13, ?13, ?14) \
             RETURNING ord",
        )
        .bind(row.id.as_bytes().to_vec())
        .bind(row.root_id.as_bytes().to_vec())
        .bind(row.parent_id.map(|id| id.as_bytes().to_vec()))
        .bind(row.depth)
        .bind(row.kind.clone())
        .bind(row.queue.clone())
        .bind(row.status as i64)
        .bind(row.priority)
        .bind(row.max_attempts)
        .bind(row.run_after.map(Timestamp::as_ms))
        .bind(row.deadline.map(Timestamp::as_ms))
        .bind(int(row.version))
        .bind(row.created_at.as_ms())
        .bind(key.map(str::to_owned));
        self.writes += 1;
        let made = statement.fetch_one(&mut *self.conn).await.map_err(storage)?;
        let ord: i64 = made.try_get(0).map_err(storage)?;
        row.ord = ord.unsigned_abs();
        self.count(None, row.status);
        let statement =
            sqlx::query("INSERT INTO task_body (task, title, spec, payload) VALUES (?1, ?2, ?3, ?4)");
        let statement = statement
            .bind(ord)
            .bind(body.title.clone())
            .bind(body.spec.clone());
        self.write(statement.bind(to_text(&body.payload)?)).await
    }

    async fn put(&mut self, row: &Row, was: Status) -> Result<()> {
        if row.status == was {
            return self.write(put_quiet(row)).await;
        }
        self.count(Some(was), row.status);
        self.write(put(row)).await
    }

    async fn put_outcome(&mut self, row: &Row, outcome: &Outcome) -> Result<()> {
        let statement = match outcome {
            Outcome::Result(result) => sqlx::query("UPDATE task_body SET result = ?2 WHERE task = ?1")
                .bind(int(row.ord))
                .bind(to_text(result)?),
            Outcome::Error(error) => sqlx::query("UPDATE task_body SET error = ?2 WHERE task = ?1")
                .bind(int(row.ord))
                .bind(error.clone()),
        };
        self.write(statement).await
    }

    async fn event(&mut self, row: &Row, kind: EventKind, body: Json, at: Timestamp) -> Result<u64> {
        let seq = self.next_seq;
        let statement = sqlx::query(
            "INSERT INTO event (seq, task, root, kind, body, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .bind(int(seq))
        .bind(row.id.as_bytes().to_vec())
        .bind(row.root_id.as_bytes().to_vec())
        .bind(kind.as_str())
        .bind(to_text(&body)?)
        .bind(at.as_ms());
        self.write(statement).await?;
        self.next_seq += 1;
        Ok(seq)
    }

    async fn keyed_message(&mut self, row: &Row, key: &str) -> Result<Option<MessageRecord>> {
        const SQL: &str = concat!(
            "SELECT ",
            said!(),
            " FROM message WHERE task = ?1 AND idem_key = ?2"
        );
        let found = self
            .one(sqlx::query(SQL).bind(int(row.ord)).bind(key.to_owned()))
            .await?;
        found.map(|found| codec::message(row.id, &found)).transpose()
    }

    async fn insert_message(&mut self, row: &Row, message: &MessageRecord, key: Option<&str>) -> Result<()> {
        const SQL: &str = concat!(
            "INSERT INTO message (task, ",
            said!(),
            ", idem_key) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
        );
        let calls = (!message.tool_calls.is_empty())
            .then(|| to_text(&message.tool_calls))
            .transpose()?;
        let statement = sqlx::query(SQL)
            .bind(int(row.ord))
            .bind(int(message.seq))
            .bind(message.role.as_str())
            .bind(message.content.clone())
            .bind(calls)
            .bind(message.tool_call_id.clone())
            .bind(message.persistence.as_ref().map(to_text).transpose()?)
            .bind(message.created_at.as_ms())
            .bind(key.map(str::to_owned));
        self.write(statement).await
    }

    async fn ready(&mut self, claim: &ClaimReq) -> Result<Vec<(Row, Body)>> {
        let mut found = match (claim.task, claim.queues.is_empty(), claim.kinds.is_empty()) {
            (Some(task), ..) => self.ready_task(claim, task).await?,
            (None, false, _) => self.ready_in_queues(claim).await?,
            (None, true, false) => self.ready_of_kinds(claim).await?,
            (None, true, true) => {
                self.whole(sqlx::query(hot_sql::READY).bind(i64::from(claim.max)))
                    .await?
            }
        };
        found.sort_by_key(|(row, _)| (std::cmp::Reverse(row.priority), row.ready_seq));
        found.dedup_by_key(|(row, _)| row.ord);
        found.truncate(claim.max as usize);
        Ok(found)
    }

    async fn expired(&mut self, now: Timestamp, limit: u32) -> Result<Vec<Row>> {
        self.rows(
            sqlx::query(hot_sql::EXPIRED)
                .bind(now.as_ms())
                .bind(i64::from(limit)),
        )
        .await
    }

    async fn delayed(&mut self, now: Timestamp, limit: u32) -> Result<Vec<Row>> {
        self.rows(
            sqlx::query(hot_sql::DELAYED)
                .bind(now.as_ms())
                .bind(i64::from(limit)),
        )
        .await
    }

    async fn wait(&mut self, waiter: &Row, child: &Row) -> Result<()> {
        let statement = sqlx::query("INSERT INTO dep (child, waiter) VALUES (?1, ?2)");
        self.write(statement.bind(int(child.ord)).bind(int(waiter.ord)))
            .await
    }

    async fn take_waiters(&mut self, child: &Row) -> Result<Vec<TaskId>> {
        let statement = sqlx::query_scalar::<_, Vec<u8>>(hot_sql::WAITERS).bind(int(child.ord));
        let found = statement.fetch_all(&mut *self.conn).await.map_err(storage)?;
        if !found.is_empty() {
            self.write(sqlx::query("DELETE FROM dep WHERE child = ?1").bind(int(child.ord)))
                .await?;
        }
        found.iter().map(|bytes| codec::task_id(bytes)).collect()
    }

    async fn drop_waits(&mut self, waiter: &Row) -> Result<()> {
        self.write(sqlx::query("DELETE FROM dep WHERE waiter = ?1").bind(int(waiter.ord)))
            .await
    }
}

fn put(row: &Row) -> Statement<'static> {
    sqlx::query(PUT)
        .bind(int(row.ord))
        .bind(row.status as i64)
        .bind(int(row.ready_seq))
        .bind(row.handler_id.as_ref().map(|id| id.as_str().to_owned()))
        .bind(int(row.lease_epoch))
        .bind(row.lease_until.map(Timestamp::as_ms))
        .bind(row.attempt)
        .bind(row.crash_count)
        .bind(row.run_after.map(Timestamp::as_ms))
        .bind(row.cancel_requested)
        .bind(row.open_children)
        .bind(row.waiting_on)
        .bind(row.gather.map(|policy| policy as i64))
        .bind(row.gather_failed)
        .bind(int(row.messages))
        .bind(int(row.version))
        .bind(row.updated_at.as_ms())
        .bind(row.finished_at.map(Timestamp::as_ms))
}

fn put_quiet(row: &Row) -> Statement<'static> {
    sqlx::query(PUT_QUIET)
        .bind(int(row.ord))
        .bind(row.lease_until.map(Timestamp::as_ms))
        .bind(row.cancel_requested)
        .bind(row.open_children)
        .bind(row.waiting_on)
        .bind(row.gather_failed)
        .bind(int(row.messages))
        .bind(int(row.version))
        .bind(row.updated_at.as_ms())
}
