//! Whole runs of agents through feed, observer and market: trials of the same tasks, the last one scored.
//!
//! The recorded runs are tau-bench's airline tasks, read from the folder that `AION_DATA` names; without
//! it only the synthetic runs are replayed. A fourth trial may stand in a file of its own,
//! `tau-bench/airline-held-out.jsonl`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aion_market::evaluate::{losses_bits, paired_bootstrap};
use aion_market::features::Share;
use aion_market::predict::AtShare;
use aion_market::predict::logistic::{LogisticPredictor, LogisticPredictorOptions};
use aion_market::{
    BaseRate, BetaHistory, Ensemble, FeedError, Market, MarketOptions, MemoryMarketStore, Observer,
    ObserverOptions, Predictor, Report, TaskFeed, TaskHistory,
};
use aion_types::{
    EventKind, EventRecord, ForecasterId, Format, Json, ManualClock, MessageRecord, Role, TaskId, TaskRecord,
    Timestamp, ToolCall,
};
use async_trait::async_trait;
use serde::Deserialize;

use super::records::{call, message, task, task_id};
use crate::observer::id;

/// One run of one task.
struct Run {
    task: u32,
    trial: u32,
    success: bool,
    messages: Vec<MessageRecord>,
}

/// A finished log of runs, one after the other.
#[derive(Debug, Default)]
struct Recorded {
    events: Vec<EventRecord>,
    tasks: BTreeMap<TaskId, TaskRecord>,
    messages: BTreeMap<TaskId, Vec<MessageRecord>>,
}

impl Recorded {
    fn of(runs: &[Run]) -> Self {
        let mut log = Self::default();
        for (n, run) in runs.iter().enumerate() {
            let n = n as u16 + 1;
            let id = task_id(n);
            let mut record = task(n, &format!("task {}", run.task));
            record.created_at = log.now();
            log.event(id, EventKind::Created, Json::Null);
            for (at, message) in (1..).zip(&run.messages) {
                let message = MessageRecord {
                    task_id: id,
                    seq: at,
                    created_at: log.now(),
                    ..message.clone()
                };
                log.messages.entry(id).or_default().push(message);
                log.event(
                    id,
                    EventKind::Message,
                    Json::object([("seq", Json::Int(at as i64))]),
                );
            }
            record.updated_at = log.now();
            log.event(
                id,
                if run.success {
                    EventKind::Completed
                } else {
                    EventKind::Failed
                },
                Json::Null,
            );
            log.tasks.insert(id, record);
        }
        log
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.events.len() as i64 * 1_000)
    }

    fn event(&mut self, id: TaskId, kind: EventKind, body: Json) {
        self.events.push(EventRecord {
            format: Format::default(),
            seq: self.events.len() as u64 + 1,
            task_id: id,
            root_id: id,
            kind,
            body,
            at: self.now(),
        });
    }
}

