//! Deliveries of webhooks in memory.

use std::collections::BTreeSet;

use aion_types::{TaskId, Timestamp};

use super::world::World;
use crate::engine::delivery::DeliveryRows;
use crate::engine::rows::Space;
use crate::store::page_size;
use crate::{Delivery, DeliveryQuery, DeliveryState, Page, Result, WebhookQuery};

impl World {
    /// The deliveries of a webhook, by `seq`.
    fn deliveries_of(&self, webhook: &str) -> impl Iterator<Item = &Delivery> {
        let range = (webhook.to_owned(), 0)..=(webhook.to_owned(), u64::MAX);
        self.deliveries.range(range).map(|(_, delivery)| delivery)
    }

    fn in_state(&self, webhook: &str, state: DeliveryState) -> impl Iterator<Item = &Delivery> {
        self.deliveries_of(webhook)
            .filter(move |found| found.state == state)
    }

    pub(super) fn webhooks(&self, query: WebhookQuery, max: u32) -> Result<Page> {
        match query {
            WebhookQuery::One(name) if name.is_empty() => Ok(Page::Webhooks(Vec::new())),
            WebhookQuery::One(name) => self.one(Space::Webhook, &name).map(Page::Webhooks),
            WebhookQuery::All(query) => self.names(Space::Webhook, &query, max).map(Page::Webhooks),
            WebhookQuery::Deliveries(query) => self.deliveries(&query, max).map(Page::Deliveries),
        }
    }

    fn deliveries(&self, query: &DeliveryQuery, max: u32) -> Result<Vec<Delivery>> {
        let limit = page_size(query.limit, max)?;
        let all = self.in_state(&query.webhook, query.state);
        let later = all.filter(|found| found.seq() > query.after);
        Ok(later.take(limit as usize).cloned().collect())
    }
}

impl DeliveryRows for World {
    fn last_seq(&self) -> u64 {
        World::last_seq(self)
    }

    async fn delivery(&mut self, webhook: &str, seq: u64) -> Result<Option<Delivery>> {
        Ok(self.deliveries.get(&(webhook.to_owned(), seq)).cloned())
    }

    async fn put_delivery(&mut self, delivery: &Delivery) -> Result<()> {
        let key = (delivery.webhook.clone(), delivery.seq());
        self.deliveries.insert(key, delivery.clone());
        Ok(())
    }

    async fn drop_delivery(&mut self, webhook: &str, seq: u64) -> Result<()> {
        self.deliveries.remove(&(webhook.to_owned(), seq));
        Ok(())
    }

    async fn drop_deliveries(&mut self, webhook: &str, after: u64) -> Result<(u32, u32)> {
        let gone: Vec<Delivery> = self
            .deliveries_of(webhook)
            .filter(|found| found.seq() > after)
            .cloned()
            .collect();
        for delivery in &gone {
            self.deliveries.remove(&(webhook.to_owned(), delivery.seq()));
        }
        let dead = gone
            .iter()
            .filter(|found| found.state == DeliveryState::Dead)
            .count();
        Ok(((gone.len() - dead) as u32, dead as u32))
    }

    async fn first_parked(&mut self, webhook: &str, task: TaskId) -> Result<Option<Delivery>> {
        let mut parked = self.in_state(webhook, DeliveryState::Parked);
        Ok(parked.find(|found| found.task() == task).cloned())
    }

    async fn heads(&mut self, webhook: &str, until: Timestamp, limit: u32) -> Result<Vec<Delivery>> {
        let all = self.deliveries_of(webhook);
        let mut due: Vec<_> = all
            .filter(|found| found.next_at.is_some_and(|at| at <= until))
            .cloned()
            .collect();
        due.sort_by_key(|found| (found.next_at, found.seq()));
        due.truncate(limit as usize);
        Ok(due)
    }

    async fn blocked(&mut self, webhook: &str) -> Result<Vec<TaskId>> {
        let parked = self.in_state(webhook, DeliveryState::Parked);
        let tasks: BTreeSet<TaskId> = parked.map(Delivery::task).collect();
        Ok(tasks.into_iter().collect())
    }

    async fn dead(&mut self, webhook: &str, limit: u32) -> Result<Vec<Delivery>> {
        let dead = self.in_state(webhook, DeliveryState::Dead);
        Ok(dead.take(limit as usize).cloned().collect())
    }
}
