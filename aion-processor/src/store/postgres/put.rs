//! What a transaction puts off, and the statements that write it in batches: a column an array.

use std::collections::BTreeMap;

use aion_types::{EventKind, MessageRecord, Status, TaskId, Timestamp};

use super::codec::{int, text, to_text};
use super::sql;
use super::tx::Statement;
use crate::Result;
use crate::engine::row::{Body, Row};
use crate::engine::rows::Outcome;
use crate::store::NEAR;

/// A new task: the rest of it is among the known rows.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) id: TaskId,
    pub(super) body: Body,
    pub(super) key: Option<String>,
}

/// How a task ended, as it is stored.
#[derive(Debug, Default)]
pub(super) struct Ending {
    result: Option<String>,
    error: Option<String>,
}

/// An event on its way to the log.
#[derive(Debug)]
pub(super) struct Happened {
    pub(super) seq: u64,
    pub(super) task: TaskId,
    pub(super) root: TaskId,
    pub(super) kind: EventKind,
    pub(super) body: String,
    pub(super) at: Timestamp,
}

/// The state of the database at the end of a transaction.
#[derive(Debug)]
pub(super) struct State {
    /// The transaction that must have written last.
    pub(super) turn: i64,
    /// Whether the commit is flushed, if the transaction has not been told.
    pub(super) careful: Option<bool>,
    pub(super) last_seq: u64,
    pub(super) last_ord: u64,
    pub(super) tally: [i64; Status::ALL.len()],
}

/// A message on its way to the table, as it is stored.
#[derive(Debug)]
pub(super) struct Said {
    task: u64,
    message: MessageRecord,
    calls: Option<String>,
    persistence: Option<String>,
    key: Option<String>,
}

fn is_near(text: &&String) -> bool {
    text.len() <= NEAR
}

impl Ending {
    /// Leaves only what is too long to lie near.
    pub(super) fn drop_near(&mut self) {
        self.result.take_if(|text| is_near(&&*text));
        self.error.take_if(|text| is_near(&&*text));
    }

    /// Whether something of it is too long to lie near.
    pub(super) fn is_long(&self) -> bool {
        let long = |text: &Option<String>| text.as_ref().is_some_and(|text| !is_near(&text));
        long(&self.result) || long(&self.error)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.result.is_none() && self.error.is_none()
    }

    pub(super) fn has_error(&self) -> bool {
        self.error.is_some()
    }

    /// Adds what the engine says of it.
    pub(super) fn add(&mut self, outcome: &Outcome) -> Result<()> {
        match outcome {
            Outcome::Result(result) => self.result = Some(to_text(result)?),
            Outcome::Error(error) => self.error = Some(text(error)),
        }
        Ok(())
    }
}

impl Said {
    pub(super) fn new(row: &Row, message: &MessageRecord, key: Option<&str>) -> Result<Self> {
        let calls = (!message.tool_calls.is_empty()).then(|| to_text(&message.tool_calls));
        Ok(Self {
            task: row.ord,
            calls: calls.transpose()?,
            persistence: message.persistence.as_ref().map(to_text).transpose()?,
            message: message.clone(),
            key: key.map(text),
        })
    }
}

pub(super) fn bytes(task: TaskId) -> Vec<u8> {
    task.as_bytes().to_vec()
}

fn column<I, T>(items: &[I], each: impl Fn(&I) -> T) -> Vec<T> {
    items.iter().map(each).collect()
}

fn ms(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_ms)
}

fn handler(row: &Row) -> Option<String> {
    row.handler_id.as_ref().map(|id| text(id.as_str()))
}

