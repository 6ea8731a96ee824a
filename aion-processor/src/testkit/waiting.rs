//! Cases about gather: a task that waits for tasks below it.

use aion_types::{EventKind, Json, Status, TaskId};

use super::{Bench, wish};
use crate::{CancelMode, Done, Error, GatherPolicy, Lease, Op, Retry, TaskHead};

/// A running parent and so many ready children.
async fn family(bench: &Bench, children: usize) -> (Lease, Vec<TaskId>) {
    let parent = bench.claimed(bench.task()).await;
    let mut ids = Vec::new();
    for _ in 0..children {
        ids.push(bench.create(bench.task().with_parent(parent.task.id)).await.id);
    }
    (parent, ids)
}

async fn gather(bench: &Bench, lease: &Lease, ids: &[TaskId], policy: GatherPolicy) -> TaskHead {
    bench
        .processor
        .gather(lease.fence(), ids.to_vec(), policy)
        .await
        .expect("gathered")
}

async fn end(bench: &Bench, task: TaskId, status: Status) {
    let leases = bench
        .processor
        .claim(wish("child").with_task(task))
        .await
        .expect("answered");
    let fence = leases.first().expect("it is ready").fence();
    let done = match status {
        Status::Completed => bench.processor.complete(fence, Json::Null).await,
        _ => bench.processor.fail(fence, "no", Retry::Never).await,
    };
    assert_eq!(done.expect("it ends").status, status);
}

/// The parent gives up its lease, and is ready again when the last listed child has completed.
pub async fn gather_waits_for_all(bench: Bench) {
    let (parent, ids) = family(&bench, 3).await;
    let listed = [ids[0], ids[1], ids[0]];
    let head = gather(&bench, &parent, &listed, GatherPolicy::All).await;
    assert_eq!(
        (head.status, head.waiting_on, head.attempt),
        (Status::Blocked, 2, 0)
    );
    let blocked = bench.get(parent.task.id).await;
    assert_eq!((blocked.handler_id, blocked.open_children), (None, 3));
    end(&bench, ids[0], Status::Completed).await;
    end(&bench, ids[2], Status::Completed).await;
    assert_eq!(bench.get(parent.task.id).await.status, Status::Blocked);
    end(&bench, ids[1], Status::Completed).await;
    let woken = bench.get(parent.task.id).await;
    assert_eq!(
        (woken.status, woken.waiting_on, woken.open_children),
        (Status::Ready, 0, 0)
    );
    assert_eq!(bench.claim().await.epoch, 2);
    assert!(bench.kinds(parent.task.id).await.contains(&EventKind::Blocked));
}

/// A task that is gathered and claimed in one commit wakes who waits for it.
pub async fn what_is_claimed_with_the_gather_wakes_the_waiter(bench: Bench) {
    let (parent, ids) = family(&bench, 1).await;
    let other = bench.claimed(bench.task()).await;
    let wait = Op::Gather {
        fence: parent.fence(),
        tasks: ids.clone(),
        policy: GatherPolicy::All,
    };
    let next = Op::CompleteAndClaim {
        fence: other.fence(),
        result: Json::Null,
        claim: Box::new(wish("child")),
    };
    let writes = vec![wait.into(), next.into()];
    let done = bench.processor.store().apply(writes).await.expect("answered");
    let Some(Ok(Done::Next(_, leases))) = done.get(1) else {
        panic!("{done:?}");
    };
    assert_eq!(leases[0].task.id, ids[0]);
    assert_eq!(bench.get(parent.task.id).await.status, Status::Blocked);
    let fence = leases[0].fence();
    bench
        .processor
        .complete(fence, Json::Null)
        .await
        .expect("it ends");
    assert_eq!(bench.get(parent.task.id).await.status, Status::Ready);
}

/// With nothing left to wait for, the parent keeps its lease.
pub async fn gather_of_ended_tasks_does_not_wait(bench: Bench) {
    let (parent, ids) = family(&bench, 1).await;
    end(&bench, ids[0], Status::Completed).await;
    assert!(gather(&bench, &parent, &ids, GatherPolicy::All).await.is_held());
    assert!(gather(&bench, &parent, &[], GatherPolicy::All).await.is_held());
    bench
        .processor
        .complete(parent.fence(), Json::Null)
        .await
        .expect("it is still the holder");
}

