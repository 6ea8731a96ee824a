//! Webhooks: as operations, and as messages that arrive whatever happens.

mod faults;
mod operations;
mod order;
mod receiver;

use aion_processor::{
    DeliveryQuery, DeliveryState, Limits, MemTaskStore, NewTask, NewWebhook, Processor, Webhook, WebhookKey,
};
use aion_processor_server::{Deliverer, DelivererOptions, Sender};
use aion_types::{Clock, HandlerId, ManualClock, TaskId, Timestamp};

pub(crate) const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(crate) const NEW_KEY: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const START_MS: i64 = 1_700_000_000_000;

/// A processor whose clock stands still.
pub(crate) struct World {
    pub(crate) clock: ManualClock,
    pub(crate) processor: Processor,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        let clock = ManualClock::at(Timestamp::from_ms(START_MS));
        let processor = Processor::new(MemTaskStore::new(clock.clone(), limits));
        Self { clock, processor }
    }

    pub(crate) async fn task(&self) -> TaskId {
        let id = TaskId::generate(self.clock.now());
        let task = NewTask::new(id, "test", "A task");
        self.processor.create(task).await.unwrap().id
    }

    pub(crate) async fn hook(&self, url: impl Into<String>) -> Webhook {
        let new = NewWebhook::new("hook", url, WebhookKey::new(KEY).unwrap());
        self.processor.create_webhook(new).await.unwrap()
    }

    pub(crate) async fn found(&self) -> Webhook {
        self.processor.webhook("hook").await.unwrap()
    }

    pub(crate) fn deliverer(&self, sender: impl Sender) -> Deliverer {
        deliverer(&self.processor, sender, "one")
    }

    pub(crate) fn now_s(&self) -> i64 {
        self.clock.now().as_ms() / 1_000
    }

    /// To the next attempt.
    pub(crate) async fn skip(&self) {
        let at = self.found().await.next_at.unwrap();
        self.clock.advance_ms(at.since_ms(self.clock.now()).max(0));
    }

    pub(crate) async fn listed(&self, state: DeliveryState) -> Vec<u64> {
        let query = DeliveryQuery {
            webhook: "hook".to_owned(),
            state,
            after: 0,
            limit: 1_000,
        };
        let found = self.processor.deliveries(query).await.unwrap();
        found.iter().map(aion_processor::Delivery::seq).collect()
    }
}

pub(crate) fn deliverer(processor: &Processor, sender: impl Sender, name: &str) -> Deliverer {
    let options = DelivererOptions::new(HandlerId::new(name).unwrap());
    Deliverer::new(processor.clone(), sender, options)
}
