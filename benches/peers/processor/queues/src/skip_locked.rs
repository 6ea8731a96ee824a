//! The queue that people write themselves: `FOR UPDATE SKIP LOCKED`, a connection and two commits a job for each worker,
//! with a fence but without a log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use super::{Ran, Request, Result, Seen};

const TABLE: &str = "CREATE TABLE job (id BIGINT PRIMARY KEY, status INT NOT NULL, epoch BIGINT NOT NULL, payload TEXT NOT NULL)";
const INDEX: &str = "CREATE INDEX job_ready ON job (id) WHERE status = 0";
const FILL: &str = "INSERT INTO job SELECT id, 0, 0, $2 FROM generate_series(1, $1) AS id";
const CLAIM: &str = "UPDATE job SET status = 1, epoch = epoch + 1 WHERE id = (SELECT id FROM job WHERE status = 0 \
     ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id, epoch, payload";
const COMPLETE: &str = "UPDATE job SET status = 2 WHERE id = $1 AND epoch = $2 AND status = 1";

pub(super) async fn run(request: &Request) -> Result<Ran> {
    let connections = u32::try_from(request.workers)?;
    let pool = PgPoolOptions::new()
        .min_connections(connections)
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(60))
        .connect(request.database()?)
        .await?;
    sqlx::query(TABLE).execute(&pool).await?;
    sqlx::query(INDEX).execute(&pool).await?;
    let jobs = i64::try_from(request.jobs)?;
    sqlx::query(FILL)
        .bind(jobs)
        .bind(request.text())
        .execute(&pool)
        .await?;
    sqlx::query("ANALYZE job").execute(&pool).await?;
    let seen = Arc::new(Seen::default());
    let started = Instant::now();
    let workers: Vec<_> = (0..request.workers)
        .map(|_| tokio::spawn(worker(pool.clone(), seen.clone(), request.clone(), started)))
        .collect();
    for worker in workers {
        worker.await??;
    }
    let took = started.elapsed();
    let done: i64 = sqlx::query_scalar("SELECT count(*) FROM job WHERE status = 2")
        .fetch_one(&pool)
        .await?;
    let label = format!("SKIP LOCKED by hand, {connections} workers, no log");
    Ok(seen.ran(label, usize::try_from(done)?, took))
}

async fn worker(pool: PgPool, seen: Arc<Seen>, request: Request, started: Instant) -> Result<()> {
    let mut conn = pool.acquire().await?;
    while !request.is_over(started) {
        let claimed: Option<(i64, i64, String)> = sqlx::query_as(CLAIM).fetch_optional(&mut *conn).await?;
        let Some((id, epoch, payload)) = claimed else {
            break;
        };
        seen.add(payload.len());
        let done = sqlx::query(COMPLETE)
            .bind(id)
            .bind(epoch)
            .execute(&mut *conn)
            .await?;
        if done.rows_affected() != 1 {
            return Err("a job was lost".into());
        }
    }
    Ok(())
}
