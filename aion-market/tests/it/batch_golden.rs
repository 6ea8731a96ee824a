//! Batches against values by definition, in many digits: `tests/golden/make_batch.py`.

use aion_market::batch::{
    BatchOptions, Binary, Categorical, Column, DistPairs, Ensembles, Locations, Rows, SimdLevel, Threads,
    Unit,
};
use serde_json::Value;

fn golden(of: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("../golden/batch.json")).unwrap();
    all[of].as_array().unwrap().clone()
}

/// A number, which the file has as text.
fn number(value: &Value) -> f64 {
    value.as_str().unwrap().parse().unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn levels() -> impl Iterator<Item = BatchOptions> {
    let available = SimdLevel::ALL.into_iter().filter(|level| level.is_available());
    available.map(|level| BatchOptions::default().with_level(level))
}

/// Equal up to a few roundings, or to `absolute` near 0.
fn check(got: f64, expected: f64, relative: f64, absolute: f64, case: &str) {
    let close = got == expected || (got - expected).abs() <= relative * expected.abs() + absolute;
    assert!(close, "{case}: {got} is not {expected}");
}

#[test]
fn events() {
    for options in levels() {
        for case in golden("events") {
            let (p, y) = ([number(&case["p"])], [case["y"].as_u64().unwrap() as u8]);
            let batch = Binary::new(&p, &y, options).unwrap();
            let name = format!("{:?}, {case}", options.level());
            check(-batch.log_score_sum(), number(&case["log"]), 3e-16, 0.0, &name);
            check(batch.brier_sum(), number(&case["brier"]), 3e-16, 5e-324, &name);
            let bits = Binary::new(&p, &y, options.with_unit(Unit::Bits))
                .unwrap()
                .log_score_sum();
            check(
                -bits,
                number(&case["log"]) / std::f64::consts::LN_2,
                6e-16,
                5e-324,
                &name,
            );
        }
    }
}

#[test]
fn labelled_rows() {
    for options in levels() {
        for case in golden("labelled") {
            let (q, y) = (numbers(&case["q"]), [case["y"].as_u64().unwrap() as u32]);
            let batch = Categorical::new(Rows::new(&q, q.len()).unwrap(), &y, options).unwrap();
            let name = format!("{:?}, {case}", options.level());
            check(-batch.log_score_sum(), number(&case["log"]), 3e-16, 0.0, &name);
            check(batch.brier_sum(), number(&case["brier"]), 2e-15, 0.0, &name);
            check(batch.rps_sum(), number(&case["rps"]), 2e-15, 1e-17, &name);
            check(
                batch.spherical_sum(),
                number(&case["spherical"]),
                2e-15,
                0.0,
                &name,
            );
        }
    }
}

#[test]
fn pairs() {
    for options in levels() {
        for case in golden("pairs") {
            let (p, q) = (numbers(&case["p"]), numbers(&case["q"]));
            let rows = |x| Rows::new(x, p.len()).unwrap();
            let batch = DistPairs::new(rows(&p), rows(&q), options).unwrap();
            let name = format!("{:?}, {case}", options.level());
            // The rows that are nearly equal too: no digits cancel.
            check(batch.kl_sum(), number(&case["kl"]), 3e-15, 0.0, &name);
            // The middle of two nearly equal numbers is rounded, which costs a digit or two.
            check(batch.jensen_shannon_sum(), number(&case["js"]), 1e-13, 0.0, &name);
            check(
                batch.cross_entropy_sum(),
                number(&case["cross"]),
                2e-15,
                0.0,
                &name,
            );
        }
    }
}

#[test]
fn ensembles() {
    for options in levels() {
        for case in golden("ensembles") {
            let (x, y) = (numbers(&case["x"]), [number(&case["y"])]);
            let batch = Ensembles::new(Rows::new(&x, x.len()).unwrap(), &y, options).unwrap();
            let name = format!("{:?}, {} members", options.level(), x.len());
            check(batch.crps_sum(), number(&case["crps"]), 4e-15, 1e-15, &name);
        }
    }
}

#[test]
fn locations() {
    for options in levels() {
        for case in golden("locations") {
            let one = |key: &str| [number(&case[key])];
            let (mu, sigma, y) = (one("mu"), one("sigma"), one("y"));
            let batch = Locations::new(&mu, &sigma, &y, options).unwrap();
            let name = format!("{:?}, {case}", options.level());
            check(
                batch.normal_crps_sum(),
                number(&case["normal"]),
                2e-15,
                0.0,
                &name,
            );
            check(
                batch.logistic_crps_sum(),
                number(&case["logistic"]),
                2e-15,
                0.0,
                &name,
            );
        }
    }
}

#[test]
fn threads_and_columns_of_an_array_change_nothing() {
    let two = BatchOptions::default().with_threads(Threads::Count(2.try_into().unwrap()));
    let p: Vec<f64> = (0..1000).map(|i| f64::from(i) / 1000.0).collect();
    let y: Vec<u8> = (0..1000).map(|i| u8::from(i % 3 == 0)).collect();
    let array = ndarray::Array1::from(p.clone());
    let sum = |batch: aion_market::Result<Binary<'_, f64, u8>>| batch.unwrap().brier_sum();
    let expected = sum(Binary::new(&p, &y, BatchOptions::default()));
    assert!((sum(Binary::new(&array, &y, two)) - expected).abs() < 1e-12 * expected);
    let backwards = ndarray::ArrayView1::from(&p).slice_move(ndarray::s![..;-1]);
    let labels: Vec<u8> = y.iter().rev().copied().collect();
    let column: Column<'_, f64> = backwards.into();
    assert!((sum(Binary::new(column, &labels, two)) - expected).abs() < 1e-12 * expected);
}
