//! What arrives, in which order, through failures, crashes, rivals and clocks that jump.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aion_processor::{
    CancelMode, ClaimReq, DeliveryState, Done, DueReport, Lease, NewTask, NewWebhook, Outcome, Page,
    Processor, Query, Result, SchemaInfo, SqliteOptions, SqliteTaskStore, TaskStore, Wake, WebhookFilter,
    WebhookKey, WebhookLimits, WebhookState, Write,
};
use aion_processor_server::{Outgoing, Sender};
use aion_types::{Clock, EventKind, ManualClock, TaskId, Timestamp};
use async_trait::async_trait;
use futures::stream::BoxStream;
use proptest::prelude::*;

use super::receiver::Script;
use super::{KEY, START_MS, World, deliverer};

/// What a receiver accepted: the task and the `seq` of each message.
type Accepted = Arc<Mutex<Vec<(String, u64)>>>;

fn event_of(message: &Outgoing) -> (String, u64) {
    let body: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
    let task = body["data"]["task_id"].as_str().unwrap().to_owned();
    (task, body["data"]["seq"].as_u64().unwrap())
}

/// A receiver that takes what `wants` lets it.
fn receiver(accepted: &Accepted, wants: impl Fn(&Outgoing) -> bool + Send + Sync + 'static) -> impl Sender {
    let accepted = Arc::clone(accepted);
    Script(move |message: &Outgoing| {
        if !wants(message) {
            return Outcome::failed(Some(500), "no");
        }
        accepted.lock().unwrap().push(event_of(message));
        Outcome::accepted(200)
    })
}

/// Every event arrived, and those of a task for the first time in their order.
fn assert_complete(accepted: &[(String, u64)], events: &[(String, u64)]) {
    let mut first: BTreeSet<u64> = BTreeSet::new();
    let mut by_task: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (task, seq) in accepted {
        if first.insert(*seq) {
            by_task.entry(task).or_default().push(*seq);
        }
    }
    assert_eq!(first, events.iter().map(|(_, seq)| *seq).collect());
    for (task, seqs) in by_task {
        assert!(seqs.is_sorted(), "{task}: {seqs:?}");
    }
}

async fn log(processor: &Processor) -> Vec<(String, u64)> {
    let page = processor.events(0, 1_000).await.unwrap();
    let events = page.events.iter();
    events
        .map(|event| (event.task_id.to_string(), event.seq))
        .collect()
}

/// One task that fails does not stop the others, and its own events stay in order.
#[tokio::test]
async fn other_tasks_go_on() {
    let world = World::new();
    world.hook("https://receiver.test/").await;
    let bad = world.task().await.to_string();
    world.task().await;
    let accepted = Accepted::default();
    let broken = Arc::new(AtomicBool::new(true));
    let (is_broken, name) = (Arc::clone(&broken), bad.clone());
    let wants = move |message: &Outgoing| !is_broken.load(Ordering::Relaxed) || event_of(message).0 != name;
    let deliverer = world.deliverer(receiver(&accepted, wants));
    deliverer.catch_up().await.unwrap();
    assert_eq!(accepted.lock().unwrap().len(), 2);
    assert_eq!(world.listed(DeliveryState::Parked).await.len(), 2);
    world
        .processor
        .cancel(bad.parse().unwrap(), CancelMode::Ask)
        .await
        .unwrap();
    world.task().await;
    deliverer.catch_up().await.unwrap();
    assert_eq!(accepted.lock().unwrap().len(), 4);
    broken.store(false, Ordering::Relaxed);
    world.skip().await;
    deliverer.catch_up().await.unwrap();
    let events = log(&world.processor).await;
    let accepted = accepted.lock().unwrap().clone();
    assert_complete(&accepted, &events);
    assert_eq!(accepted.len(), events.len(), "each once");
}

/// Only what is asked for arrives: kinds of events, kinds of tasks, one tree.
#[tokio::test]
async fn filters_hold() {
    let world = World::new();
    let kept = world.task().await;
    let key = || WebhookKey::new(KEY).unwrap();
    let filters = [
        WebhookFilter::default().with_events([EventKind::Created]),
        WebhookFilter::default().with_task_kinds(["other"]),
        WebhookFilter::default().with_root(kept),
    ];
    // The removal of the task of the time before is of its kind, too.
    for (filter, wanted) in filters.into_iter().zip([2, 4, 3]) {
        let new = NewWebhook::new("hook", "https://receiver.test/", key())
            .with_filter(filter.clone())
            .with_after(0);
        world.processor.create_webhook(new).await.unwrap();
        let other = NewTask::new(TaskId::generate(world.clock.now()), "other", "t");
        let other = world.processor.create(other).await.unwrap().id;
        world.processor.cancel(other, CancelMode::Ask).await.unwrap();
        if filter.root.is_some() {
            world.processor.cancel(kept, CancelMode::Ask).await.unwrap();
        }
        let accepted = Accepted::default();
        let sender = receiver(&accepted, |_| true);
        world.deliverer(sender).catch_up().await.unwrap();
        assert_eq!(accepted.lock().unwrap().len(), wanted, "{filter:?}");
        world.processor.remove_webhook("hook").await.unwrap();
        world.processor.purge(other).await.unwrap();
    }
}

