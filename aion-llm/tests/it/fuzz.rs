//! Files and templates that come from strangers, changed at random: whatever they hold, reading them ends soon and
//! without a panic.
//!
//! Each reader is run on mutants of a seed corpus: bytes flipped, numbers replaced, pieces cut out, doubled, moved and
//! swapped in from other seeds. A mutant whose outcome was not seen before joins the corpus. The seeds are tiny models,
//! made when the tests run, of every type of tensor and every form of model, all of which are read as they are; and what
//! lies in `tests/fuzz/`. An input that breaks a reader is written there, to be found again for ever.
//!
//! `AION_FUZZ_SECONDS` sets how long all of it runs (by default a fixed number of mutants, a few seconds);
//! `AION_FUZZ_SEED` where the random numbers begin.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aion_llm::gguf::{Array, Gguf, TensorType, Value};
use aion_llm::testkit::{GgufWriter, TinyModel};
use aion_llm::{
    ChatMessage, ChatTemplate, Engine, EngineOptions, Experts, FeedForward, Gating, Head, ModelConfig,
    ModelSource, Overwrite, Selection, Tokenizer, save_checkpoint,
};
use aion_types::SystemClock;

/// How long one input may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Inputs of the corpus, at most.
const MAX_CORPUS: usize = 400;

/// xorshift64*, seeded: a failure repeats.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n.max(1)
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

struct Fuzzer {
    name: &'static str,
    /// Bytes that matter most lie before this.
    head: usize,
    words: &'static [&'static str],
    corpus: Vec<Vec<u8>>,
    seen: BTreeSet<String>,
    random: Random,
}

