//! Makers: laws that hold for every maker that sells shares, at 2 outcomes and at 4,096.

use aion_market::maker::{LiquiditySensitive, Lmsr, MICRO, Maker, PseudoCount, lmsr};
use aion_market::{Error, MakerSpec};
use aion_types::PpmDist;
use proptest::collection::vec;
use proptest::prelude::*;

fn even(outcomes: usize) -> PpmDist {
    PpmDist::from_weights(&vec![1.0; outcomes]).unwrap()
}

/// A prior, a maker of it, and orders that only buy, so that every one of them can be filled.
fn sellers() -> impl Strategy<Value = (PpmDist, MakerSpec, Vec<Vec<i64>>)> {
    let spec = prop_oneof![
        (1.0..200.0_f64).prop_map(|b| MakerSpec::lmsr(b).unwrap()),
        (0.01..0.5_f64, 1.0..200.0_f64).prop_map(|(c, b)| MakerSpec::liquidity_sensitive(c, b).unwrap()),
    ];
    (vec(100_u32..1_000, 2..7), spec).prop_flat_map(|(weights, spec)| {
        let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
        let prior = PpmDist::from_weights(&weights).unwrap();
        let order = vec(0_i64..300 * MICRO, prior.outcomes());
        (Just(prior), Just(spec), vec(order, 1..10))
    })
}

fn buy(maker: &mut Maker, order: &[i64]) -> i64 {
    let cost = maker.quote(order).unwrap();
    maker.apply(order, cost).unwrap();
    cost
}

fn shares_of(maker: &Maker) -> Vec<i64> {
    match maker {
        Maker::Lmsr(maker) => maker.shares().to_vec(),
        Maker::LiquiditySensitive(maker) => maker.shares().to_vec(),
        other => panic!("no shares: {other:?}"),
    }
}

