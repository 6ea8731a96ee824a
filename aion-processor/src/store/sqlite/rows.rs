//! The tree of the engine inside one transaction of SQLite.

use aion_types::{EventKind, Json, MessageRecord, Status, TaskId, Timestamp};

use super::codec::{self, Columns as _, int, to_text};
use super::native::query;
use super::put::Happened;
use super::tx::Tx;
use super::{put, sql};
use crate::engine::row::{Body, Row};
use crate::engine::rows::{Outcome, Rows};
use crate::store::NEAR;
use crate::{ClaimReq, Error, Result};

/// Bytes of a message from which on its text lies apart.
const APART: usize = 4_096;

impl Rows for Tx<'_, '_> {
    async fn row(&mut self, id: TaskId) -> Result<Option<Row>> {
        if let Some(known) = self.leased.get(id) {
            return Ok(Some(known.clone()));
        }
        self.one(&query(sql::BY_ID).bind(&id.as_bytes()[..]), |row| codec::row(row))
    }

    async fn body(&mut self, row: &Row) -> Result<Body> {
        let found = self.one(&query(sql::BODY).bind(int(row.ord)), |found| {
            codec::body(found, 0)
        })?;
        found.ok_or_else(|| Error::Corrupt(format!("task {} has no body", row.id)))
    }

    async fn keyed(&mut self, parent: Option<TaskId>, key: &str) -> Result<Option<Row>> {
        let parent = parent.map_or_else(Vec::new, |id| id.as_bytes().to_vec());
        self.one(&query(sql::KEYED).bind(parent).bind(key.to_owned()), |row| {
            codec::row(row)
        })
    }

    async fn insert(&mut self, row: &mut Row, body: &Body, key: Option<&str>) -> Result<()> {
        self.writes += 1;
        self.settle()?;
        put::insert(row, key).execute(self.session)?;
        row.ord = self.session.last_row().unsigned_abs();
        self.count(None, row);
        self.write(&put::insert_body(row, body)?)
    }

    async fn put(&mut self, row: &Row, was: Status) -> Result<()> {
        if row.status == was {
            if was == Status::Ready {
                self.shelf.clear();
            }
            self.leased.forget(row.id);
            return self.write(&put::quiet(row));
        }
        self.count(Some(was), row);
        self.leased.keep(row);
        if row.status.is_terminal() {
            self.settle()?;
            self.writes += 1;
            self.ending = Some(row.clone());
            return Ok(());
        }
        self.write(&put::loud(row))
    }

    async fn put_gated(&mut self, row: &Row) -> Result<()> {
        self.ready += u32::from(!row.gated);
        self.shelf.clear();
        self.leased.forget(row.id);
        let statement = query(sql::PUT_GATED).bind(int(row.ord)).bind(row.gated);
        self.write(&statement)
    }

    async fn put_outcome(&mut self, row: &Row, outcome: &Outcome) -> Result<()> {
        let (text, [near, far, without]) = match outcome {
            Outcome::Result(result) => (to_text(result)?, sql::PUT_RESULT),
            Outcome::Error(error) => (error.clone(), sql::PUT_ERROR),
        };
        let ord = int(row.ord);
        if text.len() <= NEAR {
            let ending = self.ending.take_if(|ending| ending.ord == row.ord);
            return match ending {
                Some(row) => self.write(&put::ended(&row, outcome, text)),
                None => self.write(&query(near).bind(ord).bind(text)),
            };
        }
        self.write(&query(without).bind(ord))?;
        self.write(&query(far).bind(ord).bind(text))
    }

    async fn event(&mut self, row: &Row, kind: EventKind, body: Json, at: Timestamp) -> Result<u64> {
        let seq = self.next_seq;
        self.events.push(Happened {
            seq,
            task: row.id,
            root: row.root_id,
            kind,
            body: to_text(&body)?,
            at,
        });
        self.writes += 1;
        self.next_seq += 1;
        Ok(seq)
    }

    async fn keyed_message(&mut self, row: &Row, key: &str) -> Result<Option<MessageRecord>> {
        let statement = query(sql::KEYED_MESSAGE).bind(int(row.ord));
        self.one(&statement.bind(key.to_owned()), |found| {
            codec::message(row.id, found)
        })
    }