impl Fuzzer {
    fn new(name: &'static str, head: usize, words: &'static [&'static str], mut seeds: Vec<Vec<u8>>) -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        seeds.extend(kept(name));
        Self {
            name,
            head,
            words,
            corpus: seeds,
            seen: BTreeSet::new(),
            random: Random(number("AION_FUZZ_SEED").unwrap_or(1).max(1)),
        }
    }

    /// Runs `mutants` of them, or as many as the time allows; `read` says what became of an input.
    fn run(mut self, mutants: usize, read: impl Fn(&[u8]) -> String) {
        let seconds = std::env::var("AION_FUZZ_SECONDS")
            .ok()
            .and_then(|text| text.parse::<u64>().ok());
        let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds) / 3);
        for seed in self.corpus.clone() {
            let outcome = self.judge(&seed, &read);
            self.seen.insert(outcome);
        }
        let mut done = 0u64;
        while end.map_or(done < mutants as u64, |end| Instant::now() < end) {
            let mutant = self.mutant();
            let outcome = self.judge(&mutant, &read);
            if self.seen.insert(outcome) && self.corpus.len() < MAX_CORPUS {
                self.corpus.push(mutant);
            }
            done += 1;
        }
        eprintln!("{}: {done} mutants, {} outcomes", self.name, self.seen.len());
        assert!(
            self.seen.len() > 3,
            "the mutants of {} all end alike: {:?}",
            self.name,
            self.seen
        );
    }

    fn judge(&self, input: &[u8], read: &impl Fn(&[u8]) -> String) -> String {
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| read(input)));
        let took = started.elapsed();
        if let (Ok(outcome), true) = (&outcome, took < PATIENCE) {
            // Numbers and names of a message are not an outcome of their own.
            return outcome.chars().filter(|c| !c.is_ascii_digit()).take(48).collect();
        }
        let path = place(self.name).join(format!("broken-{:016x}", hash(input)));
        std::fs::create_dir_all(place(self.name)).unwrap();
        std::fs::write(&path, input).unwrap();
        panic!("{} broke in {took:?} on {}", self.name, path.display());
    }

    fn mutant(&mut self) -> Vec<u8> {
        let mut bytes = self.random.pick(&self.corpus).clone();
        for _ in 0..=self.random.below(4) {
            self.change(&mut bytes);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let r = &mut self.random;
        let span = if r.below(8) > 0 {
            self.head.min(bytes.len())
        } else {
            bytes.len()
        };
        let at = r.below(span);
        if bytes.is_empty() {
            bytes.push(r.next() as u8);
            return;
        }
        let end = bytes.len().min(at + 1 + r.below(32));
        match r.below(9) {
            0 => bytes[at] ^= 1 << r.below(8),
            1 => bytes[at] = r.next() as u8,
            2 | 3 => {
                let odd = [
                    0,
                    1,
                    0x7F,
                    0xFF,
                    0x7FFF_FFFF,
                    0xFFFF_FFFF,
                    1 << 32,
                    1 << 40,
                    u64::MAX >> 1,
                    u64::MAX,
                ];
                let near = bytes.len() as u64;
                let value = if r.below(4) == 0 {
                    near.wrapping_add(r.next() % 5).wrapping_sub(2)
                } else {
                    *r.pick(&odd)
                };
                let width = [1, 2, 4, 8][r.below(4)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
            }
            4 => drop(bytes.drain(at..end)),
            5 => {
                let piece = bytes[at..end].to_vec();
                let to = r.below(span);
                bytes.splice(to..to, piece);
            }
            6 => bytes.truncate(at),
            7 if !self.words.is_empty() => {
                let word = r.pick(self.words).bytes();
                let cut = if r.below(2) == 0 { at..at } else { at..end };
                bytes.splice(cut, word);
            }
            _ => {
                let other = self.random.pick(&self.corpus);
                let from = self.random.0 as usize % other.len().max(1);
                let piece = other[from..other.len().min(from + (end - at))].to_vec();
                bytes.splice(at..end, piece);
            }
        }
    }
}

fn hash(input: &[u8]) -> u64 {
    input.iter().fold(0xCBF2_9CE4_8422_2325, |h, byte| {
        (h ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3)
    })
}

fn place(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz")
        .join(name)
}

/// The inputs that are kept in the repository.
fn kept(name: &str) -> Vec<Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(place(name)) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// One layer, a few kilobytes.
fn small_config() -> ModelConfig {
    ModelConfig {
        n_layer: 1,
        n_embd: 8,
        n_head: 2,
        n_head_kv: 1,
        head_dim: 4,
        n_ff: 16,
        context_length: 64,
        ..TinyModel::random(1).config().clone()
    }
}

fn small() -> TinyModel {
    TinyModel::with_config(1, small_config())
}

/// One layer whose rows are whole blocks of this type.
fn small_in(kind: TensorType) -> GgufWriter {
    let width = kind.block_len().max(8);
    let config = ModelConfig {
        n_embd: width,
        n_head: 2,
        head_dim: width / 2,
        n_ff: width,
        ..small_config()
    };
    TinyModel::with_config(1, config).gguf_in(kind)
}

/// Mixtures, a window and caps; a head of its own, and no gate.
fn small_variants() -> Vec<TinyModel> {
    let with = |change: &dyn Fn(&mut ModelConfig)| {
        let mut config = small_config();
        change(&mut config);
        TinyModel::with_config(2, config)
    };
    let biased = Experts::new(2, 1)
        .with_gating(Gating::Sigmoid)
        .with_selection(Selection::Biased);
    vec![
        with(&|c| c.experts = Some(Experts::new(3, 2))),
        with(&|c| c.experts = Some(biased)),
        with(&|c| (c.window, c.attention_cap, c.logit_cap) = (Some(7), Some(5.0), Some(9.0))),
        with(&|c| (c.head, c.feed_forward) = (Head::Untied, FeedForward::ReluSquared)),
    ]
}

/// Files of every kind that is read.
fn gguf_seeds() -> Vec<Vec<u8>> {
    let divisors = [1.0f32, 8.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let extended = small()
        .gguf()
        .with_tensor("rope_freqs.weight", &[2], TensorType::F32, divisors)
        .with("tokenizer.ggml.add_bos_token", Value::Bool(true))
        .with("tokenizer.ggml.bos_token_id", Value::Unsigned(263))
        .with("general.name", Value::Text("seed".into()))
        .with("scores", Value::Array(Array::Floats(vec![0.5, -1.0])))
        .with("flags", Value::Array(Array::Bools(vec![true, false])))
        .with("signed", Value::Signed(-5))
        .with(
            "tokenizer.chat_template",
            Value::Text("{{ messages[0].content }}".into()),
        );
    let types = EVERY_TYPE.map(small_in);
    let variants = small_variants().into_iter().map(|model| model.gguf());
    let all = [small().gguf()].into_iter().chain(types).chain(variants);
    all.chain([extended.aligned(64)])
        .map(|file| file.bytes())
        .collect()
}

const EVERY_TYPE: [TensorType; 7] = [
    TensorType::F32,
    TensorType::F16,
    TensorType::BF16,
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q8_0,
    TensorType::Q6K,
];

fn tried<T>(result: Result<T, aion_llm::Error>) -> String {
    result
        .err()
        .map_or_else(|| "read".into(), |error| error.to_string())
}

fn load(source: &ModelSource) -> Result<Engine, aion_llm::Error> {
    Engine::load(source, EngineOptions::default().with_threads(1))
}

#[test]
fn mutants_of_gguf_files_are_read_or_refused() {
    let seeds = gguf_seeds();
    for (i, seed) in seeds.iter().enumerate() {
        assert_eq!(
            tried(load(&ModelSource::GgufBytes(seed.clone()))),
            "read",
            "seed {i}"
        );
    }
    let head = seeds[0].len() - 9_000;
    let words = &[
        "llama.",
        "block_count",
        "tokenizer.ggml.",
        "blk.0.",
        "general.alignment",
        "output.weight",
        "expert_count",
        "expert_used_count",
        "ffn_gate_inp.weight",
        "ffn_down_exps.weight",
        "exp_probs_b.bias",
        "attention.sliding_window",
        "rope_freqs.weight",
    ];
    Fuzzer::new("gguf", head, words, seeds).run(1_500, |input| {
        let gguf = match Gguf::from_bytes(input.to_vec()) {
            Ok(gguf) => gguf,
            Err(error) => return error.to_string(),
        };
        for (name, info) in gguf.tensors() {
            assert!(info.offset + info.size_bytes <= input.len() as u64, "{name}");
            gguf.tensor_f32(name).unwrap();
        }
        let both = ModelConfig::from_gguf(&gguf).and_then(|_| Tokenizer::from_gguf(&gguf));
        match both {
            Ok(_) => tried(load(&ModelSource::GgufBytes(input.to_vec()))),
            Err(error) => error.to_string(),
        }
    });
}

const FILES: [&str; 6] = [
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "aion.json",
    "tokenizer_config.json",
    "model.safetensors.index.json",
];

/// A directory, and the bytes of each of [`FILES`] that it has.
struct Base {
    dir: PathBuf,
    files: Vec<Option<Vec<u8>>>,
}

/// Checkpoints of every type of safetensors and of every form of model; one has its weights behind an index, another a
/// rotary scaling.
fn bases(root: &Path) -> Vec<Base> {
    let floats = [TensorType::F32, TensorType::F16, TensorType::BF16];
    let typed = floats.map(|kind| small().gguf_in(kind).bytes());
    let variants = small_variants().into_iter().map(|model| model.gguf().bytes());
    let mut dirs = Vec::new();
    for (i, bytes) in typed.into_iter().chain(variants).enumerate() {
        let dir = root.join(i.to_string());
        save_checkpoint(&ModelSource::GgufBytes(bytes), &dir, Overwrite::Refuse).unwrap();
        dirs.push(dir);
    }
    // A changed file would end at its size, so only the first keeps its manifest.
    for dir in &dirs[1..] {
        std::fs::remove_file(dir.join("aion.json")).unwrap();
    }
    let names: Vec<String> = small().hub_tensors().into_iter().map(|(name, ..)| name).collect();
    let map: BTreeMap<&str, &str> = names
        .iter()
        .map(|name| (name.as_str(), "a.safetensors"))
        .collect();
    let index = serde_json::json!({ "weight_map": map }).to_string();
    std::fs::rename(dirs[1].join("model.safetensors"), dirs[1].join("a.safetensors")).unwrap();
    std::fs::write(dirs[1].join("model.safetensors.index.json"), index).unwrap();
    let path = dirs[2].join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["rope_scaling"] = serde_json::json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 32});
    std::fs::write(path, config.to_string()).unwrap();
    let base = |dir: PathBuf| Base {
        files: FILES
            .iter()
            .map(|file| std::fs::read(dir.join(file)).ok())
            .collect(),
        dir,
    };
    dirs.into_iter().map(base).collect()
}

