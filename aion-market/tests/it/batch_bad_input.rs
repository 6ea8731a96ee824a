//! Batches that are refused: the first bad row is named.

use aion_market::Error;
use aion_market::batch::{
    BatchOptions, Binary, Categorical, DistPairs, Ensembles, Locations, Rows, SimdLevel, Threads,
};

/// Every level, on one thread and on three.
fn all_options() -> impl Iterator<Item = BatchOptions> {
    let of = |level| BatchOptions::default().with_level(level);
    let levels = SimdLevel::ALL.into_iter().filter(|level| level.is_available());
    levels.flat_map(move |level| {
        [
            of(level),
            of(level).with_threads(Threads::Count(3.try_into().unwrap())),
        ]
    })
}

/// How an error shows: NaN included.
fn says<T>(result: aion_market::Result<T>) -> String {
    result
        .err()
        .map_or_else(|| "accepted".to_owned(), |error| error.to_string())
}

#[test]
fn the_first_bad_row_is_named_wherever_it_is() {
    for options in all_options() {
        for rows in [1, 7, 64, 65, 200, 1000] {
            for bad in [0, rows / 3, rows - 1] {
                let y = vec![1_u8; rows];
                for (value, shown) in [
                    (f64::NAN, "NaN"),
                    (f64::INFINITY, "inf"),
                    (-0.1, "-0.1"),
                    (1.1, "1.1"),
                ] {
                    let mut p = vec![0.5; rows];
                    p[bad] = value;
                    // A later one does not matter.
                    p[rows - 1] = if bad == rows - 1 { value } else { -3.0 };
                    let expected = format!("forecasts[{bad}] must be in [0, 1], got {shown}");
                    assert_eq!(says(Binary::new(&p, &y, options)), expected);
                }
                let (p, mut y) = (vec![0.5; rows], vec![0_u32; rows]);
                y[bad] = u32::MAX;
                let expected = format!("row {bad} has the label 4294967295, there are 2 outcomes");
                assert_eq!(says(Binary::new(&p, &y, options)), expected);
            }
        }
    }
}

#[test]
fn rows_that_are_no_distribution_are_refused() {
    for options in all_options() {
        for k in [2, 3, 4, 7, 40] {
            let rows = 90;
            let y = vec![0_u8; rows];
            let good = vec![1.0 / k as f64; rows * k];
            let of = |q: &[f64]| says(Categorical::new(Rows::new(q, k).unwrap(), &y, options));
            assert_eq!(of(&good), "accepted");
            for (value, shown) in [
                (f64::NAN, "NaN"),
                (f64::NEG_INFINITY, "-inf"),
                (-1e-300, "-0."),
                (7.0, "7"),
            ] {
                let mut q = good.clone();
                q[71 * k + 1] = value;
                let said = of(&q);
                assert!(
                    said.starts_with("the forecasts[71, 1] must be in [0, 1], got"),
                    "{said}"
                );
                assert!(said.contains(shown), "{said}");
            }
            let mut q = good.clone();
            q[13 * k] += 2e-9;
            let said = of(&q);
            assert!(
                said.starts_with("row 13 of the forecasts must be a distribution that sums to 1"),
                "{said}"
            );
            q[13 * k] -= 1.5e-9;
            assert_eq!(of(&q), "accepted", "within the tolerance");
            let mut labels = y.clone();
            labels[88] = k as u8;
            let said = says(Categorical::new(Rows::new(&good, k).unwrap(), &labels, options));
            assert_eq!(said, format!("row 88 has the label {k}, there are {k} outcomes"));
        }
    }
}

#[test]
fn the_earliest_of_several_faults_is_named() {
    for options in all_options() {
        let (mut q, mut y) = (vec![0.5_f32; 200], vec![0_u8; 100]);
        y[50] = 9;
        q[2 * 51] = f32::NAN;
        let of = |q: &[f32], y: &[u8]| says(Categorical::new(Rows::new(q, 2).unwrap(), y, options));
        assert_eq!(of(&q, &y), "row 50 has the label 9, there are 2 outcomes");
        q[2 * 49] = 0.7;
        assert!(
            of(&q, &y).starts_with("row 49 of the forecasts"),
            "{}",
            of(&q, &y)
        );
        let pair = |p: &[f32], q: &[f32]| {
            says(DistPairs::new(
                Rows::new(p, 2).unwrap(),
                Rows::new(q, 2).unwrap(),
                options,
            ))
        };
        let good = vec![0.5_f32; 200];
        assert!(pair(&good, &q).starts_with("row 49 of q"), "{}", pair(&good, &q));
        assert!(pair(&q, &good).starts_with("row 49 of p"), "{}", pair(&q, &good));
    }
}

