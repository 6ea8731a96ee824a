//! Sentences as vectors, several at once: `cargo run --release -p aion-examples --example embed`
//!
//! Needs the weights (`aion model pull`; 98 MB); without them it says so and ends. Expect: which sentence lies
//! nearest to each question, with the cosine of their vectors.
#![allow(clippy::print_stdout)]

use aion_cli::model::{DEFAULT_MODEL, ModelCache};
use aion_llm::{Engine, EngineOptions, Error, ModelSource, Ticket};

const SENTENCES: [&str; 4] = [
    "The ferry does not run when the river rises.",
    "The recipe needs two eggs and a cup of flour.",
    "The compiler refuses a program whose types do not fit.",
    "The orchestra plays the symphony in the old hall.",
];
const QUESTIONS: [&str; 2] = ["When is there no boat across the water?", "How do I bake a cake?"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = match ModelCache::from_env()?.find(&DEFAULT_MODEL.into()) {
        Ok(path) => path,
        Err(missing) => {
            println!("{missing}");
            return Ok(());
        }
    };
    let engine = Engine::load(&ModelSource::at(path), EngineOptions::default())?;
    println!(
        "{}: {} numbers a sentence",
        engine.info().name,
        engine.info().config.n_embd
    );
    let sentences = embed_all(&engine, &SENTENCES)?;
    // What all texts have in common says nothing; without it the differences show.
    let mean = mean(&sentences);
    for (question, vector) in QUESTIONS.iter().zip(embed_all(&engine, &QUESTIONS)?) {
        let near = |sentence: &Vec<f32>| cosine(&minus(sentence, &mean), &minus(&vector, &mean));
        let best = SENTENCES.iter().zip(sentences.iter().map(near));
        if let Some((sentence, cosine)) = best.max_by(|a, b| a.1.total_cmp(&b.1)) {
            println!("{question}\n  {cosine:.2} {sentence}");
        }
    }
    Ok(())
}

/// All texts share the passes over the weights.
fn embed_all(engine: &Engine, texts: &[&str]) -> Result<Vec<Vec<f32>>, Error> {
    let tickets = texts.iter().map(|text| engine.start_embed(text));
    let tickets: Vec<Ticket<Vec<f32>>> = tickets.collect::<Result<_, _>>()?;
    tickets.into_iter().map(Ticket::wait).collect()
}

fn mean(vectors: &[Vec<f32>]) -> Vec<f32> {
    let width = vectors.first().map_or(0, Vec::len);
    let column = |i: usize| vectors.iter().map(|vector| vector[i]).sum::<f32>() / vectors.len() as f32;
    (0..width).map(column).collect()
}

fn minus(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f32::MIN_POSITIVE)
}
