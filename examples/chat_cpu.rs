//! The local model on the processor: `cargo run --release -p aion-examples --example chat_cpu`
//!
//! Needs the weights (`aion model pull`; 98 MB); without them it says so and ends. Expect: an answer,
//! then how sure the model was of it: `R` is 1 where it knows no more than a uniform guess.
#![allow(clippy::print_stdout)]

use std::io::Write;
use std::ops::ControlFlow;

use aion_cli::model::{DEFAULT_MODEL, ModelCache};
use aion_llm::{
    ChatMessage, Engine, EngineOptions, GenerateRequest, ModelSource, OutputFormat, Prompt, StreamEvent,
};
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = match ModelCache::from_env()?.find(&DEFAULT_MODEL.into()) {
        Ok(path) => path,
        Err(missing) => {
            println!("{missing}");
            return Ok(());
        }
    };
    let options = EngineOptions::default().with_context_length(512);
    let engine = Engine::load(&ModelSource::at(path), options)?;
    println!("{} on {}", engine.info().name, engine.info().device);

    let question = ChatMessage::new("user", "What is the capital of France?");
    let request = GenerateRequest::new(Prompt::chat([question.clone()])).with_max_tokens(24);
    let completion = engine.generate(&request, &mut |event| {
        match event {
            StreamEvent::Token(token) => print!("{}", token.text),
            StreamEvent::Tail(text) => print!("{text}"),
            StreamEvent::Prefill { .. } => {}
        }
        let _shown_later = std::io::stdout().flush();
        ControlFlow::Continue(())
    })?;
    println!();
    if let Some(r) = &completion.persistence {
        println!(
            "R: harmonic mean {:.2}, least {:.2}, over {} tokens",
            r.r_harm, r.r_min, r.n
        );
    }

    // The same model held to a schema: whatever it says, it parses.
    let schema = json!({
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "sure": {"type": "boolean"}},
        "required": ["city", "sure"],
        "additionalProperties": false,
    });
    let request = GenerateRequest::new(Prompt::chat([question]))
        .with_max_tokens(40)
        .with_format(OutputFormat::JsonSchema(schema));
    println!("{}", engine.complete(&request)?.text);
    Ok(())
}
