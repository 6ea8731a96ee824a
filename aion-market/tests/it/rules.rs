//! The handle: idempotency, versions, limits, who may bet, and base rates.

use std::sync::Arc;

use aion_market::{
    Error, Forecast, MakerSpec, Market, MarketFilter, MarketOptions, MemoryMarketStore, OpenMarket, Order,
    Resolution, Trade, market_of_task,
};
use aion_types::{ForecasterId, ManualClock, MarketId, PpmDist, TaskId, Timestamp};

fn who(name: &str) -> ForecasterId {
    ForecasterId::new(name).unwrap()
}

fn dist(p: u32) -> PpmDist {
    PpmDist::new(vec![p, 1_000_000 - p]).unwrap()
}

fn id(n: u8) -> MarketId {
    MarketId::from_parts(Timestamp::from_ms(i64::from(n)), [n; 10])
}

fn task(n: u8) -> TaskId {
    TaskId::from_parts(Timestamp::from_ms(i64::from(n)), [n; 10])
}

async fn lmsr(credit: f64) -> Market {
    let market = Market::in_memory();
    let open = OpenMarket::question(id(1), "Will it hold?", "k")
        .with_uniform_prior()
        .with_maker(MakerSpec::lmsr(credit).unwrap());
    market.open(&open).await.unwrap();
    market
}

async fn reports() -> Market {
    let market = Market::in_memory();
    market
        .open(&OpenMarket::question(id(1), "Will it hold?", "k"))
        .await
        .unwrap();
    market
}

#[tokio::test]
async fn a_key_makes_sending_twice_harmless_and_belongs_to_one_request() {
    let market = reports().await;
    let forecast = Forecast::new(who("a"), dist(800_000)).with_key("1").unwrap();
    let first = market.forecast(id(1), &forecast).await.unwrap();
    let second = market.forecast(id(1), &forecast).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(market.get(id(1)).await.unwrap().forecasts, 1);
    let other = Forecast::new(who("a"), dist(700_000)).with_key("1").unwrap();
    assert!(matches!(
        market.forecast(id(1), &other).await,
        Err(Error::KeyReused(_))
    ));
    // A repeated request is answered even after the end.
    market.resolve(id(1), &Resolution::outcome(0)).await.unwrap();
    assert_eq!(market.forecast(id(1), &forecast).await.unwrap(), first);
}

#[tokio::test]
async fn an_expected_version_must_hold() {
    let market = reports().await;
    let forecast = |version| Forecast::new(who("a"), dist(800_000)).with_expected_version(version);
    market.forecast(id(1), &forecast(1)).await.unwrap();
    let stale = market.forecast(id(1), &forecast(1)).await;
    assert!(matches!(
        stale,
        Err(Error::VersionConflict {
            expected: 1,
            found: 2
        })
    ));
}

#[tokio::test]
async fn late_forecasts_are_refused() {
    let clock = ManualClock::at(Timestamp::from_ms(0));
    let store = Arc::new(MemoryMarketStore::new());
    let market = Market::new(store, Arc::new(clock.clone()), MarketOptions::default());
    let open = OpenMarket::question(id(1), "Will it hold?", "k").with_closes_at(Timestamp::from_ms(10));
    market.open(&open).await.unwrap();
    let forecast = Forecast::new(who("a"), dist(800_000));
    market.forecast(id(1), &forecast).await.unwrap();
    clock.advance_ms(10);
    assert!(matches!(
        market.forecast(id(1), &forecast).await,
        Err(Error::Closed { .. })
    ));
    market.resolve(id(1), &Resolution::outcome(0)).await.unwrap();
    assert!(matches!(
        market.forecast(id(1), &forecast).await,
        Err(Error::Closed { .. })
    ));
}

#[tokio::test]
async fn whoever_works_on_a_task_does_not_bet_on_it() {
    let market = Market::in_memory();
    market
        .open(&OpenMarket::task(task(1), "k").with_executor(who("worker")))
        .await
        .unwrap();
    let id = market_of_task(task(1));
    let own = market
        .forecast(id, &Forecast::new(who("worker"), dist(900_000)))
        .await;
    assert!(matches!(own, Err(Error::ExecutorMayNotBet(_))));
    let house = market
        .forecast(id, &Forecast::new(ForecasterId::house(), dist(900_000)))
        .await;
    assert!(matches!(house, Err(Error::ReservedAccount(_))));
}

