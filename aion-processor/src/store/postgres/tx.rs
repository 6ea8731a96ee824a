//! One transaction of the writer: what it has read, and what it has yet to write.
//!
//! A statement costs a journey to the server, so a transaction keeps the tasks that it has seen, gives numbers
//! itself, and writes rows, events and messages together: at its end, or before a search that must see them.
//! This is sound because [`sql::LOCK`] keeps every other writer out. What it has seen also serves the next
//! transaction, see [`known`](super::known): that one asks nothing of the server until it must, and if it never must,
//! one statement writes all of it, provided that nobody else has written meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use aion_types::{Status, TaskId, Timestamp};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{PgConnection, Postgres, Row as _};

use super::codec::{self, HOT, TEXTS, storage};
use super::known::{Known, Turn};
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
    conn: &'c mut PgConnection,
    /// How it begins, while it has not.
    asleep: Option<Begin>,
    /// Whether somebody else has written since that what it went by was read: then it comes to nothing.
    pub(super) stale: bool,
    turn: Turn,
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
    /// Tasks that it has read or changed.
    pub(super) met: Vec<TaskId>,
}

/// How a transaction of the writer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// Inside another one.
    Within,
    /// A commit that need not be flushed.
    Hasty,
    /// A commit that is flushed.
    Careful,
}

/// What the lock found: the last numbers, the clock and the transaction that wrote last.
type Locked = (u64, u64, Turn);

async fn lock(conn: &mut PgConnection, begin: Begin) -> Result<Locked> {
    let row = match begin {
        Begin::Within => sqlx::query(sql::LOCK).fetch_one(conn).await,
        Begin::Hasty => first(sql::BEGIN_HASTY, conn).await,
        Begin::Careful => first(sql::BEGIN_CAREFUL, conn).await,
    };
    let row = row.map_err(storage)?;
    let number = |index| row.try_get::<i64, _>(index).map_err(storage);
    let (last_seq, last_ord) = (number(0)?.unsigned_abs(), number(1)?.unsigned_abs());
    Ok((last_seq, last_ord, Turn::new(number(3)?, number(2)?)))
}

/// The one row of several statements that go together.
async fn first(sql: &'static str, conn: &mut PgConnection) -> std::result::Result<PgRow, sqlx::Error> {
    let mut rows = sqlx::raw_sql(sql).fetch_all(conn).await?;
    rows.pop().ok_or(sqlx::Error::RowNotFound)
}

impl<'c> Tx<'c> {
    /// Keeps everybody else from writing until the transaction ends.
    pub(super) async fn begin(
        conn: &'c mut PgConnection,
        begin: Begin,
        known: Option<Known>,
    ) -> Result<Self> {
        let (last_seq, last_ord, turn) = lock(conn, begin).await?;
        let known = known.filter(|known| known.turn.number == turn.number);
        let known = known.unwrap_or_else(|| Known {
            turn,
            last_seq,
            last_ord,
            rows: HashMap::new(),
            lonely: HashSet::new(),
            shelf: Shelf::default(),
        });
        Ok(Self::over(conn, Known { turn, ..known }))
    }

    /// Goes by what is known, and begins when it must ask for more.
    pub(super) fn resume(conn: &'c mut PgConnection, begin: Begin, known: Known) -> Self {
        Self {
            asleep: Some(begin),
            ..Self::over(conn, known)
        }
    }

    fn over(conn: &'c mut PgConnection, known: Known) -> Self {
        Self {
            conn,
            asleep: None,
            stale: false,
            turn: known.turn,
            began: known.turn.now(),
            last_seq: known.last_seq,
            last_ord: known.last_ord,
            tally: [0; Status::ALL.len()],
            ready: 0,
            writes: 0,
            known: known.rows,
            lonely: known.lonely,
            keys: HashMap::new(),
            made: BTreeMap::new(),
            changed: BTreeMap::new(),
            endings: BTreeMap::new(),
            events: Vec::new(),
            messages: Vec::new(),
            deps: BTreeSet::new(),
            shelf: known.shelf,
            met: Vec::new(),
        }
    }

    /// The server, once it is certain that what was known is so.
    pub(super) async fn server(&mut self) -> Result<&mut PgConnection> {
        if let Some(begin) = self.asleep.take() {
            let (.., turn) = lock(self.conn, begin).await?;
            if turn.number != self.turn.number {
                self.stale = true;
                return Err(Error::Busy { retry_after_ms: 1 });
            }
            self.turn = turn;
        }
        Ok(self.conn)
    }

    /// What the next transaction may go by, if this one wrote nothing.
    pub(super) fn unwritten(self) -> Option<Known> {
        let turn = self.turn;
        Known::of(self, turn)
    }

    pub(super) fn know(&mut self, id: TaskId, row: Option<Row>) {
        self.met.push(id);
        self.known.insert(id, row);
    }

    pub(super) async fn write(&mut self, statement: Statement<'_>) -> Result<()> {
        self.writes += 1;
        self.send(statement).await
    }

    /// Writes what was counted when it was asked for.
    async fn send(&mut self, statement: Statement<'_>) -> Result<()> {
        let server = self.server().await?;
        statement.execute(server).await.map(drop).map_err(storage)
    }

