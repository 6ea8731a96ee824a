//! Whole trees that have ended: listed, removed, kept in an archive.

use aion_processor::{EndedQuery, Error, Page, Processor, Query as Question, TaskQuery};
use aion_service::{Json, Path, Problem, Query};
use aion_types::{Status, TaskId, TaskRecord, Timestamp};
use axum::extract::State;

use crate::archive::Archive;
use crate::problem::{in_body, in_query};
use crate::tasks::at_least_one;
use crate::wire::{KeepChoice, ListEndedRoots, Removed, RetireTrees, Retired, RootCursor, TaskList};

/// Lists roots that have ended, the longest ago first: what is there to be removed.
#[utoipa::path(
    get,
    path = "/v1/ended-roots",
    operation_id = "list_ended_roots",
    tag = "trees",
    params(ListEndedRoots),
    responses(
        (status = 200, description = "A page of roots", body = TaskList),
        (status = 422, description = "A cursor, moment or limit is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_ended_roots(
    State(processor): State<Processor>,
    Query(list): Query<ListEndedRoots>,
) -> Result<Json<TaskList>, Problem> {
    let limit = at_least_one(list.limit)?;
    let before = match list.before {
        Some(before) if before < 0 => {
            return Err(Problem::unprocessable("invalid", "before lies before 1970").at("query:before"));
        }
        Some(before) => Timestamp::from_ms(before),
        None => processor.now().await.map_err(in_query)?,
    };
    let after = list.cursor.map(|text| text.parse()).transpose()?;
    let query = EndedQuery {
        before,
        after: after.map(|RootCursor(at, id)| (at, id)),
        limit,
    };
    let roots = ended_roots(&processor, query).await?;
    let last = roots.last().filter(|_| roots.len() >= limit as usize);
    let next = last.and_then(RootCursor::of).map(|cursor| cursor.to_string());
    let tasks = roots.into_iter().map(Into::into).collect();
    Ok(Json(TaskList { tasks, next }))
}

pub(crate) async fn ended_roots(
    processor: &Processor,
    query: EndedQuery,
) -> Result<Vec<TaskRecord>, Problem> {
    match processor.store().read(Question::EndedRoots(query)).await {
        Ok(Page::Tasks(page)) => Ok(page.tasks),
        Ok(_) => Err(Problem::internal("the store answered another question")),
        Err(error) => Err(in_query(error)),
    }
}

/// Removes a tree that has ended as a whole, with its messages and events. Export it before if it is to be kept.
#[utoipa::path(
    delete,
    path = "/v1/tasks/{task_id}",
    operation_id = "purge_tree",
    tag = "trees",
    params(("task_id" = String, Path, description = "The root of the tree", format = "uuid")),
    responses(
        (status = 200, description = "How many tasks are gone", body = Removed),
        (status = 404, description = "There is no such task", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "A task of the tree has not ended", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The task is no root", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn purge_tree(
    State(processor): State<Processor>,
    Path(task_id): Path<TaskId>,
) -> Result<Json<Removed>, Problem> {
    let tasks = processor.purge(task_id).await.map_err(in_path)?;
    Ok(Json(Removed { tasks }))
}

fn in_path(error: Error) -> Problem {
    match &error {
        Error::Invalid { .. } => Problem::unprocessable(error.code(), error.to_string()).at("path:task_id"),
        _ => in_query(error),
    }
}

/// What retiring needs.
#[derive(Debug, Clone)]
pub(crate) struct Retiring {
    pub(crate) processor: Processor,
    pub(crate) archive: Option<Archive>,
}

/// Removes trees whose roots ended before a moment and of which no task is open, the longest ago first; on demand each
/// is written to the archive of the server before.
#[utoipa::path(
    post,
    path = "/v1/retire",
    operation_id = "retire_trees",
    tag = "trees",
    request_body = RetireTrees,
    responses(
        (status = 200, description = "How many trees are gone", body = Retired),
        (status = 409, description = "The server has no archive", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "The archive is full", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn retire_trees(
    State(retiring): State<Retiring>,
    Json(retire): Json<RetireTrees>,
) -> Result<Json<Retired>, Problem> {
    check(&retire)?;
    let archive = match retire.keep {
        KeepChoice::Nothing => None,
        KeepChoice::Archive => Some(retiring.archive.ok_or_else(no_archive)?),
    };
    let before = Timestamp::from_ms(retire.before);
    let retired = remove_ended(&retiring.processor, before, retire.max, archive.as_ref()).await?;
    Ok(Json(retired))
}

/// Removes at most `max` trees whose roots ended before a moment, the longest ago first.
pub(crate) async fn remove_ended(
    processor: &Processor,
    before: Timestamp,
    max: u32,
    archive: Option<&Archive>,
) -> Result<Retired, Problem> {
    let mut query = EndedQuery {
        before,
        after: None,
        limit: 0,
    };
    let mut trees = 0;
    loop {
        let roots = ended_roots(processor, query.clone()).await?;
        let Some(last) = roots.last() else {
            return Ok(Retired { trees, more: false });
        };
        query.after = last.finished_at.map(|at| (at, last.id));
        for root in &roots {
            if trees == u64::from(max) {
                return Ok(Retired { trees, more: true });
            }
            trees += u64::from(remove(processor, root, archive).await?);
        }
    }
}

/// Whether the tree was over and is gone.
async fn remove(
    processor: &Processor,
    root: &TaskRecord,
    archive: Option<&Archive>,
) -> Result<bool, Problem> {
    let open = Status::ALL.into_iter().filter(|status| !status.is_terminal());
    let open = TaskQuery::new()
        .with_root(root.id)
        .with_statuses(open.collect::<Vec<_>>())
        .with_limit(1);
    if !processor.tasks(open).await.map_err(in_body)?.tasks.is_empty() {
        return Ok(false);
    }
    let _turn = match archive {
        Some(archive) => {
            let turn = archive.turn().await;
            if processor.find(root.id).await.map_err(in_body)?.is_none()
                || !archive.keep(processor, root).await?
            {
                return Ok(false);
            }
            Some(turn)
        }
        None => None,
    };
    match processor.purge_unchanged(root).await {
        // Somebody else removes it at the same time.
        Ok(_) | Err(Error::NotFound(_)) => Ok(true),
        // Something came into it, or somebody else has begun to remove it.
        Err(Error::Conflict(_)) => Ok(false),
        Err(error) => Err(in_body(error)),
    }
}

fn check(retire: &RetireTrees) -> Result<(), Problem> {
    if retire.before < 0 {
        return Err(Problem::unprocessable("invalid", "before lies before 1970").at("/before"));
    }
    if !(1..=1_000).contains(&retire.max) {
        return Err(Problem::unprocessable("invalid", "max must lie in 1..1000").at("/max"));
    }
    Ok(())
}

fn no_archive() -> Problem {
    let detail = "the server was started without a folder for archives";
    Problem::conflict("no_archive", detail).at("/keep")
}
