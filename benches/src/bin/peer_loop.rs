//! Our agent loop as a driver of `cargo xtask peers loop`.
//!
//! One JSON object a line. `{"steps", "store"}` is answered with the `seconds` and the `total` of a run of that many
//! model answers; `{"parse_chunks"}` with the `seconds` that parsing a streamed reply of that many chunks took, its
//! `bytes`, and the `text_bytes` that came out.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use aion_benches::adder::{Adder, Durability};
use aion_benches::driver;
use aion_loop::model::StreamAccumulator;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

#[derive(Deserialize)]
#[serde(untagged)]
enum Request {
    Run { steps: u64, store: Durability },
    Parse { parse_chunks: usize },
}

struct Sides {
    runtime: Runtime,
    memory: Adder,
    sqlite: Adder,
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let dir = tempfile::tempdir()?;
    let memory = runtime.block_on(Adder::new(Durability::Memory, dir.path()))?;
    let sqlite = runtime.block_on(Adder::new(Durability::Sqlite, dir.path()))?;
    let sides = Sides {
        runtime,
        memory,
        sqlite,
    };
    driver::serve("aion-loop", env!("CARGO_PKG_VERSION"), |request| {
        sides.answer(&request)
    })
}

impl Sides {
    fn answer(&self, request: &Request) -> Result<Value, Box<dyn Error>> {
        match *request {
            Request::Run { steps, store } => {
                let adder = if store == Durability::Memory {
                    &self.memory
                } else {
                    &self.sqlite
                };
                let (took, total) = self.runtime.block_on(adder.run(steps))?;
                Ok(json!({ "seconds": took.as_secs_f64(), "total": total }))
            }
            Request::Parse { parse_chunks } => parse(parse_chunks),
        }
    }
}

/// Parses a reply of `chunks` chunks as servers send them.
fn parse(chunks: usize) -> Result<Value, Box<dyn Error>> {
    let chunk = |at: usize| {
        json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "script",
            "choices": [{"index": 0, "delta": {"content": format!(" word{at}")}, "finish_reason": null}],
        })
    };
    let lines: Vec<String> = (0..chunks).map(|at| chunk(at).to_string()).collect();
    let text: String = (0..chunks).map(|at| format!(" word{at}")).collect();
    let started = Instant::now();
    let mut stream = StreamAccumulator::default();
    for line in &lines {
        stream.push(black_box(line))?;
    }
    stream.push("[DONE]")?;
    let reply = stream.finish()?;
    let seconds = started.elapsed().as_secs_f64();
    if reply.text != text {
        return Err("another text came out than went in".into());
    }
    let bytes: usize = lines.iter().map(String::len).sum();
    Ok(json!({ "seconds": seconds, "bytes": bytes, "text_bytes": reply.text.len() }))
}
