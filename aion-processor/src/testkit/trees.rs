//! Cases about whole trees: searched, cancelled, copied, removed.

use std::time::Duration;

use aion_types::{EventKind, Json, MessageRecord, Role, Status, TaskId, Timestamp};
use futures::{StreamExt, stream};

use super::{Bench, wish};
use crate::{
    CancelMode, Done, Error, Limits, MemTaskStore, MessageQuery, NewMessage, NewTask, Op, Order, Piece,
    Processor, Replay, Replayed, TaskQuery,
};

/// A root with two children, one of which has `width` children of its own.
async fn tree(bench: &Bench, width: usize) -> Vec<TaskId> {
    let root = bench.create(bench.task()).await.id;
    let mut all = vec![root];
    for _ in 0..2 {
        all.push(bench.create(bench.task().with_parent(root)).await.id);
    }
    for _ in 0..width {
        all.push(bench.create(bench.task().with_parent(all[1])).await.id);
    }
    all
}

pub(super) async fn replays(processor: &Processor) {
    let mut replay = Replay::default();
    let mut after = 0;
    loop {
        let page = processor.events(after, 1_000).await.expect("read");
        for event in &page.events {
            replay.push(event).expect("it makes sense");
        }
        if page.events.is_empty() {
            break;
        }
        after = page.next;
    }
    let tasks = processor
        .tasks(TaskQuery::new().with_limit(1_000))
        .await
        .expect("read")
        .tasks;
    for task in &tasks {
        assert_eq!(replay.get(task.id), Some(&Replayed::from(task)), "{task:?}");
    }
    assert_eq!(replay.tasks().count(), tasks.len());
}

/// What is taken from its holders by force is not merely asked because somebody asks meanwhile, from whichever place.
pub async fn force_is_not_weakened(bench: Bench) {
    let all = tree(&bench, 150).await;
    let (root, middle) = (all[0], all[1]);
    let p = &bench.processor;
    let claim = wish("w").with_max(256);
    p.claim(claim).await.expect("answered");
    p.cancel_tree(middle, CancelMode::Force).await.expect("cancelled");
    let counts = p.counts().await.expect("counted");
    assert!(counts.of(Status::Running) > 50, "the rest waits for its turn");
    p.cancel_tree(middle, CancelMode::Ask).await.expect("asked");
    p.cancel_tree(root, CancelMode::Ask).await.expect("asked");
    while p.store().due(16).await.expect("time is kept").more {}
    for id in &all[3..] {
        assert_eq!(bench.get(*id).await.status, Status::Cancelled);
    }
    for id in [root, all[2]] {
        let task = bench.get(id).await;
        assert_eq!((task.status, task.cancel_requested), (Status::Running, true));
    }
    replays(p).await;
}

/// Everything below ends, however large and deep; a running task is asked; another tree goes on.
pub async fn trees_are_cancelled(bench: Bench) {
    let all = tree(&bench, 200).await;
    let other = bench.create(bench.task()).await.id;
    let held = bench
        .processor
        .claim(wish("w").with_task(all[5]))
        .await
        .expect("answered");
    let deep = bench.create(bench.task().with_parent(all[5])).await.id;
    let p = &bench.processor;
    let head = p.cancel_tree(all[0], CancelMode::Ask).await.expect("cancelled");
    assert_eq!(head.status, Status::Cancelled);
    while p.store().due(16).await.expect("time is kept").more {}
    for id in all.iter().chain([&deep]).filter(|id| **id != all[5]) {
        assert_eq!(bench.get(*id).await.status, Status::Cancelled, "{id}");
    }
    let asked = p.heartbeat(held[0].fence(), 1_000).await.expect("alive");
    assert!(asked.cancel_requested);
    assert_eq!(bench.get(other).await.status, Status::Ready);
    p.cancel_tree(all[0], CancelMode::Force).await.expect("again");
    while p.store().due(16).await.expect("time is kept").more {}
    assert_eq!(bench.get(all[5]).await.status, Status::Cancelled);
    assert_eq!(bench.get(all[1]).await.open_children, 0);
    replays(p).await;
}

