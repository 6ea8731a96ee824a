//! One transaction of the writer: what it has read, and what it has yet to write.
//!
//! A statement costs a journey to the server, so a transaction keeps the tasks that it has seen, gives numbers
//! itself, and writes rows, events and messages together: at its end, or before a search that must see them.
//! This is sound because [`sql::LOCK`] keeps every other writer out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use aion_types::{Status, TaskId, Timestamp};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{PgConnection, Postgres, Row as _};

use super::codec::{self, HOT, storage};
use super::put::{self, Ending, Happened, Made, Said};
use super::ready::Shelf;
use super::sql;
use crate::engine::row::{Body, Row};
use crate::{Error, Result};

pub(super) type Statement<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

/// Parts of a batch: so many items go in one statement at most.
const BATCH: usize = 1_000;

/// One transaction on its way.
#[derive(Debug)]
pub(super) struct Tx<'c> {
    pub(super) conn: &'c mut PgConnection,
    /// When it began, by the server's clock.
    pub(super) began: Timestamp,
    /// `seq` of the last event.
    pub(super) last_seq: u64,
    /// `ord` of the last task.
    pub(super) last_ord: u64,
    /// How the number of tasks in each status changes.
    pub(super) tally: [i64; Status::ALL.len()],
    /// Tasks that became ready.
    pub(super) ready: u32,
    /// Things that it wrote or is going to write.
    pub(super) writes: u64,
    /// Tasks as this transaction leaves them; none where there is none.
    pub(super) known: HashMap<TaskId, Option<Row>>,
    /// Tasks that nobody waits for.
    pub(super) lonely: HashSet<u64>,
    pub(super) keys: HashMap<(Option<TaskId>, String), TaskId>,
    pub(super) made: BTreeMap<u64, Made>,
    pub(super) changed: BTreeMap<u64, TaskId>,
    pub(super) endings: BTreeMap<u64, Ending>,
    pub(super) events: Vec<Happened>,
    pub(super) messages: Vec<Said>,
    pub(super) deps: BTreeSet<(u64, u64)>,
    pub(super) shelf: Shelf,
}

impl<'c> Tx<'c> {
    /// Keeps everybody else from writing until the transaction ends.
    pub(super) async fn begin(conn: &'c mut PgConnection) -> Result<Self> {
        let (last_seq, last_ord, ms): (i64, i64, i64) = sqlx::query_as(sql::LOCK)
            .fetch_one(&mut *conn)
            .await
            .map_err(storage)?;
        Ok(Self {
            conn,
            began: Timestamp::from_ms(ms),
            last_seq: last_seq.unsigned_abs(),
            last_ord: last_ord.unsigned_abs(),
            tally: [0; Status::ALL.len()],
            ready: 0,
            writes: 0,
            known: HashMap::new(),
            lonely: HashSet::new(),
            keys: HashMap::new(),
            made: BTreeMap::new(),
            changed: BTreeMap::new(),
            endings: BTreeMap::new(),
            events: Vec::new(),
            messages: Vec::new(),
            deps: BTreeSet::new(),
            shelf: Shelf::default(),
        })
    }

    pub(super) async fn write(&mut self, statement: Statement<'_>) -> Result<()> {
        self.writes += 1;
        self.send(statement).await
    }

    /// Writes what was counted when it was asked for.
    async fn send(&mut self, statement: Statement<'_>) -> Result<()> {
        statement
            .execute(&mut *self.conn)
            .await
            .map(drop)
            .map_err(storage)
    }

    pub(super) async fn one(&mut self, statement: Statement<'_>) -> Result<Option<PgRow>> {
        statement.fetch_optional(&mut *self.conn).await.map_err(storage)
    }

