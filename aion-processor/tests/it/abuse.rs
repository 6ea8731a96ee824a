//! Requests that mean no good: one key again and again, cursors that nobody gave out.

use std::sync::Arc;

use aion_processor::{
    Cursor, Done, Durability, Limits, MemTaskStore, NewMessage, NewTask, Op, Order, Processor, SqliteOptions,
    SqliteTaskStore, TaskQuery, TaskStore, Write,
};
use aion_types::{Clock, Json, Role, SystemClock, TaskId};
use proptest::prelude::*;

/// Requests with one key, unless the environment says otherwise: 1,000,000 by hand.
const REQUESTS: usize = 10_000;
const VARIABLE: &str = "AION_ABUSE_REQUESTS";
/// Requests in one call.
const AT_ONCE: usize = 1_000;

fn requests() -> usize {
    let wanted = std::env::var(VARIABLE).ok();
    wanted.map_or(REQUESTS, |n| n.parse().unwrap())
}

/// What a request with a key is each time: a new task, or a message.
async fn repeat(store: &Arc<dyn TaskStore>, request: impl Fn() -> Op) {
    let processor = Processor::over(store.clone());
    let write = || Write::from(request()).with_durability(Durability::Process);
    let first = store.apply(vec![write()]).await.unwrap().remove(0).unwrap();
    let before = processor.metrics().await.unwrap();
    let mut left = requests();
    while left > 0 {
        let now = left.min(AT_ONCE);
        for answer in store.apply((0..now).map(|_| write()).collect()).await.unwrap() {
            assert_eq!(answer.unwrap(), first);
        }
        left -= now;
    }
    let after = processor.metrics().await.unwrap();
    assert_eq!((after.last_seq, after.bytes), (before.last_seq, before.bytes));
    assert_eq!(processor.counts().await.unwrap().0.iter().sum::<u64>(), 1);
}

async fn repeat_all(store: Arc<dyn TaskStore>) {
    let fresh = || TaskId::generate(SystemClock.now());
    let new = || {
        let new = NewTask::new(fresh(), "test", "A task").with_key("once");
        Op::Create(Box::new(new.with_payload(Json::from("x".repeat(1_000).as_str()))))
    };
    repeat(&store, new).await;
    let processor = Processor::over(store.clone());
    let task = processor.tasks(TaskQuery::new()).await.unwrap().tasks[0].id;
    let message = || {
        let message = NewMessage::new(Role::User, "hello").with_key("once");
        Op::Append {
            task,
            epoch: None,
            message: Box::new(message),
        }
    };
    repeat(&store, message).await;
    // Another wish under the same key gets the first task, too.
    let other = Op::Create(Box::new(
        NewTask::new(fresh(), "other", "Another").with_key("once"),
    ));
    let before = processor.metrics().await.unwrap().last_seq;
    let answer = store.apply(vec![other.into()]).await.unwrap().remove(0);
    assert!(matches!(answer, Ok(Done::Record(first)) if first.id == task));
    assert_eq!(processor.metrics().await.unwrap().last_seq, before);
}

/// However often a request with a key is sent, it is answered as the first time, and nothing grows.
#[tokio::test]
async fn one_key_again_and_again_grows_nothing() {
    let memory = MemTaskStore::new(SystemClock, Limits::default());
    repeat_all(Arc::new(memory)).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("processor.db");
    let file = SqliteTaskStore::open(&path, SqliteOptions::default())
        .await
        .unwrap();
    repeat_all(Arc::new(file)).await;
    let mut log = path.into_os_string();
    log.push("-wal");
    let bytes = std::fs::metadata(log).map_or(0, |log| log.len());
    assert!(bytes < 8 << 20, "{bytes} bytes of log");
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[on][0-9a-fA-F]{0,17}",
        "[on][+-]?[0-9a-z_ .]{0,9}",
        "[a-z]{1,3}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A text is a cursor that is written as it was read, or it is refused as one; both kinds of stores answer
    /// every cursor with a page or a refusal.
    #[test]
    fn cursors_are_read_or_refused(text in text()) {
        match text.parse::<Cursor>() {
            Err(error) => prop_assert_eq!(error.code(), "invalid"),
            Ok(cursor) => {
                let again: Cursor = cursor.to_string().parse().unwrap();
                prop_assert_eq!(&again, &cursor);
                prop_assert!(cursor.position_in(Order::Oldest).is_ok() != cursor.position_in(Order::Newest).is_ok());
            }
        }
    }
}

/// The same cursors, asked of the stores.
#[tokio::test]
async fn stores_answer_every_cursor() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("processor.db");
    let file = SqliteTaskStore::open(&path, SqliteOptions::default())
        .await
        .unwrap();
    let memory = MemTaskStore::new(SystemClock, Limits::default());
    let stores = [Processor::new(memory), Processor::new(file)];
    for processor in &stores {
        for _ in 0..3 {
            let new = NewTask::new(TaskId::generate(SystemClock.now()), "test", "A task");
            processor.create(new).await.unwrap();
        }
    }
    for digits in [
        "0",
        "1",
        "2",
        "3",
        "7fffffff",
        "ffffffff",
        "7ffffffffffffff",
        "fffffffffffffff",
    ] {
        for (letter, order) in [('o', Order::Oldest), ('n', Order::Newest)] {
            let cursor: Cursor = format!("{letter}{digits}").parse().unwrap();
            for wanted in [Order::Oldest, Order::Newest] {
                let mut query = TaskQuery::new().with_order(wanted);
                query.cursor = Some(cursor.clone());
                let mut found = Vec::new();
                for processor in &stores {
                    let page = processor.tasks(query.clone()).await;
                    found.push(page.map(|page| page.tasks.len()).map_err(|error| error.code()));
                }
                assert_eq!(found[0], found[1], "{letter}{digits} {wanted:?}");
                assert_eq!(found[0].is_ok(), order == wanted, "{letter}{digits}: {found:?}");
            }
        }
    }
}
