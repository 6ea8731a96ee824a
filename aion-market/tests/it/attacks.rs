//! Attacks on markets, each shown not to pay.

use std::sync::Arc;

use aion_market::maker::{MICRO, PseudoCount};
use aion_market::{
    Error, Forecast, ForecasterReport, MakerSpec, Market, MarketOptions, MemoryMarketStore, OpenMarket,
    Order, Report, Resolution, Target, Trade, market_of_task, sequential,
};
use aion_types::{ForecasterId, ManualClock, MarketId, Ppm, PpmDist, TaskId, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;

fn who(name: &str) -> ForecasterId {
    ForecasterId::new(name).unwrap()
}

fn dist(p: u32) -> PpmDist {
    PpmDist::new(vec![p, 1_000_000 - p]).unwrap()
}

fn id() -> MarketId {
    MarketId::from_parts(Timestamp::from_ms(1), [1; 10])
}

fn now<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(future)
}

async fn opened(maker: MakerSpec) -> Market {
    let clock = ManualClock::at(Timestamp::from_ms(0));
    let store = Arc::new(MemoryMarketStore::new());
    let market = Market::new(store, Arc::new(clock), MarketOptions::default());
    let open = OpenMarket::question(id(), "Will it hold?", "k")
        .with_uniform_prior()
        .with_maker(maker);
    market.open(&open).await.unwrap();
    market
}

fn lmsr() -> MakerSpec {
    MakerSpec::lmsr(100.0).unwrap()
}

fn deepening() -> MakerSpec {
    MakerSpec::liquidity_sensitive(0.05, 100.0).unwrap()
}

async fn move_to(market: &Market, name: &str, p: u32) -> i64 {
    let trade = Trade::new(who(name), Order::MoveTo { price: dist(p) });
    market.trade(id(), &trade).await.unwrap().cost_micro
}

async fn shares(market: &Market, name: &str, micro: [i64; 2]) -> Result<i64, Error> {
    let trade = Trade::new(
        who(name),
        Order::Shares {
            micro: micro.to_vec(),
        },
    );
    market.trade(id(), &trade).await.map(|fill| fill.cost_micro)
}

async fn ended(market: &Market, outcome: usize) -> Report {
    market.resolve(id(), &Resolution::outcome(outcome)).await.unwrap()
}

fn row<'a>(report: &'a Report, name: &str) -> &'a ForecasterReport {
    report.forecaster(&who(name)).unwrap()
}

/// The last mover: whoever moves a right price to a wrong one before the end pays for it, and cannot
/// make the last price what the others are scored against.
#[tokio::test]
async fn the_last_mover_pays_for_a_wrong_last_price() {
    for maker in [lmsr(), deepening()] {
        let market = opened(maker).await;
        move_to(&market, "honest", 800_000).await;
        move_to(&market, "last", 50_000).await;
        let report = ended(&market, 0).await;
        let (honest, last) = (row(&report, "honest"), row(&report, "last"));
        assert!(last.gain.get() < -3_900_000 && last.profit_micro < 0, "{last:?}");
        assert_eq!(honest.gain.get(), 678_072);
        assert!(honest.profit_micro > 0);
    }
}

