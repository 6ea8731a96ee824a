//! `aion-router eval`.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use aion_market::diagram::{DiagramOptions, Series, learning};
use aion_router::embed::minilm;
use aion_router::import::{Importer, jsonl};
use aion_router::quality::{Plan, Quality, Report, evaluate, questions};
use aion_router::{Embedder, HashingEmbedder, Provenance};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

/// Options of `aion-router eval`.
#[derive(Debug, Args)]
pub(crate) struct Eval {
    /// Items: a line is a JSON object with `name`, `text`, `parameters` (a JSON schema), `tags`, `surface`, `id`
    #[arg(long, value_name = "FILE")]
    items: PathBuf,
    /// Questions: a line is a JSON object with `text` and the ids of the `relevant` items
    #[arg(long, value_name = "FILE")]
    queries: PathBuf,
    /// A folder with a sentence encoder (config.json, model.safetensors, tokenizer.json)
    #[arg(long, value_name = "FOLDER", env = "AION_ROUTER_MINILM")]
    minilm: Option<PathBuf>,
    /// How many questions are learned from; at most half of all
    #[arg(long, value_name = "N", default_value_t = 2_500)]
    training: usize,
    /// How many other questions are asked
    #[arg(long, value_name = "N", default_value_t = 2_600)]
    asked: usize,
    /// Draws the learning curve there
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

impl Eval {
    pub(crate) fn run(&self) -> Result<(), Box<dyn Error>> {
        // The words of a set that is being measured are to be believed.
        let importer = Importer::default().with_provider("builtin", Provenance::Builtin);
        let rows = jsonl(&read(&self.items)?, &importer).map_err(|error| named(&self.items, &error))?;
        let asked = questions(&read(&self.queries)?).map_err(|error| named(&self.queries, &error))?;
        let plan = Plan::default()
            .with_training(self.training)
            .with_asked(self.asked);
        let bar =
            ProgressBar::new(0).with_style(ProgressStyle::with_template("{bar:40} {pos}/{len} {elapsed}")?);
        let report = evaluate(rows, &asked, &*self.embedder()?, &plan, |done, all| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        })?;
        bar.finish_and_clear();
        if let Some(file) = &self.svg {
            fs::write(file, picture(&report)?).map_err(|error| named(file, &error))?;
        }
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            print(&report);
        }
        Ok(())
    }

    fn embedder(&self) -> Result<Box<dyn Embedder>, Box<dyn Error>> {
        let Some(folder) = &self.minilm else {
            return Ok(Box::new(HashingEmbedder));
        };
        let encoder = minilm::with_spelling(folder).map_err(|error| named(folder, &error))?;
        Ok(Box::new(encoder))
    }
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| named(path, &error))
}

fn named(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

fn print(report: &Report) {
    let (asked, learned) = (report.learned.questions(), report.learning.questions());
    println!(
        "{} items, {asked} questions, embeddings by {}; somebody who knows nothing: {:.3} bits",
        report.items, report.embedder, report.uniform_bits
    );
    println!(
        "{:<34} {:>6} {:>6} {:>7} {:>7}",
        "", "R@5", "R@10", "NDCG@10", "bits"
    );
    row("words", &report.words);
    row("words and embeddings", &report.content);
    row(&format!("while learning from {learned}"), &report.learning);
    row(&format!("after learning from {learned}"), &report.learned);
}

/// One line: percentages, and bits a question.
fn row(what: &str, of: &Quality) {
    let [r5, r10, ndcg] = [of.recall_5(), of.recall_10(), of.ndcg_10()].map(|share| 100.0 * share);
    println!("{what:<34} {r5:>6.2} {r10:>6.2} {ndcg:>7.2} {:>7.3}", of.bits());
}

fn picture(report: &Report) -> Result<String, Box<dyn Error>> {
    let last = report.curve.last().map_or(0.0, |(x, _)| *x);
    let flat = |name: &str, bits: f64| Series::new(name, vec![(0.0, bits), (last, bits)]);
    let series = [
        flat("knows nothing", report.uniform_bits),
        flat("words, embeddings", report.content.bits()),
        Series::new("learning", report.curve.clone()),
    ];
    let note = format!("{} items, embeddings by {}", report.items, report.embedder);
    let options = DiagramOptions::new("Surprise at what was needed").with_note(note);
    Ok(learning(
        &series,
        "questions so far",
        "bits a question, mean so far",
        &options,
    )?)
}
