//! Cases about creating tasks.

use aion_types::{EventKind, Json, Status, Timestamp};

use super::{Bench, wish};
use crate::{CancelMode, Done, Error, NewTask, Op, Start};

/// A new task is ready, and the log says so.
pub async fn a_new_task_is_ready(bench: Bench) {
    let new = bench
        .task()
        .with_payload(Json::object([("n", Json::Int(3))]))
        .with_spec("Do it");
    let task = bench.create(new.clone()).await;
    assert_eq!(
        (task.status, task.attempt, task.lease_epoch, task.depth),
        (Status::Ready, 0, 0, 0)
    );
    assert_eq!((task.root_id, task.parent_id), (new.id, None));
    assert_eq!((&task.payload, task.spec.as_str()), (&new.payload, "Do it"));
    assert_eq!(bench.get(new.id).await, task);
    assert_eq!(bench.kinds(new.id).await, [EventKind::Created, EventKind::Ready]);
}

/// An equal create gives the task that is there, wherever it stands by now.
pub async fn creating_twice_gives_the_first(bench: Bench) {
    let new = bench.task();
    bench.create(new.clone()).await;
    let lease = bench.claim().await;
    let again = bench.create(new.clone()).await;
    assert_eq!((again.status, again.lease_epoch), (Status::Running, lease.epoch));
    assert_eq!(bench.kinds(new.id).await.len(), 3);
}

/// The id of another task is refused.
pub async fn a_taken_id_is_a_conflict(bench: Bench) {
    let new = bench.task();
    bench.create(new.clone()).await;
    let other = new.with_spec("Something else");
    assert!(matches!(
        bench.processor.create(other).await,
        Err(Error::Conflict(_))
    ));
}

/// A key names one child of a parent; the same key below another parent is another task.
pub async fn a_key_is_unique_below_its_parent(bench: Bench) {
    let root = bench.create(bench.task()).await.id;
    let one = bench
        .create(bench.task().with_parent(root).with_key("step 1"))
        .await;
    let two = bench
        .create(bench.task().with_parent(root).with_key("step 1"))
        .await;
    let other = bench.create(bench.task().with_key("step 1")).await;
    let again = bench.create(bench.task().with_key("step 1")).await;
    assert_eq!(one.id, two.id);
    assert_eq!(other.id, again.id);
    assert_ne!(one.id, other.id);
    assert_eq!(bench.get(root).await.open_children, 1);
}

/// Children know their root and depth, and the parent counts them.
pub async fn children_know_their_tree(bench: Bench) {
    let root = bench.create(bench.task()).await.id;
    let child = bench.create(bench.task().with_parent(root)).await;
    let grandchild = bench.create(bench.task().with_parent(child.id)).await;
    assert_eq!(
        (grandchild.root_id, grandchild.parent_id, grandchild.depth),
        (root, Some(child.id), 2)
    );
    assert_eq!(bench.get(root).await.open_children, 1);
    let orphan = bench.task().with_parent(bench.id());
    assert!(matches!(
        bench.processor.create(orphan).await,
        Err(Error::NotFound(_))
    ));
}

/// A chain of children ends at the limit, and nothing is written beyond it.
pub async fn depth_is_limited(bench: Bench) {
    let mut parent = bench.create(bench.task()).await.id;
    for _ in 0..8 {
        parent = bench.create(bench.task().with_parent(parent)).await.id;
    }
    let before = bench.get(parent).await;
    let refused = bench.processor.create(bench.task().with_parent(parent)).await;
    assert!(
        matches!(
            refused,
            Err(Error::Limit {
                what: "depth",
                limit: 8,
                got: 9
            })
        ),
        "{refused:?}"
    );
    assert_eq!(bench.get(parent).await, before);
}