/// Text is found in title and spec in either case, time by the half-open interval.
pub async fn texts_and_times_are_searched(bench: Bench) {
    let mut made = Vec::new();
    for (title, spec) in [
        ("Write the Report", ""),
        ("Other", "about the rePORT of 2026"),
        ("Other", "nothing"),
        ("100% sure_of \u{dc}ber", ""),
    ] {
        let new = NewTask::new(bench.id(), "test", title).with_spec(spec);
        made.push(bench.create(new).await.id);
        bench.clock.advance_ms(1_000);
    }
    let p = &bench.processor;
    let find = |query: TaskQuery| async {
        let mut query = query.with_limit(1);
        let mut found = Vec::new();
        loop {
            let page = p.tasks(query.clone()).await.expect("read");
            found.extend(page.tasks.iter().map(|task| task.id));
            query.cursor = page.next;
            if query.cursor.is_none() {
                return found;
            }
        }
    };
    assert_eq!(find(TaskQuery::new().with_text("report")).await, made[..2]);
    let newest = TaskQuery::new().with_text("REPORT").with_order(Order::Newest);
    assert_eq!(find(newest).await, [made[1], made[0]]);
    assert_eq!(find(TaskQuery::new().with_text("% sure_")).await, made[3..]);
    assert_eq!(find(TaskQuery::new().with_text("\u{dc}BER")).await, made[3..]);
    assert!(find(TaskQuery::new().with_text("%")).await.len() == 1);
    let at = |ms| Some(Timestamp::from_ms(ms));
    let between = TaskQuery::new().with_created(at(1_001_000), at(1_003_000));
    assert_eq!(find(between).await, made[1..3]);
    let ready = TaskQuery::new()
        .with_statuses([Status::Ready, Status::Running])
        .with_created(at(1_002_000), None);
    assert_eq!(find(ready).await, made[2..]);
}

/// A search that looks at many tasks in vain goes on over short pages and misses nothing.
pub async fn long_searches_go_on(bench: Bench) {
    const MANY: usize = 5_400;
    let mut writes = Vec::new();
    for _ in 0..MANY {
        writes.push(crate::Write::from(crate::Op::Create(Box::new(bench.task()))));
        if writes.len() == 900 {
            let batch = std::mem::take(&mut writes);
            bench.processor.store().apply(batch).await.expect("answered");
        }
    }
    let last = bench
        .create(NewTask::new(bench.id(), "test", "the needle"))
        .await
        .id;
    let query = TaskQuery::new().with_text("needle");
    let first = bench.processor.tasks(query.clone()).await.expect("read");
    assert!(first.tasks.is_empty() && first.next.is_some());
    let second = bench
        .processor
        .tasks(query.with_cursor(first.next))
        .await
        .expect("read");
    assert_eq!((second.tasks[0].id, second.next), (last, None));
}

/// A tree comes over with its ids, texts, messages and ends; what ran is ready; a second import
/// changes nothing.
pub async fn trees_move_between_stores(bench: Bench) {
    let all = tree(&bench, 3).await;
    let p = &bench.processor;
    let keyed = bench
        .task()
        .with_parent(all[1])
        .with_key("k")
        .with_concurrency("c", 2);
    let keyed = bench.create(keyed).await.id;
    let ran = bench
        .processor
        .claim(wish("w").with_task(all[2]))
        .await
        .expect("answered")[0]
        .fence();
    for n in 0..250 {
        let text = if n == 7 { "x".repeat(9_000) } else { n.to_string() };
        p.say(all[2], NewMessage::new(Role::User, text))
            .await
            .expect("said");
    }
    let done = bench
        .processor
        .claim(wish("w").with_task(all[3]))
        .await
        .expect("answered")[0]
        .fence();
    p.complete(done, Json::from("result")).await.expect("completed");
    let pieces: Vec<_> = p.export(all[0]).collect().await;
    let pieces: Vec<Piece> = pieces.into_iter().collect::<Result<_, _>>().expect("copied");
    let text: Vec<_> = pieces
        .iter()
        .map(|piece| serde_json::to_string(piece).expect("JSON"))
        .collect();

    let over = Processor::new(MemTaskStore::new(bench.clock.clone(), Limits::default()));
    for _ in 0..2 {
        let read = text
            .iter()
            .map(|line| Ok(serde_json::from_str(line).expect("JSON")));
        let read = stream::iter(read.collect::<Vec<_>>());
        assert_eq!(over.import(read, None).await.expect("taken over"), 7);
    }
    for id in all.iter().chain([&keyed]) {
        let (here, there) = (bench.get(*id).await, over.get(*id).await.expect("there"));
        assert_eq!(
            (here.title, here.parent_id, here.depth),
            (there.title, there.parent_id, there.depth)
        );
        assert_eq!(
            (here.result, here.created_at, here.finished_at),
            (there.result, there.created_at, there.finished_at)
        );
        assert_eq!(here.open_children, there.open_children);
    }
    let moved = over.get(all[2]).await.expect("there");
    assert_eq!((moved.status, moved.attempt), (Status::Ready, 0));
    assert!(moved.lease_epoch > ran.epoch);
    let query = MessageQuery::new().with_limit(1_000);
    let messages = over.messages(all[2], query).await.expect("read").messages;
    assert_eq!(messages, p.messages(all[2], query).await.expect("read").messages);
    replays(&over).await;

    // And back again, below a task of this store, under other ids' parent.
    let under = bench.create(bench.task()).await.id;
    let foreign = over.export(all[0]).collect::<Vec<_>>().await;
    let taken = p.import(stream::iter(foreign), Some(under)).await;
    assert!(matches!(taken, Ok(7)), "the ids are here already: {taken:?}");
    assert_eq!(bench.get(under).await.open_children, 0);
    replays(p).await;
}

