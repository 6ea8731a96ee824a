//! Who forecasts well, in bits and in trust: `cargo run -p aion-examples --example score_forecasters [FOLDER]`
//!
//! Expect: the careful forecaster leads in bits, in peer score and in trust; the boastful one is
//! last in all of them; twelve days are too few to be sure; the sum of all trust stays the same. A
//! reliability diagram of the leader is written to the folder, or beside temporary files.
#![allow(clippy::print_stdout)]

use std::path::PathBuf;

use aion_market::compare::{Comparison, Options};
use aion_market::diagram::{self, DiagramOptions};
use aion_market::reliability::Reliability;
use aion_market::score::{self, Brier, ScoringRule, skill::Skill};
use aion_market::{Forecast, Market, OpenMarket, Resolution};
use aion_trust::{TrustLedger, Vote};
use aion_types::{ForecasterId, MarketId, PpmDist, Prob, Timestamp};

/// Twelve days: whether it rained, and what three people said in the morning.
const DAYS: [(bool, [f64; 3]); 12] = [
    (true, [0.80, 0.99, 0.5]),
    (true, [0.70, 0.99, 0.5]),
    (false, [0.30, 0.99, 0.5]),
    (true, [0.75, 0.99, 0.5]),
    (false, [0.20, 0.01, 0.5]),
    (false, [0.25, 0.01, 0.5]),
    (true, [0.60, 0.01, 0.5]),
    (true, [0.85, 0.99, 0.5]),
    (false, [0.40, 0.99, 0.5]),
    (true, [0.90, 0.99, 0.5]),
    (false, [0.15, 0.01, 0.5]),
    (true, [0.65, 0.01, 0.5]),
];
const NAMES: [&str; 3] = ["careful", "boastful", "indifferent"];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let outcomes: Vec<f64> = DAYS.iter().map(|(rain, _)| f64::from(u8::from(*rain))).collect();
    let mut board = Vec::new();
    for (i, name) in NAMES.iter().enumerate() {
        let (mut bits, mut peer, mut briers, mut said) = (0.0, 0.0, Vec::new(), Vec::new());
        for (rain, p) in &DAYS {
            let given = p.map(|p| if *rain { p } else { 1.0 - p });
            bits += given[i].log2() / DAYS.len() as f64;
            peer += score::metaculus_peer(&given)?[i];
            briers.push(Brier.reward(&[p[i], 1.0 - p[i]], usize::from(!rain))?);
            said.push(p[i]);
        }
        board.push((*name, bits, peer, briers, Reliability::of(&said, &outcomes, 5)?));
    }
    board.sort_by(|a, b| b.1.total_cmp(&a.1));
    for (name, bits, peer, _, curve) in &board {
        println!(
            "{name:<12} {bits:+.3} bits a day, peer score {peer:+.1}, Brier {:.3}, calibration error {:.3}",
            curve.murphy().brier(),
            curve.ece(),
        );
    }

    let (first, second) = (&board[0], &board[1]);
    let skill = Skill::paired(&first.3, &second.3)?;
    let mut comparison = Comparison::new(Options::new(-2.0, 2.0)?);
    for (a, b) in first.3.iter().zip(&second.3) {
        comparison.push(*a, *b)?;
    }
    println!(
        "{} saves {:.3} +- {:.3} of Brier a day against {}; sure of it: {}",
        first.0,
        skill.mean,
        skill.standard_error.unwrap_or(f64::NAN),
        second.0,
        comparison.verdict().a_is_better(),
    );
    let folder = std::env::args()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("aion-score-forecasters.svg");
    std::fs::write(
        &path,
        diagram::reliability(
            &first.4,
            &DiagramOptions::new(format!("Calibration of {}", first.0)),
        ),
    )?;
    println!("wrote {}", path.display());
    settle_in_trust().await
}

/// The same days as markets, whose ends move trust.
async fn settle_in_trust() -> Result<(), Box<dyn std::error::Error>> {
    let (market, trust) = (Market::in_memory(), TrustLedger::in_memory());
    for (day, (rain, said)) in DAYS.iter().enumerate() {
        let id = MarketId::generate(Timestamp::from_ms(day as i64));
        market
            .open(&OpenMarket::question(id, "Will it rain?", "weather"))
            .await?;
        for (name, p) in NAMES.iter().zip(said) {
            let belief = PpmDist::binary(Prob::new(*p)?);
            market
                .forecast(id, &Forecast::new(ForecasterId::new(*name)?, belief))
                .await?;
        }
        let report = market
            .resolve(id, &Resolution::outcome(usize::from(!rain)))
            .await?;
        trust.settle(&report, &Vote::of_report(&report)).await?;
    }
    let accounts = trust.list(10).await?;
    for account in &accounts {
        let (balance, granted) = (account.balance.get(), account.granted.get());
        println!("{:<12} {balance} mT (began with {granted})", account.id.as_str());
    }
    let total: u64 = accounts.iter().map(|account| account.balance.get()).sum();
    let granted: u64 = accounts.iter().map(|account| account.granted.get()).sum();
    println!("in all {total} mT, as granted: {}", total == granted);
    Ok(())
}
