//! The stores of the loop: the same cases for memory and SQLite, and bad files for SQLite.

use std::sync::Arc;

use aion_loop::{
    AgentType, CallStatus, Intent, IntentOutcome, LoopRun, LoopStore, MemoryLoopStore, RunOptions, RunRecord,
    RunStatus, SqliteLoopStore, StepReport, StoreError,
};
use aion_types::{AgentId, RunId, TaskId};
use serde_json::json;

use crate::run::{at, tools};

fn record(task: u8, run: u8, status: RunStatus) -> RunRecord {
    let ids = (
        TaskId::from_parts(at(1), [task; 10]),
        RunId::from_parts(at(i64::from(run)), [run; 10]),
    );
    RunRecord {
        run: ids.1,
        task: ids.0,
        agent: AgentId::new("worker").unwrap(),
        status,
        snapshot: LoopRun::new(ids, "goal", RunOptions::default(), tools(), at(0)).snapshot(),
        updated_at: at(5),
    }
}

fn intent(record: &RunRecord, ordinal: u64) -> Intent {
    Intent {
        key: format!("key {ordinal}"),
        run: record.run,
        ordinal,
        tool: "put_box".into(),
        arguments: json!({"n": ordinal}).as_object().unwrap().clone(),
        outcome: None,
        at: at(7),
    }
}

fn step(record: &RunRecord, step: u32) -> StepReport {
    serde_json::from_value(
        json!({"run": record.run, "task": record.task, "step": step, "text": "t", "calls": [], "diff": [],
        "usage": {}, "tokens_used": 3, "model_ms": 1, "step_ms": 2}),
    )
    .unwrap()
}

async fn keeps_its_word(store: Arc<dyn LoopStore>) {
    let (a, b, c) = (
        record(1, 1, RunStatus::Active),
        record(2, 2, RunStatus::Paused),
        record(1, 3, RunStatus::Active),
    );
    for run in [&a, &b, &c] {
        store.save_run(run).await.unwrap();
    }
    assert_eq!(store.run(b.run).await.unwrap(), Some(b.clone()));
    assert_eq!(
        store.run_of_task(a.task).await.unwrap(),
        Some(c.clone()),
        "the newest"
    );
    let done = RunRecord {
        status: RunStatus::Done,
        ..b.clone()
    };
    store.save_run(&done).await.unwrap();
    assert_eq!(store.runs(None, 2).await.unwrap(), [c.clone(), done]);
    assert_eq!(
        store.runs(Some(b.run), 9).await.unwrap(),
        std::slice::from_ref(&a)
    );
    assert_eq!(store.run(RunId::from_parts(at(9), [9; 10])).await.unwrap(), None);

    let wanted = intent(&a, 0);
    assert_eq!(store.intend(&wanted).await.unwrap(), None);
    assert_eq!(store.intend(&wanted).await.unwrap(), Some(wanted.clone()));
    let other = Intent {
        tool: "other".into(),
        ..wanted.clone()
    };
    assert!(matches!(store.intend(&other).await, Err(StoreError::KeyReused)));
    let outcome = IntentOutcome {
        status: CallStatus::Succeeded,
        answer: "ok".into(),
    };
    store.settle(&wanted.key, &outcome).await.unwrap();
    assert_eq!(
        store.intend(&wanted).await.unwrap().unwrap().outcome,
        Some(outcome.clone())
    );
    assert!(matches!(
        store.settle("nope", &outcome).await,
        Err(StoreError::NotFound { .. })
    ));
    store.intend(&intent(&a, 2)).await.unwrap();
    store.intend(&intent(&a, 1)).await.unwrap();
    let order: Vec<u64> = store
        .intents(a.run)
        .await
        .unwrap()
        .iter()
        .map(|intent| intent.ordinal)
        .collect();
    assert_eq!(order, [0, 1, 2]);
    assert!(store.intents(b.run).await.unwrap().is_empty());

    for n in [1, 2, 3, 2] {
        store.save_step(&step(&a, n)).await.unwrap();
    }
    assert_eq!(store.steps(a.run, 1, 1).await.unwrap(), [step(&a, 2)]);
    assert_eq!(store.steps(a.run, 0, 9).await.unwrap().len(), 3);

    let kind = |name: &str| AgentType::new(AgentId::new(name).unwrap(), RunOptions::for_small_model());
    for name in ["b", "a", "c", "a"] {
        store.save_agent_type(&kind(name)).await.unwrap();
    }
    assert_eq!(store.agent_type(&kind("a").id).await.unwrap(), Some(kind("a")));
    assert_eq!(
        store.agent_types(Some(&kind("a").id), 1).await.unwrap(),
        [kind("b")]
    );
    assert_eq!(store.agent_types(None, 9).await.unwrap().len(), 3);
}

#[tokio::test]
async fn memory_keeps_its_word() {
    keeps_its_word(Arc::new(MemoryLoopStore::new())).await;
}

#[tokio::test]
async fn sqlite_keeps_its_word() {
    keeps_its_word(Arc::new(SqliteLoopStore::in_memory().await.unwrap())).await;
}

#[tokio::test]
async fn sqlite_remembers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("loop.db");
    let run = record(1, 1, RunStatus::Active);
    SqliteLoopStore::open(&path)
        .await
        .unwrap()
        .save_run(&run)
        .await
        .unwrap();
    assert_eq!(
        SqliteLoopStore::open(&path)
            .await
            .unwrap()
            .run(run.run)
            .await
            .unwrap(),
        Some(run)
    );
}

#[tokio::test]
async fn files_of_others_and_of_newer_programs_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (name, script, newer) in [
        (
            "newer.db",
            format!(
                "PRAGMA application_id = {}; PRAGMA user_version = 99",
                0x4169_6f4c
            ),
            true,
        ),
        ("foreign.db", "CREATE TABLE notes (x)".to_owned(), false),
    ] {
        let path = dir.path().join(name);
        let url = format!("sqlite://{}?mode=rwc", path.display());
        let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(script))
            .execute(&pool)
            .await
            .unwrap();
        pool.close().await;
        match SqliteLoopStore::open(&path).await {
            Err(StoreError::NewerDatabase { found: 99, newest: 1 }) => assert!(newer),
            Err(StoreError::ForeignDatabase { .. }) => assert!(!newer),
            other => panic!("{other:?}"),
        }
    }
    let path = dir.path().join("text.db");
    std::fs::write(
        &path,
        "this is no database, but it is long enough to be looked at as one".repeat(50),
    )
    .unwrap();
    assert!(SqliteLoopStore::open(&path).await.is_err());
}
