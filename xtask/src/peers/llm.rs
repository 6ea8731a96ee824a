//! The language model beside llama.cpp: the same GGUF, the same tokens, taking turns.
//!
//! Both drivers get the token ids of a prompt and answer with the greedy continuation and two times. A decoded
//! token after the first is one pass over the weights, so `n` tokens make `n - 1` passes in `decode_s`. There are three
//! peers: llama.cpp as it is installed (a package with code for many processors), compiled for this machine, and candle.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::driver::Driver;
use super::row::{Better, Row, median, ratio};
use super::{Effort, python};
use crate::{Error, Result};

const PREBUILT: [&str; 1] = ["xllamacpp==2026.10.11549"];
const NATIVE: [&str; 1] = ["llama-cpp-python==0.3.36"];
/// How the native one is compiled: for this processor, without what is not asked for here, and without AMX, in which
/// this version ends with a segmentation fault where the weights are repacked.
const NATIVE_FLAGS: [(&str, &str); 3] = [
    (
        "CMAKE_ARGS",
        "-DGGML_NATIVE=ON -DMTMD_BUILD=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TOOLS=OFF",
    ),
    ("CFLAGS", WITHOUT_AMX),
    ("CXXFLAGS", WITHOUT_AMX),
];
/// Known to every compiler for x86; elsewhere there is nothing to leave out.
const WITHOUT_AMX: &str = if cfg!(target_arch = "x86_64") {
    "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
} else {
    ""
};
const MODEL_FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const PROMPT_TOKENS: usize = 128;
const LONG_PROMPT_TOKENS: usize = 1024;
const SEQUENCES: usize = 8;
/// Less than this share of equal tokens is not the same model.
const MIN_AGREEMENT: f64 = 0.25;
/// What the divergence from llama.cpp may be, in nats, and the perplexity's distance.
const MAX_KL_NATS: f64 = 0.005;
const MAX_PERPLEXITY_SHARE: f64 = 0.005;
/// What may be resident, as a multiple of the peer's.
const MAX_RESIDENT: f64 = 1.2;

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
struct Batch<'a> {
    prompts: &'a [Vec<u32>],
    n: usize,
}

#[derive(Serialize)]
struct First<'a> {
    first: &'a [u32],
}

#[derive(Serialize)]
struct Memory {
    memory: bool,
}

#[derive(Serialize)]
struct Score<'a> {
    score: &'a [u32],
    file: &'a Path,
}

#[derive(Serialize)]
struct Compare<'a> {
    compare: &'a [u32],
    file: &'a Path,
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

#[derive(Deserialize)]
struct BatchTime {
    batch_s: f64,
}

#[derive(Deserialize)]
struct LoadTime {
    load_s: f64,
}

#[derive(Deserialize)]
struct Resident {
    resident_bytes: f64,
}

#[derive(Deserialize)]
struct Scored {
    rows: usize,
}

