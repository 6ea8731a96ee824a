//! Predictors that nobody waits for: the log goes on, late answers are refused, budgets hold.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aion_market::observer::FailureKind;
use aion_market::predict::llm::{ChatAnswer, ChatError, ChatModel, ChatPrompt, LlmBudget, LlmOptions};
use aion_market::{
    BaseRate, LlmPredictor, Market, MarketStatus, Observer, ObserverOptions, Opinion, Pace, PredictError,
    Predictor, TaskView, market_of_task,
};
use aion_types::{EventKind, ForecasterId, Json, ManualClock, PpmDist, Prob, Timestamp};
use async_trait::async_trait;
use tokio::sync::Semaphore;

use crate::observer::{Log, id, market, task_id};

/// Says 0.9 when it is let, and counts who asked.
#[derive(Debug)]
struct Slow {
    id: ForecasterId,
    lets: Semaphore,
    shown: std::sync::Mutex<Vec<usize>>,
}

impl Slow {
    fn named(name: &str) -> Arc<Self> {
        Arc::new(Self {
            id: id(name),
            lets: Semaphore::new(0),
            shown: std::sync::Mutex::default(),
        })
    }

    fn shown(&self) -> Vec<usize> {
        self.shown.lock().unwrap().clone()
    }
}

#[async_trait]
impl Predictor for Slow {
    fn id(&self) -> &ForecasterId {
        &self.id
    }

    fn pace(&self) -> Pace {
        Pace::Aside
    }

    async fn predict(&self, view: &TaskView<'_>, _: &PpmDist) -> Result<Option<Opinion>, PredictError> {
        self.shown.lock().unwrap().push(view.messages.len());
        self.lets.acquire().await?.forget();
        Ok(Some(Opinion::new(Prob::new(0.9)?)))
    }
}

fn observer(market: &Market, log: &Arc<Log>, predictors: Vec<Arc<dyn Predictor>>) -> Observer {
    let options = ObserverOptions::default()
        .with_debounce(NonZeroU32::new(2).unwrap())
        .with_patience(Duration::from_secs(30));
    Observer::new(market.clone(), log.clone(), predictors, options)
}

