//! Tasks that come into being with the caller's own transaction, or not at all.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aion_processor::{
    ClaimReq, Error, NewTask, Op, PostgresOptions, PostgresTaskStore, Processor, SqliteOptions,
    SqliteTaskStore, TaskStore,
};
use aion_sql::testkit::TestDatabase;
use aion_types::{Clock, HandlerId, Json, Status, SystemClock, TaskId};
use sqlx::{PgPool, SqlitePool};

use crate::file::assert_sound;

fn task() -> NewTask {
    NewTask::new(TaskId::generate(SystemClock.now()), "order", "An order")
}

fn wish() -> ClaimReq {
    ClaimReq::new(HandlerId::new("worker").unwrap()).with_max(100)
}

async fn open(path: &Path) -> (Arc<SqliteTaskStore>, SqlitePool) {
    let store = SqliteTaskStore::open(path, SqliteOptions::default())
        .await
        .unwrap();
    let pool = SqlitePool::connect_with(store.connect_options()).await.unwrap();
    let make = "CREATE TABLE IF NOT EXISTS app_order (task BLOB NOT NULL)";
    sqlx::query(make).execute(&pool).await.unwrap();
    (Arc::new(store), pool)
}

async fn order(tx: &mut sqlx::Transaction<'_, sqlx::Sqlite>, task: &NewTask) {
    let order = sqlx::query("INSERT INTO app_order VALUES (?1)").bind(task.id.as_bytes().to_vec());
    order.execute(&mut **tx).await.unwrap();
}

async fn orders(pool: &SqlitePool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM app_order")
        .fetch_one(pool)
        .await
        .unwrap()
}

/// A commit makes both, a rollback makes neither, and a refusal leaves the rest of the transaction as it is.
#[tokio::test]
async fn a_task_comes_with_its_transaction() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop.db");
    let (store, pool) = open(&path).await;
    let processor = Processor::over(store.clone());
    let before = processor.create(task()).await.unwrap();

    let (kept, undone) = (task().with_key("one"), task());
    let mut tx = pool.begin().await.unwrap();
    order(&mut tx, &kept).await;
    let made = store.enqueue_in(&mut tx, kept.clone()).await.unwrap();
    assert_eq!(made.status, Status::Ready);
    assert!(
        processor.find(kept.id).await.unwrap().is_none(),
        "nobody sees it yet"
    );
    let again = store.enqueue_in(&mut tx, task().with_key("one")).await.unwrap();
    assert_eq!(again, made, "the key is known inside");
    let taken = NewTask {
        kind: "other".to_owned(),
        ..kept.clone()
    };
    let taken = NewTask { key: None, ..taken };
    let refused = store.enqueue_in(&mut tx, taken).await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    let large = store
        .enqueue_in(&mut tx, task().with_spec("x".repeat(1 << 20)))
        .await;
    assert!(
        matches!(large, Err(Error::Limit { what: "spec", .. })),
        "{large:?}"
    );
    tx.commit().await.unwrap();
    assert_eq!(processor.get(kept.id).await.unwrap(), made);

    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    order(&mut tx, &undone).await;
    store.enqueue_in(&mut tx, undone.clone()).await.unwrap();
    tx.rollback().await.unwrap();
    assert!(processor.find(undone.id).await.unwrap().is_none());
    assert_eq!(orders(&pool).await, 1);

    let leases = processor.claim(wish()).await.unwrap();
    let taken: Vec<_> = leases.iter().map(|lease| lease.task.id).collect();
    assert_eq!(taken, [before.id, kept.id], "one order for all of them");
    assert_eq!(
        processor.create(task().with_key("one")).await.unwrap().id,
        kept.id
    );
    assert_sound(&path, &processor).await;
}

/// A transaction of another file is refused before it writes.
#[tokio::test]
async fn a_transaction_of_another_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (here, _) = open(&directory.path().join("here.db")).await;
    let (_there, pool) = open(&directory.path().join("there.db")).await;
    let mut tx = pool.begin().await.unwrap();
    let refused = here.enqueue_in(&mut tx, task()).await;
    assert!(
        matches!(
            refused,
            Err(Error::Invalid {
                what: "transaction",
                ..
            })
        ),
        "{refused:?}"
    );
}