    async fn insert_message(&mut self, row: &Row, message: &MessageRecord, key: Option<&str>) -> Result<()> {
        let apart = message.content.len() > APART;
        self.write(&put::insert_message(row, message, key, apart)?)?;
        if apart {
            let statement = query(sql::INSERT_TEXT).bind(int(row.ord)).bind(int(message.seq));
            self.write(&statement.bind(message.content.clone()))?;
        }
        Ok(())
    }

    async fn ready(&mut self, claim: &ClaimReq) -> Result<Vec<(Row, Body)>> {
        self.find_ready(claim).await
    }

    async fn ready_queues(&mut self, from: &str, limit: u32) -> Result<Vec<String>> {
        self.find_ready_queues(from, limit)
    }

    async fn first_gated(&mut self, key: &str) -> Result<Option<Row>> {
        self.one(&query(sql::FIRST_GATED).bind(key.to_owned()), |row| {
            codec::row(row)
        })
    }

    async fn last_placed(&mut self, key: &str) -> Result<Option<Row>> {
        self.one(&query(sql::LAST_PLACED).bind(key.to_owned()), |row| {
            codec::row(row)
        })
    }

    async fn expired(&mut self, now: Timestamp, limit: u32) -> Result<Vec<Row>> {
        self.rows(&query(sql::EXPIRED).bind(now.as_ms()).bind(i64::from(limit)))
    }

    async fn delayed(&mut self, now: Timestamp, limit: u32) -> Result<Vec<Row>> {
        self.rows(&query(sql::DELAYED).bind(now.as_ms()).bind(i64::from(limit)))
    }

    async fn wait(&mut self, waiter: &Row, child: &Row) -> Result<()> {
        self.waits = Some(true);
        let statement = query("INSERT INTO dep (child, waiter) VALUES (?1, ?2)");
        self.write(&statement.bind(int(child.ord)).bind(int(waiter.ord)))
    }

    async fn take_waiters(&mut self, child: &Row) -> Result<Vec<TaskId>> {
        if !self.has_waits()? {
            return Ok(Vec::new());
        }
        let statement = query(sql::WAITERS).bind(int(child.ord));
        let found = self.all(&statement, |row| codec::task_id(row.bytes(0)?))?;
        if !found.is_empty() {
            self.write(&query("DELETE FROM dep WHERE child = ?1").bind(int(child.ord)))?;
        }
        Ok(found)
    }

    async fn drop_waits(&mut self, waiter: &Row) -> Result<()> {
        self.write(&query("DELETE FROM dep WHERE waiter = ?1").bind(int(waiter.ord)))
    }

    async fn children(&mut self, parent: TaskId, after: u64, limit: u32) -> Result<Vec<Row>> {
        let statement = query(sql::CHILDREN)
            .bind(parent.as_bytes().to_vec())
            .bind(int(after));
        self.rows(&statement.bind(i64::from(limit)))
    }

    async fn open_in_tree(&mut self, root: TaskId) -> Result<Option<TaskId>> {
        let statement = query(sql::OPEN_IN_TREE).bind(root.as_bytes().to_vec());
        self.one(&statement, |row| codec::task_id(row.bytes(0)?))
    }

    async fn purge(&mut self, root: TaskId, max: u32) -> Result<u32> {
        let statement = query(sql::NEWEST_IN_TREE).bind(root.as_bytes().to_vec());
        let newest = self.all(&statement.bind(i64::from(max)), |row| {
            Ok((row.int(0)?, row.int(1)?))
        })?;
        let Some((from, _)) = newest.last() else {
            return Ok(0);
        };
        self.shelf.clear();
        self.leased.forget_all();
        self.flush_events()?;
        for (_, status) in &newest {
            self.tally[codec::status(*status)? as usize] -= 1;
        }
        for sql in sql::PURGE {
            let statement = query(sql).bind(root.as_bytes().to_vec());
            self.write(&statement.bind(*from))?;
        }
        Ok(newest.len() as u32)
    }
}

impl Tx<'_, '_> {
    /// Whether anybody waits for any task: asked once a transaction, for most tasks nobody waits for.
    fn has_waits(&mut self) -> Result<bool> {
        if let Some(known) = self.waits {
            return Ok(known);
        }
        let found = self.one(&query(sql::ANY_WAITS), |row| row.flag(0))?;
        let waits = found.unwrap_or(true);
        self.waits = Some(waits);
        Ok(waits)
    }
}
