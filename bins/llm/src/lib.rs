//! The language model as an OpenAI-compatible HTTP service on port 8790.
//!
//! ```no_run
//! use aion_llm::{Engine, EngineOptions, ModelSource};
//! use aion_llm_server::{LlmOptions, service};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::load(&ModelSource::at("SmolLM2-135M-Instruct.Q4_1.gguf"), EngineOptions::default())?;
//! let options = aion_service::ServeOptions::loopback(aion_llm_server::DEFAULT_PORT);
//! aion_service::run(service(engine, LlmOptions::default()), options).await?;
//! # Ok(()) }
//! ```
//!
//! | endpoint | what |
//! |---|---|
//! | `POST /v1/chat/completions` | a conversation continued, whole or as a stream |
//! | `POST /v1/completions` | a text continued |
//! | `POST /v1/responses` | the newer protocol, nothing stored |
//! | `POST /v1/embeddings` | texts as vectors |
//! | `POST /v1/score` | the persistence of every token of a given text |
//! | `GET /v1/models` | the model, and the sentence encoder if there is one |
//! | `GET /dashboard` | a page with the load, the tokens by persistence and a chat box |
//!
//! Every completion carries `usage.persistence`. Errors are RFC 9457 problems with OpenAI's `error` object beside.
//! All requests share the passes over the weights; more than there are places for wait in a bounded queue (429 with
//! `Retry-After` when it is full), and a client that goes away stops its generation.

mod choices;
mod dashboard;
mod encoder;
mod error;
mod generate;
mod measure;
mod model;
mod options;
mod service;
mod sse;
mod state;
mod wire;

#[cfg(feature = "minilm")]
pub use encoder::MiniLmEncoder;
pub use encoder::TextEncoder;
pub use options::LlmOptions;
pub use service::{DEFAULT_PORT, openapi_json, service, service_loading, service_with_encoder};