/// Whoever waits for work hears of a commit that the store has not made.
#[tokio::test]
async fn a_commit_wakes_who_waits() {
    let directory = tempfile::tempdir().unwrap();
    let (store, pool) = open(&directory.path().join("shop.db")).await;
    let processor = Processor::over(store.clone());
    let waits = tokio::spawn(async move { processor.claim_wait(wish(), Duration::from_secs(20)).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut tx = pool.begin().await.unwrap();
    let made = store.enqueue_in(&mut tx, task()).await.unwrap();
    tx.commit().await.unwrap();
    let leases = waits.await.unwrap().unwrap();
    assert_eq!(leases[0].task.id, made.id);
}

/// A transaction that its owner forgets makes everybody wait once, not one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_transaction_keeps_nobody_long() {
    let directory = tempfile::tempdir().unwrap();
    let (store, pool) = open(&directory.path().join("shop.db")).await;
    let forgotten = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let writes = (0..8).map(|_| Op::Create(Box::new(task())).into()).collect();
    let began = std::time::Instant::now();
    let refused = store.apply(writes).await.unwrap();
    assert!(
        refused.iter().all(|one| matches!(one, Err(Error::Busy { .. }))),
        "{refused:?}"
    );
    // SQLite waits for five seconds, and would nine times.
    assert!(began.elapsed() < std::time::Duration::from_secs(25));
    forgotten.rollback().await.unwrap();
    Processor::over(store).create(task()).await.unwrap();
}

/// Transactions and the store write at the same time: every task of a commit is there, once, none of a rollback,
/// and the log tells of them in one row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_run_beside_the_store() {
    const EACH: usize = 25;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop.db");
    let (store, pool) = open(&path).await;
    let processor = Processor::over(store.clone());
    let mut writers = Vec::new();
    for n in 0..3 {
        let (store, pool) = (store.clone(), pool.clone());
        writers.push(tokio::spawn(async move {
            for round in 0..EACH {
                let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
                let new = task().with_payload(Json::Int((n * EACH + round) as i64));
                order(&mut tx, &new).await;
                store.enqueue_in(&mut tx, new).await.unwrap();
                if round % 5 == 4 {
                    tx.rollback().await.unwrap();
                } else {
                    tx.commit().await.unwrap();
                }
            }
        }));
    }
    let beside = processor.clone();
    writers.push(tokio::spawn(async move {
        for _ in 0..EACH {
            beside.create(task()).await.unwrap();
            for lease in beside.claim(wish()).await.unwrap() {
                beside.complete(lease.fence(), Json::Null).await.unwrap();
            }
        }
    }));
    for writer in writers {
        writer.await.unwrap();
    }
    let counts = processor.counts().await.unwrap();
    assert_eq!(counts.0.iter().sum::<u64>() as usize, EACH + 3 * EACH * 4 / 5);
    assert_eq!(orders(&pool).await as usize, 3 * EACH * 4 / 5);
    assert_sound(&path, &processor).await;
}

/// What was not committed when the connection was gone is not there, and the store goes on.
#[tokio::test]
async fn what_was_not_committed_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop.db");
    let (store, pool) = open(&path).await;
    let mut tx = pool.begin().await.unwrap();
    let lost = task();
    order(&mut tx, &lost).await;
    store.enqueue_in(&mut tx, lost.clone()).await.unwrap();
    drop(tx);
    pool.close().await;
    store.close().await;
    let (store, pool) = open(&path).await;
    let processor = Processor::over(store);
    assert!(processor.find(lost.id).await.unwrap().is_none());
    assert_eq!(orders(&pool).await, 0);
    processor.create(task()).await.unwrap();
    assert_sound(&path, &processor).await;
}

async fn postgres() -> Option<(TestDatabase, Arc<PostgresTaskStore>, PgPool)> {
    let database = TestDatabase::create().await?;
    let store = PostgresTaskStore::open(&database.url(), PostgresOptions::default())
        .await
        .unwrap();
    let pool = PgPool::connect(&database.url()).await.unwrap();
    let make = "CREATE TABLE task (id BYTEA NOT NULL)";
    sqlx::query(make).execute(&pool).await.unwrap();
    Some((database, Arc::new(store), pool))
}

/// On Postgres too, where the caller has a table of the same name in another schema: a commit makes both, a rollback
/// neither, a refusal leaves the transaction and its settings as they are, and whoever waits hears of the commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_comes_with_its_transaction_on_postgres() {
    let Some((database, store, pool)) = postgres().await else {
        return;
    };
    let processor = Processor::over(store.clone());
    let waiting = processor.clone();
    let waits = tokio::spawn(async move { waiting.claim_wait(wish(), Duration::from_secs(20)).await });
    let theirs = "INSERT INTO task VALUES ('x')";

    let (kept, undone) = (task().with_key("one"), task());
    let mut tx = pool.begin().await.unwrap();
    sqlx::query(theirs).execute(&mut *tx).await.unwrap();
    let made = store.enqueue_in(&mut tx, kept.clone()).await.unwrap();
    assert!(
        processor.find(kept.id).await.unwrap().is_none(),
        "nobody sees it yet"
    );
    let again = store.enqueue_in(&mut tx, task().with_key("one")).await.unwrap();
    assert_eq!(again, made);
    let refused = store
        .enqueue_in(
            &mut tx,
            NewTask {
                kind: "other".to_owned(),
                key: None,
                ..kept.clone()
            },
        )
        .await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    let path: String = sqlx::query_scalar("SHOW search_path")
        .fetch_one(&mut *tx)
        .await
        .unwrap();
    assert!(!path.contains("aion"), "{path}");
    sqlx::query(theirs).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let leases = waits.await.unwrap().unwrap();
    assert_eq!(leases[0].task.id, kept.id);

    let mut tx = pool.begin().await.unwrap();
    sqlx::query(theirs).execute(&mut *tx).await.unwrap();
    store.enqueue_in(&mut tx, undone.clone()).await.unwrap();
    let meanwhile = tokio::spawn({
        let processor = processor.clone();
        async move { processor.create(task()).await.unwrap().id }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    tx.rollback().await.unwrap();
    let meanwhile = meanwhile.await.unwrap();
    assert!(processor.find(undone.id).await.unwrap().is_none());
    assert_eq!(processor.get(meanwhile).await.unwrap().status, Status::Ready);
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM task")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(rows, 2);
    let log = processor.events(0, 100).await.unwrap().events;
    let seqs: Vec<_> = log.iter().map(|event| event.seq).collect();
    assert_eq!(
        seqs,
        (1..=5).collect::<Vec<_>>(),
        "no number was lost with the rollback"
    );
    pool.close().await;
    store.close().await;
    database.remove().await;
}
