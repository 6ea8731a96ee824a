//! The market's kernels: scores, prices, calibration, and the score of a whole path of prices.

use std::hint::black_box;

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

criterion_group!(benches, kernels, whole_paths);
criterion_main!(benches);
