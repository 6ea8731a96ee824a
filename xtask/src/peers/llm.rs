//! The language model beside llama.cpp: the same GGUF, the same tokens, taking turns.
//!
//! Both drivers get the token ids of a prompt and answer with the greedy continuation and two times. A decoded
//! token after the first is one pass over the weights, so `n` tokens make `n - 1` passes in `decode_s`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::driver::Driver;
use super::row::{Better, Row, median, ratio};
use super::{Effort, python};
use crate::{Error, Result};

const PEER_PACKAGES: [&str; 1] = ["xllamacpp==2026.10.11549"];
const MODEL_FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const PROMPT_TOKENS: usize = 128;
/// Less than this share of equal tokens is not the same model.
const MIN_AGREEMENT: f64 = 0.25;

/// English prose of our own; its first 128 tokens are the prompt, rotated so that no two rounds are alike.
const TEXT: &str = "A task enters the tree and waits until somebody claims it. The claim is a lease with a number \
that only grows, so a worker that slept too long finds its door locked when it wakes up. While the work goes on, a \
market keeps a price for its success, and everybody who bets must say a probability and live with it. When the check \
has run, the price is settled in bits: who was surprised pays, who was not is trusted a little more. Nothing here is \
certain, but every belief leaves a mark, and marks can be added up. The next task begins with what the last one cost. \
A language model writes each step, and every token it writes carries a number that tells how much better than chance \
it was expected. Long runs of weak numbers are a warning that comes before the failure does, and a warning that is \
early enough is worth more than an explanation that is late.";

#[derive(Serialize)]
struct Tokenise<'a> {
    text: &'a str,
}

#[derive(Serialize)]
struct Generate<'a> {
    prompt: &'a [u32],
    n: usize,
}

#[derive(Serialize)]
struct Probe {
    probe_threads: usize,
}

#[derive(Deserialize)]
struct Tokens {
    tokens: Vec<u32>,
}

#[derive(Deserialize)]
struct Bandwidth {
    read_bytes_per_s: f64,
}

/// What a driver answers to a prompt.
#[derive(Debug, Clone, Deserialize)]
struct Generated {
    tokens: Vec<u32>,
    prefill_s: f64,
    decode_s: f64,
}

/// The times of one side, in seconds, by round.
#[derive(Default)]
struct Times {
    prefill_s: Vec<f64>,
    decode_s: Vec<f64>,
}

struct Plan {
    rounds: usize,
    decode_tokens: usize,
}

impl Plan {
    fn of(effort: Effort) -> Self {
        match effort {
            Effort::Quick => Self {
                rounds: 2,
                decode_tokens: 32,
            },
            Effort::Full => Self {
                rounds: 7,
                decode_tokens: 64,
            },
        }
    }
}

/// Decode and prefill with one and with two threads.
///
/// # Errors
/// When a driver cannot be built or run, or when the continuations have too little in common.
pub fn rows(root: &Path, effort: Effort) -> Result<Vec<Row>> {
    let model = model_file()?;
    let python = python::interpreter("llm", &PEER_PACKAGES)?;
    let ours = build_driver(root)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut rows = Vec::new();
    for threads in [1, 2].into_iter().filter(|threads| *threads <= cores) {
        let count = threads.to_string();
        let mut ours = Command::new(&ours);
        ours.arg(&model).arg(&count).env("RAYON_NUM_THREADS", &count);
        let mut theirs = Command::new(&python);
        theirs
            .arg(root.join("benches/peers/llm/llamacpp.py"))
            .arg(&model)
            .arg(&count);
        let pair = (Driver::start(&mut ours)?, Driver::start(&mut theirs)?);
        rows.extend(pair_rows(pair, &model, threads, &Plan::of(effort))?);
    }
    Ok(rows)
}

/// The weights in the model cache.
fn model_file() -> Result<PathBuf> {
    let path = python::cache_dir()?.join("models").join(MODEL_FILE);
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::Missing(format!(
        "{} (`.ci/model` or `aion model pull` fetches it)",
        path.display()
    )))
}

fn build_driver(root: &Path) -> Result<PathBuf> {
    super::release_binary(root, "peer-llm", &[])
}

/// What both sides did in turn.
struct Measured {
    ours: Times,
    theirs: Times,
    agreement: String,
    peer: String,
    /// What the machine allows, in words.
    limit: String,
}

