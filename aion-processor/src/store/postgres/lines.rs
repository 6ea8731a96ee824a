//! Names, lines, objects and steps inside one transaction of Postgres.

use aion_types::{Json, TaskId, Timestamp};
use sqlx::Row as _;

use super::codec::{self, int, storage, text, to_text};
use super::put::bytes;
use super::sql;
use super::tx::{Statement, Tx};
use crate::engine::row::Row;
use crate::engine::rows::{Held, LineRows, NamedRows, ObjectRows, Space, StepRows};
use crate::{Result, StepRecord, Waiter};

impl Tx<'_> {
    async fn waiters(&mut self, statement: Statement<'_>) -> Result<Vec<Waiter>> {
        let rows = statement.fetch_all(self.server().await?).await.map_err(storage)?;
        rows.iter().map(codec::waiter).collect()
    }
}

impl NamedRows for Tx<'_> {
    async fn named(&mut self, space: Space, name: &str) -> Result<Option<String>> {
        let statement = sqlx::query(sql::NAMED).bind(space as i64);
        let found = self.one(statement.bind(text(name))).await?;
        found.map(|row| row.try_get(0).map_err(storage)).transpose()
    }

    async fn put_named(
        &mut self,
        space: Space,
        name: &str,
        due: Option<Timestamp>,
        body: &str,
    ) -> Result<()> {
        let statement = sqlx::query(sql::PUT_NAMED)
            .bind(space as i64)
            .bind(text(name))
            .bind(due.map(Timestamp::as_ms));
        self.write(statement.bind(body.to_owned())).await
    }

    async fn drop_named(&mut self, space: Space, name: &str) -> Result<()> {
        let statement = sqlx::query("DELETE FROM named WHERE space = $1 AND name = $2");
        self.write(statement.bind(space as i64).bind(text(name))).await
    }

    async fn names(&mut self, space: Space, after: &str, limit: u32) -> Result<Vec<(String, String)>> {
        let statement = sqlx::query_as::<_, (String, String)>(sql::NAMES)
            .bind(space as i64)
            .bind(text(after))
            .bind(i64::from(limit));
        let found = statement.fetch_all(self.server().await?).await.map_err(storage)?;
        let plain = |(name, body)| (codec::plain(name), body);
        Ok(found.into_iter().map(plain).collect())
    }

    async fn due_named(&mut self, space: Space, now: Timestamp, limit: u32) -> Result<Vec<String>> {
        let statement = sqlx::query_scalar(sql::DUE_NAMED)
            .bind(space as i64)
            .bind(now.as_ms())
            .bind(i64::from(limit));
        statement.fetch_all(self.server().await?).await.map_err(storage)
    }
}

