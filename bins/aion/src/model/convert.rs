//! `aion model quantize`, `unigram`, `calibrate`, `save`, `verify` and `inspect`: models out.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use aion_llm::gguf::Gguf;
use aion_llm::{
    Engine, EngineOptions, FittedCalibration, ModelConfig, Overwrite, Quantization, QuantizeReport,
    Tokenizer, UnigramCounts, bits_per_byte,
};
use aion_types::{Calibration, Reference};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::{ModelCache, ModelSource, Progress, progress};
use crate::{Error, Result, terminal};

/// What a loss is measured on where no text is given.
const SAMPLE: &str = include_str!("sample.txt");
/// The context that a loss is measured with.
const LOSS_CONTEXT: usize = 1_024;
const MAX_PAIRS_BYTES: u64 = 64 << 20;
const MAX_LOSS_TEXT_BYTES: u64 = 4 << 20;
/// A corpus is a tree of at most this many files.
const MAX_CORPUS_FILES: usize = 100_000;
const MAX_CORPUS_DEPTH: usize = 32;

/// Flags of `aion model quantize`.
#[derive(Debug, Args)]
pub struct QuantizeArgs {
    /// A GGUF file with float weights, or a directory with config.json, safetensors and tokenizer.json
    source: ModelSource,
    /// The GGUF file to write
    to: PathBuf,
    /// q8_0, q4_0 or q4_1
    #[arg(long = "type", value_name = "TYPE", default_value_t = Quantization::Q8_0)]
    kind: Quantization,
    /// Measure the loss on this text instead of the built-in one
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Do not measure the loss
    #[arg(long, conflicts_with = "text")]
    no_loss: bool,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    /// Print a JSON document
    #[arg(long)]
    json: bool,
}

/// Flags of `aion model unigram`.
#[derive(Debug, Args)]
pub struct UnigramArgs {
    /// Text files, or directories of them
    #[arg(required = true, value_name = "CORPUS")]
    corpus: Vec<PathBuf>,
    /// The model whose tokens are counted: smollm2, a file of the cache, or a path
    #[arg(long, value_name = "NAME|PATH", default_value = super::DEFAULT_MODEL.name)]
    model: ModelSource,
    /// Replace counts that are there
    #[arg(long)]
    force: bool,
    /// Print a JSON document
    #[arg(long)]
    json: bool,
}

/// Flags of `aion model calibrate`.
#[derive(Debug, Args)]
pub struct CalibrateArgs {
    /// Lines of {"R": R_harm of a completion, "outcome": 0 to 1}
    pairs: PathBuf,
    /// The model that made the completions: smollm2, a file of the cache, or a path
    #[arg(long, value_name = "NAME|PATH", default_value = super::DEFAULT_MODEL.name)]
    model: ModelSource,
    /// What R was measured against: uniform, unigram, entropy or teacher; by default unigram where the model has
    /// counts, else uniform
    #[arg(long, value_parser = reference)]
    reference: Option<Reference>,
    /// Replace a calibration that is there
    #[arg(long)]
    force: bool,
    /// Print a JSON document
    #[arg(long)]
    json: bool,
}

/// A reference by the name that `usage.persistence` has for it.
fn reference(text: &str) -> Result<Reference, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|_| "known are uniform, unigram, entropy and teacher".to_owned())
}

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Lines for people.
    Text,
    /// A document.
    Json,
}

/// The form that `--json` asks for.
#[must_use]
pub fn json_or_text(json: bool) -> Form {
    if json { Form::Json } else { Form::Text }
}

/// What `--force` asks for.
#[must_use]
pub fn overwrite(force: bool) -> Overwrite {
    if force {
        Overwrite::Replace
    } else {
        Overwrite::Refuse
    }
}

/// What `aion model quantize --json` prints.
#[derive(Debug, Serialize)]
struct Quantized {
    path: PathBuf,
    r#type: String,
    bytes_before: u64,
    bytes_after: u64,
    tensors_quantized: usize,
    tensors_kept: usize,
    relative_error: f64,
    loss: Option<Loss>,
}

/// Bits per byte of the same text.
#[derive(Debug, Serialize)]
struct Loss {
    text_bytes: usize,
    bits_per_byte_before: f64,
    bits_per_byte_after: f64,
}

