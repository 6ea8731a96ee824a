//! What only a file can do: be full, be newer, be foreign, be shared.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aion_processor::{
    CancelMode, ClaimReq, Done, Durability, Error, Fence, Limits, MessageQuery, NewMessage, NewPrimitive,
    NewTask, Op, PrimitiveKind, Processor, Replay, Replayed, Return, SqliteOptions, SqliteTaskStore,
    TakeWebhook, TaskQuery, TaskStore, Want, Write,
};
use aion_types::{Clock, HandlerId, Json, ManualClock, Role, Status, SystemClock, TaskId, Timestamp};
use sqlx::Connection;

fn task() -> NewTask {
    NewTask::new(TaskId::generate(SystemClock.now()), "test", "A task")
}

async fn open(path: &Path, options: SqliteOptions) -> Arc<SqliteTaskStore> {
    Arc::new(SqliteTaskStore::open(path, options).await.unwrap())
}

async fn sql(path: &Path, statement: &'static str) {
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(statement).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
}

/// The tree equals what its log tells, and SQLite finds nothing wrong.
pub(crate) async fn assert_sound(path: &Path, processor: &Processor) {
    let mut replay = Replay::default();
    let mut after = 0;
    loop {
        let page = processor.events(after, 1_000).await.unwrap();
        for event in &page.events {
            replay.push(event).unwrap();
        }
        if page.events.is_empty() {
            break;
        }
        after = page.next;
    }
    let mut query = TaskQuery::new().with_limit(1_000);
    let mut counted = [0; 7];
    loop {
        let page = processor.tasks(query.clone()).await.unwrap();
        for task in &page.tasks {
            assert_eq!(replay.get(task.id), Some(&Replayed::from(task)));
            counted[task.status as usize] += 1;
        }
        let Some(next) = page.next else { break };
        query.cursor = Some(next);
    }
    assert_eq!(replay.tasks().count() as u64, counted.iter().sum::<u64>());
    assert_eq!(processor.counts().await.unwrap().0, counted);
    let url = format!("sqlite://{}?mode=ro", path.display());
    let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let verdict: String = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!(verdict, "ok");
    // Who is still open when the store closes would leave the log beside the file.
    conn.close().await.unwrap();
}

/// How often the log beside a file has started over: it says so at its twelfth byte.
///
/// # Sources
/// SQLite, "Database File Format", 4.1: the header of a write-ahead log.
fn log_starts(path: &Path) -> u32 {
    let mut beside = path.as_os_str().to_owned();
    beside.push("-wal");
    let log = std::fs::read(beside).unwrap();
    u32::from_be_bytes(log[12..16].try_into().unwrap())
}

/// While commits go on, the log is moved into the file and starts over, and what reads meanwhile sees one state.
#[tokio::test]
async fn the_log_starts_over_while_commits_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("processor.db");
    let store = open(&path, SqliteOptions::default().with_log_pages(50)).await;
    let processor = Processor::over(store.clone());
    processor.create(task()).await.unwrap();
    let (first, mut made) = (log_starts(&path), 1);
    while log_starts(&path) < first + 3 {
        let new = (0..50).map(|_| Op::Create(Box::new(task())).into()).collect();
        for done in store.apply(new).await.unwrap() {
            done.unwrap();
        }
        made += 50;
        assert_eq!(processor.counts().await.unwrap().of(Status::Ready), made);
        assert!(made < 500_000, "the log only grows");
    }
    assert_sound(&path, &processor).await;
    store.close().await;
    assert!(
        !path.with_extension("db-wal").exists(),
        "nothing is left in the log"
    );
}

/// What was written is there after the file is closed and opened again.
#[tokio::test]
async fn a_file_keeps_everything() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("processor.db");
    let store = open(&path, SqliteOptions::default()).await;
    let processor = Processor::over(store.clone());
    let made = processor
        .create(task().with_payload(Json::from("x")))
        .await
        .unwrap();
    let info = store.open_schema().await.unwrap();
    assert!(
        info.engine.starts_with("sqlite 3.") && info.version >= 3,
        "{info:?}"
    );
    store.close().await;
    assert!(
        matches!(processor.create(task()).await, Err(Error::Unavailable(_))),
        "a closed store takes nothing"
    );
    let again = Processor::open(&path).await.unwrap();
    assert_eq!(again.get(made.id).await.unwrap(), made);
    let next = again.create(task()).await.unwrap();
    assert_eq!(
        again
            .events(0, 10)
            .await
            .unwrap()
            .events
            .last()
            .map(|event| event.seq),
        Some(4)
    );
    assert_eq!(again.get(next.id).await.unwrap().status, Status::Ready);
}