/// A subtree may come below another task; malformed copies are refused.
pub async fn copies_are_checked(bench: Bench) {
    let other = Processor::new(MemTaskStore::new(bench.clock.clone(), Limits::default()));
    let root = NewTask::new(bench.id(), "test", "Root");
    let child = NewTask::new(bench.id(), "test", "Child").with_parent(root.id);
    other.create(root.clone()).await.expect("created");
    other.create(child.clone()).await.expect("created");
    let under = bench.create(bench.task()).await.id;
    let p = &bench.processor;
    p.import(other.export(child.id), Some(under))
        .await
        .expect("taken over");
    let moved = bench.get(child.id).await;
    assert_eq!(
        (moved.parent_id, moved.root_id, moved.depth),
        (Some(under), under, 1)
    );
    assert_eq!(bench.get(under).await.open_children, 1);
    let pieces: Vec<_> = other.export(root.id).take(1).collect().await;
    let Ok(Piece::Task(copy)) = &pieces[0] else {
        panic!("{pieces:?}")
    };
    for (n, wanted) in ["finished_at", "attempt", "title"].into_iter().enumerate() {
        let mut bad = copy.clone();
        match n {
            0 => bad.task.status = Status::Completed,
            1 => bad.task.attempt = 1_000,
            _ => bad.task.title = "x".repeat(2_000),
        }
        let refused = p.import(stream::iter([Ok(Piece::Task(bad))]), None).await;
        assert!(
            matches!(refused, Err(Error::Invalid { what, .. } | Error::Limit { what, .. }) if what == wanted),
            "{wanted}: {refused:?}"
        );
    }
    let unknown: Vec<_> = p.export(bench.id()).collect().await;
    assert!(matches!(&unknown[..], [Err(Error::NotFound(_))]));
}

/// Messages of a copy go to a task that came not long ago, and to no other; nothing comes into what is being removed.
pub async fn copies_stop_at_the_first_claim(bench: Bench) {
    let p = &bench.processor;
    let other = Processor::new(MemTaskStore::new(bench.clock.clone(), Limits::default()));
    let (one, two) = (bench.task(), bench.task());
    let mut said = Vec::new();
    for task in [&one, &two] {
        other.create(task.clone()).await.expect("created");
        for n in 0..3 {
            let message = NewMessage::new(Role::User, n.to_string());
            said.push(other.say(task.id, message).await.expect("said"));
        }
    }
    let import = |messages: &[MessageRecord]| {
        let op = Op::ImportMessages(messages.to_vec());
        async move {
            let done = p.store().apply(vec![op.into()]).await.expect("answered");
            done.into_iter().next().expect("one answer")
        }
    };
    let refused = |done: Result<Done, Error>| assert!(matches!(done, Err(Error::Conflict(_))), "{done:?}");
    let copy = |task| other.export(task).take(1);

    // Nobody claims what has not come as a whole; if the rest never comes it starts by itself.
    for (task, starts) in [(bench.task(), true), (bench.task(), false)] {
        other.create(task.clone()).await.expect("created");
        let pieces: Vec<_> = copy(task.id).collect().await;
        let Ok(Piece::Task(came)) = &pieces[0] else {
            panic!("{pieces:?}")
        };
        let came = Op::Import(came.clone());
        p.store()
            .apply(vec![came.into()])
            .await
            .expect("answered")
            .remove(0)
            .expect("taken over");
        assert_eq!(bench.get(task.id).await.status, Status::Preparing);
        assert!(p.claim(wish("w")).await.expect("answered").is_empty());
        if starts {
            // It was cut off here, and is repeated.
            p.import(stream::iter(pieces), None).await.expect("taken over");
        } else {
            bench.clock.advance_ms(10 * 60_000);
            p.tick().await.expect("time is kept");
        }
        let lease = bench.claim().await;
        assert_eq!(lease.task.id, task.id);
        p.complete(lease.fence(), Json::Null).await.expect("completed");
    }
    replays(p).await;

    let own = bench.create(bench.task()).await;
    let foreign = MessageRecord {
        task_id: own.id,
        ..said[0].clone()
    };
    refused(import(&[foreign]).await);
    assert_eq!(bench.get(own.id).await, own);

    p.import(copy(one.id), None).await.expect("taken over");
    import(&said[..1]).await.expect("taken over");
    let lease = p
        .claim(wish("w").with_task(one.id))
        .await
        .expect("answered")
        .remove(0);
    refused(import(&said[..2]).await);
    import(&said[..1]).await.expect("it is there already");
    p.release(lease.fence(), Duration::ZERO).await.expect("released");
    refused(import(&said[1..2]).await);
    let query = MessageQuery::new();
    let messages = p.messages(one.id, query).await.expect("read").messages;
    assert_eq!(messages, said[..1]);

    p.import(copy(two.id), None).await.expect("taken over");
    bench.clock.advance_ms(24 * 3_600_000);
    import(&said[3..4]).await.expect("nobody has looked at the clock");
    p.tick().await.expect("time is kept");
    refused(import(&said[3..5]).await);
    replays(p).await;

    p.cancel(two.id, CancelMode::Force).await.expect("cancelled");
    let below = bench.task();
    other.create(below.clone()).await.expect("created");
    let all = tree(&bench, 3).await;
    p.cancel_tree(all[0], CancelMode::Force).await.expect("cancelled");
    p.import(copy(below.id), Some(two.id))
        .await
        .expect("below a task that has ended");
    begin_removal(p, all[0]).await;
    let late = bench.task();
    other.create(late.clone()).await.expect("created");
    let late = p.import(copy(late.id), Some(all[0])).await;
    assert!(matches!(late, Err(Error::Conflict(_))), "{late:?}");
}

