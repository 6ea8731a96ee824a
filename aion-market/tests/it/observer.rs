//! The observer over a scripted log: what opens, who bets, what resolves, and that nothing happens twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aion_market::{
    BaseRate, FeedError, Market, MarketOptions, MarketStatus, MemoryMarketStore, Observer, ObserverOptions,
    Opinion, PersistencePredictor, PredictError, Predictor, Random, Resolution, SqliteMarketStore, TaskFeed,
    TaskView, market_of_task,
};
use aion_types::{
    EventKind, EventRecord, ForecasterId, Format, Json, ManualClock, MessageRecord, PpmDist, Role, TaskId,
    TaskRecord, Timestamp,
};
use async_trait::async_trait;

/// A log in memory, written by the test and only read by the observer.
#[derive(Debug, Default)]
pub(crate) struct Log(Mutex<Written>);

#[derive(Debug, Default)]
struct Written {
    events: Vec<EventRecord>,
    tasks: BTreeMap<TaskId, TaskRecord>,
    messages: BTreeMap<TaskId, Vec<MessageRecord>>,
    /// After how many reads of events the next one fails.
    fail_after: Option<usize>,
}

pub(crate) fn task_id(n: u8) -> TaskId {
    TaskId::from_parts(Timestamp::from_ms(i64::from(n)), [n; 10])
}

impl Log {
    pub(crate) fn event(&self, n: u8, kind: EventKind, body: Json) {
        let mut log = self.0.lock().unwrap();
        let seq = log.events.len() as u64 + 1;
        let at = Timestamp::from_ms(seq as i64);
        let (task_id, root_id, format) = (task_id(n), task_id(n), Format::default());
        log.events.push(EventRecord {
            format,
            seq,
            task_id,
            root_id,
            kind,
            body,
            at,
        });
    }

    pub(crate) fn create(&self, n: u8, kind: &str) {
        let id = task_id(n).to_string();
        let record = format!(
            r#"{{"id":"{id}","root_id":"{id}","depth":0,"kind":"{kind}","queue":"q","title":"t","spec":"s",
            "status":"READY","priority":0,"lease_epoch":0,"attempt":1,"max_attempts":3,"crash_count":0,
            "open_children":0,"waiting_on":0,"version":1,"created_at":0,"updated_at":0}}"#
        );
        let task: TaskRecord = serde_json::from_str(&record).unwrap();
        self.0.lock().unwrap().tasks.insert(task.id, task);
        self.event(n, EventKind::Created, Json::Null);
    }

    pub(crate) fn say(&self, n: u8, ratio: f64) {
        let mut log = self.0.lock().unwrap();
        let messages = log.messages.entry(task_id(n)).or_default();
        let seq = messages.len() as u64 + 1;
        messages.push(MessageRecord {
            format: Format::default(),
            task_id: task_id(n),
            seq,
            role: Role::Assistant,
            content: "hm".to_owned(),
            tool_calls: Vec::new(),
            tool_call_id: None,
            persistence: Some(Json::object([
                ("n", Json::Int(10)),
                ("R_harm", Json::Float(ratio)),
            ])),
            created_at: Timestamp::from_ms(0),
        });
        drop(log);
        self.event(
            n,
            EventKind::Message,
            Json::object([("seq", Json::Int(seq as i64))]),
        );
    }
}

impl Log {
    /// Everything that happened, as a webhook would tell it.
    pub(crate) fn told(&self) -> Vec<EventRecord> {
        self.0.lock().unwrap().events.clone()
    }

    /// Only the first events: what the feed shows while the rest is on its way.
    pub(crate) fn until(&self, seq: usize) -> Self {
        let log = self.0.lock().unwrap();
        Self(Mutex::new(Written {
            events: log.events[..seq].to_vec(),
            tasks: log.tasks.clone(),
            messages: log.messages.clone(),
            fail_after: None,
        }))
    }
}

