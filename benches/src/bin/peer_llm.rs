//! Our language model as a driver of `cargo xtask peers llm`: `peer-llm MODEL.gguf THREADS`.
//!
//! One JSON object a line. `{"text"}` is answered with its `tokens`; `{"prompt", "n"}` with the greedy
//! continuation (`tokens`, never stopping early) and `prefill_s`, `decode_s`; `{"probe_threads"}` with the rate at
//! which that many threads read memory. The first token ends the prefill, so `n` tokens are `n - 1` decoding passes;
//! surprise and persistence of every token are computed within these times.

use std::error::Error;
use std::time::Instant;

use aion_benches::driver;
use aion_benches::memory::read_bytes_per_s;
use aion_llm::{
    EndOfText, Engine, EngineOptions, GenerateRequest, ModelSource, PrefixReuse, Prompt, Specials,
    StreamEvent,
};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(untagged)]
enum Request {
    Tokenise { text: String },
    Generate { prompt: Vec<u32>, n: usize },
    Probe { probe_threads: usize },
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(model), Some(threads)) = (args.next(), args.next()) else {
        return Err("usage: peer-llm MODEL.gguf THREADS".into());
    };
    let options = EngineOptions::default()
        .with_threads(threads.parse()?)
        .with_prefix_reuse(PrefixReuse::Off);
    let engine = Engine::load(&ModelSource::at(model), options)?;
    driver::serve("aion-llm", env!("CARGO_PKG_VERSION"), |request| {
        answer(&engine, request)
    })
}

fn answer(engine: &Engine, request: Request) -> Result<Value, Box<dyn Error>> {
    match request {
        Request::Tokenise { text } => {
            Ok(json!({ "tokens": engine.tokenizer().encode(&text, Specials::AsText)? }))
        }
        Request::Generate { prompt, n } => generate(engine, prompt, n),
        Request::Probe { probe_threads } => {
            Ok(json!({ "read_bytes_per_s": read_bytes_per_s(probe_threads, probe_threads << 28) }))
        }
    }
}

fn generate(engine: &Engine, prompt: Vec<u32>, n: usize) -> Result<Value, Box<dyn Error>> {
    let request = GenerateRequest::new(Prompt::Tokens(prompt))
        .with_max_tokens(n)
        .with_end_of_text(EndOfText::Banned);
    let (mut tokens, mut times) = (Vec::with_capacity(n), Vec::with_capacity(n));
    let started = Instant::now();
    engine.generate(&request, &mut |event| {
        if let StreamEvent::Token(token) = event {
            tokens.push(token.token);
            times.push(started.elapsed());
        }
        std::ops::ControlFlow::Continue(())
    })?;
    let (Some(first), Some(last)) = (times.first(), times.last()) else {
        return Err("no token was generated".into());
    };
    Ok(
        json!({ "tokens": tokens, "prefill_s": first.as_secs_f64(), "decode_s": (*last - *first).as_secs_f64() }),
    )
}
