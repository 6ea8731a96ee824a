//! What must hold after any task, whatever the model did.

use std::collections::{BTreeMap, BTreeSet};

use aion_cli::demo::write_traces;
use aion_cli::node::Node;
use aion_cli::run::{RunOutcome, RunReport};
use aion_loop::read_lines;
use aion_loop::store::LoopStore;
use aion_processor::{EventQuery, MessageQuery};
use aion_types::{Role, Status};

use crate::world::SECRET;

/// Checks a task that has ended.
pub(crate) async fn check(node: &Node, report: &RunReport) {
    check_calls(node, report).await;
    check_budget(report);
    check_world(report);
    check_log(node, report).await;
    check_market(node, report).await;
}

/// Every call fits the schema of its tool and was dispatched once, under a key of its own.
async fn check_calls(node: &Node, report: &RunReport) {
    let calls: Vec<_> = report.steps.iter().flat_map(|step| &step.calls).collect();
    for call in &calls {
        let arguments = serde_json::Value::Object(call.arguments.clone());
        let valid = node.services().tools().validate(&call.tool, &arguments);
        assert_eq!(valid, Ok(()), "{} {arguments}", call.tool);
    }
    let Some(run) = report.run else { return };
    let intents = node.runs().intents(run).await.unwrap();
    assert!(intents.iter().all(|intent| intent.outcome.is_some()));
    let dispatched: BTreeSet<_> = intents.iter().map(|intent| intent.key.clone()).collect();
    let reported: Vec<_> = calls.iter().map(|call| call.key.clone()).collect();
    assert_eq!(dispatched.len(), intents.len());
    assert_eq!(
        reported.len(),
        dispatched.len(),
        "a call was reported twice or not at all"
    );
    assert_eq!(reported.into_iter().collect::<BTreeSet<_>>(), dispatched);
}

/// The ledger of the run is the sum of what the server said of each answer. An answer whose step was
/// broken off is in the ledger, and may be missing from the steps.
fn check_budget(report: &RunReport) {
    let told: Vec<_> = report.steps.iter().map(|step| step.usage.total()).collect();
    let said: u64 = told.iter().flatten().sum();
    if told.iter().all(Option::is_some) {
        assert_eq!(report.tokens, said);
    } else {
        assert!(report.tokens >= said);
    }
    assert!(report.model_calls <= report.budget.steps);
}

/// The differences of the states name the files that changed.
fn check_world(report: &RunReport) {
    let mut named: BTreeMap<String, u32> = BTreeMap::new();
    for step in &report.steps {
        for operation in &step.diff.patch().0 {
            let path = operation.path().to_string();
            if let Some(name) = path.strip_prefix("/machine/files/") {
                *named
                    .entry(name.replace("~1", "/").replace("~0", "~"))
                    .or_default() += 1;
            }
        }
    }
    for change in &report.files {
        assert!(named.contains_key(&change.path), "{} changed unseen", change.path);
    }
    let changed: BTreeSet<_> = report.files.iter().map(|change| &change.path).collect();
    for (name, times) in &named {
        assert!(
            changed.contains(name) || *times > 1,
            "{name} was seen to change and did not"
        );
    }
}

/// The task's history has one answer of the model for each step, and one terminal event.
async fn check_log(node: &Node, report: &RunReport) {
    let query = MessageQuery::new().with_limit(1_000);
    let messages = node
        .processor()
        .messages(report.task, query)
        .await
        .unwrap()
        .messages;
    let answers = messages
        .iter()
        .filter(|message| message.role == Role::Assistant)
        .count();
    assert_eq!(answers, report.steps.len());
    let task = node.processor().get(report.task).await.unwrap();
    let expected = match report.outcome {
        RunOutcome::Success => Status::Completed,
        RunOutcome::Failed => Status::Failed,
        RunOutcome::Cancelled => Status::Cancelled,
        RunOutcome::Paused => panic!("the task has not ended"),
    };
    assert_eq!(task.status, expected);
    let query = EventQuery {
        after: 0,
        task: Some(report.task),
        limit: 1_000,
    };
    let log = node.processor().events_of(query).await.unwrap().events;
    assert_eq!(log.iter().filter(|event| event.kind.is_terminal()).count(), 1);
}

/// The market is resolved as the task ended, and trust was moved once, without loss.
async fn check_market(node: &Node, report: &RunReport) {
    let view = node.market().of_task(report.task).await.unwrap().unwrap();
    assert!(view.resolution.is_some());
    let before: u64 = report.trust.iter().map(|change| change.before.get()).sum();
    let after: u64 = report.trust.iter().map(|change| change.after.get()).sum();
    assert_eq!(before, after, "trust is conserved");
    assert!(!report.trust.is_empty());
}

/// The exported traces can be read again and hold no secret.
pub(crate) async fn check_traces(node: &Node) -> usize {
    let mut lines = 0;
    for (path, expected) in write_traces(node).await.unwrap() {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(SECRET), "{} holds the key", path.display());
        let found = read_lines(&path).unwrap();
        assert_eq!(found.len(), expected);
        lines += found.len();
    }
    lines
}
