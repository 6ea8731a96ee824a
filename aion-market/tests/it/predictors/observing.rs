//! The observer with predictors that fail, hang or say nonsense; told of events late, twice and in any
//! order; and what survives a restart.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use aion_market::observer::FailureKind;
use aion_market::predict::logistic::{LogisticPredictor, LogisticPredictorOptions};
use aion_market::{
    BaseRate, BetaHistory, Cadence, Ensemble, Market, Observer, ObserverOptions, Opinion,
    PersistencePredictor, PredictError, Predictor, TaskFeed, TaskHistory, TaskView, market_of_task,
};
use aion_types::{EventKind, ForecasterId, Json, PpmDist, Prob};
use async_trait::async_trait;
use proptest::prelude::*;

use crate::observer::{Log, id, market, task_id};

/// What a predictor does when it is asked.
#[derive(Debug, Clone, Copy)]
enum Mood {
    Says(f64),
    Fails,
    Hangs,
    WeighsNan,
    SignalsNan,
    WeighsMuch,
}

#[derive(Debug)]
struct Moody(ForecasterId, Mood);

#[async_trait]
impl Predictor for Moody {
    fn id(&self) -> &ForecasterId {
        &self.0
    }

    async fn predict(&self, _: &TaskView<'_>, _: &PpmDist) -> Result<Option<Opinion>, PredictError> {
        let half = Opinion::new(Prob::new(0.5)?);
        match self.1 {
            Mood::Says(p) => Ok(Some(Opinion::new(Prob::new(p)?))),
            Mood::Fails => Err("no idea".into()),
            Mood::Hangs => std::future::pending().await,
            Mood::WeighsNan => Ok(Some(half.with_weight(f64::NAN))),
            Mood::SignalsNan => Ok(Some(half.with_ln_ratio(f64::NAN))),
            Mood::WeighsMuch => Ok(Some(half.with_weight(1e9))),
        }
    }
}

fn moody(name: &str, mood: Mood) -> Arc<dyn Predictor> {
    Arc::new(Moody(id(name), mood))
}

fn observer(market: &Market, log: &Arc<Log>, predictors: Vec<Arc<dyn Predictor>>) -> Observer {
    let feed: Arc<dyn TaskFeed> = log.clone();
    let options = ObserverOptions::default()
        .with_page(3)
        .with_debounce(NonZeroU32::new(2).unwrap())
        .with_patience(Duration::from_secs(5));
    Observer::new(market.clone(), feed, predictors, options)
}

/// One that waits less than the others.
fn hasty(market: &Market, log: &Arc<Log>, predictors: Vec<Arc<dyn Predictor>>) -> Observer {
    let options = ObserverOptions::default().with_patience(Duration::from_millis(50));
    Observer::new(market.clone(), log.clone(), predictors, options)
}

#[tokio::test]
async fn one_bad_predictor_does_not_stop_the_others() {
    let (market, log) = (market(), Arc::new(Log::default()));
    log.create(1, "copy");
    let predictors = vec![
        moody("fails", Mood::Fails),
        moody("hangs", Mood::Hangs),
        moody("nan", Mood::Says(f64::NAN)),
        moody("weighs_nan", Mood::WeighsNan),
        moody("signals_nan", Mood::SignalsNan),
        moody("weighs_much", Mood::WeighsMuch),
        moody("sound", Mood::Says(0.8)),
    ];
    let observer = hasty(&market, &log, predictors);
    let seen = observer.catch_up().await.unwrap();
    assert_eq!(seen.forecasts, 1);
    let health = observer.health();
    assert_eq!((health[&id("sound")].spoke, health[&id("sound")].failed), (1, 0));
    for (name, kind, reason) in [
        ("fails", FailureKind::Error, "no idea"),
        ("hangs", FailureKind::Timeout, "no answer within 50 ms"),
        ("nan", FailureKind::Error, "NaN"),
        ("weighs_nan", FailureKind::Invalid, "weight"),
        ("signals_nan", FailureKind::Invalid, "ln R"),
        ("weighs_much", FailureKind::Invalid, "weight"),
    ] {
        let health = &health[&id(name)];
        let failure = health.last_failure.as_ref().unwrap();
        assert_eq!((health.asked, health.spoke, health.failed), (1, 0, 1), "{name}");
        assert_eq!((failure.kind, failure.task), (kind, task_id(1)), "{name}");
        assert!(failure.reason.contains(reason), "{name}: {}", failure.reason);
    }
}

