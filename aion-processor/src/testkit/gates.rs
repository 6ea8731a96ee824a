//! Cases about what primitives are told: events, timestamp locks, queues.

use aion_types::{Json, Status, Timestamp};

use super::Bench;
use super::lines::{again, declare, leases, status, take, wait};
use crate::{Error, NewPrimitive, PrimitiveKind, Return, Signal};

/// An event that is set lets everybody through until it is reset; a pulse lets through whoever waits.
pub async fn events_are_set_and_pulsed(bench: Bench) {
    declare(&bench, "go", PrimitiveKind::Event).await;
    let all = leases(&bench, 3).await;
    wait(&bench, all[0].fence(), "go").await;
    bench.processor.signal("go", Signal::Pulse).await.expect("told");
    assert_eq!(status(&bench, all[0].task.id).await, Status::Ready);
    wait(&bench, all[1].fence(), "go").await;
    bench.processor.signal("go", Signal::Set).await.expect("told");
    assert_eq!(status(&bench, all[1].task.id).await, Status::Ready);
    take(&bench, all[2].fence(), "go").await;
    bench.processor.signal("go", Signal::Reset).await.expect("told");
    let late = bench.claimed(bench.task()).await;
    wait(&bench, late.fence(), "go").await;
    let fence = again(&bench, all[0].task.id).await;
    let pass = take(&bench, fence, "go").await;
    bench
        .processor
        .give_back(fence, &pass, Return::Done)
        .await
        .expect("given back");
    wait(&bench, fence, "go").await;
}

/// However many wait, all of them pass in the end, also those who waited when it was shut again; whoever
/// comes later does not.
pub async fn a_crowd_passes_a_gate(bench: Bench) {
    declare(&bench, "go", PrimitiveKind::Event).await;
    let all = leases(&bench, 150).await;
    for lease in &all {
        wait(&bench, lease.fence(), "go").await;
    }
    bench.processor.signal("go", Signal::Set).await.expect("told");
    bench.processor.signal("go", Signal::Reset).await.expect("told");
    let late = bench.claimed(bench.task()).await;
    wait(&bench, late.fence(), "go").await;
    while bench.processor.store().due(1).await.expect("time is kept").more {}
    for lease in &all {
        assert_eq!(status(&bench, lease.task.id).await, Status::Ready);
    }
    assert_eq!(status(&bench, late.task.id).await, Status::Blocked);
    assert_eq!(bench.processor.primitive("go").await.expect("there").waiting, 1);
}

/// The way through a gate outlives a lost lease: the next holder need not wait for another pulse.
pub async fn passes_outlive_the_lease(bench: Bench) {
    declare(&bench, "go", PrimitiveKind::Event).await;
    let lease = bench.claimed(bench.task()).await;
    wait(&bench, lease.fence(), "go").await;
    bench.processor.signal("go", Signal::Pulse).await.expect("told");
    again(&bench, lease.task.id).await;
    bench.clock.advance_ms(60_000);
    bench.processor.tick().await.expect("time is kept");
    let fence = again(&bench, lease.task.id).await;
    take(&bench, fence, "go").await;
    bench
        .processor
        .complete(fence, Json::Null)
        .await
        .expect("completed");
    assert_eq!(bench.processor.primitive("go").await.expect("there").held, 0);
}

/// A timestamp lock opens at its moment, by itself.
pub async fn a_timestamp_lock_opens_by_itself(bench: Bench) {
    declare(&bench, "quota", PrimitiveKind::TimestampLock).await;
    let all = leases(&bench, 2).await;
    take(&bench, all[0].fence(), "quota").await;
    let until = Timestamp::from_ms(1_030_000);
    let shut = bench.processor.signal("quota", Signal::ShutUntil(until)).await;
    assert_eq!(shut.expect("told").until, Some(until));
    wait(&bench, all[1].fence(), "quota").await;
    bench.clock.advance_ms(29_999);
    bench.processor.tick().await.expect("time is kept");
    assert_eq!(status(&bench, all[1].task.id).await, Status::Blocked);
    bench.clock.advance_ms(1);
    bench.processor.tick().await.expect("time is kept");
    assert_eq!(status(&bench, all[1].task.id).await, Status::Ready);
    let next = bench.claimed(bench.task()).await;
    take(&bench, next.fence(), "quota").await;
}

