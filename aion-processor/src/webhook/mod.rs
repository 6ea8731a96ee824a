//! Webhooks: who is told of which events, how far they have been told, and what could not be delivered.
//!
//! The log is the outbox: a webhook goes through it by its cursor. An event that could not be delivered is
//! parked as a [`Delivery`] and tried again later and later; later events of the same task wait behind it, those
//! of other tasks go on. What fails too often becomes a dead letter, which is kept and can be sent again. This
//! crate keeps the books; whoever sends takes a webhook under a lease ([`Processor::take_webhook`]), sends, and
//! [settles](crate::Processor::settle_webhook) in one write. What was sent, but not settled, is sent again.
//!
//! [`Processor::take_webhook`]: crate::Processor::take_webhook

mod filter;
mod key;
mod limits;
mod op;
mod record;

pub use filter::WebhookFilter;
pub use key::WebhookKey;
pub(crate) use key::WebhookKeyring;
pub use limits::WebhookLimits;
pub use op::{
    NewWebhook, ParkedEvent, SettleWebhook, TakeWebhook, TakenWebhook, WebhookChange, WebhookOp, WebhookQuery,
};
pub use record::{
    Delivery, DeliveryQuery, DeliveryState, Disabled, Outcome, Ping, Webhook, WebhookState, Word,
};