/// A full file refuses what does not fit, keeps the rest, and goes on when there is room again.
#[tokio::test]
async fn a_full_file_keeps_what_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("processor.db");
    let store = open(&path, SqliteOptions::default().with_max_pages(120)).await;
    let processor = Processor::over(store.clone());
    let mut acknowledged = Vec::new();
    let error = loop {
        match processor
            .create(task().with_payload("x".repeat(3_000).into()))
            .await
        {
            Ok(task) => acknowledged.push(task.id),
            Err(error) => break error,
        }
        assert!(acknowledged.len() < 1_000);
    };
    assert!(matches!(error, Error::Full), "{error:?}");
    assert!(acknowledged.len() > 10);
    for id in &acknowledged {
        assert_eq!(processor.get(*id).await.unwrap().status, Status::Ready);
    }
    assert_sound(&path, &processor).await;
    store.close().await;
    let roomy = Processor::new(
        SqliteTaskStore::open(&path, SqliteOptions::default())
            .await
            .unwrap(),
    );
    roomy.create(task()).await.unwrap();
    assert_sound(&path, &roomy).await;
}

/// Of a group, only the operation that does not fit fails.
#[tokio::test]
async fn one_that_does_not_fit_takes_no_other_along() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("processor.db");
    let store = open(&path, SqliteOptions::default().with_max_pages(100)).await;
    let processor = Processor::over(store);
    let large = task().with_payload("x".repeat(900_000).into());
    let news = [task(), large, task()];
    let writes = news
        .iter()
        .map(|new| Op::Create(Box::new(new.clone())).into())
        .collect();
    let done = processor.store().apply(writes).await.unwrap();
    assert!(matches!(&done[0], Ok(Done::Record(made)) if made.id == news[0].id));
    assert!(matches!(done[1], Err(Error::Full)), "{:?}", done[1]);
    assert!(matches!(&done[2], Ok(Done::Record(made)) if made.id == news[2].id));
    assert_eq!(processor.find(news[1].id).await.unwrap(), None);
    assert_sound(&path, &processor).await;
}

/// Files of a newer program, of another program and of no program are refused and left alone.
#[tokio::test]
async fn foreign_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let newer = directory.path().join("newer.db");
    open(&newer, SqliteOptions::default()).await.close().await;
    sql(&newer, "PRAGMA user_version = 7").await;
    let refused = SqliteTaskStore::open(&newer, SqliteOptions::default()).await;
    assert!(
        matches!(
            refused,
            Err(Error::NewerDatabase {
                found: 7,
                newest: 3..
            })
        ),
        "{refused:?}"
    );

    let other = directory.path().join("other.db");
    sql(&other, "CREATE TABLE theirs (x); PRAGMA user_version = 1").await;
    let refused = SqliteTaskStore::open(&other, SqliteOptions::default()).await;
    assert!(matches!(refused, Err(Error::Corrupt(_))), "{refused:?}");

    let text = directory.path().join("notes.txt");
    std::fs::write(
        &text,
        "not a database at all, but long enough to look at".repeat(40),
    )
    .unwrap();
    let refused = SqliteTaskStore::open(&text, SqliteOptions::default()).await;
    assert!(matches!(refused, Err(Error::Corrupt(_))), "{refused:?}");
    assert!(
        std::fs::read_to_string(&text)
            .unwrap()
            .starts_with("not a database")
    );

    let nowhere = directory.path().join("missing").join("processor.db");
    let refused = SqliteTaskStore::open(&nowhere, SqliteOptions::default()).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
}