/// New tasks.
pub(super) fn insert(rows: &[Row]) -> Statement<'static> {
    sqlx::query(sql::INSERT)
        .bind(column(rows, |row| int(row.ord)))
        .bind(column(rows, |row| bytes(row.id)))
        .bind(column(rows, |row| bytes(row.root_id)))
        .bind(column(rows, |row| row.parent_id.map(bytes)))
        .bind(column(rows, |row| i64::from(row.depth)))
        .bind(column(rows, |row| text(&row.kind)))
        .bind(column(rows, |row| text(&row.queue)))
        .bind(column(rows, |row| row.status as i64))
        .bind(column(rows, |row| i64::from(row.priority)))
        .bind(column(rows, |row| int(row.ready_seq)))
        .bind(column(rows, handler))
        .bind(column(rows, |row| int(row.lease_epoch)))
        .bind(column(rows, |row| ms(row.lease_until)))
        .bind(column(rows, |row| i64::from(row.attempt)))
        .bind(column(rows, |row| i64::from(row.max_attempts)))
        .bind(column(rows, |row| i64::from(row.crash_count)))
        .bind(column(rows, |row| ms(row.run_after)))
        .bind(column(rows, |row| ms(row.deadline)))
        .bind(column(rows, |row| row.cancel_requested))
        .bind(column(rows, |row| i64::from(row.open_children)))
        .bind(column(rows, |row| i64::from(row.waiting_on)))
        .bind(column(rows, |row| row.gather.map(|policy| policy as i64)))
        .bind(column(rows, |row| row.gather_failed))
        .bind(column(rows, |row| int(row.messages)))
        .bind(column(rows, |row| int(row.version)))
        .bind(column(rows, |row| row.created_at.as_ms()))
        .bind(column(rows, |row| row.updated_at.as_ms()))
        .bind(column(rows, |row| ms(row.finished_at)))
        .bind(column(rows, |row| {
            row.concurrency.as_ref().map(|shared| text(&shared.key))
        }))
        .bind(column(rows, |row| {
            row.concurrency.as_ref().map(|shared| i64::from(shared.max))
        }))
        .bind(column(rows, |row| row.gated))
        .bind(column(rows, |row| i64::from(row.holds)))
        .bind(column(rows, |row| row.purging))
}

/// What never changes of new tasks.
pub(super) fn insert_entries(rows: &[Row], made: &[Made]) -> Statement<'static> {
    sqlx::query(sql::INSERT_ENTRIES)
        .bind(column(rows, |row| int(row.ord)))
        .bind(column(rows, |row| bytes(row.id)))
        .bind(column(rows, |row| bytes(row.root_id)))
        .bind(column(rows, |row| row.parent_id.map(bytes)))
        .bind(column(rows, |row| text(&row.kind)))
        .bind(column(rows, |row| text(&row.queue)))
        .bind(column(made, |made| made.key.as_deref().map(text)))
}

/// The texts of new tasks; `rows` and `made` are the same tasks.
pub(super) fn insert_bodies(rows: &[Row], made: &[Made]) -> Result<Statement<'static>> {
    let payloads = made.iter().map(|made| to_text(&made.body.payload));
    let results = made
        .iter()
        .map(|made| made.body.result.as_ref().map(to_text).transpose());
    Ok(sqlx::query(sql::INSERT_BODIES)
        .bind(column(rows, |row| int(row.ord)))
        .bind(column(made, |made| text(&made.body.title)))
        .bind(column(made, |made| text(&made.body.spec)))
        .bind(payloads.collect::<Result<Vec<_>>>()?)
        .bind(results.collect::<Result<Vec<_>>>()?)
        .bind(column(made, |made| made.body.error.as_deref().map(text))))
}

/// Changed tasks, and how they ended if that is short. An index is touched only where its columns have changed.
pub(super) fn update(rows: &[Row], endings: &BTreeMap<u64, Ending>) -> Statement<'static> {
    let rows: Vec<&Row> = rows.iter().collect();
    bind_rows(sqlx::query(sql::UPDATE), &rows, endings)
}

/// The end of a transaction: its state, changed tasks, how they ended, which must be short, and events.
pub(super) fn settle(
    state: &State,
    rows: &[Row],
    endings: &BTreeMap<u64, Ending>,
    events: &[Happened],
) -> Statement<'static> {
    let statement = sqlx::query(sql::SETTLE)
        .bind(state.turn)
        .bind(state.careful)
        .bind(int(state.last_seq))
        .bind(int(state.last_ord))
        .bind(state.tally.to_vec());
    let (plain, rest): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| is_plain(row, endings));
    let statement = bind_events(bind_rows(statement, &rest, endings), events);
    bind_plain(statement, &plain, endings)
}

/// Whether all that most tasks never have is as it was when the task was new.
fn is_plain(row: &Row, endings: &BTreeMap<u64, Ending>) -> bool {
    let asked = row.cancel_requested || row.gated || row.purging;
    let waits = row.open_children > 0 || row.waiting_on > 0 || row.gather.is_some() || row.gather_failed;
    let failed = endings.get(&row.ord).is_some_and(Ending::has_error);
    !asked && !waits && !failed && row.messages == 0 && row.holds == 0
}

fn result(row: &Row, endings: &BTreeMap<u64, Ending>) -> Option<String> {
    let text = endings.get(&row.ord).and_then(|ending| ending.result.as_ref());
    text.filter(is_near).cloned()
}

