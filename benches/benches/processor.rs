//! The task tree: one task from creation to its end, in memory and in SQLite.

use aion_processor::{ClaimReq, Limits, MemTaskStore, NewMessage, NewTask, Processor};
use aion_types::{Clock, HandlerId, Json, Role, SystemClock, TaskId};
use criterion::{Criterion, criterion_group, criterion_main};
use tokio::runtime::{Builder, Runtime};

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Create, claim, one message, complete: four durable changes.
async fn one_task(processor: &Processor, handler: &HandlerId) {
    let id = TaskId::generate(SystemClock.now());
    processor
        .create(NewTask::new(id, "bench", "a task"))
        .await
        .expect("created");
    let claim = ClaimReq::new(handler.clone()).with_task(id);
    let lease = processor.claim(claim).await.expect("claimed").remove(0);
    processor
        .append(lease.fence(), NewMessage::new(Role::Assistant, "done"))
        .await
        .expect("appended");
    processor
        .complete(lease.fence(), Json::from("result"))
        .await
        .expect("completed");
}

fn life_of_a_task(criterion: &mut Criterion) {
    let runtime = runtime();
    let handler = HandlerId::new("bench").expect("a handler");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("processor.db");
    let stores = [
        (
            "memory",
            Processor::new(MemTaskStore::new(SystemClock, Limits::default())),
        ),
        (
            "sqlite",
            runtime.block_on(Processor::open(&file)).expect("a file"),
        ),
    ];
    let mut group = criterion.benchmark_group("processor");
    for (name, processor) in &stores {
        group.bench_function(format!("create_claim_append_complete/{name}"), |bencher| {
            bencher.iter(|| runtime.block_on(one_task(processor, &handler)));
        });
    }
    group.finish();
}

criterion_group!(benches, life_of_a_task);
criterion_main!(benches);
