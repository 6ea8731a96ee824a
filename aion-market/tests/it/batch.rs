//! Batches: every level of instructions, layout, part and number of threads gives the numbers of the
//! scalar functions.

use aion_market::batch::{
    BatchOptions, Binary, Categorical, DistPairs, Ensembles, Locations, Rows, SimdLevel, Threads, Unit,
};
use aion_market::{divergence, score};
use proptest::collection::vec;
use proptest::prelude::*;

fn levels() -> impl Iterator<Item = SimdLevel> {
    SimdLevel::ALL.into_iter().filter(|level| level.is_available())
}

/// Options of every level, on one thread and on three.
fn all_options() -> impl Iterator<Item = BatchOptions> {
    let of = |level| BatchOptions::default().with_level(level);
    levels().flat_map(move |level| {
        [
            of(level),
            of(level).with_threads(Threads::Count(3.try_into().unwrap())),
        ]
    })
}

fn close(got: f64, expected: f64, relative: f64) -> bool {
    got == expected || (got - expected).abs() <= relative * expected.abs().max(1e-3)
}

fn same(got: &[f64], expected: &[f64], what: &str) {
    for (row, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!(
            close(*got, *expected, 1e-12),
            "{what}, row {row}: {got} is not {expected}"
        );
    }
}

/// Calls an `_into` form and gives what it wrote.
fn written<T: Clone + Default>(
    rows: usize,
    into: impl FnOnce(&mut [T]) -> aion_market::Result<()>,
) -> Vec<T> {
    let mut out = vec![T::default(); rows];
    into(&mut out).unwrap();
    out
}

/// Rows of `k` outcomes, some of them impossible, and a label each.
fn labelled() -> impl Strategy<Value = (usize, Vec<f64>, Vec<u32>)> {
    (2_usize..20, 0_usize..71).prop_flat_map(|(k, rows)| {
        let weights = vec(vec(prop_oneof![4 => 1e-6..1.0, 1 => Just(0.0)], k), rows);
        let labels = vec(0..k as u32, rows);
        (Just(k), weights.prop_map(move |rows| dists(&rows)), labels)
    })
}

/// Each row divided by its sum; a row of zeros becomes a sure one.
fn dists(rows: &[Vec<f64>]) -> Vec<f64> {
    let dist = |row: &Vec<f64>| {
        let sum: f64 = row.iter().sum();
        let first = |k| if k == 0 { 1.0 } else { 0.0 };
        let of = |(k, w): (usize, &f64)| if sum > 0.0 { w / sum } else { first(k) };
        row.iter().enumerate().map(of).collect::<Vec<_>>()
    };
    rows.iter().flat_map(dist).collect()
}

/// The same matrix, column after column.
fn by_column(values: &[f64], k: usize) -> Vec<f64> {
    (0..k)
        .flat_map(|col| values.iter().skip(col).step_by(k).copied())
        .collect()
}

