//! Output of a given form: `cargo run --release -p aion-examples --example constrained_json`
//!
//! Needs the weights (`aion model pull`; 98 MB); without them it says so and ends. Expect: a JSON object that its schema
//! admits, a date that a regular expression matches, and a call of a function whose arguments are checked, all written by
//! a model that knows nothing of these forms; then how fast it wrote with and without them.
#![allow(clippy::print_stdout)]

use aion_cli::model::{DEFAULT_MODEL, ModelCache};
use aion_llm::{
    ChatMessage, Completion, EndOfText, Engine, EngineOptions, GenerateRequest, ModelSource, OutputFormat,
    Prompt, ToolChoice, ToolDelta, ToolFunction, ToolSet,
};
use serde_json::{Value, json};

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

    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "rivers": {"type": "array", "items": {"type": "string", "maxLength": 16}, "minItems": 1, "maxItems": 3},
            "capital": {"type": "boolean"},
        },
        "required": ["name", "rivers", "capital"],
        "additionalProperties": false,
    });
    let shaped = ask(
        &engine,
        "Describe Paris.",
        OutputFormat::JsonSchema(schema.clone()),
    )?;
    let city: Value = serde_json::from_str(&shaped.text)?;
    println!("schema: {city}");

    let date = OutputFormat::Regex("[12][0-9]{3}-(0[1-9]|1[0-2])".into());
    println!(
        "regex:  {}",
        ask(&engine, "When did the first human land on the Moon?", date)?.text
    );

    call(&engine)?;

    // The same number of tokens without a form; the schema's strings are long enough for a fair race.
    let long = json!({"type": "string", "minLength": 400});
    let held = timed(&engine, OutputFormat::JsonSchema(long))?;
    let free = timed(&engine, OutputFormat::Text)?;
    println!(
        "tokens/s: {free:.0} free, {held:.0} held to a schema ({:.2}x)",
        free / held
    );
    Ok(())
}

fn request(engine: &Engine, question: &str, format: OutputFormat) -> GenerateRequest {
    let room = engine.info().context_length / 4;
    let prompt = Prompt::chat([ChatMessage::new("user", question)]);
    GenerateRequest::new(prompt)
        .with_max_tokens(room)
        .with_format(format)
}

fn ask(engine: &Engine, question: &str, format: OutputFormat) -> aion_llm::Result<Completion> {
    engine.complete(&request(engine, question, format))
}

/// The model must call a function; the grammar keeps it to a known name and to the function's parameters.
fn call(engine: &Engine) -> aion_llm::Result<()> {
    let parameters = json!({
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 16}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
        "required": ["city", "days"],
        "additionalProperties": false,
    });
    let function = ToolFunction::new("weather", Some(parameters.clone()))?;
    let tools = ToolSet::new([function])?.with_choice(ToolChoice::Named("weather".into()))?;
    let form = engine.tool_format();
    let shown = json!([{"type": "function", "function": {"name": "weather", "parameters": parameters}}]);
    let prompt = Prompt::Chat {
        messages: vec![ChatMessage::new(
            "user",
            "Will it rain in Rome within three days?",
        )],
        tools: Some(shown),
    };
    let format = tools.output_format(form, &OutputFormat::Text)?;
    let completion = engine.complete(
        &GenerateRequest::new(prompt)
            .with_max_tokens(80)
            .with_format(format),
    )?;
    for delta in tools.parser(form).push(&completion.text) {
        match delta {
            ToolDelta::Call { name, .. } => print!("call:   {name} "),
            ToolDelta::Arguments(arguments) => println!("{arguments}"),
            ToolDelta::Text(_) | ToolDelta::End => {}
        }
    }
    Ok(())
}

/// Tokens a second after the prompt.
fn timed(engine: &Engine, format: OutputFormat) -> aion_llm::Result<f64> {
    let request =
        request(engine, "Tell a long story about a river.", format).with_end_of_text(EndOfText::Banned);
    let completion = engine.complete(&request)?;
    Ok(completion.tokens.len() as f64 * 1000.0 / completion.decode_ms.max(1) as f64)
}