/// Only tasks below the waiter may be listed: no cycle can be built.
pub async fn gather_takes_descendants_only(bench: Bench) {
    let (parent, ids) = family(&bench, 1).await;
    let grandchild = bench.create(bench.task().with_parent(ids[0])).await.id;
    let stranger = bench.create(bench.task()).await.id;
    let child = bench
        .processor
        .claim(wish("child").with_task(ids[0]))
        .await
        .expect("answered")
        .remove(0);
    for (lease, other) in [
        (&parent, stranger),
        (&parent, parent.task.id),
        (&child, parent.task.id),
    ] {
        let refused = bench
            .processor
            .gather(lease.fence(), vec![other], GatherPolicy::All)
            .await;
        assert!(
            matches!(refused, Err(Error::Invalid { what: "tasks", .. })),
            "{refused:?}"
        );
    }
    let missing = bench
        .processor
        .gather(parent.fence(), vec![bench.id()], GatherPolicy::All)
        .await;
    assert!(matches!(missing, Err(Error::NotFound(_))));
    let head = gather(&bench, &parent, &[grandchild], GatherPolicy::All).await;
    assert_eq!(head.waiting_on, 1);
}

/// `All`: the waiter fails, but only when every listed task has ended.
pub async fn all_fails_when_all_have_ended(bench: Bench) {
    let (parent, ids) = family(&bench, 2).await;
    gather(&bench, &parent, &ids, GatherPolicy::All).await;
    end(&bench, ids[0], Status::Failed).await;
    assert_eq!(bench.get(parent.task.id).await.status, Status::Blocked);
    end(&bench, ids[1], Status::Completed).await;
    let failed = bench.get(parent.task.id).await;
    assert_eq!((failed.status, failed.waiting_on), (Status::Failed, 0));
    assert!(failed.error.is_some());
}

/// `FailFast`: the waiter fails with the first, and later ends of the others do not matter.
pub async fn fail_fast_fails_at_once(bench: Bench) {
    let (parent, ids) = family(&bench, 3).await;
    gather(&bench, &parent, &ids, GatherPolicy::FailFast).await;
    bench
        .processor
        .cancel(ids[1], CancelMode::Ask)
        .await
        .expect("cancelled");
    assert_eq!(bench.get(parent.task.id).await.status, Status::Failed);
    end(&bench, ids[0], Status::Completed).await;
    let failed = bench.get(parent.task.id).await;
    assert_eq!((failed.status, failed.open_children), (Status::Failed, 1));
}

/// `Settle`: the waiter goes on, however they ended.
pub async fn settle_goes_on(bench: Bench) {
    let (parent, ids) = family(&bench, 2).await;
    gather(&bench, &parent, &ids, GatherPolicy::Settle).await;
    end(&bench, ids[0], Status::Failed).await;
    end(&bench, ids[1], Status::Completed).await;
    assert_eq!(bench.get(parent.task.id).await.status, Status::Ready);
}

/// A failure rises through every waiter above it, in the same change.
pub async fn failures_rise_through_gathers(bench: Bench) {
    let (top, ids) = family(&bench, 1).await;
    let middle = bench
        .processor
        .claim(wish("child").with_task(ids[0]))
        .await
        .expect("answered")
        .remove(0);
    let leaf = bench.create(bench.task().with_parent(ids[0])).await.id;
    gather(&bench, &middle, &[leaf], GatherPolicy::FailFast).await;
    gather(&bench, &top, &[ids[0], leaf], GatherPolicy::All).await;
    end(&bench, leaf, Status::Failed).await;
    for id in [ids[0], top.task.id] {
        let task = bench.get(id).await;
        assert_eq!(
            (task.status, task.waiting_on, task.open_children),
            (Status::Failed, 0, 0)
        );
    }
}

/// A waiter that was cancelled is not woken.
pub async fn a_cancelled_waiter_stays_cancelled(bench: Bench) {
    let (parent, ids) = family(&bench, 1).await;
    gather(&bench, &parent, &ids, GatherPolicy::All).await;
    bench
        .processor
        .cancel(parent.task.id, CancelMode::Ask)
        .await
        .expect("cancelled");
    end(&bench, ids[0], Status::Completed).await;
    let task = bench.get(parent.task.id).await;
    assert_eq!(
        (task.status, task.waiting_on, task.open_children),
        (Status::Cancelled, 0, 0)
    );
}