    pub(super) async fn one(&mut self, statement: Statement<'_>) -> Result<Option<PgRow>> {
        statement
            .fetch_optional(self.server().await?)
            .await
            .map_err(storage)
    }

    pub(super) async fn all(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>> {
        statement.fetch_all(self.server().await?).await.map_err(storage)
    }

    /// Hot rows; the tasks must have been written before.
    pub(super) async fn rows(&mut self, statement: Statement<'_>) -> Result<Vec<Row>> {
        let rows = self.all(statement).await?;
        rows.iter().map(|row| self.meet(row)).collect()
    }

    /// Adds hot rows with their bodies, and says how many bytes the texts have; the tasks must have been written
    /// before.
    pub(super) async fn whole(
        &mut self,
        statement: Statement<'_>,
        found: &mut Vec<(Row, Body)>,
    ) -> Result<usize> {
        let mut bytes = 0;
        for row in &self.all(statement).await? {
            let hot = self.meet(row)?;
            if !row.try_get::<bool, _>(HOT + TEXTS).map_err(storage)? {
                self.lonely.insert(hot.ord);
            }
            for text in HOT..HOT + TEXTS {
                let raw = row.try_get_raw(text).map_err(storage)?;
                bytes += raw.as_bytes().map_or(0, <[u8]>::len);
            }
            found.push((hot, codec::body(row, HOT)?));
        }
        Ok(bytes)
    }

    fn meet(&mut self, row: &PgRow) -> Result<Row> {
        let row = codec::row(row)?;
        self.know(row.id, Some(row.clone()));
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
        for id in missing {
            self.know(id, None);
        }
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
        self.flush_made().await?;
        self.flush_changed().await
    }

    async fn flush_made(&mut self) -> Result<()> {
        let made: Vec<Made> = std::mem::take(&mut self.made).into_values().collect();
        for part in made.chunks(BATCH) {
            let rows = part.iter().map(|made| self.known_row(made.id));
            let rows = rows.collect::<Result<Vec<Row>>>()?;
            self.send(put::insert_entries(&rows, part)).await?;
            self.send(put::insert(&rows)).await?;
            self.send(put::insert_bodies(&rows, part)?).await?;
        }
        Ok(())
    }

    async fn flush_changed(&mut self) -> Result<()> {
        let changed = self.take_changed()?;
        for part in changed.chunks(BATCH) {
            self.send(put::update(part, &self.endings)).await?;
            for row in part {
                self.endings.entry(row.ord).and_modify(Ending::drop_near);
            }
        }
        self.flush_endings().await
    }

    fn take_changed(&mut self) -> Result<Vec<Row>> {
        let changed = std::mem::take(&mut self.changed).into_values();
        changed.map(|id| self.known_row(id)).collect()
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

    /// Writes what was put off, except for what the statement at the end takes along.
    async fn prepare(&mut self) -> Result<()> {
        self.flush_made().await?;
        let long = |(ord, ending): (&u64, &Ending)| !self.changed.contains_key(ord) || ending.is_long();
        if self.changed.len() > BATCH || self.endings.iter().any(long) {
            self.flush_changed().await?;
        }
        self.flush_messages().await?;
        self.flush_deps().await?;
        while self.events.len() > BATCH {
            let rest = self.events.split_off(BATCH);
            let events = std::mem::replace(&mut self.events, rest);
            self.send(put::insert_events(&events)).await?;
        }
        Ok(())
    }

    /// The end of a transaction that wrote: what was put off, and the state of the database. What was never begun is
    /// committed by this; nothing comes of it, and nothing is given, if somebody else has written meanwhile.
    pub(super) async fn finish(&mut self) -> Result<Option<Turn>> {
        self.prepare().await?;
        let changed = self.take_changed()?;
        let endings = std::mem::take(&mut self.endings);
        let events = std::mem::take(&mut self.events);
        let state = put::State {
            turn: self.turn.number,
            careful: self.asleep.map(|begin| begin == Begin::Careful),
            last_seq: self.last_seq,
            last_ord: self.last_ord,
            tally: self.tally,
        };
        let statement = put::settle(&state, &changed, &endings, &events);
        // All of the answer: what commits by itself has done so only at its end.
        let mut settled = statement.fetch_all(&mut *self.conn).await.map_err(storage)?;
        let Some(row) = settled.pop() else {
            self.stale = true;
            return Ok(None);
        };
        let number = |index| row.try_get::<i64, _>(index).map_err(storage);
        Ok(Some(Turn::new(number(0)?, number(1)?)))
    }

    /// Ends it, if it did not end by itself.
    pub(super) async fn commit(&mut self) -> Result<()> {
        if self.asleep.is_some() {
            return Ok(());
        }
        let committed = sqlx::raw_sql("COMMIT").execute(&mut *self.conn).await;
        committed.map(drop).map_err(storage)
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
            self.shelf.arrive(row);
        }
    }

    /// Keeps a changed task for the next flush.
    pub(super) fn keep(&mut self, row: Row) {
        if !self.made.contains_key(&row.ord) {
            self.changed.insert(row.ord, row.id);
        }
        self.know(row.id, Some(row));
    }
}