#[async_trait]
impl TaskFeed for Log {
    async fn events(&self, after: u64, limit: usize) -> Result<Vec<EventRecord>, FeedError> {
        let mut log = self.0.lock().unwrap();
        match &mut log.fail_after {
            Some(0) => return Err("the log is away".into()),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(log
            .events
            .iter()
            .filter(|event| event.seq > after)
            .take(limit)
            .cloned()
            .collect())
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>, FeedError> {
        Ok(self.0.lock().unwrap().tasks.get(&id).cloned())
    }

    async fn messages(&self, id: TaskId, after: u64, limit: usize) -> Result<Vec<MessageRecord>, FeedError> {
        let log = self.0.lock().unwrap();
        let messages = log.messages.get(&id).map_or(&[][..], Vec::as_slice);
        Ok(messages
            .iter()
            .filter(|message| message.seq > after)
            .take(limit)
            .cloned()
            .collect())
    }
}

#[derive(Debug)]
struct Broken(ForecasterId);

#[async_trait]
impl Predictor for Broken {
    fn id(&self) -> &ForecasterId {
        &self.0
    }

    async fn predict(&self, _: &TaskView<'_>, _: &PpmDist) -> Result<Option<Opinion>, PredictError> {
        Err("no idea".into())
    }
}

fn predictors(market: &Market) -> Vec<Arc<dyn Predictor>> {
    vec![
        Arc::new(Broken(ForecasterId::new("broken").unwrap())),
        Arc::new(BaseRate::new(market.clone()).unwrap()),
        Arc::new(Random::new(7).unwrap()),
        Arc::new(PersistencePredictor::new(market.clone()).unwrap()),
    ]
}

fn observer(market: &Market, log: &Arc<Log>) -> Observer {
    let feed: Arc<dyn TaskFeed> = log.clone();
    Observer::new(
        market.clone(),
        feed,
        predictors(market),
        ObserverOptions::default().with_page(3),
    )
}

pub(crate) fn market() -> Market {
    let clock = ManualClock::at(Timestamp::from_ms(1));
    Market::new(
        Arc::new(MemoryMarketStore::new()),
        Arc::new(clock),
        MarketOptions::default(),
    )
}

pub(crate) fn id(name: &str) -> ForecasterId {
    ForecasterId::new(name).unwrap()
}

#[tokio::test]
async fn a_task_is_bet_on_and_resolved_once() {
    let (market, log) = (market(), Arc::new(Log::default()));
    log.create(1, "copy");
    log.event(
        1,
        EventKind::Claimed,
        Json::object([("handler_id", Json::from("worker-1"))]),
    );
    log.say(1, 3.0);
    let observer = observer(&market, &log);
    let seen = observer.catch_up().await.unwrap();
    assert_eq!((seen.events, seen.opened.len(), seen.forecasts), (3, 1, 3));
    let view = market.of_task(task_id(1)).await.unwrap().unwrap();
    assert_eq!(view.executor, Some(id("worker-1")));
    assert_eq!(view.forecasts, 3);
    log.event(1, EventKind::Completed, Json::Null);
    let seen = observer.catch_up().await.unwrap();
    assert_eq!((seen.events, seen.resolved.len(), seen.cursor), (1, 1, 4));
    let report = &seen.resolved[0];
    assert_eq!(report.resolution, Resolution::outcome(0));
    // R = 3 stands for 0.75 until fitted.
    assert_eq!(
        report.forecaster(&id("persistence")).unwrap().last.parts(),
        [750_000, 250_000]
    );
    assert!(report.forecaster(&id("broken")).is_none());
    assert_eq!(observer.catch_up().await.unwrap().events, 0);
    assert_eq!(market.events(view.id).await.unwrap().len() as u64, report.events);
}

#[tokio::test]
async fn failures_resolve_against_success_and_cancellations_void() {
    let (market, log) = (market(), Arc::new(Log::default()));
    for (n, end) in [(1, EventKind::Failed), (2, EventKind::Cancelled)] {
        log.create(n, "copy");
        log.event(n, end, Json::Null);
    }
    log.event(9, EventKind::Completed, Json::Null);
    let seen = observer(&market, &log).catch_up().await.unwrap();
    assert_eq!(seen.resolved.len(), 2);
    let status = async |n| market.get(market_of_task(task_id(n))).await.unwrap();
    assert_eq!(status(1).await.resolution, Some(Resolution::outcome(1)));
    assert_eq!(status(2).await.status, MarketStatus::Void);
    assert!(market.of_task(task_id(9)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_failing_feed_loses_nothing_and_repeats_nothing() {
    let (market, log) = (market(), Arc::new(Log::default()));
    for n in 1..=5 {
        log.create(n, "copy");
        log.say(n, 2.0);
        log.event(n, EventKind::Completed, Json::Null);
    }
    let observer = observer(&market, &log);
    let mut failures = 0;
    for _ in 0..5 {
        log.0.lock().unwrap().fail_after = Some(1);
        let before = market.store().cursor("tasks").await.unwrap();
        let result = observer.catch_up().await;
        let after = market.store().cursor("tasks").await.unwrap();
        assert_eq!(after, before + 3, "the page before the failure is kept");
        failures += usize::from(result.is_err());
    }
    assert_eq!(failures, 5);
    log.0.lock().unwrap().fail_after = None;
    observer.catch_up().await.unwrap();
    for n in 1..=5 {
        let view = market.get(market_of_task(task_id(n))).await.unwrap();
        assert_eq!((view.status, view.forecasts), (MarketStatus::Resolved, 3));
    }
    assert_eq!(
        market.history("copy", 2).await.unwrap().counts_micro,
        [5_000_000, 0]
    );
}

#[tokio::test]
async fn two_observers_of_one_store_do_the_work_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(
        SqliteMarketStore::open(dir.path().join("market.db"))
            .await
            .unwrap(),
    );
    let clock = Arc::new(ManualClock::at(Timestamp::from_ms(1)));
    let log = Arc::new(Log::default());
    for n in 1..=8 {
        log.create(n, "copy");
        log.say(n, 2.0);
        log.event(n, EventKind::Completed, Json::Null);
    }
    let mut running = Vec::new();
    for _ in 0..2 {
        let market = Market::new(store.clone(), clock.clone(), MarketOptions::default());
        let observer = observer(&market, &log);
        running.push(tokio::spawn(async move { observer.catch_up().await }));
    }
    let mut resolved = 0;
    for run in running {
        resolved += run.await.unwrap().unwrap().resolved.len();
    }
    assert_eq!(resolved, 8);
    let market = Market::new(store, clock, MarketOptions::default());
    for n in 1..=8 {
        let view = market.get(market_of_task(task_id(n))).await.unwrap();
        assert_eq!((view.status, view.forecasts), (MarketStatus::Resolved, 3));
    }
}

#[tokio::test]
async fn a_second_run_is_priced_better_than_chance() {
    let (market, log) = (market(), Arc::new(Log::default()));
    let kinds = [
        ("summary", true),
        ("rename", true),
        ("extract", false),
        ("impossible", false),
    ];
    let run = async |first: u8| {
        let observer = observer(&market, &log);
        let mut before = Vec::new();
        for (n, (kind, works)) in (first..).zip(kinds) {
            log.create(n, kind);
            observer.catch_up().await.unwrap();
            let price = market.of_task(task_id(n)).await.unwrap().unwrap().first;
            before.push((price.parts()[0], works));
            log.say(n, if works { 4.0 } else { 2.0 });
            log.event(
                n,
                if works {
                    EventKind::Completed
                } else {
                    EventKind::Failed
                },
                Json::Null,
            );
            observer.catch_up().await.unwrap();
        }
        before
    };
    assert!(run(1).await.iter().all(|(p, _)| *p == 500_000));
    for (p, works) in run(11).await {
        assert_eq!(p, if works { 666_667 } else { 333_333 });
    }
    let predictor = PersistencePredictor::new(market.clone()).unwrap();
    let fit = predictor.refit().await.unwrap();
    assert_eq!(fit.n, 8);
    assert!(fit.bits_after < fit.bits_before, "{fit:?}");
    let (high, low) = (
        fit.calibration.prob(4.0).unwrap(),
        fit.calibration.prob(2.0).unwrap(),
    );
    assert!(low < high && low.get() < 0.6, "{low:?} {high:?}");
}
