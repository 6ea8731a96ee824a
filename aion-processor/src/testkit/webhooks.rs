//! Cases about webhooks: made and changed, taken by one sender, parked, dead, replayed.

use aion_types::{EventKind, EventRecord, HandlerId, Json};

use super::Bench;
use crate::{
    CancelMode, Delivery, DeliveryQuery, DeliveryState, Disabled, Error, NameQuery, NewWebhook, Outcome,
    ParkedEvent, SettleWebhook, TakeWebhook, TakenWebhook, Webhook, WebhookChange, WebhookFilter, WebhookKey,
    WebhookState,
};

const FIRST: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SECOND: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const LEASE_MS: u64 = 30_000;

fn key(text: &str) -> WebhookKey {
    WebhookKey::new(text).expect("a key")
}

async fn make(bench: &Bench, name: &str) -> Webhook {
    let new = NewWebhook::new(name, "https://receiver.test/hook", key(FIRST));
    bench.processor.create_webhook(new).await.expect("made")
}

fn wish(name: &str, holder: &str) -> TakeWebhook {
    TakeWebhook {
        name: name.to_owned(),
        holder: HandlerId::new(holder).expect("a name"),
        lease_ms: LEASE_MS,
        max: 100,
    }
}

async fn take(bench: &Bench, name: &str) -> TakenWebhook {
    let taken = bench.processor.take_webhook(wish(name, "sender")).await;
    taken.expect("taken")
}

async fn settle(bench: &Bench, settle: SettleWebhook) -> Webhook {
    bench.processor.settle_webhook(settle).await.expect("settled")
}

async fn log(bench: &Bench, after: u64) -> Vec<EventRecord> {
    bench.processor.events(after, 1_000).await.expect("read").events
}

async fn list(bench: &Bench, name: &str, state: DeliveryState) -> Vec<Delivery> {
    let query = DeliveryQuery {
        webhook: name.to_owned(),
        state,
        after: 0,
        limit: 0,
    };
    bench.processor.deliveries(query).await.expect("read")
}

fn seqs(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(Delivery::seq).collect()
}

fn refused() -> Outcome {
    Outcome::failed(Some(500), "the receiver answered 500")
}

/// Sends all that is new: `fails` says of which events the receiver does not want to hear; later ones of the same
/// task wait behind them.
async fn send_new(bench: &Bench, name: &str, fails: impl Fn(&EventRecord) -> bool) -> Webhook {
    let taken = take(bench, name).await;
    let mut blocked = taken.blocked.clone();
    let mut done = SettleWebhook::new(&taken.webhook, LEASE_MS);
    for event in log(bench, taken.webhook.cursor).await {
        done.cursor = Some(event.seq);
        let outcome = if blocked.contains(&event.task_id) {
            None
        } else if fails(&event) {
            blocked.push(event.task_id);
            Some(refused())
        } else {
            done.delivered += 1;
            continue;
        };
        done.parked.push(ParkedEvent { event, outcome });
    }
    settle(bench, done).await
}

/// Tries what is due once.
async fn try_due(bench: &Bench, name: &str, outcome: Outcome) -> (Vec<u64>, Webhook) {
    let taken = take(bench, name).await;
    let mut done = SettleWebhook::new(&taken.webhook, LEASE_MS);
    done.tried = taken.due.iter().map(|due| (due.seq(), outcome.clone())).collect();
    (seqs(&taken.due), settle(bench, done).await)
}