/// Quantises a model.
///
/// # Errors
/// [`Error::Engine`] for a model that cannot be read or a file that is there, [`Error::Io`] for the text.
pub fn quantize(cache: &ModelCache, args: &QuantizeArgs) -> Result<()> {
    let text = (!args.no_loss)
        .then(|| loss_text(args.text.as_deref()))
        .transpose()?;
    let source = engine_source(cache, &args.source)?;
    let report = run_quantize(&source, args)?;
    let loss = text.map(|text| loss(&source, &args.to, &text)).transpose()?;
    let document = Quantized {
        path: args.to.clone(),
        r#type: args.kind.to_string(),
        bytes_before: report.bytes_before,
        bytes_after: report.bytes_after,
        tensors_quantized: report.quantized,
        tensors_kept: report.kept,
        relative_error: report.relative_error,
        loss,
    };
    match json_or_text(args.json) {
        Form::Json => terminal::json(&document),
        Form::Text => tell(&document),
    }
    Ok(())
}

fn run_quantize(source: &aion_llm::ModelSource, args: &QuantizeArgs) -> Result<QuantizeReport> {
    let bar = Progress::on_terminal().bar(0, "quantising");
    let report = aion_llm::quantize(source, &args.to, args.kind, overwrite(args.force), &mut |step| {
        bar.set_length(step.total);
        bar.set_position(step.done);
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    Ok(report?)
}

fn tell(done: &Quantized) {
    let mib = |bytes: u64| bytes as f64 / (1u64 << 20) as f64;
    terminal::line(&format!(
        "{}: {:.1} MiB to {:.1} MiB as {}, {} tensors quantised, {} kept, relative error {:.4}",
        done.path.display(),
        mib(done.bytes_before),
        mib(done.bytes_after),
        done.r#type,
        done.tensors_quantized,
        done.tensors_kept,
        done.relative_error,
    ));
    if let Some(loss) = &done.loss {
        let (before, after) = (loss.bits_per_byte_before, loss.bits_per_byte_after);
        terminal::line(&format!(
            "bits per byte of {} bytes of text: {before:.4} before, {after:.4} after ({:+.4})",
            loss.text_bytes,
            after - before,
        ));
    }
}

fn loss_text(path: Option<&Path>) -> Result<String> {
    let Some(path) = path else {
        return Ok(SAMPLE.to_owned());
    };
    let bytes = fs::metadata(path).map_err(|e| Error::io("read", path, e))?.len();
    if bytes > MAX_LOSS_TEXT_BYTES {
        return Err(Error::BadInput {
            what: "the text",
            problem: format!(
                "has {bytes} bytes; {MAX_LOSS_TEXT_BYTES} are the most that a loss is measured on"
            ),
        });
    }
    fs::read_to_string(path).map_err(|e| Error::io("read", path, e))
}

fn loss(before: &aion_llm::ModelSource, after: &Path, text: &str) -> Result<Loss> {
    let measure = |source: &aion_llm::ModelSource| {
        let options = EngineOptions::default().with_context_length(LOSS_CONTEXT);
        bits_per_byte(&Engine::load(source, options)?, text)
    };
    Ok(Loss {
        text_bytes: text.len(),
        bits_per_byte_before: measure(before)?,
        bits_per_byte_after: measure(&aion_llm::ModelSource::at(after))?,
    })
}

fn engine_source(cache: &ModelCache, name: &ModelSource) -> Result<aion_llm::ModelSource> {
    cache.find(name).map(aion_llm::ModelSource::at)
}

/// A line of pairs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    #[serde(rename = "R")]
    ratio: f64,
    outcome: f64,
}

/// What `aion model calibrate --json` prints.
#[derive(Debug, Serialize)]
struct Calibrated {
    path: PathBuf,
    calibration: FittedCalibration,
}

/// Fits the link from persistence to probability, and puts it beside the model.
///
/// # Errors
/// [`Error::BadInput`] for a line that is no pair, [`Error::Engine`] for a calibration that is there or a pair that
/// cannot be, [`Error::Io`].
pub fn calibrate(cache: &ModelCache, args: &CalibrateArgs) -> Result<()> {
    let source = engine_source(cache, &args.model)?;
    let path = source.calibration_file().ok_or(Error::BadInput {
        what: "the model",
        problem: "has no place for a calibration".into(),
    })?;
    if path.exists() && !args.force {
        return Err(aion_llm::Error::Exists(path).into());
    }
    let counted = source.unigram_file().is_some_and(|file| file.exists());
    let usual = if counted {
        Reference::Unigram
    } else {
        Reference::Uniform
    };
    let pairs = pairs(&args.pairs)?;
    let fitted = FittedCalibration::fit(&pairs, args.reference.unwrap_or(usual))?;
    fitted.write(&path)?;
    let document = Calibrated {
        path,
        calibration: fitted,
    };
    match json_or_text(args.json) {
        Form::Json => terminal::json(&document),
        Form::Text => {
            let (Calibration { a, c }, (before, after)) = (fitted.calibration(), fitted.bits());
            terminal::line(&format!(
                "{}: p = sigmoid({a:.4} ln R + {c:.4}) from {} pairs, {before:.4} bits each before, {after:.4} after",
                document.path.display(),
                fitted.pairs(),
            ));
        }
    }
    Ok(())
}

fn pairs(path: &Path) -> Result<Vec<(f64, f64)>> {
    let bytes = fs::metadata(path).map_err(|e| Error::io("read", path, e))?.len();
    let refuse = |problem: String| Error::BadInput {
        what: "the pairs",
        problem,
    };
    if bytes > MAX_PAIRS_BYTES {
        return Err(refuse(format!(
            "have {bytes} bytes, the limit is {MAX_PAIRS_BYTES}"
        )));
    }
    let text = fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let pair = |(i, line): (usize, &str)| {
        let pair: Pair = serde_json::from_str(line).map_err(|e| refuse(format!("line {}: {e}", i + 1)))?;
        Ok((pair.ratio, pair.outcome))
    };
    let pairs: Vec<_> = lines.map(pair).collect::<Result<_>>()?;
    if pairs.is_empty() {
        return Err(refuse("are none".into()));
    }
    Ok(pairs)
}

/// What `aion model unigram --json` prints.
#[derive(Debug, Serialize)]
struct Counted {
    path: PathBuf,
    files: usize,
    bytes: u64,
    tokens: u64,
    distinct_tokens: usize,
    vocabulary: usize,
}

/// Counts the tokens of a corpus.
///
/// # Errors
/// [`Error::Engine`] for a model that cannot be read or counts that are there, [`Error::Io`] for the corpus.
pub fn unigram(cache: &ModelCache, args: &UnigramArgs) -> Result<()> {
    let source = engine_source(cache, &args.model)?;
    let path = source.unigram_file().ok_or(Error::BadInput {
        what: "the model",
        problem: "has no place for counts".into(),
    })?;
    if path.exists() && !args.force {
        return Err(aion_llm::Error::Exists(path).into());
    }
    let (tokenizer, config) = (Tokenizer::of(&source)?, ModelConfig::of(&source)?);
    let files = corpus(&args.corpus)?;
    let total: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    let mut counts = UnigramCounts::new(config.vocab_size);
    let bar = Progress::on_terminal().bar(total, "counting");
    for (file, _) in &files {
        counts.add_file(&tokenizer, file, &mut |bytes| bar.inc(bytes as u64))?;
    }
    bar.finish_and_clear();
    if counts.total() == 0 {
        return Err(Error::BadInput {
            what: "the corpus",
            problem: "has no token".into(),
        });
    }
    counts.write(&path)?;
    let document = Counted {
        path,
        files: files.len(),
        bytes: total,
        tokens: counts.total(),
        distinct_tokens: counts.distinct(),
        vocabulary: config.vocab_size,
    };
    match json_or_text(args.json) {
        Form::Json => terminal::json(&document),
        Form::Text => terminal::line(&format!(
            "{}: {} tokens, {} of {} distinct, from {} files of {} bytes",
            document.path.display(),
            document.tokens,
            document.distinct_tokens,
            document.vocabulary,
            document.files,
            document.bytes
        )),
    }
    Ok(())
}

/// The files of a corpus with their sizes, in order; links are not followed.
fn corpus(paths: &[PathBuf]) -> Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    for path in paths {
        // What the user names is followed; what lies below is not.
        let metadata = fs::metadata(path).map_err(|e| Error::io("read", path, e))?;
        if metadata.is_dir() {
            walk(path, MAX_CORPUS_DEPTH, &mut files)?;
        } else {
            files.push((path.clone(), metadata.len()));
        }
    }
    Ok(files)
}