/// Waits until so many were asked: what is asked aside begins when the runtime comes to it.
async fn until_asked(slow: &Slow, times: usize) {
    while slow.shown().len() < times {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_log_goes_on_while_one_thinks() {
    let (market, log) = (market(), Arc::new(Log::default()));
    let slow = Slow::named("slow");
    let base = Arc::new(BaseRate::new(market.clone()).unwrap());
    let observer = observer(&market, &log, vec![slow.clone(), base]);
    log.create(1, "copy");
    log.create(2, "copy");
    log.event(2, EventKind::Completed, Json::Null);
    let seen = observer.catch_up().await.unwrap();
    assert_eq!((seen.events, seen.forecasts, seen.resolved.len()), (3, 2, 1));
    until_asked(&slow, 1).await;
    slow.lets.add_permits(1);
    observer.settled().await;
    let view = market.of_task(task_id(1)).await.unwrap().unwrap();
    assert_eq!((view.forecasts, observer.health()[&id("slow")].spoke), (2, 1));
    assert!(view.price.parts()[0] > 500_000, "{view:?}");
}

#[tokio::test]
async fn an_answer_after_the_end_is_late_and_changes_nothing() {
    let (market, log) = (market(), Arc::new(Log::default()));
    let slow = Slow::named("slow");
    let observer = observer(&market, &log, vec![slow.clone()]);
    log.create(1, "copy");
    observer.catch_up().await.unwrap();
    until_asked(&slow, 1).await;
    log.event(1, EventKind::Completed, Json::Null);
    let report = observer.catch_up().await.unwrap().resolved.remove(0);
    slow.lets.add_permits(1);
    observer.settled().await;
    let health = &observer.health()[&id("slow")];
    assert_eq!((health.asked, health.spoke, health.failed), (1, 0, 1));
    assert_eq!(health.last_failure.as_ref().unwrap().kind, FailureKind::Late);
    assert_eq!(market.report(market_of_task(task_id(1))).await.unwrap(), report);
    assert!(report.forecaster(&id("slow")).is_none());
}

#[tokio::test]
async fn of_several_questions_about_a_task_the_last_is_asked() {
    let (market, log) = (market(), Arc::new(Log::default()));
    let slow = Slow::named("slow");
    let observer = observer(&market, &log, vec![slow.clone()]);
    log.create(1, "copy");
    for _ in 0..6 {
        log.say(1, 2.0);
    }
    // Creation, and the messages 2, 4 and 6: all of them come before the first answer.
    observer.catch_up().await.unwrap();
    slow.lets.add_permits(9);
    observer.settled().await;
    assert_eq!(slow.shown(), [6]);
    // What was asked and answered is asked anew at a later message, under another key.
    log.say(1, 2.0);
    log.say(1, 2.0);
    observer.catch_up().await.unwrap();
    observer.settled().await;
    assert_eq!(slow.shown(), [6, 8]);
    assert_eq!(market.of_task(task_id(1)).await.unwrap().unwrap().forecasts, 2);
}

#[tokio::test]
async fn a_short_queue_refuses_what_it_cannot_hold() {
    let (market, log) = (market(), Arc::new(Log::default()));
    let slow = Slow::named("slow");
    let observer = observer(&market, &log, vec![slow.clone()]);
    for n in 1..=80 {
        log.create(n, "copy");
    }
    observer.catch_up().await.unwrap();
    until_asked(&slow, 4).await;
    slow.lets.add_permits(80);
    observer.settled().await;
    let health = &observer.health()[&id("slow")];
    let crowded = health.failed;
    assert!((1..=16).contains(&crowded), "{health:?}");
    assert_eq!((health.spoke, health.asked), (80 - crowded, 80 - crowded));
    assert_eq!(health.last_failure.as_ref().unwrap().kind, FailureKind::Crowded);
}

/// Fails the test's budget if it is asked too often.
#[derive(Debug, Default)]
struct Counted(AtomicUsize);

#[async_trait]
impl ChatModel for Counted {
    async fn complete(&self, _: &ChatPrompt) -> Result<ChatAnswer, ChatError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(ChatAnswer::new(r#"{"probabilities": [0.8, 0.2]}"#).with_tokens(10))
    }
}

#[tokio::test]
async fn a_language_model_keeps_its_budget_aside() {
    let (market, log) = (market(), Arc::new(Log::default()));
    let model = Arc::new(Counted::default());
    let budget = LlmBudget::default().with_calls_per_day(3);
    let clock = Arc::new(ManualClock::at(Timestamp::from_ms(0)));
    let options = LlmOptions::default().with_budget(budget);
    let llm = Arc::new(LlmPredictor::new(model.clone(), clock, options).unwrap());
    let observer = observer(&market, &log, vec![llm.clone()]);
    for n in 1..=5 {
        log.create(n, "copy");
        observer.catch_up().await.unwrap();
        observer.settled().await;
    }
    assert_eq!(model.0.load(Ordering::Relaxed), 3);
    assert_eq!((llm.usage().calls, llm.usage().withheld), (3, 2));
    let health = &observer.health()[&id("llm")];
    assert_eq!(
        (health.asked, health.spoke, health.silent, health.failed),
        (5, 3, 2, 0)
    );
    // A task whose end was seen before its turn came costs nothing.
    log.create(6, "copy");
    log.event(6, EventKind::Failed, Json::Null);
    observer.catch_up().await.unwrap();
    observer.settled().await;
    assert_eq!(model.0.load(Ordering::Relaxed), 3);
    let ended = market.of_task(task_id(6)).await.unwrap().unwrap();
    assert_eq!(ended.status, MarketStatus::Resolved);
    assert_eq!(observer.health()[&id("llm")].asked, 5);
}
