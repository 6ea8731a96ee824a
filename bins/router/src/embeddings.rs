//! Embeddings, as OpenAI's clients ask for them.

use aion_service::{Json, Problem};
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::problem::live;
use crate::service::Parts;
use crate::wire::{EmbedBody, EmbedView, EncodingChoice, InputChoice, UsageView, VectorChoice, VectorView};

/// The most texts of one request, and bytes of one text.
const MAX_TEXTS: usize = 256;
const MAX_TEXT_BYTES: usize = 65_536;

/// Makes vectors of texts, with the embedder that the router ranks by.
#[utoipa::path(
    post,
    path = "/v1/embeddings",
    operation_id = "embed_texts",
    tag = "embeddings",
    request_body = EmbedBody,
    responses(
        (status = 200, description = "The vectors", body = EmbedView),
        (status = 404, description = "There is no such model", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The texts are not valid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The embedder is not available", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn embed_texts(
    State(parts): State<Parts>,
    Json(body): Json<EmbedBody>,
) -> Result<Json<EmbedView>, Problem> {
    let model = parts.router.embedder().model_id().to_owned();
    if let Some(other) = body.model.filter(|name| !name.is_empty() && *name != model) {
        let detail = format!("the model is {model}, not {other}");
        return Err(Problem::not_found("unknown_model", detail).at("/model"));
    }
    let texts = texts(body.input)?;
    let tokens = texts
        .iter()
        .map(|text| u64::from(parts.counter.count(text)))
        .sum();
    let router = parts.router.clone();
    let embed = async move {
        let embedder = router.embedder();
        let mut vectors = vec![0.0; texts.len() * embedder.ask_dim()?];
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        embedder.embed(&texts, &mut vectors).map(|()| vectors)
    };
    let vectors = parts.beside(embed).await?.map_err(|error| live(error.into()))?;
    let vectors = vectors
        .chunks_exact(parts.router.embedder().dim().max(1))
        .enumerate();
    let data = vectors.map(|(index, vector)| VectorView {
        object: "embedding",
        index,
        embedding: written(vector, body.encoding_format),
    });
    Ok(Json(EmbedView {
        object: "list",
        data: data.collect(),
        model,
        usage: UsageView {
            prompt_tokens: tokens,
            total_tokens: tokens,
        },
    }))
}

fn texts(input: InputChoice) -> Result<Vec<String>, Problem> {
    let texts = match input {
        InputChoice::One(text) => vec![text],
        InputChoice::Several(texts) => texts,
    };
    if !(1..=MAX_TEXTS).contains(&texts.len()) {
        let detail = format!("a request has 1 to {MAX_TEXTS} texts");
        return Err(Problem::unprocessable("over_limit", detail).at("/input"));
    }
    match texts.iter().position(|text| text.len() > MAX_TEXT_BYTES) {
        None => Ok(texts),
        Some(i) => {
            let detail = format!("a text has at most {MAX_TEXT_BYTES} bytes");
            Err(Problem::unprocessable("over_limit", detail).at(format!("/input/{i}")))
        }
    }
}

fn written(vector: &[f32], encoding: EncodingChoice) -> VectorChoice {
    match encoding {
        EncodingChoice::Float => VectorChoice::Numbers(vector.to_vec()),
        EncodingChoice::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            VectorChoice::Base64(STANDARD.encode(bytes))
        }
    }
}