fn walk(dir: &Path, depth: usize, files: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    let entries = fs::read_dir(dir).map_err(|e| Error::io("read", dir, e))?;
    let mut entries: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        let metadata = fs::symlink_metadata(&path).map_err(|e| Error::io("read", &path, e))?;
        if metadata.is_file() {
            files.push((path, metadata.len()));
        } else if metadata.is_dir() && depth > 0 {
            walk(&path, depth - 1, files)?;
        }
        if files.len() > MAX_CORPUS_FILES {
            return Err(Error::BadInput {
                what: "the corpus",
                problem: format!("has more than {MAX_CORPUS_FILES} files"),
            });
        }
    }
    Ok(())
}

/// Writes a checkpoint directory.
///
/// # Errors
/// [`Error::Engine`].
pub fn save(cache: &ModelCache, name: &ModelSource, to: &Path, overwrite: Overwrite) -> Result<()> {
    let manifest = aion_llm::save_checkpoint(&engine_source(cache, name)?, to, overwrite)?;
    for (file, entry) in &manifest.files {
        terminal::line(&format!("{}  {:>12}  {file}", entry.sha256, entry.bytes));
    }
    Ok(())
}

/// Checks a checkpoint directory.
///
/// # Errors
/// [`Error::Engine`] with the first file that differs.
pub fn verify(dir: &Path) -> Result<()> {
    let manifest = aion_llm::verify_checkpoint(dir)?;
    terminal::line(&format!(
        "{} files are what the manifest says",
        manifest.files.len()
    ));
    Ok(())
}

