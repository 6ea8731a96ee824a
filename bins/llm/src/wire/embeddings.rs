//! `POST /v1/embeddings`: by the chat model (the mean of its last hidden states) or by a sentence encoder beside it.

use aion_llm::{Engine, Specials};
use axum::extract::State;
use base64::Engine as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::fields::Rest;
use super::{ApiJson, unknown_model};
use crate::encoder::EncoderQueue;
use crate::error::{ApiError, ApiResult, Names};
use crate::service::Shared;

const NAMES: Names = Names {
    prompt: "/input",
    format: "/input",
    max_tokens: "/input",
};

/// Texts to embed.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct EmbeddingRequest {
    /// The name of the chat model, or of the sentence encoder if there is one; that is the default.
    #[schema(nullable = false)]
    model: Option<String>,
    /// A text, a list of texts, a list of token ids, or a list of such lists.
    #[schema(value_type = Object)]
    input: Value,
    /// `float` or `base64` (little-endian 32-bit floats).
    #[serde(default)]
    encoding_format: Encoding,
    /// Keeps the first numbers of a vector, scaled to length 1 again.
    #[schema(nullable = false, minimum = 1)]
    dimensions: Option<usize>,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Rest,
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

/// One text of a request.
#[derive(Debug, Clone)]
enum Input {
    Text(String),
    Tokens(Vec<u32>),
}

fn inputs(wire: &Value, limit: usize) -> ApiResult<Vec<Input>> {
    let refuse = || {
        let detail = format!("input is 1 to {limit} texts, or lists of token ids, none of them empty");
        ApiError::bad_request("invalid_value", detail, "/input")
    };
    let many = |items: &[Value]| !items.first().is_some_and(Value::is_u64);
    let inputs: Vec<Input> = match wire {
        Value::Array(items) if many(items) => items.iter().map(input).collect::<Option<_>>(),
        one => input(one).map(|one| vec![one]),
    }
    .ok_or_else(refuse)?;
    if (1..=limit).contains(&inputs.len()) {
        Ok(inputs)
    } else {
        Err(refuse())
    }
}

fn input(wire: &Value) -> Option<Input> {
    match wire {
        Value::String(text) if !text.is_empty() => Some(Input::Text(text.clone())),
        Value::Array(ids) if !ids.is_empty() => {
            let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
            ids.iter().map(id).collect::<Option<_>>().map(Input::Tokens)
        }
        _ => None,
    }
}

/// Refuses, before any work is done, a length that the model's vectors do not have.
fn check_dimensions(wanted: Option<usize>, most: usize) -> ApiResult<()> {
    match wanted {
        Some(wanted) if !(1..=most).contains(&wanted) => {
            let detail = format!("this model has 1 to {most} dimensions");
            Err(ApiError::bad_request("invalid_value", detail, "/dimensions"))
        }
        _ => Ok(()),
    }
}

/// The first numbers of a vector, scaled to length 1 again.
fn shortened(mut vector: Vec<f32>, dimensions: Option<usize>) -> Vec<f32> {
    let Some(wanted) = dimensions else {
        return vector;
    };
    vector.truncate(wanted);
    let norm = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    vector
        .iter_mut()
        .for_each(|x| *x = (f64::from(*x) / norm.max(f64::MIN_POSITIVE)) as f32);
    vector
}