proptest! {
    /// P20: labelled rows score as one by one, whatever the level, the layout and the threads.
    #[test]
    fn labelled_rows_score_as_one_by_one((k, q, y) in labelled()) {
        let one = |f: fn(&[f64], usize) -> aion_market::Result<f64>| -> Vec<f64> {
            q.chunks(k).zip(&y).map(|(q, y)| f(q, *y as usize).unwrap()).collect()
        };
        let columns = by_column(&q, k);
        let expected = [one(score::log_score), one(score::brier), one(score::rps), one(score::spherical)];
        for options in all_options() {
            for rows in [Rows::new(&q, k).unwrap(), Rows::by_column(&columns, k).unwrap()] {
                let batch = Categorical::new(rows, &y, options).unwrap();
                let name = format!("{:?}", options.level());
                same(&written(y.len(), |out| batch.log_score_into(out)), &expected[0], &name);
                same(&written(y.len(), |out| batch.brier_into(out)), &expected[1], &name);
                same(&written(y.len(), |out| batch.rps_into(out)), &expected[2], &name);
                same(&written(y.len(), |out| batch.spherical_into(out)), &expected[3], &name);
                prop_assert!(close(batch.brier_sum(), expected[1].iter().sum(), 1e-12));
                prop_assert!(close(batch.log_score_sum(), expected[0].iter().sum(), 1e-12));
            }
        }
    }

    /// Divergences of rows are those of the scalar functions, in nats and in bits.
    #[test]
    fn pairs_diverge_as_one_by_one((k, p, _) in labelled(), shift in 0_usize..20) {
        let rows = p.len() / k;
        // Another order of the same rows, and its columns turned: sometimes equal, often not.
        let turned = |row: usize| p.chunks(k).nth((row * 7 + shift) % rows).unwrap();
        let q: Vec<f64> = (0..rows).flat_map(|row| {
            let mut other = turned(row).to_vec();
            other.rotate_left(shift % k);
            other
        }).collect();
        let one = |f: fn(&[f64], &[f64]) -> aion_market::Result<f64>| -> Vec<f64> {
            p.chunks(k).zip(q.chunks(k)).map(|(p, q)| f(p, q).unwrap()).collect()
        };
        let expected = [one(divergence::kl), one(divergence::jensen_shannon), one(divergence::cross_entropy)];
        for options in all_options() {
            let of = |x| Rows::new(x, k).unwrap();
            let batch = DistPairs::new(of(&p), of(&q), options).unwrap();
            let name = format!("{:?}", options.level());
            same(&written(rows, |out| batch.kl_into(out)), &expected[0], &name);
            same(&written(rows, |out| batch.jensen_shannon_into(out)), &expected[1], &name);
            same(&written(rows, |out| batch.cross_entropy_into(out)), &expected[2], &name);
            prop_assert!(close(batch.kl_sum(), expected[0].iter().sum(), 1e-12));
            let bits = DistPairs::new(of(&p), of(&q), options.with_unit(Unit::Bits)).unwrap();
            let in_bits: Vec<f64> = expected[1].iter().map(|nats| nats / std::f64::consts::LN_2).collect();
            same(&written(rows, |out| bits.jensen_shannon_into(out)), &in_bits, &name);
        }
    }

    /// Ensembles of any size score as one by one.
    #[test]
    fn ensembles_score_as_one_by_one(
        (m, x, y) in (1_usize..70, 0_usize..40).prop_flat_map(|(m, rows)| {
            (Just(m), vec(-9.0..9.0, m * rows), vec(-9.0..9.0, rows))
        })
    ) {
        let expected: Vec<f64> =
            x.chunks(m).zip(&y).map(|(x, y)| score::crps_ensemble(x, *y).unwrap()).collect();
        let columns = by_column(&x, m);
        for options in all_options() {
            for rows in [Rows::new(&x, m).unwrap(), Rows::by_column(&columns, m).unwrap()] {
                let batch = Ensembles::new(rows, &y, options).unwrap();
                same(&written(y.len(), |out| batch.crps_into(out)), &expected, "an ensemble");
                prop_assert!(close(batch.crps_sum(), expected.iter().sum(), 1e-12));
            }
        }
    }

    /// P20: a part of a batch has the numbers that it has in the whole, to the bit, wherever it starts.
    #[test]
    fn a_part_has_the_numbers_of_the_whole(p in vec(0.0..=1.0_f64, 0..200), from in 0_usize..200) {
        let from = from.min(p.len());
        let y: Vec<u8> = p.iter().map(|p| u8::from(p.to_bits() % 2 == 0)).collect();
        for level in levels() {
            let options = BatchOptions::default().with_level(level);
            let whole = Binary::new(&p, &y, options).unwrap();
            let part = Binary::new(&p[from..], &y[from..], options).unwrap();
            let all = written(p.len(), |out| whole.log_score_into(out));
            prop_assert_eq!(&all[from..], &written(p.len() - from, |out| part.log_score_into(out))[..]);
        }
    }

    /// P20: single precision is double precision to 1e-6.
    #[test]
    fn singles_agree_with_doubles((k, q, y) in labelled()) {
        let single: Vec<f32> = q.iter().map(|q| *q as f32).collect();
        let rounded: Vec<f64> = single.iter().map(|q| f64::from(*q)).collect();
        let renormalised: Vec<f64> = dists(&rounded.chunks(k).map(<[f64]>::to_vec).collect::<Vec<_>>());
        for options in all_options() {
            let small = Categorical::new(Rows::new(&single, k).unwrap(), &y, options).unwrap();
            let large = Categorical::new(Rows::new(&renormalised, k).unwrap(), &y, options).unwrap();
            let agree = |a: Vec<f32>, b: Vec<f64>, scale: f64| {
                a.iter().zip(&b).all(|(a, b)| {
                    f64::from(*a) == *b || (f64::from(*a) - b).abs() <= 1e-6 * b.abs().max(scale)
                })
            };
            let n = y.len();
            prop_assert!(agree(written(n, |o| small.log_score_into(o)), written(n, |o| large.log_score_into(o)), 1.0));
            prop_assert!(agree(written(n, |o| small.brier_into(o)), written(n, |o| large.brier_into(o)), 1.0));
            prop_assert!(agree(written(n, |o| small.rps_into(o)), written(n, |o| large.rps_into(o)), 1.0));
            prop_assert!(agree(written(n, |o| small.spherical_into(o)), written(n, |o| large.spherical_into(o)), 1.0));
        }
    }
}

