//! The model server inside your own program, and an engine that both use: `cargo run --release -p aion-examples
//! --example serve_in_your_app`
//!
//! With the weights (`aion model pull`; 98 MB) it serves SmolLM2, without them a tiny random model. Expect: three
//! clients of the HTTP service and one direct caller answered together, in passes that they share, and what the
//! engine counted. Here it is all without a socket; `axum::serve` takes the same router.
#![allow(clippy::print_stdout)]

use aion_cli::model::{DEFAULT_MODEL, ModelCache};
use aion_llm::testkit::TinyModel;
use aion_llm::{Engine, EngineOptions, GenerateRequest, ModelSource, Prompt};
use aion_llm_server::LlmOptions;
use aion_service::Limits;
use axum::body::Body;
use axum::http::Request;
use axum::{Router, routing::get};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let found = ModelCache::from_env()?.find(&DEFAULT_MODEL.into());
    let source = found.map_or_else(|_| TinyModel::random(1).source(), ModelSource::at);
    let options = EngineOptions::default().with_context_length(512);
    let engine = Engine::load(&source, options)?;
    println!("{} on {}", engine.info().name, engine.info().device);

    // The service shares the engine, so what your program asks and what its clients ask runs together.
    let service = aion_llm_server::service(engine.clone(), LlmOptions::default());
    let app = Router::new()
        .route("/", get(|| async { "my program" }))
        .nest("/llm", service.into_router(&Limits::default()));
    while status(&app, "/llm/readyz").await? != 200 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }

    let ask = |text: &str| chat(&app, text.to_owned());
    let request = GenerateRequest::new(Prompt::Text("Once upon a time".into())).with_max_tokens(16);
    let mine = engine.start(&request)?;
    let (a, b, c) = tokio::join!(ask("Name a river."), ask("Name a city."), ask("Name a bird."));
    for reply in [a?, b?, c?] {
        let usage = &reply["usage"];
        println!(
            "{} tokens, R {}: {}",
            usage["completion_tokens"],
            usage["persistence"]["R_harm"],
            reply["choices"][0]["message"]["content"]
        );
    }
    println!("mine: {:?}", mine.finish().await?.text);
    let stats = engine.stats();
    println!(
        "{} sequences: {} tokens read and {} written in {} passes",
        stats.completed, stats.read_tokens, stats.written_tokens, stats.passes
    );
    Ok(())
}

async fn chat(app: &Router, text: String) -> Result<Value, Box<dyn std::error::Error>> {
    let body = json!({"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 16});
    let request = Request::post("/llm/v1/chat/completions")
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))?;
    let response = app.clone().oneshot(request).await?;
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok(serde_json::from_slice(&bytes)?)
}

async fn status(app: &Router, path: &str) -> Result<u16, Box<dyn std::error::Error>> {
    let request = Request::get(path).body(Body::empty())?;
    Ok(app.clone().oneshot(request).await?.status().as_u16())
}
