//! A market with a bounded loss: `cargo run -p aion-examples --example lmsr_market`
//!
//! Expect: Anna moves the price of rain from 0.5 to 0.8 for 91.629073; it rains; her profit is
//! 47.000363 and her bits are log2(0.8 / 0.5) = 0.678072; Bob, who moved it back to 0.7, loses both.
#![allow(clippy::print_stdout)]

use aion_market::{MakerSpec, Market, OpenMarket, Order, Resolution, Trade};
use aion_types::{ForecasterId, MarketId, PpmDist, Prob, Timestamp};

const RAIN: usize = 0;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let market = Market::in_memory();
    let id = MarketId::generate(Timestamp::from_ms(0));
    let question = OpenMarket::question(id, "Will it rain tomorrow?", "weather")
        .with_outcomes(["rain", "no rain"])
        .with_uniform_prior()
        .with_maker(MakerSpec::lmsr(100.0)?);
    market.open(&question).await?;

    for (name, belief) in [("anna", 0.8), ("bob", 0.7)] {
        let order = Order::MoveTo {
            price: PpmDist::binary(Prob::new(belief)?),
        };
        let quote = market.quote(id, &order).await?;
        let fill = market
            .trade(id, &Trade::new(ForecasterId::new(name)?, order))
            .await?;
        println!(
            "{name} moves the price {} -> {} for {:.6} (quoted {:.6})",
            price(&fill.before),
            price(&fill.after),
            fill.cost_micro as f64 / 1e6,
            quote.cost_micro as f64 / 1e6,
        );
    }

    let report = market.resolve(id, &Resolution::outcome(RAIN)).await?;
    println!(
        "it rains: the market gained {:.6} bits",
        aion_types::Bits::from(report.kl_bits).get()
    );
    for row in &report.forecasters {
        println!(
            "{:<5} {:+.6} bits, profit {:+.6}",
            row.forecaster.as_str(),
            aion_types::Bits::from(row.gain).get(),
            row.profit_micro as f64 / 1e6,
        );
    }
    Ok(())
}

fn price(dist: &PpmDist) -> String {
    dist.get(RAIN)
        .map_or_else(String::new, |p| format!("{:.3}", p.to_prob().get()))
}
