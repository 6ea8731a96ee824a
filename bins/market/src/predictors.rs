//! Who forecasts on behalf of the service, and markets that deserve a look.

use aion_market::alarm::AlarmOptions;
use aion_market::{Market, MarketFilter};
use aion_service::{Json, Path, Problem, Query};
use aion_types::ForecasterId;
use axum::extract::State;

use crate::Hooks;
use crate::markets::page;
use crate::problem::{in_body, invalid};
use crate::wire::following::{
    AlarmList, AlarmsOf, MarketAlarms, PredictorList, PredictorView, TrainBody, Trained,
};

/// The most ended tasks that one training goes back.
const MAX_TRAINED: usize = 10_000;

/// Lists the predictors of the service, with how they have done since it started.
#[utoipa::path(
    get,
    path = "/v1/predictors",
    operation_id = "list_predictors",
    tag = "predictors",
    responses((status = 200, description = "The predictors; none if the service follows no processor", body = PredictorList)),
)]
pub(crate) async fn list_predictors(State(hooks): State<Hooks>) -> Json<PredictorList> {
    let mut predictors = Vec::new();
    if let Some(follower) = &hooks.follower {
        let health = follower.observer().health();
        for predictor in follower.predictors() {
            let of = health.get(predictor.id()).cloned().unwrap_or_default();
            predictors.push(PredictorView::new(predictor.as_ref(), of));
        }
    }
    Json(PredictorList { predictors })
}

/// Lets a predictor learn from tasks that ended. What it has learned already it does not learn again, and
/// no forecast that was made before changes.
#[utoipa::path(
    post,
    path = "/v1/predictors/{predictor}/train",
    operation_id = "train_predictor",
    tag = "predictors",
    params(("predictor" = String, Path, description = "The predictor, as it is listed")),
    request_body = TrainBody,
    responses(
        (status = 200, description = "It has learned", body = Trained),
        (status = 404, description = "There is no such predictor", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The tasks cannot be read now", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn train_predictor(
    State(hooks): State<Hooks>,
    Path(id): Path<ForecasterId>,
    Json(body): Json<TrainBody>,
) -> Result<Json<Trained>, Problem> {
    if !(1..=MAX_TRAINED).contains(&body.markets) {
        return Err(invalid(
            "/markets",
            format!("markets must be in [1, {MAX_TRAINED}]"),
        ));
    }
    let unknown = || Problem::not_found("unknown_predictor", format!("there is no predictor {id}"));
    let follower = hooks.follower.as_ref().ok_or_else(unknown)?;
    let trained = follower
        .train(&id, body.markets)
        .await
        .map_err(|error| match error {
            aion_market::Error::Feed(_) => {
                tracing::warn!(%error, "a predictor could not be trained");
                Problem::conflict("feed_away", "the processor cannot be read now").retry_after(5)
            }
            other => in_body(other),
        })?;
    let markets = trained.ok_or_else(unknown)? as u64;
    Ok(Json(Trained {
        predictor: id,
        markets,
    }))
}

/// Lists markets that deserve a look: undecided for long, at odds with the persistence of their task, or
/// sure of what did not happen. A page looks at 1,000 markets at most, so that one with none of them may come
/// before others.
#[utoipa::path(
    get,
    path = "/v1/alarms",
    operation_id = "list_alarms",
    tag = "markets",
    params(AlarmsOf),
    responses(
        (status = 200, description = "The newest id first", body = AlarmList),
        (status = 422, description = "The limit is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_alarms(
    State(market): State<Market>,
    Query(of): Query<AlarmsOf>,
) -> Result<Json<AlarmList>, Problem> {
    let limit = page(of.limit)?;
    let mut filter = MarketFilter::default();
    filter.status = of.status.map(Into::into);
    filter.kind = of.kind;
    filter.before = of.before;
    let found = market.alarms(&AlarmOptions::default(), &filter, limit).await;
    let found = found.map_err(in_body)?;
    Ok(Json(AlarmList {
        markets: found.markets.into_iter().map(MarketAlarms::from).collect(),
        next: found.next,
    }))
}
