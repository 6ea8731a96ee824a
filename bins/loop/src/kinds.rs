//! Operations on types of agent.

use aion_loop::AgentType;
use aion_service::{Json, Path, Problem, Query};
use aion_types::AgentId;
use axum::extract::State;

use crate::Runner;
use crate::problem::{of_loop, of_store};
use crate::wire::{AgentTypeBody, AgentTypeList, ListAgentTypes};

/// Writes a type of agent, new or not. Runs that go on keep what they started with.
#[utoipa::path(
    post,
    path = "/v1/agent-types",
    operation_id = "put_agent_type",
    tag = "agent types",
    request_body = AgentTypeBody,
    responses(
        (status = 200, description = "The type as it is stored", body = AgentTypeBody),
        (status = 422, description = "A value is not valid, or a tool does not exist", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn put_agent_type(
    State(runner): State<Runner>,
    Json(body): Json<AgentTypeBody>,
) -> Result<Json<AgentTypeBody>, Problem> {
    check(&body)?;
    let kind = AgentType::from(body);
    kind.toolset(runner.services().tools()).map_err(of_loop)?;
    runner.store().save_agent_type(&kind).await.map_err(of_store)?;
    Ok(Json(kind.into()))
}

fn check(body: &AgentTypeBody) -> Result<(), Problem> {
    let out = |place: &str, detail: &str| Err(Problem::unprocessable("out_of_range", detail).at(place));
    if !(1..=10_000).contains(&body.steps) {
        return out("/steps", "steps must lie in 1..=10000");
    }
    if body.tokens == 0 {
        return out("/tokens", "tokens must be at least 1");
    }
    if body.seconds == 0 {
        return out("/seconds", "seconds must be at least 1");
    }
    if body.system.len() > 16 << 10 {
        return out("/system", "the system prompt has at most 16 KiB");
    }
    if body.shortlist.is_some_and(|k| k > 64) {
        return out("/shortlist", "the shortlist has at most 64 tools");
    }
    Ok(())
}

/// Reads a type of agent.
#[utoipa::path(
    get,
    path = "/v1/agent-types/{agent}",
    operation_id = "get_agent_type",
    tag = "agent types",
    params(("agent" = String, Path, description = "Name of the type")),
    responses(
        (status = 200, description = "The type", body = AgentTypeBody),
        (status = 404, description = "There is no such type", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_agent_type(
    State(runner): State<Runner>,
    Path(agent): Path<AgentId>,
) -> Result<Json<AgentTypeBody>, Problem> {
    let found = runner.store().agent_type(&agent).await.map_err(of_store)?;
    let kind = found.ok_or_else(|| {
        Problem::not_found("unknown_agent_type", format!("there is no type of agent {agent}"))
    })?;
    Ok(Json(kind.into()))
}

/// Lists types of agent by name.
#[utoipa::path(
    get,
    path = "/v1/agent-types",
    operation_id = "list_agent_types",
    tag = "agent types",
    params(ListAgentTypes),
    responses((status = 200, description = "A page of types", body = AgentTypeList)),
)]
pub(crate) async fn list_agent_types(
    State(runner): State<Runner>,
    Query(list): Query<ListAgentTypes>,
) -> Result<Json<AgentTypeList>, Problem> {
    let limit = page_limit(list.limit)?;
    let kinds = runner
        .store()
        .agent_types(list.after.as_ref(), limit)
        .await
        .map_err(of_store)?;
    let agent_types = kinds.into_iter().map(Into::into).collect();
    Ok(Json(AgentTypeList { agent_types }))
}

/// A limit of a page within its range.
pub(crate) fn page_limit(limit: u32) -> Result<u32, Problem> {
    if (1..=200).contains(&limit) {
        Ok(limit)
    } else {
        Err(Problem::unprocessable("out_of_range", "limit must lie in 1..=200").at("query:limit"))
    }
}
