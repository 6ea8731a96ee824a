//! Receivers over sockets that do not do what they should, and addresses where nothing goes.

use std::time::{Duration, Instant};

use aion_processor::{DeliveryState, Disabled, WebhookState};
use aion_processor_server::{HttpSender, Plain, TargetPolicy};

use super::receiver::{Act, Names, Receiver, near, patience};
use super::{KEY, NEW_KEY, World};

const HERE: &[&[&str]] = &[&["127.0.0.1"]];

/// One task is created; its two events are told of. Gives what came of the first round.
async fn told(world: &World, receiver: &Receiver) -> Option<String> {
    world.hook(receiver.url()).await;
    world.task().await;
    world.deliverer(near(Names::new(HERE))).catch_up().await.unwrap();
    let failure = world.found().await.last_failure?;
    failure.outcome.error
}

/// A receiver believes the message by the published rules, and finds the event in it.
#[tokio::test]
async fn a_message_is_signed_and_tells_of_the_event() {
    let (world, receiver) = (World::new(), Receiver::new([Act::Answer(204)]).await);
    assert_eq!(told(&world, &receiver).await, None);
    let seen = receiver.seen();
    let events = world.processor.events(0, 10).await.unwrap().events;
    assert_eq!((seen.len(), events.len()), (2, 2));
    for (request, event) in seen.iter().zip(&events) {
        let id = request.verified(&[KEY], world.now_s()).unwrap();
        assert!(
            id.starts_with("evt_") && id.ends_with(&format!("_{}", event.seq)),
            "{id}"
        );
        assert!(request.verified(&[NEW_KEY], world.now_s()).is_err());
        assert_eq!(request.path, "/hook?token=secret");
        let body = request.json();
        assert_eq!(body["type"], format!("task.{}", event.kind.as_str()));
        assert_eq!(body["timestamp"], "2023-11-14T22:13:20Z");
        let told: aion_types::EventRecord = serde_json::from_value(body["data"].clone()).unwrap();
        assert_eq!(told, *event);
    }
    let hook = world.found().await;
    assert_eq!((hook.delivered, hook.cursor, hook.parked), (2, 2, 0));
}

/// During a rotation receivers with either key believe it.
#[tokio::test]
async fn both_keys_sign_while_they_are_rotated() {
    let (world, receiver) = (World::new(), Receiver::new([Act::Answer(200)]).await);
    world.hook(receiver.url()).await;
    let key = aion_processor::WebhookKey::new(NEW_KEY).unwrap();
    world
        .processor
        .rotate_webhook_key("hook", key, 60_000)
        .await
        .unwrap();
    let deliverer = world.deliverer(near(Names::new(HERE)));
    world.task().await;
    deliverer.catch_up().await.unwrap();
    world.clock.advance_ms(60_000);
    world.task().await;
    deliverer.catch_up().await.unwrap();
    let seen = receiver.seen();
    let believes = |key, request: usize, now| seen[request].verified(&[key], now).is_ok();
    let (now, before) = (world.now_s(), world.now_s() - 60);
    assert!(believes(KEY, 0, before) && believes(NEW_KEY, 0, before));
    assert!(!believes(KEY, 2, now) && believes(NEW_KEY, 2, now));
}

/// 500 and then 200: the second attempt is 5 s later, has the same id and a new time, and the rest follows in order.
#[tokio::test]
async fn a_failure_is_made_good() {
    let (world, receiver) = (
        World::new(),
        Receiver::new([Act::Answer(500), Act::Answer(200)]).await,
    );
    let why = told(&world, &receiver).await;
    assert_eq!(why.as_deref(), Some("the receiver answered 500"));
    assert_eq!(
        receiver.seen().len(),
        1,
        "the second event waits behind the first"
    );
    let deliverer = world.deliverer(near(Names::new(HERE)));
    world.clock.advance_ms(4_999);
    deliverer.catch_up().await.unwrap();
    assert_eq!(receiver.seen().len(), 1);
    world.skip().await;
    let began = world.now_s();
    deliverer.catch_up().await.unwrap();
    let seen = receiver.seen();
    let ids: Vec<_> = seen
        .iter()
        .map(|request| request.verified(&[KEY], began).unwrap())
        .collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(ids[0], ids[1]);
    assert_ne!(
        seen[0].headers["webhook-timestamp"],
        seen[1].headers["webhook-timestamp"]
    );
    assert!(ids[2].ends_with("_2"));
    assert_eq!(
        (world.found().await.parked, world.found().await.delivered),
        (0, 2)
    );
}

/// Each of these is a failure with a reason; none lasts longer than patience allows.
#[tokio::test]
async fn misbehaviour_is_a_failure_with_a_reason() {
    let cases = [
        (Act::Hang, "the receiver took too long"),
        (Act::DripStatus, "the receiver took too long"),
        (
            Act::Redirect,
            "the receiver answered 307; redirects are not followed",
        ),
        (Act::Reset, "the connection broke off"),
        (Act::Nonsense, "the connection broke off"),
        (Act::Answer(404), "the receiver answered 404"),
    ];
    for (act, reason) in cases {
        let (world, receiver) = (World::new(), Receiver::new([act]).await);
        let began = Instant::now();
        assert_eq!(told(&world, &receiver).await.as_deref(), Some(reason), "{act:?}");
        assert!(began.elapsed() < Duration::from_secs(3), "{act:?}");
        assert_eq!(receiver.seen().len(), 1, "{act:?}");
        assert_eq!(world.listed(DeliveryState::Parked).await, [1, 2], "{act:?}");
        assert!(!format!("{:?}", world.found().await.last_failure).contains("secret"));
    }
}

