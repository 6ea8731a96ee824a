//! How large and how old the store is: as JSON, and as gauges for Prometheus.

use aion_processor::{Metrics, Processor, StatusCounts};
use aion_service::{Json, Problem};
use aion_types::{Status, Timestamp};
use axum::extract::State;
use metrics::{describe_gauge, gauge};

use crate::problem::in_query;
use crate::wire::StoreMetrics;

const TASKS: &str = "aion_processor_tasks";
const OLDEST: &str = "aion_processor_oldest_task_age_seconds";
const OLDEST_EVENT: &str = "aion_processor_oldest_event_age_seconds";
const BYTES: &str = "aion_processor_database_bytes";
const FREE_BYTES: &str = "aion_processor_database_free_bytes";
const LAST_SEQ: &str = "aion_processor_last_event_seq";
const FULL: &str = "aion_processor_storage_full";

/// Tells how large and how old the store is, and how many tasks are in each status.
#[utoipa::path(
    get,
    path = "/v1/metrics",
    operation_id = "get_store_metrics",
    tag = "trees",
    responses((status = 200, description = "Sizes, counts and ages", body = StoreMetrics)),
)]
pub(crate) async fn get_store_metrics(
    State(processor): State<Processor>,
) -> Result<Json<StoreMetrics>, Problem> {
    let metrics = processor.metrics().await.map_err(in_query)?;
    let counts = processor.counts().await.map_err(in_query)?;
    Ok(Json(StoreMetrics::of(&metrics, &counts)))
}

/// Says what the gauges mean; needs the recorder of the process.
fn describe() {
    describe_gauge!(TASKS, "Tasks by status.");
    describe_gauge!(
        OLDEST,
        "Seconds since the oldest task of a status was created; 0 without one."
    );
    describe_gauge!(OLDEST_EVENT, "Seconds since the oldest event that is kept.");
    describe_gauge!(BYTES, "Bytes that the database takes.");
    describe_gauge!(
        FREE_BYTES,
        "Bytes within the database that are free to be used again."
    );
    describe_gauge!(LAST_SEQ, "Number of the last event.");
    describe_gauge!(FULL, "1 while the storage has no room and nothing is claimed.");
}

/// Brings the gauges of the process up to date.
pub(crate) async fn measure(processor: &Processor) -> aion_processor::Result<()> {
    let (metrics, counts) = (processor.metrics().await?, processor.counts().await?);
    let now = processor.now().await?;
    describe();
    show(&metrics, &counts, now);
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
fn show(metrics: &Metrics, counts: &StatusCounts, now: Timestamp) {
    let age = |since: Option<Timestamp>| {
        since.map_or(0.0, |since| (now.as_ms() - since.as_ms()).max(0) as f64 / 1_000.0)
    };
    for status in Status::ALL {
        gauge!(TASKS, "status" => status.as_str()).set(counts.of(status) as f64);
        gauge!(OLDEST, "status" => status.as_str()).set(age(metrics.oldest[status as usize]));
    }
    gauge!(OLDEST_EVENT).set(age(metrics.oldest_event));
    gauge!(BYTES).set(metrics.bytes as f64);
    if let Some(free) = metrics.free_bytes {
        gauge!(FREE_BYTES).set(free as f64);
    }
    gauge!(LAST_SEQ).set(metrics.last_seq as f64);
    gauge!(FULL).set(f64::from(u8::from(metrics.full)));
}