#[tokio::test]
async fn a_market_ends_once() {
    let market = reports().await;
    assert!(matches!(market.report(id(1)).await, Err(Error::NotResolved(_))));
    let report = market.resolve(id(1), &Resolution::outcome(1)).await.unwrap();
    assert_eq!(
        market.resolve(id(1), &Resolution::outcome(1)).await.unwrap(),
        report
    );
    assert!(matches!(
        market.resolve(id(1), &Resolution::outcome(0)).await,
        Err(Error::AlreadyResolved(_))
    ));
    assert!(matches!(
        market.resolve(id(2), &Resolution::outcome(0)).await,
        Err(Error::NotFound(unknown)) if unknown == id(2)
    ));
    let unknown = market.resolve(id(1), &Resolution::outcome(9)).await;
    assert!(matches!(
        unknown,
        Err(Error::UnknownOutcome {
            outcome: 9,
            outcomes: 2
        })
    ));
}

#[tokio::test]
async fn opening_twice_gives_the_same_market_and_other_terms_are_refused() {
    let market = Market::in_memory();
    let open = OpenMarket::question(id(1), "Will it hold?", "k");
    let first = market.open(&open).await.unwrap();
    market
        .forecast(id(1), &Forecast::new(who("a"), dist(800_000)))
        .await
        .unwrap();
    let second = market.open(&open).await.unwrap();
    assert_eq!((first.id, second.version), (second.id, 2));
    let other = OpenMarket::question(id(1), "Will it break?", "k");
    assert!(matches!(market.open(&other).await, Err(Error::OtherTerms(_))));
}

#[tokio::test]
async fn quotes_change_nothing_and_trades_pay_what_was_quoted() {
    let market = lmsr(100.0).await;
    let order = Order::MoveTo { price: dist(800_000) };
    let quote = market.quote(id(1), &order).await.unwrap();
    assert_eq!(quote.cost_micro, 91_629_073);
    assert_eq!(market.get(id(1)).await.unwrap().version, 1);
    let fill = market.trade(id(1), &Trade::new(who("a"), order)).await.unwrap();
    assert_eq!((fill.cost_micro, &fill.after), (quote.cost_micro, &quote.after));
    let report = market.resolve(id(1), &Resolution::outcome(0)).await.unwrap();
    assert_eq!(report.forecasters[0].profit_micro, 47_000_363);
    assert_eq!(report.forecasters[0].gain, report.kl_bits);
}

#[tokio::test]
async fn a_forecast_in_an_lmsr_is_the_trade_that_moves_the_price_to_it() {
    let market = lmsr(100.0).await;
    let fill = market
        .forecast(id(1), &Forecast::new(who("a"), dist(200_000)))
        .await
        .unwrap();
    assert_eq!(fill.cost_micro, 91_629_073);
    assert_eq!(fill.after, dist(200_000));
    let report = market.resolve(id(1), &Resolution::outcome(0)).await.unwrap();
    assert_eq!(report.forecasters[0].profit_micro, -91_629_073);
    assert_eq!(report.forecasters[0].gain.get(), -1_321_928);
}

#[tokio::test]
async fn orders_have_limits() {
    let market = lmsr(100.0).await;
    let shares = |micro: [i64; 2]| {
        Trade::new(
            who("a"),
            Order::Shares {
                micro: micro.to_vec(),
            },
        )
    };
    let try_it = async |trade: Trade| market.trade(id(1), &trade).await;
    assert!(matches!(try_it(shares([0, 0])).await, Err(Error::TooSmall)));
    assert!(matches!(
        try_it(shares([1, 0])).await,
        Ok(_) | Err(Error::TooSmall)
    ));
    let dear = shares([10_000_000, 0]).with_max_cost_micro(1_000_000);
    assert!(matches!(
        try_it(dear).await,
        Err(Error::OverLimit {
            limit_micro: 1_000_000,
            ..
        })
    ));
    assert!(matches!(
        try_it(shares([2_000_000_000, 0])).await,
        Err(Error::NoCredit { .. })
    ));
    assert!(matches!(
        try_it(shares([i64::MAX, 0])).await,
        Err(Error::Overflow(_))
    ));
    assert!(matches!(
        try_it(shares([0, -5_000_000])).await,
        Err(Error::NotHeld { outcome: 1, .. })
    ));
    let three = Trade::new(who("a"), Order::Shares { micro: vec![1, 2, 3] });
    assert!(matches!(try_it(three).await, Err(Error::Shape { .. })));
    let sure = Trade::new(
        who("a"),
        Order::MoveTo {
            price: dist(1_000_000),
        },
    );
    assert!(matches!(
        try_it(sure).await,
        Err(Error::BadEntry { index: 1, .. })
    ));
    let heavy = Forecast::new(who("a"), dist(800_000)).with_weight(11.0).unwrap();
    assert!(matches!(
        reports().await.forecast(id(1), &heavy).await,
        Err(Error::LimitReached { .. })
    ));
    let trade_in_reports = reports().await.trade(id(1), &shares([1_000_000, 0])).await;
    assert!(matches!(trade_in_reports, Err(Error::WrongMaker { .. })));
}

