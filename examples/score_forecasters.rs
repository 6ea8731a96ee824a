//! Who forecasts well, in bits and in trust: `cargo run -p aion-examples --example score_forecasters`
//!
//! Expect: the careful forecaster has the smallest Brier score and gains trust; the boastful one has
//! the largest and loses it; the sum of all trust stays the same.
#![allow(clippy::print_stdout)]

use aion_market::reliability::Reliability;
use aion_market::{Forecast, Market, OpenMarket, Resolution, score};
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
    for (i, name) in NAMES.iter().enumerate() {
        let said: Vec<f64> = DAYS.iter().map(|(_, said)| said[i]).collect();
        let bits: f64 = DAYS
            .iter()
            .map(|(rain, said)| log2_score(said[i], *rain))
            .sum::<Result<f64, _>>()?;
        let reliability = Reliability::of(&said, &outcomes, 5)?;
        println!(
            "{name:<12} {:+.3} bits a day, Brier {:.3}, calibration error {:.3}",
            bits / DAYS.len() as f64,
            reliability.murphy().brier(),
            reliability.ece(),
        );
    }

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
        let outcome = usize::from(!rain);
        let report = market.resolve(id, &Resolution::outcome(outcome)).await?;
        trust.settle(&report, &Vote::of_report(&report)).await?;
    }
    let accounts = trust.list(10).await?;
    for account in &accounts {
        println!(
            "{:<12} {} mT (began with {})",
            account.id.as_str(),
            account.balance.get(),
            account.granted.get()
        );
    }
    let total: u64 = accounts.iter().map(|account| account.balance.get()).sum();
    let granted: u64 = accounts.iter().map(|account| account.granted.get()).sum();
    println!("in all {total} mT, as granted: {}", total == granted);
    Ok(())
}

fn log2_score(p: f64, rain: bool) -> aion_market::Result<f64> {
    let nats = score::log_score(&[p, 1.0 - p], usize::from(!rain))?;
    Ok(nats / std::f64::consts::LN_2)
}
