//! Cases about steps: recorded once, kept for the attempts that follow, bounded.

use aion_types::{EventKind, Json, TaskId};
use futures::{StreamExt, stream};

use super::{Bench, wish};
use crate::{CancelMode, Error, Fence, Limits, MemTaskStore, Processor, Retry, StepQuery, StepRecord};

async fn all(processor: &Processor, task: TaskId) -> Vec<StepRecord> {
    let mut query = StepQuery { after: 0, limit: 2 };
    let mut all = Vec::new();
    loop {
        let page = processor.steps(task, query).await.expect("read");
        assert!(page.steps.len() <= 2);
        all.extend(page.steps);
        match page.next {
            Some(next) => query.after = next,
            None => return all,
        }
    }
}

async fn record(bench: &Bench, fence: Fence, name: &str, n: i64) -> StepRecord {
    let step = bench.processor.step(fence, name, Json::Int(n)).await;
    step.expect("the step is recorded")
}

/// What was recorded first under a name stays; another task's steps are its own.
pub async fn a_step_is_recorded_once(bench: Bench) {
    let one = bench.claimed(bench.task()).await;
    let two = bench.claimed(bench.task()).await;
    let first = record(&bench, one.fence(), "pay", 1).await;
    assert_eq!(
        (first.task_id, first.seq, first.name.as_str()),
        (one.task.id, 1, "pay")
    );
    assert_eq!((&first.result, first.at), (&Json::Int(1), bench.clock_now()));
    bench.clock.advance_ms(7);
    assert_eq!(record(&bench, one.fence(), "pay", 2).await, first);
    assert_eq!(record(&bench, one.fence(), "ship", 3).await.seq, 2);
    assert_eq!(record(&bench, one.fence(), "a first by name", 4).await.seq, 3);
    assert_eq!(record(&bench, two.fence(), "pay", 9).await.result, Json::Int(9));
    let names: Vec<_> = all(&bench.processor, one.task.id).await;
    let names: Vec<_> = names.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["pay", "ship", "a first by name"]);
    let told = bench.kinds(one.task.id).await;
    assert_eq!(told.iter().filter(|kind| **kind == EventKind::Step).count(), 3);
    let unknown = bench.processor.steps(bench.id(), StepQuery::default()).await;
    assert!(matches!(unknown, Err(Error::NotFound(_))));
}

/// The next attempt, and whoever comes after a crash, finds what was done.
pub async fn steps_outlive_attempts(bench: Bench) {
    let p = &bench.processor;
    let lease = bench.claimed(bench.task()).await;
    record(&bench, lease.fence(), "one", 1).await;
    p.fail(lease.fence(), "again", Retry::AfterMs(0))
        .await
        .expect("failed");
    let lease = bench.claim().await;
    assert_eq!(
        record(&bench, lease.fence(), "one", 10).await.result,
        Json::Int(1)
    );
    record(&bench, lease.fence(), "two", 2).await;
    bench.clock.advance_ms(60_000);
    p.tick().await.expect("time is kept");
    let lease = bench.claim().await;
    assert_eq!(
        record(&bench, lease.fence(), "two", 20).await.result,
        Json::Int(2)
    );
    p.complete(lease.fence(), Json::Null).await.expect("completed");
    assert_eq!(all(p, lease.task.id).await.len(), 2, "they are there to be read");
    let late = p.step(lease.fence(), "three", Json::Null).await;
    assert!(matches!(late, Err(Error::LeaseLost { .. })));
}

/// Whoever lost the task records nothing, not even what was recorded before.
pub async fn zombies_record_nothing(bench: Bench) {
    let p = &bench.processor;
    let old = bench.claimed(bench.task()).await;
    record(&bench, old.fence(), "one", 1).await;
    bench.clock.advance_ms(60_000);
    p.tick().await.expect("time is kept");
    for name in ["one", "two"] {
        let refused = p.step(old.fence(), name, Json::Int(5)).await;
        assert!(matches!(refused, Err(Error::LeaseLost { .. })), "{refused:?}");
    }
    let new = bench.claim().await;
    let refused = p.step(old.fence(), "two", Json::Int(5)).await;
    assert!(matches!(refused, Err(Error::LeaseLost { given, .. }) if given == old.epoch));
    record(&bench, new.fence(), "two", 2).await;
    let steps = all(p, new.task.id).await;
    let results: Vec<_> = steps.into_iter().map(|step| step.result).collect();
    assert_eq!(results, [Json::Int(1), Json::Int(2)]);
}