/// The mutant is one of a directory's files; the first byte says which, and of which directory.
#[test]
fn mutants_of_checkpoint_directories_are_read_or_refused() {
    let root = tempfile::tempdir().unwrap();
    let bases = bases(root.path());
    let mut seeds = Vec::new();
    for (i, base) in bases.iter().enumerate() {
        let read = tried(load(&ModelSource::HubDir(base.dir.clone())));
        assert_eq!(read, "read", "directory {i}");
        for (j, bytes) in base.files.iter().enumerate() {
            let first = (i * FILES.len() + j) as u8;
            seeds.extend(bytes.as_ref().map(|bytes| [&[first][..], bytes].concat()));
        }
    }
    let words = &[
        "\"dtype\":\"F16\"",
        "[0,4]",
        "\"shape\":[]",
        "1e999",
        "-1",
        "{}",
        "null",
        "18446744073709551615",
        "\"num_local_experts\":2,",
        "\"sliding_window\":1,",
        "block_sparse_moe.experts.0.w1.weight",
        "rope_freqs.weight",
    ];
    Fuzzer::new("directory", 1_500, words, seeds).run(500, |input| {
        let Some((first, bytes)) = input.split_first() else {
            return "empty".into();
        };
        let (base, file) = (
            usize::from(*first) / FILES.len(),
            usize::from(*first) % FILES.len(),
        );
        let base = &bases[base % bases.len()];
        let model = &base.dir;
        // Without its manifest a changed file is read; with it, its size alone would end most attempts.
        if FILES[file] == "aion.json" {
            std::fs::write(model.join("aion.json"), bytes).unwrap();
        } else {
            let _gone = std::fs::remove_file(model.join("aion.json"));
        }
        std::fs::write(model.join(FILES[file]), bytes).unwrap();
        let outcome = tried(load(&ModelSource::HubDir(model.clone())));
        match &base.files[file] {
            Some(original) => std::fs::write(model.join(FILES[file]), original).unwrap(),
            None => std::fs::remove_file(model.join(FILES[file])).unwrap(),
        }
        outcome
    });
}