/// The removal of a tree is told by the kind that it had, also by a process that never saw it.
#[tokio::test]
async fn removals_are_told_by_kind() {
    let world = World::new();
    let new = NewWebhook::new("hook", "https://receiver.test/", WebhookKey::new(KEY).unwrap())
        .with_filter(WebhookFilter::default().with_task_kinds(["invoice"]));
    world.processor.create_webhook(new).await.unwrap();
    let mut roots = Vec::new();
    for kind in ["invoice", "other"] {
        let new = NewTask::new(TaskId::generate(world.clock.now()), kind, "t");
        let root = world.processor.create(new).await.unwrap().id;
        world.processor.cancel(root, CancelMode::Ask).await.unwrap();
        roots.push(root);
    }
    let accepted = Accepted::default();
    world
        .deliverer(receiver(&accepted, |_| true))
        .catch_up()
        .await
        .unwrap();
    let before = accepted.lock().unwrap().len();
    for root in roots {
        world.processor.purge(root).await.unwrap();
    }
    world
        .deliverer(receiver(&accepted, |_| true))
        .catch_up()
        .await
        .unwrap();
    assert_eq!(accepted.lock().unwrap().len(), before + 1);
}

/// Sends, and then never says so.
#[derive(Debug)]
struct Stuck(Accepted, Arc<tokio::sync::Notify>);

#[async_trait]
impl Sender for Stuck {
    async fn send(&self, message: &Outgoing) -> Outcome {
        self.0.lock().unwrap().push(event_of(message));
        self.1.notify_one();
        std::future::pending().await
    }
}

async fn open(path: &Path, clock: &ManualClock) -> (Arc<SqliteTaskStore>, Processor) {
    let options = SqliteOptions::default().with_clock(clock.clone());
    let store = Arc::new(SqliteTaskStore::open(path, options).await.unwrap());
    (store.clone(), Processor::over(store))
}

/// A sender that dies between sending and writing it down: after a restart the message comes again with the same
/// id, and nothing is left out.
#[tokio::test]
async fn a_crash_after_sending_sends_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("processor.db");
    let clock = ManualClock::at(Timestamp::from_ms(START_MS));
    let (store, processor) = open(&path, &clock).await;
    let new = NewWebhook::new("hook", "https://receiver.test/", WebhookKey::new(KEY).unwrap());
    processor.create_webhook(new).await.unwrap();
    for _ in 0..3 {
        let task = NewTask::new(TaskId::generate(clock.now()), "test", "t");
        processor.create(task).await.unwrap();
    }
    let (accepted, sent) = (Accepted::default(), Arc::new(tokio::sync::Notify::new()));
    let dying = deliverer(&processor, Stuck(Arc::clone(&accepted), Arc::clone(&sent)), "one");
    tokio::select! {
        _ = dying.catch_up() => panic!("it never ends"),
        () = sent.notified() => {}
    }
    drop(dying);
    store.close().await;
    let before = accepted.lock().unwrap().len();
    assert!(before >= 1);
    let (_store, processor) = open(&path, &clock).await;
    let sender = receiver(&accepted, |_| true);
    let again = deliverer(&processor, sender, "one");
    again.catch_up().await.unwrap();
    let events = log(&processor).await;
    let accepted = accepted.lock().unwrap().clone();
    assert_complete(&accepted, &events);
    assert_eq!(accepted.len(), before + events.len());
    assert_eq!(processor.webhook("hook").await.unwrap().cursor, 6);
}

/// Another process takes over when the lease of the dead one is over, not before.
#[tokio::test]
async fn another_process_takes_over() {
    let world = World::new();
    world.hook("https://receiver.test/").await;
    world.task().await;
    let (accepted, sent) = (Accepted::default(), Arc::new(tokio::sync::Notify::new()));
    let dying = world.deliverer(Stuck(Arc::clone(&accepted), Arc::clone(&sent)));
    tokio::select! {
        _ = dying.catch_up() => panic!("it never ends"),
        () = sent.notified() => {}
    }
    drop(dying);
    let other = deliverer(&world.processor, receiver(&accepted, |_| true), "two");
    assert_eq!(other.catch_up().await.unwrap(), 0);
    world.clock.advance_ms(30_000);
    other.catch_up().await.unwrap();
    let seqs: Vec<u64> = accepted.lock().unwrap().iter().map(|(_, seq)| *seq).collect();
    assert_eq!(seqs, [1, 1, 2]);
}

