//! A model that reads the likeliest items where words and embeddings leave doubt: here one that knows what a few words
//! are about. A real one would ask a cross-encoder or a language model, and may take its time: it is asked last.
//!
//! `cargo run -p aion-router --example custom_reranker`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use aion_router::text::terms;
use aion_router::{
    EngineOptions, HashingEmbedder, Item, ItemId, LadderOptions, LiveRouter, MemoryRouterStore, Query,
    Reranker, Surface, SurfaceBudget,
};
use async_trait::async_trait;

/// What a question may be about without saying so.
const ABOUT: [(&str, &str); 3] = [("umbrella", "weather"), ("euro", "money"), ("ann", "letter")];

/// Knows what words are about.
#[derive(Debug)]
struct Knows;

#[async_trait]
impl Reranker for Knows {
    async fn rerank(&self, query: &str, items: &[(ItemId, String)]) -> Result<Vec<f64>, String> {
        let asked: Vec<String> = terms(query).collect();
        let speaks_for = |text: &str| {
            let said: Vec<String> = terms(text).collect();
            ABOUT
                .iter()
                .any(|(word, about)| asked.iter().any(|w| w == word) && said.iter().any(|w| w == about))
        };
        // Twenty times as likely where it fits, half as likely where it does not: odds, as logarithms.
        let logit = |text: &str| {
            if speaks_for(text) {
                20.0_f64.ln()
            } else {
                0.5_f64.ln()
            }
        };
        Ok(items.iter().map(|(_, text)| logit(text)).collect())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Arc::new(MemoryRouterStore::new());
    // Reading is said to cost 300 ms, and all of it together may cost half a second.
    let ladder = LadderOptions::default()
        .with_rerank_us(300_000)
        .with_budget_us(500_000);
    let router = LiveRouter::open_with(
        store,
        Arc::new(HashingEmbedder),
        EngineOptions::default(),
        ladder,
        Some(Arc::new(Knows)),
    )
    .await?;
    for (name, text) in [
        ("forecast", "The weather of the next days"),
        ("list", "What is in a folder"),
        ("post", "Sends a letter"),
        ("convert", "Changes money"),
    ] {
        router.upsert(Item::new(Surface::Tool, name, text)?).await?;
    }
    for asked in ["do I need an umbrella", "tell Ann", "list"] {
        let query = Query::new(asked, 4).with_surface(SurfaceBudget::new(Surface::Tool).with_max_items(1));
        let ranking = router.rank(&query).await?;
        let best = ranking.shortlist.picks.first();
        println!(
            "{asked:<24} {}",
            best.map_or("nothing", |pick| pick.item.as_str())
        );
        for rung in &ranking.rungs {
            let name = format!("{:?}", rung.rung);
            println!(
                "  {name:<12} {:>6.2} bits of doubt left, {:>6.2} taken away, {} us",
                rung.doubt_bits, rung.gain_bits, rung.took_us
            );
        }
    }
    Ok(())
}
