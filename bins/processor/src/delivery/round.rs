//! One round of one webhook.

use std::collections::BTreeSet;
use std::time::Duration;

use aion_processor::{
    Delivery, Error, EventQuery, Outcome, ParkedEvent, Result, SettleWebhook, TakenWebhook, Webhook,
};
use aion_types::{EventKind, EventRecord, Json, TaskId, Timestamp};
use futures::StreamExt;
use tokio::time::Instant;

use super::message::Letterhead;
use super::{Deliverer, Memory, Progress};

/// Events that are looked at in one page, and pages in one round.
const PAGE: u32 = 500;
const MAX_PAGES: u32 = 20;
/// After so many events that nobody wanted the cursor is written all the same.
const MAX_UNWRITTEN: u64 = 10_000;
/// While there is nothing but failures, something new is tried after a tenth of that time, and at most so seldom.
const LONGEST_PROBE: Duration = Duration::from_secs(60);
const SHORTEST_PROBE: Duration = Duration::from_secs(1);

/// What the log has for a webhook.
#[derive(Debug, Default)]
struct Found {
    events: Vec<EventRecord>,
    /// Everything up to here was looked at.
    cursor: u64,
    /// Whether the log may go on.
    more: bool,
}

/// Events of one task in their order: a parked one whose time has come, or new ones.
#[derive(Debug)]
enum Run {
    Due(Box<Delivery>),
    New(Vec<EventRecord>),
}

/// What came of a run.
#[derive(Debug, Default)]
struct Ran {
    tried: Option<(u64, Outcome)>,
    delivered: u32,
    parked: Vec<ParkedEvent>,
}

impl Deliverer {
    /// Does one round, if there is anything to do.
    pub(crate) async fn round(&self, webhook: &Webhook) -> Result<Progress> {
        let now = self.processor.now().await?;
        let mut memory = self.remembered(webhook);
        let due = webhook.is_active() && webhook.next_at.is_some_and(|at| at <= now);
        let found = self.look(webhook, &memory, now).await?;
        let unwritten = found.cursor.saturating_sub(webhook.cursor);
        if !due && found.events.is_empty() && !webhook.has_open_ping() && unwritten < MAX_UNWRITTEN {
            memory.seen = found.cursor;
            self.remember(webhook, memory);
            return Ok(if found.more {
                Progress::Went
            } else {
                Progress::Idle
            });
        }
        let max = u32::try_from(self.options.max_batch).unwrap_or(u32::MAX);
        let taken = match self.processor.take_webhook(self.wish(&webhook.name, max)).await {
            Ok(taken) => taken,
            Err(Error::Conflict(_) | Error::Unknown { .. }) => return Ok(Progress::Idle),
            Err(error) => return Err(error),
        };
        if !is_as_seen(webhook, &taken.webhook, found.events.len()) {
            return Ok(Progress::Went);
        }
        let settled = self.send_and_settle(&taken, found, now).await;
        self.note(&taken.webhook, settled)
    }

    async fn send_and_settle(&self, taken: &TakenWebhook, found: Found, now: Timestamp) -> Result<Webhook> {
        let mut done = SettleWebhook::new(&taken.webhook, self.options.lease_ms);
        done.cursor = Some(found.cursor).filter(|cursor| *cursor > taken.webhook.cursor);
        match Letterhead::of(taken) {
            Ok(letterhead) => self.send_all(&letterhead, taken, found.events, &mut done).await?,
            // A key that cannot sign: nothing is sent, and everything that is new waits.
            Err(outcome) => fail_all(&outcome, taken, found.events, &mut done),
        }
        done.parked.sort_by_key(|parked| parked.event.seq);
        tracing::debug!(webhook = %done.name, delivered = done.delivered, parked = done.parked.len(),
            tried = done.tried.len(), at = %now, "a round of a webhook");
        self.processor.settle_webhook(done).await
    }