proptest! {
    /// Path independence of every cost function: orders in any order, and all at once, cost the same
    /// to the last micro-unit; and what was bought can be sold back for exactly what it cost.
    #[test]
    fn costs_of_every_maker_depend_on_the_ends_alone((prior, spec, orders) in sellers()) {
        let fresh = spec.open(&prior).unwrap();
        let mut forward = fresh.clone();
        let total: i64 = orders.iter().map(|order| buy(&mut forward, order)).sum();
        let mut backward = fresh.clone();
        let reversed: i64 = orders.iter().rev().map(|order| buy(&mut backward, order)).sum();
        let at_once: Vec<i64> = (0..prior.outcomes()).map(|k| orders.iter().map(|d| d[k]).sum()).collect();
        prop_assert_eq!(total, reversed);
        prop_assert_eq!(fresh.quote(&at_once).unwrap(), total);
        let back: Vec<i64> = at_once.iter().map(|d| -d).collect();
        prop_assert_eq!(buy(&mut forward, &back), -total);
        prop_assert_eq!(forward, fresh);
    }

    /// No arbitrage: a purchase is never paid for, and no order wins in every outcome. A maker with a
    /// commission takes shares of everything back for what it sold them for, above their worth: there
    /// it is purchases that never win. One micro-unit is the rounding of the potential.
    #[test]
    fn no_order_wins_in_every_outcome(
        (prior, spec, orders) in sellers(),
        last in vec(-300 * MICRO..300 * MICRO, 7),
    ) {
        let mut maker = spec.open(&prior).unwrap();
        for order in &orders {
            let cost = buy(&mut maker, order);
            let least = order.iter().min().unwrap();
            prop_assert!(cost >= -1 && cost >= least - 1, "{cost} for {order:?}");
        }
        let mixed = &last[..prior.outcomes()];
        let least = *mixed.iter().min().unwrap();
        if let (Ok(cost), true) = (maker.quote(mixed), least >= 0 || matches!(maker, Maker::Lmsr(_))) {
            prop_assert!(least - cost <= 1, "{cost} for {mixed:?}");
        }
    }

    /// A purchase raises the price of what is bought and lowers no other's fall: with whole parts per
    /// million, never by more than the rounding.
    #[test]
    fn buying_raises_the_price_of_what_is_bought((prior, spec, orders) in sellers(), size in 1..100_i64) {
        let mut maker = spec.open(&prior).unwrap();
        for order in &orders {
            buy(&mut maker, order);
        }
        let before = maker.price().unwrap();
        let mut one = vec![0; prior.outcomes()];
        one[0] = size * MICRO;
        buy(&mut maker, &one);
        let after = maker.price().unwrap();
        prop_assert!(after.parts()[0] + 1 >= before.parts()[0]);
        if let Maker::Lmsr(_) = maker {
            for (now, then) in after.parts().iter().zip(before.parts()).skip(1) {
                prop_assert!(*now <= then + 1, "{now} > {then}");
            }
        }
        prop_assert_eq!(after.parts().iter().sum::<u32>(), 1_000_000);
        prop_assert!(after.parts().iter().all(|part| (1..1_000_000).contains(part)));
    }

    /// Convexity: an order and its opposite from the same place never pay together.
    #[test]
    fn an_order_and_its_opposite_never_pay_together((prior, spec, orders) in sellers()) {
        let mut maker = spec.open(&prior).unwrap();
        for order in &orders {
            buy(&mut maker, order);
        }
        for order in &orders {
            let back: Vec<i64> = order.iter().map(|d| -d).collect();
            prop_assert!(maker.quote(order).unwrap() + maker.quote(&back).unwrap() >= -1);
        }
    }

    /// The loss of a liquidity-sensitive maker is at most `C(q_0) - min q_0` (Othman et al. 2010).
    #[test]
    fn the_loss_of_a_liquidity_sensitive_maker_is_bounded((prior, spec, orders) in sellers()) {
        let mut maker = spec.open(&prior).unwrap();
        if let Maker::LiquiditySensitive(opened) = maker.clone() {
            let income: i64 = orders.iter().map(|order| buy(&mut maker, order)).sum();
            let start = opened.shares().to_vec();
            let bound = opened.potential_micro() - start.iter().min().unwrap();
            for (now, then) in shares_of(&maker).iter().zip(&start) {
                prop_assert!(now - then - income <= bound + 1);
            }
        }
    }

    /// The prices that a liquidity-sensitive maker asks at the margin add up to `1 + K alpha H(s)`:
    /// between 1 and one plus the commission.
    #[test]
    fn a_share_of_everything_costs_at_most_the_commission_more(
        weights in vec(300_u32..1_000, 2..7),
        commission in 0.01..0.5_f64,
        b in 10.0..200.0_f64,
    ) {
        let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
        let prior = PpmDist::from_weights(&weights).unwrap();
        let maker = MakerSpec::liquidity_sensitive(commission, b).unwrap().open(&prior).unwrap();
        let cost = maker.quote(&vec![MICRO; prior.outcomes()]).unwrap();
        let over = cost as f64 / MICRO as f64 - 1.0;
        prop_assert!(over >= -2e-6 && over <= commission + 2e-6, "{over} of {commission}");
    }

    /// Purchases towards a price reach it, sell nothing, and there is no cheaper multiple of them.
    #[test]
    fn purchases_of_every_maker_reach_their_price(
        (prior, spec, orders) in sellers(),
        target in vec(200_u32..1_000, 7),
    ) {
        let mut maker = spec.open(&prior).unwrap();
        buy(&mut maker, &orders[0]);
        let weights: Vec<f64> = target.iter().take(prior.outcomes()).map(|w| f64::from(*w)).collect();
        let target = PpmDist::from_weights(&weights).unwrap();
        let order = match maker.shares_towards(&target) {
            Ok(order) => order,
            // A small commission does not reach every price.
            Err(Error::BadEntry { .. }) => return Ok(()),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        prop_assert!(order.iter().all(|d| *d >= 0) && order.contains(&0));
        buy(&mut maker, &order);
        for (got, wanted) in maker.price().unwrap().parts().iter().zip(target.parts()) {
            prop_assert!(got.abs_diff(*wanted) <= 2, "{got} {wanted}");
        }
    }

    /// Prices are a distribution to the last bits, with nothing impossible.
    #[test]
    fn prices_sum_to_one_to_the_last_bits(q in vec(-100.0..100.0_f64, 2..9), b in 10.0..200.0_f64) {
        let mut p = vec![0.0; q.len()];
        lmsr::prices_into(&q, b, &mut p).unwrap();
        prop_assert!((1.0 - p.iter().sum::<f64>()).abs() <= 4.0 * f64::EPSILON);
        prop_assert!(p.iter().all(|p| *p > 0.0 && *p < 1.0));
    }
}

/// What cannot happen is worth nothing: shares of it are free, and do not touch what the others cost.
#[test]
fn shares_of_the_impossible_are_free() {
    let cost = |d: [f64; 2]| lmsr::quote(&[1.0, 0.0], &d, 1.0).unwrap();
    for (d, expected) in [
        ([0.0, 800.0], 0.0),
        ([0.0, 1.0], 0.0),
        ([-1_000.0, 0.0], -1_000.0),
        ([5.0, 900.0], 5.0),
        ([-3.0, -900.0], -3.0),
        ([800.0, 0.0], 800.0),
    ] {
        assert!((cost(d) - expected).abs() < 1e-12, "{d:?}: {}", cost(d));
    }
}

/// The worked opening of the page on makers: as deep as an LMSR of the same liquidity.
#[test]
fn a_liquidity_sensitive_maker_opens_as_deep_as_it_says() {
    let maker = LiquiditySensitive::open(&even(2), 50_000, 100_000_000).unwrap();
    assert!((maker.liquidity() - 100.0).abs() < 1e-6);
    // b / alpha = 100 / (0.05 / (2 ln 2)) shares in all, half of them on each side.
    assert_eq!(maker.shares(), [1_386_294_361, 1_386_294_361]);
    assert_eq!(maker.potential_micro(), 1_386_294_361 + 69_314_719);
    let margin = maker.quote(&[1_000, 0]).unwrap() as f64 / 1_000.0;
    assert!((margin - 0.525).abs() < 2e-3, "{margin}");
}

#[test]
fn a_liquidity_sensitive_maker_deepens_with_what_is_sold() {
    let mut maker = LiquiditySensitive::open(&even(2), 50_000, 10_000_000).unwrap();
    let order = [5 * MICRO, 0];
    let moved = |maker: &LiquiditySensitive| {
        let mut maker = maker.clone();
        maker.trade(&order).unwrap();
        maker.price().unwrap().parts()[0] - 500_000
    };
    let shallow = moved(&maker);
    maker.trade(&[1_000 * MICRO, 1_000 * MICRO]).unwrap();
    let deep = moved(&maker);
    assert!(deep * 3 < shallow, "{deep} {shallow}");
    assert!(maker.liquidity() > 30.0);
}

#[test]
fn a_maker_of_4096_outcomes_quotes_moves_and_takes_back() {
    let outcomes = 4_096;
    for spec in [
        MakerSpec::lmsr(100.0).unwrap(),
        MakerSpec::liquidity_sensitive(0.05, 100.0).unwrap(),
    ] {
        let mut maker = spec.open(&even(outcomes)).unwrap();
        let mut order = vec![0; outcomes];
        order[4_095] = 500 * MICRO;
        let cost = maker.quote(&order).unwrap();
        assert!((1..500 * MICRO).contains(&cost), "{cost}");
        maker.apply(&order, cost).unwrap();
        let price = maker.price().unwrap();
        assert!(price.parts()[4_095] > 20_000, "{}", price.parts()[4_095]);
        let mut target = vec![200; outcomes];
        target[7] = 1_000_000 - 4_095 * 200;
        let target = PpmDist::new(target).unwrap();
        let towards = maker.shares_towards(&target).unwrap();
        let paid = maker.quote(&towards).unwrap();
        maker.apply(&towards, paid).unwrap();
        let off = |(got, wanted): (&u32, &u32)| got.abs_diff(*wanted);
        let worst = maker
            .price()
            .unwrap()
            .parts()
            .iter()
            .zip(target.parts())
            .map(off)
            .max();
        assert!(worst.unwrap() <= 2, "{worst:?}");
        let back: Vec<i64> = order.iter().zip(&towards).map(|(a, b)| -a - b).collect();
        assert_eq!(maker.quote(&back).unwrap(), -(cost + paid));
    }
    let mut maker = PseudoCount::open(&even(outcomes), 2_000_000).unwrap();
    let mut sure = vec![0; outcomes];
    sure[4_095] = 1_000_000;
    maker.report(&PpmDist::new(sure).unwrap(), 1_000_000).unwrap();
    assert!(maker.price().unwrap().parts()[4_095] > 330_000);
}

#[test]
fn orders_that_cannot_be_are_refused_and_change_nothing() {
    let even = even(2);
    let lmsr = Lmsr::open(&even, 100_000_000).unwrap();
    let deep = LiquiditySensitive::open(&even, 50_000, 100_000_000).unwrap();
    for maker in [Maker::Lmsr(lmsr), Maker::LiquiditySensitive(deep)] {
        let mut after = maker.clone();
        for order in [
            [i64::MAX, 0],
            [i64::MIN, 0],
            [i64::MAX, i64::MAX],
            [i64::MIN, i64::MIN],
        ] {
            assert!(
                matches!(maker.quote(&order), Err(Error::Overflow(_))),
                "{order:?}"
            );
            assert!(after.apply(&order, 1).is_err());
        }
        for order in [&[][..], &[1], &[1, 2, 3]] {
            assert!(matches!(
                maker.quote(order),
                Err(Error::Shape { what: "shares", .. })
            ));
        }
        assert!(after.apply(&[1, 0], i64::MAX).is_err());
        assert_eq!(after, maker);
    }
    let deep = LiquiditySensitive::open(&even, 50_000, 100_000_000).unwrap();
    assert!(matches!(
        deep.quote(&[-2_000_000_000, 0]),
        Err(Error::NotHeld { outcome: 0, .. })
    ));
    let all: Vec<i64> = deep.shares().iter().map(|q| -q).collect();
    assert!(matches!(deep.quote(&all), Err(Error::Overflow(_))));
}

#[test]
fn parameters_outside_their_range_are_refused_by_name() {
    let says = |result: Result<MakerSpec, Error>| result.unwrap_err().to_string();
    assert!(says(MakerSpec::liquidity_sensitive(0.0, 1.0)).starts_with("a commission must be in"));
    assert!(says(MakerSpec::liquidity_sensitive(f64::NAN, 1.0)).starts_with("a commission"));
    assert!(says(MakerSpec::liquidity_sensitive(0.05, f64::INFINITY)).starts_with("liquidity"));
    // A commission of a thousandth does not reach a prior of one in a million among 4,096 outcomes.
    let mut parts = vec![1; 4_096];
    parts[0] = 1_000_000 - 4_095;
    let extreme = PpmDist::new(parts).unwrap();
    let maker = MakerSpec::liquidity_sensitive(1.0, 1.0).unwrap();
    assert!(maker.open(&extreme).is_ok());
    let two = PpmDist::new(vec![1, 999_999]).unwrap();
    let refused = MakerSpec::liquidity_sensitive(1.0, 1.0)
        .unwrap()
        .open(&two)
        .unwrap_err();
    assert!(
        matches!(
            refused,
            Error::BadEntry {
                what: "a prior",
                index: 0,
                ..
            }
        ),
        "{refused:?}"
    );
}