/// A receiver that hangs keeps nobody waiting but itself, and stopping does not wait for it for long.
#[tokio::test]
async fn a_slow_receiver_holds_up_no_other() {
    let world = World::new();
    let key = || WebhookKey::new(KEY).unwrap();
    for (name, url) in [("a", "https://slow.test/"), ("b", "https://quick.test/")] {
        world
            .processor
            .create_webhook(NewWebhook::new(name, url, key()))
            .await
            .unwrap();
    }
    #[derive(Debug)]
    struct Both(Accepted);
    #[async_trait]
    impl Sender for Both {
        async fn send(&self, message: &Outgoing) -> Outcome {
            if message.url.contains("slow") {
                std::future::pending::<()>().await;
            }
            self.0.lock().unwrap().push(event_of(message));
            Outcome::accepted(200)
        }
    }
    let accepted = Accepted::default();
    let mut options =
        aion_processor_server::DelivererOptions::new(aion_types::HandlerId::new("one").unwrap());
    options.grace = Duration::from_millis(50);
    let sender = Both(Arc::clone(&accepted));
    let delivering = aion_processor_server::Deliverer::new(world.processor.clone(), sender, options).start();
    for wanted in [2, 4, 6] {
        world.task().await;
        let arrived = async {
            while accepted.lock().unwrap().len() < wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), arrived)
            .await
            .unwrap();
    }
    let began = std::time::Instant::now();
    delivering.stop().await;
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(world.processor.webhook("b").await.unwrap().delivered, 6);
}

/// A store that counts its questions.
#[derive(Debug)]
struct Counting(Arc<dyn TaskStore>, Arc<AtomicU64>);

#[async_trait]
impl TaskStore for Counting {
    async fn open_schema(&self) -> Result<SchemaInfo> {
        self.0.open_schema().await
    }
    async fn apply(&self, writes: Vec<Write>) -> Result<Vec<Result<Done>>> {
        self.0.apply(writes).await
    }
    async fn claim(&self, req: ClaimReq) -> Result<Vec<Lease>> {
        self.0.claim(req).await
    }
    async fn due(&self, limit: u32) -> Result<DueReport> {
        self.0.due(limit).await
    }
    async fn read(&self, query: Query) -> Result<Page> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.read(query).await
    }
    async fn now(&self) -> Result<Timestamp> {
        self.0.now().await
    }
    fn wake(&self) -> BoxStream<'static, Wake> {
        self.0.wake()
    }
}

/// Whoever has nothing to do asks the store a few things a second, and no more.
#[tokio::test]
async fn waiting_costs_little() {
    let world = World::new();
    world.hook("https://receiver.test/").await;
    let asked = Arc::new(AtomicU64::new(0));
    let store = Counting(Arc::clone(world.processor.store()), Arc::clone(&asked));
    let accepted = Accepted::default();
    let waiting = deliverer(&Processor::new(store), receiver(&accepted, |_| true), "one").start();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = asked.load(Ordering::Relaxed);
    assert!((1..20).contains(&before), "{before} questions in half a second");
    world.task().await;
    while accepted.lock().unwrap().len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let after = asked.load(Ordering::Relaxed);
    assert!(after < before + 60, "{after} questions after one task");
    waiting.stop().await;
}

/// A clock that jumps ahead makes everything due; one that is set back loses nothing and locks nobody out.
#[tokio::test]
async fn clocks_may_jump() {
    let world = World::new();
    world.hook("https://receiver.test/").await;
    world.task().await;
    let accepted = Accepted::default();
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = Arc::clone(&broken);
    let sender = receiver(&accepted, move |_| !is_broken.load(Ordering::Relaxed));
    let deliverer = world.deliverer(sender);
    deliverer.catch_up().await.unwrap();
    world.clock.advance_ms(30 * 86_400_000);
    deliverer.catch_up().await.unwrap();
    assert_eq!(
        world.found().await.state,
        WebhookState::Disabled(aion_processor::Disabled::Failing)
    );
    world.clock.advance_ms(-40 * 86_400_000);
    world.processor.resume_webhook("hook").await.unwrap();
    broken.store(false, Ordering::Relaxed);
    world.task().await;
    deliverer.catch_up().await.unwrap();
    let events = log(&world.processor).await;
    let accepted = accepted.lock().unwrap().clone();
    assert_complete(&accepted, &events);
}