#[tokio::test]
async fn a_certain_report_is_raised_to_the_floor_and_the_event_says_so() {
    let market = reports().await;
    market
        .forecast(id(1), &Forecast::new(who("a"), dist(1_000_000)))
        .await
        .unwrap();
    let events = market.events(id(1)).await.unwrap();
    let aion_market::event::Event::ForecastReported {
        dist: kept, reported, ..
    } = &events[1].event
    else {
        panic!("not a report: {:?}", events[1]);
    };
    assert_eq!(kept, &dist(999_000));
    assert_eq!(reported, &Some(dist(1_000_000)));
    let report = market.resolve(id(1), &Resolution::outcome(1)).await.unwrap();
    assert_eq!(report.forecasters[0].gain.get(), -8_965_784);
}

#[tokio::test]
async fn bad_terms_are_refused() {
    let market = Market::in_memory();
    let open = |kind: &str| OpenMarket::question(id(1), "Will it hold?", kind);
    assert!(matches!(market.open(&open("")).await, Err(Error::BadText { .. })));
    assert!(matches!(
        market.open(&open("a\nb")).await,
        Err(Error::BadText { .. })
    ));
    assert!(matches!(
        market.open(&open(&"k".repeat(2_000))).await,
        Err(Error::BadText { .. })
    ));
    let one = open("k").with_outcomes(["only"]).with_prior(dist(500_000));
    assert!(matches!(market.open(&one).await, Err(Error::Shape { .. })));
    // The outcomes are what is wrong, whatever the prior would be made from.
    for one in [
        open("k").with_outcomes(["only"]),
        open("k").with_outcomes(["only"]).with_uniform_prior(),
    ] {
        let refused = market.open(&one).await;
        assert!(
            matches!(
                refused,
                Err(Error::Shape {
                    what: "outcomes",
                    found: 1,
                    ..
                })
            ),
            "{refused:?}"
        );
    }
    let twice = open("k").with_outcomes(["same", "same"]);
    assert!(matches!(market.open(&twice).await, Err(Error::BadText { .. })));
    let many = open("k")
        .with_outcomes((0..5_000).map(|n| n.to_string()))
        .with_uniform_prior();
    assert!(matches!(
        market.open(&many).await,
        Err(Error::LimitReached {
            what: "the number of outcomes",
            limit: 4_096
        })
    ));
    assert!(MakerSpec::lmsr(f64::NAN).is_err());
    assert!(MakerSpec::lmsr(0.0).is_err());
    let zero = open("k").with_maker(MakerSpec::Lmsr { liquidity_micro: 0 });
    assert!(matches!(market.open(&zero).await, Err(Error::OutOfRange { .. })));
}

#[tokio::test]
async fn large_markets_work_to_their_last_outcome() {
    let market = Market::in_memory();
    let names = (0..4_096).map(|n| n.to_string());
    let open = OpenMarket::question(id(1), "Which one?", "k")
        .with_outcomes(names)
        .with_uniform_prior();
    market.open(&open).await.unwrap();
    let mut parts = vec![0; 4_096];
    parts[4_095] = 1_000_000;
    let sure = PpmDist::new(parts).unwrap();
    let fill = market
        .forecast(id(1), &Forecast::new(who("a"), sure))
        .await
        .unwrap();
    assert!(fill.after.parts()[4_095] > 250_000);
    let report = market.resolve(id(1), &Resolution::outcome(4_095)).await.unwrap();
    assert!(report.forecasters[0].gain.get() > 10_000_000);
}