/// One store owns the file; the next one gets it when the first has gone.
#[tokio::test]
async fn a_file_has_one_owner() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("processor.db");
    let first = open(&path, SqliteOptions::default()).await;
    let refused = SqliteTaskStore::open(&path, SqliteOptions::default()).await;
    assert!(
        matches!(&refused, Err(Error::InUse(found)) if *found == path),
        "{refused:?}"
    );
    drop(first);
    open(&path, SqliteOptions::default()).await;
}

/// A caller that goes away in the middle harms nobody.
#[tokio::test]
async fn dropped_callers_harm_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("processor.db");
    let processor = Processor::open(&path).await.unwrap();
    for n in 0..200 {
        let create = processor.create(task());
        let _ = tokio::time::timeout(Duration::from_micros(n * 5), create).await;
    }
    let last = processor.create(task()).await.unwrap();
    assert_eq!(processor.get(last.id).await.unwrap().status, Status::Ready);
    assert_sound(&path, &processor).await;
}

/// Sixteen workers on one file finish every task once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_workers_share_the_work() {
    const TASKS: usize = 400;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("processor.db");
    let processor = Processor::open(&path).await.unwrap();
    let writes = |n| {
        (0..n)
            .map(|_| Write::from(Op::Create(Box::new(task()))).with_durability(Durability::Process))
            .collect()
    };
    processor.store().apply(writes(TASKS)).await.unwrap();
    let workers = (0..16).map(|n| {
        let processor = processor.clone();
        tokio::spawn(async move {
            let claim = ClaimReq::new(HandlerId::new(format!("worker-{n}")).unwrap());
            let mut finished = Vec::new();
            while let Some(lease) = processor.claim(claim.clone()).await.unwrap().pop() {
                processor.complete(lease.fence(), Json::Int(n)).await.unwrap();
                finished.push(lease.task.id);
            }
            finished
        })
    });
    let mut finished = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        finished.extend(worker.await.unwrap());
    }
    finished.sort();
    finished.dedup();
    assert_eq!(finished.len(), TASKS);
    assert_eq!(
        processor.counts().await.unwrap().of(Status::Completed),
        TASKS as u64
    );
    assert_sound(&path, &processor).await;
}

/// The defaults bound what one call may carry.
#[tokio::test]
async fn calls_are_limited() {
    let directory = tempfile::tempdir().unwrap();
    let processor = Processor::open(directory.path().join("processor.db"))
        .await
        .unwrap();
    let too_many = vec![Write::from(Op::Start(task().id)); Limits::default().max_ops + 1];
    let refused = processor.store().apply(too_many).await;
    assert!(matches!(refused, Err(Error::Limit { what: "writes", .. })));
}

/// A database of the first version, made by the program of that version, opens with everything in it:
/// what ran goes on, what waited wakes up, and what is new works on it.
#[tokio::test]
async fn the_first_version_opens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("processor.db");
    std::fs::write(&path, include_bytes!("../fixtures/version-1.db")).unwrap();
    let clock = ManualClock::at(Timestamp::from_ms(1_700_000_010_000));
    let store = open(&path, SqliteOptions::default().with_clock(clock.clone())).await;
    let processor = Processor::over(store.clone());
    assert!(store.open_schema().await.unwrap().version >= 3);
    assert_sound(&path, &processor).await;
    let id = |n: u8| TaskId::from_parts(Timestamp::from_ms(1_700_000_000_000), [n; 10]);
    let stands = async |n| processor.get(id(n)).await.unwrap().status;
    let wanted = [
        Status::Blocked,
        Status::Completed,
        Status::Running,
        Status::Ready,
        Status::Preparing,
        Status::Preparing,
        Status::Failed,
        Status::Cancelled,
    ];
    for (n, status) in wanted.into_iter().enumerate() {
        assert_eq!(stands(n as u8 + 1).await, status);
    }
    let messages = processor
        .messages(id(1), MessageQuery::new())
        .await
        .unwrap()
        .messages;
    assert_eq!((messages.len(), messages[0].content.len()), (2, 9_000));
    assert!(messages[0].persistence.is_some());
    let claim = ClaimReq::new(HandlerId::new("next").unwrap());
    let four = processor.claim(claim).await.unwrap().remove(0);
    assert_eq!(four.task.id, id(4));
    processor.complete(four.fence(), Json::Null).await.unwrap();
    let three = Fence {
        task: id(3),
        epoch: 1,
    };
    processor.complete(three, Json::Null).await.unwrap();
    assert_eq!(stands(1).await, Status::Ready);
    clock.advance_ms(60_000);
    assert_eq!(processor.tick().await.unwrap().started, 1);
    processor.cancel_tree(id(1), CancelMode::Ask).await.unwrap();
    assert_eq!(processor.purge(id(1)).await.unwrap(), 4);
    assert_sound(&path, &processor).await;
}