/// Names, sizes and numbers have limits, and a refusal records nothing.
pub async fn steps_are_bounded(bench: Bench) {
    let p = &bench.processor;
    let fence = bench.claimed(bench.task()).await.fence();
    for name in ["", "line\nbreak"] {
        let refused = p.step(fence, name, Json::Null).await;
        assert!(
            matches!(refused, Err(Error::Invalid { what: "name", .. })),
            "{name}"
        );
    }
    let long = p.step(fence, "n".repeat(129), Json::Null).await;
    assert!(matches!(long, Err(Error::Limit { what: "name", .. })));
    let large = p.step(fence, "large", "x".repeat(2_000).into()).await;
    assert!(matches!(large, Err(Error::Limit { what: "result", .. })));
    for n in 0..4 {
        let result = "x".repeat(1_900).into();
        p.step(fence, format!("wide-{n}"), result)
            .await
            .expect("recorded");
    }
    let together = p.step(fence, "wide-4", "x".repeat(1_900).into()).await;
    assert!(matches!(
        together,
        Err(Error::Limit {
            what: "steps_bytes",
            ..
        })
    ));
    for n in 4..20 {
        record(&bench, fence, &format!("small-{n}"), n).await;
    }
    let many = p.step(fence, "one more", Json::Null).await;
    assert!(matches!(many, Err(Error::Limit { what: "steps", .. })));
    assert_eq!(record(&bench, fence, "small-4", 0).await.result, Json::Int(4));
    assert_eq!(all(p, fence.task).await.len(), 20);
}

/// Steps come over with their task, once; other ones under their numbers are refused; they go when
/// it is removed.
pub async fn steps_move_and_go_with_their_tree(bench: Bench) {
    let p = &bench.processor;
    let lease = bench.claimed(bench.task()).await;
    for n in 1..=5 {
        record(&bench, lease.fence(), &format!("step-{n}"), n).await;
    }
    let pieces: Vec<_> = p.export(lease.task.id).collect().await;
    let over = Processor::new(MemTaskStore::new(bench.clock.clone(), Limits::default()));
    for _ in 0..2 {
        let copied = over.import(stream::iter(pieces.clone()), None).await;
        assert!(matches!(copied, Ok(1)), "{copied:?}");
    }
    let steps = all(p, lease.task.id).await;
    assert_eq!(all(&over, lease.task.id).await, steps);
    let mut lease = over.claim(wish("w")).await.expect("answered").remove(0);
    let there = over
        .step(lease.fence(), "step-3", Json::Null)
        .await
        .expect("known");
    assert_eq!(there.result, Json::Int(3));

    // What comes from there takes steps until somebody claims it.
    let moved = over.create(bench.task()).await.expect("created").id;
    let held = over.claim(wish("w")).await.expect("answered")[0].fence();
    for n in 1..=2 {
        let name = format!("step-{n}");
        over.step(held, name, Json::Int(n)).await.expect("recorded");
    }
    p.import(over.export(moved), None).await.expect("taken over");
    let next = |name: &str, seq| StepRecord {
        task_id: moved,
        seq,
        name: name.to_owned(),
        ..steps[0].clone()
    };
    let import = |steps| async move {
        let op = crate::Op::ImportSteps(steps);
        p.store()
            .apply(vec![op.into()])
            .await
            .expect("answered")
            .remove(0)
    };
    let taken = import(vec![next("step-2", 3)]).await;
    assert!(matches!(taken, Err(Error::Conflict(_))), "{taken:?}");
    for bad in [vec![next("x", 4)], vec![next("x", 3), next("x", 4)]] {
        let refused = import(bad).await;
        assert!(matches!(refused, Err(Error::Invalid { what: "steps", .. })));
    }
    import(vec![next("step-1", 1), next("x", 3)])
        .await
        .expect("taken over");
    assert_eq!(all(p, moved).await.len(), 3);
    p.claim(wish("w").with_task(moved)).await.expect("answered");
    for refused in [
        next("y", 4),
        StepRecord {
            seq: 6,
            ..steps[0].clone()
        },
    ] {
        let refused = import(vec![StepRecord {
            name: "y".to_owned(),
            ..refused
        }]);
        let refused = refused.await;
        assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    }
    import(vec![next("x", 3)]).await.expect("it is there already");
    assert_eq!(
        (all(p, moved).await.len(), all(p, steps[0].task_id).await.len()),
        (3, 5)
    );

    lease.task.id = steps[0].task_id;
    p.cancel(lease.task.id, CancelMode::Force)
        .await
        .expect("cancelled");
    p.purge(lease.task.id).await.expect("removed");
    let again = bench.task();
    let again = bench
        .claimed(crate::NewTask {
            id: lease.task.id,
            ..again
        })
        .await;
    assert!(
        all(p, again.task.id).await.is_empty(),
        "a new task of this id has none"
    );
    assert_eq!(
        record(&bench, again.fence(), "step-1", 8).await.result,
        Json::Int(8)
    );
}