#[tokio::test]
async fn a_base_rate_makes_the_next_price_better_than_chance() {
    let market = Market::in_memory();
    for (n, outcome) in [(1, 0), (2, 0), (3, 1), (4, 0)] {
        let view = market.open(&OpenMarket::task(task(n), "copy")).await.unwrap();
        market
            .resolve(view.id, &Resolution::outcome(outcome))
            .await
            .unwrap();
    }
    market.open(&OpenMarket::task(task(5), "hard")).await.unwrap();
    market
        .resolve(market_of_task(task(5)), &Resolution::outcome(1))
        .await
        .unwrap();
    let price = async |n, kind| market.open(&OpenMarket::task(task(n), kind)).await.unwrap().price;
    // (3 + 1) / (4 + 2), (0 + 1) / (1 + 2), and nothing known.
    assert_eq!(price(10, "copy").await, dist(666_667));
    assert_eq!(price(11, "hard").await, dist(333_333));
    assert_eq!(price(12, "new").await, dist(500_000));
    let history = market.history("copy", 2).await.unwrap();
    assert_eq!(history.counts_micro, [3_000_000, 1_000_000]);
}

#[tokio::test]
async fn copies_washes_and_dust_do_not_pay() {
    // Copying the price gains 0.
    let market = reports().await;
    market
        .forecast(id(1), &Forecast::new(who("a"), dist(800_000)))
        .await
        .unwrap();
    let price = market.price(id(1)).await.unwrap();
    market
        .forecast(id(1), &Forecast::new(who("copy"), price).informed())
        .await
        .unwrap();
    let report = market.resolve(id(1), &Resolution::outcome(0)).await.unwrap();
    let copy = report.forecaster(&who("copy")).unwrap();
    assert_eq!((copy.gain.get(), copy.moved.get(), copy.informed), (0, 0, 1));
    // A wash .5 -> .01 -> .5 -> .01 -> .5 gains nothing and costs nothing.
    let market = lmsr(100.0).await;
    let mut paid = 0;
    for p in [10_000, 500_000, 10_000, 500_000] {
        let trade = Trade::new(who("wash"), Order::MoveTo { price: dist(p) });
        paid += market.trade(id(1), &trade).await.unwrap().cost_micro;
    }
    let report = market.resolve(id(1), &Resolution::outcome(0)).await.unwrap();
    let wash = report.forecaster(&who("wash")).unwrap();
    assert_eq!((wash.gain.get(), wash.profit_micro), (0, 0));
    assert!(paid > 0, "holding a share of everything costs what it pays");
    // Dust: a share that costs nothing is not sold.
    let market = lmsr(100.0).await;
    let seed = Trade::new(who("a"), Order::MoveTo { price: dist(990_000) });
    market.trade(id(1), &seed).await.unwrap();
    let mut bought = 0;
    for _ in 0..100 {
        let dust = Trade::new(who("dust"), Order::Shares { micro: vec![0, 1] });
        if let Ok(fill) = market.trade(id(1), &dust).await {
            assert!(fill.cost_micro >= 1);
            bought += 1;
        }
    }
    let report = market.resolve(id(1), &Resolution::outcome(1)).await.unwrap();
    let profit = report.forecaster(&who("dust")).map_or(0, |row| row.profit_micro);
    assert!(profit <= 0, "{bought} shares of dust made {profit}");
}

#[tokio::test]
async fn calibration_and_lists_are_bounded() {
    let market = Market::in_memory();
    for n in 1..=20 {
        let view = market
            .open(&OpenMarket::task(task(n), "k").with_uniform_prior())
            .await
            .unwrap();
        let said = dist(if n % 4 == 0 { 200_000 } else { 800_000 });
        market
            .forecast(view.id, &Forecast::new(who("a"), said))
            .await
            .unwrap();
        market
            .resolve(view.id, &Resolution::outcome(usize::from(n % 5 == 0)))
            .await
            .unwrap();
    }
    let report = market.calibration(&who("a"), 10).await.unwrap().unwrap();
    assert_eq!(report.reliability.n, 20);
    assert!(report.loss_bits > 0.0 && report.brier > 0.0 && report.ece >= 0.0);
    assert!(market.calibration(&who("nobody"), 10).await.unwrap().is_none());
    assert!(market.calibration(&who("a"), 0).await.is_err());
    assert_eq!(market.list(&MarketFilter::default(), 5).await.unwrap().len(), 5);
    assert_eq!(market.leaderboard(10).await.unwrap().len(), 1);
}
