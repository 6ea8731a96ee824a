//! Schedules, and shares of queues.

use aion_processor::{Error, Processor};
use aion_service::{Json, Path, Problem, Query};
use axum::extract::State;
use http::StatusCode;

use crate::primitives::{name_query, next_name};
use crate::problem::{in_query, in_task, named};
use crate::tasks::at_least_one;
use crate::wire::{ListNames, PutSchedule, QueueWeight, ScheduleList, ScheduleView};

/// Puts or replaces a schedule: a task that is made again and again, by cron.
#[utoipa::path(
    put,
    path = "/v1/schedules/{name}",
    operation_id = "put_schedule",
    tag = "schedules",
    params(("name" = String, Path, description = "Its name", min_length = 1, max_length = 128)),
    request_body = PutSchedule,
    responses(
        (status = 200, description = "The schedule with its next time", body = ScheduleView),
        (status = 413, description = "A text is too long", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The pattern, the zone or another value is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn put_schedule(
    State(processor): State<Processor>,
    Path(name): Path<String>,
    Json(schedule): Json<PutSchedule>,
) -> Result<Json<ScheduleView>, Problem> {
    let schedule = schedule.into_schedule(name);
    let schedule = processor.put_schedule(schedule).await.map_err(in_task)?;
    Ok(Json(schedule.into()))
}

/// Gives a schedule as it stands.
#[utoipa::path(
    get,
    path = "/v1/schedules/{name}",
    operation_id = "get_schedule",
    tag = "schedules",
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "The schedule", body = ScheduleView),
        (status = 404, description = "There is no such schedule", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_schedule(
    State(processor): State<Processor>,
    Path(name): Path<String>,
) -> Result<Json<ScheduleView>, Problem> {
    let found = processor.schedule(name.clone()).await.map_err(in_query)?;
    let schedule = found.ok_or_else(|| {
        in_query(Error::Unknown {
            what: "schedule",
            name,
        })
    })?;
    Ok(Json(schedule.into()))
}

/// Lists schedules by name.
#[utoipa::path(
    get,
    path = "/v1/schedules",
    operation_id = "list_schedules",
    tag = "schedules",
    params(ListNames),
    responses(
        (status = 200, description = "A page of schedules", body = ScheduleList),
        (status = 422, description = "The limit is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_schedules(
    State(processor): State<Processor>,
    Query(list): Query<ListNames>,
) -> Result<Json<ScheduleList>, Problem> {
    let limit = at_least_one(list.limit)?;
    let found = processor.schedules(name_query(list)).await.map_err(in_query)?;
    let schedules: Vec<ScheduleView> = found.into_iter().map(Into::into).collect();
    let next = next_name(limit, &schedules, |schedule| &schedule.name);
    Ok(Json(ScheduleList { schedules, next }))
}

/// Removes a schedule, if it is there; the tasks that it made stay.
#[utoipa::path(
    delete,
    path = "/v1/schedules/{name}",
    operation_id = "delete_schedule",
    tag = "schedules",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 204, description = "It is not there (any more)")),
)]
pub(crate) async fn delete_schedule(
    State(processor): State<Processor>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    processor.drop_schedule(name).await.map_err(in_query)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sets how much of the work a queue gets when claims share fairly.
#[utoipa::path(
    put,
    path = "/v1/queues/{queue}/weight",
    operation_id = "weigh_queue",
    tag = "schedules",
    params(("queue" = String, Path, description = "The queue", min_length = 1, max_length = 128)),
    request_body = QueueWeight,
    responses(
        (status = 200, description = "The weight", body = QueueWeight),
        (status = 422, description = "The weight is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn weigh_queue(
    State(processor): State<Processor>,
    Path(queue): Path<String>,
    Json(weight): Json<QueueWeight>,
) -> Result<Json<QueueWeight>, Problem> {
    processor
        .weigh(queue, weight.weight)
        .await
        .map_err(named("queue"))?;
    Ok(Json(weight))
}