/// A file of the second version opens with its lines, objects and long messages; its holders go on, and now they
/// record steps.
#[tokio::test]
async fn the_second_version_opens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("processor.db");
    std::fs::write(&path, include_bytes!("../fixtures/version-2.db")).unwrap();
    let clock = ManualClock::at(Timestamp::from_ms(1_700_000_010_000));
    let processor = Processor::over(open(&path, SqliteOptions::default().with_clock(clock)).await);
    assert_sound(&path, &processor).await;
    let id = |n: u8| TaskId::from_parts(Timestamp::from_ms(1_700_000_000_000), [n; 10]);
    let stands = async |n| processor.get(id(n)).await.unwrap().status;
    for (n, status) in [Status::Running, Status::Blocked, Status::Running, Status::Ready]
        .into_iter()
        .enumerate()
    {
        assert_eq!(stands(n as u8).await, status, "{n}");
    }
    let first = Fence {
        task: id(0),
        epoch: 1,
    };
    let said = processor
        .messages(id(0), MessageQuery::new())
        .await
        .unwrap()
        .messages;
    assert_eq!(said[0].content.len(), 5_000);
    let step = processor.step(first, "charged", Json::Int(7)).await.unwrap();
    assert_eq!((step.seq, step.result), (1, Json::Int(7)));
    processor.complete(first, Json::Null).await.unwrap();
    assert_eq!(stands(1).await, Status::Ready, "the mutex goes on");
    assert_eq!(
        processor.object("plan", None).await.unwrap().unwrap().body,
        Json::from("first")
    );
    assert_eq!(processor.primitive("mail").await.unwrap().items, 1);
    let claim = ClaimReq::new(HandlerId::new("new").unwrap()).with_max(9);
    let taken = processor.claim(claim).await.unwrap();
    assert_eq!(
        taken.iter().map(|lease| lease.task.id).collect::<Vec<_>>(),
        [id(1)],
        "the tenant has one place"
    );
    assert_sound(&path, &processor).await;
}