/// A webhook begins with the next event; names are unique; what makes no sense is refused and changes nothing.
pub async fn webhooks_are_made_and_changed(bench: Bench) {
    let p = &bench.processor;
    bench.create(bench.task()).await;
    let last = log(&bench, 0).await.len() as u64;
    let made = make(&bench, "b").await;
    assert_eq!(
        (made.cursor, made.version, made.state),
        (last, 1, WebhookState::Active)
    );
    let twice = p
        .create_webhook(NewWebhook::new("b", "https://x.test", key(FIRST)))
        .await;
    assert!(matches!(twice, Err(Error::Conflict(_))), "{twice:?}");
    let early = NewWebhook::new("a", "http://receiver.test:8080/x?y=z", key(FIRST)).with_after(0);
    assert_eq!(p.create_webhook(early).await.expect("made").cursor, 0);
    for url in [
        "",
        "ftp://x.test",
        "https://",
        "https:///x",
        "https://u:p@x.test",
        "https://x.test/a b",
    ] {
        let bad = p.create_webhook(NewWebhook::new("c", url, key(FIRST))).await;
        assert!(
            matches!(bad, Err(Error::Invalid { what: "url", .. })),
            "{url}: {bad:?}"
        );
    }
    let ahead = NewWebhook::new("c", "https://x.test", key(FIRST)).with_after(last + 1);
    assert!(matches!(
        p.create_webhook(ahead).await,
        Err(Error::Limit { what: "after", .. })
    ));
    let names: Vec<_> = p.webhooks(NameQuery::default()).await.expect("read");
    assert_eq!(
        names.iter().map(|hook| hook.name.as_str()).collect::<Vec<_>>(),
        ["a", "b"]
    );
    let filter = WebhookFilter::default().with_events([EventKind::Completed]);
    let mut change = WebhookChange {
        name: "b".to_owned(),
        filter: Some(filter.clone()),
        version: Some(1),
        ..WebhookChange::default()
    };
    let changed = p.change_webhook(change.clone()).await.expect("changed");
    assert_eq!(
        (changed.version, changed.filter, changed.url),
        (2, filter, made.url)
    );
    assert!(matches!(
        p.change_webhook(change.clone()).await,
        Err(Error::Conflict(_))
    ));
    change.name = "z".to_owned();
    assert!(matches!(
        p.change_webhook(change).await,
        Err(Error::Unknown { what: "webhook", .. })
    ));
    p.remove_webhook("b").await.expect("removed");
    assert!(matches!(p.webhook("b").await, Err(Error::Unknown { .. })));
    assert!(matches!(p.webhook("").await, Err(Error::Unknown { .. })));
    assert!(matches!(p.remove_webhook("").await, Err(Error::Unknown { .. })));
    make(&bench, "b").await;
}

/// There are only so many.
pub async fn webhooks_are_limited(bench: Bench) {
    for name in ["a", "b", "c"] {
        make(&bench, name).await;
    }
    let new = || NewWebhook::new("d", "https://x.test", key(FIRST));
    let p = &bench.processor;
    assert!(matches!(
        p.create_webhook(new()).await,
        Err(Error::Limit { what: "webhooks", .. })
    ));
    p.remove_webhook("a").await.expect("removed");
    p.create_webhook(new()).await.expect("there is room again");
}

/// The sender gets the keys: during a rotation both, the newest first; nobody else gets any.
pub async fn keys_are_rotated(bench: Bench) {
    let p = &bench.processor;
    let made = make(&bench, "hook").await;
    assert!(!format!("{made:?}").contains("MfKQ9r8G"));
    assert_eq!(take(&bench, "hook").await.keys, [key(FIRST)]);
    let rotated = p
        .rotate_webhook_key("hook", key(SECOND), 60_000)
        .await
        .expect("rotated");
    assert_eq!(rotated.rotating_until, Some(bench.clock_now().plus_ms(60_000)));
    let again = p
        .rotate_webhook_key("hook", key(SECOND), 60_000)
        .await
        .expect("harmless");
    assert_eq!(again, rotated);
    assert_eq!(take(&bench, "hook").await.keys, [key(SECOND), key(FIRST)]);
    bench.clock.advance_ms(60_000);
    let taken = take(&bench, "hook").await;
    assert_eq!(
        (taken.keys, taken.webhook.rotating_until),
        (vec![key(SECOND)], None)
    );
    let at_once = p
        .rotate_webhook_key("hook", key(FIRST), 0)
        .await
        .expect("rotated");
    assert_eq!(at_once.rotating_until, None);
    assert_eq!(take(&bench, "hook").await.keys, [key(FIRST)]);
    let forever = p.rotate_webhook_key("hook", key(SECOND), u64::MAX).await;
    assert!(matches!(forever, Err(Error::Limit { what: "keep_ms", .. })));
}