#[test]
fn mutants_of_templates_are_rendered_or_refused() {
    let words = &[
        "{% for m in messages %}",
        "{% endfor %}",
        "{{ messages }}",
        "{{ raise_exception('x') }}",
        "{% if true %}",
        "{% endif %}",
        "{% set x = x ~ x %}",
        "{% macro f() %}{{ f() }}{% endmacro %}",
        "| tojson",
        "|length",
        "[::-1]",
        "range(1000000000)",
        "{{ 'x' * 1000000000 }}",
        "loop.index0",
        ".items()",
        "namespace(x=1)",
        "strftime_now('%Y')",
    ];
    let seeds = kept("template");
    assert!(!seeds.is_empty(), "the corpus is part of the repository");
    let messages = [
        ChatMessage::new("system", "Be brief."),
        ChatMessage::new("user", "Name a river. \u{1F30A}"),
        ChatMessage::new("assistant", "The Oker."),
    ];
    let tools = serde_json::json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]);
    Fuzzer::new("template", usize::MAX, words, seeds).run(2_000, |input| {
        let source = String::from_utf8_lossy(input);
        let template = match ChatTemplate::new(&source, "<s>", "</s>", Arc::new(SystemClock)) {
            Ok(template) => template,
            Err(error) => return error.to_string(),
        };
        match template.render(&messages, Some(&tools)) {
            // Longer by a factor of two is another outcome.
            Ok(text) => format!(
                "rendered {}",
                "x".repeat(text.len().checked_ilog2().unwrap_or(0) as usize)
            ),
            Err(error) => error.to_string(),
        }
    });
}