/// Six tasks, some with more messages, one cancelled.
fn busy_log() -> Arc<Log> {
    let log = Arc::new(Log::default());
    for n in 1..=6 {
        log.create(n, "copy");
        log.event(n, EventKind::Claimed, Json::object([("attempt", Json::Int(1))]));
        for step in 0..n {
            log.say(n, 1.0 + f64::from(step));
        }
        let end = match n {
            2 => EventKind::Failed,
            5 => EventKind::Cancelled,
            _ => EventKind::Completed,
        };
        log.event(n, end, Json::Null);
    }
    log
}

fn everybody(market: &Market) -> Vec<Arc<dyn Predictor>> {
    let history = TaskHistory::new();
    let options = LogisticPredictorOptions::new().unwrap().with_min_tasks(2);
    let components = ["base_rate", "beta_history", "logistic", "persistence"].map(id);
    vec![
        Arc::new(BaseRate::new(market.clone()).unwrap()),
        Arc::new(BetaHistory::new(history.clone()).unwrap()),
        Arc::new(LogisticPredictor::new(history, options)),
        Arc::new(PersistencePredictor::new(market.clone()).unwrap()),
        Arc::new(Ensemble::new(components).unwrap()),
    ]
}

/// Everything that a market came to, but for when it was written.
async fn story(market: &Market) -> Vec<String> {
    let mut story = Vec::new();
    for n in 1..=6 {
        let events = market.events(market_of_task(task_id(n))).await.unwrap();
        story.extend(events.iter().map(|stored| format!("{n} {:?}", stored.event)));
    }
    story
}

async fn told_in_order(log: &Arc<Log>) -> Vec<String> {
    let market = market();
    let observer = observer(&market, log, everybody(&market));
    observer.catch_up().await.unwrap();
    let health = observer.health();
    assert!(health.values().all(|health| health.failed == 0), "{health:?}");
    story(&market).await
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// P17, reordering: events told late, twice and in any order give the markets that the log gives.
    #[test]
    fn markets_do_not_depend_on_how_events_arrive(order in proptest::collection::vec(any::<prop::sample::Index>(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let log = busy_log();
            let told = log.told();
            let market = market();
            let observer = observer(&market, &log, everybody(&market));
            for index in order {
                // As a webhook's receiver does.
                if index.get(&told).seq > observer.reached().await.unwrap() {
                    observer.catch_up().await.unwrap();
                }
            }
            observer.catch_up().await.unwrap();
            assert_eq!(story(&market).await, told_in_order(&log).await);
        });
    }
}

#[tokio::test]
async fn what_was_reached_outlives_the_observer() {
    let log = busy_log();
    let half = Arc::new(log.until(4));
    let market = market();
    let first = observer(&market, &half, everybody(&market));
    assert_eq!(first.reached().await.unwrap(), 0);
    assert_eq!(first.catch_up().await.unwrap().cursor, 4);
    drop(first);
    let second = observer(&market, &log, everybody(&market));
    assert_eq!(second.reached().await.unwrap(), 4);
    let all = log.told().len() as u64;
    assert_eq!(second.catch_up().await.unwrap().events, all - 4);
    assert_eq!(second.reached().await.unwrap(), all);
}

/// A predictor that keeps what it was shown.
#[derive(Debug)]
struct Witness(ForecasterId, Cadence, std::sync::Mutex<Vec<(u32, String, usize)>>);

#[async_trait]
impl Predictor for Witness {
    fn id(&self) -> &ForecasterId {
        &self.0
    }

    fn cadence(&self) -> Cadence {
        self.1
    }