#[async_trait]
impl TaskFeed for Recorded {
    async fn events(&self, after: u64, limit: usize) -> Result<Vec<EventRecord>, FeedError> {
        let rest = &self.events[(after as usize).min(self.events.len())..];
        Ok(rest.iter().take(limit).cloned().collect())
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>, FeedError> {
        Ok(self.tasks.get(&id).cloned())
    }

    async fn messages(&self, id: TaskId, after: u64, limit: usize) -> Result<Vec<MessageRecord>, FeedError> {
        let all = self.messages.get(&id).map_or(&[][..], Vec::as_slice);
        let rest = &all[(after as usize).min(all.len())..];
        Ok(rest.iter().take(limit).cloned().collect())
    }
}

fn predictors(
    market: &Market,
    lengths: &Arc<BTreeMap<TaskId, usize>>,
    percents: &[u32],
) -> Vec<Arc<dyn Predictor>> {
    let history = TaskHistory::new();
    let beta = |strength: f64, name: &str| {
        let beta = BetaHistory::new(history.clone()).unwrap();
        Arc::new(beta.with_strength(strength).unwrap().with_id(id(name))) as Arc<dyn Predictor>
    };
    let mut all: Vec<Arc<dyn Predictor>> = vec![
        Arc::new(BaseRate::new(market.clone()).unwrap()),
        beta(2.0, "beta_2"),
        beta(0.5, "beta_half"),
    ];
    for percent in percents {
        let share = Share::new(f64::from(*percent) / 100.0).unwrap();
        let options = LogisticPredictorOptions::new().unwrap();
        let options = options.with_views(vec![share]).unwrap();
        let options = options.with_id(id(&format!("logistic_{percent}")));
        let logistic = Arc::new(LogisticPredictor::new(history.clone(), options));
        all.push(Arc::new(AtShare::new(logistic, share, lengths.clone())));
    }
    let components: Vec<ForecasterId> = all.iter().map(|predictor| predictor.id().clone()).collect();
    all.push(Arc::new(Ensemble::new(components).unwrap()));
    all
}

/// The reports of the last trial, in the order of time; all runs before it are history.
async fn replay(runs: &[Run], percents: &[u32]) -> Vec<Report> {
    let log = Recorded::of(runs);
    let lengths = log.messages.iter().map(|(id, all)| (*id, all.len())).collect();
    let clock = ManualClock::at(Timestamp::from_ms(1));
    let market = Market::new(
        Arc::new(MemoryMarketStore::new()),
        Arc::new(clock),
        MarketOptions::default(),
    );
    let predictors = predictors(&market, &Arc::new(lengths), percents);
    let observer = Observer::new(market, Arc::new(log), predictors, ObserverOptions::default());
    let seen = observer.catch_up().await.unwrap();
    let health = observer.health();
    assert!(health.values().all(|health| health.failed == 0), "{health:?}");
    assert_eq!(seen.resolved.len(), runs.len());
    let last = runs.last().unwrap().trial;
    let scored = seen.resolved.into_iter().zip(runs);
    scored
        .filter(|(_, run)| run.trial == last)
        .map(|(report, _)| report)
        .collect()
}

fn losses(reports: &[Report], name: &str) -> Vec<f64> {
    let all = losses_bits(&id(name), reports);
    all.into_iter().map(|loss| loss.expect(name)).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// What the definitions give when everything but the last trial is history: base rate, Beta with 2 and 1/2.
fn by_hand(runs: &[Run]) -> [f64; 3] {
    let last = runs.last().unwrap().trial;
    let before: Vec<&Run> = runs.iter().filter(|run| run.trial != last).collect();
    let count = |of: &[&Run]| of.iter().filter(|run| run.success).count() as f64;
    let base = (count(&before) + 1.0) / (before.len() as f64 + 2.0);
    let beta = |run: &Run, k: f64| {
        let same: Vec<&Run> = before
            .iter()
            .filter(|other| other.task == run.task)
            .copied()
            .collect();
        (count(&same) + k * base) / (same.len() as f64 + k)
    };
    let bits = |p: f64, run: &Run| -(if run.success { p } else { 1.0 - p }).log2();
    let tested: Vec<&Run> = runs.iter().filter(|run| run.trial == last).collect();
    let over =
        |p: &dyn Fn(&Run) -> f64| mean(&tested.iter().map(|run| bits(p(run), run)).collect::<Vec<f64>>());
    [
        over(&|_| base),
        over(&|run| beta(run, 2.0)),
        over(&|run| beta(run, 0.5)),
    ]
}

/// The baselines are those of their definitions, though every forecast here knows the runs before it.
fn assert_baselines(reports: &[Report], runs: &[Run]) {
    for (name, expected) in ["base_rate", "beta_2", "beta_half"].iter().zip(by_hand(runs)) {
        let found = mean(&losses(reports, name));
        assert!((found - expected).abs() <= 0.01, "{name}: {found} {expected}");
    }
}

/// Tasks of four sorts; how a run goes shows in its errors and in its last words.
fn synthetic() -> Vec<Run> {
    let mut runs = Vec::new();
    let mut state = 7_u64;
    let mut draw = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1_u64 << 24) as f64
    };
    for trial in 0..3 {
        for task in 0..40 {
            let success = draw() < [0.95, 0.7, 0.3, 0.05][task as usize % 4];
            let mut messages = vec![message(1, Role::User, "Do it, please.")];
            for _ in 0..3 + (draw() * 4.0) as usize {
                messages.push(call(0, "look", &format!("{{\"at\":{}}}", (draw() * 9.0) as u32)));
                let fails = draw() < if success { 0.1 } else { 0.5 };
                messages.push(message(
                    0,
                    Role::Tool,
                    if fails { "Error: not there" } else { "here" },
                ));
            }
            let last = if success || draw() < 0.3 {
                "Done."
            } else {
                "Sorry, I cannot."
            };
            messages.push(message(0, Role::Assistant, last));
            runs.push(Run {
                task,
                trial,
                success,
                messages,
            });
        }
    }
    runs
}