/// Embeds texts.
#[utoipa::path(
    post, path = "/v1/embeddings", operation_id = "embeddings", tag = "llm",
    request_body = EmbeddingRequest,
    responses(
        (status = 200, description = "The vectors, in the order of the texts", body = Object),
        (status = 400, description = "The request asks for what cannot be done", body = aion_service::Problem, content_type = "application/problem+json"),
        (status = 404, description = "Another model", body = aion_service::Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many requests wait", body = aion_service::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The model is not there yet", body = aion_service::Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn embeddings(
    State(shared): State<Shared>,
    ApiJson(wire): ApiJson<EmbeddingRequest>,
) -> ApiResult<axum::Json<Value>> {
    wire.rest.check(&[])?;
    let inputs = inputs(&wire.input, shared.options.max_inputs)?;
    let encoder = chosen(&shared, wire.model.as_deref())?;
    let most = match encoder {
        Some(encoder) => encoder.encoder().dimensions(),
        None => shared.model.engine()?.info().config.n_embd,
    };
    check_dimensions(wire.dimensions, most)?;
    let client = wire.rest.client();
    let (vectors, tokens, name) = match encoder {
        Some(encoder) => by_encoder(encoder, client, inputs).await?,
        None => by_model(&shared, client, inputs)
            .await
            .map_err(|error| error.named(&NAMES))?,
    };
    let mut data = Vec::with_capacity(vectors.len());
    for (index, vector) in vectors.into_iter().enumerate() {
        let vector = wire.encoding_format.write(&shortened(vector, wire.dimensions));
        data.push(json!({"object": "embedding", "index": index, "embedding": vector}));
    }
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    Ok(axum::Json(
        json!({"object": "list", "data": data, "model": name, "usage": usage}),
    ))
}

/// The sentence encoder, if that is asked for; none for the chat model.
fn chosen<'a>(shared: &'a Shared, model: Option<&str>) -> ApiResult<Option<&'a EncoderQueue>> {
    let encoder = shared.encoder.as_ref();
    let is_asked = |encoder: &&EncoderQueue| model.is_none_or(|model| model == encoder.encoder().name());
    if let Some(encoder) = encoder.filter(is_asked) {
        return Ok(Some(encoder));
    }
    let name = &shared.model.engine()?.info().name;
    match model.filter(|model| model != name) {
        Some(model) => Err(unknown_model(
            model,
            encoder.map_or(name, |encoder| encoder.encoder().name()),
        )),
        None => Ok(None),
    }
}

type Vectors = (Vec<Vec<f32>>, usize, String);

/// As many texts as run at once are asked for together, so that they share the passes over the weights.
async fn by_model(shared: &Shared, client: &str, inputs: Vec<Input>) -> ApiResult<Vectors> {
    let engine = shared.model.engine()?;
    let texts = shared
        .model
        .call(move |engine| all_tokens(engine, inputs))
        .await?;
    let tokens = texts.iter().map(Vec::len).sum();
    let mut vectors = Vec::with_capacity(texts.len());
    for together in texts.chunks(engine.sequences().max(1)) {
        let (client, together) = (client.to_owned(), together.to_vec());
        let start = move |engine: &Engine| Ok(engine.start_embed_all(&client, &together)?);
        for ticket in shared.model.call(start).await? {
            vectors.push(ticket.finish().await?);
        }
    }
    Ok((vectors, tokens, engine.info().name.clone()))
}

/// The tokens of all texts, each of them one that can be read.
fn all_tokens(engine: &Engine, inputs: Vec<Input>) -> ApiResult<Vec<Vec<u32>>> {
    let tokens = |input| match input {
        Input::Text(text) => engine.tokenizer().encode(&text, Specials::AsText),
        Input::Tokens(ids) => Ok(ids),
    };
    let texts = inputs.into_iter().map(tokens).collect::<Result<Vec<_>, _>>()?;
    texts.iter().try_for_each(|tokens| engine.check_text(tokens))?;
    Ok(texts)
}

async fn by_encoder(encoder: &EncoderQueue, client: &str, inputs: Vec<Input>) -> ApiResult<Vectors> {
    let texts = inputs.into_iter().map(|input| match input {
        Input::Text(text) => Ok(text),
        Input::Tokens(_) => {
            let detail = "this model reads texts, not token ids";
            Err(ApiError::bad_request("unsupported_content", detail, "/input"))
        }
    });
    let texts = texts.collect::<ApiResult<Vec<_>>>()?;
    let (vectors, tokens) = encoder.encode(client, texts).await?;
    Ok((vectors, tokens, encoder.encoder().name().to_owned()))
}
