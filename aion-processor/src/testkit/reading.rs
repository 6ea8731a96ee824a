//! Cases about messages, lists and the log.

use std::time::Duration;

use aion_types::{EventKind, Json, Role, Status, TaskId, ToolCall};
use futures::StreamExt;

use super::{Bench, wish};
use crate::{
    CancelMode, Cursor, Error, GatherPolicy, MessageQuery, NewMessage, NewTask, Order, Replay, Replayed,
    Retry, TaskQuery,
};

fn call() -> ToolCall {
    ToolCall {
        id: "call-1".into(),
        name: "read_file".into(),
        arguments: r#"{"path": "a"}"#.into(),
    }
}

/// Everything about a message comes back as it was given.
pub async fn messages_keep_everything(bench: Bench) {
    let id = bench.create(bench.task()).await.id;
    let persistence = Json::object([
        ("R_harm", Json::Float(2.379)),
        ("n", Json::Int(4)),
        ("own", Json::Bool(true)),
    ]);
    bench
        .processor
        .say(id, NewMessage::new(Role::User, "Read a, ünd \u{1f980} \0 too"))
        .await
        .expect("said");
    let fence = bench.claim().await.fence();
    let asked = NewMessage::new(Role::Assistant, "")
        .with_tool_calls(vec![call()])
        .with_persistence(persistence.clone());
    bench.processor.append(fence, asked).await.expect("appended");
    let answered = NewMessage::new(Role::Tool, "text").with_tool_call_id("call-1");
    bench.processor.append(fence, answered).await.expect("appended");
    let page = bench
        .processor
        .messages(id, MessageQuery::new())
        .await
        .expect("read");
    let [user, assistant, tool] = &page.messages[..] else {
        panic!("{page:?}")
    };
    assert_eq!(
        (user.seq, user.role, user.content.as_str()),
        (1, Role::User, "Read a, ünd \u{1f980} \0 too")
    );
    assert_eq!((assistant.seq, &assistant.tool_calls[..]), (2, &[call()][..]));
    assert_eq!(assistant.persistence, Some(persistence));
    assert_eq!((tool.seq, tool.tool_call_id.as_deref()), (3, Some("call-1")));
    assert_eq!(
        bench
            .kinds(id)
            .await
            .iter()
            .filter(|kind| **kind == EventKind::Message)
            .count(),
        3
    );
}

/// A repeated append gives the first message, even after the lease is gone.
pub async fn appending_with_a_key_happens_once(bench: Bench) {
    let id = bench.create(bench.task()).await.id;
    let fence = bench.claim().await.fence();
    let new = NewMessage::new(Role::Assistant, "once").with_key("step-1");
    let first = bench
        .processor
        .append(fence, new.clone())
        .await
        .expect("appended");
    let other = NewMessage::new(Role::Assistant, "twice").with_key("step-1");
    assert_eq!(
        bench.processor.append(fence, other).await.expect("repeated"),
        first
    );
    bench
        .processor
        .release(fence, Duration::ZERO)
        .await
        .expect("released");
    assert_eq!(bench.processor.append(fence, new).await.expect("repeated"), first);
    let page = bench
        .processor
        .messages(id, MessageQuery::new())
        .await
        .expect("read");
    assert_eq!(page.messages, [first]);
}

/// Pages in both directions hold every message once, in order.
pub async fn messages_are_paged_both_ways(bench: Bench) {
    let id = bench.create(bench.task()).await.id;
    for n in 0..25 {
        bench
            .processor
            .say(id, NewMessage::new(Role::User, n.to_string()))
            .await
            .expect("said");
    }
    for order in [Order::Oldest, Order::Newest] {
        let mut seen = Vec::new();
        let mut query = MessageQuery::new().with_order(order).with_limit(10);
        loop {
            let page = bench.processor.messages(id, query).await.expect("read");
            seen.extend(page.messages.iter().map(|message| message.seq));
            let Some(next) = page.next else { break };
            query.from = next;
        }
        if order == Order::Newest {
            seen.reverse();
        }
        assert_eq!(seen, (1..=25).collect::<Vec<u64>>());
    }
    let too_many = bench
        .processor
        .messages(id, MessageQuery::new().with_limit(1_001))
        .await;
    assert!(matches!(too_many, Err(Error::Limit { what: "limit", .. })));
}

