//! `POST /v1/embeddings`: mean of the last hidden states, scaled to length 1.

use axum::extract::State;
use base64::Engine as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{ApiJson, OneOrMany};
use crate::error::{ApiError, ApiResult};
use crate::service::Shared;

/// Texts to embed.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct EmbeddingRequest {
    /// Any name: this service has one model.
    #[schema(nullable = false)]
    model: Option<String>,
    /// One text or several.
    input: OneOrMany,
    /// `float` or `base64` (little-endian 32-bit floats).
    #[serde(default)]
    encoding_format: Encoding,
}

/// How a vector is written.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Encoding {
    /// A list of numbers.
    #[default]
    Float,
    /// Base64 of little-endian 32-bit floats.
    Base64,
}

impl Encoding {
    fn write(self, vector: &[f32]) -> Value {
        match self {
            Self::Float => vector.iter().map(|x| Value::from(*x)).collect(),
            Self::Base64 => {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                base64::engine::general_purpose::STANDARD.encode(bytes).into()
            }
        }
    }
}

/// Embeds texts.
#[utoipa::path(
    post, path = "/v1/embeddings", operation_id = "embeddings", tag = "llm",
    request_body = EmbeddingRequest,
    responses(
        (status = 200, description = "The vectors, in the order of the texts", body = Object),
        (status = 400, description = "The request asks for what cannot be done", body = aion_service::Problem),
        (status = 429, description = "Too many requests wait", body = aion_service::Problem),
        (status = 503, description = "The model is not there yet", body = aion_service::Problem),
    ),
)]
pub(crate) async fn embeddings(
    State(shared): State<Shared>,
    ApiJson(wire): ApiJson<EmbeddingRequest>,
) -> ApiResult<axum::Json<Value>> {
    let texts = wire.input.into_vec();
    let limit = shared.options.max_inputs;
    if texts.is_empty() || texts.len() > limit {
        return Err(ApiError::bad_request(
            "invalid_value",
            format!("1 to {limit} texts"),
            "/input",
        ));
    }
    let encoding = wire.encoding_format;
    let body = shared.model.call(move |engine| {
        let mut tokens = 0;
        let mut data = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            tokens += engine.tokenizer().encode(text, aion_llm::Specials::AsText)?.len();
            let vector = encoding.write(&engine.embed(text)?);
            data.push(json!({"object": "embedding", "index": index, "embedding": vector}));
        }
        let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
        Ok(json!({"object": "list", "data": data, "model": engine.info().name, "usage": usage}))
    });
    body.await.map(axum::Json)
}