/// While nothing arrives at all, new events are tried seldom: a dead receiver is not hammered.
#[tokio::test]
async fn a_dead_receiver_is_not_hammered() {
    let world = World::new();
    world.hook("https://receiver.test/").await;
    let attempts = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&attempts);
    let sender = Script(move |_: &Outgoing| {
        counter.fetch_add(1, Ordering::Relaxed);
        Outcome::failed(None, "nobody is there")
    });
    let deliverer = world.deliverer(sender);
    world.task().await;
    deliverer.catch_up().await.unwrap();
    for _ in 0..200 {
        world.task().await;
    }
    for _ in 0..600 {
        deliverer.catch_up().await.unwrap();
        world.clock.advance_ms(1_000);
    }
    let attempts = attempts.load(Ordering::Relaxed);
    assert!((50..600).contains(&attempts), "{attempts} in ten minutes");
}

/// When too much waits, the cursor stands still and says so; it goes on as soon as there is room.
#[tokio::test]
async fn too_much_holds_the_cursor_back() {
    let limits = WebhookLimits::default().with_max_parked(6);
    let world = World::with(aion_processor::Limits::default().with_webhooks(limits));
    world.hook("https://receiver.test/").await;
    for _ in 0..20 {
        world.task().await;
    }
    let accepted = Accepted::default();
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = Arc::clone(&broken);
    let sender = receiver(&accepted, move |_| !is_broken.load(Ordering::Relaxed));
    let deliverer = world.deliverer(sender);
    for _ in 0..20 {
        deliverer.catch_up().await.unwrap();
        world.clock.advance_ms(120_000);
    }
    let hook = world.found().await;
    assert_eq!((hook.parked, hook.is_held_back(), hook.cursor), (6, true, 6));
    broken.store(false, Ordering::Relaxed);
    world.skip().await;
    deliverer.catch_up().await.unwrap();
    world.clock.advance_ms(120_000);
    while world.found().await.cursor < 40 || world.found().await.parked > 0 {
        if world.found().await.parked > 0 {
            world.skip().await;
        }
        deliverer.catch_up().await.unwrap();
    }
    let events = log(&world.processor).await;
    let accepted = accepted.lock().unwrap().clone();
    assert_complete(&accepted, &events);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever fails and wherever senders die, every event arrives at least once, and those of a task arrive for
    /// the first time in their order.
    #[test]
    fn everything_arrives_in_the_order_of_its_task(
        seed: u64,
        steps in prop::collection::vec((0..5_u8, 0..4_usize), 10..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(chaos(seed, steps));
    }
}

/// Tasks come and go, messages fail by a hash of the seed and a counter, senders are cut off after a few messages.
async fn chaos(seed: u64, steps: Vec<(u8, usize)>) {
    let world = World::new();
    world.hook("https://receiver.test/").await;
    let accepted = Accepted::default();
    let (calm, counter) = (Arc::new(AtomicBool::new(false)), AtomicU64::new(seed | 1));
    let is_calm = Arc::clone(&calm);
    let sender = Arc::new(receiver(&accepted, move |_| {
        let next = counter
            .load(Ordering::Relaxed)
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        counter.store(next, Ordering::Relaxed);
        is_calm.load(Ordering::Relaxed) || next >> 62 != 0
    }));
    #[derive(Debug)]
    struct Shared<S>(Arc<S>);
    #[async_trait]
    impl<S: Sender> Sender for Shared<S> {
        async fn send(&self, message: &Outgoing) -> Outcome {
            self.0.send(message).await
        }
    }
    let mut tasks = Vec::new();
    for (act, which) in steps {
        match act {
            0 => tasks.push(world.task().await),
            1 if !tasks.is_empty() => {
                let task = tasks.swap_remove(which % tasks.len());
                world.processor.cancel(task, CancelMode::Ask).await.unwrap();
            }
            2 => world.clock.advance_ms(which as i64 * 20_000),
            3 => {
                // Dies after so many turns, wherever it is then.
                let dying = world.deliverer(Shared(Arc::clone(&sender)));
                let turns = async {
                    for _ in 0..=which * 3 {
                        tokio::task::yield_now().await;
                    }
                };
                tokio::select! {
                    biased;
                    _ = turns => {}
                    _ = dying.catch_up() => {}
                }
            }
            _ => drop(
                world
                    .deliverer(Shared(Arc::clone(&sender)))
                    .catch_up()
                    .await
                    .unwrap(),
            ),
        }
    }
    calm.store(true, Ordering::Relaxed);
    let last = world.deliverer(Shared(Arc::clone(&sender)));
    for _ in 0..100 {
        world.clock.advance_ms(86_400_000 / 4);
        world.processor.resume_webhook("hook").await.unwrap();
        last.catch_up().await.unwrap();
    }
    let events = log(&world.processor).await;
    assert_complete(&accepted.lock().unwrap(), &events);
    assert_eq!(world.found().await.parked, 0);
}