/// A message over the limit is refused and leaves no trace.
pub async fn large_messages_are_refused(bench: Bench) {
    let id = bench.create(bench.task()).await.id;
    let before = bench.get(id).await;
    let large = NewMessage::new(Role::User, "x".repeat((1 << 20) + 1));
    let refused = bench.processor.say(id, large).await;
    assert!(matches!(refused, Err(Error::Limit { what: "message", .. })));
    assert_eq!(bench.get(id).await, before);
}

async fn listed(bench: &Bench, query: TaskQuery) -> Vec<TaskId> {
    let mut query = query.with_limit(3);
    let mut ids = Vec::new();
    loop {
        let page = bench.processor.tasks(query.clone()).await.expect("read");
        assert!(page.tasks.len() <= 3);
        ids.extend(page.tasks.iter().map(|task| task.id));
        match page.next {
            Some(cursor) => {
                query.cursor = Some(cursor.to_string().parse().expect("a cursor can be read again"));
            }
            None => return ids,
        }
    }
}

/// Searches by parent, tree, status, kind, queue and handler give exactly those tasks, in order.
pub async fn tasks_are_searched_and_paged(bench: Bench) {
    let root = bench.create(bench.task()).await.id;
    let mut children = Vec::new();
    for n in 0..8 {
        let kind = if n % 2 == 0 { "even" } else { "odd" };
        let new = NewTask {
            kind: kind.to_owned(),
            ..bench.task()
        }
        .with_parent(root)
        .with_queue("q");
        children.push(bench.create(new).await.id);
    }
    let other = bench.create(bench.task()).await.id;
    let taken = bench
        .processor
        .claim(wish("w").with_queues(["q"]).with_max(3))
        .await
        .expect("answered");
    let taken: Vec<_> = taken.iter().map(|lease| lease.task.id).collect();
    let all: Vec<_> = [root]
        .into_iter()
        .chain(children.clone())
        .chain([other])
        .collect();
    assert_eq!(listed(&bench, TaskQuery::new()).await, all);
    let newest: Vec<_> = all.iter().rev().copied().collect();
    assert_eq!(
        listed(&bench, TaskQuery::new().with_order(Order::Newest)).await,
        newest
    );
    assert_eq!(listed(&bench, TaskQuery::new().with_parent(root)).await, children);
    assert_eq!(listed(&bench, TaskQuery::new().with_root(root)).await, all[..9]);
    let even: Vec<_> = children.iter().step_by(2).copied().collect();
    assert_eq!(listed(&bench, TaskQuery::new().with_kind("even")).await, even);
    assert_eq!(listed(&bench, TaskQuery::new().with_queue("q")).await, children);
    assert_eq!(
        listed(&bench, TaskQuery::new().with_statuses([Status::Running])).await,
        taken
    );
    assert_eq!(
        listed(
            &bench,
            TaskQuery::new().with_statuses([Status::Ready, Status::Running])
        )
        .await,
        all
    );
    let handler = aion_types::HandlerId::new("w").expect("a name");
    assert_eq!(
        listed(&bench, TaskQuery::new().with_handler(handler)).await,
        taken
    );
    bench
        .processor
        .cancel(other, CancelMode::Ask)
        .await
        .expect("cancelled");
    bench.clock.advance_ms(5);
    bench
        .processor
        .cancel(root, CancelMode::Ask)
        .await
        .expect("cancelled");
    let ended = bench.processor.ended(10).await.expect("read");
    assert_eq!(
        ended.tasks.iter().map(|task| task.id).collect::<Vec<_>>(),
        [root, other]
    );
}

