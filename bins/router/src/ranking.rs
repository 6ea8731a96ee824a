//! Shortlists, and what became of them.

use std::sync::PoisonError;

use aion_router::prompt::Listing;
use aion_router::{Item, Pick};
use aion_service::{Json, Path, Problem};
use aion_types::{DecisionId, TaskId};
use axum::extract::State;

use crate::problem::live;
use crate::service::{Parts, to_the_end};
use crate::wire::{DecisionView, GainView, OutcomeBody, RankBody, RankView};

/// Picks what belongs in the next step, within a budget of tokens, and says why.
///
/// The same question gives the same answer, but for what its steps took, until the catalog, or what was learned, changes.
#[utoipa::path(
    post,
    path = "/v1/rank",
    operation_id = "rank_items",
    tag = "ranking",
    request_body = RankBody,
    responses(
        (status = 200, description = "The shortlist", body = RankView),
        (status = 422, description = "The question is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The storage is not available", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn rank_items(
    State(parts): State<Parts>,
    Json(body): Json<RankBody>,
) -> Result<Json<RankView>, Problem> {
    let query = body.query()?;
    let (router, task) = (parts.router.clone(), query.task);
    let ranking = parts
        .beside(async move { router.rank(&query).await })
        .await?
        .map_err(live)?;
    metrics::counter!("aion_router_decisions_total").increment(1);
    metrics::counter!("aion_router_saved_tokens_total").increment(ranking.shortlist.saved_tokens);
    let view = parts.router.read(|engine| {
        let catalog = engine.catalog();
        let listing = Listing::of(&ranking.shortlist, catalog);
        let shared = shared_bytes(&parts, task, &listing.text());
        let shown = |pick: &Pick| {
            let renderings = catalog.get(&pick.item).map(Item::renderings).unwrap_or_default();
            renderings
                .get(pick.rendering)
                .map(|rendering| rendering.text.clone())
                .unwrap_or_default()
        };
        RankView::new(ranking, listing, shared, shown)
    });
    Ok(Json(view))
}

/// What a prompt's list shares with the one before of the same task.
fn shared_bytes(parts: &Parts, task: Option<TaskId>, prompt: &str) -> Option<usize> {
    let mut prompts = parts.prompts.lock().unwrap_or_else(PoisonError::into_inner);
    let shared = prompts.follow(task, prompt)?;
    metrics::counter!("aion_router_prompt_bytes_total").increment(prompt.len() as u64);
    metrics::counter!("aion_router_shared_prompt_bytes_total").increment(shared as u64);
    Some(shared)
}

/// Gives a decision whose outcome is not known yet, with everything that it looked at.
#[utoipa::path(
    get,
    path = "/v1/decisions/{decision_id}",
    operation_id = "explain_decision",
    tag = "ranking",
    params(("decision_id" = String, Path, description = "The decision", format = "uuid")),
    responses(
        (status = 200, description = "The decision", body = DecisionView),
        (status = 404, description = "There is no such decision, or its outcome is known", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn explain_decision(
    State(parts): State<Parts>,
    Path(id): Path<DecisionId>,
) -> Result<Json<DecisionView>, Problem> {
    let found = parts
        .router
        .read(|engine| engine.explain(id).map(DecisionView::from));
    found.map(Json).ok_or_else(|| {
        let detail = format!("no decision {id} waits for its outcome");
        Problem::not_found("unknown_decision", detail)
    })
}

/// Tells what became of a decision, once; the bits gained over the order without learning.
#[utoipa::path(
    post,
    path = "/v1/decisions/{decision_id}/outcome",
    operation_id = "record_outcome",
    tag = "ranking",
    params(("decision_id" = String, Path, description = "The decision", format = "uuid")),
    request_body = OutcomeBody,
    responses(
        (status = 200, description = "What it was worth", body = GainView),
        (status = 404, description = "There is no such decision", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Its outcome is known already", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The outcome is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The storage is not available", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn record_outcome(
    State(parts): State<Parts>,
    Path(id): Path<DecisionId>,
    Json(body): Json<OutcomeBody>,
) -> Result<Json<GainView>, Problem> {
    let (router, outcome) = (parts.router.clone(), body.outcome()?);
    let recorded = to_the_end(async move { router.record(id, outcome).await }).await?;
    let gain = recorded.map_err(live)?;
    metrics::counter!("aion_router_outcomes_total").increment(1);
    Ok(Json(gain.into()))
}
