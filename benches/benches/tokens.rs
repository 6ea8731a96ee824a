//! Token persistence: the number per token, and the summary of a whole answer.

use std::hint::black_box;

use aion_types::{PersistenceMeter, PersistenceSummary, Reference, TokenPersistence};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const TOKENS: usize = 4096;

/// Surprises of a plausible answer, in nats: mostly easy, some hard.
fn surprises() -> Vec<f64> {
    (0..TOKENS)
        .map(|at| 0.05 + 6.0 * ((at * 2_654_435_761) % 997) as f64 / 997.0)
        .collect()
}

fn per_token(criterion: &mut Criterion) {
    let (surprises, reference) = (surprises(), f64::ln(49152.0));
    let mut group = criterion.benchmark_group("tokens");
    group.throughput(Throughput::Elements(TOKENS as u64));
    group.bench_function("ratio_and_meter", |bencher| {
        bencher.iter(|| {
            let mut meter = PersistenceMeter::new(Reference::Uniform);
            for surprise in black_box(&surprises) {
                let token = TokenPersistence::new(*surprise, reference).expect("finite");
                meter.push(token.ratio).expect("positive");
            }
            meter.summary()
        });
    });
    let ratios: Vec<f64> = surprises.iter().map(|s| (1.0 + reference) / (1.0 + s)).collect();
    group.bench_function("summary", |bencher| {
        bencher.iter(|| PersistenceSummary::of(black_box(&ratios), Reference::Uniform));
    });
    group.finish();
}

criterion_group!(benches, per_token);
criterion_main!(benches);
