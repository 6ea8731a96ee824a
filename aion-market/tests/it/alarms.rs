//! Alarms: each market that deserves a look is told, by parameters, and no other.

use std::sync::Arc;

use aion_market::alarm::{Alarm, AlarmOptions, Alarms};
use aion_market::{
    Forecast, Market, MarketFilter, MarketOptions, MarketStatus, MemoryMarketStore, OpenMarket, Resolution,
    market_of_task,
};
use aion_types::{ForecasterId, ManualClock, MarketId, Ppm, PpmDist, TaskId, Timestamp};

fn dist(p: u32) -> PpmDist {
    PpmDist::new(vec![p, 1_000_000 - p]).unwrap()
}

fn task(n: u8) -> TaskId {
    TaskId::from_parts(Timestamp::from_ms(i64::from(n)), [n; 10])
}

fn market() -> (Market, ManualClock) {
    let clock = ManualClock::at(Timestamp::from_ms(0));
    let store = Arc::new(MemoryMarketStore::new());
    (
        Market::new(store, Arc::new(clock.clone()), MarketOptions::default()),
        clock,
    )
}

async fn open(market: &Market, n: u8) -> MarketId {
    let open = OpenMarket::task(task(n), "k").with_uniform_prior();
    market.open(&open).await.unwrap().id
}

async fn say(market: &Market, id: MarketId, p: u32) {
    let forecast = Forecast::new(ForecasterId::new("a").unwrap(), dist(p))
        .with_weight(10.0)
        .unwrap();
    market.forecast(id, &forecast).await.unwrap();
}

async fn alarms(market: &Market, options: &AlarmOptions) -> Vec<(MarketId, Vec<Alarm>)> {
    let page = market.alarms(options, &MarketFilter::default(), 100).await;
    let found: Vec<Alarms> = page.unwrap().markets;
    found.into_iter().map(|one| (one.market, one.alarms)).collect()
}

fn options() -> AlarmOptions {
    let band = Ppm::new(50_000).unwrap();
    AlarmOptions::default().with_even(band, 1_000, 2).unwrap()
}

#[tokio::test]
async fn a_market_that_stays_even_is_told_once_it_has_lasted() {
    let (market, clock) = market();
    let (even, decided) = (open(&market, 1).await, open(&market, 2).await);
    say(&market, even, 900_000).await;
    say(&market, even, 100_000).await;
    clock.advance_ms(500);
    say(&market, even, 490_000).await;
    say(&market, decided, 900_000).await;
    say(&market, decided, 900_000).await;
    clock.advance_ms(999);
    // The price came back near even odds at 0 ms; three forecasts have passed since it left them.
    let since = Timestamp::from_ms(0);
    assert_eq!(
        alarms(&market, &options()).await,
        [(even, vec![Alarm::Undecided { since, forecasts: 2 }])]
    );
    let longer = options().with_even(Ppm::new(50_000).unwrap(), 1_500, 2).unwrap();
    assert!(alarms(&market, &longer).await.is_empty());
    let more = options().with_even(Ppm::new(50_000).unwrap(), 1_000, 3).unwrap();
    assert!(alarms(&market, &more).await.is_empty());
    let narrow = options().with_even(Ppm::new(1_000).unwrap(), 1_000, 2).unwrap();
    assert!(alarms(&market, &narrow).await.is_empty());
}

