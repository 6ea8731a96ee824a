//! One transaction of the writer.

use aion_types::Status;

use super::codec::{self, HOT};
use super::leased::Leased;
pub(super) use super::native::Statement;
use super::native::{Session, query};
use super::put::Happened;
use super::ready::Shelf;
use super::{put, sql};
use crate::Result;
use crate::engine::row::{Body, Row};

/// One transaction on its way: what it has written so far.
#[derive(Debug)]
pub(super) struct Tx<'c, 'h> {
    pub(super) session: &'c mut Session<'h>,
    /// `seq` of the next event.
    pub(super) next_seq: u64,
    /// How the number of tasks in each status changes.
    pub(super) tally: [i64; Status::ALL.len()],
    /// Tasks that became ready.
    pub(super) ready: u32,
    /// Statements that wrote.
    pub(super) writes: u64,
    /// A task that has ended and is not written yet, for how it ended goes along.
    pub(super) ending: Option<Row>,
    /// Events that are not written yet.
    pub(super) events: Vec<Happened>,
    /// Whether anybody waits for any task, once it was asked.
    pub(super) waits: Option<bool>,
    pub(super) leased: &'c mut Leased,
    /// What its claims may find.
    pub(super) shelf: Shelf,
}

impl<'c, 'h> Tx<'c, 'h> {
    pub(super) fn new(session: &'c mut Session<'h>, leased: &'c mut Leased, next_seq: u64) -> Self {
        Self {
            session,
            next_seq,
            tally: [0; Status::ALL.len()],
            ready: 0,
            writes: 0,
            ending: None,
            events: Vec::new(),
            waits: None,
            leased,
            shelf: Shelf::default(),
        }
    }

    pub(super) fn write(&mut self, statement: &Statement<'_>) -> Result<()> {
        self.settle()?;
        self.writes += 1;
        statement.execute(self.session)
    }

    /// The first row, if there is one.
    pub(super) fn one<T>(
        &mut self,
        statement: &Statement<'_>,
        read: impl FnMut(&rusqlite::Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.all(statement, read)?.into_iter().next())
    }

    pub(super) fn all<T>(
        &mut self,
        statement: &Statement<'_>,
        read: impl FnMut(&rusqlite::Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.settle()?;
        statement.fetch(self.session, read)
    }

    /// Writes the task that has ended, so that whatever comes next sees it.
    pub(super) fn settle(&mut self) -> Result<()> {
        match self.ending.take() {
            Some(row) => put::loud(&row).execute(self.session),
            None => Ok(()),
        }
    }

    pub(super) fn rows(&mut self, statement: &Statement<'_>) -> Result<Vec<Row>> {
        self.all(statement, |row| codec::row(row))
    }

    /// Hot rows with their bodies.
    pub(super) fn whole(&mut self, statement: &Statement<'_>) -> Result<Vec<(Row, Body)>> {
        self.all(statement, |row| Ok((codec::row(row)?, codec::body(row, HOT)?)))
    }

    /// Writes the events that were put off.
    pub(super) fn flush_events(&mut self) -> Result<()> {
        let mut events = self.events.as_slice();
        while let Some((first, rest)) = events.split_at_checked(sql::EVENTS) {
            put::events(sql::INSERT_EVENTS, first).execute(self.session)?;
            events = rest;
        }
        for event in events.chunks(1) {
            put::events(sql::INSERT_EVENT, event).execute(self.session)?;
        }
        self.events.clear();
        Ok(())
    }

    /// Writes what was put off: a task that has ended, events, and the changed numbers of tasks in each status.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.settle()?;
        self.flush_events()?;
        if self.tally.iter().all(|by| *by == 0) {
            return Ok(());
        }
        let statement = query(sql::ADD_TO_TALLY);
        let statement = self
            .tally
            .iter()
            .fold(statement, |statement, by| statement.bind(*by));
        self.write(&statement)
    }

    pub(super) fn count(&mut self, was: Option<Status>, row: &Row) {
        if was == Some(row.status) {
            return;
        }
        if let Some(was) = was {
            self.tally[was as usize] -= 1;
        }
        self.tally[row.status as usize] += 1;
        match (was, row.status) {
            (_, Status::Ready) => {
                self.ready += u32::from(!row.gated);
                self.shelf.clear();
            }
            (Some(Status::Ready), _) => self.shelf.pass_over(row.ord),
            _ => {}
        }
    }
}