async fn begin_removal(processor: &Processor, root: TaskId) {
    let purge = Op::Purge {
        root,
        max: 1,
        version: None,
    };
    let done = processor.store().apply(vec![purge.into()]).await;
    done.expect("answered").remove(0).expect("begun");
}

/// A tree that has ended goes away with everything; the log says so and still replays.
pub async fn ended_trees_are_removed(bench: Bench) {
    let all = tree(&bench, 20).await;
    let stays = bench.create(bench.task()).await.id;
    let p = &bench.processor;
    p.say(all[1], NewMessage::new(Role::User, "x".repeat(9_000)))
        .await
        .expect("said");
    let open = p.purge(all[0]).await;
    assert!(matches!(open, Err(Error::IllegalTransition { .. })), "{open:?}");
    let inner = p.purge(all[1]).await;
    assert!(matches!(inner, Err(Error::Invalid { what: "root", .. })));
    p.cancel_tree(all[0], CancelMode::Force).await.expect("cancelled");
    let before = p.events(0, 1_000).await.expect("read").next;
    assert_eq!(p.purge(all[0]).await.expect("removed"), 23);
    for id in &all {
        assert_eq!(p.find(*id).await.expect("read"), None);
    }
    assert_eq!(p.counts().await.expect("counted").0.iter().sum::<u64>(), 1);
    let log = p.events(0, 1_000).await.expect("read").events;
    assert_eq!(
        log.last().map(|event| (event.kind, event.task_id)),
        Some((EventKind::Purged, all[0]))
    );
    assert_eq!(log.len(), 3, "two of the task that stays");
    assert!(log[2].seq > before, "numbers are not given out again");
    replays(p).await;
    let again = bench.create(NewTask::new(all[0], "test", "New")).await;
    assert_eq!(
        (again.status, bench.get(stays).await.status),
        (Status::Ready, Status::Ready)
    );
    assert!(matches!(p.purge(all[3]).await, Err(Error::NotFound(_))));
}

/// A removal that was cut off is finished by and by, and its tree is not archived again.
pub async fn removals_are_finished(bench: Bench) {
    let all = tree(&bench, 20).await;
    let p = &bench.processor;
    p.cancel_tree(all[0], CancelMode::Force).await.expect("cancelled");
    bench.clock.advance_ms(1_000);
    let purge = crate::Op::Purge {
        root: all[0],
        max: 5,
        version: None,
    };
    let done = p.store().apply(vec![purge.into()]).await.expect("answered");
    let step = crate::Purged {
        removed: 5,
        more: true,
    };
    assert!(matches!(done[0], Ok(crate::Done::Purged(purged)) if purged == step));
    let archived = p
        .retire(bench.clock_now(), async |root| -> Result<(), Error> {
            panic!("{root:?} again")
        })
        .await;
    assert!(matches!(archived, Ok(0)));
    let report = p.store().due(10).await.expect("time is kept");
    assert_eq!((report.removed, report.more), (10, true));
    while p.store().due(10).await.expect("time is kept").more {}
    assert_eq!(p.find(all[0]).await.expect("read"), None);
    assert_eq!(p.counts().await.expect("counted").0.iter().sum::<u64>(), 0);
    replays(p).await;
}