/// What `aion model inspect --json` prints.
#[derive(Debug, Serialize)]
struct Inspected {
    path: PathBuf,
    bytes: u64,
    parameters: usize,
    /// Those that one token goes through.
    active_parameters: usize,
    config: ModelConfig,
    tokens: usize,
    /// Tensors of each type; of a GGUF file.
    types: BTreeMap<String, usize>,
    unigram_counts: bool,
}

/// Says what a model is.
///
/// # Errors
/// [`Error::Engine`] for a model that cannot be read.
pub fn inspect(cache: &ModelCache, name: &ModelSource, form: Form) -> Result<()> {
    let path = cache.find(name)?;
    let source = aion_llm::ModelSource::at(&path);
    let config = ModelConfig::of(&source)?;
    let document = Inspected {
        bytes: if path.is_dir() {
            progress::bytes_under(&path)
        } else {
            fs::metadata(&path).map_or(0, |m| m.len())
        },
        parameters: config.n_parameters(),
        active_parameters: config.n_active_parameters(),
        tokens: Tokenizer::of(&source)?.len(),
        types: types(&source)?,
        unigram_counts: source.unigram_file().is_some_and(|file| file.exists()),
        config,
        path,
    };
    match form {
        Form::Json => terminal::json(&document),
        Form::Text => describe(&document),
    }
    Ok(())
}

fn types(source: &aion_llm::ModelSource) -> Result<BTreeMap<String, usize>> {
    let mut types = BTreeMap::new();
    if let aion_llm::ModelSource::Gguf(path) = source {
        for info in Gguf::open(path)?.tensors().values() {
            *types.entry(format!("{:?}", info.kind)).or_default() += 1;
        }
    }
    Ok(types)
}

fn experts_line(experts: aion_llm::Experts, found: &Inspected) -> String {
    format!(
        "{} of {} for each token, {} parameters of all",
        experts.used, experts.count, found.active_parameters
    )
}

fn describe(found: &Inspected) {
    let c = &found.config;
    let types: Vec<_> = found
        .types
        .iter()
        .map(|(kind, n)| format!("{n} {kind}"))
        .collect();
    let rows = [
        ("path", found.path.display().to_string()),
        ("bytes", found.bytes.to_string()),
        ("parameters", found.parameters.to_string()),
        (
            "layers",
            format!("{} of width {}, feed-forward {}", c.n_layer, c.n_embd, c.n_ff),
        ),
        (
            "heads",
            format!("{} of width {}, {} for keys", c.n_head, c.head_dim, c.n_head_kv),
        ),
        (
            "experts",
            c.experts
                .map_or_else(String::new, |experts| experts_line(experts, found)),
        ),
        (
            "window",
            c.window.map_or_else(String::new, |n| format!("{n} positions")),
        ),
        ("context", format!("{} positions", c.context_length)),
        ("tokens", found.tokens.to_string()),
        ("tensors", types.join(", ")),
        (
            "unigram counts",
            if found.unigram_counts { "yes" } else { "no" }.to_owned(),
        ),
    ];
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        terminal::line(&format!("{name:<15} {value}"));
    }
}
