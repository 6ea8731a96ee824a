//! What the model says of a given text, word by word: `cargo run --release -p aion-examples --example score_text`
//!
//! Needs the weights (`aion model pull`; 98 MB); without them it says so and ends. Expect: a sentence and the same
//! with one wrong word, each token with its surprise in bits and its persistence R, and where R is least: at the
//! wrong word.
#![allow(clippy::print_stdout)]

use aion_cli::model::{DEFAULT_MODEL, ModelCache};
use aion_llm::{Engine, EngineOptions, ModelSource};
use aion_types::PersistenceSummary;

const TEXTS: [&str; 2] = [
    "The capital of France is Paris, and the capital of Italy is Rome.",
    "The capital of France is Paris, and the capital of Italy is cheese.",
];

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
    for text in TEXTS {
        let scores = engine.score_text(text)?;
        println!("{text}");
        for score in &scores {
            let word = engine.tokenizer().decode(&[score.token]);
            let bits = score.surprise_nats / std::f64::consts::LN_2;
            println!("  {word:>12} {bits:6.2} bits, R {:5.2}", score.persistence);
        }
        let ratios: Vec<f64> = scores.iter().map(|score| score.persistence).collect();
        if let Some(summary) = PersistenceSummary::of(&ratios, engine.info().reference)? {
            println!(
                "R: harmonic mean {:.2}, least {:.2}",
                summary.r_harm, summary.r_min
            );
        }
    }
    Ok(())
}
