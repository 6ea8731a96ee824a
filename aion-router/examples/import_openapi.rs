//! The operations of an OpenAPI document as a catalog, and those that a step needs, with what they cost.
//!
//! `cargo run -p aion-router --example import_openapi -- openapi/market.json "what would it cost?"`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use aion_router::import::{Importer, openapi};
use aion_router::{ByteTokens, EngineOptions, Item, LiveRouter, Provenance, Query, Surface, SurfaceBudget};

/// Tokens of a prompt that its tools may take.
const BUDGET: u32 = 600;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments
        .next()
        .unwrap_or_else(|| "openapi/processor.json".to_owned());
    let asked = arguments
        .next()
        .unwrap_or_else(|| "take the next task and say that it is done".to_owned());
    let document = serde_json::from_slice(&std::fs::read(&file)?)?;
    let importer = Importer::new(&ByteTokens).with_provider("aion", Provenance::Verified);
    let imported = openapi(&document, &importer)?;
    let all: u32 = imported.items.iter().map(Item::full_tokens).sum();
    println!(
        "{file}: {} operations, {all} tokens in full",
        imported.items.len()
    );

    let router = LiveRouter::in_memory(EngineOptions::default())?;
    router.upsert_all(imported.items).await?;
    let query = Query::new(&asked, BUDGET).with_surface(SurfaceBudget::new(Surface::Tool));
    let shortlist = router.rank(&query).await?.shortlist;
    println!(
        "{asked}: {} tokens of {BUDGET}, {} saved",
        shortlist.tokens, shortlist.saved_tokens
    );
    for pick in shortlist.picks.iter().take(10) {
        println!(
            "{:>3} {:<32} p {:.3}  {:>4} tokens",
            pick.rank,
            pick.item.as_str(),
            pick.p,
            pick.tokens
        );
    }
    Ok(())
}
