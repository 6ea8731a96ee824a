//! An embedder of one's own: here one that knows a few topics and counts their words.
//!
//! `cargo run -p aion-router --example custom_embedder`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use aion_router::embed::EmbedError;
use aion_router::text::terms;
use aion_router::{
    Embedder, EngineOptions, Item, LadderOptions, LiveRouter, MemoryRouterStore, Query, Surface,
    SurfaceBudget,
};

/// Words that mean the same to this embedder.
const TOPICS: [&[&str]; 4] = [
    &["rain", "umbrella", "weather", "sun", "temperature"],
    &["file", "folder", "read", "write", "disk"],
    &["mail", "message", "letter", "send", "tell"],
    &["money", "price", "pay", "euro", "dollar"],
];

/// Counts words by topic.
#[derive(Debug)]
struct Topics;

impl Embedder for Topics {
    fn model_id(&self) -> &str {
        // A new version of the words is a new model: its vectors are not comparable with the old ones.
        "topics-1"
    }

    fn dim(&self) -> usize {
        TOPICS.len()
    }

    fn embed(&self, texts: &[&str], out: &mut [f32]) -> Result<(), EmbedError> {
        for (text, vector) in texts.iter().zip(out.chunks_exact_mut(TOPICS.len())) {
            for (count, topic) in vector.iter_mut().zip(TOPICS) {
                *count = terms(text).filter(|word| topic.contains(&&**word)).count() as f32;
            }
            let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-9);
            vector.iter_mut().for_each(|x| *x /= length);
        }
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Arc::new(MemoryRouterStore::new());
    let ladder = LadderOptions::default();
    let router =
        LiveRouter::open_with(store, Arc::new(Topics), EngineOptions::default(), ladder, None).await?;
    for (name, text) in [
        ("forecast", "The weather of the next days"),
        ("list", "What is in a folder"),
        ("post", "Sends a letter"),
        ("convert", "Euro to dollar"),
    ] {
        router.upsert(Item::new(Surface::Tool, name, text)?).await?;
    }
    for asked in ["do I need an umbrella", "tell Ann", "is it on the disk"] {
        let query = Query::new(asked, 4).with_surface(SurfaceBudget::new(Surface::Tool));
        let ranking = router.rank(&query).await?;
        let best = ranking
            .shortlist
            .picks
            .first()
            .map_or("nothing", |pick| pick.item.as_str());
        println!("{asked:<24} {best:<16} {} rungs", ranking.rungs.len());
    }
    Ok(())
}
