//! Names, lines, objects and steps inside one transaction of SQLite.

use aion_types::{Json, TaskId, Timestamp};

use super::codec::{self, Columns as _, int, to_text};
use super::native::query;
use super::sql;
use super::tx::{Statement, Tx};
use crate::engine::row::Row;
use crate::engine::rows::{Held, LineRows, NamedRows, ObjectRows, Space, StepRows};
use crate::{Result, StepRecord, Waiter};

fn bytes(task: TaskId) -> Vec<u8> {
    task.as_bytes().to_vec()
}

impl Tx<'_, '_> {
    fn waiters(&mut self, statement: &Statement<'_>) -> Result<Vec<Waiter>> {
        self.all(statement, |row| codec::waiter(row))
    }
}

impl NamedRows for Tx<'_, '_> {
    async fn named(&mut self, space: Space, name: &str) -> Result<Option<String>> {
        let statement = query(sql::NAMED).bind(space as i64);
        self.one(&statement.bind(name.to_owned()), |row| row.text(0))
    }

    async fn put_named(
        &mut self,
        space: Space,
        name: &str,
        due: Option<Timestamp>,
        text: &str,
    ) -> Result<()> {
        let statement = query(sql::PUT_NAMED)
            .bind(space as i64)
            .bind(name.to_owned())
            .bind(due.map(Timestamp::as_ms));
        self.write(&statement.bind(text.to_owned()))
    }

    async fn drop_named(&mut self, space: Space, name: &str) -> Result<()> {
        let statement = query("DELETE FROM named WHERE space = ?1 AND name = ?2");
        self.write(&statement.bind(space as i64).bind(name.to_owned()))
    }

    async fn names(&mut self, space: Space, after: &str, limit: u32) -> Result<Vec<(String, String)>> {
        let statement = query(sql::NAMES)
            .bind(space as i64)
            .bind(after.to_owned())
            .bind(i64::from(limit));
        self.all(&statement, |row| Ok((row.text(0)?, row.text(1)?)))
    }

    async fn due_named(&mut self, space: Space, now: Timestamp, limit: u32) -> Result<Vec<String>> {
        let statement = query(sql::DUE_NAMED)
            .bind(space as i64)
            .bind(now.as_ms())
            .bind(i64::from(limit));
        self.all(&statement, |row| row.text(0))
    }
}

impl LineRows for Tx<'_, '_> {
    async fn hold(&mut self, primitive: &str, task: TaskId) -> Result<Option<Held>> {
        let statement = query(sql::HOLD).bind(bytes(task));
        self.one(&statement.bind(primitive.to_owned()), |row| codec::held(row))
    }

    async fn holds_of(&mut self, task: TaskId) -> Result<Vec<Held>> {
        let statement = query(sql::HOLDS_OF).bind(bytes(task));
        self.all(&statement, |row| codec::held(row))
    }

