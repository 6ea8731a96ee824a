//! Webhooks: made, changed, paused, replayed.

use aion_types::Timestamp;
use serde::{Deserialize, Serialize};

use super::apply::Engine;
use super::check;
use super::delivery::later;
use super::rows::{Rows, Space};
use crate::webhook::WebhookKeyring;
use crate::{
    DeliveryState, Done, Error, NewWebhook, Ping, Result, Webhook, WebhookChange, WebhookFilter, WebhookKey,
    WebhookOp, WebhookState,
};

/// Kinds of tasks in one filter, and kinds of events.
const MAX_FILTER: u64 = 64;
/// The name of [`Book`], which no webhook has.
const BOOK: &str = "";

/// What is known of all webhooks together.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Book {
    /// How many there are.
    count: u32,
    /// The last fencing token, so that no two senders ever have the same.
    epoch: u64,
}

impl<R: Rows> Engine<'_, R> {
    pub(super) async fn webhook(&mut self, op: &WebhookOp) -> Result<Done> {
        match op {
            WebhookOp::Create(new) => self.create_webhook(new).await,
            WebhookOp::Change(change) => self.change_webhook(change).await,
            WebhookOp::Remove(name) => self.remove_webhook(name).await,
            WebhookOp::Pause(name) => self.pause_webhook(name).await,
            WebhookOp::Resume(name) => self.resume_webhook(name).await,
            WebhookOp::Rotate { name, key, keep_ms } => self.rotate_key(name, key, *keep_ms).await,
            WebhookOp::Replay { name, after } => self.replay(name, *after).await,
            WebhookOp::Retry { name, seq } => self.retry_dead(name, *seq).await,
            WebhookOp::Ping(name) => self.ping(name).await,
            WebhookOp::Take(take) => self.take_webhook(take).await,
            WebhookOp::Settle(settle) => self.settle_webhook(settle).await,
        }
    }

    async fn create_webhook(&mut self, new: &NewWebhook) -> Result<Done> {
        check::name("name", &new.name)?;
        self.check_url(&new.url)?;
        filter(&new.filter)?;
        let last = self.rows.last_seq();
        let cursor = new.after.unwrap_or(last);
        check::at_most("after", cursor, last)?;
        if self.find::<Webhook>(Space::Webhook, &new.name).await?.is_some() {
            return Err(Error::Conflict(format!(
                "there is a webhook {} already",
                new.name
            )));
        }
        let mut book = self.book().await?;
        let most = u64::from(self.limits.webhooks.max_webhooks);
        check::at_most("webhooks", u64::from(book.count) + 1, most)?;
        book.count += 1;
        self.keep_book(&book).await?;
        let keyring = WebhookKeyring {
            current: new.key.clone(),
            previous: None,
        };
        self.store(Space::WebhookKey, &new.name, None, &keyring).await?;
        self.keep_webhook(self.fresh(new, cursor)).await
    }

    fn fresh(&self, new: &NewWebhook, cursor: u64) -> Webhook {
        Webhook {
            name: new.name.clone(),
            url: new.url.clone(),
            filter: new.filter.clone(),
            state: WebhookState::Active,
            cursor,
            epoch: 0,
            parked: 0,
            room: self.limits.webhooks.max_parked,
            dead: 0,
            next_at: None,
            failing_since: None,
            last_success_at: None,
            last_failure: None,
            delivered: 0,
            failed: 0,
            ping: None,
            rotating_until: None,
            holder: None,
            held_until: None,
            version: 1,
            created_at: self.now,
            updated_at: self.now,
        }
    }

    async fn change_webhook(&mut self, change: &WebhookChange) -> Result<Done> {
        let mut webhook = self.known_webhook(&change.name).await?;
        if change.version.is_some_and(|version| version != webhook.version) {
            return Err(Error::Conflict(format!(
                "the webhook {} is at version {}",
                webhook.name, webhook.version
            )));
        }
        if let Some(url) = change.url.as_ref().filter(|url| **url != webhook.url) {
            self.check_url(url)?;
            webhook.url.clone_from(url);
            // What the receiver before says, or said, is not about this one.
            webhook.failing_since = None;
            self.fence_off(&mut webhook).await?;
        }
        if let Some(wanted) = &change.filter {
            filter(wanted)?;
            webhook.filter.clone_from(wanted);
        }
        self.keep_changed(webhook).await
    }

    async fn remove_webhook(&mut self, name: &str) -> Result<Done> {
        self.known_webhook(name).await?;
        let mut book = self.book().await?;
        book.count = book.count.saturating_sub(1);
        self.keep_book(&book).await?;
        self.rows.drop_deliveries(name, 0).await?;
        self.rows.drop_named(Space::WebhookKey, name).await?;
        self.rows.drop_named(Space::Webhook, name).await?;
        Ok(Done::Nothing)
    }

    async fn pause_webhook(&mut self, name: &str) -> Result<Done> {
        let mut webhook = self.known_webhook(name).await?;
        if webhook.state == WebhookState::Paused {
            return Ok(Done::Webhook(Box::new(webhook)));
        }
        webhook.state = WebhookState::Paused;
        self.keep_changed(webhook).await
    }

    async fn resume_webhook(&mut self, name: &str) -> Result<Done> {
        let mut webhook = self.known_webhook(name).await?;
        let heads = self
            .rows
            .heads(name, Timestamp::from_ms(i64::MAX), u32::MAX)
            .await?;
        for mut head in heads {
            head.next_at = Some(self.now);
            self.rows.put_delivery(&head).await?;
        }
        webhook.next_at = webhook.next_at.map(|_| self.now);
        webhook.failing_since = None;
        self.fence_off(&mut webhook).await?;
        if webhook.state == WebhookState::Active {
            return self.keep_webhook(webhook).await;
        }
        webhook.state = WebhookState::Active;
        self.keep_changed(webhook).await
    }

    async fn rotate_key(&mut self, name: &str, key: &WebhookKey, keep_ms: u64) -> Result<Done> {
        let mut webhook = self.known_webhook(name).await?;
        check::at_most("keep_ms", keep_ms, self.limits.webhooks.max_rotation_ms)?;
        let before = self.keyring(name).await?;
        if before.current == *key {
            return Ok(Done::Webhook(Box::new(webhook)));
        }
        let until = later(self.now, keep_ms);
        let keyring = WebhookKeyring {
            current: key.clone(),
            previous: (keep_ms > 0).then_some((before.current, until)),
        };
        webhook.rotating_until = (keep_ms > 0).then_some(until);
        self.store(Space::WebhookKey, name, None, &keyring).await?;
        self.keep_changed(webhook).await
    }

    /// Whoever is sending has no say any more in what becomes of the webhook; what it sent is sent again.
    async fn fence_off(&mut self, webhook: &mut Webhook) -> Result<()> {
        webhook.epoch = self.next_epoch().await?;
        webhook.holder = None;
        webhook.held_until = None;
        Ok(())
    }

    /// Whoever is sending is fenced off: what it settles would move the cursor on again.
    async fn replay(&mut self, name: &str, after: u64) -> Result<Done> {
        let mut webhook = self.known_webhook(name).await?;
        // Further on would leave events out.
        check::at_most("after", after, webhook.cursor)?;
        let (parked, dead) = self.rows.drop_deliveries(name, after).await?;
        webhook.parked = webhook.parked.saturating_sub(parked);
        webhook.dead = webhook.dead.saturating_sub(dead);
        webhook.cursor = after;
        self.fence_off(&mut webhook).await?;
        self.reckon(&mut webhook).await?;
        self.keep_webhook(webhook).await
    }

    async fn retry_dead(&mut self, name: &str, seq: Option<u64>) -> Result<Done> {
        let mut webhook = self.known_webhook(name).await?;
        let letters = match seq {
            Some(seq) => {
                let found = self.rows.delivery(name, seq).await?;
                let dead = found.filter(|found| found.state == DeliveryState::Dead);
                vec![dead.ok_or_else(|| Error::Unknown {
                    what: "dead letter",
                    name: seq.to_string(),
                })?]
            }
            None => self.rows.dead(name, webhook.room).await?,
        };
        let parked = u64::from(webhook.parked) + letters.len() as u64;
        check::at_most("parked", parked, self.limits.webhooks.max_parked.into())?;
        for mut letter in letters {
            letter.state = DeliveryState::Parked;
            letter.attempts = 0;
            self.park(&mut webhook, letter, self.now).await?;
            webhook.dead = webhook.dead.saturating_sub(1);
        }
        self.reckon(&mut webhook).await?;
        self.keep_webhook(webhook).await
    }

    async fn ping(&mut self, name: &str) -> Result<Done> {
        let mut webhook = self.known_webhook(name).await?;
        if !webhook.has_open_ping() {
            let number = self.next_epoch().await?;
            webhook.ping = Some(Ping {
                id: format!("ping_{}_{number}", self.now.as_ms()),
                asked_at: self.now,
                word: None,
            });
        }
        self.keep_webhook(webhook).await
    }

    pub(super) async fn known_webhook(&mut self, name: &str) -> Result<Webhook> {
        let found = if name.is_empty() {
            None
        } else {
            self.find(Space::Webhook, name).await?
        };
        found.ok_or_else(|| Error::Unknown {
            what: "webhook",
            name: name.to_owned(),
        })
    }

    pub(super) async fn keyring(&mut self, name: &str) -> Result<WebhookKeyring> {
        let found = self.find(Space::WebhookKey, name).await?;
        found.ok_or_else(|| Error::Corrupt(format!("the webhook {name} has no key")))
    }

    /// Stores a change that somebody asked for.
    async fn keep_changed(&mut self, mut webhook: Webhook) -> Result<Done> {
        webhook.version += 1;
        webhook.updated_at = self.now;
        self.keep_webhook(webhook).await
    }

    pub(super) async fn keep_webhook(&mut self, webhook: Webhook) -> Result<Done> {
        self.store(Space::Webhook, &webhook.name, None, &webhook).await?;
        Ok(Done::Webhook(Box::new(webhook)))
    }

    pub(super) async fn next_epoch(&mut self) -> Result<u64> {
        let mut book = self.book().await?;
        book.epoch += 1;
        self.keep_book(&book).await?;
        Ok(book.epoch)
    }

    async fn book(&mut self) -> Result<Book> {
        Ok(self.find(Space::Webhook, BOOK).await?.unwrap_or_default())
    }

    async fn keep_book(&mut self, book: &Book) -> Result<()> {
        self.store(Space::Webhook, BOOK, None, book).await
    }

    fn check_url(&self, url: &str) -> Result<()> {
        check::at_most("url", url.len() as u64, self.limits.webhooks.max_url_bytes as u64)?;
        let rest = url
            .strip_prefix("https://")
            .or_else(|| url.strip_prefix("http://"));
        let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
        if host.is_none_or(str::is_empty) {
            return Err(Error::invalid(
                "url",
                "it does not begin with https:// or http:// and a host",
            ));
        }
        if host.is_some_and(|host| host.contains('@')) {
            return Err(Error::invalid("url", "it has a name or a password"));
        }
        if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(Error::invalid("url", "it has a space or a control character"));
        }
        Ok(())
    }
}

fn filter(filter: &WebhookFilter) -> Result<()> {
    check::at_most("events", filter.events.len() as u64, MAX_FILTER)?;
    check::at_most("task_kinds", filter.task_kinds.len() as u64, MAX_FILTER)?;
    let mut kinds = filter.task_kinds.iter();
    kinds.try_for_each(|kind| check::name("task_kinds", kind))
}