/// While one sends nobody else does; who lost it settles nothing; a clock that was set back locks nobody out.
pub async fn one_sender_at_a_time(bench: Bench) {
    let p = &bench.processor;
    make(&bench, "hook").await;
    let first = take(&bench, "hook").await.webhook;
    let other = p.take_webhook(wish("hook", "other")).await;
    assert!(matches!(other, Err(Error::Conflict(_))));
    bench.clock.advance_ms(LEASE_MS as i64 - 1);
    assert_eq!(take(&bench, "hook").await.webhook.epoch, first.epoch);
    bench.clock.advance_ms(LEASE_MS as i64);
    let second = p.take_webhook(wish("hook", "other")).await.expect("free").webhook;
    assert!(second.epoch > first.epoch);
    let late = p.settle_webhook(SettleWebhook::new(&first, LEASE_MS)).await;
    assert!(matches!(late, Err(Error::Conflict(_))));
    settle(&bench, SettleWebhook::new(&second, 0)).await;
    let third = take(&bench, "hook").await.webhook;
    assert!(third.epoch > second.epoch);
    bench.clock.advance_ms(-86_400_000);
    let back = p
        .take_webhook(wish("hook", "other"))
        .await
        .expect("not locked out");
    assert!(back.webhook.epoch > third.epoch);
    p.remove_webhook("hook").await.expect("removed");
    make(&bench, "hook").await;
    let stale = p.settle_webhook(SettleWebhook::new(&back.webhook, 0)).await;
    assert!(
        matches!(stale, Err(Error::Conflict(_))),
        "of another webhook of this name"
    );
}

/// An event that fails waits longer and longer; later ones of its task wait behind it, other tasks go on.
pub async fn failures_keep_the_order_of_a_task(bench: Bench) {
    make(&bench, "hook").await;
    let task = bench.create(bench.task()).await.id;
    let other = bench.create(bench.task()).await.id;
    let hook = send_new(&bench, "hook", |event| event.task_id == task).await;
    let events = log(&bench, 0).await;
    let last = events.last().map_or(0, |event| event.seq);
    assert_eq!(
        (hook.cursor, hook.delivered, hook.failed, hook.parked),
        (last, 2, 1, 2)
    );
    assert!(events.iter().any(|event| event.task_id == other));
    let parked = list(&bench, "hook", DeliveryState::Parked).await;
    let soon = bench.clock_now().plus_ms(5_000);
    let times: Vec<_> = parked
        .iter()
        .map(|found| (found.attempts, found.next_at))
        .collect();
    assert_eq!(times, [(1, Some(soon)), (0, None)]);
    assert_eq!(hook.next_at, Some(soon));
    assert!(take(&bench, "hook").await.due.is_empty());
    bench.clock.advance_ms(5_000);
    let (tried, hook) = try_due(&bench, "hook", refused()).await;
    assert_eq!(tried, [parked[0].seq()]);
    assert_eq!(hook.next_at, Some(bench.clock_now().plus_ms(10_000)));
    bench.clock.advance_ms(10_000);
    let (tried, hook) = try_due(&bench, "hook", Outcome::accepted(200)).await;
    assert_eq!(tried, [parked[0].seq()]);
    assert_eq!((hook.parked, hook.next_at), (1, Some(bench.clock_now())));
    let (tried, hook) = try_due(&bench, "hook", Outcome::accepted(204)).await;
    assert_eq!(tried, [parked[1].seq()]);
    assert_eq!((hook.parked, hook.next_at, hook.delivered), (0, None, 4));
    assert_eq!(
        (hook.failing_since, hook.last_success_at),
        (None, Some(bench.clock_now()))
    );
    let word = hook.last_failure.expect("kept");
    assert_eq!(word.outcome.status, Some(500));
}

/// The receiver may ask for a longer wait, up to a day.
pub async fn receivers_ask_for_time(bench: Bench) {
    make(&bench, "hook").await;
    bench.create(bench.task()).await;
    send_new(&bench, "hook", |_| true).await;
    for (asked, waits) in [(7_000_000, 7_000_000), (u64::MAX, 86_400_000)] {
        let at = take(&bench, "hook").await.webhook.next_at.expect("parked");
        bench.clock.advance_ms(at.since_ms(bench.clock_now()));
        let busy = refused().with_retry_after_ms(Some(asked));
        let (tried, hook) = try_due(&bench, "hook", busy).await;
        if tried.is_empty() {
            panic!("nothing was due");
        }
        let letters = list(&bench, "hook", DeliveryState::Parked).await;
        let head = letters.iter().find_map(|found| found.next_at).expect("a head");
        if hook.dead == 0 {
            assert_eq!(head, bench.clock_now().plus_ms(waits));
        }
    }
}