#[tokio::test]
async fn synthetic_runs_are_predicted_better_the_more_is_seen() {
    let runs = synthetic();
    let reports = replay(&runs, &[100]).await;
    assert_baselines(&reports, &runs);
    let [base, beta, seen, mixed] =
        ["base_rate", "beta_2", "logistic_100", "ensemble"].map(|name| losses(&reports, name));
    assert!(mean(&beta) < mean(&base), "{} {}", mean(&beta), mean(&base));
    let gain = paired_bootstrap(&beta, &seen, 2_000, 1).unwrap();
    assert!(gain.lower > 0.0, "{gain:?}");
    // The bound is log2 K over all runs; these are the last third of them.
    assert!(mean(&mixed) < mean(&seen) + 6.0_f64.log2() / mixed.len() as f64 + 0.05);
}

#[derive(Deserialize)]
struct Line {
    task_id: u32,
    trial: u32,
    reward: f64,
    messages: Vec<Said>,
}

#[derive(Deserialize)]
struct Said {
    role: Role,
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<Called>>,
}

#[derive(Deserialize)]
struct Called {
    id: String,
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    arguments: String,
}

fn read(path: &Path, runs: &mut Vec<Run>) {
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let line: Line = serde_json::from_str(line).unwrap();
        let calls = |said: &Said| {
            let of = |called: &Called| ToolCall {
                id: called.id.clone(),
                name: called.function.name.clone(),
                arguments: called.function.arguments.clone(),
            };
            said.tool_calls.iter().flatten().map(of).collect()
        };
        let said = line.messages.iter().map(|said| MessageRecord {
            tool_calls: calls(said),
            ..message(0, said.role, said.content.as_deref().unwrap_or_default())
        });
        runs.push(Run {
            task: line.task_id,
            trial: line.trial,
            success: line.reward >= 0.5,
            messages: said.collect(),
        });
    }
}

#[tokio::test]
async fn recorded_runs_give_the_baselines() {
    let Some(data) = std::env::var_os("AION_DATA") else {
        eprintln!("not run: AION_DATA names no folder with the recorded runs");
        return;
    };
    let data = Path::new(&data).join("tau-bench");
    let mut runs = Vec::new();
    read(&data.join("airline-runs.jsonl"), &mut runs);
    let held_out = data.join("airline-held-out.jsonl");
    if held_out.exists() {
        read(&held_out, &mut runs);
    }
    runs.sort_by_key(|run| (run.trial, run.task));
    let trials = runs.last().unwrap().trial + 1;
    let (mut beta, mut seen) = (Vec::new(), Vec::new());
    for _ in 0..trials {
        // Which trial comes last is arbitrary, and 50 runs are few: each comes last once.
        runs.rotate_right(50);
        let reports = replay(&runs, &[100]).await;
        assert_baselines(&reports, &runs);
        beta.extend(losses(&reports, "beta_2"));
        seen.extend(losses(&reports, "logistic_100"));
    }
    // The last rotation is the order of the file.
    let reports = replay(&runs, &[]).await;
    let known: [f64; 3] = match runs.len() {
        150 => [0.974, 0.785, 0.790],
        200 => [0.981, 0.716, 0.685],
        other => panic!("{other} runs"),
    };
    for (name, expected) in ["base_rate", "beta_2", "beta_half"].iter().zip(known) {
        let found = mean(&losses(&reports, name));
        assert!((found - expected).abs() <= 0.01, "{name}: {found} {expected}");
    }
    eprintln!("beta {:.3}, logistic {:.3} bits", mean(&beta), mean(&seen));
    assert!(mean(&seen) <= mean(&beta), "{} {}", mean(&seen), mean(&beta));
}
