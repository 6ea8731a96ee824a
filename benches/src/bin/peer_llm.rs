//! Our language model as a driver of `cargo xtask peers llm`: `peer-llm MODEL.gguf THREADS`.
//!
//! One JSON object a line. `{"text"}` is answered with its `tokens`; `{"prompt", "n"}` with the greedy
//! continuation (`tokens`, never stopping early) and `prefill_s`, `decode_s`; `{"prompts", "n"}` with the time
//! `batch_s` in which all of them were decoded at once, prompts already read; `{"first"}` with `load_s`, from nothing to
//! the first token after that prompt; `{"score", "file"}` writes the log-probabilities of every next token of a text as
//! rows of 32-bit floats; `{"memory"}` is answered with `resident_bytes` of this process; `{"probe_threads"}` with the
//! rate at which that many threads read memory. The first token ends the prefill, so `n` tokens are `n - 1` decoding
//! passes; surprise and persistence of every token are computed within these times.

use std::error::Error;
use std::io::Write;
use std::sync::Barrier;
use std::time::{Duration, Instant};

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
    Tokenise {
        text: String,
    },
    Generate {
        prompt: Vec<u32>,
        n: usize,
    },
    Batch {
        prompts: Vec<Vec<u32>>,
        n: usize,
    },
    First {
        first: Vec<u32>,
    },
    Score {
        score: Vec<u32>,
        file: std::path::PathBuf,
    },
    Memory {
        memory: bool,
    },
    Probe {
        probe_threads: usize,
    },
}

struct Ours {
    engine: Engine,
    model: String,
    threads: usize,
}

fn load(model: &str, threads: usize) -> Result<Engine, aion_llm::Error> {
    let options = EngineOptions::default()
        .with_threads(threads)
        .with_prefix_reuse(PrefixReuse::Off);
    Engine::load(&ModelSource::at(model), options)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(model), Some(threads)) = (args.next(), args.next()) else {
        return Err("usage: peer-llm MODEL.gguf THREADS".into());
    };
    let threads = threads.parse()?;
    let engine = load(&model, threads)?;
    let ours = Ours {
        engine,
        model,
        threads,
    };
    driver::serve("aion-llm", env!("CARGO_PKG_VERSION"), |request| {
        ours.answer(request)
    })
}

impl Ours {
    fn answer(&self, request: Request) -> Result<Value, Box<dyn Error>> {
        match request {
            Request::Tokenise { text } => {
                Ok(json!({ "tokens": self.engine.tokenizer().encode(&text, Specials::AsText)? }))
            }
            Request::Generate { prompt, n } => {
                let made = generate(&self.engine, prompt, n)?;
                Ok(json!({
                    "tokens": made.tokens,
                    "prefill_s": made.prefill.as_secs_f64(),
                    "decode_s": made.decode.as_secs_f64(),
                }))
            }
            Request::Batch { prompts, n } => self.batch(&prompts, n),
            Request::First { first } => {
                let started = Instant::now();
                generate(&load(&self.model, self.threads)?, first, 1)?;
                Ok(json!({ "load_s": started.elapsed().as_secs_f64() }))
            }
            Request::Score { score, file } => self.score(&score, &file),
            Request::Memory { memory } => {
                Ok(json!({ "resident_bytes": if memory { resident_bytes()? } else { 0 } }))
            }
            Request::Probe { probe_threads } => {
                Ok(json!({ "read_bytes_per_s": read_bytes_per_s(probe_threads, probe_threads << 28) }))
            }
        }
    }

    /// The time from the moment when all prompts are read to the last token of all.
    fn batch(&self, prompts: &[Vec<u32>], n: usize) -> Result<Value, Box<dyn Error>> {
        let (read, started) = (Barrier::new(prompts.len()), std::sync::OnceLock::new());
        let one = |prompt: &Vec<u32>| {
            let mut first = true;
            let request = endless(prompt.clone(), n);
            let made = self.engine.generate(&request, &mut |event| {
                if first && matches!(event, StreamEvent::Token(_)) {
                    first = false;
                    read.wait();
                    started.get_or_init(Instant::now);
                }
                std::ops::ControlFlow::Continue(())
            });
            made.map(|_| ())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = prompts
                .iter()
                .map(|prompt| scope.spawn(move || one(prompt)))
                .collect();
            threads.into_iter().try_for_each(|thread| {
                thread
                    .join()
                    .map_err(|_| "a thread panicked".to_owned())?
                    .map_err(|error| error.to_string())
            })
        })?;
        let took = started.get().map_or(Duration::ZERO, Instant::elapsed);
        Ok(json!({ "batch_s": took.as_secs_f64() }))
    }

    fn score(&self, tokens: &[u32], file: &std::path::Path) -> Result<Value, Box<dyn Error>> {
        let vocab = self.engine.info().config.vocab_size;
        let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
        let mut row = vec![0.0f32; vocab];
        for score in self.engine.score(tokens, vocab)? {
            for (token, log_probability) in score.top {
                row[token as usize] = log_probability as f32;
            }
            for value in &row {
                out.write_all(&value.to_le_bytes())?;
            }
        }
        out.flush()?;
        Ok(json!({ "rows": tokens.len() - 1 }))
    }
}

/// What the system counts as this process's memory.
fn resident_bytes() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .and_then(|rest| rest.split_whitespace().next())
        .ok_or("no VmRSS")?
        .parse()?;
    Ok(kib * 1024)
}

fn endless(prompt: Vec<u32>, n: usize) -> GenerateRequest {
    GenerateRequest::new(Prompt::Tokens(prompt))
        .with_max_tokens(n)
        .with_end_of_text(EndOfText::Banned)
}

struct Made {
    tokens: Vec<u32>,
    prefill: Duration,
    decode: Duration,
}

fn generate(engine: &Engine, prompt: Vec<u32>, n: usize) -> Result<Made, Box<dyn Error>> {
    let (mut tokens, mut times) = (Vec::with_capacity(n), Vec::with_capacity(n));
    let started = Instant::now();
    engine.generate(&endless(prompt, n), &mut |event| {
        if let StreamEvent::Token(token) = event {
            tokens.push(token.token);
            times.push(started.elapsed());
        }
        std::ops::ControlFlow::Continue(())
    })?;
    let (Some(first), Some(last)) = (times.first(), times.last()) else {
        return Err("no token was generated".into());
    };
    Ok(Made {
        tokens,
        prefill: *first,
        decode: *last - *first,
    })
}
