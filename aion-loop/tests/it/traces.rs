//! Training text: the split, duplicates, secrets, bytes, and the way back.

use std::collections::BTreeSet;

use aion_loop::testkit::Script;
use aion_loop::{ExportOptions, Redactor, ResolvedTask, export, gather, read_lines};
use aion_processor::{Limits, MemTaskStore, MessageQuery, NewMessage, NewTask, Processor};
use aion_types::{Clock, Json, Role, Status, SystemClock, TaskId, TraceLine};
use proptest::prelude::*;
use serde_json::json;

use crate::agent::Stage;
use crate::world::World;

async fn template() -> ResolvedTask {
    let processor = Processor::new(MemTaskStore::new(SystemClock, Limits::default()));
    let id = TaskId::generate(SystemClock.now());
    let task = processor
        .create(NewTask::new(id, "agent.run", "x"))
        .await
        .unwrap();
    processor
        .say(id, NewMessage::new(Role::User, "hello"))
        .await
        .unwrap();
    let messages = processor
        .messages(id, MessageQuery::new())
        .await
        .unwrap()
        .messages;
    ResolvedTask {
        task,
        messages,
        task_ratio: 1.5,
        market: None,
    }
}

fn resolved(template: &ResolvedTask, n: u16, root: u16, text: &str, status: Status) -> ResolvedTask {
    let id = |n: u16| {
        let mut free = [7; 10];
        free[8..].copy_from_slice(&n.to_be_bytes());
        TaskId::from_parts(aion_types::Timestamp::from_ms(1_000 + i64::from(n)), free)
    };
    let mut task = template.clone();
    task.task.id = id(n);
    task.task.root_id = id(root);
    task.task.status = status;
    task.messages[0].content = text.to_owned();
    task
}

#[tokio::test]
async fn the_split_goes_by_tree_and_duplicates_are_dropped() {
    let template = template().await;
    let mut tasks: Vec<ResolvedTask> = (0..600)
        .map(|n| resolved(&template, n, n % 200, &format!("text {n}"), Status::Completed))
        .collect();
    tasks.push(resolved(&template, 700, 700, "text 5", Status::Failed));
    tasks.push(resolved(&template, 701, 701, "running", Status::Running));
    let options = ExportOptions::default();
    let export = export(tasks.clone(), &options);
    assert_eq!((export.duplicates, export.skipped), (1, 1));
    assert_eq!(export.train.len() + export.val.len(), 600);
    assert!((20..100).contains(&export.val.len()), "{}", export.val.len());
    assert!(
        (80..220).contains(&export.replay.len()),
        "{}",
        export.replay.len()
    );
    let root_of = |id: TaskId| tasks.iter().find(|t| t.task.id == id).unwrap().task.root_id;
    let roots = |records: &[aion_types::TraceRecord]| -> BTreeSet<TaskId> {
        records
            .iter()
            .map(|record| root_of(record.meta.task_id))
            .collect()
    };
    assert!(
        roots(&export.train).is_disjoint(&roots(&export.val)),
        "a tree in both"
    );
    assert!(roots(&export.replay).is_subset(&roots(&export.train)));
}

#[tokio::test]
async fn a_planted_secret_reaches_no_file() {
    let secret = "zebra-\"quartz\"-93";
    let call = Script::call(
        "put_box",
        &json!({"name": format!("a {secret} sk-abcdefghijklmnop1234"), "number": 1}),
    );
    let stage = Stage::new(
        World::default(),
        [
            call,
            Script::finish("SUCCESS", &format!("wrote {secret}, password=hunter2hunter2")),
        ],
    );
    stage.task(&format!("Use the key {secret}")).await;
    stage.work(stage.agent()).await;
    let tasks = gather(&stage.processor, stage.store.as_ref(), None)
        .await
        .unwrap();
    assert_eq!(tasks.len(), 1);
    assert!(tasks[0].task_ratio > 1.0);
    let options = ExportOptions::default()
        .with_val_permille(0)
        .with_redactor(Redactor::default().with_values([secret]));
    let export = export(tasks, &options);
    let dir = tempfile::tempdir().unwrap();
    let files = export.write(dir.path()).unwrap();
    let text = std::fs::read_to_string(&files.train.0).unwrap();
    for part in ["zebra", "quartz", "sk-abcdef", "hunter2"] {
        assert!(!text.contains(part), "{part} in {text}");
    }
    assert!(text.contains("[redacted]"));
    let lines = read_lines(&files.train.0).unwrap();
    let TraceLine::Record(record) = &lines[0] else {
        panic!()
    };
    assert_eq!(**record, export.train[0]);
    assert_eq!(record.meta.persistence.unwrap().r_harm, 2.0);
    let arguments = &record.messages[1].tool_calls[0].arguments;
    assert!(
        serde_json::from_str::<serde_json::Value>(arguments).is_ok(),
        "{arguments}"
    );
}

#[tokio::test]
async fn the_same_traces_give_the_same_bytes_and_nothing_half_written() {
    let template = template().await;
    let mut tasks: Vec<ResolvedTask> = (0..50)
        .map(|n| resolved(&template, n, n, &format!("text {n} é"), Status::Failed))
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let files = export(tasks.clone(), &ExportOptions::default())
        .write(dir.path())
        .unwrap();
    let read = || [&files.train.0, &files.val.0, &files.replay.0].map(|path| std::fs::read(path).unwrap());
    let first = read();
    tasks.reverse();
    export(tasks.clone(), &ExportOptions::default())
        .write(dir.path())
        .unwrap();
    assert_eq!(read(), first);
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        3,
        "nothing is left beside"
    );
    assert!(
        read_lines(&files.train.0)
            .unwrap()
            .iter()
            .all(|line| line.messages().len() == 1)
    );

    // A directory that cannot be one: the old files stay.
    let blocked = dir.path().join("train.jsonl/x");
    assert!(export(tasks, &ExportOptions::default()).write(&blocked).is_err());
    assert_eq!(read(), first);
}

#[test]
fn bare_lists_and_bad_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.jsonl");
    std::fs::write(&path, "[{\"role\":\"user\",\"content\":\"hi\"}]\n\n").unwrap();
    assert_eq!(read_lines(&path).unwrap().len(), 1);
    std::fs::write(&path, "[]\nnonsense\n").unwrap();
    assert!(read_lines(&path).unwrap_err().to_string().contains("line 2"));
    assert_eq!(Json::Null, Json::default());
}

proptest! {
    /// A planted value is never found again, whatever stands around it, in text or escaped in JSON.
    #[test]
    fn no_value_survives(before in ".{0,20}", secret in "[!-~é]{4,20}", after in ".{0,20}") {
        let redactor = Redactor::default().with_values([secret.clone()]);
        let text = redactor.redact(&format!("{before}{secret}{after}"));
        prop_assert!(!text.replace("[redacted]", "\n").contains(&secret), "{}", text);
        let inside = json!({"k": format!("{before}{secret}{after}")}).to_string();
        let redacted = redactor.redact(&inside);
        let escaped = serde_json::Value::from(secret.as_str()).to_string();
        prop_assert!(!redacted.replace("[redacted]", "\n").contains(&escaped[1..escaped.len() - 1]), "{}", redacted);
    }
}
