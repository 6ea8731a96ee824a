//! What persistence and grammars add to the time of a token: `cargo run --release -p aion-llm --no-default-features
//! --example token_costs -- MODEL [THREADS]`. Without a model it shows how, on a tiny random one.

#![allow(clippy::print_stdout, reason = "the program prints its measurements")]

use std::error::Error;
use std::time::Instant;

use aion_llm::testkit::TinyModel;
use aion_llm::{
    DeviceSpec, EndOfText, Engine, EngineOptions, GenerateRequest, ModelSource, OutputFormat, Prediction,
    Prompt, Sampling,
};
use aion_types::{PersistenceMeter, Reference, TokenPersistence};
use serde_json::json;

const PROMPT: &str =
    "When the river rises the ferry does not run, and the post waits on the other side until it falls.";
const TOKENS: usize = 96;
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let model = args
        .next()
        .map_or_else(|| TinyModel::random(1).source(), ModelSource::at);
    let threads: usize = args.next().map_or(Ok(2), |threads| threads.parse())?;
    let options = EngineOptions::default()
        .with_device(DeviceSpec::Cpu)
        .with_threads(threads);
    let engine = Engine::load(&model, options)?;
    let free = median(|round| milliseconds(&engine, &OutputFormat::Text, round))?;
    println!("free: {free:.3} ms a token, {threads} threads");
    let persistence = persistence_ms(engine.info().config.vocab_size)?;
    println!(
        "persistence: {:.1} us a token, {:.2}% of it",
        1000.0 * persistence,
        100.0 * persistence / free
    );
    for (name, format) in formats() {
        let held = median(|round| milliseconds(&engine, &format, round))?;
        println!("{name}: {held:.3} ms a token, {:.2} times free", held / free);
    }
    Ok(())
}

/// Formats whose texts are long.
fn formats() -> Vec<(&'static str, OutputFormat)> {
    let text = json!({"type": "object", "properties": {"text": {"type": "string", "minLength": 2000}}, "required": ["text"]});
    let item = json!({"type": "object", "properties": {"name": {"type": "string"}, "count": {"type": "integer"},
        "colour": {"enum": ["red", "green", "blue"]}}, "required": ["name", "count", "colour"], "additionalProperties": false});
    let list = json!({"type": "array", "items": item, "minItems": 200});
    vec![
        ("a long string", OutputFormat::JsonSchema(text)),
        ("a list of objects", OutputFormat::JsonSchema(list)),
        ("any object", OutputFormat::JsonObject),
        ("a pattern", OutputFormat::Regex("([a-z]{2,9} )+".into())),
    ]
}

/// Milliseconds of decoding for each token, of a text by itself.
fn milliseconds(engine: &Engine, format: &OutputFormat, round: usize) -> Result<f64, Box<dyn Error>> {
    let sampling = Sampling::greedy().with_temperature(1.0)?.with_seed(round as u64);
    let request = GenerateRequest::new(Prompt::Text(PROMPT.into()))
        .with_sampling(sampling)
        .with_max_tokens(TOKENS)
        .with_format(format.clone());
    let request = match format {
        OutputFormat::Text => request.with_end_of_text(EndOfText::Banned),
        _ => request,
    };
    let completion = engine.complete(&request)?;
    Ok(completion.decode_ms as f64 / completion.tokens.len().saturating_sub(1).max(1) as f64)
}

/// Milliseconds of what persistence takes of one row of logits.
fn persistence_ms(vocab: usize) -> Result<f64, Box<dyn Error>> {
    let logits: Vec<f32> = (0..vocab as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 20) as f32 - 8.0)
        .collect();
    let reference = (vocab as f64).ln();
    median(|_| {
        let mut meter = PersistenceMeter::new(Reference::Uniform);
        let begun = Instant::now();
        for token in 0..200 {
            let prediction = Prediction::new(&logits)?;
            let surprise = prediction.surprise_nats(token);
            std::hint::black_box(prediction.entropy_nats());
            meter.push(TokenPersistence::new(surprise, reference)?.ratio)?;
        }
        std::hint::black_box(meter.summary());
        Ok(begun.elapsed().as_secs_f64() * 1000.0 / 200.0)
    })
}

fn median(mut one: impl FnMut(usize) -> Result<f64, Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let mut times = (0..ROUNDS).map(&mut one).collect::<Result<Vec<f64>, _>>()?;
    times.sort_by(f64::total_cmp);
    Ok(times[ROUNDS / 2])
}