    pub(super) async fn all(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>> {
        statement.fetch_all(&mut *self.conn).await.map_err(storage)
    }

    /// Hot rows; the tasks must have been written before.
    pub(super) async fn rows(&mut self, statement: Statement<'_>) -> Result<Vec<Row>> {
        let rows = self.all(statement).await?;
        rows.iter().map(|row| self.meet(row)).collect()
    }

    /// Hot rows with their bodies; the tasks must have been written before.
    pub(super) async fn whole(&mut self, statement: Statement<'_>) -> Result<Vec<(Row, Body)>> {
        let rows = self.all(statement).await?;
        rows.iter()
            .map(|row| Ok((self.meet(row)?, codec::body(row, HOT)?)))
            .collect()
    }

    fn meet(&mut self, row: &PgRow) -> Result<Row> {
        let row = codec::row(row)?;
        self.known.insert(row.id, Some(row.clone()));
        Ok(row)
    }

    /// Reads the tasks that are going to be asked for, in one journey.
    pub(super) async fn prefetch(&mut self, ids: impl IntoIterator<Item = TaskId>) -> Result<()> {
        let missing: BTreeSet<TaskId> = ids
            .into_iter()
            .filter(|id| !self.known.contains_key(id))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let bytes: Vec<Vec<u8>> = missing.iter().map(|id| id.as_bytes().to_vec()).collect();
        let found = self.all(sqlx::query(sql::BY_IDS).bind(bytes)).await?;
        self.known.extend(missing.into_iter().map(|id| (id, None)));
        for row in &found {
            let ord = self.meet(row)?.ord;
            if !row.try_get::<bool, _>(HOT).map_err(storage)? {
                self.lonely.insert(ord);
            }
        }
        Ok(())
    }

    /// The task as it stands.
    pub(super) async fn find(&mut self, id: TaskId) -> Result<Option<Row>> {
        self.prefetch([id]).await?;
        Ok(self.known.get(&id).cloned().flatten())
    }

    /// Writes the tasks, so that searches find them.
    pub(super) async fn flush_tasks(&mut self) -> Result<()> {
        let made: Vec<Made> = std::mem::take(&mut self.made).into_values().collect();
        for part in made.chunks(BATCH) {
            let rows = part.iter().map(|made| self.known_row(made.id));
            let rows = rows.collect::<Result<Vec<Row>>>()?;
            self.send(put::insert(&rows, part)).await?;
            self.send(put::insert_bodies(&rows, part)?).await?;
        }
        let changed: Vec<TaskId> = std::mem::take(&mut self.changed).into_values().collect();
        for part in changed.chunks(BATCH) {
            let rows = part.iter().map(|id| self.known_row(*id));
            let rows = rows.collect::<Result<Vec<Row>>>()?;
            self.send(put::update(&rows, &self.endings)).await?;
            for row in &rows {
                self.endings.entry(row.ord).and_modify(Ending::drop_near);
            }
        }
        self.flush_endings().await
    }

    /// Writes how tasks ended where that was not written with them.
    async fn flush_endings(&mut self) -> Result<()> {
        let endings = std::mem::take(&mut self.endings).into_iter();
        let endings: Vec<(u64, Ending)> = endings.filter(|(_, ending)| !ending.is_empty()).collect();
        for part in endings.chunks(BATCH) {
            self.send(put::update_bodies(part)).await?;
        }
        let failed = endings.iter().filter(|(_, ending)| ending.has_error());
        let failed: Vec<i64> = failed.map(|(ord, _)| codec::int(*ord)).collect();
        if failed.is_empty() {
            return Ok(());
        }
        self.send(sqlx::query(sql::FORGET_ERRORS).bind(failed)).await
    }

    fn known_row(&self, id: TaskId) -> Result<Row> {
        let row = self.known.get(&id).cloned().flatten();
        row.ok_or_else(|| Error::Corrupt(format!("task {id} was changed, but never read")))
    }

    pub(super) async fn flush_messages(&mut self) -> Result<()> {
        let messages = std::mem::take(&mut self.messages);
        for part in messages.chunks(BATCH) {
            self.send(put::insert_messages(part)).await?;
        }
        Ok(())
    }

    pub(super) async fn flush_deps(&mut self) -> Result<()> {
        let deps: Vec<(u64, u64)> = std::mem::take(&mut self.deps).into_iter().collect();
        for part in deps.chunks(BATCH) {
            self.send(put::insert_deps(part)).await?;
        }
        Ok(())
    }

    /// Writes everything that has been put off.
    pub(super) async fn flush(&mut self) -> Result<()> {
        self.flush_tasks().await?;
        self.flush_messages().await?;
        self.flush_deps().await?;
        let events = std::mem::take(&mut self.events);
        for part in events.chunks(BATCH) {
            self.send(put::insert_events(part)).await?;
        }
        Ok(())
    }

    /// The end of a transaction that wrote: what was put off, and the state of the database.
    pub(super) async fn finish(&mut self) -> Result<()> {
        self.flush().await?;
        let statement = sqlx::query(sql::STATE)
            .bind(codec::int(self.last_seq))
            .bind(codec::int(self.last_ord));
        let statement = self
            .tally
            .iter()
            .fold(statement, |statement, by| statement.bind(*by));
        self.send(statement).await
    }

    pub(super) fn count(&mut self, was: Option<Status>, row: &Row) {
        if was == Some(row.status) {
            return;
        }
        if let Some(was) = was {
            self.tally[was as usize] -= 1;
        }
        self.tally[row.status as usize] += 1;
        if row.status == Status::Ready && !row.gated {
            self.ready += 1;
            self.shelf.clear();
        }
    }

    /// Keeps a changed task for the next flush.
    pub(super) fn keep(&mut self, row: Row) {
        if !self.made.contains_key(&row.ord) {
            self.changed.insert(row.ord, row.id);
        }
        self.known.insert(row.id, Some(row));
    }
}
