//! Our router as a driver of `cargo xtask peers router`.
//!
//! One JSON object a line with the name of what to `do`. `open` names the folders (`data`, `minilm`, `cache`, and `dir`
//! for what all sides read); `make_vectors`, `make_words`, `make_tokens` and `make_set` write there, `load_vectors` and
//! `load_words` read it. `scan`, `search` and `embed` are answered with the `cpu_s` of one query, and what was `found`
//! where that is asked for; `cached`, `rank` and `replay` with times; `quality`, `cold`, `attack` and `fitting` with how
//! good rankings are.

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::path::PathBuf;

use aion_benches::driver;
use aion_benches::memory::{fastest, read_bytes_per_s};
use aion_benches::router::catalogs::Catalogs;
use aion_benches::router::sets::{Remembered, Set, write_for_peers};
use aion_benches::router::vectors::{Scan, Search};
use aion_benches::router::words::Words;
use aion_benches::router::{attack, cold, fitting, vectors, words};
use aion_router::embed::embed_one;
use aion_router::quality::{Plan, Question, evaluate, split};
use aion_router::{Embedder, EmbeddingCache, Item};
use serde::Deserialize;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The set whose questions stand for texts of any kind.
const TEXTS: &str = "metatool";

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Request {
    Open(Open),
    MakeVectors {
        rows: usize,
        queries: usize,
        real: usize,
    },
    LoadVectors {
        rows: usize,
    },
    Scan {
        scan: Scan,
        reps: usize,
        found: bool,
    },
    MakeWords {
        docs: usize,
        queries: usize,
    },
    LoadWords {},
    Search {
        reps: usize,
        found: bool,
    },
    MakeTokens {
        texts: usize,
        tokens: usize,
    },
    Embed {
        reps: usize,
        found: bool,
    },
    Cached {
        texts: usize,
        reps: usize,
    },
    Rank {
        surfaces: usize,
        items: usize,
        learned: u64,
        times: u64,
    },
    Replay {
        items: usize,
        decisions: u64,
    },
    Probe {
        bytes: usize,
    },
    MakeSet(Asked),
    Quality(Asked),
    Cold(Asked),
    Attack {
        draws: u64,
        #[serde(flatten)]
        asked: Asked,
    },
    Fitting {
        budget: u32,
        #[serde(flatten)]
        asked: Asked,
    },
}

#[derive(Deserialize)]
struct Open {
    data: Option<PathBuf>,
    minilm: Option<PathBuf>,
    cache: PathBuf,
    dir: PathBuf,
}

/// A set, and how many of its questions are learned from and asked.
#[derive(Deserialize)]
struct Asked {
    set: String,
    training: usize,
    asked: usize,
}

fn main() -> Result<()> {
    let mut parts = None;
    driver::serve(
        "aion-router",
        env!("CARGO_PKG_VERSION"),
        |request| match request {
            Request::Open(folders) => {
                parts = Some(Parts::new(folders)?);
                Ok(json!({}))
            }
            request => parts.as_mut().ok_or("nothing is open")?.answer(request),
        },
    )
}

struct Parts {
    folders: Open,
    encoder: Option<Remembered>,
    sets: BTreeMap<String, Set>,
    search: Option<Search>,
    words: Option<Words>,
    tokens: Vec<Vec<u32>>,
}

impl Parts {
    fn new(folders: Open) -> Result<Self> {
        let encoder = folders
            .minilm
            .as_ref()
            .map(|minilm| Remembered::new(minilm, &folders.cache));
        Ok(Self {
            encoder: encoder.transpose()?,
            folders,
            sets: BTreeMap::new(),
            search: None,
            words: None,
            tokens: Vec::new(),
        })
    }

