//! Market makers and the ledger: every law named after its theorem.

use std::collections::BTreeMap;

use aion_market::engine::{Decision, MarketState};
use aion_market::event::{Event, StoredEvent};
use aion_market::ledger::{Asset, entries};
use aion_market::maker::{Lmsr, PseudoCount, lmsr};
use aion_market::{Error, Forecast, MakerSpec, Order, Report, Resolution, Target, Trade, sequential};
use aion_types::{ForecasterId, Format, MarketId, MicroBits, PpmDist, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;

fn dist(p: u32) -> PpmDist {
    PpmDist::new(vec![p, 1_000_000 - p]).unwrap()
}

fn prior() -> impl Strategy<Value = PpmDist> {
    vec(1_u32..1_000, 2..7)
        .prop_map(|w| PpmDist::from_weights(&w.iter().map(|x| f64::from(*x)).collect::<Vec<_>>()).unwrap())
}

/// A prior and some trades of as many outcomes, none larger than 20 liquidities.
fn trades() -> impl Strategy<Value = (PpmDist, u64, Vec<Vec<i64>>)> {
    (prior(), 1_000_000_u64..200_000_000).prop_flat_map(|(prior, b)| {
        let (k, size) = (prior.outcomes(), 20 * b as i64);
        (Just(prior), Just(b), vec(vec(-size..size, k), 1..12))
    })
}

fn walk(maker: &mut Lmsr, trades: &[Vec<i64>]) -> Vec<i64> {
    trades.iter().map(|d| maker.trade(d).unwrap()).collect()
}

#[test]
fn costs_of_the_notes() {
    let shares = lmsr::shares_to(0.5, 0.8, 100.0).unwrap();
    let paid = lmsr::quote(&[0.5, 0.5], &[shares, 0.0], 100.0).unwrap();
    assert!((shares - 138.629_436_111_989_06).abs() < 1e-9);
    assert!((paid - 91.629_073_187_415_5).abs() < 1e-9);
    assert!((lmsr::max_loss(&[0.5, 0.5], 100.0).unwrap() - 69.314_718_055_994_5).abs() < 1e-9);
    let third = 1.0 / 3.0;
    assert!((lmsr::max_loss(&[third, third, third], 100.0).unwrap() - 109.861_228_866_811).abs() < 1e-9);
    let buy = lmsr::quote(&[0.5, 0.5], &[10.0, 0.0], 100.0).unwrap();
    assert!((buy - 5.124_947_951_362_559).abs() < 1e-12);
}

#[test]
fn prices_of_the_worked_pseudo_count_example_pay_the_worked_bits() {
    let mut maker = PseudoCount::open(&dist(500_000), 2_000_000).unwrap();
    let mut path = vec![maker.price().unwrap()];
    for (p, weight) in [(800_000, 2_000_000), (600_000, 1_000_000), (100_000, 1_000_000)] {
        maker.report(&dist(p), weight).unwrap();
        path.push(maker.price().unwrap());
    }
    let target = Target::outcome(0, 2).unwrap();
    let levels: Vec<i64> = path
        .iter()
        .map(|p| sequential::level(p, &target).unwrap().get())
        .collect();
    let bits: Vec<i64> = levels.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(bits, [378_512, -22_368, -218_640]);
    assert_eq!(bits.iter().sum::<i64>(), 137_504);
}

/// Paying the price move of a pseudo-count market rewards exaggeration; paying the report does not;
/// in an LMSR the move itself is proper.
#[test]
fn incentives_are_as_the_page_on_makers_says() {
    let belief = 0.8;
    let expected = |of: &dyn Fn(f64, usize) -> f64| {
        let grid = (1..1_000).map(|i| f64::from(i) / 1_000.0);
        let value = |p: &f64| belief * of(*p, 0) + (1.0 - belief) * of(*p, 1);
        grid.max_by(|a, b| value(a).total_cmp(&value(b))).unwrap()
    };
    let before = [0.5, 0.5];
    let after = |p: f64, y: usize| {
        let q = [p, 1.0 - p];
        (1.0 + q[y]) / 3.0
    };
    let paid_for_the_move = expected(&|p, y| (after(p, y) / before[y]).ln());
    assert!(paid_for_the_move > 0.99, "{paid_for_the_move}");
    let paid_for_the_report =
        expected(&|p, y| sequential::report_score(&[p, 1.0 - p], &before, y, 1.0).unwrap());
    assert!((paid_for_the_report - belief).abs() < 1e-9);
    let profit_in_an_lmsr = expected(&|p, y| {
        let q = [p, 1.0 - p];
        let d = [lmsr::shares_to(0.5, p, 100.0).unwrap(), 0.0];
        let cost = lmsr::quote(&before, &d, 100.0).unwrap();
        assert!((d[y] - cost - 100.0 * (q[y] / before[y]).ln()).abs() < 1e-9);
        d[y] - cost
    });
    assert!((profit_in_an_lmsr - belief).abs() < 1e-9);
}

/// Scored against the last price the wrong last bettor would win; against the resolution he loses.
#[test]
fn the_last_mover_gains_nothing_by_moving_the_target() {
    let path = [[0.5, 0.5], [0.8, 0.2], [0.05, 0.95]];
    let against_last = sequential::sequential_kl(&path, &path[2]).unwrap();
    let against_outcome = sequential::sequential_kl(&path, &[1.0, 0.0]).unwrap();
    assert!(against_last[1] > 0.0 && against_last[0] < 0.0);
    assert!(against_outcome[1] < 0.0 && against_outcome[0] > 0.0);
}

proptest! {
    /// P3, path independence: any order of the same trades, and all of them at once, cost the same to
    /// the last micro-unit.
    #[test]
    fn costs_do_not_depend_on_the_path((prior, b, trades) in trades()) {
        let fresh = Lmsr::open(&prior, b).unwrap();
        let mut forward = fresh.clone();
        let total: i64 = walk(&mut forward, &trades).iter().sum();
        let mut backward = fresh.clone();
        let reversed: Vec<Vec<i64>> = trades.iter().rev().cloned().collect();
        prop_assert_eq!(walk(&mut backward, &reversed).iter().sum::<i64>(), total);
        let at_once: Vec<i64> = (0..prior.outcomes()).map(|k| trades.iter().map(|d| d[k]).sum()).collect();
        prop_assert_eq!(fresh.quote(&at_once).unwrap(), total);
        prop_assert_eq!(forward.potential_micro() - fresh.potential_micro(), total);
    }

    /// P4: a round trip costs 0.
    #[test]
    fn a_round_trip_costs_nothing((prior, b, trades) in trades()) {
        let mut maker = Lmsr::open(&prior, b).unwrap();
        let there: i64 = walk(&mut maker, &trades).iter().sum();
        let back: Vec<Vec<i64>> = trades.iter().map(|d| d.iter().map(|x| -x).collect()).collect();
        prop_assert_eq!(there + walk(&mut maker, &back).iter().sum::<i64>(), 0);
        prop_assert_eq!(maker, Lmsr::open(&prior, b).unwrap());
    }

    /// P5: the maker never loses more than `b ln(1 / min prior)` (Hanson 2003), but for the rounding of
    /// the potential and of the first shares.
    #[test]
    fn loss_is_bounded((prior, b, trades) in trades()) {
        let mut maker = Lmsr::open(&prior, b).unwrap();
        let start = maker.shares().to_vec();
        let income: i64 = walk(&mut maker, &trades).iter().sum();
        let least = f64::from(*prior.parts().iter().min().unwrap()) / 1e6;
        let bound = b as f64 * -least.ln();
        for (now, then) in maker.shares().iter().zip(&start) {
            let loss = (now - then - income) as f64;
            prop_assert!(loss <= bound.ceil() + 2.0, "{loss} > {bound}");
        }
    }

    /// P6, translation: the same shares of every outcome cost their number, and move no price.
    #[test]
    fn a_share_of_everything_costs_one((prior, b, trades) in trades(), c in -1_000_000_000_i64..1_000_000_000) {
        let mut maker = Lmsr::open(&prior, b).unwrap();
        walk(&mut maker, &trades);
        let price = maker.price().unwrap();
        prop_assert_eq!(maker.trade(&vec![c; prior.outcomes()]).unwrap(), c);
        prop_assert_eq!(maker.price().unwrap(), price);
    }

    /// P9: `C(q + c) = C(q) + c` in floating point.
    #[test]
    fn the_cost_function_is_translation_invariant(q in vec(-1e3..1e3_f64, 2..7), b in 0.5..200.0_f64, c in -1e3..1e3_f64) {
        let moved: Vec<f64> = q.iter().map(|x| x + c).collect();
        prop_assert!((lmsr::cost(&moved, b).unwrap() - lmsr::cost(&q, b).unwrap() - c).abs() < 1e-9);
    }

    /// P1 and P2: prices are positive and sum to 1 but for a rounding each; buying raises what is bought and
    /// lowers the rest, strictly where a price is not at its end already.
    #[test]
    fn prices_sum_to_one_and_follow_purchases(q in vec(-1e3..1e3_f64, 2..7), b in 10.0..200.0_f64, d in 0.1..50.0_f64) {
        let mut before = vec![0.0; q.len()];
        lmsr::prices_into(&q, b, &mut before).unwrap();
        prop_assert!(before.iter().all(|p| *p > 0.0 && *p <= 1.0));
        let roundings = (before.len() + 4) as f64 * f64::EPSILON;
        prop_assert!((before.iter().sum::<f64>() - 1.0).abs() <= roundings);
        let mut bought = q.clone();
        bought[0] += d;
        let mut after = vec![0.0; q.len()];
        lmsr::prices_into(&bought, b, &mut after).unwrap();
        prop_assert!(after[0] >= before[0]);
        for (before, after) in before.iter().zip(&after).skip(1) {
            prop_assert!(after <= before);
        }
        if (1e-9..1.0 - 1e-9).contains(&before[0]) {
            prop_assert!(after[0] > before[0]);
            prop_assert!(after.iter().zip(&before).skip(1).all(|(after, before)| after < before));
        }
    }

    /// P6: the quote is the difference of the cost function, and lies between the least and the most
    /// that the shares can pay.
    #[test]
    fn quotes_are_differences_of_the_cost_function(
        q in vec(-300.0..300.0_f64, 3),
        d in vec(-300.0..300.0_f64, 3),
        b in 20.0..200.0_f64,
    ) {
        let mut p = [0.0; 3];
        lmsr::prices_into(&q, b, &mut p).unwrap();
        let quote = lmsr::quote(&p, &d, b).unwrap();
        let moved: Vec<f64> = q.iter().zip(&d).map(|(q, d)| q + d).collect();
        let direct = lmsr::cost(&moved, b).unwrap() - lmsr::cost(&q, b).unwrap();
        prop_assert!((quote - direct).abs() < 1e-8, "{quote} {direct}");
        let (least, most) = d.iter().fold((f64::MAX, f64::MIN), |(lo, hi), x| (lo.min(*x), hi.max(*x)));
        prop_assert!(quote >= least - 1e-9 && quote <= most + 1e-9);
    }

    /// P7, no arbitrage: to the micro-unit, wherever a market has come to, no order pays in every outcome,
    /// and shares cost at least nothing. The same for all orders of a path together.
    #[test]
    fn no_order_pays_in_every_outcome((prior, b, trades) in trades()) {
        let mut maker = Lmsr::open(&prior, b).unwrap();
        let (mut all, mut paid) = (vec![0_i64; prior.outcomes()], 0);
        for d in &trades {
            let shares: Vec<i64> = d.iter().map(|x| x.abs()).collect();
            prop_assert!(maker.quote(&shares).unwrap() >= 0);
            let cost = maker.trade(d).unwrap();
            prop_assert!(d.iter().any(|pays| *pays <= cost), "{d:?} for {cost}");
            all.iter_mut().zip(d).for_each(|(all, d)| *all += d);
            paid += cost;
            prop_assert!(all.iter().any(|pays| *pays <= paid), "{all:?} for {paid}");
        }
    }

    /// P8, convexity: buying and then selling from the same prices never pays.
    #[test]
    fn a_spread_is_never_negative(p in 0.01..0.99_f64, d in vec(-500.0..500.0_f64, 2), b in 1.0..200.0_f64) {
        let back: Vec<f64> = d.iter().map(|x| -x).collect();
        let price = [p, 1.0 - p];
        let both = lmsr::quote(&price, &d, b).unwrap() + lmsr::quote(&price, &back, b).unwrap();
        prop_assert!(both >= -1e-9);
    }

    /// The purchases towards a price reach it, and none of them is a sale.
    #[test]
    fn purchases_reach_their_price((prior, b, trades) in trades(), target in vec(1_000_u32..1_000_000, 7)) {
        let mut maker = Lmsr::open(&prior, b).unwrap();
        walk(&mut maker, &trades[..1]);
        let weights: Vec<f64> = target.iter().take(prior.outcomes()).map(|x| f64::from(*x)).collect();
        let target = PpmDist::from_weights(&weights).unwrap();
        let buy = maker.shares_towards(&target).unwrap();
        prop_assert!(buy.iter().all(|d| *d >= 0));
        maker.trade(&buy).unwrap();
        for (got, wanted) in maker.price().unwrap().parts().iter().zip(target.parts()) {
            prop_assert!(got.abs_diff(*wanted) <= 2, "{got} {wanted}");
        }
    }

    /// P13: the order of reports does not matter to the last micro-count.
    #[test]
    fn reports_commute(reports in vec((0_u32..=1_000_000, 1_u64..10_000_000), 1..20), seed in any::<u64>()) {
        let count = |order: &[(u32, u64)]| {
            let mut maker = PseudoCount::open(&dist(500_000), 2_000_000).unwrap();
            for (p, weight) in order {
                maker.report(&dist(*p), *weight).unwrap();
            }
            maker
        };
        let mut shuffled = reports.clone();
        let n = shuffled.len();
        for i in 0..n {
            shuffled.swap(i, (seed as usize).wrapping_mul(i + 7) % n);
        }
        prop_assert_eq!(count(&reports), count(&shuffled));
    }

    /// The price of pseudo-counts stays inside the hull of the prior and the reports.
    #[test]
    fn prices_stay_in_the_convex_hull(reports in vec((1_u32..1_000_000, 1_u64..10_000_000), 1..20)) {
        let mut maker = PseudoCount::open(&dist(500_000), 2_000_000).unwrap();
        let (mut least, mut most) = (500_000, 500_000);
        for (p, weight) in reports {
            maker.report(&dist(p), weight).unwrap();
            (least, most) = (least.min(p), most.max(p));
            let price = maker.price().unwrap().parts()[0];
            prop_assert!((least - 1..=most + 1).contains(&price), "{price} not in [{least}, {most}]");
        }
    }

    /// P11: gains telescope exactly along any path, against any mixture.
    #[test]
    fn gains_telescope_exactly(path in vec(1_u32..1_000_000, 2..30), f in 0_u32..=1_000_000) {
        let target = Resolution::Mixture { dist: dist(f) }.target(2).unwrap().unwrap();
        let level = |p: u32| sequential::level(&dist(p), &target).unwrap();
        let gains: MicroBits = path.windows(2).map(|pair| level(pair[1]) - level(pair[0])).sum();
        prop_assert_eq!(gains, level(path[path.len() - 1]) - level(path[0]));
    }
}

/// One thing that somebody does to a market.
#[derive(Debug, Clone)]
enum Act {
    Forecast(u8, u32),
    Buy(u8, i64, i64),
    MoveTo(u8, u32),
    House(u32),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        (0_u8..3, 0_u32..=1_000_000).prop_map(|(who, p)| Act::Forecast(who, p)),
        (0_u8..3, -50_000_000_i64..90_000_000, -50_000_000_i64..90_000_000)
            .prop_map(|(who, a, b)| Act::Buy(who, a, b)),
        (0_u8..3, 1_u32..1_000_000).prop_map(|(who, p)| Act::MoveTo(who, p)),
        (1_u32..1_000_000).prop_map(Act::House),
    ];
    vec(act, 0..25)
}

