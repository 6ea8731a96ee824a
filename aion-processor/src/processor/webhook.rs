//! Webhooks: made and changed by users, taken and settled by whoever sends.

use super::{Processor, unexpected};
use crate::{
    Delivery, DeliveryQuery, Done, Error, NameQuery, NewWebhook, Op, Page, Query, Result, SettleWebhook,
    TakeWebhook, TakenWebhook, Webhook, WebhookChange, WebhookKey, WebhookOp, WebhookQuery,
};

impl Processor {
    /// Makes a webhook, which tells of what happens from now on unless it says otherwise.
    ///
    /// # Errors
    /// [`Error::Conflict`] if there is one of this name; [`Error::Invalid`] for an address that is none; a limit.
    pub async fn create_webhook(&self, new: NewWebhook) -> Result<Webhook> {
        self.hook(WebhookOp::Create(new)).await
    }

    /// Changes address or filter. Events that are parked go to the new address as well.
    ///
    /// # Errors
    /// [`Error::Unknown`]; [`Error::Conflict`] if it is at another version; [`Error::Invalid`]; a limit.
    pub async fn change_webhook(&self, change: WebhookChange) -> Result<Webhook> {
        self.hook(WebhookOp::Change(change)).await
    }

    /// Removes a webhook with its keys and deliveries.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub async fn remove_webhook(&self, name: impl Into<String>) -> Result<()> {
        self.hook_op(WebhookOp::Remove(name.into())).await.map(drop)
    }

    /// Stops a webhook where it is. What happens in the meantime is told of later, unless it is purged before.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub async fn pause_webhook(&self, name: impl Into<String>) -> Result<Webhook> {
        self.hook(WebhookOp::Pause(name.into())).await
    }

    /// Lets a webhook go on that was paused or switched off; what is parked is tried at once.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub async fn resume_webhook(&self, name: impl Into<String>) -> Result<Webhook> {
        self.hook(WebhookOp::Resume(name.into())).await
    }

    /// Signs with a new key from now on, and for `keep_ms` with the present one as well.
    ///
    /// # Errors
    /// [`Error::Unknown`], or a limit.
    pub async fn rotate_webhook_key(
        &self,
        name: impl Into<String>,
        key: WebhookKey,
        keep_ms: u64,
    ) -> Result<Webhook> {
        let name = name.into();
        self.hook(WebhookOp::Rotate { name, key, keep_ms }).await
    }

    /// Tells of everything after an event again. Deliveries of later events are forgotten, for they come again.
    ///
    /// # Errors
    /// [`Error::Unknown`]; [`Error::Limit`] if the log does not go as far.
    pub async fn replay_webhook(&self, name: impl Into<String>, after: u64) -> Result<Webhook> {
        let name = name.into();
        self.hook(WebhookOp::Replay { name, after }).await
    }

    /// Sends dead letters again, one or as many as there is room for, the oldest first.
    ///
    /// # Errors
    /// [`Error::Unknown`] without the webhook or the letter; [`Error::Limit`] if there is no room.
    pub async fn retry_dead_letters(&self, name: impl Into<String>, seq: Option<u64>) -> Result<Webhook> {
        let name = name.into();
        self.hook(WebhookOp::Retry { name, seq }).await
    }

    /// Asks for a test message, whatever the state of the webhook. What came of it is in [`Webhook::ping`].
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub async fn ping_webhook(&self, name: impl Into<String>) -> Result<Webhook> {
        self.hook(WebhookOp::Ping(name.into())).await
    }

    /// Takes a webhook to send: nobody else may until the lease ends.
    ///
    /// # Errors
    /// [`Error::Unknown`]; [`Error::Conflict`] while somebody else sends.
    pub async fn take_webhook(&self, take: TakeWebhook) -> Result<TakenWebhook> {
        match self.hook_op(WebhookOp::Take(take)).await? {
            Done::Taken(taken) => Ok(*taken),
            other => Err(unexpected(&other)),
        }
    }

    /// Writes what came of sending.
    ///
    /// # Errors
    /// [`Error::Unknown`]; [`Error::Conflict`] if somebody else has taken it since, or its cursor was set back;
    /// [`Error::Invalid`] for events that are not in order; a limit.
    pub async fn settle_webhook(&self, settle: SettleWebhook) -> Result<Webhook> {
        self.hook(WebhookOp::Settle(Box::new(settle))).await
    }

    /// A webhook.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub async fn webhook(&self, name: impl Into<String>) -> Result<Webhook> {
        let name = name.into();
        let mut found = self.hooks(WebhookQuery::One(name.clone())).await?;
        found.pop().ok_or(Error::Unknown {
            what: "webhook",
            name,
        })
    }

    /// A page of webhooks by name; the next begins after the last of them.
    ///
    /// # Errors
    /// A limit.
    pub async fn webhooks(&self, query: NameQuery) -> Result<Vec<Webhook>> {
        self.hooks(WebhookQuery::All(query)).await
    }

    /// A page of deliveries by `seq`; the next begins after the last of them.
    ///
    /// # Errors
    /// A limit.
    pub async fn deliveries(&self, query: DeliveryQuery) -> Result<Vec<Delivery>> {
        let query = Query::Webhooks(WebhookQuery::Deliveries(query));
        match self.store().read(query).await? {
            Page::Deliveries(deliveries) => Ok(deliveries),
            other => Err(unexpected(&other)),
        }
    }

    async fn hooks(&self, query: WebhookQuery) -> Result<Vec<Webhook>> {
        match self.store().read(Query::Webhooks(query)).await? {
            Page::Webhooks(webhooks) => Ok(webhooks),
            other => Err(unexpected(&other)),
        }
    }

    async fn hook(&self, op: WebhookOp) -> Result<Webhook> {
        match self.hook_op(op).await? {
            Done::Webhook(webhook) => Ok(*webhook),
            other => Err(unexpected(&other)),
        }
    }

    async fn hook_op(&self, op: WebhookOp) -> Result<Done> {
        self.one(Op::Webhook(Box::new(op))).await
    }
}