/// What fails too often is a dead letter: the next one of its task goes on; letters are sent again one by one or
/// all; only so many are kept.
pub async fn what_fails_too_often_is_dead(bench: Bench) {
    let p = &bench.processor;
    make(&bench, "hook").await;
    let task = bench.create(bench.task()).await.id;
    send_new(&bench, "hook", |_| true).await;
    let events = seqs(&list(&bench, "hook", DeliveryState::Parked).await);
    for wait in [5_000, 10_000] {
        bench.clock.advance_ms(wait);
        assert_eq!(try_due(&bench, "hook", refused()).await.0, [events[0]]);
    }
    let dead = list(&bench, "hook", DeliveryState::Dead).await;
    assert_eq!((seqs(&dead), dead[0].attempts), (vec![events[0]], 3));
    let hook = p.webhook("hook").await.expect("there");
    assert_eq!(
        (hook.dead, hook.parked, hook.next_at),
        (1, 1, Some(bench.clock_now()))
    );
    let unknown = p.retry_dead_letters("hook", Some(events[1])).await;
    assert!(matches!(
        unknown,
        Err(Error::Unknown {
            what: "dead letter",
            ..
        })
    ));
    let hook = p
        .retry_dead_letters("hook", Some(events[0]))
        .await
        .expect("again");
    assert_eq!((hook.dead, hook.parked), (0, 2));
    let parked = list(&bench, "hook", DeliveryState::Parked).await;
    let times: Vec<_> = parked
        .iter()
        .map(|found| (found.attempts, found.next_at.is_some()))
        .collect();
    assert_eq!(times, [(0, true), (0, false)], "the older one is first again");
    for wait in [0, 5_000, 10_000, 0, 5_000, 10_000] {
        bench.clock.advance_ms(wait);
        try_due(&bench, "hook", refused()).await;
    }
    assert_eq!(seqs(&list(&bench, "hook", DeliveryState::Dead).await), events);
    p.cancel(task, CancelMode::Ask).await.expect("cancelled");
    send_new(&bench, "hook", |_| true).await;
    for wait in [5_000, 10_000] {
        bench.clock.advance_ms(wait);
        try_due(&bench, "hook", refused()).await;
    }
    let kept = list(&bench, "hook", DeliveryState::Dead).await;
    assert_eq!((kept.len(), kept[0].seq()), (2, events[1]), "the oldest is gone");
    let hook = p.retry_dead_letters("hook", None).await.expect("all");
    assert_eq!((hook.dead, hook.parked), (0, 2));
    assert_eq!(
        try_due(&bench, "hook", Outcome::accepted(200)).await.0,
        [events[1]]
    );
}

/// When too much is parked there is no room: whoever settles more is refused, and nothing changes.
pub async fn too_much_holds_it_back(bench: Bench) {
    let p = &bench.processor;
    make(&bench, "hook").await;
    for _ in 0..3 {
        bench.create(bench.task()).await;
    }
    let hook = send_new(&bench, "hook", |_| true).await;
    assert_eq!((hook.parked, hook.room, hook.is_held_back()), (6, 0, true));
    let task = bench.create(bench.task()).await.id;
    let taken = take(&bench, "hook").await;
    let mut done = SettleWebhook::new(&taken.webhook, LEASE_MS);
    let events = log(&bench, hook.cursor).await;
    done.cursor = events.last().map(|event| event.seq);
    let park = |event: &EventRecord| ParkedEvent {
        event: event.clone(),
        outcome: None,
    };
    done.parked = events.iter().map(park).collect();
    let full = p.settle_webhook(done).await;
    assert!(matches!(full, Err(Error::Limit { what: "parked", .. })));
    assert_eq!(p.webhook("hook").await.expect("there").cursor, hook.cursor);
    assert!(!taken.blocked.contains(&task) && taken.blocked.len() == 3);
    bench.clock.advance_ms(5_000);
    let (tried, hook) = try_due(&bench, "hook", Outcome::accepted(200)).await;
    assert_eq!((tried.len(), hook.room), (3, 3));
}

