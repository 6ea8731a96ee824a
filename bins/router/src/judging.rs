//! What another policy would have been worth.

use aion_router::ope::{Logged, OpeOptions, evaluate};
use aion_service::{Json, Problem};
use axum::extract::State;

use crate::problem::live;
use crate::service::Parts;
use crate::wire::{EstimateView, EvaluateBody};

/// The most decisions of one evaluation.
const MAX_DECISIONS: usize = 100_000;

/// Estimates what another policy would have been worth, from what was left to chance; says so when it cannot know.
#[utoipa::path(
    post,
    path = "/v1/evaluate",
    operation_id = "evaluate_policy",
    tag = "ranking",
    request_body = EvaluateBody,
    responses(
        (status = 200, description = "The estimates", body = EstimateView),
        (status = 409, description = "These decisions cannot tell", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The question is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The storage is not available", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn evaluate_policy(
    State(parts): State<Parts>,
    Json(body): Json<EvaluateBody>,
) -> Result<Json<EstimateView>, Problem> {
    let options = options(&body)?;
    let estimate = match (body.policy, body.decisions) {
        (Some(policy), None) => {
            check_number(body.last, "/last")?;
            let router = parts.router.clone();
            let of_log = async move { router.evaluate(policy.into(), body.last, &options).await };
            parts.beside(of_log).await?.map_err(live)?
        }
        (None, Some(decisions)) => {
            check_number(decisions.len(), "/decisions")?;
            let log: Vec<Logged> = decisions.into_iter().map(Into::into).collect();
            evaluate(&log, &options).map_err(|error| live(error.into()))?
        }
        _ => {
            let detail = "either policy or decisions is needed";
            return Err(Problem::unprocessable("invalid", detail).at("/policy"));
        }
    };
    Ok(Json(estimate.into()))
}

fn check_number(decisions: usize, pointer: &str) -> Result<(), Problem> {
    if (1..=MAX_DECISIONS).contains(&decisions) {
        return Ok(());
    }
    let detail = format!("an evaluation has 1 to {MAX_DECISIONS} decisions");
    Err(Problem::unprocessable("over_limit", detail).at(pointer))
}

fn options(body: &EvaluateBody) -> Result<OpeOptions, Problem> {
    for (value, pointer) in [
        (body.min_effective, "/min_effective"),
        (body.max_weight, "/max_weight"),
    ] {
        if !(value.is_finite() && value >= 1.0) {
            return Err(Problem::unprocessable("invalid", "it must be at least 1").at(pointer));
        }
    }
    Ok(OpeOptions::default()
        .with_min_effective(body.min_effective)
        .with_max_weight(body.max_weight))
}
