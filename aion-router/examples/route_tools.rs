//! Which of a few tools belong in the next step, within forty tokens, and why.
//!
//! `cargo run -p aion-router --example route_tools -- "send the forecast to my boss"`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use aion_router::embed::embed_one;
use aion_router::{ByteTokens, Engine, EngineOptions, HashingEmbedder, Item, Query, Surface, SurfaceBudget};

const TOOLS: [(&str, &str); 8] = [
    ("read_file", "Reads the contents of a file"),
    ("grep", "Searches the lines of files for a regular expression"),
    ("exec", "Runs a shell command and gives its output"),
    ("send_mail", "Sends an e-mail message to an address"),
    (
        "weather_forecast",
        "Temperature and rain at a place for the next days",
    ),
    (
        "convert_currency",
        "Converts an amount of money between currencies",
    ),
    ("book_flight", "Books a flight between two airports"),
    ("plot", "Draws a chart of numbers"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let asked = std::env::args().nth(1);
    let asked = asked
        .as_deref()
        .unwrap_or("send the forecast for tomorrow to my boss");
    let mut engine = Engine::new(EngineOptions::default())?;
    for (name, text) in TOOLS {
        let item = Item::new(Surface::Tool, name, text)?.with_counted_renderings("{}", &ByteTokens)?;
        let (id, words) = (item.id().clone(), item.embedded_text());
        engine.upsert(item)?;
        engine.set_vector(&id, &embed_one(&HashingEmbedder, &words)?)?;
    }
    let query = Query::new(asked, 40).with_surface(SurfaceBudget::new(Surface::Tool));
    let (shortlist, _) = engine.rank(&query, Some(&embed_one(&HashingEmbedder, asked)?))?;
    println!("{asked}");
    println!(
        "{} tokens, {} saved, decision {}",
        shortlist.tokens, shortlist.saved_tokens, shortlist.decision
    );
    for pick in &shortlist.picks {
        let terms = pick
            .why
            .terms
            .iter()
            .map(|(feature, part)| format!("{} {part:+.2}", feature.as_str()));
        let terms: Vec<String> = terms.collect();
        println!(
            "{:>2}. {:<22} p {:.3}  {}",
            pick.rank,
            pick.item.as_str(),
            pick.p,
            terms.join(", ")
        );
    }
    Ok(())
}