fn pair_rows(
    (mut ours, mut theirs): (Driver, Driver),
    model: &Path,
    threads: usize,
    plan: &Plan,
) -> Result<Vec<Row>> {
    let measured = measure(&mut ours, &mut theirs, plan)?;
    let measured = Measured {
        limit: weights_limit(&mut ours, model, threads)?,
        ..measured
    };
    let decode = format!("decode {} tokens", plan.decode_tokens);
    let prefill = format!("prefill {PROMPT_TOKENS} tokens");
    Ok(vec![
        measured.row(decode, plan.decode_tokens - 1, |times| &times.decode_s, threads),
        Row {
            limit: "arithmetic".to_owned(),
            ..measured.row(prefill, PROMPT_TOKENS, |times| &times.prefill_s, threads)
        },
    ])
}

fn measure(ours: &mut Driver, theirs: &mut Driver, plan: &Plan) -> Result<Measured> {
    let text: Tokens = ours.ask(&Tokenise { text: TEXT })?;
    if text.tokens.len() < PROMPT_TOKENS {
        return Err(Error::Missing("a text of 128 tokens".to_owned()));
    }
    let (mut our_times, mut their_times, mut shared) = (Times::default(), Times::default(), Vec::new());
    for round in 0..=plan.rounds {
        let prompt = rotated(&text.tokens, round * 7);
        let request = Generate {
            prompt: &prompt,
            n: plan.decode_tokens,
        };
        // Who goes first alternates, so that neither always meets the colder or hotter machine.
        let (a, b): (Generated, Generated) = if round % 2 == 0 {
            (ours.ask(&request)?, theirs.ask(&request)?)
        } else {
            let theirs = theirs.ask(&request)?;
            (ours.ask(&request)?, theirs)
        };
        shared.push(equal_prefix(&a.tokens, &b.tokens));
        if round > 0 {
            our_times.add(&a);
            their_times.add(&b);
        } // the first round warms up
    }
    let agreement = agreement(&shared, plan.decode_tokens, &theirs.label())?;
    let (peer, limit) = (theirs.label(), String::new());
    Ok(Measured {
        ours: our_times,
        theirs: their_times,
        agreement,
        peer,
        limit,
    })
}

/// How many passes over the weights the memory allows in a second.
fn weights_limit(ours: &mut Driver, model: &Path, threads: usize) -> Result<String> {
    let probe: Bandwidth = ours.ask(&Probe {
        probe_threads: threads,
    })?;
    let bytes = std::fs::metadata(model).map_or(0, |meta| meta.len()) as f64;
    let per_s = probe.read_bytes_per_s;
    Ok(format!(
        "reading the weights: {:.0} tokens/s at {:.0} GB/s",
        per_s / bytes,
        per_s / 1e9
    ))
}

impl Measured {
    fn row(&self, work: String, tokens: usize, times: fn(&Times) -> &Vec<f64>, threads: usize) -> Row {
        let rate = |side| median(times(side)).map_or(f64::NAN, |seconds| tokens as f64 / seconds);
        let (ours, theirs) = (rate(&self.ours), rate(&self.theirs));
        Row {
            work,
            unit: "tokens/s",
            ours,
            peer: self.peer.clone(),
            theirs: Some(theirs),
            ratio: Some(ratio(Better::Higher, ours, theirs)),
            goal_ratio: Some(1.2),
            kept: None,
            limit: self.limit.clone(),
            agreement: self.agreement.clone(),
            threads,
            rounds: times(&self.ours).len(),
        }
    }
}

impl Times {
    fn add(&mut self, generated: &Generated) {
        self.prefill_s.push(generated.prefill_s);
        self.decode_s.push(generated.decode_s);
    }
}

fn rotated(tokens: &[u32], by: usize) -> Vec<u32> {
    tokens
        .iter()
        .cycle()
        .skip(by % tokens.len())
        .take(PROMPT_TOKENS)
        .copied()
        .collect()
}

/// How many tokens are equal before the first difference.
///
/// ```
/// assert_eq!(xtask::peers::llm::equal_prefix(&[1, 2, 3], &[1, 2, 4]), 2);
/// ```
pub fn equal_prefix(ours: &[u32], theirs: &[u32]) -> usize {
    ours.iter().zip(theirs).take_while(|(a, b)| a == b).count()
}

/// Greedy continuations part for good after the first near tie, so the equal prefix is what counts.
fn agreement(shared: &[usize], n: usize, peer: &str) -> Result<String> {
    let equal: usize = shared.iter().sum();
    let whole = shared.iter().filter(|prefix| **prefix == n).count();
    let said = format!(
        "{equal} of {} greedy tokens before the first difference, {whole} of {} prompts whole",
        shared.len() * n,
        shared.len()
    );
    if (equal as f64) < MIN_AGREEMENT * (shared.len() * n) as f64 {
        return Err(Error::Disagree {
            peer: peer.to_owned(),
            what: said,
        });
    }
    Ok(said)
}