/// A file of the fourth version opens with what its tasks gave, which lay elsewhere then, with its steps, and with a
/// webhook that is behind.
#[tokio::test]
async fn the_fourth_version_opens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("processor.db");
    std::fs::write(&path, include_bytes!("../fixtures/version-4.db")).unwrap();
    let clock = ManualClock::at(Timestamp::from_ms(1_700_000_010_000));
    let processor = Processor::over(open(&path, SqliteOptions::default().with_clock(clock.clone())).await);
    assert_sound(&path, &processor).await;
    let id = |n: u8| TaskId::from_parts(Timestamp::from_ms(1_700_000_000_000), [n; 10]);
    let rows: Json = serde_json::from_str(r#"{"rows": 3.5}"#).unwrap();
    assert_eq!(processor.get(id(1)).await.unwrap().result, Some(rows));
    let failed = processor.get(id(2)).await.unwrap();
    assert_eq!(
        (failed.status, failed.error.as_deref()),
        (Status::Failed, Some("no such table"))
    );
    let first = Fence {
        task: id(0),
        epoch: 1,
    };
    let again = processor.step(first, "charged", Json::Int(8)).await.unwrap();
    assert_eq!((again.seq, again.result), (1, Json::Int(7)));
    processor.complete(first, Json::from("sent")).await.unwrap();
    let order = processor.get(id(0)).await.unwrap();
    assert_eq!(
        (order.payload, order.result),
        (Json::from("a teapot"), Some(Json::from("sent")))
    );

    clock.advance_ms(24 * 3_600_000);
    let take = TakeWebhook {
        name: "billing".to_owned(),
        holder: HandlerId::new("sender").unwrap(),
        lease_ms: 60_000,
        max: 100,
    };
    let taken = processor.take_webhook(take).await.unwrap();
    assert_eq!(taken.keys[0].expose(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let due: Vec<_> = taken
        .due
        .iter()
        .map(|due| (due.event.task_id, due.attempts))
        .collect();
    assert_eq!(due, [(id(1), 1)], "the rest of the task waits behind it");
    assert!(taken.webhook.parked > 1 && taken.webhook.cursor > 0);
    assert_sound(&path, &processor).await;
}

/// While the file is full nothing is claimed, and the store says so; room brings it back.
#[tokio::test]
async fn a_full_file_stops_claims() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("processor.db");
    let processor = Processor::over(open(&path, SqliteOptions::default().with_max_pages(150)).await);
    let mut made = Vec::new();
    let error = loop {
        match processor
            .create(task().with_payload("x".repeat(20_000).into()))
            .await
        {
            Ok(task) => made.push(task.id),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full), "{error:?}");
    let metrics = processor.metrics().await.unwrap();
    assert!(metrics.full && metrics.bytes >= 100 * 4_096, "{metrics:?}");
    let claim = || ClaimReq::new(HandlerId::new("w").unwrap()).with_max(0);
    // One claim is let through to see whether there is room; it takes nothing and so proves nothing.
    processor.claim(claim()).await.unwrap();
    assert!(matches!(processor.claim(claim()).await, Err(Error::Full)));
    processor.cancel(made[0], CancelMode::Ask).await.unwrap();
    assert!(
        !processor.metrics().await.unwrap().full,
        "a small write found room"
    );
    processor.purge(made[0]).await.unwrap();
    let again = processor
        .create(task().with_payload("x".repeat(20_000).into()))
        .await;
    assert!(again.is_ok(), "the room of what was removed is used again");
    assert_eq!(processor.claim(claim().with_max(1)).await.unwrap().len(), 1);
}

/// Numbers in what the model server reported come back to the last digit.
#[tokio::test]
async fn reported_numbers_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let processor = Processor::open(directory.path().join("processor.db"))
        .await
        .unwrap();
    let id = processor.create(task()).await.unwrap().id;
    let text =
        r#"{"R_harm":2.3790000000000004,"large":18446744073709551615,"small":5e-324,"x":[0.1,-0.0,1e+300]}"#;
    let reported: Json = serde_json::from_str(text).unwrap();
    let message = NewMessage::new(Role::Assistant, "").with_persistence(reported);
    processor.say(id, message).await.unwrap();
    let kept = processor
        .messages(id, MessageQuery::new())
        .await
        .unwrap()
        .messages
        .remove(0);
    let kept = serde_json::to_string(&kept.persistence.unwrap()).unwrap();
    assert_eq!(kept, text);
}

/// Who waits in a line still does after a restart, and is woken by what happens then.
#[tokio::test]
async fn lines_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("processor.db");
    let store = open(&path, SqliteOptions::default()).await;
    let processor = Processor::over(store.clone());
    processor
        .declare(NewPrimitive::new("lock", PrimitiveKind::Mutex))
        .await
        .unwrap();
    let mut fences = Vec::new();
    for _ in 0..3 {
        let id = processor.create(task()).await.unwrap().id;
        let claim = ClaimReq::new(HandlerId::new("w").unwrap()).with_task(id);
        fences.push(processor.claim(claim).await.unwrap()[0].fence());
        processor
            .acquire(Want::new(fences.last().copied().unwrap(), "lock"))
            .await
            .unwrap();
    }
    let before = processor.waits(None).await.unwrap();
    store.close().await;
    let processor = Processor::open(&path).await.unwrap();
    assert_eq!(processor.waits(None).await.unwrap(), before);
    let grant = &before.holders[0].grant;
    processor.give_back(fences[0], grant, Return::Done).await.unwrap();
    assert_eq!(processor.get(fences[1].task).await.unwrap().status, Status::Ready);
    let held = processor.holds(fences[1].task).await.unwrap();
    assert!(held[0].grant.token > grant.token);
    processor.cancel(fences[1].task, CancelMode::Force).await.unwrap();
    assert_eq!(processor.get(fences[2].task).await.unwrap().status, Status::Ready);
    assert_sound(&path, &processor).await;
}