/// After the close there is no last move at all.
#[tokio::test]
async fn nobody_moves_a_market_that_is_closed() {
    let market = opened(lmsr()).await;
    move_to(&market, "honest", 800_000).await;
    let view = market.close(id(), "the answer will be known soon").await.unwrap();
    assert_eq!(view.closed_at, Some(Timestamp::from_ms(0)));
    assert_eq!(market.close(id(), "again").await.unwrap(), view);
    let late = Trade::new(who("last"), Order::MoveTo { price: dist(50_000) });
    assert!(matches!(
        market.trade(id(), &late).await,
        Err(Error::Closed { .. })
    ));
    let house = market.house_move(id(), &dist(50_000), 1_000_000, "why").await;
    assert!(matches!(house, Err(Error::Closed { .. })));
    assert_eq!(ended(&market, 0).await.p_last, dist(800_000));
    assert!(matches!(
        market.close(id(), "too late").await,
        Err(Error::Closed { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// P12, a copy: reporting the price gains exactly nothing, whatever happens, and is no purchase.
    #[test]
    fn a_copy_gains_nothing(path in vec(1_000_u32..999_000, 1..6), outcome in 0_usize..2) {
        let gain = now(async {
            let market = opened(MakerSpec::pseudo_count(2.0).unwrap()).await;
            for p in &path {
                market.forecast(id(), &Forecast::new(who("honest"), dist(*p))).await.unwrap();
            }
            let price = market.price(id()).await.unwrap();
            let copy = Forecast::new(who("copy"), price).informed();
            market.forecast(id(), &copy).await.unwrap();
            let report = ended(&market, outcome).await;
            let copy = row(&report, "copy");
            (copy.gain.get(), copy.moved.get(), copy.informed)
        });
        prop_assert_eq!(gain, (0, 0, 1));
        let refused = now(async {
            let market = opened(lmsr()).await;
            move_to(&market, "honest", path[0].clamp(1_000, 400_000)).await;
            let price = market.price(id()).await.unwrap();
            shares_of_copy(&market, price).await
        });
        prop_assert!(refused, "a copy of the price buys nothing");
    }

    /// A wash, and trading with oneself: a path that one account closes brings no bits and no money.
    /// Its moves are small enough for the account's credit.
    #[test]
    fn a_wash_brings_nothing(path in vec(250_000_u32..750_000, 1..4), outcome in 0_usize..2) {
        for maker in [lmsr(), deepening()] {
            let (gain, profit) = now(async {
                let market = opened(maker).await;
                for p in path.iter().chain([&500_000]) {
                    move_to_if_any(&market, "wash", *p).await.unwrap();
                }
                let report = ended(&market, outcome).await;
                report.forecaster(&who("wash")).map_or((0, 0), |row| (row.gain.get(), row.profit_micro))
            });
            prop_assert!(gain.abs() <= 3, "{gain}");
            // Whole parts per million let the price end one part off its start: 100 units of liquidity
            // make that 200 micro-units.
            prop_assert!(profit <= 400, "{profit}");
        }
    }

    /// A sybil pair that trades: the bits and the money of both are those of one account that made
    /// both moves. What the second gains, the first has paid. One account's credit is enough for both moves.
    #[test]
    fn a_pair_that_trades_gets_what_one_account_gets(
        out in 50_000_u32..950_000,
        home in 50_000_u32..950_000,
        outcome in 0_usize..2,
    ) {
        for maker in [lmsr(), deepening()] {
            let total = |names: [&'static str; 2]| now(async move {
                let market = opened(maker).await;
                move_to_if_any(&market, names[0], out).await.unwrap();
                move_to_if_any(&market, names[1], home).await.unwrap();
                let report = ended(&market, outcome).await;
                let rows = report.forecasters.iter();
                rows.fold((0, 0), |(bits, money), row| (bits + row.gain.get(), money + row.profit_micro))
            });
            prop_assert_eq!(total(["s1", "s2"]), total(["one", "one"]));
        }
    }

    /// Splitting an order between keys costs the same to the last micro-unit.
    #[test]
    fn splitting_an_order_saves_nothing(parts in vec(1_000_000_i64..60_000_000, 2..8)) {
        for maker in [lmsr(), deepening()] {
            let (split, whole) = now(async {
                let market = opened(maker).await;
                let mut split = 0;
                for (n, part) in parts.iter().enumerate() {
                    split += shares(&market, &format!("s{n}"), [*part, 0]).await.unwrap();
                }
                let market = opened(maker).await;
                (split, shares(&market, "one", [parts.iter().sum(), 0]).await.unwrap())
            });
            prop_assert_eq!(split, whole);
        }
    }

    /// A sybil pair that reports: one key pushes the price away, the other reports the old price and
    /// is paid for coming back. For a pair that knows no more than the price, the first loses at least
    /// what the second gains, in expectation: `KL(p||x) >= KL(p||p')` for `p'` between `p` and `x`.
    #[test]
    fn a_pair_that_reports_loses_what_it_makes(
        price in 50_000_u32..950_000,
        pushed in 1_000_u32..999_000,
        back in 1_000_u32..999_000,
        weight in 1_000_000_u64..10_000_000,
    ) {
        let mut maker = PseudoCount::open(&dist(price), 2_000_000).unwrap();
        maker.report(&dist(pushed), weight).unwrap();
        let between = maker.price().unwrap();
        let total = |outcome: usize| {
            let target = Target::outcome(outcome, 2).unwrap();
            let level = |p: &PpmDist| sequential::level(p, &target).unwrap().get() as f64;
            level(&dist(pushed)) - level(&dist(price)) + level(&dist(back)) - level(&between)
        };
        let p = f64::from(price) / 1e6;
        let expected = p * total(0) + (1.0 - p) * total(1);
        prop_assert!(expected <= 20.0, "{expected} micro-bits");
    }

    /// Dust and rounding: orders of a few micro-shares, in any order, never leave an account that
    /// would be ahead whatever happens; and none of them is free.
    #[test]
    fn dust_never_wins_in_every_outcome(
        first in 10_000_u32..990_000,
        dust in vec((-3_i64..4, -3_i64..4), 1..60),
    ) {
        for maker in [lmsr(), deepening()] {
            let sure_win = now(async {
                let market = opened(maker).await;
                move_to_if_any(&market, "honest", first).await.unwrap();
                let (mut held, mut paid) = ([0, 0], 0);
                for (a, b) in &dust {
                    if let Ok(cost) = shares(&market, "dust", [*a, *b]).await {
                        assert!(cost >= 1 || *a < 0 || *b < 0, "a free purchase");
                        held = [held[0] + a, held[1] + b];
                        paid += cost;
                    }
                }
                held[0].min(held[1]) - paid
            });
            prop_assert!(sure_win <= 1, "{sure_win} micro-units whatever happens");
        }
    }

    /// A round trip in any pieces costs exactly nothing: rounding has no direction.
    #[test]
    fn a_round_trip_in_pieces_costs_nothing(pieces in vec(1_000_i64..9_000_000, 1..12)) {
        for maker in [lmsr(), deepening()] {
            let left = now(async {
                let market = opened(maker).await;
                let mut paid = 0;
                for piece in &pieces {
                    paid += shares(&market, "trip", [*piece, 0]).await.unwrap();
                }
                paid + shares(&market, "trip", [-pieces.iter().sum::<i64>(), 0]).await.unwrap()
            });
            prop_assert_eq!(left, 0);
        }
    }
}

async fn shares_of_copy(market: &Market, price: PpmDist) -> bool {
    let copy = Trade::new(who("copy"), Order::MoveTo { price });
    match market.trade(id(), &copy).await {
        Err(Error::TooSmall) => true,
        // The price in whole parts per million is next to the exact one: a few micro-units apart.
        Ok(fill) => fill.cost_micro < 200 && fill.before.parts()[0].abs_diff(fill.after.parts()[0]) <= 1,
        Err(_) => false,
    }
}

async fn move_to_if_any(market: &Market, name: &str, p: u32) -> Result<(), Error> {
    let trade = Trade::new(who(name), Order::MoveTo { price: dist(p) });
    match market.trade(id(), &trade).await {
        Ok(_) | Err(Error::TooSmall) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Front-running: an order with a limit is refused once somebody was faster, by price, by cost, or by
/// version; the one who was faster sells back for exactly what it paid.
#[tokio::test]
async fn running_in_front_of_a_limited_order_gains_nothing() {
    let market = opened(lmsr()).await;
    let order = Order::Shares {
        micro: vec![20 * MICRO, 0],
    };
    let quoted = market.quote(id(), &order).await.unwrap();
    let paid = shares(&market, "front", [50 * MICRO, 0]).await.unwrap();
    let victim = || Trade::new(who("victim"), order.clone());
    let by_cost = victim().with_max_cost_micro(quoted.cost_micro);
    assert!(matches!(
        market.trade(id(), &by_cost).await,
        Err(Error::OverLimit { .. })
    ));
    let at_most = quoted.after.get(0).unwrap();
    let by_price = victim().with_price_limit(0, Ppm::new(0).unwrap(), at_most);
    let refused = market.trade(id(), &by_price).await;
    assert!(
        matches!(refused, Err(Error::OverPriceLimit { outcome: 0, max, .. }) if max == at_most.get()),
        "{refused:?}"
    );
    let by_version = victim().with_expected_version(1);
    assert!(matches!(
        market.trade(id(), &by_version).await,
        Err(Error::VersionConflict {
            expected: 1,
            found: 2
        })
    ));
    let as_forecast = Forecast::new(who("victim"), dist(900_000)).with_max_cost_micro(1_000_000);
    assert!(matches!(
        market.forecast(id(), &as_forecast).await,
        Err(Error::OverLimit {
            limit_micro: 1_000_000,
            ..
        })
    ));
    let no_such = victim().with_price_limit(2, Ppm::new(0).unwrap(), at_most);
    assert!(matches!(
        market.trade(id(), &no_such).await,
        Err(Error::UnknownOutcome {
            outcome: 2,
            outcomes: 2
        })
    ));
    assert_eq!(shares(&market, "front", [-50 * MICRO, 0]).await.unwrap(), -paid);
    assert_eq!(
        market.trade(id(), &by_cost).await.unwrap().cost_micro,
        quoted.cost_micro
    );
}

/// An insider: what an executor forecast before it took the task has no place on the leaderboard, and
/// afterwards it forecasts no more.
#[tokio::test]
async fn an_executor_has_no_score_on_its_own_task() {
    let market = Market::in_memory();
    let task = TaskId::from_parts(Timestamp::from_ms(1), [3; 10]);
    let id = market_of_task(task);
    market
        .open(&OpenMarket::task(task, "k").with_uniform_prior())
        .await
        .unwrap();
    for name in ["worker", "outsider"] {
        market
            .forecast(id, &Forecast::new(who(name), dist(900_000)))
            .await
            .unwrap();
    }
    let state = aion_market::engine::MarketState::fold(id, &market.events(id).await.unwrap())
        .unwrap()
        .unwrap();
    let named = state
        .name_executor(&who("worker"), Timestamp::from_ms(2))
        .unwrap()
        .unwrap();
    let mut with_worker = market.events(id).await.unwrap();
    for event in [named, state.resolve(&Resolution::outcome(0)).unwrap().unwrap()] {
        let mut next = with_worker.last().unwrap().clone();
        (next.seq, next.event) = (next.seq + 1, event);
        with_worker.push(next);
    }
    let report = Report::of(id, &with_worker).unwrap();
    assert!(report.verify().unwrap());
    assert_eq!(row(&report, "worker").role, aion_market::report::Role::Executor);
    let scored = aion_market::store::ScoreRow::of(&report, Timestamp::from_ms(2));
    assert!(scored.iter().any(|row| row.forecaster == who("outsider")));
    assert!(scored.iter().all(|row| row.forecaster != who("worker")));
    let after = aion_market::engine::MarketState::fold(id, &with_worker[..4])
        .unwrap()
        .unwrap();
    let more = after.forecast(
        &Forecast::new(who("worker"), dist(900_000)),
        Timestamp::from_ms(3),
    );
    assert!(matches!(more, Err(Error::ExecutorMayNotBet(_))));
}

/// Whoever names the version of a market has seen its price, and is marked so.
#[tokio::test]
async fn a_forecast_that_names_the_version_is_marked_informed() {
    let market = opened(MakerSpec::pseudo_count(2.0).unwrap()).await;
    let blind = Forecast::new(who("blind"), dist(700_000));
    let seen = Forecast::new(who("seen"), dist(700_000)).with_expected_version(2);
    market.forecast(id(), &blind).await.unwrap();
    market.forecast(id(), &seen).await.unwrap();
    let report = ended(&market, 0).await;
    assert_eq!(
        (row(&report, "blind").informed, row(&report, "seen").informed),
        (0, 1)
    );
}
