//! apalis-sqlite: one worker that runs so many jobs at once, WAL and synchronous = NORMAL.

use std::sync::Arc;
use std::time::{Duration, Instant};

use apalis::layers::WorkerBuilderExt;
use apalis::prelude::{Data, TaskSink, WorkerBuilder};
use apalis_sqlite::{Config, SqlitePool, SqliteStorage};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::{Ran, Request, Result, Seen};

/// Jobs that a worker fetches at once.
const BATCH: usize = 500;

pub(super) async fn run(request: &Request) -> Result<Ran> {
    let options = SqliteConnectOptions::new()
        .filename(request.dir.join("apalis.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(Duration::from_secs(60));
    // Setting up turns `synchronous` off, but only on the connection that it uses.
    let first = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(options.clone())
        .await?;
    SqliteStorage::setup(&first).await?;
    first.close().await;
    let pool = SqlitePoolOptions::new()
        .max_connections(8)
        .connect_with(options)
        .await?;
    let config = Config::default().queue("jobs").batch_size(BATCH);
    let mut storage = SqliteStorage::<String>::new(&pool).with_config(config);
    for _ in 0..request.jobs.div_ceil(1_000) {
        storage
            .push_bulk(vec![request.text(); 1_000.min(request.jobs)])
            .await?;
    }
    work(request, storage, &pool).await
}

async fn work(request: &Request, storage: SqliteStorage<String>, pool: &SqlitePool) -> Result<Ran> {
    let seen = Arc::new(Seen::default());
    let started = Instant::now();
    let worker = WorkerBuilder::new("peer")
        .backend(storage)
        .data(seen.clone())
        .concurrency(request.workers)
        .build(|text: String, seen: Data<Arc<Seen>>| async move { seen.add(text.len()) });
    let running = tokio::spawn(worker.run());
    let mut done = 0;
    while done < request.jobs && !request.is_over(started) {
        tokio::time::sleep(Duration::from_millis(if seen.jobs() < request.jobs {
            50
        } else {
            5
        }))
        .await;
        if seen.jobs() >= request.jobs || request.is_over(started) {
            done = completed(pool).await?;
        }
    }
    let took = started.elapsed();
    running.abort();
    drop(running.await);
    Ok(seen.ran(format!("apalis-sqlite 1.0.0, batch {BATCH}"), done, took))
}

async fn completed(pool: &SqlitePool) -> Result<usize> {
    let done: i64 = sqlx::query_scalar("SELECT count(*) FROM Jobs WHERE status = 'Done'")
        .fetch_one(pool)
        .await?;
    Ok(usize::try_from(done)?)
}
