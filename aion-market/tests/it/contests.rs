//! Contests: all markets count, in pages, and whoever keeps one goes on with it.

use std::sync::Arc;

use aion_market::compare::{Assumption, Comparison, Options, Verdict};
use aion_market::store::{ScoreOrder, ScoreRow};
use aion_market::{
    Contest, Forecast, Market, MarketOptions, MemoryMarketStore, OpenMarket, Reach, Resolution,
};
use aion_types::{ForecasterId, ManualClock, MarketId, PpmDist, Timestamp};

fn who(name: &str) -> ForecasterId {
    ForecasterId::new(name).unwrap()
}

fn market() -> (Market, ManualClock) {
    let clock = ManualClock::at(Timestamp::from_ms(0));
    let store = Arc::new(MemoryMarketStore::new());
    let market = Market::new(store, Arc::new(clock.clone()), MarketOptions::default());
    (market, clock)
}

/// Markets `from..to`, three of them in each millisecond; a is in all but every seventh, b in all but
/// every fifth.
async fn ended(market: &Market, clock: &ManualClock, from: u32, to: u32) {
    for n in from..to {
        let mut random = [0; 10];
        random[..4].copy_from_slice(&n.wrapping_mul(0x9e37_79b9).to_be_bytes());
        random[4..8].copy_from_slice(&n.to_be_bytes());
        let id = MarketId::from_parts(Timestamp::from_ms(1), random);
        market
            .open(&OpenMarket::question(id, "q", "k").with_uniform_prior())
            .await
            .unwrap();
        for (name, every, p) in [("a", 7, 700_000 + n % 90), ("b", 5, 550_000 - n % 70)] {
            if n % every != 0 {
                let belief = PpmDist::new(vec![p, 1_000_000 - p]).unwrap();
                market
                    .forecast(id, &Forecast::new(who(name), belief))
                    .await
                    .unwrap();
            }
        }
        let end = Resolution::outcome(usize::from(n % 4 == 0));
        market.resolve(id, &end).await.unwrap();
        if n % 3 == 0 {
            clock.advance_ms(1);
        }
    }
}

/// By the definition: all scores of both at once.
async fn by_hand(market: &Market, options: Options) -> Verdict {
    let all = async |name: &str| -> Vec<ScoreRow> {
        let order = ScoreOrder::Oldest;
        market
            .store()
            .scores(&who(name), order, usize::MAX)
            .await
            .unwrap()
    };
    let (of_a, of_b) = (all("a").await, all("b").await);
    let mut comparison = Comparison::new(options);
    let loss = |row: &ScoreRow| {
        let one =
            |i: usize| f64::from(row.last.parts()[i]) / 1e6 - f64::from(row.target.dist().parts()[i]) / 1e6;
        one(0).powi(2) + one(1).powi(2)
    };
    for a in &of_a {
        if let Some(b) = of_b.iter().find(|b| b.market == a.market) {
            comparison.push(loss(b), loss(a)).unwrap();
        }
    }
    comparison.verdict()
}

fn assert_close(found: Verdict, expected: Verdict) {
    assert_eq!(found.n, expected.n);
    for (found, expected) in [
        (found.mean, expected.mean),
        (found.interval.lower, expected.interval.lower),
        (found.interval.upper, expected.interval.upper),
        (found.p_value, expected.p_value),
    ] {
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    }
}

#[tokio::test]
async fn every_market_that_both_were_in_counts_once() {
    let (market, clock) = market();
    // More than one page of scores of each.
    ended(&market, &clock, 1, 1_600).await;
    for assumption in [Assumption::Drifting, Assumption::Constant] {
        let options = Options::brier().with_assumption(assumption);
        let contest = market.compare(&who("a"), &who("b"), options).await.unwrap();
        let verdict = contest.verdict();
        assert!(verdict.n > 1_000);
        assert_close(verdict, by_hand(&market, options).await);
        assert!(contest.first().unwrap() < contest.last().unwrap());
    }
    let alone = market
        .compare(&who("a"), &who("nobody"), Options::brier())
        .await
        .unwrap();
    assert_eq!((alone.verdict().n, alone.first()), (0, None));
}

#[tokio::test]
async fn a_stored_contest_goes_on_and_leaves_the_last_moment_out() {
    let (market, clock) = market();
    let options = Options::brier();
    let mut kept = Contest::new(who("a"), who("b"), options);
    for (from, to) in [(1, 40), (40, 41), (41, 120)] {
        ended(&market, &clock, from, to).await;
        let now = Timestamp::from_ms(i64::from(to) / 3);
        while market.go_on(&mut kept, now, 7).await.unwrap() == Reach::Middle {}
        assert!(kept.last().unwrap().resolved_at < now);
        // Stored and read back.
        kept = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
    }
    let end = Timestamp::from_ms(i64::MAX);
    assert_eq!(
        market.go_on(&mut kept, end, usize::MAX).await.unwrap(),
        Reach::End
    );
    assert_close(kept.verdict(), by_hand(&market, options).await);
    let again = kept.verdict();
    market.go_on(&mut kept, end, usize::MAX).await.unwrap();
    assert_eq!(kept.verdict(), again);
}