/// Items go out in order, one to a task; they wait for tasks, and tasks for them.
pub async fn a_queue_hands_out_items(bench: Bench) {
    declare(&bench, "mail", PrimitiveKind::Queue { capacity: 2 }).await;
    let p = &bench.processor;
    for item in ["a", "b"] {
        p.signal("mail", Signal::Put(item.into())).await.expect("put");
    }
    let full = p.signal("mail", Signal::Put("c".into())).await;
    assert!(matches!(
        full,
        Err(Error::Limit {
            what: "items",
            limit: 2,
            got: 3
        })
    ));
    let all = leases(&bench, 4).await;
    let first = take(&bench, all[0].fence(), "mail").await;
    assert_eq!(first.item, Some("a".into()));
    assert_eq!(take(&bench, all[1].fence(), "mail").await.item, Some("b".into()));
    wait(&bench, all[2].fence(), "mail").await;
    wait(&bench, all[3].fence(), "mail").await;
    p.signal("mail", Signal::Put("c".into())).await.expect("put");
    let fence = again(&bench, all[2].task.id).await;
    assert_eq!(take(&bench, fence, "mail").await.item, Some("c".into()));
    p.give_back(all[0].fence(), &first, Return::Done)
        .await
        .expect("done");
    assert_eq!(status(&bench, all[3].task.id).await, Status::Blocked, "a is gone");
    assert_eq!(p.primitive("mail").await.expect("there").items, 0);
    items_are_put_once(p).await;
}

/// Under a key that the queue knows an item is put once, and no other.
async fn items_are_put_once(p: &crate::Processor) {
    let kind = PrimitiveKind::Queue { capacity: 99 };
    p.declare(NewPrimitive::new("post", kind))
        .await
        .expect("declared");
    let put = async |key: &str, item: &str| {
        let (key, item) = (key.to_owned(), item.into());
        p.signal("post", Signal::PutOnce { key, item }).await
    };
    for _ in 0..3 {
        assert_eq!(put("k", "a").await.expect("put").items, 1);
    }
    let other = put("k", "b").await;
    assert!(matches!(other, Err(Error::Conflict(_))), "{other:?}");
    for n in 0..64 {
        put(&format!("k{n}"), "a").await.expect("put");
    }
    let full = put("k", "b").await.expect("forgotten by now");
    assert_eq!((full.items, full.puts.len()), (66, 64));
}

/// An item that was not dealt with goes back to its place.
pub async fn items_go_back_to_their_place(bench: Bench) {
    declare(&bench, "mail", PrimitiveKind::Queue { capacity: 9 }).await;
    let p = &bench.processor;
    for item in ["a", "b"] {
        p.signal("mail", Signal::Put(item.into())).await.expect("put");
    }
    let lease = bench.claimed(bench.task()).await;
    let grant = take(&bench, lease.fence(), "mail").await;
    p.give_back(lease.fence(), &grant, Return::Undone)
        .await
        .expect("given back");
    let lost = take(&bench, lease.fence(), "mail").await;
    assert_eq!(lost.item, Some("a".into()));
    bench.clock.advance_ms(60_000);
    p.tick().await.expect("time is kept");
    let other = bench.claimed(bench.task()).await;
    let a = take(&bench, other.fence(), "mail").await;
    assert_eq!(a.item, Some("a".into()));
    p.complete(other.fence(), Json::Null).await.expect("completed");
    let last = bench.claimed(bench.task()).await;
    assert_eq!(take(&bench, last.fence(), "mail").await.item, Some("b".into()));
}
