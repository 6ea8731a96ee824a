//! The agent loop with a scripted model: `cargo run -p aion-examples --example agent_loop_scripted`
//!
//! Expect: the model calls `add_note`, a tool that was derived from the service's OpenAPI document;
//! the state's difference comes back to it; it finishes; the task is completed with R_T and tokens.
#![allow(clippy::print_stdout)]

use std::sync::{Arc, Mutex, PoisonError};

use aion_loop::testkit::{Script, ScriptedModel};
use aion_loop::{
    Agent, InProcessTransport, MemoryLoopStore, OpenApiOptions, RunOptions, ServiceLimits, ServiceLink,
    Services, StepReport, Worker, WorkerOptions,
};
use aion_processor::{Limits, MemTaskStore, NewTask, Processor};
use aion_types::{AgentId, Clock, HandlerId, SystemClock, TaskId};
use axum::{Json, Router, extract::State, routing::get, routing::post};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

type Notes = Arc<Mutex<Vec<String>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let router = notes_service();
    let transport: InProcessTransport<_, axum::body::Body> = InProcessTransport::new(router);
    let link = ServiceLink::in_process("notes", Arc::new(transport));
    let tools = OpenApiOptions::default().with_only(["add_note"]);
    let services = Services::discover([(link, tools)], ServiceLimits::default()).await?;

    let model = ScriptedModel::new([
        Script::call("add_note", &json!({"text": "buy milk"})),
        Script::call("add_note", &json!({"text": 7})), // refused: it does not fit the schema
        Script::finish("SUCCESS", "noted"),
    ]);
    let agent = Agent::new(
        AgentId::new("scribe")?,
        Arc::new(model.chat()),
        services,
        Arc::new(MemoryLoopStore::new()),
        RunOptions::default(),
    )
    .with_observer(Arc::new(|step: &StepReport| {
        let calls: Vec<_> = step.calls.iter().map(|call| call.tool.as_str()).collect();
        println!(
            "step {}: {calls:?} {} {}",
            step.step,
            step.diff.render(3),
            step.refused.as_deref().unwrap_or("")
        );
    }));

    let processor = Processor::new(MemTaskStore::new(SystemClock, Limits::default()));
    let id = TaskId::generate(SystemClock.now());
    processor
        .create(NewTask::new(id, "note", "Note that milk is out"))
        .await?;
    let worker = Worker::new(
        processor,
        agent,
        HandlerId::new("worker-1")?,
        WorkerOptions::default(),
    );
    let end = worker
        .work_on(id, &CancellationToken::new())
        .await?
        .ok_or("the task is not to be had")?;
    println!("{}: {}", end.status, end.reason);
    println!(
        "{} steps, {} tokens, R_T {:?}",
        end.steps,
        end.tokens_used,
        end.persistence.map(|p| p.ratio)
    );
    println!("the model was asked {} times", model.requests().len());
    Ok(())
}

/// A service as anybody may write it: a document, a state, an operation.
fn notes_service() -> Router {
    let notes = Notes::default();
    Router::new()
        .route("/openapi.json", get(|| async { Json(document()) }))
        .route("/state", get(state))
        .route("/v1/notes", post(add_note))
        .with_state(notes)
}

async fn state(State(notes): State<Notes>) -> Json<Value> {
    Json(json!({"notes": *notes.lock().unwrap_or_else(PoisonError::into_inner)}))
}

async fn add_note(State(notes): State<Notes>, Json(body): Json<Value>) -> Json<Value> {
    let text = body["text"].as_str().unwrap_or_default().to_owned();
    notes.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    Json(json!({"added": true}))
}

fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {"title": "notes", "version": "1"},
        "paths": {"/v1/notes": {"post": {
            "operationId": "add_note",
            "description": "Adds a note.",
            "requestBody": {"required": true, "content": {"application/json": {"schema": {
                "type": "object",
                "required": ["text"],
                "additionalProperties": false,
                "properties": {"text": {"type": "string"}},
            }}}},
            "responses": {"200": {"description": "Added."}},
        }}},
    })
}
