//! Tokens as they come, coloured by persistence: `cargo run --release -p aion-examples --example
//! stream_with_persistence -- "Who wrote Hamlet?"`
//!
//! Needs the weights (`aion model pull`; 98 MB); without them it says so and ends. Expect: an answer whose tokens go
//! from red (R of 0.5: worse than a guess) over yellow to green (R of 10: the model knew), and its summary. Where the
//! output is no terminal, or `NO_COLOR` is set, the tokens are plain.
#![allow(clippy::print_stdout)]

use std::io::{IsTerminal as _, Write as _};
use std::ops::ControlFlow;

use aion_cli::model::{DEFAULT_MODEL, ModelCache};
use aion_llm::{ChatMessage, Engine, EngineOptions, GenerateRequest, ModelSource, Prompt, StreamEvent};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = match ModelCache::from_env()?.find(&DEFAULT_MODEL.into()) {
        Ok(path) => path,
        Err(missing) => {
            println!("{missing}");
            return Ok(());
        }
    };
    let engine = Engine::load(&ModelSource::at(path), EngineOptions::default())?;
    println!("{} on {}", engine.info().name, engine.info().device);
    let question = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "Who wrote Hamlet?".into());
    println!("{question}");
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let prompt = Prompt::chat([ChatMessage::new("user", question)]);
    let request = GenerateRequest::new(prompt).with_max_tokens(48);
    let completion = engine.generate(&request, &mut |event| {
        match event {
            StreamEvent::Token(token) if colours => print!("{}", painted(&token.text, token.persistence)),
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
            "R: harmonic mean {:.2}, least {:.2} at token {}",
            r.r_harm, r.r_min, r.r_min_token_idx
        );
    }
    Ok(())
}

/// A text on a ground between red at R = 0.5 and green at R = 10, on a scale of logarithms.
fn painted(text: &str, r: f64) -> String {
    let place = ((r / 0.5).ln() / 20f64.ln()).clamp(0.0, 1.0);
    let red = (190.0 * (2.0 - 2.0 * place).min(1.0)) as u8;
    let green = (150.0 * (2.0 * place).min(1.0)) as u8;
    format!("\x1b[48;2;{red};{green};40m\x1b[97m{text}\x1b[0m")
}