/// 410 switches it off at once, a long time of nothing but failures by and by; resuming tries everything at once.
pub async fn hopeless_receivers_are_switched_off(bench: Bench) {
    let p = &bench.processor;
    make(&bench, "hook").await;
    bench.create(bench.task()).await;
    send_new(&bench, "hook", |_| true).await;
    bench.clock.advance_ms(5_000);
    let gone = Outcome::failed(Some(410), "gone");
    let (_, hook) = try_due(&bench, "hook", gone).await;
    assert_eq!(hook.state, WebhookState::Disabled(Disabled::Gone));
    bench.clock.advance_ms(86_400_000);
    assert!(take(&bench, "hook").await.due.is_empty(), "it is off");
    let resumed = p.resume_webhook("hook").await.expect("resumed");
    assert_eq!(
        (resumed.state, resumed.next_at),
        (WebhookState::Active, Some(bench.clock_now()))
    );
    try_due(&bench, "hook", refused()).await;
    let day = 86_400_000;
    bench.clock.advance_ms(5 * day - 1);
    let (tried, hook) = try_due(&bench, "hook", refused()).await;
    assert_eq!((tried.len(), hook.state), (1, WebhookState::Active));
    bench.clock.advance_ms(1);
    bench.create(bench.task()).await;
    let hook = send_new(&bench, "hook", |_| true).await;
    assert_eq!(hook.state, WebhookState::Disabled(Disabled::Failing));
    let paused = p.pause_webhook("hook").await.expect("paused");
    assert_eq!(paused.state, WebhookState::Paused);
    assert_eq!(p.pause_webhook("hook").await.expect("harmless"), paused);
}

/// A replay goes back, forgets what comes again, and fences off whoever is sending.
pub async fn replays_begin_anew(bench: Bench) {
    let p = &bench.processor;
    make(&bench, "hook").await;
    for _ in 0..2 {
        bench.create(bench.task()).await;
    }
    let events: Vec<u64> = log(&bench, 0).await.iter().map(|event| event.seq).collect();
    send_new(&bench, "hook", |_| true).await;
    let sending = take(&bench, "hook").await.webhook;
    let hook = p.replay_webhook("hook", events[0]).await.expect("replayed");
    assert_eq!((hook.cursor, hook.parked), (events[0], 1));
    let late = p.settle_webhook(SettleWebhook::new(&sending, LEASE_MS)).await;
    assert!(matches!(late, Err(Error::Conflict(_))));
    let ahead = p.replay_webhook("hook", events[1]).await;
    assert!(
        matches!(ahead, Err(Error::Limit { what: "after", .. })),
        "it would leave an event out"
    );
    let hook = send_new(&bench, "hook", |_| false).await;
    assert_eq!((hook.cursor, hook.parked, hook.delivered), (events[3], 2, 2));
    let all = p.replay_webhook("hook", 0).await.expect("replayed");
    assert_eq!((all.parked, all.next_at, all.cursor), (0, None, 0));
    assert_eq!(send_new(&bench, "hook", |_| false).await.delivered, 6);
}

/// A test is sent once and says what came of it, also while the webhook is paused.
pub async fn tests_are_sent_once(bench: Bench) {
    let p = &bench.processor;
    make(&bench, "hook").await;
    p.pause_webhook("hook").await.expect("paused");
    let asked = p.ping_webhook("hook").await.expect("asked");
    let id = asked.ping.clone().expect("a test").id;
    let again = p.ping_webhook("hook").await.expect("asked");
    assert_eq!(again.ping.as_ref().map(|ping| &ping.id), Some(&id));
    let taken = take(&bench, "hook").await.webhook;
    assert!(taken.has_open_ping());
    let mut done = SettleWebhook::new(&taken, LEASE_MS);
    done.ping = Some(Outcome::accepted(200));
    let pinged = settle(&bench, done).await;
    let word = pinged.ping.expect("kept").word.expect("sent");
    assert_eq!((word.at, word.outcome.status), (bench.clock_now(), Some(200)));
    let next = p.ping_webhook("hook").await.expect("asked");
    assert_ne!(next.ping.expect("a test").id, id);
}

/// What is settled must follow the cursor in order; a delivery outlives the event in the log.
pub async fn settles_are_checked(bench: Bench) {
    let p = &bench.processor;
    make(&bench, "hook").await;
    let lease = bench.claimed(bench.task()).await;
    let events = log(&bench, 0).await;
    let taken = take(&bench, "hook").await.webhook;
    let park = |index: usize| ParkedEvent {
        event: events[index].clone(),
        outcome: Some(refused()),
    };
    for (cursor, parked) in [(1, vec![1, 0]), (1, vec![0, 0]), (0, vec![1]), (0, vec![0, 1, 2])] {
        let mut bad = SettleWebhook::new(&taken, LEASE_MS);
        bad.cursor = Some(events[cursor].seq);
        bad.parked = parked.into_iter().map(park).collect();
        let refused = p.settle_webhook(bad).await;
        assert!(
            matches!(refused, Err(Error::Invalid { what: "parked", .. })),
            "{refused:?}"
        );
    }
    let mut ahead = SettleWebhook::new(&taken, LEASE_MS);
    ahead.cursor = Some(events[2].seq + 9);
    assert!(matches!(
        p.settle_webhook(ahead).await,
        Err(Error::Limit { what: "cursor", .. })
    ));
    assert_eq!(p.webhook("hook").await.expect("there").cursor, taken.cursor);
    p.complete(lease.fence(), Json::Null).await.expect("completed");
    send_new(&bench, "hook", |_| true).await;
    p.purge(lease.task.id).await.expect("purged");
    bench.clock.advance_ms(5_000);
    let due = take(&bench, "hook").await.due;
    assert_eq!(due[0].event, events[0]);
}

