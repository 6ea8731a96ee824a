//! candle as a driver of `cargo xtask peers llm`: `peer-llm-candle MODEL.gguf`, with `RAYON_NUM_THREADS` threads.
//!
//! `{"prompt": [token, ..], "n": tokens}` is answered with the greedy continuation (`tokens`, never stopping early) and
//! `prefill_s`, `decode_s`: the first token ends the prefill, so `n` tokens are `n - 1` decoding passes.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::time::Instant;

use candle_core::quantized::gguf_file::Content;
use candle_core::{D, Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Request {
    prompt: Vec<u32>,
    n: usize,
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let path = std::env::args().nth(1).ok_or("usage: peer-llm-candle MODEL.gguf")?;
    let mut file = BufReader::new(File::open(path)?);
    let content = Content::read(&mut file)?;
    let mut model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", json!({ "name": "candle", "version": "0.11.1" }))?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let answer = answer(&mut model, &line?).unwrap_or_else(|error| json!({ "error": error.to_string() }));
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn answer(model: &mut ModelWeights, line: &str) -> Result<Value> {
    let Request { prompt, n } = serde_json::from_str(line)?;
    let started = Instant::now();
    let mut tokens = vec![next(model, &prompt, 0)?]; // position 0 empties its cache
    let read = started.elapsed();
    for i in 0..n.saturating_sub(1) {
        tokens.push(next(model, &tokens[i..=i], prompt.len() + i)?);
    }
    let done = started.elapsed();
    Ok(json!({
        "tokens": tokens,
        "prefill_s": read.as_secs_f64(),
        "decode_s": (done - read).as_secs_f64(),
    }))
}

/// The likeliest token after these, which follow `position` earlier ones.
fn next(model: &mut ModelWeights, tokens: &[u32], position: usize) -> Result<u32> {
    let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
    let logits = model.forward(&input, position)?;
    Ok(logits.squeeze(0)?.argmax(D::Minus1)?.to_scalar()?)
}
