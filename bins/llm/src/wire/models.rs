//! `GET /v1/models`: the one model.

use aion_service::Problem;
use axum::extract::State;
use serde_json::{Value, json};

use crate::error::{ApiError, ApiResult};
use crate::service::Shared;

fn card(shared: &Shared) -> ApiResult<Value> {
    let info = shared.model.engine()?.info();
    Ok(json!({
        "id": info.name, "object": "model", "created": 0, "owned_by": "aion",
        "context_length": info.context_length, "parameters": info.config.n_parameters(),
    }))
}

/// Lists the model.
#[utoipa::path(
    get, path = "/v1/models", operation_id = "list_models", tag = "llm",
    responses(
        (status = 200, description = "The models", body = Object),
        (status = 503, description = "The model is not there yet", body = aion_service::Problem),
    ),
)]
pub(crate) async fn list_models(State(shared): State<Shared>) -> ApiResult<axum::Json<Value>> {
    Ok(axum::Json(json!({"object": "list", "data": [card(&shared)?]})))
}

/// Describes the model.
#[utoipa::path(
    get, path = "/v1/models/{model}", operation_id = "get_model", tag = "llm",
    params(("model" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "The model", body = Object),
        (status = 404, description = "Another name", body = aion_service::Problem),
        (status = 503, description = "The model is not there yet", body = aion_service::Problem),
    ),
)]
pub(crate) async fn get_model(
    State(shared): State<Shared>,
    aion_service::Path(model): aion_service::Path<String>,
) -> ApiResult<axum::Json<Value>> {
    let card = card(&shared)?;
    if card["id"] != model.as_str() {
        let detail = format!("there is no model `{model}` here, only {}", card["id"]);
        return Err(ApiError(Problem::not_found("model_not_found", detail)));
    }
    Ok(axum::Json(card))
}
