//! Deliveries: who sends, what came of it, what is parked, and when it is tried again.
//!
//! Of the parked events of a task exactly the first has a time; the others wait behind it.

use std::future::Future;

use aion_types::{TaskId, Timestamp};

use super::apply::Engine;
use super::check;
use super::rows::{Rows, Space};
use crate::{
    Delivery, DeliveryState, Disabled, Done, Error, Outcome, ParkedEvent, Result, SettleWebhook, TakeWebhook,
    TakenWebhook, Webhook, WebhookState, Word,
};

/// The deliveries of a backend inside one transaction.
pub(crate) trait DeliveryRows: Send {
    /// The `seq` of the last event, those of this transaction included.
    fn last_seq(&self) -> u64;
    /// A delivery.
    fn delivery(&mut self, webhook: &str, seq: u64) -> impl Future<Output = Result<Option<Delivery>>> + Send;
    /// Adds or replaces a delivery.
    fn put_delivery(&mut self, delivery: &Delivery) -> impl Future<Output = Result<()>> + Send;
    /// Removes a delivery.
    fn drop_delivery(&mut self, webhook: &str, seq: u64) -> impl Future<Output = Result<()>> + Send;
    /// Removes the deliveries of events after `after`, and says how many were parked and how many dead.
    fn drop_deliveries(
        &mut self,
        webhook: &str,
        after: u64,
    ) -> impl Future<Output = Result<(u32, u32)>> + Send;
    /// The first of the parked events of a task.
    fn first_parked(
        &mut self,
        webhook: &str,
        task: TaskId,
    ) -> impl Future<Output = Result<Option<Delivery>>> + Send;
    /// Parked events with a time up to `until`, the longest due first, then by `seq`, at most `limit`.
    fn heads(
        &mut self,
        webhook: &str,
        until: Timestamp,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Delivery>>> + Send;
    /// The tasks that have parked events.
    fn blocked(&mut self, webhook: &str) -> impl Future<Output = Result<Vec<TaskId>>> + Send;
    /// Dead letters, the oldest first, at most `limit`.
    fn dead(&mut self, webhook: &str, limit: u32) -> impl Future<Output = Result<Vec<Delivery>>> + Send;
}

/// `ms` later, held at the end of the range.
pub(super) fn later(at: Timestamp, ms: u64) -> Timestamp {
    at.plus_ms(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// The longest that one sender keeps the others away.
const MAX_LEASE_MS: u64 = 600_000;

impl<R: Rows> Engine<'_, R> {
    pub(super) async fn take_webhook(&mut self, take: &TakeWebhook) -> Result<Done> {
        check::between("lease_ms", take.lease_ms, MAX_LEASE_MS)?;
        check::at_most("max", take.max.into(), self.limits.max_page.into())?;
        let mut webhook = self.known_webhook(&take.name).await?;
        if self.is_held(&webhook) && webhook.holder.as_ref() != Some(&take.holder) {
            return Err(Error::Conflict(format!(
                "somebody else sends for the webhook {}",
                take.name
            )));
        }
        if webhook.holder.as_ref() != Some(&take.holder) {
            webhook.epoch = self.next_epoch().await?;
            webhook.holder = Some(take.holder.clone());
        }
        webhook.held_until = Some(later(self.now, take.lease_ms));
        let keys = self.signing_keys(&mut webhook).await?;
        let (mut due, mut blocked) = (Vec::new(), Vec::new());
        if webhook.parked > 0 {
            blocked = self.rows.blocked(&take.name).await?;
        }
        if webhook.parked > 0 && webhook.is_active() {
            due = self.rows.heads(&take.name, self.now, take.max).await?;
        }
        self.store(Space::Webhook, &take.name, None, &webhook).await?;
        Ok(Done::Taken(Box::new(TakenWebhook {
            webhook,
            keys,
            due,
            blocked,
        })))
    }

    /// Whether somebody may be sending. A lease that ends further ahead than any lease does is one from before
    /// the clock was set back.
    fn is_held(&self, webhook: &Webhook) -> bool {
        let latest = later(self.now, MAX_LEASE_MS);
        webhook
            .held_until
            .is_some_and(|until| until > self.now && until <= latest)
    }

    /// The keys that sign now; the one before is forgotten when its time is over.
    async fn signing_keys(&mut self, webhook: &mut Webhook) -> Result<Vec<crate::WebhookKey>> {
        let mut keyring = self.keyring(&webhook.name).await?;
        if keyring
            .previous
            .as_ref()
            .is_some_and(|(_, until)| *until <= self.now)
        {
            keyring.previous = None;
            webhook.rotating_until = None;
            self.store(Space::WebhookKey, &webhook.name, None, &keyring)
                .await?;
        }
        Ok(keyring.at(self.now))
    }

    pub(super) async fn settle_webhook(&mut self, settle: &SettleWebhook) -> Result<Done> {
        let mut webhook = self.known_webhook(&settle.name).await?;
        self.check_settle(&webhook, settle)?;
        let waited = webhook.parked > 0;
        for (seq, outcome) in &settle.tried {
            self.settle_tried(&mut webhook, *seq, outcome).await?;
        }
        for parked in &settle.parked {
            self.put_aside(&mut webhook, parked).await?;
        }
        webhook.cursor = settle.cursor.unwrap_or(webhook.cursor);
        webhook.delivered += u64::from(settle.delivered);
        if let Some(outcome) = &settle.ping {
            self.settle_ping(&mut webhook, outcome);
        }
        self.judge(&mut webhook, settle, waited);
        self.bury_oldest(&mut webhook).await?;
        self.reckon(&mut webhook).await?;
        webhook.held_until = match settle.lease_ms {
            0 => None,
            ms => Some(later(self.now, ms)),
        };
        self.keep_webhook(webhook).await
    }

    /// Everything that can be refused is, before anything is written.
    fn check_settle(&self, webhook: &Webhook, settle: &SettleWebhook) -> Result<()> {
        if webhook.epoch != settle.epoch || webhook.holder.is_none() {
            return Err(Error::Conflict(format!(
                "somebody else sends for the webhook {}",
                webhook.name
            )));
        }
        check::at_most("lease_ms", settle.lease_ms, MAX_LEASE_MS)?;
        let parked = u64::from(webhook.parked) + settle.parked.len() as u64;
        check::at_most("parked", parked, self.limits.webhooks.max_parked.into())?;
        let seqs = settle.parked.iter().map(|parked| parked.event.seq);
        let cursor = settle.cursor.unwrap_or(webhook.cursor);
        check::at_most("cursor", cursor, self.rows.last_seq())?;
        let mut last = webhook.cursor;
        for seq in seqs.chain([cursor + 1]) {
            if seq <= last {
                return Err(Error::invalid(
                    "parked",
                    "the events are not in order after the cursor",
                ));
            }
            last = seq;
        }
        Ok(())
    }

    async fn settle_tried(&mut self, webhook: &mut Webhook, seq: u64, outcome: &Outcome) -> Result<()> {
        let found = self.rows.delivery(&webhook.name, seq).await?;
        let Some(mut delivery) = found.filter(|found| found.state == DeliveryState::Parked) else {
            return Ok(());
        };
        if outcome.is_accepted() {
            webhook.delivered += 1;
            self.rows.drop_delivery(&webhook.name, seq).await?;
            return self.leave_deliveries(webhook, delivery.task()).await;
        }
        self.count_failure(webhook, &mut delivery, outcome);
        if delivery.attempts >= self.limits.webhooks.max_attempts {
            self.bury(webhook, delivery.clone()).await?;
            return self.leave_deliveries(webhook, delivery.task()).await;
        }
        // A dead letter before it may have been put in front of it meanwhile.
        let first = self.rows.first_parked(&webhook.name, delivery.task()).await?;
        let is_first = first.is_none_or(|first| first.seq() == seq);
        delivery.next_at = is_first.then(|| self.next_attempt(&delivery, outcome));
        self.rows.put_delivery(&delivery).await
    }

    /// An event of the log that could not be delivered, or must wait behind one that could not.
    async fn put_aside(&mut self, webhook: &mut Webhook, parked: &ParkedEvent) -> Result<()> {
        let mut delivery = Delivery {
            webhook: webhook.name.clone(),
            state: DeliveryState::Parked,
            attempts: 0,
            next_at: None,
            since: self.now,
            last: None,
            event: parked.event.clone(),
        };
        let mut at = self.now;
        if let Some(outcome) = &parked.outcome {
            self.count_failure(webhook, &mut delivery, outcome);
            if delivery.attempts >= self.limits.webhooks.max_attempts {
                return self.bury(webhook, delivery).await;
            }
            at = self.next_attempt(&delivery, outcome);
        }
        self.park(webhook, delivery, at).await
    }

    /// Puts a delivery in the line of its task: with a time if it is the first, and then the one that was first
    /// has none any more.
    pub(super) async fn park(
        &mut self,
        webhook: &mut Webhook,
        mut delivery: Delivery,
        at: Timestamp,
    ) -> Result<()> {
        let first = self.rows.first_parked(&webhook.name, delivery.task()).await?;
        delivery.next_at = match first {
            Some(first) if first.seq() < delivery.seq() => None,
            Some(mut first) if first.seq() > delivery.seq() => {
                first.next_at = None;
                self.rows.put_delivery(&first).await?;
                Some(at)
            }
            _ => Some(at),
        };
        webhook.parked += 1;
        self.rows.put_delivery(&delivery).await
    }

    /// One of the parked events of a task is not parked any more: the next is tried at once.
    async fn leave_deliveries(&mut self, webhook: &mut Webhook, task: TaskId) -> Result<()> {
        webhook.parked = webhook.parked.saturating_sub(1);
        let first = self.rows.first_parked(&webhook.name, task).await?;
        let Some(mut first) = first.filter(|first| first.next_at.is_none()) else {
            return Ok(());
        };
        first.next_at = Some(self.now);
        self.rows.put_delivery(&first).await
    }

    async fn bury(&mut self, webhook: &mut Webhook, mut delivery: Delivery) -> Result<()> {
        delivery.state = DeliveryState::Dead;
        delivery.next_at = None;
        webhook.dead += 1;
        self.rows.put_delivery(&delivery).await
    }

    /// The oldest dead letters go when there are too many.
    async fn bury_oldest(&mut self, webhook: &mut Webhook) -> Result<()> {
        let extra = webhook.dead.saturating_sub(self.limits.webhooks.max_dead);
        if extra == 0 {
            return Ok(());
        }
        for letter in self.rows.dead(&webhook.name, extra).await? {
            self.rows.drop_delivery(&webhook.name, letter.seq()).await?;
            webhook.dead -= 1;
        }
        Ok(())
    }

    fn count_failure(&self, webhook: &mut Webhook, delivery: &mut Delivery, outcome: &Outcome) {
        webhook.failed += 1;
        delivery.attempts += 1;
        delivery.last = Some(self.word(outcome));
    }

    fn settle_ping(&self, webhook: &mut Webhook, outcome: &Outcome) {
        let word = self.word(outcome);
        if let Some(ping) = webhook.ping.as_mut().filter(|ping| ping.word.is_none()) {
            ping.word = Some(word);
        }
    }

    fn word(&self, outcome: &Outcome) -> Word {
        let mut outcome = outcome.clone();
        let cut = |error: String| check::cut(&error, MAX_REASON_BYTES);
        outcome.error = outcome.error.map(cut);
        Word {
            at: self.now,
            outcome,
        }
    }

    /// When to try again: later and later, and not before the receiver said.
    fn next_attempt(&self, delivery: &Delivery, outcome: &Outcome) -> Timestamp {
        let limits = &self.limits.webhooks;
        let asked = outcome.retry_after_ms.unwrap_or(0).min(limits.max_retry_after_ms);
        let wait = limits.backoff.delay_ms(delivery.task(), delivery.attempts);
        later(self.now, wait.max(asked))
    }

    /// What the attempts of this time say of the receiver; `waited` is whether anything waited for another attempt
    /// before.
    fn judge(&self, webhook: &mut Webhook, settle: &SettleWebhook, waited: bool) {
        let tried = settle.tried.iter().map(|(_, outcome)| outcome);
        let parked = settle.parked.iter().filter_map(|parked| parked.outcome.as_ref());
        let outcomes: Vec<&Outcome> = tried.chain(parked).collect();
        let failure = outcomes.iter().rfind(|outcome| !outcome.is_accepted());
        if let Some(failure) = failure {
            // A time in which there was nothing to send says nothing.
            let last = webhook.last_failure.as_ref().map(|word| word.at);
            let longest = self.limits.webhooks.longest_wait_ms();
            if !waited && last.is_some_and(|last| later(last, longest) < self.now) {
                webhook.failing_since = None;
            }
            webhook.last_failure = Some(self.word(failure));
            webhook.failing_since.get_or_insert(self.now);
        }
        let pinged = settle.ping.as_ref().is_some_and(Outcome::is_accepted);
        if settle.delivered > 0 || pinged || outcomes.iter().any(|outcome| outcome.is_accepted()) {
            webhook.last_success_at = Some(self.now);
            webhook.failing_since = None;
        }
        if !webhook.is_active() {
            return;
        }
        let patience = self.limits.webhooks.disable_after_ms;
        let too_long = |since: Timestamp| later(since, patience) <= self.now;
        if outcomes.iter().any(|outcome| outcome.is_gone()) {
            webhook.state = WebhookState::Disabled(Disabled::Gone);
        } else if webhook.failing_since.is_some_and(too_long) {
            webhook.state = WebhookState::Disabled(Disabled::Failing);
        }
    }

    /// Says anew what follows from the deliveries.
    pub(super) async fn reckon(&mut self, webhook: &mut Webhook) -> Result<()> {
        webhook.room = self.limits.webhooks.max_parked.saturating_sub(webhook.parked);
        webhook.next_at = None;
        if webhook.parked > 0 {
            let latest = Timestamp::from_ms(i64::MAX);
            let first = self.rows.heads(&webhook.name, latest, 1).await?;
            webhook.next_at = first.first().and_then(|first| first.next_at);
        }
        Ok(())
    }
}

/// Bytes of the reason of a failure; a longer one is cut.
const MAX_REASON_BYTES: usize = 512;