/// What ended long ago is archived and removed; what ended later, and what is not over, stays.
pub async fn old_trees_retire(bench: Bench) {
    let mut roots = Vec::new();
    for _ in 0..3 {
        roots.push(tree(&bench, 1).await);
    }
    let p = &bench.processor;
    p.cancel_tree(roots[0][0], CancelMode::Force)
        .await
        .expect("cancelled");
    p.cancel(roots[1][0], CancelMode::Force).await.expect("cancelled");
    bench.clock.advance_ms(10_000);
    p.cancel_tree(roots[2][0], CancelMode::Force)
        .await
        .expect("cancelled");
    let mut archive = Vec::new();
    let before = Timestamp::from_ms(1_005_000);
    let gone = p
        .retire(before, async |root| -> Result<(), Error> {
            archive.push(root.id);
            Ok(())
        })
        .await
        .expect("retired");
    assert_eq!((gone, &archive[..]), (1, &[roots[0][0]][..]));
    assert_eq!(p.find(roots[0][0]).await.expect("read"), None);
    assert!(
        p.find(roots[1][0]).await.expect("read").is_some(),
        "its children go on"
    );
    assert!(
        p.find(roots[2][0]).await.expect("read").is_some(),
        "it ended later"
    );
    let metrics = p.metrics().await.expect("read");
    assert!(!metrics.full && metrics.oldest_event.is_some());
    assert_eq!(
        metrics.oldest[Status::Ready as usize],
        Some(Timestamp::from_ms(1_000_000))
    );
    assert_eq!(metrics.last_seq, p.events(0, 1_000).await.expect("read").next);
}

/// A tree into which something comes while it is archived stays until all of it is archived; one that somebody else begins
/// to remove is left to that one.
pub async fn what_changes_does_not_retire(bench: Bench) {
    let p = &bench.processor;
    let other = Processor::new(MemTaskStore::new(bench.clock.clone(), Limits::default()));
    let late = other.create(bench.task()).await.expect("created").id;
    other
        .say(late, NewMessage::new(Role::User, "late"))
        .await
        .expect("said");
    other.cancel(late, CancelMode::Force).await.expect("cancelled");
    let (grown, raced) = (tree(&bench, 2).await[0], tree(&bench, 2).await[0]);
    for root in [grown, raced] {
        p.cancel_tree(root, CancelMode::Force).await.expect("cancelled");
    }
    bench.clock.advance_ms(1_000);
    let seen = p.get(grown).await.expect("read");
    let mut archived = Vec::new();
    let mut pieces: Vec<_> = other.export(late).collect().await;
    // The task, then a message into it: each alone is a change.
    for _ in 0..2 {
        let piece = pieces.remove(0);
        let gone = p.retire(bench.clock_now(), async |root| -> Result<(), Error> {
            archived.push(root.id);
            if root.id == raced {
                begin_removal(p, raced).await;
                return Ok(());
            }
            match piece.clone()? {
                task @ Piece::Task(_) => drop(p.import(stream::iter([Ok(task)]), Some(grown)).await?),
                Piece::Messages(messages) => {
                    let op = Op::ImportMessages(messages);
                    drop(p.store().apply(vec![op.into()]).await?.remove(0)?);
                }
                Piece::Steps(_) => panic!("it has none"),
            }
            Ok(())
        });
        assert_eq!(gone.await.expect("retired"), 0);
        assert!(p.find(grown).await.expect("read").is_some());
        assert!(!p.stands(&seen).await.expect("read"));
    }
    let times = |root| archived.iter().filter(|id| **id == root).count();
    assert_eq!((times(grown), times(raced), archived.len()), (2, 1, 3));
    let stale = p.purge_unchanged(&seen).await;
    assert!(matches!(stale, Err(Error::Conflict(_))), "{stale:?}");
    assert_eq!(bench.get(late).await.parent_id, Some(grown));
    let gone = p.retire(bench.clock_now(), async |_| -> Result<(), Error> { Ok(()) });
    assert_eq!(gone.await.expect("retired"), 1);
    while p.tick().await.expect("time is kept").more {}
    assert_eq!(p.counts().await.expect("counted").0.iter().sum::<u64>(), 0);
    replays(p).await;
}
