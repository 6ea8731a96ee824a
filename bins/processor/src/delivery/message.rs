//! What is sent: an event as JSON, signed.

use aion_processor::{Outcome, Ping, TakenWebhook};
use aion_service::webhook::WebhookKeys;
use aion_types::{EventRecord, Timestamp};
use bytes::Bytes;
use secrecy::SecretString;
use serde_json::json;

use crate::wire::Event;

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Where it goes.
    pub url: String,
    /// Names the message; the same in every attempt, and for every webhook that tells of the event.
    pub id: String,
    /// When this attempt was made, in seconds since 1970.
    pub timestamp: i64,
    /// Its signatures, by every key of the webhook.
    pub signature: String,
    /// `{"type", "timestamp", "data"}`.
    pub body: Bytes,
}

/// What signs for a webhook, and where its messages go.
#[derive(Debug)]
pub(super) struct Letterhead {
    keys: WebhookKeys,
    url: String,
}

impl Letterhead {
    pub(super) fn of(taken: &TakenWebhook) -> Result<Self, Outcome> {
        let keys: Vec<SecretString> = taken.keys.iter().map(|key| key.expose().into()).collect();
        let keys = WebhookKeys::new(&keys).map_err(|error| Outcome::failed(None, error.to_string()))?;
        let url = taken.webhook.url.clone();
        Ok(Self { keys, url })
    }

    /// The message of an event: its type is `task.` and the kind of the event.
    pub(super) fn event(&self, event: &EventRecord, now: Timestamp) -> Outgoing {
        let body = json!({
            "type": format!("task.{}", event.kind.as_str()),
            "timestamp": time_text(event.at),
            "data": Event::from(event.clone()),
        });
        let task = event.task_id.to_string().replace('-', "");
        self.sealed(format!("evt_{task}_{}", event.seq), &body, now)
    }

    pub(super) fn ping(&self, webhook: &str, ping: &Ping, now: Timestamp) -> Outgoing {
        let body = json!({
            "type": "webhook.ping",
            "timestamp": time_text(ping.asked_at),
            "data": { "webhook": webhook },
        });
        self.sealed(ping.id.clone(), &body, now)
    }

    fn sealed(&self, id: String, body: &serde_json::Value, now: Timestamp) -> Outgoing {
        let body = Bytes::from(body.to_string());
        let timestamp = now.as_ms().div_euclid(1_000);
        Outgoing {
            url: self.url.clone(),
            signature: self.keys.sign(&id, timestamp, &body),
            id,
            timestamp,
            body,
        }
    }
}

/// A moment as RFC 3339 has it.
fn time_text(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.as_ms()).map_or_else(|_| at.to_string(), |at| at.to_string())
}
