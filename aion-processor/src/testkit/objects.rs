//! Cases about objects and their calls.

use aion_types::Json;

use super::{Bench, wish};
use crate::{Call, CallMode, Error, Expect, NameQuery, PutObject};

fn body(n: i64) -> Json {
    Json::object([("n", Json::Int(n))])
}

/// Versions count up; a write that expects another one is refused and changes nothing.
pub async fn objects_compare_and_set(bench: Bench) {
    let p = &bench.processor;
    let put = |n, expect| PutObject::new("plan", body(n)).with_expect(expect);
    let first = p.put_object(put(1, Expect::Absent)).await.expect("put");
    assert_eq!((first.version, first.oldest, first.by), (1, 1, None));
    let taken = p.put_object(put(2, Expect::Absent)).await;
    assert!(matches!(taken, Err(Error::Conflict(_))));
    bench.clock.advance_ms(5);
    let second = p.put_object(put(2, Expect::Version(1))).await.expect("put");
    assert_eq!((second.version, second.created_at), (2, first.created_at));
    assert!(second.updated_at > first.updated_at);
    let stale = p.put_object(put(3, Expect::Version(1))).await;
    assert!(matches!(stale, Err(Error::Conflict(_))));
    let newest = p.object("plan", None).await.expect("read").expect("there");
    assert_eq!((newest.version, newest.body), (2, body(2)));
    let old = p.object("plan", Some(1)).await.expect("read").expect("kept");
    assert_eq!((old.version, old.body, old.head.version), (1, body(1), 2));
    let listed = p.objects(NameQuery::default()).await.expect("read");
    assert_eq!(listed, [second]);
    let refused = p.drop_object("plan", Expect::Version(1)).await;
    assert!(matches!(refused, Err(Error::Conflict(_))));
    p.drop_object("plan", Expect::Any).await.expect("dropped");
    assert!(p.object("plan", None).await.expect("read").is_none());
    let unknown = p.drop_object("plan", Expect::Any).await;
    assert!(matches!(unknown, Err(Error::Unknown { what: "object", .. })));
}

/// No version of a name comes twice, also if the object is removed and made again.
pub async fn versions_never_repeat(bench: Bench) {
    let p = &bench.processor;
    let put = |n, expect| PutObject::new("plan", body(n)).with_expect(expect);
    for n in 1..=3 {
        p.put_object(put(n, Expect::Any)).await.expect("put");
    }
    p.drop_object("plan", Expect::Version(3)).await.expect("dropped");
    let again = p.put_object(put(4, Expect::Absent)).await.expect("put");
    assert_eq!((again.version, again.oldest), (4, 4));
    assert!(p.object("plan", Some(3)).await.expect("read").is_none());
    for seen in 1..=3 {
        let stale = p.put_object(put(5, Expect::Version(seen))).await;
        assert!(matches!(stale, Err(Error::Conflict(_))), "{stale:?}");
        let stale = p.drop_object("plan", Expect::Version(seen)).await;
        assert!(matches!(stale, Err(Error::Conflict(_))), "{stale:?}");
        let stale = Call::new("plan", bench.task()).with_version(seen);
        assert!(matches!(p.call(stale).await, Err(Error::Conflict(_))));
    }
    let next = p.put_object(put(5, Expect::Version(4))).await.expect("put");
    assert_eq!((next.version, next.oldest), (5, 4));
    // A smaller one that goes changes nothing.
    let other = PutObject::new("other", body(1)).with_expect(Expect::Absent);
    assert_eq!(p.put_object(other).await.expect("put").version, 4);
    for name in ["plan", "other"] {
        p.drop_object(name, Expect::Any).await.expect("dropped");
    }
    assert_eq!(
        p.put_object(put(6, Expect::Absent)).await.expect("put").version,
        6
    );
    assert_eq!(p.objects(NameQuery::default()).await.expect("read").len(), 1);
}