/// What a receiver says late is not about the one that took its place, nor about a webhook that was resumed meanwhile.
pub async fn late_words_are_not_about_others(bench: Bench) {
    let p = &bench.processor;
    make(&bench, "hook").await;
    bench.create(bench.task()).await;
    let gone = Outcome::failed(Some(410), "gone");
    let late = |taken: &TakenWebhook, events: Vec<EventRecord>| {
        let mut done = SettleWebhook::new(&taken.webhook, LEASE_MS);
        done.cursor = events.last().map(|event| event.seq);
        done.parked = events
            .into_iter()
            .map(|event| ParkedEvent {
                event,
                outcome: Some(gone.clone()),
            })
            .collect();
        done
    };
    for moves in [true, false] {
        let taken = take(&bench, "hook").await;
        let events = log(&bench, taken.webhook.cursor).await;
        let changed = if moves {
            let change = WebhookChange {
                name: "hook".to_owned(),
                url: Some("https://other.test/hook".to_owned()),
                ..WebhookChange::default()
            };
            p.change_webhook(change).await
        } else {
            p.resume_webhook("hook").await
        };
        assert_eq!(changed.expect("changed").state, WebhookState::Active);
        let refused = p.settle_webhook(late(&taken, events)).await;
        assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    }
    let hook = p.webhook("hook").await.expect("there");
    assert_eq!(
        (hook.state, hook.failing_since, hook.parked),
        (WebhookState::Active, None, 0)
    );
    let hook = send_new(&bench, "hook", |_| false).await;
    assert_eq!((hook.delivered, hook.parked), (2, 0), "nothing was lost");
}

/// A dead letter that is sent again while a later event of its task is on its way goes first.
pub async fn one_event_of_a_task_has_a_time(bench: Bench) {
    let p = &bench.processor;
    make(&bench, "hook").await;
    bench.create(bench.task()).await;
    send_new(&bench, "hook", |_| true).await;
    let events = seqs(&list(&bench, "hook", DeliveryState::Parked).await);
    for wait in [5_000, 10_000] {
        bench.clock.advance_ms(wait);
        assert_eq!(try_due(&bench, "hook", refused()).await.0, [events[0]]);
    }
    let taken = take(&bench, "hook").await;
    assert_eq!(seqs(&taken.due), [events[1]], "the first is dead");
    p.retry_dead_letters("hook", Some(events[0]))
        .await
        .expect("again");
    let mut done = SettleWebhook::new(&taken.webhook, LEASE_MS);
    done.tried = vec![(events[1], refused())];
    settle(&bench, done).await;
    let parked = list(&bench, "hook", DeliveryState::Parked).await;
    let times: Vec<bool> = parked.iter().map(|found| found.next_at.is_some()).collect();
    assert_eq!(times, [true, false]);
    let (tried, _) = try_due(&bench, "hook", Outcome::accepted(200)).await;
    assert_eq!(tried, [events[0]]);
    assert_eq!(
        try_due(&bench, "hook", Outcome::accepted(200)).await.0,
        [events[1]]
    );
}

/// Days on which there was nothing to send are no days of failures.
pub async fn quiet_days_are_no_failures(bench: Bench) {
    make(&bench, "hook").await;
    bench.create(bench.task()).await;
    send_new(&bench, "hook", |_| true).await;
    for wait in [5_000, 10_000, 0, 5_000, 10_000] {
        bench.clock.advance_ms(wait);
        try_due(&bench, "hook", refused()).await;
    }
    bench.clock.advance_ms(10 * 86_400_000);
    bench.create(bench.task()).await;
    let hook = send_new(&bench, "hook", |_| true).await;
    assert_eq!(
        (hook.dead, hook.state, hook.failing_since),
        (2, WebhookState::Active, Some(bench.clock_now()))
    );
}
