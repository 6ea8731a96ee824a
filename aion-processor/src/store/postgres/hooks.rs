//! Deliveries of webhooks in Postgres: what the writer does with them, and pages of them.

use aion_types::{TaskId, Timestamp};
use sqlx::PgPool;

use super::codec::{self, from_text, int, storage, text, to_text};
use super::put::bytes;
use super::tx::Tx;
use crate::engine::delivery::DeliveryRows;
use crate::store::page_size;
use crate::{Delivery, DeliveryQuery, DeliveryState, Result};

pub(super) const DELIVERY: &str = "SELECT body FROM delivery WHERE webhook = $1 AND seq = $2";
const PUT: &str = "INSERT INTO delivery (webhook, seq, task, dead, next_at, body) VALUES ($1, $2, $3, $4, $5, $6) \
     ON CONFLICT (webhook, seq) DO UPDATE SET dead = excluded.dead, next_at = excluded.next_at, body = excluded.body";
pub(super) const FIRST_PARKED: &str =
    "SELECT body FROM delivery WHERE webhook = $1 AND task = $2 AND NOT dead ORDER BY seq LIMIT 1";
pub(super) const HEADS: &str = "SELECT body FROM delivery WHERE webhook = $1 AND next_at <= $2 \
     AND next_at IS NOT NULL ORDER BY next_at, seq LIMIT $3";
pub(super) const BLOCKED: &str =
    "SELECT DISTINCT task FROM delivery WHERE webhook = $1 AND NOT dead ORDER BY task";
/// `dead` is a value here, for else the planner likes the index of another question.
pub(super) const IN_STATE: &str =
    "SELECT body FROM delivery WHERE webhook = $1 AND dead = $2 AND seq > $3 ORDER BY seq LIMIT $4";

fn read(bodies: &[String]) -> Result<Vec<Delivery>> {
    bodies.iter().map(|body| from_text(body)).collect()
}

/// A page of the deliveries of a webhook.
pub(super) async fn page(pool: &PgPool, query: &DeliveryQuery, max: u32) -> Result<Vec<Delivery>> {
    let limit = page_size(query.limit, max)?;
    let statement = sqlx::query_scalar::<_, String>(IN_STATE)
        .bind(text(&query.webhook))
        .bind(query.state == DeliveryState::Dead)
        .bind(int(query.after))
        .bind(i64::from(limit));
    read(&statement.fetch_all(pool).await.map_err(storage)?)
}

impl DeliveryRows for Tx<'_> {
    fn last_seq(&self) -> u64 {
        self.last_seq
    }

    async fn delivery(&mut self, webhook: &str, seq: u64) -> Result<Option<Delivery>> {
        let statement = sqlx::query_scalar::<_, String>(DELIVERY).bind(text(webhook));
        let found = statement
            .bind(int(seq))
            .fetch_optional(self.server().await?)
            .await;
        found.map_err(storage)?.as_deref().map(from_text).transpose()
    }

    async fn put_delivery(&mut self, delivery: &Delivery) -> Result<()> {
        let statement = sqlx::query(PUT)
            .bind(text(&delivery.webhook))
            .bind(int(delivery.seq()))
            .bind(bytes(delivery.task()))
            .bind(delivery.state == DeliveryState::Dead)
            .bind(delivery.next_at.map(Timestamp::as_ms));
        self.write(statement.bind(to_text(delivery)?)).await
    }

    async fn drop_delivery(&mut self, webhook: &str, seq: u64) -> Result<()> {
        let statement = sqlx::query("DELETE FROM delivery WHERE webhook = $1 AND seq = $2");
        self.write(statement.bind(text(webhook)).bind(int(seq))).await
    }

    async fn drop_deliveries(&mut self, webhook: &str, after: u64) -> Result<(u32, u32)> {
        let sql = "SELECT count(*) FILTER (WHERE NOT dead), count(*) FILTER (WHERE dead) FROM delivery WHERE webhook = $1 AND seq > $2";
        let statement = sqlx::query_as::<_, (i64, i64)>(sql).bind(text(webhook));
        let counted = statement.bind(int(after)).fetch_one(self.server().await?).await;
        let (parked, dead) = counted.map_err(storage)?;
        let statement = sqlx::query("DELETE FROM delivery WHERE webhook = $1 AND seq > $2");
        self.write(statement.bind(text(webhook)).bind(int(after))).await?;
        Ok((parked as u32, dead as u32))
    }

    async fn first_parked(&mut self, webhook: &str, task: TaskId) -> Result<Option<Delivery>> {
        let statement = sqlx::query_scalar::<_, String>(FIRST_PARKED).bind(text(webhook));
        let found = statement
            .bind(bytes(task))
            .fetch_optional(self.server().await?)
            .await;
        found.map_err(storage)?.as_deref().map(from_text).transpose()
    }

    async fn heads(&mut self, webhook: &str, until: Timestamp, limit: u32) -> Result<Vec<Delivery>> {
        let statement = sqlx::query_scalar::<_, String>(HEADS)
            .bind(text(webhook))
            .bind(until.as_ms())
            .bind(i64::from(limit));
        read(&statement.fetch_all(self.server().await?).await.map_err(storage)?)
    }

    async fn blocked(&mut self, webhook: &str) -> Result<Vec<TaskId>> {
        let statement = sqlx::query_scalar::<_, Vec<u8>>(BLOCKED).bind(text(webhook));
        let tasks = statement.fetch_all(self.server().await?).await.map_err(storage)?;
        tasks.iter().map(|task| codec::task_id(task)).collect()
    }

    async fn dead(&mut self, webhook: &str, limit: u32) -> Result<Vec<Delivery>> {
        let statement = sqlx::query_scalar::<_, String>(IN_STATE)
            .bind(text(webhook))
            .bind(true)
            .bind(0_i64)
            .bind(i64::from(limit));
        read(&statement.fetch_all(self.server().await?).await.map_err(storage)?)
    }
}
