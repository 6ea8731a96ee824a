//! The market's kernels: scores, prices, calibration, and the score of a whole path of prices.

use std::hint::black_box;

use aion_market::batch::{
    BatchOptions, Binary, Categorical, DistPairs, Ensembles, Locations, Rows, SimdLevel,
};
use aion_market::calibration::{Calibration, FitOptions};
use aion_market::maker::lmsr;
use aion_market::{divergence, score, sequential};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// A distribution over `n` outcomes, none of them nearly impossible.
fn dist(n: usize, seed: usize) -> Vec<f64> {
    let weights: Vec<f64> = (0..n).map(|at| 1.0 + ((at + seed) * 7919 % 101) as f64).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

fn kernels(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("market");
    for n in [2, 64, 1024] {
        let (p, q) = (dist(n, 1), dist(n, 2));
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function(format!("kl/{n}"), |bencher| {
            bencher.iter(|| divergence::kl(black_box(&p), black_box(&q)));
        });
        let shares: Vec<f64> = p.iter().map(|p| 100.0 * p).collect();
        let mut prices = vec![0.0; n];
        group.bench_function(format!("lmsr_prices/{n}"), |bencher| {
            bencher.iter(|| lmsr::prices_into(black_box(&shares), 10.0, &mut prices));
        });
    }
    group.throughput(Throughput::Elements(1));
    let q = dist(2, 3);
    group.bench_function("log_score/2", |bencher| {
        bencher.iter(|| score::log_score(black_box(&q), 1));
    });
    group.finish();
}

fn whole_paths(criterion: &mut Criterion) {
    const STEPS: usize = 1000;
    let mut group = criterion.benchmark_group("market_paths");
    group.throughput(Throughput::Elements(STEPS as u64));
    let path: Vec<Vec<f64>> = (0..STEPS).map(|seed| dist(2, seed)).collect();
    group.bench_function("sequential_kl/1000", |bencher| {
        bencher.iter(|| sequential::sequential_kl(black_box(&path), &[1.0, 0.0]));
    });
    let ln_ratios: Vec<f64> = (0..STEPS)
        .map(|at| (at as f64 / STEPS as f64).mul_add(4.0, -2.0))
        .collect();
    let outcomes: Vec<f64> = (0..STEPS)
        .map(|at| f64::from(u8::from(at * 7919 % STEPS < at)))
        .collect();
    group.bench_function("calibration_fit/1000", |bencher| {
        bencher.iter(|| Calibration::fit(black_box(&ln_ratios), &outcomes, FitOptions::default()));
    });
    group.finish();
}

/// Rows of a batch: past the second cache with its numbers, so that memory is part of it.
const ROWS: usize = 1 << 20;

/// Batches at every level of instructions that this CPU has, by the bytes that they read and write.
fn batches(criterion: &mut Criterion) {
    let p: Vec<f64> = (0..ROWS).map(|row| (row * 7919 % 1009) as f64 / 1009.0).collect();
    let happened: Vec<u8> = (0..ROWS).map(|row| (row * 31 % 2) as u8).collect();
    let labels: Vec<u8> = (0..ROWS).map(|row| (row * 31 % 4) as u8).collect();
    let q: Vec<f64> = (0..ROWS).flat_map(|row| dist(4, row)).collect();
    let r: Vec<f64> = (0..ROWS).flat_map(|row| dist(4, row + 50)).collect();
    let (members, sixteenth) = (Rows::new(&q, 16), &p[..ROWS / 4]);
    let mut out = vec![0.0; ROWS];
    let mut group = criterion.benchmark_group("market_batches");
    for level in SimdLevel::ALL.into_iter().filter(|level| level.is_available()) {
        let options = BatchOptions::default().with_level(level);
        let valid = "the rows above are distributions";
        let rows = |values| Rows::new(values, 4).expect(valid);
        let events = Binary::new(&p, &happened, options).expect(valid);
        let forecasts = Categorical::new(rows(&q), &labels, options).expect(valid);
        let pairs = DistPairs::new(rows(&q), rows(&r), options).expect(valid);
        let ensembles =
            Ensembles::new(members.as_ref().copied().expect(valid), sixteenth, options).expect(valid);
        let locations = Locations::new(&q[..ROWS], &r[..ROWS], &p, options).expect(valid);
        let mut bench = |name: &str, rows: usize, bytes: usize, run: &mut dyn FnMut(&mut [f64])| {
            group.throughput(Throughput::Bytes((rows * bytes) as u64));
            group.bench_function(format!("{name}/{level}"), |bencher| {
                bencher.iter(|| run(&mut out[..rows]));
            });
        };
        bench("check_binary", ROWS, 9, &mut |_| {
            drop(black_box(Binary::new(&p, &happened, options)));
        });
        bench("log_binary", ROWS, 17, &mut |out| {
            events.log_score_into(out).expect(valid);
        });
        bench("brier_binary", ROWS, 17, &mut |out| {
            events.brier_into(out).expect(valid);
        });
        bench("check_4", ROWS, 33, &mut |_| {
            drop(black_box(Categorical::new(rows(&q), &labels, options)));
        });
        bench("log_4", ROWS, 41, &mut |out| {
            forecasts.log_score_into(out).expect(valid);
        });
        bench("brier_4", ROWS, 41, &mut |out| {
            forecasts.brier_into(out).expect(valid);
        });
        bench("rps_4", ROWS, 41, &mut |out| {
            forecasts.rps_into(out).expect(valid);
        });
        bench("kl_4", ROWS, 72, &mut |out| pairs.kl_into(out).expect(valid));
        bench("jensen_shannon_4", ROWS, 72, &mut |out| {
            pairs.jensen_shannon_into(out).expect(valid);
        });
        bench("crps_16", ROWS / 4, 144, &mut |out| {
            ensembles.crps_into(out).expect(valid);
        });
        bench("crps_normal", ROWS, 32, &mut |out| {
            locations.normal_crps_into(out).expect(valid);
        });
        bench("crps_logistic", ROWS, 32, &mut |out| {
            locations.logistic_crps_into(out).expect(valid);
        });
    }
    group.finish();
}

criterion_group!(benches, kernels, batches, whole_paths);
criterion_main!(benches);
