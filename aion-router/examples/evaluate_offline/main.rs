//! How good a shortlist is, offline: recall, NDCG and bits, by words alone, with embeddings, and with what was
//! learned from use. Then what another policy would have been worth, from a log with some chance in it.
//!
//! Without arguments it uses a small set of its own. `AION_DATA` names a folder of sets (each a folder with
//! `items.jsonl` and `queries.jsonl`), and `AION_MINILM` a folder with a sentence encoder:
//!
//! `cargo run --release -p aion-router --features minilm --example evaluate_offline -- metatool bfcl`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod policy;

use std::error::Error;
use std::path::Path;

use aion_router::import::{Importer, jsonl};
use aion_router::quality::{Plan, Quality, Question, evaluate, questions};
use aion_router::{Embedder, HashingEmbedder, Item};

type Set = (String, Vec<Item>, Vec<Question>);

fn main() -> Result<(), Box<dyn Error>> {
    let embedder = embedder()?;
    let names: Vec<String> = std::env::args().skip(1).collect();
    let sets = match std::env::var_os("AION_DATA") {
        Some(folder) => names
            .iter()
            .map(|name| read(&Path::new(&folder).join(name)))
            .collect::<Result<Vec<_>, _>>()?,
        None => vec![small()?],
    };
    println!("embeddings by {}", embedder.model_id());
    for set in sets {
        measure(set, &*embedder)?;
    }
    let (_, items, questions) = small()?;
    policy::judge(&items, &questions)?;
    Ok(())
}

fn embedder() -> Result<Box<dyn Embedder>, Box<dyn Error>> {
    #[cfg(feature = "minilm")]
    if let Some(folder) = std::env::var_os("AION_MINILM") {
        return Ok(Box::new(aion_router::embed::minilm::with_spelling(folder)?));
    }
    Ok(Box::new(HashingEmbedder))
}

/// Forty questions for eight tools.
fn small() -> Result<Set, Box<dyn Error>> {
    let (rows, asked) = (include_str!("items.jsonl"), include_str!("queries.jsonl"));
    Ok((
        "a small set".to_owned(),
        jsonl(rows, &builtin())?,
        questions(asked)?,
    ))
}

fn read(folder: &Path) -> Result<Set, Box<dyn Error>> {
    let file = |name| std::fs::read_to_string(folder.join(name));
    let rows = jsonl(&file("items.jsonl")?, &builtin())?;
    Ok((
        folder.display().to_string(),
        rows,
        questions(&file("queries.jsonl")?)?,
    ))
}

/// The words of these sets are to be believed.
fn builtin() -> Importer<'static> {
    Importer::default().with_provider("builtin", aion_router::Provenance::Builtin)
}

fn measure((name, items, questions): Set, embedder: &dyn Embedder) -> Result<(), Box<dyn Error>> {
    let report = evaluate(items, &questions, embedder, &Plan::default(), |_, _| {})?;
    let (n, of) = (report.items, report.learned.questions());
    println!(
        "\n{name}: {n} items, {of} queries, uniform {:.2} bits",
        report.uniform_bits
    );
    println!(
        "{:<34} {:>6} {:>6} {:>7} {:>7}",
        "", "R@5", "R@10", "NDCG@10", "bits"
    );
    print("words", &report.words);
    print("words and embeddings", &report.content);
    let from = report.learning.questions();
    print(&format!("while learning from {from}"), &report.learning);
    print(&format!("after learning from {from}"), &report.learned);
    Ok(())
}

/// One line: percentages, and bits a query.
fn print(what: &str, of: &Quality) {
    let (r5, r10, ndcg) = (of.recall_5(), of.recall_10(), of.ndcg_10());
    let percent = [r5, r10, ndcg].map(|share| 100.0 * share);
    println!(
        "{what:<34} {:>6.2} {:>6.2} {:>7.2} {:>7.3}",
        percent[0],
        percent[1],
        percent[2],
        of.bits()
    );
}