    async fn predict(&self, view: &TaskView<'_>, _: &PpmDist) -> Result<Option<Opinion>, PredictError> {
        assert!(view.task.result.is_none() && view.task.error.is_none() && !view.task.status.is_terminal());
        let seen = (
            view.task.attempt,
            view.task.status.as_str().to_owned(),
            view.messages.len(),
        );
        self.2.lock().unwrap().push(seen);
        Ok(None)
    }
}

#[tokio::test]
async fn predictors_are_asked_by_cadence_and_see_no_future() {
    let log = busy_log();
    let every = NonZeroU32::new(3).unwrap();
    for (cadence, messages) in [
        (Cadence::OnCreation, vec![0]),
        (Cadence::Debounced, vec![0, 2, 4, 6]),
        (Cadence::EveryMessages(every), vec![0, 3, 6]),
        (Cadence::OnPersistence, vec![0, 1, 2, 3, 4, 5, 6]),
    ] {
        let market = market();
        let witness = Arc::new(Witness(id("witness"), cadence, std::sync::Mutex::default()));
        let observer = observer(&market, &log, vec![witness.clone()]);
        observer.catch_up().await.unwrap();
        let seen = witness.2.lock().unwrap();
        // The last task is the one of six messages.
        let at = seen.len() - messages.len();
        assert_eq!(seen[at..].iter().map(|seen| seen.2).collect::<Vec<_>>(), messages);
        for (attempt, status, messages) in seen.iter() {
            let expected = if *messages == 0 {
                (0, "READY")
            } else {
                (1, "RUNNING")
            };
            assert_eq!((*attempt, status.as_str()), expected);
        }
    }
}

#[tokio::test]
async fn an_ensemble_mixes_what_the_others_said_and_learns_whom_to_trust() {
    let (market, log) = (market(), Arc::new(Log::default()));
    let ensemble = Arc::new(Ensemble::new([id("good"), id("bad")]).unwrap());
    let predictors = vec![
        ensemble.clone() as Arc<dyn Predictor>,
        moody("good", Mood::Says(0.9)),
        moody("bad", Mood::Says(0.3)),
    ];
    let observer = observer(&market, &log, predictors);
    for n in 1..=2 {
        log.create(n, "copy");
        log.event(n, EventKind::Completed, Json::Null);
    }
    let seen = observer.catch_up().await.unwrap();
    let mixed = |report: &aion_market::Report| report.forecaster(&id("ensemble")).unwrap().last.parts()[0];
    // (0.9 + 0.3) / 2, then with weights 3/4 and 1/4.
    assert_eq!(mixed(&seen.resolved[0]), 600_000);
    assert_eq!(mixed(&seen.resolved[1]), 750_000);
    assert_eq!(seen.resolved[0].forecaster(&id("ensemble")).unwrap().informed, 1);
    assert_eq!(seen.resolved[0].forecaster(&id("good")).unwrap().informed, 0);
    let trusted = ensemble.weights();
    assert!((trusted[1].1 - 0.9).abs() < 1e-9, "{trusted:?}");
}

#[tokio::test]
async fn a_restart_forgets_nothing() {
    let log = busy_log();
    let market = market();
    let before = everybody(&market);
    observer(&market, &log, before.clone()).catch_up().await.unwrap();
    // Another process over the same store.
    let after = everybody(&market);
    let again = observer(&market, &log, after.clone());
    assert_eq!(again.restore(100).await.unwrap(), 5);
    assert_eq!(again.catch_up().await.unwrap().events, 0);
    // Told twice, nothing changes.
    assert_eq!(again.restore(100).await.unwrap(), 5);
    log.create(7, "copy");
    let mut said = Vec::new();
    for predictors in [&before, &after] {
        let task = log.task(task_id(7)).await.unwrap().unwrap();
        let view = TaskView::new(&task, &[], task.created_at);
        let price = PpmDist::binary(Prob::new(0.5).unwrap());
        let mut all = Vec::new();
        for predictor in predictors {
            all.push(predictor.predict(&view, &price).await.unwrap());
        }
        said.push(all);
    }
    assert_eq!(said[0], said[1]);
    assert!(said[0][1].is_some() && said[0][2].is_some());
    assert_eq!(again.restore(2).await.unwrap(), 2);
}
