//! A task that comes with your own rows or not at all: `cargo run -p aion-examples --example enqueue_in_transaction`
//!
//! Expect: an order and its task are committed together and the task runs; an order that is taken back leaves no task
//! behind. The same on Postgres if `AION_TEST_POSTGRES` is the URL of a server where databases may be created.
#![allow(clippy::print_stdout)]

use std::sync::Arc;

use aion_processor::worker::{Ctx, Worker};
use aion_processor::{
    NewTask, PostgresOptions, PostgresTaskStore, Processor, SqliteOptions, SqliteTaskStore,
};
use aion_sql::testkit::{TestDatabase, VARIABLE};
use aion_types::{Clock, SystemClock, TaskId};
use sqlx::{PgPool, SqlitePool};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn ship(item: &str) -> NewTask {
    let id = TaskId::generate(SystemClock.now());
    NewTask::new(id, "ship", format!("Ship {item}")).with_payload(item.into())
}

/// Runs until `task` has ended, and says how.
async fn work(processor: &Processor, task: TaskId) -> Result<()> {
    let shipped = async {
        // An error ends the wait, and shows when the task is read.
        let _ = processor.wait_for(task).await;
    };
    Worker::new(processor)
        .handle("ship", |_: Ctx, item: String| async move {
            Ok(format!("{item} is on its way"))
        })
        .run(shipped)
        .await?;
    let task = processor.get(task).await?;
    println!("  {}: {}", task.status, serde_json::to_string(&task.result)?);
    Ok(())
}

async fn on_sqlite() -> Result<()> {
    println!("SQLite");
    let directory = tempfile::tempdir()?;
    let store = SqliteTaskStore::open(directory.path().join("shop.db"), SqliteOptions::default()).await?;
    let store = Arc::new(store);
    // Tables of your own lie in the same file, and this process opens it.
    let pool = SqlitePool::connect_with(store.connect_options()).await?;
    sqlx::query("CREATE TABLE app_order (item TEXT NOT NULL)")
        .execute(&pool)
        .await?;
    let processor = Processor::over(store.clone());

    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query("INSERT INTO app_order VALUES ('a teapot')")
        .execute(&mut *tx)
        .await?;
    let kept = store.enqueue_in(&mut tx, ship("a teapot")).await?;
    println!(
        "  before the commit: {:?}",
        processor.find(kept.id).await?.map(|task| task.status)
    );
    tx.commit().await?;

    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query("INSERT INTO app_order VALUES ('a mistake')")
        .execute(&mut *tx)
        .await?;
    let undone = store.enqueue_in(&mut tx, ship("a mistake")).await?;
    tx.rollback().await?;
    println!(
        "  taken back: {:?}",
        processor.find(undone.id).await?.map(|task| task.status)
    );
    work(&processor, kept.id).await
}

async fn on_postgres(database: &TestDatabase) -> Result<()> {
    println!("Postgres");
    let store = Arc::new(PostgresTaskStore::open(&database.url(), PostgresOptions::default()).await?);
    let pool = PgPool::connect(&database.url()).await?;
    sqlx::query("CREATE TABLE orders (item TEXT NOT NULL)")
        .execute(&pool)
        .await?;
    let processor = Processor::over(store.clone());

    let mut tx = pool.begin().await?;
    sqlx::query("INSERT INTO orders VALUES ('a teapot')")
        .execute(&mut *tx)
        .await?;
    // Last, for from here on other writers of tasks wait for the commit.
    let kept = store.enqueue_in(&mut tx, ship("a teapot")).await?;
    tx.commit().await?;
    work(&processor, kept.id).await?;
    store.close().await;
    pool.close().await;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    on_sqlite().await?;
    if std::env::var(VARIABLE).is_ok_and(|url| url != "skip")
        && let Some(database) = TestDatabase::create().await
    {
        let done = on_postgres(&database).await;
        database.remove().await;
        done?;
    }
    Ok(())
}