#[tokio::test]
async fn a_market_that_disagrees_with_the_persistence_of_its_task_is_told() {
    let (market, _) = market();
    let open = OpenMarket::task(task(1), "k")
        .with_persistence_prior(3.0)
        .unwrap();
    let view = market.open(&open).await.unwrap();
    assert_eq!(view.price, dist(750_000));
    assert_eq!(view.spec.persistence_micro, Some(1_098_612));
    assert!(alarms(&market, &options()).await.is_empty());
    say(&market, view.id, 100_000).await;
    let told = alarms(&market, &options()).await;
    let [(_, told)] = &told[..] else {
        panic!("{told:?}")
    };
    // Price (1.5 + 1) / 12, so logit p = ln(2.5 / 9.5), against ln 3.
    let expected = (2.5_f64 / 9.5).ln() - 3.0_f64.ln();
    assert!(matches!(told[..], [Alarm::DisagreesWithPersistence { nats }] if (nats - expected).abs() < 1e-5));
    let patient = options().with_disagreement_nats(3.0).unwrap();
    assert!(alarms(&market, &patient).await.is_empty());
}

#[tokio::test]
async fn the_last_signal_counts_for_disagreement() {
    let (market, _) = market();
    let id = open(&market, 1).await;
    let who = ForecasterId::new("r").unwrap();
    let forecast = Forecast::new(who, dist(510_000)).with_signal(-2.0).unwrap();
    market.forecast(id, &forecast).await.unwrap();
    assert_eq!(market.get(id).await.unwrap().signal_micro, Some(-2_000_000));
    let told = alarms(&market, &options()).await;
    assert!(matches!(told[0].1[..], [Alarm::DisagreesWithPersistence { nats }] if nats > 2.0));
}

#[tokio::test]
async fn a_market_that_was_sure_of_what_did_not_happen_is_told() {
    let (market, _) = market();
    for n in 1..=4 {
        let id = open(&market, n).await;
        say(&market, id, 950_000).await;
    }
    let end = async |n: u8, resolution: Resolution| {
        market
            .resolve(market_of_task(task(n)), &resolution)
            .await
            .unwrap();
    };
    end(1, Resolution::outcome(1)).await;
    end(2, Resolution::outcome(0)).await;
    end(3, Resolution::void("nobody looked")).await;
    end(4, Resolution::Mixture { dist: dist(500_000) }).await;
    let told = alarms(&market, &options()).await;
    // Price (1 + 9.5) / 12 = 0.875: exactly three bits of surprise at the other outcome.
    assert_eq!(
        told,
        [(market_of_task(task(1)), vec![Alarm::Surprised { bits: 3.0 }])]
    );
    let strict = options().with_surprise_bits(0.5).unwrap();
    assert_eq!(alarms(&market, &strict).await.len(), 2);
}

#[tokio::test]
async fn pages_of_alarms_are_all_of_them() {
    let (market, _) = market();
    for n in 1..=12 {
        let id = open(&market, n).await;
        say(&market, id, 950_000).await;
        let end = Resolution::outcome(usize::from(n % 3 == 0));
        market.resolve(id, &end).await.unwrap();
    }
    let all = alarms(&market, &options()).await;
    let told: Vec<MarketId> = all.iter().map(|(id, _)| *id).collect();
    assert_eq!(told, [12, 9, 6, 3].map(|n| market_of_task(task(n))));
    let resolved = MarketFilter::default().with_status(MarketStatus::Resolved);
    let (mut filter, mut seen) = (resolved, Vec::new());
    loop {
        let page = market.alarms(&options(), &filter, 1).await.unwrap();
        seen.extend(page.markets.iter().map(|one| one.market));
        let Some(next) = page.next else { break };
        filter = filter.with_before(next);
    }
    assert_eq!(seen, told);
    let open = MarketFilter::default().with_status(MarketStatus::Open);
    let none = market.alarms(&options(), &open, 10).await.unwrap();
    assert!(none.markets.is_empty() && none.next.is_none());
}

#[test]
fn parameters_outside_their_range_are_refused() {
    let options = AlarmOptions::default();
    assert!(options.with_surprise_bits(f64::NAN).is_err());
    assert!(options.with_surprise_bits(0.0).is_err());
    assert!(options.with_disagreement_nats(f64::INFINITY).is_err());
    assert!(options.with_even(Ppm::new(1).unwrap(), -1, 0).is_err());
}
