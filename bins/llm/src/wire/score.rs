//! `POST /v1/score`: what the model says of a given text, token by token.

use aion_llm::Engine;
use aion_types::PersistenceSummary;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ApiJson;
use super::fields::Rest;
use crate::error::ApiResult;
use crate::service::Shared;

/// A text to score.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct ScoreRequest {
    /// The text.
    input: String,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Rest,
}

/// The scores of all tokens but the first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScoreReply {
    /// The model.
    model: String,
    /// The tokens, in order.
    tokens: Vec<ScoredToken>,
    /// The summary; null when the text has fewer than two tokens.
    #[schema(value_type = Option<Object>)]
    persistence: Option<PersistenceSummary>,
}

/// One token of the text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScoredToken {
    /// Its text.
    text: String,
    /// Its id.
    token: u32,
    /// `-ln p` of it after all before, in nats.
    surprise_nats: f64,
    /// Entropy of the prediction, in nats.
    entropy_nats: f64,
    /// `R_t`.
    persistence: f64,
}

/// Scores a text by the model.
#[utoipa::path(
    post, path = "/v1/score", operation_id = "score_text", tag = "llm",
    request_body = ScoreRequest,
    responses(
        (status = 200, description = "The scores", body = ScoreReply),
        (status = 400, description = "The text is empty or too long", body = aion_service::Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many requests wait", body = aion_service::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The model is not there yet", body = aion_service::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn score_text(
    State(shared): State<Shared>,
    ApiJson(wire): ApiJson<ScoreRequest>,
) -> ApiResult<axum::Json<ScoreReply>> {
    wire.rest.check(&[])?;
    let client = wire.rest.client().to_owned();
    let start = move |engine: &Engine| engine.start_score_for(&client, &engine.text_tokens(&wire.input)?, 0);
    let scores = shared.model.ask(start).await?;
    let engine = shared.model.engine()?;
    let ratios: Vec<f64> = scores.iter().map(|score| score.persistence).collect();
    let persistence = engine.summary(&ratios)?;
    let tokens = scores.into_iter().map(|score| ScoredToken {
        text: String::from_utf8_lossy(engine.tokenizer().text_bytes(score.token)).into_owned(),
        token: score.token,
        surprise_nats: score.surprise_nats,
        entropy_nats: score.entropy_nats,
        persistence: score.persistence,
    });
    Ok(axum::Json(ScoreReply {
        model: engine.info().name.clone(),
        tokens: tokens.collect(),
        persistence,
    }))
}