    fn answer(&mut self, request: Request) -> Result<Value> {
        match request {
            Request::Open(_) => Err("it is open already".into()),
            Request::MakeVectors { rows, queries, real } => {
                let real = self.real_vectors(real)?;
                vectors::write(&self.folders.dir, rows, queries, &real)?;
                Ok(json!({ "real": real.len() }))
            }
            Request::LoadVectors { rows } => {
                self.search = Some(Search::read(&self.folders.dir, rows)?);
                Ok(json!({}))
            }
            Request::Scan { scan, reps, found } => {
                let search = self.search.as_ref().ok_or("no vectors are loaded")?;
                let slots = found.then(|| search.found(scan));
                Ok(json!({ "cpu_s": search.seconds(scan, reps), "found": slots }))
            }
            Request::MakeWords { docs, queries } => self.make_words(docs, queries),
            Request::LoadWords {} => {
                self.words = Some(Words::read(&self.folders.dir)?);
                Ok(json!({}))
            }
            Request::Search { reps, found } => {
                let words = self.words.as_ref().ok_or("no documents are loaded")?;
                let docs = found.then(|| words.found());
                Ok(json!({ "cpu_s": words.seconds(reps), "found": docs }))
            }
            Request::MakeTokens { texts, tokens } => self.make_tokens(texts, tokens),
            Request::Embed { reps, found } => self.embed(reps, found),
            Request::Cached { texts, reps } => self.cached(texts, reps),
            Request::Rank {
                surfaces,
                items,
                learned,
                times,
            } => {
                let mut catalogs = Catalogs::new(surfaces, items)?;
                catalogs.use_it(learned)?;
                let took = catalogs.rank(times)?;
                Ok(json!({
                    "p50_s": took.p50_s,
                    "p99_s": took.p99_s,
                    "p50_wall_s": took.p50_wall_s,
                    "p99_wall_s": took.p99_wall_s,
                }))
            }
            Request::Replay { items, decisions } => {
                let mut catalogs = Catalogs::new(1, items)?;
                let log = catalogs.use_it(decisions)?;
                let (per_s, same) = catalogs.replay(log)?;
                Ok(json!({ "per_s": per_s, "same": same }))
            }
            Request::Probe { bytes } => Ok(json!({ "bytes_per_s": read_bytes_per_s(1, bytes) })),
            Request::MakeSet(asked) => {
                let (set, split) = self.split(&asked)?;
                let file = self.folders.dir.join(format!("{}.json", asked.set));
                write_for_peers(&set, &split.asked(), &file)?;
                Ok(json!({}))
            }
            Request::Quality(asked) => {
                let (set, split) = self.split(&asked)?;
                let plan = Plan::default()
                    .with_training(asked.training)
                    .with_asked(asked.asked);
                let questions = split.all();
                let embedder = self.encoder()?.with_spelling();
                let report = evaluate(set.items, &questions, &embedder, &plan, |_, _| {})?;
                Ok(serde_json::to_value(&report)?)
            }
            Request::Cold(asked) => {
                let (set, split) = self.split(&asked)?;
                let embedder = self.encoder()?.with_spelling();
                let cold = cold::measure(&set, &split.training(), &split.asked(), &embedder)?;
                Ok(json!({
                    "learned_r5": cold.learned_r5,
                    "content_r5": cold.content_r5,
                    "warm_r5": cold.warm_r5,
                    "questions": cold.questions,
                }))
            }
            Request::Attack { draws, asked } => {
                let (set, split) = self.split(&asked)?;
                let encoder = self.encoder()?;
                let embedders: (&dyn Embedder, &dyn Embedder) = (&encoder, &encoder.with_spelling());
                let found = attack::measure(&set, &split.training(), &split.asked(), embedders, draws)?;
                let taken =
                    |taken: attack::Taken| json!({ "slots": taken.slots, "questions": taken.questions });
                Ok(json!({
                    "encoder": taken(found.encoder),
                    "cold": taken(found.cold),
                    "learned": taken(found.learned),
                    "strangers": found.strangers,
                }))
            }
            Request::Fitting { budget, asked } => {
                let (set, split) = self.split(&asked)?;
                let embedder = self.encoder()?.with_spelling();
                let found = fitting::measure(&set, &split.asked(), &embedder, budget)?;
                Ok(json!({ "greedy": found.greedy, "exact": found.exact, "value": found.value }))
            }
        }
    }

    fn encoder(&self) -> Result<&Remembered> {
        self.encoder
            .as_ref()
            .ok_or_else(|| "no sentence encoder is named".into())
    }

    fn set(&mut self, name: &str) -> Result<&Set> {
        if !self.sets.contains_key(name) {
            let data = self.folders.data.as_ref().ok_or("no sets are named")?;
            self.sets.insert(name.to_owned(), Set::read(&data.join(name))?);
        }
        self.sets.get(name).ok_or_else(|| "no set".into())
    }

    /// A set with its questions as the evaluation splits them; their vectors are known afterwards.
    fn split(&mut self, asked: &Asked) -> Result<(Set, Split)> {
        let set = self.set(&asked.set)?.clone();
        let plan = Plan::default()
            .with_training(asked.training)
            .with_asked(asked.asked);
        let (training, others) = split(&set.items, &set.questions, &plan);
        let split = Split {
            training: training.into_iter().cloned().collect(),
            asked: others.into_iter().cloned().collect(),
        };
        let texts = set.texts(split.training.iter().chain(&split.asked));
        if let Some(encoder) = &mut self.encoder {
            encoder.learn(&texts)?;
        }
        Ok((set, split))
    }