/// The continuous scores in both precisions and at every level.
#[test]
fn closed_forms_agree_in_every_level_and_precision() {
    let y: Vec<f64> = (0..777).map(|i| f64::from(i) / 40.0 - 9.0).collect();
    let sigma: Vec<f64> = (0..777).map(|i| 0.5 + f64::from(i % 7)).collect();
    let mu: Vec<f64> = (0..777).map(|i| f64::from(i % 5) - 2.0).collect();
    let single = |x: &[f64]| x.iter().map(|x| *x as f32).collect::<Vec<f32>>();
    let (mu_32, sigma_32, y_32) = (single(&mu), single(&sigma), single(&y));
    let exact: Vec<f64> = y_32.iter().map(|y| f64::from(*y)).collect();
    let portable = BatchOptions::default().with_level(SimdLevel::Portable);
    let batch = Locations::new(&mu, &sigma, &exact, portable).unwrap();
    let normal = written(777, |out| batch.normal_crps_into(out));
    let logistic = written(777, |out| batch.logistic_crps_into(out));
    for options in all_options() {
        let batch = Locations::new(&mu, &sigma, &exact, options).unwrap();
        same(
            &written(777, |out| batch.normal_crps_into(out)),
            &normal,
            "normal",
        );
        same(
            &written(777, |out| batch.logistic_crps_into(out)),
            &logistic,
            "logistic",
        );
        let small = Locations::new(&mu_32, &sigma_32, &y_32, options).unwrap();
        let near = |got: Vec<f32>, expected: &[f64]| {
            got.iter()
                .zip(expected)
                .all(|(got, expected)| close(f64::from(*got), *expected, 2e-6))
        };
        assert!(near(written(777, |out| small.normal_crps_into(out)), &normal));
        assert!(near(written(777, |out| small.logistic_crps_into(out)), &logistic));
    }
}

/// Divergences in single precision, and nearly equal rows: no digits cancel there either.
#[test]
fn nearly_equal_singles_do_not_cancel() {
    let (p, q) = ([0.5_f32 + 3e-7, 0.5 - 3e-7], [0.5_f32, 0.5]);
    let doubles = |x: [f32; 2]| x.map(f64::from);
    for level in levels() {
        let options = BatchOptions::default().with_level(level);
        let rows = |x| Rows::new(x, 2).unwrap();
        let small = DistPairs::new(rows(&p), rows(&q), options).unwrap().kl_sum();
        let exact = divergence::kl(&doubles(p), &doubles(q)).unwrap();
        assert!(
            (small / exact - 1.0).abs() < 1e-5,
            "{level}: {small} is not {exact}"
        );
    }
}

/// Views of every layout: transposed, sliced with steps, backwards, broadcast.
#[test]
fn views_of_any_layout_give_the_same_numbers() {
    use ndarray::{Array2, ShapeBuilder, s};
    let rows: Vec<Vec<f64>> = (0..61)
        .map(|i| (0..6).map(|k| f64::from(1 + (i * 7 + k * 5) % 11)).collect())
        .collect();
    let q = Array2::from_shape_vec((61, 6), dists(&rows)).unwrap();
    let y: Vec<u8> = (0..61).map(|i| i % 6).collect();
    let mut column_major = Array2::zeros((61, 6).f());
    column_major.assign(&q);
    let mut wide = Array2::zeros((122, 18));
    wide.slice_mut(s![..;2, ..;3]).assign(&q);
    let mut backwards = Array2::zeros((61, 6));
    backwards.slice_mut(s![..;-1, ..;-1]).assign(&q);
    for options in all_options() {
        let expected = Categorical::new(&q, &y, options).unwrap();
        let views = [
            column_major.view(),
            wide.slice(s![..;2, ..;3]),
            backwards.slice(s![..;-1, ..;-1]),
        ];
        for view in views {
            let batch = Categorical::new(view, &y, options).unwrap();
            for (got, expected) in [
                (
                    written(61, |o| batch.log_score_into(o)),
                    written(61, |o| expected.log_score_into(o)),
                ),
                (
                    written(61, |o| batch.brier_into(o)),
                    written(61, |o| expected.brier_into(o)),
                ),
                (
                    written(61, |o| batch.rps_into(o)),
                    written(61, |o| expected.rps_into(o)),
                ),
                (
                    written(61, |o| batch.spherical_into(o)),
                    written(61, |o| expected.spherical_into(o)),
                ),
            ] {
                assert_eq!(got, expected);
            }
        }
        let one = q.row(3);
        let many = one.broadcast((40, 6)).unwrap();
        let labels = [2_u8; 40];
        let batch = Categorical::new(many, &labels, options).unwrap();
        assert_eq!(
            written(40, |o| batch.brier_into(o)),
            vec![score::brier(&one.to_vec(), 2).unwrap(); 40]
        );
    }
}

/// Results of more than some megabytes are written past the caches: the same ones, wherever they start.
#[test]
fn long_batches_are_written_whole() {
    const ROWS: usize = 4_200_003;
    let p: Vec<f32> = (0..ROWS).map(|i| (i % 1000) as f32 / 1000.0).collect();
    let y: Vec<u8> = (0..ROWS).map(|i| (i % 2) as u8).collect();
    for options in all_options() {
        let batch = Binary::new(&p, &y, options).unwrap();
        let mut out = vec![f32::NAN; ROWS + 3];
        batch.brier_into(&mut out[3..]).unwrap();
        for (row, got) in out[3..].iter().enumerate() {
            let off = p[row] - f32::from(y[row]);
            assert_eq!(*got, off * off, "{:?}, row {row}", options.level());
        }
    }
}