/// A cursor of the other direction, or of nowhere, is refused.
pub async fn foreign_cursors_are_refused(bench: Bench) {
    bench.create(bench.task()).await;
    bench.create(bench.task()).await;
    let page = bench
        .processor
        .tasks(TaskQuery::new().with_limit(1))
        .await
        .expect("read");
    let query = TaskQuery::new().with_order(Order::Newest).with_cursor(page.next);
    assert!(matches!(
        bench.processor.tasks(query).await,
        Err(Error::Invalid { what: "cursor", .. })
    ));
    for text in ["", "x", "o", "o-1", "offffffffffffffff", "ü1", "o1 "] {
        assert!(
            matches!(text.parse::<Cursor>(), Err(Error::Invalid { what: "cursor", .. })),
            "{text}"
        );
    }
}

/// The log is one list without holes; a reader that goes on from its cursor misses nothing.
pub async fn the_log_is_read_by_cursor(bench: Bench) {
    for _ in 0..5 {
        bench.create(bench.task()).await;
    }
    let first = bench.processor.events(0, 4).await.expect("read");
    assert_eq!(first.next, 4);
    bench.create(bench.task()).await;
    let rest = bench.processor.events(first.next, 100).await.expect("read");
    let seqs: Vec<_> = first
        .events
        .iter()
        .chain(&rest.events)
        .map(|event| event.seq)
        .collect();
    assert_eq!(seqs, (1..=12).collect::<Vec<u64>>());
    let nothing = bench.processor.events(rest.next, 100).await.expect("read");
    assert_eq!((nothing.events.len(), nothing.next), (0, 12));
    assert_eq!(
        bench
            .processor
            .events(u64::MAX, 1)
            .await
            .expect("read")
            .events
            .len(),
        0
    );
}

/// From the log alone, every task stands where the store says it does.
pub async fn the_log_replays(bench: Bench) {
    let parent = bench.claimed(bench.task()).await;
    let mut children = Vec::new();
    for _ in 0..4 {
        children.push(bench.create(bench.task().with_parent(parent.task.id)).await.id);
    }
    bench
        .processor
        .gather(parent.fence(), children[..2].to_vec(), GatherPolicy::All)
        .await
        .expect("waits");
    let leases = bench
        .processor
        .claim(wish("w").with_max(4))
        .await
        .expect("answered");
    bench
        .processor
        .complete(leases[0].fence(), Json::Null)
        .await
        .expect("completed");
    bench
        .processor
        .fail(leases[1].fence(), "no", Retry::Backoff)
        .await
        .expect("failed");
    bench
        .processor
        .cancel(leases[2].task.id, CancelMode::Force)
        .await
        .expect("cancelled");
    bench.clock.advance_ms(60_000);
    bench.processor.tick().await.expect("time is kept");
    let mut replay = Replay::default();
    for event in bench.processor.events(0, 1_000).await.expect("read").events {
        replay.push(&event).expect("it makes sense");
    }
    for task in bench.processor.tasks(TaskQuery::new()).await.expect("read").tasks {
        assert_eq!(replay.get(task.id), Some(&Replayed::from(&task)), "{task:?}");
    }
}

/// The number of tasks in each status is what counting them gives.
pub async fn counts_are_exact(bench: Bench) {
    for _ in 0..6 {
        bench.create(bench.task()).await;
    }
    let leases = bench
        .processor
        .claim(wish("w").with_max(3))
        .await
        .expect("answered");
    bench
        .processor
        .complete(leases[0].fence(), Json::Null)
        .await
        .expect("completed");
    bench
        .processor
        .fail(leases[1].fence(), "no", Retry::Never)
        .await
        .expect("failed");
    let counts = bench.processor.counts().await.expect("counted");
    let found =
        [Status::Ready, Status::Running, Status::Completed, Status::Failed].map(|status| counts.of(status));
    assert_eq!((found, counts.open()), ([3, 1, 1, 1], 4));
}