/// Only so many versions are kept; holders write by their fence; too large is refused.
pub async fn objects_are_bounded(bench: Bench) {
    let p = &bench.processor;
    for n in 0..20 {
        p.put_object(PutObject::new("log", body(n))).await.expect("put");
    }
    let head = p.objects(NameQuery::default()).await.expect("read").remove(0);
    assert_eq!((head.version, head.oldest), (20, 5));
    assert!(p.object("log", Some(4)).await.expect("read").is_none());
    let kept = p.object("log", Some(5)).await.expect("read").expect("kept");
    assert_eq!(kept.body, body(4));
    let large = PutObject::new("log", "x".repeat((1 << 20) + 1).into());
    assert!(matches!(
        p.put_object(large).await,
        Err(Error::Limit { what: "body", .. })
    ));
    let lease = bench.claimed(bench.task()).await;
    let put = PutObject::new("log", body(9)).with_fence(lease.fence());
    assert_eq!(
        p.put_object(put.clone()).await.expect("put").by,
        Some(lease.task.id)
    );
    bench.clock.advance_ms(60_000);
    p.tick().await.expect("time is kept");
    assert!(matches!(p.put_object(put).await, Err(Error::LeaseLost { .. })));
    assert_eq!(
        p.object("log", None).await.expect("read").expect("there").version,
        21
    );
}

/// A call makes a child task that knows the object and its version; calling again gives the same.
pub async fn calls_make_tasks(bench: Bench) {
    let p = &bench.processor;
    p.put_object(PutObject::new("plan", body(1))).await.expect("put");
    let caller = bench.claimed(bench.task()).await;
    let task = bench.task().with_payload(Json::from("go")).with_key("call");
    let call = Call::new("plan", task).with_version(1).with_fence(caller.fence());
    let made = p.call(call.clone()).await.expect("called");
    assert_eq!(made.parent_id, Some(caller.task.id));
    let object = made.payload.get("object").expect("named");
    assert_eq!(object.get("name").and_then(Json::as_str), Some("plan"));
    assert_eq!(object.get("version"), Some(&Json::Int(1)));
    assert_eq!(made.payload.get("input"), Some(&Json::from("go")));
    p.put_object(PutObject::new("plan", body(2))).await.expect("put");
    assert_eq!(p.call(call).await.expect("repeated").id, made.id);
    let stale = Call::new("plan", bench.task()).with_version(1);
    assert!(matches!(p.call(stale).await, Err(Error::Conflict(_))));
    let unknown = Call::new("nothing", bench.task());
    assert!(matches!(
        p.call(unknown).await,
        Err(Error::Unknown { what: "object", .. })
    ));
    bench.clock.advance_ms(60_000);
    p.tick().await.expect("time is kept");
    let zombie = Call::new("plan", bench.task()).with_fence(caller.fence());
    assert!(matches!(p.call(zombie).await, Err(Error::LeaseLost { .. })));
}

/// Exclusive calls of one object run one after the other, beside shared ones.
pub async fn exclusive_calls_take_turns(bench: Bench) {
    let p = &bench.processor;
    p.put_object(PutObject::new("plan", body(1))).await.expect("put");
    let mut made = Vec::new();
    for mode in [CallMode::Exclusive, CallMode::Exclusive, CallMode::Shared] {
        let call = Call::new("plan", bench.task()).with_mode(mode);
        made.push(p.call(call).await.expect("called").id);
    }
    let leases = p.claim(wish("w").with_max(9)).await.expect("answered");
    let taken: Vec<_> = leases.iter().map(|lease| lease.task.id).collect();
    assert_eq!(taken, [made[0], made[2]]);
    p.complete(leases[0].fence(), Json::Null)
        .await
        .expect("completed");
    let next = p.claim(wish("w").with_max(9)).await.expect("answered");
    assert_eq!(next[0].task.id, made[1]);
    let own = bench.task().with_concurrency("mine", 1);
    let both = Call::new("plan", own).with_mode(CallMode::Exclusive);
    assert!(matches!(
        p.call(both).await,
        Err(Error::Invalid {
            what: "concurrency",
            ..
        })
    ));
}