#[derive(Deserialize)]
struct Compared {
    kl_nats: f64,
    perplexity: f64,
    our_perplexity: f64,
    same_top: f64,
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

#[derive(Clone, Copy)]
struct Plan {
    rounds: usize,
    decode_tokens: usize,
    scored_tokens: usize,
}

impl Plan {
    fn of(effort: Effort) -> Self {
        match effort {
            Effort::Quick => Self {
                rounds: 2,
                decode_tokens: 32,
                scored_tokens: 301,
            },
            Effort::Full => Self {
                rounds: 5,
                decode_tokens: 64,
                scored_tokens: 2001,
            },
        }
    }
}

/// A group of rows; with a name, so that it can be run by itself.
struct Work {
    name: &'static str,
    peer: Peer,
    least_threads: usize,
    rows: fn(&Ring, &mut Sides) -> Result<Vec<Row>>,
}

#[derive(Clone, Copy)]
enum Peer {
    /// llama.cpp as it is installed.
    Prebuilt,
    /// llama.cpp compiled for this machine.
    Native,
    Candle,
}

const WORKS: [Work; 9] = [
    work("prebuilt", Peer::Prebuilt, 1, Ring::short),
    work("candle", Peer::Candle, 1, Ring::short),
    work("native", Peer::Native, 1, Ring::short),
    work("long", Peer::Native, 1, Ring::long),
    work("batch", Peer::Native, 2, Ring::batch),
    work("load", Peer::Native, 2, Ring::load),
    work("busy", Peer::Native, 2, Ring::busy),
    work("memory", Peer::Native, 2, Ring::memory),
    work("quality", Peer::Native, 2, Ring::quality),
];

const fn work(
    name: &'static str,
    peer: Peer,
    least_threads: usize,
    rows: fn(&Ring, &mut Sides) -> Result<Vec<Row>>,
) -> Work {
    Work {
        name,
        peer,
        least_threads,
        rows,
    }
}

/// Decode and prefill with one and with two threads, and with two also all the rest; of works whose name holds `only`.
///
/// # Errors
/// When a driver cannot be built or run, or when the continuations have too little in common.
pub fn rows(root: &Path, effort: Effort, only: Option<&str>) -> Result<Vec<Row>> {
    let wanted = |work: &&Work| only.is_none_or(|part| work.name.contains(part));
    let programs = Programs {
        root: root.to_owned(),
        model: model_file()?,
        ours: build_driver(root)?,
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut rows = Vec::new();
    for threads in [1, 2].into_iter().filter(|threads| *threads <= cores) {
        let mut ours = programs.ours(threads)?;
        let ring = Ring {
            text: tokens_of(&mut ours, TEXT, PROMPT_TOKENS)?,
            threads,
            plan: Plan::of(effort),
            limit: weights_limit(&mut ours, &programs.model, threads)?,
            root: root.to_owned(),
            weights: file_bytes(&programs.model),
        };
        for work in WORKS
            .iter()
            .filter(wanted)
            .filter(|work| work.least_threads <= threads)
        {
            eprintln!("{} with {threads} threads", work.name);
            let theirs = programs.peer(work.peer, threads)?;
            let mut sides = Sides { ours, theirs };
            rows.extend((work.rows)(&ring, &mut sides)?);
            ours = sides.ours;
        }
    }
    Ok(rows)
}

/// Ours and a peer.
struct Sides {
    ours: Driver,
    theirs: Driver,
}

impl Sides {
    /// Asks both; who goes first alternates, so that neither always meets the colder or hotter machine.
    fn in_turn<T: DeserializeOwned>(&mut self, round: usize, request: &impl Serialize) -> Result<(T, T)> {
        if round.is_multiple_of(2) {
            Ok((self.ours.ask(request)?, self.theirs.ask(request)?))
        } else {
            let theirs = self.theirs.ask(request)?;
            Ok((self.ours.ask(request)?, theirs))
        }
    }
}

struct Programs {
    root: PathBuf,
    model: PathBuf,
    ours: PathBuf,
}

impl Programs {
    fn ours(&self, threads: usize) -> Result<Driver> {
        let count = threads.to_string();
        Driver::start(
            Command::new(&self.ours)
                .arg(&self.model)
                .arg(&count)
                .env("RAYON_NUM_THREADS", &count),
        )
    }

    /// Made on the first call.
    fn peer(&self, peer: Peer, threads: usize) -> Result<Driver> {
        let script = |python: PathBuf, script: &str| {
            let mut command = Command::new(python);
            command.arg(self.root.join("benches/peers/llm").join(script));
            command
        };
        let mut command = match peer {
            Peer::Prebuilt => script(python::interpreter("llm", &PREBUILT)?, "llamacpp.py"),
            Peer::Native => script(
                python::compiled("llm-native", &NATIVE, &NATIVE_FLAGS)?,
                "native.py",
            ),
            Peer::Candle => Command::new(super::rust_peer(&self.root, "llm/candle")?),
        };
        let count = threads.to_string();
        Driver::start(
            command
                .arg(&self.model)
                .arg(&count)
                .env("RAYON_NUM_THREADS", &count),
        )
    }
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
    super::release_binary(root, "peer-llm", &["--no-default-features", "--features", "llm"])
}

/// How many passes over the weights the memory allows in a second.
fn weights_limit(ours: &mut Driver, model: &Path, threads: usize) -> Result<String> {
    let probe: Bandwidth = ours.ask(&Probe {
        probe_threads: threads,
    })?;
    let per_s = probe.read_bytes_per_s;
    Ok(format!(
        "reading the weights: {:.0} tokens/s at {:.0} GB/s",
        per_s / file_bytes(model),
        per_s / 1e9
    ))
}

fn file_bytes(path: &Path) -> f64 {
    std::fs::metadata(path).map_or(0, |meta| meta.len()) as f64
}

fn tokens_of(ours: &mut Driver, text: &str, at_least: usize) -> Result<Vec<u32>> {
    let text: Tokens = ours.ask(&Tokenise { text })?;
    if text.tokens.len() < at_least {
        return Err(Error::Missing(format!("a text of {at_least} tokens")));
    }
    Ok(text.tokens)
}

/// What all contests share.
struct Ring {
    text: Vec<u32>,
    threads: usize,
    plan: Plan,
    /// What the memory allows, in words.
    limit: String,
    root: PathBuf,
    /// Of the file, in bytes.
    weights: f64,
}

/// What both sides did in turn.
struct Measured {
    ours: Times,
    theirs: Times,
    agreement: String,
}

impl Ring {
    fn short(&self, sides: &mut Sides) -> Result<Vec<Row>> {
        self.speed(sides, PROMPT_TOKENS)
    }

    fn long(&self, sides: &mut Sides) -> Result<Vec<Row>> {
        self.speed(sides, LONG_PROMPT_TOKENS)
    }

    /// Decoding after a prompt of so many tokens, and reading it.
    fn speed(&self, sides: &mut Sides, prompt_tokens: usize) -> Result<Vec<Row>> {
        let measured = self.measure(sides, prompt_tokens)?;
        let decoded = self.plan.decode_tokens - 1;
        let decode = Row {
            work: format!("decode {decoded} tokens at context {prompt_tokens}"),
            goal_ratio: Some(1.5),
            limit: self.limit.clone(),
            ..self.row(&measured, decoded, |times| &times.decode_s, &sides.theirs)
        };
        let prefill = Row {
            work: format!("prefill {prompt_tokens} tokens"),
            goal_ratio: (prompt_tokens == PROMPT_TOKENS).then_some(if self.threads == 1 { 1.4 } else { 1.3 }),
            limit: "arithmetic".to_owned(),
            ..self.row(&measured, prompt_tokens, |times| &times.prefill_s, &sides.theirs)
        };
        Ok(vec![decode, prefill])
    }

    fn measure(&self, sides: &mut Sides, prompt_tokens: usize) -> Result<Measured> {
        let n = self.plan.decode_tokens;
        let (mut our_times, mut their_times, mut shared) = (Times::default(), Times::default(), Vec::new());
        for round in 0..=self.plan.rounds {
            let prompt = rotated(&self.text, round * 7, prompt_tokens);
            let request = Generate { prompt: &prompt, n };
            let (a, b): (Generated, Generated) = sides.in_turn(round, &request)?;
            shared.push(equal_prefix(&a.tokens, &b.tokens));
            if round > 0 {
                our_times.add(&a);
                their_times.add(&b);
            } // the first round warms up
        }
        Ok(Measured {
            agreement: agreement(&shared, n, &sides.theirs.label())?,
            ours: our_times,
            theirs: their_times,
        })
    }

    fn row(&self, measured: &Measured, tokens: usize, times: fn(&Times) -> &Vec<f64>, peer: &Driver) -> Row {
        let rate = |side| median(times(side)).map_or(f64::NAN, |seconds| tokens as f64 / seconds);
        let (ours, their_rate) = (rate(&measured.ours), rate(&measured.theirs));
        Row {
            agreement: measured.agreement.clone(),
            rounds: times(&measured.ours).len(),
            ..self.beside("tokens/s", Better::Higher, ours, their_rate, peer)
        }
    }

    fn beside(&self, unit: &'static str, better: Better, ours: f64, theirs: f64, peer: &Driver) -> Row {
        Row {
            peer: peer.label(),
            theirs: Some(theirs),
            ratio: Some(ratio(better, ours, theirs)),
            threads: self.threads,
            ..Row::alone(unit, ours)
        }
    }

    /// Several sequences at once: as many requests on our side, one batch on theirs.
    fn batch(&self, sides: &mut Sides) -> Result<Vec<Row>> {
        let prompts: Vec<Vec<u32>> = (0..SEQUENCES)
            .map(|i| rotated(&self.text, 11 * i, PROMPT_TOKENS))
            .collect();
        let request = Batch {
            prompts: &prompts,
            n: self.plan.decode_tokens,
        };
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for round in 0..=self.plan.rounds {
            let (mine, other): (BatchTime, BatchTime) = sides.in_turn(round, &request)?;
            if round > 0 {
                a.push(mine.batch_s);
                b.push(other.batch_s);
            }
        }
        let tokens = (SEQUENCES * (self.plan.decode_tokens - 1)) as f64;
        let rate = |seconds: &[f64]| median(seconds).map_or(f64::NAN, |seconds| tokens / seconds);
        Ok(vec![Row {
            work: format!("decode, {SEQUENCES} sequences at once, together"),
            goal_ratio: Some(1.3),
            limit: "arithmetic".to_owned(),
            rounds: a.len(),
            ..self.beside("tokens/s", Better::Higher, rate(&a), rate(&b), &sides.theirs)
        }])
    }

    /// From nothing (the file in the page cache) to the first token after a prompt; ours with its tokenizer.
    fn load(&self, sides: &mut Sides) -> Result<Vec<Row>> {
        let prompt = rotated(&self.text, 0, 16);
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for round in 0..self.plan.rounds.min(3) {
            let (mine, other): (LoadTime, LoadTime) = sides.in_turn(round, &First { first: &prompt })?;
            a.push(mine.load_s * 1e3);
            b.push(other.load_s * 1e3);
        }
        let middle = |times: &[f64]| median(times).unwrap_or(f64::NAN);
        Ok(vec![Row {
            work: "load to first token".to_owned(),
            goal_ratio: Some(1.0),
            limit: "-".to_owned(),
            rounds: a.len(),
            ..self.beside("ms", Better::Lower, middle(&a), middle(&b), &sides.theirs)
        }])
    }

    /// Decoding while two other processes want both cores.
    fn busy(&self, sides: &mut Sides) -> Result<Vec<Row>> {
        let load = Busy::start(2)?;
        let measured = self.measure(sides, PROMPT_TOKENS)?;
        drop(load);
        let decoded = self.plan.decode_tokens - 1;
        Ok(vec![Row {
            work: format!("decode {decoded} tokens while two processes spin"),
            goal_ratio: Some(1.0),
            limit: "half of the cores".to_owned(),
            ..self.row(&measured, decoded, |times| &times.decode_s, &sides.theirs)
        }])
    }

    /// Our whole process; of theirs what the model added.
    fn memory(&self, sides: &mut Sides) -> Result<Vec<Row>> {
        self.measure(sides, PROMPT_TOKENS)?;
        let (a, b): (Resident, Resident) = sides.in_turn(0, &Memory { memory: true })?;
        Ok(vec![Row {
            work: "resident after decoding".to_owned(),
            goal_ratio: Some(1.0 / MAX_RESIDENT),
            limit: format!("the weights: {:.0} MB", self.weights / 1e6),
            ..self.beside(
                "MB",
                Better::Lower,
                a.resident_bytes / 1e6,
                b.resident_bytes / 1e6,
                &sides.theirs,
            )
        }])
    }

    /// Our predictions of a text beside theirs, every token of it given.
    fn quality(&self, sides: &mut Sides) -> Result<Vec<Row>> {
        let mut tokens = tokens_of(&mut sides.ours, &prose(&self.root)?, self.plan.scored_tokens)?;
        tokens.truncate(self.plan.scored_tokens);
        let dir = tempfile::tempdir().map_err(|source| Error::File {
            path: std::env::temp_dir(),
            source,
        })?;
        let file = dir.path().join("predictions");
        let scored: Scored = sides.ours.ask(&Score {
            score: &tokens,
            file: &file,
        })?;
        let seen: Compared = sides.theirs.ask(&Compare {
            compare: &tokens,
            file: &file,
        })?;
        let distance = seen.our_perplexity / seen.perplexity - 1.0;
        Ok(vec![Row {
            work: format!("mean divergence over {} given tokens", scored.rows),
            peer: sides.theirs.label(),
            kept: Some(seen.kl_nats <= MAX_KL_NATS && distance.abs() <= MAX_PERPLEXITY_SHARE),
            limit: format!("{MAX_KL_NATS} nats, perplexity within {MAX_PERPLEXITY_SHARE}"),
            agreement: format!(
                "perplexity {:.3}, theirs {:.3} ({:+.2}%); the likeliest token is the same for {:.1}%",
                seen.our_perplexity,
                seen.perplexity,
                100.0 * distance,
                100.0 * seen.same_top
            ),
            threads: self.threads,
            ..Row::alone("nats", seen.kl_nats)
        }])
    }
}

/// Prose of this repository, enough for 2,000 tokens.
fn prose(root: &Path) -> Result<String> {
    let files = ["aion-llm/tests/golden/text.txt", "CONTRIBUTING.md", "README.md"];
    let read = |file: &&str| {
        let path = root.join(file);
        std::fs::read_to_string(&path).map_err(|source| Error::File { path, source })
    };
    files.iter().map(read).collect()
}

/// Processes that do nothing, without end.
struct Busy(Vec<Child>);

impl Busy {
    fn start(n: usize) -> Result<Self> {
        let mut all = Self(Vec::new());
        for _ in 0..n {
            let mut command = Command::new("sh");
            command.args(["-c", "while :; do :; done"]);
            let child = command
                .spawn()
                .map_err(|source| crate::command::not_started(&command, source))?;
            all.0.push(child);
        }
        Ok(all)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended already needs no end.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Times {
    fn add(&mut self, generated: &Generated) {
        self.prefill_s.push(generated.prefill_s);
        self.decode_s.push(generated.decode_s);
    }
}

fn rotated(tokens: &[u32], by: usize, n: usize) -> Vec<u32> {
    tokens
        .iter()
        .cycle()
        .skip(by % tokens.len())
        .take(n)
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
