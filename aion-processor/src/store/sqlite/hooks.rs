//! Deliveries of webhooks in SQLite: what the writer does with them, and pages of them.

use aion_types::{TaskId, Timestamp};
use sqlx::SqlitePool;

use super::codec::{self, Columns as _, from_text, int, storage, to_text};
use super::native::query;
use super::tx::Tx;
use crate::engine::delivery::DeliveryRows;
use crate::store::page_size;
use crate::{Delivery, DeliveryQuery, DeliveryState, Result};

pub(super) const DELIVERY: &str = "SELECT body FROM delivery WHERE webhook = ?1 AND seq = ?2";
const PUT: &str = "INSERT INTO delivery (webhook, seq, task, dead, next_at, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
     ON CONFLICT (webhook, seq) DO UPDATE SET dead = excluded.dead, next_at = excluded.next_at, body = excluded.body";
pub(super) const FIRST_PARKED: &str = "SELECT body FROM delivery INDEXED BY delivery_task WHERE webhook = ?1 \
     AND task = ?2 AND dead = 0 ORDER BY seq LIMIT 1";
pub(super) const HEADS: &str = "SELECT body FROM delivery INDEXED BY delivery_due WHERE webhook = ?1 \
     AND next_at <= ?2 AND next_at IS NOT NULL ORDER BY next_at, seq LIMIT ?3";
pub(super) const BLOCKED: &str = "SELECT DISTINCT task FROM delivery INDEXED BY delivery_task WHERE webhook = ?1 \
     AND dead = 0 ORDER BY task";
pub(super) const IN_STATE: &str = "SELECT body FROM delivery INDEXED BY delivery_dead WHERE webhook = ?1 \
     AND dead = ?2 AND seq > ?3 ORDER BY seq LIMIT ?4";

fn is_dead(state: DeliveryState) -> i64 {
    i64::from(state == DeliveryState::Dead)
}

fn read(bodies: &[String]) -> Result<Vec<Delivery>> {
    bodies.iter().map(|body| from_text(body)).collect()
}

fn written(row: &rusqlite::Row<'_>) -> Result<Delivery> {
    from_text(row.kept(0)?)
}

/// A page of the deliveries of a webhook.
pub(super) async fn page(pool: &SqlitePool, query: &DeliveryQuery, max: u32) -> Result<Vec<Delivery>> {
    let limit = page_size(query.limit, max)?;
    let statement = sqlx::query_scalar::<_, String>(IN_STATE)
        .bind(query.webhook.clone())
        .bind(is_dead(query.state))
        .bind(int(query.after))
        .bind(limit);
    read(&statement.fetch_all(pool).await.map_err(storage)?)
}

impl DeliveryRows for Tx<'_, '_> {
    fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    async fn delivery(&mut self, webhook: &str, seq: u64) -> Result<Option<Delivery>> {
        let statement = query(DELIVERY).bind(webhook.to_owned());
        self.one(&statement.bind(int(seq)), written)
    }

    async fn put_delivery(&mut self, delivery: &Delivery) -> Result<()> {
        let statement = query(PUT)
            .bind(delivery.webhook.clone())
            .bind(int(delivery.seq()))
            .bind(delivery.task().as_bytes().to_vec())
            .bind(is_dead(delivery.state))
            .bind(delivery.next_at.map(Timestamp::as_ms));
        self.write(&statement.bind(to_text(delivery)?))
    }

    async fn drop_delivery(&mut self, webhook: &str, seq: u64) -> Result<()> {
        let statement = query("DELETE FROM delivery WHERE webhook = ?1 AND seq = ?2");
        self.write(&statement.bind(webhook.to_owned()).bind(int(seq)))
    }

    async fn drop_deliveries(&mut self, webhook: &str, after: u64) -> Result<(u32, u32)> {
        let sql = "SELECT count(*), ifnull(sum(dead), 0) FROM delivery WHERE webhook = ?1 AND seq > ?2";
        let statement = query(sql).bind(webhook.to_owned()).bind(int(after));
        let counted = self.one(&statement, |row| Ok((row.int(0)?, row.int(1)?)))?;
        let (all, dead) = counted.unwrap_or_default();
        let statement = query("DELETE FROM delivery WHERE webhook = ?1 AND seq > ?2");
        self.write(&statement.bind(webhook.to_owned()).bind(int(after)))?;
        Ok(((all - dead) as u32, dead as u32))
    }

    async fn first_parked(&mut self, webhook: &str, task: TaskId) -> Result<Option<Delivery>> {
        let statement = query(FIRST_PARKED).bind(webhook.to_owned());
        self.one(&statement.bind(task.as_bytes().to_vec()), written)
    }

    async fn heads(&mut self, webhook: &str, until: Timestamp, limit: u32) -> Result<Vec<Delivery>> {
        let statement = query(HEADS)
            .bind(webhook.to_owned())
            .bind(until.as_ms())
            .bind(limit);
        self.all(&statement, written)
    }

    async fn blocked(&mut self, webhook: &str) -> Result<Vec<TaskId>> {
        let statement = query(BLOCKED).bind(webhook.to_owned());
        self.all(&statement, |row| codec::task_id(row.bytes(0)?))
    }

    async fn dead(&mut self, webhook: &str, limit: u32) -> Result<Vec<Delivery>> {
        let statement = query(IN_STATE)
            .bind(webhook.to_owned())
            .bind(1_i64)
            .bind(0_i64)
            .bind(limit);
        self.all(&statement, written)
    }
}
