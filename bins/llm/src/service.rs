//! The routes put together.

use std::sync::Arc;

use aion_llm::Engine;
use aion_service::{PathLimits, Service};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::dashboard;
use crate::encoder::{EncoderQueue, TextEncoder};
use crate::model::Model;
use crate::options::LlmOptions;
use crate::state::ModelState;
use crate::wire::{chat, completions, embeddings, models, responses, score};

/// The port unless told otherwise.
pub const DEFAULT_PORT: u16 = 8790;

/// A conversation with its tools may be long.
const MAX_BODY_BYTES: usize = 16 << 20;

/// What every handler has.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) model: Model,
    pub(crate) options: LlmOptions,
    pub(crate) encoder: Option<EncoderQueue>,
}

/// The service around an engine that is already loaded.
#[must_use]
pub fn service(engine: Engine, options: LlmOptions) -> Service {
    service_loading(move || Ok(engine), options)
}

/// The service around an engine that `load` gives, on a thread of its own. Until it is there, `/readyz` and the
/// model's endpoints answer 503; an error of `load` stays there as their answer.
#[must_use]
pub fn service_loading(
    load: impl FnOnce() -> Result<Engine, String> + Send + 'static,
    options: LlmOptions,
) -> Service {
    service_with_encoder(load, options, None)
}

/// The same with a sentence encoder beside the model, which then is the default of `/v1/embeddings`.
#[must_use]
pub fn service_with_encoder(
    load: impl FnOnce() -> Result<Engine, String> + Send + 'static,
    options: LlmOptions,
    encoder: Option<Arc<dyn TextEncoder>>,
) -> Service {
    assemble(Shared {
        model: Model::start(load, options.queue),
        encoder: encoder.map(|encoder| EncoderQueue::new(encoder, options.encodings, options.queue)),
        options,
    })
}

/// The OpenAPI document of the service; needs no model.
#[must_use]
pub fn openapi_json() -> String {
    assemble(Shared {
        model: Model::absent(),
        options: LlmOptions::default(),
        encoder: None,
    })
    .openapi_json()
}

fn assemble(shared: Shared) -> Service {
    let state = Arc::new(ModelState(shared.model.clone()));
    let router = OpenApiRouter::new()
        .routes(routes!(chat::chat_completions))
        .routes(routes!(completions::completions))
        .routes(routes!(responses::responses))
        .routes(routes!(embeddings::embeddings))
        .routes(routes!(score::score_text))
        .routes(routes!(models::list_models))
        .routes(routes!(models::get_model))
        .routes(routes!(dashboard::dashboard))
        .with_state(shared);
    let slow = [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/embeddings",
        "/v1/score",
    ];
    let limits = PathLimits::new()
        .with_max_body_bytes(MAX_BODY_BYTES)
        .without_timeout();
    let service = Service::new("llm", DEFAULT_PORT, router, state);
    slow.into_iter()
        .fold(service, |service, path| service.with_path_limits(path, limits))
}