/// Each malformed member is refused by name.
pub async fn malformed_tasks_are_refused(bench: Bench) {
    let deep = (0..200).fold(Json::Null, |inner, _| Json::List(vec![inner]));
    let cases: [(&str, NewTask); 9] = [
        (
            "kind",
            NewTask {
                kind: String::new(),
                ..bench.task()
            },
        ),
        ("queue", bench.task().with_queue("a\nb")),
        ("key", bench.task().with_key("k".repeat(129))),
        (
            "title",
            NewTask {
                title: "t".repeat(1_025),
                ..bench.task()
            },
        ),
        ("payload", bench.task().with_payload("x".repeat(5_000).into())),
        ("payload", bench.task().with_payload(Json::Float(f64::NAN))),
        ("payload", bench.task().with_payload(deep)),
        ("max_attempts", bench.task().with_max_attempts(0)),
        (
            "run_after",
            bench.task().with_start(Start::At(Timestamp::from_ms(-1))),
        ),
    ];
    for (wanted, new) in cases {
        let id = new.id;
        match bench.processor.create(new).await {
            Err(Error::Invalid { what, .. } | Error::Limit { what, .. }) => assert_eq!(what, wanted),
            other => panic!("{wanted}: {other:?}"),
        }
        assert_eq!(bench.processor.find(id).await.expect("read"), None);
    }
}

/// A task that has ended gets no new children.
pub async fn ended_parents_have_no_new_children(bench: Bench) {
    let root = bench.create(bench.task()).await.id;
    bench
        .processor
        .cancel(root, CancelMode::Ask)
        .await
        .expect("cancelled");
    let refused = bench.processor.create(bench.task().with_parent(root)).await;
    assert!(matches!(
        refused,
        Err(Error::IllegalTransition {
            from: Status::Cancelled,
            ..
        })
    ));
}

/// A held task waits until its creator starts it, once.
pub async fn held_tasks_start_when_told(bench: Bench) {
    let id = bench.create(bench.task().with_start(Start::Held)).await.id;
    bench.processor.tick().await.expect("time is kept");
    assert!(
        bench
            .processor
            .claim(wish("worker"))
            .await
            .expect("answered")
            .is_empty()
    );
    assert_eq!(
        bench.processor.start(id).await.expect("started").status,
        Status::Ready
    );
    let again = bench.processor.start(id).await;
    assert!(matches!(
        again,
        Err(Error::IllegalTransition {
            from: Status::Ready,
            ..
        })
    ));
}

/// A delayed task is not claimed before its time, and is after it.
pub async fn delayed_tasks_start_when_due(bench: Bench) {
    let at = Timestamp::from_ms(1_000_500);
    let task = bench.create(bench.task().with_start(Start::At(at))).await;
    assert_eq!((task.status, task.run_after), (Status::Preparing, Some(at)));
    bench.clock.advance_ms(499);
    assert_eq!(bench.processor.tick().await.expect("time is kept").started, 0);
    assert!(
        bench
            .processor
            .claim(wish("worker"))
            .await
            .expect("answered")
            .is_empty()
    );
    bench.clock.advance_ms(1);
    assert_eq!(bench.processor.tick().await.expect("time is kept").started, 1);
    assert_eq!(bench.claim().await.task.id, task.id);
}

/// In one call, an operation that is refused leaves the others alone, in order.
pub async fn one_refusal_leaves_the_others(bench: Bench) {
    let (one, two) = (bench.task(), bench.task());
    let create = |task: &NewTask| Op::Create(Box::new(task.clone())).into();
    let writes = vec![create(&one), Op::Start(one.id).into(), create(&two)];
    let done = bench.processor.store().apply(writes).await.expect("answered");
    assert!(matches!(&done[0], Ok(Done::Record(task)) if task.id == one.id));
    assert!(matches!(done[1], Err(Error::IllegalTransition { .. })));
    assert!(matches!(&done[2], Ok(Done::Record(task)) if task.id == two.id));
    assert_eq!(
        bench.processor.counts().await.expect("counted").of(Status::Ready),
        2
    );
}

/// A thousand creates with one key make one task and two events.
pub async fn repeated_requests_change_nothing(bench: Bench) {
    let first = bench.create(bench.task().with_key("only")).await.id;
    for _ in 0..20 {
        let writes = (0..50)
            .map(|_| Op::Create(Box::new(bench.task().with_key("only"))).into())
            .collect();
        let done = bench.processor.store().apply(writes).await.expect("answered");
        assert!(
            done.iter()
                .all(|done| matches!(done, Ok(Done::Record(task)) if task.id == first))
        );
    }
    assert_eq!(
        bench.processor.events(0, 100).await.expect("read").events.len(),
        2
    );
}
