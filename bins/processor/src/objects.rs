//! Objects: named context with a version, and calls that work on it.

use aion_processor::{Call, CallMode, Concurrency, Error, Expect, NewTask, Processor, PutObject};
use aion_service::{Json, Path, Problem, Query};
use aion_types::{Json as Value, TaskId, TaskRecord};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};

use crate::conditions::{Condition, tagged, versioned};
use crate::keys::{idempotency_key, same_task};
use crate::primitives::{name_query, next_name};
use crate::problem::{in_query, in_task, named};
use crate::tasks::at_least_one;
use crate::wire::{
    CallObject, GetObject, ListNames, ObjectHeadView, ObjectList, ObjectView, PutObjectBody, Task,
};

/// Writes a version of an object. `If-Match` with the `ETag` that was read makes it a compare-and-set, and
/// `If-None-Match: *` writes a new one only.
#[utoipa::path(
    put,
    path = "/v1/objects/{name}",
    operation_id = "put_object",
    tag = "objects",
    params(
        ("name" = String, Path, description = "Its name", min_length = 1, max_length = 128),
        ("if-match" = Option<String>, Header, description = "ETags of the versions that may be replaced, or * for any"),
        ("if-none-match" = Option<String>, Header, description = "* if the object must be new"),
    ),
    request_body = PutObjectBody,
    responses(
        (status = 200, description = "The object without its body; ETag is its version", body = ObjectHeadView),
        (status = 400, description = "A header does not parse", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such task", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The lease is lost", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The object is at another version", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn put_object(
    State(processor): State<Processor>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Json(object): Json<PutObjectBody>,
) -> Result<Response, Problem> {
    let expect = expect(&processor, &name, Condition::of(&headers)?).await?;
    let put = PutObject {
        fence: object.fence.map(Into::into),
        ..PutObject::new(name, object.body).with_expect(expect)
    };
    let head = processor.put_object(put).await.map_err(unexpected(expect))?;
    let version = head.version;
    let mut response = Json(ObjectHeadView::from(head)).into_response();
    tagged(&mut response, version);
    Ok(response)
}

/// The condition as the library checks it, in the same transaction as the write.
async fn expect(processor: &Processor, name: &str, condition: Condition) -> Result<Expect, Problem> {
    let versions = match condition {
        Condition::Nothing => return Ok(Expect::Any),
        Condition::Absent => return Ok(Expect::Absent),
        Condition::OneOf(versions) => Some(versions),
        Condition::Present => None,
    };
    if let Some([version]) = versions.as_deref() {
        return Ok(Expect::Version(*version));
    }
    let found = processor.object(name, None).await.map_err(in_query)?;
    let found = found.map(|object| object.version);
    let fits = |version: &u64| versions.as_ref().is_none_or(|wanted| wanted.contains(version));
    let version = found.filter(fits).ok_or_else(|| {
        Problem::precondition_failed("conflict", format!("the object {name} is not as If-Match says"))
    })?;
    Ok(Expect::Version(version))
}

/// What is a conflict by itself is a failed precondition if the client named one.
fn unexpected(expect: Expect) -> impl Fn(Error) -> Problem {
    move |error| match (&error, expect) {
        (Error::Conflict(_), Expect::Absent | Expect::Version(_)) => {
            Problem::precondition_failed(error.code(), error.to_string())
        }
        _ => named("name")(error),
    }
}

/// Gives an object, at its newest version or at one that is still kept. `ETag` is the version.
#[utoipa::path(
    get,
    path = "/v1/objects/{name}",
    operation_id = "get_object",
    tag = "objects",
    params(
        ("name" = String, Path, description = "Its name"),
        GetObject,
        ("if-none-match" = Option<String>, Header, description = "ETags of versions that the client has"),
    ),
    responses(
        (status = 200, description = "The object", body = ObjectView),
        (status = 304, description = "The client has it already"),
        (status = 404, description = "There is no such object, or it has no such version (any more)", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_object(
    State(processor): State<Processor>,
    Path(name): Path<String>,
    Query(wanted): Query<GetObject>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let found = processor
        .object(name.clone(), wanted.version)
        .await
        .map_err(in_query)?;
    let object = found.ok_or_else(|| in_query(unknown(name, wanted.version)))?;
    let version = object.version;
    Ok(versioned(version, &headers, Json(ObjectView::from(object))))
}

fn unknown(name: String, version: Option<u64>) -> Error {
    match version {
        None => Error::Unknown { what: "object", name },
        Some(version) => Error::Unknown {
            what: "object version",
            name: format!("{name}, version {version}"),
        },
    }
}

/// Lists objects by name.
#[utoipa::path(
    get,
    path = "/v1/objects",
    operation_id = "list_objects",
    tag = "objects",
    params(ListNames),
    responses(
        (status = 200, description = "A page of objects", body = ObjectList),
        (status = 422, description = "The limit is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_objects(
    State(processor): State<Processor>,
    Query(list): Query<ListNames>,
) -> Result<Json<ObjectList>, Problem> {
    let limit = at_least_one(list.limit)?;
    let found = processor.objects(name_query(list)).await.map_err(in_query)?;
    let objects: Vec<ObjectHeadView> = found.into_iter().map(Into::into).collect();
    let next = next_name(limit, &objects, |object| &object.name);
    Ok(Json(ObjectList { objects, next }))
}

/// Removes an object with all its versions.
#[utoipa::path(
    delete,
    path = "/v1/objects/{name}",
    operation_id = "delete_object",
    tag = "objects",
    params(
        ("name" = String, Path, description = "Its name"),
        ("if-match" = Option<String>, Header, description = "ETags of the versions that may be removed, or * for any"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 400, description = "A header does not parse", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such object", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The object is at another version", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete_object(
    State(processor): State<Processor>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let expect = expect(&processor, &name, Condition::of(&headers)?).await?;
    processor
        .drop_object(name, expect)
        .await
        .map_err(unexpected(expect))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Calls an object: creates a task that works on it, below the task that calls if one does.
#[utoipa::path(
    post,
    path = "/v1/objects/{name}/call",
    operation_id = "call_object",
    tag = "objects",
    params(
        ("name" = String, Path, description = "The object"),
        ("idempotency-key" = Option<String>, Header, description = "Makes a repeat harmless; refuses another body"),
    ),
    request_body = CallObject,
    responses(
        (status = 201, description = "The task, new or already there", body = Task),
        (status = 404, description = "There is no such object or task", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The object is at another version, the lease is lost, or the id is taken", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "A text is too long", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not valid, or the key was used for another body", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn call_object(
    State(processor): State<Processor>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Json(call): Json<CallObject>,
) -> Result<(StatusCode, Json<Task>), Problem> {
    let key = idempotency_key(&headers)?;
    let by_header = key.is_some() && call.task.key.is_none();
    let id = TaskId::generate(processor.now().await.map_err(in_query)?);
    let call = Call {
        object: name,
        version: call.version,
        mode: call.mode.into(),
        fence: call.fence.map(Into::into),
        task: call.task.into_new_task(id, key),
    };
    let made = processor.call(call.clone()).await.map_err(in_task)?;
    if by_header && made.id != id {
        same_task(&processor, &task_of(&call, &made), &made).await?;
    }
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// The task that the call would have made at the version of `made`, or at its own if it names one.
fn task_of(call: &Call, made: &TaskRecord) -> NewTask {
    let seen = made
        .payload
        .get("object")
        .and_then(|object| object.get("version"));
    let version = match call.version {
        Some(version) => i64::try_from(version).map_or(Value::Null, Value::Int),
        None => seen.cloned().unwrap_or_default(),
    };
    let object = Value::object([("name", Value::from(call.object.as_str())), ("version", version)]);
    let concurrency = match call.mode {
        CallMode::Exclusive => Some(Concurrency {
            key: format!("object:{}", call.object),
            max: 1,
        }),
        CallMode::Shared => call.task.concurrency.clone(),
    };
    NewTask {
        parent: call.fence.map(|fence| fence.task).or(call.task.parent),
        payload: Value::object([("object", object), ("input", call.task.payload.clone())]),
        concurrency,
        ..call.task.clone()
    }
}