    /// What to do after a round: where there is nothing but failures the next new event waits a while.
    fn note(&self, before: &Webhook, settled: Result<Webhook>) -> Result<Progress> {
        let after = match settled {
            Ok(after) => after,
            // Somebody else goes on, or the cursor was set back: look again.
            Err(Error::Conflict(_) | Error::Unknown { .. }) => return Ok(Progress::Went),
            Err(error) => return Err(error),
        };
        if before.is_active() && !after.is_active() {
            tracing::warn!(webhook = %after.name, state = ?after.state, "a webhook was switched off");
        }
        let mut memory = Memory {
            of: (after.epoch, after.version),
            seen: after.cursor,
            probe_at: Timestamp::default(),
        };
        if let (Some(since), Some(word)) = (after.failing_since, &after.last_failure) {
            let tenth = Duration::from_millis(word.at.since_ms(since).unsigned_abs() / 10);
            let wait = tenth.clamp(SHORTEST_PROBE, LONGEST_PROBE);
            memory.probe_at = word
                .at
                .plus_ms(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
        }
        self.remember(&after, memory);
        Ok(Progress::Went)
    }

    /// Looks for events that the webhook wants.
    async fn look(&self, webhook: &Webhook, memory: &Memory, now: Timestamp) -> Result<Found> {
        let mut found = Found {
            cursor: webhook.cursor.max(memory.seen),
            ..Found::default()
        };
        let is_down = webhook.failing_since.is_some();
        // A clock that was set back does not make it wait longer than ever.
        let longest = i64::try_from(LONGEST_PROBE.as_millis()).unwrap_or(i64::MAX);
        let waits = is_down && now < memory.probe_at && memory.probe_at <= now.plus_ms(longest);
        if !webhook.is_active() || webhook.is_held_back() || waits {
            return Ok(found);
        }
        let batch = if is_down { 1 } else { self.options.max_batch };
        let most = batch.min(webhook.room as usize);
        for _ in 0..MAX_PAGES {
            let query = EventQuery {
                after: found.cursor,
                limit: PAGE,
                ..EventQuery::default()
            };
            let page = self.processor.events_of(query).await?.events;
            found.more = page.len() == PAGE as usize;
            for event in page {
                if found.events.len() == most {
                    return Ok(found);
                }
                found.cursor = event.seq;
                if self.wants(webhook, &event).await? {
                    found.events.push(event);
                }
            }
            if !found.more {
                break;
            }
        }
        Ok(found)
    }

    async fn wants(&self, webhook: &Webhook, event: &EventRecord) -> Result<bool> {
        let filter = &webhook.filter;
        if !filter.wants(event) || !filter.asks_for_kinds() {
            return Ok(filter.wants(event));
        }
        // The task of such an event is gone, and the event says what it was.
        if event.kind == EventKind::Purged {
            return Ok(filter.wants_kind(event.body.get("kind").and_then(Json::as_str)));
        }
        let kind = self.kinds.of(&self.processor, event.task_id).await?;
        Ok(filter.wants_kind(kind.as_deref()))
    }

    async fn send_all(
        &self,
        letterhead: &Letterhead,
        taken: &TakenWebhook,
        events: Vec<EventRecord>,
        done: &mut SettleWebhook,
    ) -> Result<()> {
        let until = Instant::now() + self.options.round;
        if let Some(ping) = taken
            .webhook
            .ping
            .as_ref()
            .filter(|_| taken.webhook.has_open_ping())
        {
            let message = letterhead.ping(&taken.webhook.name, ping, self.processor.now().await?);
            done.ping = self.send_one(&message, until).await;
        }
        let runs = runs(taken, events, &mut done.parked);
        let at_once = match taken.webhook.failing_since {
            Some(_) => 1,
            None => self.options.max_sending_each.max(1),
        };
        let runs = futures::stream::iter(runs).map(|run| self.send_run(letterhead, run, until));
        let mut runs = runs.buffer_unordered(at_once);
        while let Some(ran) = runs.next().await {
            let ran = ran?;
            done.tried.extend(ran.tried);
            done.delivered += ran.delivered;
            done.parked.extend(ran.parked);
        }
        Ok(())
    }

    async fn send_run(&self, letterhead: &Letterhead, run: Run, until: Instant) -> Result<Ran> {
        let mut ran = Ran::default();
        let events = match run {
            Run::Due(delivery) => {
                let outcome = self.send_event(letterhead, &delivery.event, until).await?;
                ran.tried = outcome.map(|outcome| (delivery.seq(), outcome));
                return Ok(ran);
            }
            Run::New(events) => events,
        };
        for event in events {
            let outcome = if ran.parked.is_empty() {
                self.send_event(letterhead, &event, until).await?
            } else {
                None
            };
            match outcome {
                Some(outcome) if outcome.is_accepted() => ran.delivered += 1,
                outcome => ran.parked.push(ParkedEvent { event, outcome }),
            }
        }
        Ok(ran)
    }

    async fn send_event(
        &self,
        letterhead: &Letterhead,
        event: &EventRecord,
        until: Instant,
    ) -> Result<Option<Outcome>> {
        let now = self.processor.now().await?;
        Ok(self.send_one(&letterhead.event(event, now), until).await)
    }

    /// Sends a message, unless it is too late for this round to begin with it.
    async fn send_one(&self, message: &super::Outgoing, until: Instant) -> Option<Outcome> {
        // The semaphore is never closed, so that there is always a slot in the end.
        let _slot = self.slots.acquire().await;
        if Instant::now() >= until {
            return None;
        }
        Some(self.sender.send(message).await)
    }
}

/// Whether what was looked for is still what the webhook wants.
fn is_as_seen(seen: &Webhook, taken: &Webhook, events: usize) -> bool {
    (seen.cursor, seen.version, seen.state) == (taken.cursor, taken.version, taken.state)
        && events <= taken.room as usize
}

/// What to send: what is due, and what is new of tasks that nothing is parked of; the rest waits in its line.
fn runs(taken: &TakenWebhook, events: Vec<EventRecord>, waits: &mut Vec<ParkedEvent>) -> Vec<Run> {
    let blocked: BTreeSet<TaskId> = taken.blocked.iter().copied().collect();
    let due = taken.due.iter().cloned().map(Box::new).map(Run::Due);
    let mut runs: Vec<Run> = due.collect();
    let mut new: Vec<(TaskId, Vec<EventRecord>)> = Vec::new();
    for event in events {
        if blocked.contains(&event.task_id) {
            waits.push(ParkedEvent { event, outcome: None });
            continue;
        }
        match new.iter_mut().find(|(task, _)| *task == event.task_id) {
            Some((_, events)) => events.push(event),
            None => new.push((event.task_id, vec![event])),
        }
    }
    runs.extend(new.into_iter().map(|(_, events)| Run::New(events)));
    runs
}

fn fail_all(outcome: &Outcome, taken: &TakenWebhook, events: Vec<EventRecord>, done: &mut SettleWebhook) {
    done.tried = taken.due.iter().map(|due| (due.seq(), outcome.clone())).collect();
    let waits = events.into_iter().map(|event| ParkedEvent {
        event,
        outcome: Some(outcome.clone()),
    });
    done.parked.extend(waits);
    done.ping = taken.webhook.has_open_ping().then(|| outcome.clone());
}
