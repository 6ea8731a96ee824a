//! Measurements that print their numbers:
//! `cargo test --release -p aion-market --test it measure -- --ignored --nocapture`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aion_market::engine::MarketState;
use aion_market::maker::{LiquiditySensitive, Lmsr, MICRO, lmsr};
use aion_market::{
    Forecast, MakerSpec, Market, MarketOptions, MarketStore, MemoryMarketStore, OpenMarket, Order, Request,
    SqliteMarketStore, Trade,
};
use aion_types::{ForecasterId, MarketId, PpmDist, SystemClock, Timestamp};

const BETS: usize = 10_000;

/// The processor time of this thread, which other programs do not lengthen; the clock where the system
/// does not tell it.
fn processor_time() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ns = told.and_then(|text| text.split(' ').next()?.parse().ok());
    ns.map_or_else(|| Instant::now().duration_since(*STARTED), Duration::from_nanos)
}

static STARTED: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);

/// The fastest of several rounds, each of many calls: nanoseconds of processor time a call.
fn ns_each(calls: u32, mut work: impl FnMut()) -> f64 {
    let round = |work: &mut dyn FnMut()| {
        // The system counts at every turn of its scheduler.
        std::thread::yield_now();
        let started = processor_time();
        (0..calls).for_each(|_| work());
        std::thread::yield_now();
        processor_time().saturating_sub(started)
    };
    let fastest = (0..15).map(|_| round(&mut work)).min().unwrap_or_default();
    fastest.as_nanos() as f64 / f64::from(calls)
}

fn even(outcomes: usize) -> PpmDist {
    PpmDist::from_weights(&vec![1.0; outcomes]).unwrap()
}

#[test]
#[ignore = "a measurement, for release builds"]
fn quotes() {
    println!(
        "{:>5} {:>14} {:>14} {:>14} {:>14} {:>14}",
        "K", "f64 one", "f64 all", "exact one", "exact all", "sensitive"
    );
    for outcomes in [2, 10, 100, 4_096] {
        let p = vec![1.0 / outcomes as f64; outcomes];
        let mut one = vec![0.0; outcomes];
        one[0] = 10.0;
        let all: Vec<f64> = (0..outcomes).map(|k| k as f64 % 7.0 + 0.5).collect();
        let micro =
            |shares: &[f64]| -> Vec<i64> { shares.iter().map(|d| (d * MICRO as f64) as i64).collect() };
        let (one_micro, all_micro) = (micro(&one), micro(&all));
        let maker = Lmsr::open(&even(outcomes), 100_000_000).unwrap();
        let mut traded = maker.clone();
        traded.trade(&all_micro).unwrap();
        let deep = LiquiditySensitive::open(&even(outcomes), 50_000, 100_000_000).unwrap();
        let calls = (2_000_000 / (outcomes as u32 + 10)).max(100);
        println!(
            "{outcomes:>5} {:>11.1} ns {:>11.1} ns {:>11.1} ns {:>11.1} ns {:>11.1} ns",
            ns_each(calls, || drop(black_box(lmsr::quote(
                black_box(&p),
                black_box(&one),
                100.0
            )))),
            ns_each(calls, || drop(black_box(lmsr::quote(
                black_box(&p),
                black_box(&all),
                100.0
            )))),
            ns_each(calls, || drop(black_box(
                black_box(&traded).quote(black_box(&one_micro))
            ))),
            ns_each(calls, || drop(black_box(
                black_box(&traded).quote(black_box(&all_micro))
            ))),
            ns_each(calls, || drop(black_box(
                black_box(&deep).quote(black_box(&all_micro))
            ))),
        );
    }
}

fn id() -> MarketId {
    MarketId::from_parts(Timestamp::from_ms(1), [1; 10])
}

/// Ten thousand bets of a hundred forecasters, each under a key of its own.
fn bets(spec: MakerSpec) -> Vec<(MarketId, Request)> {
    let bet = |n: usize| {
        let who = ForecasterId::new(format!("forecaster-{}", n % 100)).unwrap();
        let p = 300_000 + (n * 7_919 % 400_000) as u32;
        let price = PpmDist::new(vec![p, 1_000_000 - p]).unwrap();
        let request: Request = match spec {
            MakerSpec::PseudoCount { .. } => {
                Forecast::new(who, price).with_key(n.to_string()).unwrap().into()
            }
            _ => Trade::new(who, Order::MoveTo { price })
                .with_key(n.to_string())
                .unwrap()
                .into(),
        };
        (id(), request)
    };
    (0..BETS).map(bet).collect()
}

async fn opened(store: Arc<dyn MarketStore>, spec: MakerSpec) -> Market {
    let market = Market::new(store, Arc::new(SystemClock), MarketOptions::default());
    let open = OpenMarket::question(id(), "Will it hold?", "k")
        .with_uniform_prior()
        .with_maker(spec);
    market.open(&open).await.unwrap();
    market
}

async fn made(market: &Market, bets: &[(MarketId, Request)], batch: usize) -> Duration {
    let started = Instant::now();
    for some in bets.chunks(batch) {
        let answers = market.apply_batch(some).await.unwrap();
        assert!(answers.iter().all(Result::is_ok));
    }
    started.elapsed()
}

#[tokio::test]
#[ignore = "a measurement, for release builds"]
async fn replays_and_batches() {
    for (name, spec) in [
        ("reports", MakerSpec::pseudo_count(2.0).unwrap()),
        ("lmsr", MakerSpec::lmsr(1.0).unwrap()),
        ("sensitive", MakerSpec::liquidity_sensitive(0.001, 1.0).unwrap()),
    ] {
        let bets = bets(spec);
        let mut fastest = Duration::MAX;
        for _ in 0..5 {
            let market = opened(Arc::new(MemoryMarketStore::new()), spec).await;
            fastest = fastest.min(made(&market, &bets, 10_000).await);
        }
        let market = opened(Arc::new(MemoryMarketStore::new()), spec).await;
        made(&market, &bets, 10_000).await;
        let events = market.events(id()).await.unwrap();
        let fold = ns_each(1, || drop(black_box(MarketState::fold(id(), black_box(&events)))));
        println!(
            "{name:>10}: {BETS} bets folded in {:.2} ms; decided and kept in memory in {:.2} ms",
            fold / 1e6,
            fastest.as_secs_f64() * 1e3
        );
        for batch in [1, 100, 1_000, 10_000] {
            let dir = tempfile::tempdir().unwrap();
            let store = SqliteMarketStore::open(dir.path().join("market.db"))
                .await
                .unwrap();
            let market = opened(Arc::new(store), spec).await;
            let some = &bets[..BETS.min(batch * 2_000)];
            let took = made(&market, some, batch).await;
            println!(
                "{name:>10}: SQLite, batches of {batch}: {:.0} durable bets/s",
                some.len() as f64 / took.as_secs_f64()
            );
        }
    }
}
