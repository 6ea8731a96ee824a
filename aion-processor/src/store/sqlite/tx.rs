//! One transaction of the writer.

use aion_types::Status;
use rusqlite::Connection;

use super::codec::{self, HOT};
pub(super) use super::native::Statement;
use super::native::query;
use super::sql;
use crate::Result;
use crate::engine::row::{Body, Row};

/// One transaction on its way: what it has written so far.
#[derive(Debug)]
pub(super) struct Tx<'c> {
    pub(super) conn: &'c mut Connection,
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
    pub(super) fn new(conn: &'c mut Connection, next_seq: u64) -> Self {
        Self {
            conn,
            next_seq,
            tally: [0; Status::ALL.len()],
            ready: 0,
            writes: 0,
        }
    }

    pub(super) fn write(&mut self, statement: &Statement<'_>) -> Result<()> {
        self.writes += 1;
        statement.execute(self.conn)
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
        statement.fetch(self.conn, read)
    }

    pub(super) fn rows(&mut self, statement: &Statement<'_>) -> Result<Vec<Row>> {
        self.all(statement, |row| codec::row(row))
    }

    /// Hot rows with their bodies.
    pub(super) fn whole(&mut self, statement: &Statement<'_>) -> Result<Vec<(Row, Body)>> {
        self.all(statement, |row| Ok((codec::row(row)?, codec::body(row, HOT)?)))
    }

    /// Writes the changed numbers of tasks in each status.
    pub(super) fn flush_tally(&mut self) -> Result<()> {
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
        self.ready += u32::from(row.status == Status::Ready && !row.gated);
    }
}