/// The evidence of a task counts its children, its retries and its assistant's tokens.
pub async fn evidence_is_gathered(bench: Bench) {
    let parent = bench.claimed(bench.task()).await;
    let id = parent.task.id;
    let summary = r#"{"R_mean":2.9,"R_min":1.6,"R_var":0.8,"R_min_token_idx":2,"R_harm":2.4,"R_geo":2.6,
        "frac_below_1":0.0,"reference":"uniform","n":4}"#;
    let persistence: Json = serde_json::from_str(summary).expect("it is JSON");
    let spoken = NewMessage::new(Role::Assistant, "so").with_persistence(persistence);
    bench
        .processor
        .append(parent.fence(), spoken)
        .await
        .expect("appended");
    let odd = NewMessage::new(Role::Assistant, "so").with_persistence(Json::from("not a summary"));
    bench
        .processor
        .append(parent.fence(), odd)
        .await
        .expect("appended");
    for n in 0..4 {
        let deadline = aion_types::Timestamp::from_ms(1_000_000 + n);
        bench
            .create(
                bench
                    .task()
                    .with_parent(id)
                    .with_deadline(deadline)
                    .with_queue("c"),
            )
            .await;
    }
    let children = bench
        .processor
        .claim(wish("w").with_queues(["c"]).with_max(2))
        .await
        .expect("answered");
    bench
        .processor
        .complete(children[0].fence(), Json::Null)
        .await
        .expect("completed");
    bench
        .processor
        .fail(children[1].fence(), "no", Retry::Never)
        .await
        .expect("failed");
    bench.clock.advance_ms(3);
    let evidence = bench.processor.evidence(id).await.expect("read");
    assert_eq!(evidence.messages, [(4, 2.4)]);
    assert_eq!(
        (
            evidence.completed_children,
            evidence.failed_children,
            evidence.blocked_children
        ),
        (1, 1, 0)
    );
    assert_eq!((evidence.overdue_children, evidence.retries), (1, 0));
    bench
        .processor
        .fail(parent.fence(), "again", Retry::AfterMs(0))
        .await
        .expect("failed");
    bench
        .processor
        .claim(wish("w").with_task(id))
        .await
        .expect("answered");
    assert_eq!(bench.processor.evidence(id).await.expect("read").retries, 1);
}

/// A listener is told that something became ready.
pub async fn hints_tell_of_commits(bench: Bench) {
    let mut hints = bench.processor.wake();
    bench.create(bench.task()).await;
    let hint = hints.next().await.expect("a hint");
    assert_eq!((hint.last_seq, hint.ready), (2, 1));
}

/// A waiting claim gets the task that comes while it waits, and gives up in time without one.
pub async fn claims_wait_for_work(bench: Bench) {
    let nothing = bench
        .processor
        .claim_wait(wish("w"), Duration::from_millis(20))
        .await
        .expect("answered");
    assert!(nothing.is_empty());
    let create = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        bench.create(bench.task()).await
    };
    let waiting = bench.processor.claim_wait(wish("w"), Duration::from_secs(30));
    let (leases, task) = tokio::join!(waiting, create);
    assert_eq!(leases.expect("answered")[0].task.id, task.id);
}

/// Whatever names a task that is not there says so.
pub async fn unknown_tasks_are_not_found(bench: Bench) {
    let id = bench.id();
    let p = &bench.processor;
    let fence = crate::Fence { task: id, epoch: 1 };
    assert!(matches!(p.get(id).await, Err(Error::NotFound(task)) if task == id));
    assert!(matches!(p.start(id).await, Err(Error::NotFound(_))));
    assert!(matches!(
        p.complete(fence, Json::Null).await,
        Err(Error::NotFound(_))
    ));
    assert!(matches!(
        p.cancel(id, CancelMode::Ask).await,
        Err(Error::NotFound(_))
    ));
    assert!(matches!(
        p.messages(id, MessageQuery::new()).await,
        Err(Error::NotFound(_))
    ));
    assert!(matches!(p.child_counts(id).await, Err(Error::NotFound(_))));
    assert!(matches!(
        p.say(id, NewMessage::new(Role::User, "?")).await,
        Err(Error::NotFound(_))
    ));
}
