//! The agent loop: a task of eight steps with a model that costs nothing, in memory and in SQLite.

use aion_benches::adder::{Adder, Durability};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Builder;

const STEPS: u64 = 8;

fn steps(criterion: &mut Criterion) {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let mut group = criterion.benchmark_group("loop");
    group.throughput(Throughput::Elements(STEPS));
    for (name, durability) in [("memory", Durability::Memory), ("sqlite", Durability::Sqlite)] {
        let adder = runtime
            .block_on(Adder::new(durability, dir.path()))
            .expect("an agent");
        group.bench_function(format!("steps/{name}"), |bencher| {
            bencher.iter(|| {
                let (_, total) = runtime.block_on(adder.run(STEPS)).expect("a completed task");
                assert_eq!(total, STEPS * (STEPS - 1) / 2);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