/// Which tasks, and whose turn each is.
fn bind_turn(statement: Statement<'static>, rows: &[&Row]) -> Statement<'static> {
    statement
        .bind(column(rows, |row| int(row.ord)))
        .bind(column(rows, |row| row.status as i64))
        .bind(column(rows, |row| int(row.ready_seq)))
        .bind(column(rows, |row| handler(row)))
        .bind(column(rows, |row| int(row.lease_epoch)))
        .bind(column(rows, |row| ms(row.lease_until)))
        .bind(column(rows, |row| i64::from(row.attempt)))
        .bind(column(rows, |row| i64::from(row.crash_count)))
        .bind(column(rows, |row| ms(row.run_after)))
}

/// Tasks of which only that has changed which changes of each.
fn bind_plain(
    statement: Statement<'static>,
    rows: &[&Row],
    endings: &BTreeMap<u64, Ending>,
) -> Statement<'static> {
    bind_turn(statement, rows)
        .bind(column(rows, |row| int(row.version)))
        .bind(column(rows, |row| row.updated_at.as_ms()))
        .bind(column(rows, |row| ms(row.finished_at)))
        .bind(column(rows, |row| result(row, endings)))
}

fn bind_rows(
    statement: Statement<'static>,
    rows: &[&Row],
    endings: &BTreeMap<u64, Ending>,
) -> Statement<'static> {
    let error = |row: &Row| {
        let text = endings.get(&row.ord).and_then(|ending| ending.error.as_ref());
        text.filter(is_near).cloned()
    };
    bind_turn(statement, rows)
        .bind(column(rows, |row| row.cancel_requested))
        .bind(column(rows, |row| i64::from(row.open_children)))
        .bind(column(rows, |row| i64::from(row.waiting_on)))
        .bind(column(rows, |row| row.gather.map(|policy| policy as i64)))
        .bind(column(rows, |row| row.gather_failed))
        .bind(column(rows, |row| int(row.messages)))
        .bind(column(rows, |row| int(row.version)))
        .bind(column(rows, |row| row.updated_at.as_ms()))
        .bind(column(rows, |row| ms(row.finished_at)))
        .bind(column(rows, |row| row.gated))
        .bind(column(rows, |row| i64::from(row.holds)))
        .bind(column(rows, |row| row.purging))
        .bind(column(rows, |row| result(row, endings)))
        .bind(column(rows, |row| error(row)))
}

pub(super) fn update_bodies(endings: &[(u64, Ending)]) -> Statement<'static> {
    sqlx::query(sql::UPDATE_BODIES)
        .bind(column(endings, |(task, _)| int(*task)))
        .bind(column(endings, |(_, ending)| ending.result.clone()))
        .bind(column(endings, |(_, ending)| ending.error.clone()))
}

pub(super) fn insert_events(events: &[Happened]) -> Statement<'static> {
    bind_events(sqlx::query(sql::INSERT_EVENTS), events)
}

fn bind_events(statement: Statement<'static>, events: &[Happened]) -> Statement<'static> {
    statement
        .bind(column(events, |event| int(event.seq)))
        .bind(column(events, |event| bytes(event.task)))
        .bind(column(events, |event| bytes(event.root)))
        .bind(column(events, |event| event.kind.as_str().to_owned()))
        .bind(column(events, |event| event.body.clone()))
        .bind(column(events, |event| event.at.as_ms()))
}

pub(super) fn insert_messages(messages: &[Said]) -> Statement<'static> {
    sqlx::query(sql::INSERT_MESSAGES)
        .bind(column(messages, |said| int(said.task)))
        .bind(column(messages, |said| int(said.message.seq)))
        .bind(column(messages, |said| said.message.role.as_str().to_owned()))
        .bind(column(messages, |said| text(&said.message.content)))
        .bind(column(messages, |said| said.calls.clone()))
        .bind(column(messages, |said| {
            said.message.tool_call_id.as_deref().map(text)
        }))
        .bind(column(messages, |said| said.persistence.clone()))
        .bind(column(messages, |said| said.message.created_at.as_ms()))
        .bind(column(messages, |said| said.key.clone()))
}

pub(super) fn insert_deps(deps: &[(u64, u64)]) -> Statement<'static> {
    sqlx::query(sql::INSERT_DEPS)
        .bind(column(deps, |(child, _)| int(*child)))
        .bind(column(deps, |(_, waiter)| int(*waiter)))
}