/// Distances beyond the largest number are no perfect score, at any level and for any size.
#[test]
fn distances_that_overflow_are_not_zero() {
    for options in all_options() {
        for m in [2, 5, 16, 40, 300] {
            let mut x = vec![f64::MAX; 20 * m];
            x.chunks_exact_mut(m).for_each(|row| row[0] = -f64::MAX);
            x[..m].fill(1.0);
            let mut scores = vec![0.0; 20];
            let batch = Ensembles::new(Rows::new(&x, m).unwrap(), &[1.0; 20], options).unwrap();
            batch.crps_into(&mut scores).unwrap();
            assert_eq!(scores[0], 0.0);
            assert!(
                scores[1..].iter().all(|score| !score.is_finite()),
                "{m}: {scores:?}"
            );
        }
    }
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    for options in all_options() {
        for m in [1, 5, 16, 300] {
            let (mut x, mut y) = (vec![0.5; 70 * m], vec![0.0; 70]);
            let of = |x: &[f64], y: &[f64]| says(Ensembles::new(Rows::new(x, m).unwrap(), y, options));
            assert_eq!(of(&x, &y), "accepted");
            y[69] = f64::INFINITY;
            assert_eq!(of(&x, &y), "observations[69] must be finite, got inf");
            x[66 * m + m - 1] = f64::NAN;
            assert_eq!(
                of(&x, &y),
                format!("the ensembles[66, {}] must be finite, got NaN", m - 1)
            );
        }
        let ones = [1.0; 40];
        let with = |value: f64| {
            let mut other = ones;
            other[33] = value;
            other
        };
        let of = |mu: &[f64], sigma: &[f64], y: &[f64]| says(Locations::new(mu, sigma, y, options));
        assert_eq!(of(&ones, &ones, &ones), "accepted");
        assert_eq!(
            of(&with(f64::NAN), &ones, &ones),
            "locations[33] must be finite, got NaN"
        );
        assert_eq!(
            of(&ones, &ones, &with(f64::INFINITY)),
            "observations[33] must be finite, got inf"
        );
        for (sigma, shown) in [
            (0.0, "0"),
            (-1.0, "-1"),
            (f64::INFINITY, "inf"),
            (f64::NAN, "NaN"),
        ] {
            let expected = format!("scales[33] must be finite and above 0, got {shown}");
            assert_eq!(of(&ones, &with(sigma), &ones), expected);
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let options = BatchOptions::default();
    let shape = |result: aion_market::Result<()>| match result {
        Err(Error::Shape { found, expected, .. }) => (found, expected),
        other => panic!("{other:?}"),
    };
    let p = [0.5_f64; 6];
    let y = [0_u8; 5];
    assert_eq!(shape(Binary::new(&p, &y, options).map(drop)), (5, 6));
    assert_eq!(shape(Rows::new(&p, 4).map(drop)), (6, 4));
    assert_eq!(shape(Rows::by_column(&p, 5).map(drop)), (6, 5));
    assert_eq!(shape(Rows::new(&p, 0).map(drop)), (6, 0));
    assert_eq!(
        shape(Categorical::new(Rows::new(&p, 1).unwrap(), &[0_u8; 6], options).map(drop)),
        (1, 2)
    );
    assert_eq!(
        shape(Categorical::new(Rows::new(&p, 2).unwrap(), &y, options).map(drop)),
        (5, 3)
    );
    let of = |k| Rows::new(&p, k).unwrap();
    assert_eq!(shape(DistPairs::new(of(2), of(3), options).map(drop)), (2, 3));
    let empty: [f64; 0] = [];
    assert_eq!(
        shape(Ensembles::new(Rows::new(&empty, 0).unwrap(), &empty, options).map(drop)),
        (0, 1)
    );
    assert_eq!(
        shape(
            Binary::new(&empty, &[0_u8; 0], options)
                .and_then(|b| b.brier_mean())
                .map(drop)
        ),
        (0, 1)
    );
}

#[test]
fn an_out_of_another_length_is_left_alone() {
    let batch = Binary::new(&[0.5_f64; 9], &[1_u8; 9], BatchOptions::default()).unwrap();
    for len in [0, 8, 10] {
        let mut out = vec![7.0; len];
        assert!(matches!(
            batch.log_score_into(&mut out),
            Err(Error::Shape { expected: 9, .. })
        ));
        assert!(out.iter().all(|x| *x == 7.0));
    }
    let batch = Ensembles::new(
        Rows::new(&[0.5_f64; 9], 3).unwrap(),
        &[1.0; 3],
        BatchOptions::default(),
    )
    .unwrap();
    let mut out = [7.0; 4];
    assert!(batch.crps_into(&mut out).is_err());
    assert_eq!(out, [7.0; 4]);
}

/// 2^32 rows, without the memory: one row again and again.
#[test]
fn more_rows_than_32_bits_count_are_refused() {
    let rows = (1_usize << 32) + 1;
    let (q, y) = (ndarray::arr1(&[0.5, 0.5]), ndarray::arr0(0_u8));
    let forecasts = q.broadcast((rows, 2)).unwrap();
    let labels = y.broadcast(rows).unwrap();
    let refused = Categorical::new(forecasts, labels, BatchOptions::default());
    assert!(matches!(refused, Err(Error::TooManyRows { rows: found, .. }) if found == rows));
}

/// Checking and scoring in one pass is checking first and scoring then; what is refused leaves no trace.
#[test]
fn one_pass_appends_what_two_passes_write_or_nothing() {
    for options in all_options() {
        for rows in [0, 1, 7, 64, 300, 3_001] {
            let share = |i: usize| (i * 7_919 % 1_000) as f64 / 1_000.0;
            let mut p: Vec<f64> = (0..rows).map(share).collect();
            let y: Vec<u8> = (0..rows).map(|i| (i % 2) as u8).collect();
            let mut q: Vec<f64> = p
                .iter()
                .flat_map(|p| [p / 4.0, p / 2.0, p / 4.0, 1.0 - p])
                .collect();
            let mut members: Vec<f64> = (0..rows * 16).map(share).collect();
            for bad in [None, Some(rows / 2), rows.checked_sub(1)] {
                let bad = bad.filter(|_| rows > 0);
                if let Some(bad) = bad {
                    (p[bad], q[4 * bad + 2], members[16 * bad + 5]) = (1.5, -0.5, f64::NAN);
                }
                let q = || Rows::new(&q, 4).unwrap();
                let members = || Rows::new(&members, 16).unwrap();
                let pairs = [
                    both(
                        rows,
                        Binary::new(&p, &y, options),
                        Binary::log_score_into,
                        |out| Binary::log_score_onto(&p, &y, options, out),
                    ),
                    both(
                        rows,
                        Categorical::new(q(), &y, options),
                        Categorical::brier_into,
                        |out| Categorical::brier_onto(q(), &y, options, out),
                    ),
                    both(
                        rows,
                        Categorical::new(q(), &y, options),
                        Categorical::rps_into,
                        |out| Categorical::rps_onto(q(), &y, options, out),
                    ),
                    both(
                        rows,
                        DistPairs::new(q(), q(), options),
                        DistPairs::kl_into,
                        |out| DistPairs::kl_onto(q(), q(), options, out),
                    ),
                    both(
                        rows,
                        Ensembles::new(members(), &p, options),
                        Ensembles::crps_into,
                        |out| Ensembles::crps_onto(members(), &p, options, out),
                    ),
                ];
                for ((one_said, one), (two_said, two)) in pairs {
                    assert_eq!(one_said, two_said);
                    assert_eq!(one_said == "accepted", bad.is_none(), "{one_said}");
                    assert_eq!(one, two);
                }
            }
        }
    }
}

/// An answer, and what lies in the results after it.
type Told = (String, Vec<f64>);

/// What one pass says and appends, and what two say and write; both find a number in the results.
fn both<B>(
    rows: usize,
    batch: aion_market::Result<B>,
    into: impl Fn(&B, &mut [f64]) -> aion_market::Result<()>,
    onto: impl Fn(&mut Vec<f64>) -> aion_market::Result<()>,
) -> (Told, Told) {
    let mut one = vec![7.0];
    let one_said = says(onto(&mut one));
    let mut two = vec![7.0];
    let two_said = says(batch.and_then(|batch| {
        two.resize(1 + rows, 0.0);
        into(&batch, &mut two[1..])
    }));
    ((one_said, one), (two_said, two))
}

/// Results that go past the caches: an odd place for the first, and a bad row in each quarter.
#[test]
fn one_pass_over_many_rows_is_two() {
    let rows = (4 << 20) / 8 + 77;
    let mut p: Vec<f64> = (0..rows).map(|i| (i * 7_919 % 1_000) as f64 / 1_000.0).collect();
    let y = vec![1_u8; rows];
    let options = BatchOptions::default();
    let mut out = vec![0.5];
    Binary::log_score_onto(&p, &y, options, &mut out).unwrap();
    assert!(out.len() == rows + 1 && out[1] == f64::NEG_INFINITY);
    assert!(
        p.iter()
            .zip(&out[1..])
            .all(|(p, score)| (p.ln() - score).abs() <= 1e-15 * score.abs() || *p == 0.0)
    );
    for bad in [rows - 1, rows * 7 / 8, rows / 2, rows / 3, 0] {
        p[bad] = -1.0;
        let refused = says(Binary::log_score_onto(&p, &y, options, &mut out));
        assert_eq!(refused, format!("forecasts[{bad}] must be in [0, 1], got -1"));
        assert_eq!(out.len(), rows + 1);
    }
}