/// A status counts as soon as it is there: who goes on talking is not listened to.
#[tokio::test]
async fn endless_answers_are_cut_off() {
    for act in [Act::Drip, Act::Flood] {
        let (world, receiver) = (World::new(), Receiver::new([act, Act::Answer(200)]).await);
        let began = Instant::now();
        assert_eq!(told(&world, &receiver).await, None, "{act:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{act:?}");
        assert_eq!(world.found().await.delivered, 2, "{act:?}");
    }
}

/// Nobody listens.
#[tokio::test]
async fn a_closed_port_is_a_failure() {
    let (world, receiver) = (World::new(), Receiver::new([Act::Answer(200)]).await);
    let port = receiver.addr.port();
    drop(receiver);
    tokio::task::yield_now().await;
    world.hook(format!("http://receiver.test:{port}/")).await;
    world.task().await;
    world.deliverer(near(Names::new(HERE))).catch_up().await.unwrap();
    let failure = world.found().await.last_failure.unwrap();
    assert_eq!(failure.outcome.error.as_deref(), Some("there was no connection"));
}

/// 410 switches the webhook off; resuming sends what waited.
#[tokio::test]
async fn gone_means_gone_until_it_is_resumed() {
    let (world, receiver) = (
        World::new(),
        Receiver::new([Act::Answer(410), Act::Answer(200)]).await,
    );
    told(&world, &receiver).await;
    assert_eq!(world.found().await.state, WebhookState::Disabled(Disabled::Gone));
    world.clock.advance_ms(86_400_000);
    let deliverer = world.deliverer(near(Names::new(HERE)));
    deliverer.catch_up().await.unwrap();
    assert_eq!(receiver.seen().len(), 1, "it is off");
    world.processor.resume_webhook("hook").await.unwrap();
    deliverer.catch_up().await.unwrap();
    assert_eq!((receiver.seen().len(), world.found().await.delivered), (3, 2));
}

/// A receiver may ask for more time than the schedule gives it.
#[tokio::test]
async fn retry_after_is_honoured() {
    let (world, receiver) = (
        World::new(),
        Receiver::new([Act::Busy(3_600), Act::Answer(200)]).await,
    );
    told(&world, &receiver).await;
    let next = world.found().await.next_at.unwrap();
    assert_eq!(next.as_ms() - super::START_MS, 3_600_000);
}

/// What a name resolves to is what counts, at every attempt; nothing is sent to an address that is not public.
#[tokio::test]
async fn names_of_private_addresses_get_nothing() {
    let receiver = Receiver::new([Act::Answer(200)]).await;
    for answers in [
        &["127.0.0.1"][..],
        &["10.0.0.1", "192.168.1.1"],
        &["::1"],
        &["::ffff:127.0.0.1"],
        &["169.254.169.254"],
        &["fd00::1", "fe80::1"],
        &["100.64.0.1"],
        &[],
    ] {
        let world = World::new();
        world.hook(receiver.url()).await;
        world.task().await;
        let policy = TargetPolicy::default().with_plain(Plain::Allowed);
        let sender = HttpSender::with(policy, Names::new(&[answers]), patience()).unwrap();
        world.deliverer(sender).catch_up().await.unwrap();
        let failure = world.found().await.last_failure.unwrap();
        assert_eq!(
            failure.outcome.error.as_deref(),
            Some("its host does not resolve to a public address"),
            "{answers:?}"
        );
    }
    assert!(receiver.seen().is_empty());
}

/// A name that changes its address after the first attempt (DNS rebinding) is refused at the second; of several
/// addresses only those that are allowed are tried.
#[tokio::test]
async fn rebinding_gains_nothing() {
    let receiver = Receiver::new([Act::Reset]).await;
    let world = World::new();
    let answers: &[&[&str]] = &[&["10.9.9.9", "127.0.0.1"], &["10.9.9.9"]];
    world.hook(receiver.url()).await;
    world.task().await;
    let deliverer = world.deliverer(near(Names::new(answers)));
    deliverer.catch_up().await.unwrap();
    assert_eq!(receiver.seen().len(), 1);
    world.skip().await;
    deliverer.catch_up().await.unwrap();
    let failure = world.found().await.last_failure.unwrap();
    assert_eq!(
        failure.outcome.error.as_deref(),
        Some("its host does not resolve to a public address")
    );
    assert_eq!(receiver.seen().len(), 1);
}

/// Addresses in the URL itself are looked at as well, and http is refused unless it is allowed.
#[tokio::test]
async fn literal_addresses_and_plain_http_get_nothing() {
    let receiver = Receiver::new([Act::Answer(200)]).await;
    let port = receiver.addr.port();
    let plain = TargetPolicy::default().with_plain(Plain::Allowed);
    let cases = [
        (
            format!("http://127.0.0.1:{port}/"),
            plain.clone(),
            "its address is not public",
        ),
        (
            format!("http://2130706433:{port}/"),
            plain.clone(),
            "its address is not public",
        ),
        (
            format!("http://[::ffff:127.0.0.1]:{port}/"),
            plain,
            "its address is not public",
        ),
        (receiver.url(), TargetPolicy::default(), "it is not https"),
    ];
    for (url, policy, reason) in cases {
        let world = World::new();
        world.hook(url.as_str()).await;
        world.task().await;
        let sender = HttpSender::with(policy, Names::new(HERE), patience()).unwrap();
        world.deliverer(sender).catch_up().await.unwrap();
        let failure = world.found().await.last_failure.unwrap();
        assert_eq!(failure.outcome.error.as_deref(), Some(reason), "{url}");
    }
    assert!(receiver.seen().is_empty());
}
