//! A catalog that learns what is needed from what was used: the surprise at each next use, in bits, falls.
//!
//! `cargo run -p aion-router --example learn_from_usage`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use aion_router::import::{Importer, jsonl};
use aion_router::quality::{Plan, evaluate, questions};
use aion_router::{HashingEmbedder, Provenance};

/// Columns of the curve's longest bar.
const WIDTH: f64 = 60.0;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let importer = Importer::default().with_provider("builtin", Provenance::Builtin);
    let tools = jsonl(include_str!("evaluate_offline/items.jsonl"), &importer)?;
    // Twenty rounds of the same needs, told apart by a number.
    let asked = questions(include_str!("evaluate_offline/queries.jsonl"))?;
    let rounds = (0..20).flat_map(|round| {
        asked.iter().cloned().map(move |mut question| {
            question.text = format!("{} ({round})", question.text);
            question
        })
    });
    let rounds: Vec<_> = rounds.collect();
    let plan = Plan::default().with_training(400).with_asked(400);
    let report = evaluate(tools, &rounds, &HashingEmbedder, &plan, |_, _| {})?;

    println!(
        "{} tools, {:.0} bits for somebody who knows nothing",
        report.items, report.uniform_bits
    );
    println!("mean surprise at what was used, in bits, after so many uses:");
    let highest = report.curve.iter().map(|(_, bits)| *bits).fold(1e-9, f64::max);
    for (uses, bits) in report
        .curve
        .iter()
        .filter(|(uses, _)| (*uses as u64).is_multiple_of(25))
    {
        let bar = "#".repeat((WIDTH * bits / highest) as usize);
        println!("{uses:>5} {bits:>6.3} {bar}");
    }
    println!(
        "others, before learning: {:.1}% of what was needed among the first 5; after it: {:.1}%",
        100.0 * report.content.recall_5(),
        100.0 * report.learned.recall_5()
    );
    Ok(())
}
