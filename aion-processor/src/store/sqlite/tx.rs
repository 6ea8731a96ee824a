//! One transaction of the writer.

use aion_types::Status;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Sqlite, SqliteConnection};

use super::codec::{self, HOT, storage};
use super::sql;
use crate::Result;
use crate::engine::row::{Body, Row};

pub(super) type Statement<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

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

    pub(super) async fn write(&mut self, statement: Statement<'_>) -> Result<()> {
        self.writes += 1;
        statement
            .execute(&mut *self.conn)
            .await
            .map(drop)
            .map_err(storage)
    }

    pub(super) async fn one(&mut self, statement: Statement<'_>) -> Result<Option<SqliteRow>> {
        statement.fetch_optional(&mut *self.conn).await.map_err(storage)
    }

    pub(super) async fn rows(&mut self, statement: Statement<'_>) -> Result<Vec<Row>> {
        let rows = statement.fetch_all(&mut *self.conn).await.map_err(storage)?;
        rows.iter().map(codec::row).collect()
    }

    /// Hot rows with their bodies.
    pub(super) async fn whole(&mut self, statement: Statement<'_>) -> Result<Vec<(Row, Body)>> {
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
            .fold(sqlx::query(sql::ADD_TO_TALLY), |statement, by| {
                statement.bind(*by)
            });
        self.write(statement).await
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