    async fn insert_hold(&mut self, held: &Held) -> Result<()> {
        let grant = &held.holder.grant;
        let statement = query(
            "INSERT INTO hold (task, primitive, token, units, place, item, since) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .bind(bytes(held.holder.task))
        .bind(grant.primitive.clone())
        .bind(int(grant.token))
        .bind(grant.units)
        .bind(int(held.place))
        .bind(grant.item.as_ref().map(to_text).transpose()?)
        .bind(grant.since.as_ms());
        self.write(&statement)
    }

    async fn delete_hold(&mut self, primitive: &str, task: TaskId) -> Result<()> {
        let statement = query("DELETE FROM hold WHERE task = ?1 AND primitive = ?2");
        self.write(&statement.bind(bytes(task)).bind(primitive.to_owned()))
    }

    async fn waiter(&mut self, task: TaskId) -> Result<Option<Waiter>> {
        Ok(self.waiters(&query(sql::WAITER).bind(bytes(task)))?.pop())
    }

    async fn insert_waiter(&mut self, waiter: &Waiter) -> Result<()> {
        let statement = query(
            "INSERT INTO waiter (task, primitive, place, units, until, since) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .bind(bytes(waiter.task))
        .bind(waiter.primitive.clone())
        .bind(int(waiter.place))
        .bind(waiter.units)
        .bind(waiter.until.map(Timestamp::as_ms))
        .bind(waiter.since.as_ms());
        self.write(&statement)
    }

    async fn delete_waiter(&mut self, task: TaskId) -> Result<()> {
        let statement = query("DELETE FROM waiter WHERE task = ?1");
        self.write(&statement.bind(bytes(task)))
    }

    async fn first_waiter(&mut self, primitive: &str) -> Result<Option<Waiter>> {
        let statement = query(sql::FIRST_WAITER).bind(primitive.to_owned());
        Ok(self.waiters(&statement)?.pop())
    }

    async fn impatient(&mut self, now: Timestamp, limit: u32) -> Result<Vec<Waiter>> {
        let statement = query(sql::IMPATIENT).bind(now.as_ms());
        self.waiters(&statement.bind(i64::from(limit)))
    }

    async fn insert_item(&mut self, queue: &str, place: u64, body: &Json) -> Result<()> {
        let statement = query("INSERT INTO item (queue, place, body) VALUES (?1, ?2, ?3)");
        let statement = statement.bind(queue.to_owned()).bind(int(place));
        self.write(&statement.bind(to_text(body)?))
    }

    async fn take_item(&mut self, queue: &str) -> Result<Option<(u64, Json)>> {
        let first = query(sql::FIRST_ITEM).bind(queue.to_owned());
        let found = self.one(&first, |row| Ok((row.int(0)?, codec::from_text(row.kept(1)?)?)))?;
        let Some((place, body)) = found else {
            return Ok(None);
        };
        let statement = query("DELETE FROM item WHERE queue = ?1 AND place = ?2");
        self.write(&statement.bind(queue.to_owned()).bind(place))?;
        Ok(Some((place.unsigned_abs(), body)))
    }

    async fn drop_items(&mut self, queue: &str) -> Result<()> {
        let statement = query("DELETE FROM item WHERE queue = ?1");
        self.write(&statement.bind(queue.to_owned()))
    }
}

impl ObjectRows for Tx<'_, '_> {
    async fn insert_version(&mut self, name: &str, version: u64, body: &Json) -> Result<()> {
        let statement = query("INSERT INTO object_version (name, version, body) VALUES (?1, ?2, ?3)");
        let statement = statement.bind(name.to_owned()).bind(int(version));
        self.write(&statement.bind(to_text(body)?))
    }

    async fn drop_versions(&mut self, name: &str, before: u64) -> Result<()> {
        let statement = query("DELETE FROM object_version WHERE name = ?1 AND version < ?2");
        self.write(&statement.bind(name.to_owned()).bind(int(before)))
    }
}

impl StepRows for Tx<'_, '_> {
    async fn step(&mut self, row: &Row, name: &str) -> Result<Option<StepRecord>> {
        let statement = query(sql::STEP).bind(int(row.ord));
        self.one(&statement.bind(name.to_owned()), |found| {
            codec::step(row.id, found)
        })
    }

    async fn last_step(&mut self, row: &Row) -> Result<(u64, u64)> {
        let statement = query(sql::LAST_STEP).bind(int(row.ord));
        let found = self.one(&statement, |row| Ok((row.int(0)?, row.int(1)?)))?;
        let (seq, bytes) = found.unwrap_or_default();
        Ok((seq.unsigned_abs(), bytes.unsigned_abs()))
    }

    async fn insert_step(&mut self, row: &Row, step: &StepRecord, bytes: u64) -> Result<()> {
        let statement = query(sql::INSERT_STEP)
            .bind(int(row.ord))
            .bind(int(step.seq))
            .bind(step.name.clone())
            .bind(to_text(&step.result)?)
            .bind(int(bytes));
        self.write(&statement.bind(step.at.as_ms()))
    }
}