impl LineRows for Tx<'_> {
    async fn hold(&mut self, primitive: &str, task: TaskId) -> Result<Option<Held>> {
        let statement = sqlx::query(sql::HOLD).bind(bytes(task));
        let found = self.one(statement.bind(text(primitive))).await?;
        found.as_ref().map(codec::held).transpose()
    }

    async fn holds_of(&mut self, task: TaskId) -> Result<Vec<Held>> {
        let statement = sqlx::query(sql::HOLDS_OF).bind(bytes(task));
        let rows = statement.fetch_all(self.server().await?).await.map_err(storage)?;
        rows.iter().map(codec::held).collect()
    }

    async fn insert_hold(&mut self, held: &Held) -> Result<()> {
        let grant = &held.holder.grant;
        let statement = sqlx::query(
            "INSERT INTO hold (task, primitive, token, units, place, item, since) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(bytes(held.holder.task))
        .bind(text(&grant.primitive))
        .bind(int(grant.token))
        .bind(i64::from(grant.units))
        .bind(int(held.place))
        .bind(grant.item.as_ref().map(to_text).transpose()?)
        .bind(grant.since.as_ms());
        self.write(statement).await
    }

    async fn delete_hold(&mut self, primitive: &str, task: TaskId) -> Result<()> {
        let statement = sqlx::query("DELETE FROM hold WHERE task = $1 AND primitive = $2");
        self.write(statement.bind(bytes(task)).bind(text(primitive)))
            .await
    }

    async fn waiter(&mut self, task: TaskId) -> Result<Option<Waiter>> {
        Ok(self
            .waiters(sqlx::query(sql::WAITER).bind(bytes(task)))
            .await?
            .pop())
    }

    async fn insert_waiter(&mut self, waiter: &Waiter) -> Result<()> {
        let statement = sqlx::query(
            "INSERT INTO waiter (task, primitive, place, units, until, since) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(bytes(waiter.task))
        .bind(text(&waiter.primitive))
        .bind(int(waiter.place))
        .bind(i64::from(waiter.units))
        .bind(waiter.until.map(Timestamp::as_ms))
        .bind(waiter.since.as_ms());
        self.write(statement).await
    }

    async fn delete_waiter(&mut self, task: TaskId) -> Result<()> {
        let statement = sqlx::query("DELETE FROM waiter WHERE task = $1");
        self.write(statement.bind(bytes(task))).await
    }

    async fn first_waiter(&mut self, primitive: &str) -> Result<Option<Waiter>> {
        let statement = sqlx::query(sql::FIRST_WAITER).bind(text(primitive));
        Ok(self.waiters(statement).await?.pop())
    }

    async fn impatient(&mut self, now: Timestamp, limit: u32) -> Result<Vec<Waiter>> {
        let statement = sqlx::query(sql::IMPATIENT).bind(now.as_ms());
        self.waiters(statement.bind(i64::from(limit))).await
    }

    async fn insert_item(&mut self, queue: &str, place: u64, body: &Json) -> Result<()> {
        let statement = sqlx::query("INSERT INTO item (queue, place, body) VALUES ($1, $2, $3)");
        let statement = statement.bind(text(queue)).bind(int(place));
        self.write(statement.bind(to_text(body)?)).await
    }

    async fn take_item(&mut self, queue: &str) -> Result<Option<(u64, Json)>> {
        let found = self.one(sqlx::query(sql::FIRST_ITEM).bind(text(queue))).await?;
        let Some(row) = found else { return Ok(None) };
        let place: i64 = row.try_get(0).map_err(storage)?;
        let body = codec::from_text(row.try_get(1).map_err(storage)?)?;
        let statement = sqlx::query("DELETE FROM item WHERE queue = $1 AND place = $2");
        self.write(statement.bind(text(queue)).bind(place)).await?;
        Ok(Some((place.unsigned_abs(), body)))
    }

    async fn drop_items(&mut self, queue: &str) -> Result<()> {
        let statement = sqlx::query("DELETE FROM item WHERE queue = $1");
        self.write(statement.bind(text(queue))).await
    }
}

impl ObjectRows for Tx<'_> {
    async fn insert_version(&mut self, name: &str, version: u64, body: &Json) -> Result<()> {
        let statement = sqlx::query("INSERT INTO object_version (name, version, body) VALUES ($1, $2, $3)");
        let statement = statement.bind(text(name)).bind(int(version));
        self.write(statement.bind(to_text(body)?)).await
    }

    async fn drop_versions(&mut self, name: &str, before: u64) -> Result<()> {
        let statement = sqlx::query("DELETE FROM object_version WHERE name = $1 AND version < $2");
        self.write(statement.bind(text(name)).bind(int(before))).await
    }
}

impl StepRows for Tx<'_> {
    async fn step(&mut self, row: &Row, name: &str) -> Result<Option<StepRecord>> {
        let statement = sqlx::query(sql::STEP).bind(int(row.ord));
        let found = self.one(statement.bind(text(name))).await?;
        found.map(|found| codec::step(row.id, &found)).transpose()
    }

    async fn last_step(&mut self, row: &Row) -> Result<(u64, u64)> {
        let found = self.one(sqlx::query(sql::LAST_STEP).bind(int(row.ord))).await?;
        let Some(found) = found else { return Ok((0, 0)) };
        let seq: i64 = found.try_get(0).map_err(storage)?;
        let bytes: i64 = found.try_get(1).map_err(storage)?;
        Ok((seq.unsigned_abs(), bytes.unsigned_abs()))
    }

    async fn insert_step(&mut self, row: &Row, step: &StepRecord, bytes: u64) -> Result<()> {
        let statement = sqlx::query(sql::INSERT_STEP)
            .bind(int(row.ord))
            .bind(int(step.seq))
            .bind(text(&step.name))
            .bind(to_text(&step.result)?)
            .bind(int(bytes));
        self.write(statement.bind(step.at.as_ms())).await
    }
}