    /// The vectors of so many questions, none where there is no encoder or no set.
    fn real_vectors(&mut self, count: usize) -> Result<Vec<Vec<f32>>> {
        if self.encoder.is_none() || self.folders.data.is_none() {
            return Ok(Vec::new());
        }
        let questions = self.set(TEXTS)?.questions.iter();
        let texts: Vec<String> = questions
            .take(count)
            .map(|question| question.text.clone())
            .collect();
        if let Some(encoder) = &mut self.encoder {
            encoder.learn(&texts)?;
        }
        let encoder = self.encoder()?;
        let vectors = texts.iter().map(|text| Ok(embed_one(&encoder, text)?));
        vectors.collect()
    }

    fn make_words(&mut self, docs: usize, queries: usize) -> Result<Value> {
        let mut texts: Vec<String> = Vec::new();
        for set in ["bfcl", TEXTS] {
            texts.extend(self.set(set)?.items.iter().map(Item::embedded_text));
        }
        let questions = &self.set(TEXTS)?.questions;
        let questions: Vec<String> = questions.iter().map(|question| question.text.clone()).collect();
        let (asked, more) = questions.split_at(queries.min(questions.len() / 2));
        texts.extend_from_slice(more);
        words::write(&self.folders.dir, docs, &texts, asked)?;
        Ok(json!({}))
    }

    /// Texts of just so many tokens, with the marks at both ends.
    fn make_tokens(&mut self, texts: usize, tokens: usize) -> Result<Value> {
        let all: String = match self.set(TEXTS) {
            Ok(set) => {
                let words = set
                    .questions
                    .iter()
                    .take(50 * texts)
                    .map(|question| question.text.as_str());
                words.collect::<Vec<_>>().join(" ")
            }
            Err(_) => "which of these tools reads a file and says what it found ".repeat(10 * texts),
        };
        let encoder = self.encoder()?.encoder();
        let words: Vec<&str> = all.split_whitespace().collect();
        let lists = words.chunks(tokens).map(|words| encoder.tokens(&words.join(" ")));
        let mut lists = lists.collect::<std::result::Result<Vec<Vec<u32>>, _>>()?;
        lists.retain(|list| list.len() > tokens);
        lists.truncate(texts);
        for list in &mut lists {
            let end = list[list.len() - 1];
            list.truncate(tokens - 1);
            list.push(end);
        }
        std::fs::write(self.folders.dir.join("tokens.json"), serde_json::to_vec(&lists)?)?;
        self.tokens = lists;
        Ok(json!({ "texts": self.tokens.len() }))
    }

    fn embed(&self, reps: usize, found: bool) -> Result<Value> {
        let encoder = self.encoder()?.encoder();
        let mut vectors = vec![0.0; self.tokens.len() * encoder.dim()];
        let (cpu, _) = fastest(reps, || {
            let rows = vectors.chunks_exact_mut(encoder.dim());
            for (text, out) in self.tokens.iter().zip(rows) {
                encoder.embed_tokens(std::slice::from_ref(black_box(text)), out);
            }
        });
        let cpu_s = cpu.as_secs_f64() / self.tokens.len() as f64;
        let rows: Option<Vec<&[f32]>> = found.then(|| vectors.chunks_exact(encoder.dim()).collect());
        Ok(json!({ "cpu_s": cpu_s, "found": rows }))
    }

    /// A text whose vector is there already.
    fn cached(&mut self, texts: usize, reps: usize) -> Result<Value> {
        let questions: Vec<Question> = self.set(TEXTS)?.questions.iter().take(texts).cloned().collect();
        self.real_vectors(texts)?;
        let (encoder, cache) = (self.encoder()?, EmbeddingCache::new(texts));
        let pass = || -> Result<()> {
            for question in &questions {
                black_box(cache.get_or_embed(&encoder, black_box(&question.text))?);
            }
            Ok(())
        };
        pass()?;
        let mut failed = None;
        let (cpu, _) = fastest(reps, || failed = pass().err());
        failed.map_or(Ok(()), Err)?;
        Ok(json!({ "cpu_s": cpu.as_secs_f64() / questions.len() as f64, "cached": cache.len() }))
    }
}

/// Questions to learn from, and others.
struct Split {
    training: Vec<Question>,
    asked: Vec<Question>,
}

impl Split {
    fn training(&self) -> Vec<&Question> {
        self.training.iter().collect()
    }

    fn asked(&self) -> Vec<&Question> {
        self.asked.iter().collect()
    }

    fn all(&self) -> Vec<Question> {
        self.training.iter().chain(&self.asked).cloned().collect()
    }
}
