//! `GET /v1/models`: the model, and the sentence encoder if there is one.

use axum::extract::State;
use serde_json::{Value, json};

use super::unknown_model;
use crate::error::ApiResult;
use crate::service::Shared;

fn cards(shared: &Shared) -> ApiResult<Vec<Value>> {
    let info = shared.model.engine()?.info();
    let card = |name: &str| json!({"id": name, "object": "model", "created": 0, "owned_by": "aion"});
    let mut model = card(&info.name);
    model["context_length"] = info.context_length.into();
    model["parameters"] = info.config.n_parameters().into();
    let encoder = shared.encoder.as_ref().map(|encoder| {
        let mut model = card(encoder.encoder().name());
        model["dimensions"] = encoder.encoder().dimensions().into();
        model
    });
    Ok([model].into_iter().chain(encoder).collect())
}

/// Lists the models.
#[utoipa::path(
    get, path = "/v1/models", operation_id = "list_models", tag = "llm",
    responses(
        (status = 200, description = "The models", body = Object),
        (status = 503, description = "The model is not there yet", body = aion_service::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_models(State(shared): State<Shared>) -> ApiResult<axum::Json<Value>> {
    Ok(axum::Json(json!({"object": "list", "data": cards(&shared)?})))
}

/// Describes a model.
#[utoipa::path(
    get, path = "/v1/models/{model}", operation_id = "get_model", tag = "llm",
    params(("model" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "The model", body = Object),
        (status = 404, description = "Another name", body = aion_service::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The model is not there yet", body = aion_service::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_model(
    State(shared): State<Shared>,
    aion_service::Path(model): aion_service::Path<String>,
) -> ApiResult<axum::Json<Value>> {
    let cards = cards(&shared)?;
    let known = cards[0]["id"].as_str().unwrap_or_default().to_owned();
    let card = cards.into_iter().find(|card| card["id"] == model.as_str());
    card.map(axum::Json).ok_or_else(|| unknown_model(&model, &known))
}