fn resolution() -> impl Strategy<Value = Resolution> {
    prop_oneof![
        (0_usize..2).prop_map(Resolution::outcome),
        (0_u32..=1_000_000).prop_map(|f| Resolution::Mixture { dist: dist(f) }),
        Just(Resolution::void("why not")),
    ]
}

fn opened(maker: MakerSpec) -> (MarketId, StoredEvent) {
    let at = Timestamp::from_ms(0);
    let id = MarketId::from_parts(at, [7; 10]);
    let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let event = rt.block_on(async {
        let market = aion_market::Market::in_memory();
        let open = aion_market::OpenMarket::question(id, "?", "k")
            .with_uniform_prior()
            .with_maker(maker);
        market.open(&open).await.unwrap();
        market.events(id).await.unwrap().remove(0)
    });
    (id, event)
}

fn decide(state: &MarketState, act: &Act) -> Result<Event, Error> {
    let now = Timestamp::from_ms(1);
    let who = |n: &u8| ForecasterId::new(format!("f{n}")).unwrap();
    let decision = match act {
        Act::Forecast(n, p) => state.forecast(&Forecast::new(who(n), dist(*p)), now)?,
        Act::Buy(n, a, b) => state.trade(&Trade::new(who(n), Order::Shares { micro: vec![*a, *b] }), now)?,
        Act::MoveTo(n, p) => state.trade(&Trade::new(who(n), Order::MoveTo { price: dist(*p) }), now)?,
        Act::House(p) => return state.house_move(&dist(*p), 1_000_000, "seeding", now),
    };
    match decision {
        Decision::Append { event, .. } => Ok(event),
        Decision::Recorded { .. } => unreachable!("no keys here"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// P10 and P16, whatever happens: the state is the fold of the events, the rows sum to zero, moves telescope,
    /// and nobody but the house pays for what the makers lose.
    #[test]
    fn any_history_keeps_its_books(acts in acts(), resolution in resolution(), lmsr in any::<bool>()) {
        let maker = if lmsr { MakerSpec::lmsr(50.0) } else { MakerSpec::pseudo_count(2.0) };
        let (id, first) = opened(maker.unwrap());
        let mut state = MarketState::open(id, &first).unwrap();
        let mut events = vec![first];
        let mut rows = Vec::new();
        let mut push = |state: &mut MarketState, event: Event| {
            let seq = state.version() + 1;
            let stored = StoredEvent { format: Format::default(), seq, at: Timestamp::from_ms(1), request: None, event };
            rows.extend(entries(state, &stored).unwrap());
            state.apply(&stored).unwrap();
            events.push(stored);
        };
        for act in &acts {
            if let Ok(event) = decide(&state, act) {
                push(&mut state, event);
            }
            for holding in state.holdings().values() {
                prop_assert!(holding.shares_micro.iter().all(|held| *held >= 0));
                prop_assert!(holding.spent_micro <= state.spec().credit_micro);
            }
        }
        let end = state.resolve(&resolution).unwrap().unwrap();
        push(&mut state, end);
        prop_assert_eq!(&MarketState::fold(id, &events).unwrap().unwrap(), &state);

        let mut sums: BTreeMap<(u64, Asset), i64> = BTreeMap::new();
        let mut balances: BTreeMap<(ForecasterId, Asset), i64> = BTreeMap::new();
        for row in &rows {
            *sums.entry((row.seq, row.asset)).or_default() += row.amount_micro;
            *balances.entry((row.account.clone(), row.asset)).or_default() += row.amount_micro;
        }
        prop_assert!(sums.values().all(|sum| *sum == 0));

        let report = Report::of(id, &events).unwrap();
        prop_assert!(report.verify().unwrap());
        prop_assert_eq!(Report::of(id, &events).unwrap(), report.clone());
        let moved: MicroBits = report.forecasters.iter().map(|row| row.moved).sum();
        prop_assert_eq!(moved, report.kl_bits);
        for row in &report.forecasters {
            let money = balances.get(&(row.forecaster.clone(), Asset::Money)).copied().unwrap_or(0);
            if row.forecaster != ForecasterId::house() {
                prop_assert_eq!(row.profit_micro, money);
            }
            for k in 0..2 {
                prop_assert_eq!(balances.get(&(row.forecaster.clone(), Asset::Shares(k))).copied().unwrap_or(0), 0);
            }
            if report.target.is_none() {
                prop_assert_eq!((row.gain, row.profit_micro), (MicroBits::ZERO, 0));
            }
        }
        let after = state.forecast(&Forecast::new(ForecasterId::new("late").unwrap(), dist(900_000)), Timestamp::from_ms(2));
        let late = matches!(after, Err(Error::Closed { .. }));
        prop_assert!(late);
    }
}

/// Requests with keys of their own, each sent again up to three times, later and in another order.
fn redelivered() -> impl Strategy<Value = (Vec<(u8, u32)>, Vec<usize>)> {
    vec((0_u8..3, 50_000_u32..950_000), 1..12).prop_flat_map(|requests| {
        let count = requests.len();
        (Just(requests), vec(0..count, 0..3 * count))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// P17, idempotence: a request that comes again, however late and out of order, changes nothing and is
    /// answered as it was the first time.
    #[test]
    fn redelivery_in_any_order_changes_nothing((requests, again) in redelivered(), lmsr in any::<bool>()) {
        let maker = if lmsr { MakerSpec::lmsr(50.0) } else { MakerSpec::pseudo_count(2.0) };
        let (id, first) = opened(maker.unwrap());
        let now = Timestamp::from_ms(1);
        let sent = |n: usize| {
            let (who, p) = requests[n];
            let who = ForecasterId::new(format!("f{who}")).unwrap();
            Forecast::new(who, dist(p)).with_key(n.to_string()).unwrap()
        };
        let mut state = MarketState::open(id, &first).unwrap();
        let mut places = BTreeMap::new();
        let mut redelivered = again.iter().copied();
        for n in 0..requests.len() {
            if let Ok(Decision::Append { event, request }) = state.forecast(&sent(n), now) {
                let seq = state.version() + 1;
                state.apply(&StoredEvent { format: Format::default(), seq, at: now, request, event }).unwrap();
                places.insert(n, seq);
            }
            // Up to three come again, of all that were sent so far.
            let before = state.clone();
            for m in redelivered.by_ref().take(3).filter(|m| *m <= n) {
                match (state.forecast(&sent(m), now), places.get(&m)) {
                    (Ok(Decision::Recorded { seq }), Some(place)) => prop_assert_eq!(seq, *place),
                    // What was refused may be refused again, or be taken now that things have changed.
                    (Ok(Decision::Append { .. }) | Err(_), None) => {}
                    (other, place) => prop_assert!(false, "{other:?} for {place:?}"),
                }
            }
            prop_assert_eq!(&before, &state);
        }
    }
}
