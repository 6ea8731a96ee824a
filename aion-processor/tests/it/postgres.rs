//! The conformance suite on Postgres, and what only a server that several processes share can do.

use std::collections::BTreeMap;
use std::time::Duration;

use aion_processor::{
    CancelMode, ClaimReq, Done, Error, EventPage, EventQuery, NewMessage, NewTask, Op, Page, PostgresOptions,
    PostgresTaskStore, Processor, Query, Start, TaskQuery, TaskStore, Write, task_store_tests,
    webhook_store_tests,
};
use aion_sql::testkit::TestDatabase;
use aion_types::{Clock, HandlerId, Json, Role, Status, SystemClock, TaskId};
use futures::StreamExt;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// Removes the database when the test ends, however it does.
pub(crate) struct Kept(Option<TestDatabase>);

impl Drop for Kept {
    fn drop(&mut self) {
        let Some(database) = self.0.take() else { return };
        let remove = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(database.remove());
        };
        std::thread::spawn(remove).join().unwrap();
    }
}

pub(crate) async fn database() -> Option<Kept> {
    TestDatabase::create().await.map(|database| Kept(Some(database)))
}

impl Kept {
    pub(crate) fn url(&self) -> String {
        self.0.as_ref().unwrap().url()
    }

    async fn open(&self) -> PostgresTaskStore {
        PostgresTaskStore::open(&self.url(), PostgresOptions::default())
            .await
            .unwrap()
    }

    /// Somebody who speaks to the server without a store.
    async fn connect(&self) -> PgConnection {
        let mut conn = PgConnection::connect(&self.url()).await.unwrap();
        tell(&mut conn, "SET search_path = aion_processor").await;
        conn
    }
}

async fn tell(conn: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(conn)
        .await
        .unwrap();
}

mod kit {
    use super::*;

    fn is_skipped() -> bool {
        std::env::var(aion_sql::testkit::VARIABLE).is_ok_and(|url| url == "skip")
    }

    task_store_tests!({
        if is_skipped() {
            // Says so.
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            assert!(runtime.block_on(TestDatabase::create()).is_none());
            return;
        }
        |clock, limits| async {
            let kept = database().await.unwrap();
            let options = PostgresOptions::default()
                .with_clock(clock)
                .with_limits(limits)
                .with_connections(4);
            let store = PostgresTaskStore::open(&kept.url(), options).await.unwrap();
            (store, kept)
        }
    });
    webhook_store_tests!({
        if is_skipped() {
            // Says so.
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            assert!(runtime.block_on(TestDatabase::create()).is_none());
            return;
        }
        |clock, limits| async {
            let kept = database().await.unwrap();
            let options = PostgresOptions::default()
                .with_clock(clock)
                .with_limits(limits)
                .with_connections(4);
            let store = PostgresTaskStore::open(&kept.url(), options).await.unwrap();
            (store, kept)
        }
    });
}

fn task() -> NewTask {
    NewTask::new(TaskId::generate(SystemClock.now()), "test", "A task")
}

fn create(task: NewTask) -> Write {
    Write::from(Op::Create(Box::new(task)))
}

fn wish(handler: &str, max: u32) -> ClaimReq {
    ClaimReq::new(HandlerId::new(handler).unwrap()).with_max(max)
}

async fn events(store: &PostgresTaskStore, after: u64, limit: u32) -> EventPage {
    let query = EventQuery {
        after,
        limit,
        ..EventQuery::default()
    };
    match store.read(Query::Events(query)).await.unwrap() {
        Page::Events(page) => page,
        other => panic!("{other:?}"),
    }
}

/// Claims until nothing is left, completes what it got, and says which epochs it had.
async fn drain(store: std::sync::Arc<PostgresTaskStore>, name: String) -> Vec<(TaskId, u64)> {
    let mut had = Vec::new();
    loop {
        let leases = store.claim(wish(&name, 3)).await.unwrap();
        if leases.is_empty() {
            return had;
        }
        had.extend(leases.iter().map(|lease| (lease.task.id, lease.epoch)));
        let writes = leases.iter().map(|lease| {
            Write::from(Op::Complete {
                fence: lease.fence(),
                result: Json::Null,
            })
        });
        for done in store.apply(writes.collect()).await.unwrap() {
            done.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_never_claim_one_task_twice() {
    const TASKS: usize = 300;
    let Some(kept) = database().await else { return };
    let stores = [kept.open().await, kept.open().await].map(std::sync::Arc::new);
    let made = stores[0]
        .apply((0..TASKS).map(|_| create(task())).collect())
        .await
        .unwrap();
    assert!(made.iter().all(Result::is_ok));
    let workers: Vec<_> = (0..16)
        .map(|n| tokio::spawn(drain(stores[n % 2].clone(), format!("w{n}"))))
        .collect();
    let mut claims = BTreeMap::<TaskId, Vec<u64>>::new();
    let mut by_store = [0, 0];
    for (n, worker) in workers.into_iter().enumerate() {
        for (task, epoch) in worker.await.unwrap() {
            by_store[n % 2] += 1;
            claims.entry(task).or_default().push(epoch);
        }
    }
    assert_eq!(claims.len(), TASKS);
    assert!(claims.values().all(|epochs| epochs == &[1]), "{claims:?}");
    assert!(by_store.iter().all(|claims| *claims > 0), "{by_store:?}");
    let Page::Counts(counts) = stores[1].read(Query::Counts).await.unwrap() else {
        panic!("counts were asked for");
    };
    assert_eq!(counts.of(Status::Completed), TASKS as u64);
    assert_eq!(counts.open(), 0);
}

/// A transaction of another process has its numbers but has not committed: nobody may step over them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cursor_does_not_step_over_a_late_commit() {
    let Some(kept) = database().await else { return };
    let store = std::sync::Arc::new(kept.open().await);
    store.apply(vec![create(task())]).await.unwrap()[0]
        .as_ref()
        .unwrap();
    let start = events(&store, 0, 100).await;
    let mut late = kept.connect().await;
    tell(
        &mut late,
        "BEGIN; SELECT last_seq FROM state WHERE id = 1 FOR UPDATE",
    )
    .await;
    let insert = "INSERT INTO event SELECT s.last_seq + 1, e.task, e.root, 'heartbeat', '{}', e.at FROM state s, event e \
         WHERE e.seq = 1";
    tell(&mut late, &insert.replace("heartbeat", "message")).await;
    tell(&mut late, "UPDATE state SET last_seq = last_seq + 1").await;
    let writer = store.clone();
    let quick = tokio::spawn(async move { writer.apply(vec![create(task())]).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!quick.is_finished(), "a commit overtook an earlier one");
    let between = events(&store, start.next, 100).await;
    assert_eq!(between.events, []);
    tell(&mut late, "COMMIT").await;
    quick.await.unwrap().unwrap()[0].as_ref().unwrap();
    let after = events(&store, between.next, 100).await;
    let seqs: Vec<u64> = after.events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, [start.next + 1, start.next + 2, start.next + 3]);
    assert_eq!(after.events[0].kind.as_str(), "message");
}

/// While two processes write, a reader goes along with small pages; it misses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_sees_every_event_in_order() {
    let Some(kept) = database().await else { return };
    let stores = [kept.open().await, kept.open().await].map(std::sync::Arc::new);
    let writers: Vec<_> = (0..8)
        .map(|n| {
            let store = stores[n % 2].clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    store.apply(vec![create(task())]).await.unwrap()[0]
                        .as_ref()
                        .unwrap();
                }
            })
        })
        .collect();
    let (mut cursor, mut seen) = (0, Vec::new());
    while seen.len() < 8 * 20 * 2 {
        let page = events(&stores[0], cursor, 7).await;
        seen.extend(page.events.iter().map(|event| event.seq));
        cursor = page.next;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(seen, (1..=320).collect::<Vec<u64>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_reach_other_processes() {
    let Some(kept) = database().await else { return };
    let (here, there) = (kept.open().await, kept.open().await);
    let mut hints = there.wake();
    let heard = async {
        loop {
            // A hint may be lost while the other one is not listening yet.
            here.apply(vec![create(task())]).await.unwrap()[0]
                .as_ref()
                .unwrap();
            let hint = tokio::time::timeout(Duration::from_millis(300), hints.next()).await;
            if let Ok(Some(wake)) = hint {
                return wake;
            }
        }
    };
    let wake = tokio::time::timeout(Duration::from_secs(20), heard)
        .await
        .unwrap();
    assert!(wake.ready >= 1 && wake.last_seq >= 2, "{wake:?}");
}

#[tokio::test]
async fn a_newer_or_foreign_schema_is_refused() {
    let Some(kept) = database().await else { return };
    kept.open().await.close().await;
    let mut other = kept.connect().await;
    tell(&mut other, "UPDATE schema_version SET version = 99").await;
    let newer = PostgresTaskStore::open(&kept.url(), PostgresOptions::default()).await;
    assert!(
        matches!(
            newer,
            Err(Error::NewerDatabase {
                found: 99,
                newest: 2..
            })
        ),
        "{newer:?}"
    );
    tell(&mut other, "DROP TABLE schema_version").await;
    let foreign = PostgresTaskStore::open(&kept.url(), PostgresOptions::default()).await;
    assert!(matches!(foreign, Err(Error::Corrupt(_))), "{foreign:?}");
}

/// A database of the first version is brought to the newest, and what is new works in it.
#[tokio::test]
async fn the_first_version_opens() {
    let Some(kept) = database().await else { return };
    let mut old = PgConnection::connect(&kept.url()).await.unwrap();
    let stamp = "CREATE SCHEMA aion_processor; SET search_path = aion_processor; \
                 CREATE TABLE schema_version (version BIGINT NOT NULL); INSERT INTO schema_version VALUES (1)";
    tell(&mut old, stamp).await;
    tell(
        &mut old,
        include_str!("../../src/store/postgres/migrations/0001_task_tree.sql"),
    )
    .await;
    let uid = "decode(replace('01890000-0000-7000-8000-00000000000a', '-', ''), 'hex')";
    let row = format!(
        "INSERT INTO task SELECT 1, {uid}, {uid}, NULL, 0, 'old', 'default', 1, 5, 1, NULL, 0, NULL, 0, 3, 0, NULL, NULL, \
         false, 0, 0, NULL, false, 0, 2, 7, 7, NULL, NULL, NULL, false, 0, false, 'key'; \
         INSERT INTO task_body VALUES (1, 'Old', 'spec', '42', NULL, NULL); \
         UPDATE state SET last_seq = 1, last_ord = 1, ready = 1"
    );
    tell(&mut old, &row).await;
    let store = kept.open().await;
    assert!(store.open_schema().await.unwrap().version > 1);
    let processor = Processor::new(store);
    processor.create(task()).await.unwrap();
    let found = processor.tasks(TaskQuery::new().with_kind("old")).await.unwrap();
    assert_eq!(found.tasks[0].title, "Old");
    let again = task().with_key("key");
    let there = processor.create(again).await.unwrap();
    assert_eq!(there.id, found.tasks[0].id);
    let old = processor.claim(wish("new", 1)).await.unwrap().remove(0);
    assert_eq!((old.task.id, &old.task.payload), (there.id, &Json::Int(42)));
    processor.complete(old.fence(), Json::Null).await.unwrap();
    let lease = processor.claim(wish("new", 1)).await.unwrap().remove(0);
    let step = processor
        .step(lease.fence(), "charged", Json::Int(7))
        .await
        .unwrap();
    assert_eq!((step.seq, step.result), (1, Json::Int(7)));
}

/// What a writer remembers is worth nothing once another one has written: neither who holds what nor that nothing is
/// ready.
#[tokio::test]
async fn what_others_wrote_is_not_overlooked() {
    let Some(kept) = database().await else { return };
    let (here, there) = (kept.open().await, kept.open().await);
    let there = Processor::new(there);
    let here = Processor::new(here);
    for _ in 0..3 {
        here.create(task()).await.unwrap();
    }
    let leases = here.claim(wish("w", 3)).await.unwrap();
    here.complete(leases[0].fence(), Json::Null).await.unwrap();
    there.cancel(leases[1].task.id, CancelMode::Force).await.unwrap();
    let late = here.complete(leases[1].fence(), Json::Null).await;
    assert!(matches!(late, Err(Error::LeaseLost { .. })), "{late:?}");
    here.complete(leases[2].fence(), Json::Null).await.unwrap();
    assert_eq!(here.claim(wish("w", 1)).await.unwrap(), []);
    let new = there.create(task()).await.unwrap();
    assert_eq!(here.claim(wish("w", 1)).await.unwrap()[0].task.id, new.id);
    let page = here.events(0, 100).await.unwrap();
    let seqs: Vec<u64> = page.events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=15).collect::<Vec<u64>>());
}

/// A server that has no room says so in a statement, and the whole transaction is undone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_stops_claims_until_it_has_room() {
    let Some(kept) = database().await else { return };
    let store = kept.open().await;
    store.apply(vec![create(task())]).await.unwrap()[0]
        .as_ref()
        .unwrap();
    let mut other = kept.connect().await;
    tell(
        &mut other,
        "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$; \
         CREATE TRIGGER no_room BEFORE INSERT ON event EXECUTE FUNCTION no_room()",
    )
    .await;
    let full = store.apply(vec![create(task()), create(task())]).await.unwrap();
    assert!(
        full.iter().all(|done| matches!(done, Err(Error::Full))),
        "{full:?}"
    );
    for _ in 0..3 {
        let claimed = store.claim(wish("w", 1)).await;
        assert!(matches!(claimed, Err(Error::Full)), "{claimed:?}");
    }
    let is_full = async || match store.read(Query::Metrics).await.unwrap() {
        Page::Metrics(metrics) => metrics.full,
        other => panic!("{other:?}"),
    };
    assert!(is_full().await);
    tell(&mut other, "DROP TRIGGER no_room ON event").await;
    let again = async {
        loop {
            match store.claim(wish("w", 1)).await {
                Ok(leases) => return leases,
                Err(Error::Full) => tokio::time::sleep(Duration::from_millis(100)).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let leases = tokio::time::timeout(Duration::from_secs(10), again)
        .await
        .unwrap();
    assert_eq!((leases.len(), leases[0].epoch), (1, 1));
    assert!(!is_full().await);
}

/// What the server refuses to store does not take along what shares its commit.
#[tokio::test]
async fn one_failure_leaves_the_others() {
    let Some(kept) = database().await else { return };
    let store = kept.open().await;
    let mut other = kept.connect().await;
    tell(&mut other, "ALTER TABLE task ADD CHECK (kind <> 'refused')").await;
    let mut bad = task();
    bad.kind = "refused".to_owned();
    let done = store
        .apply(vec![create(task()), create(bad.clone()), create(task())])
        .await
        .unwrap();
    assert!(done[0].is_ok() && done[2].is_ok(), "{done:?}");
    assert!(matches!(done[1], Err(Error::Corrupt(_))), "{done:?}");
    let none = store.read(Query::Task(bad.id)).await.unwrap();
    assert!(matches!(none, Page::Task(None)), "{none:?}");
    assert_eq!(events(&store, 0, 100).await.events.len(), 4);
}

/// The server ends every connection; the store makes new ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_is_made_again() {
    let Some(kept) = database().await else { return };
    let store = kept.open().await;
    store.apply(vec![create(task())]).await.unwrap()[0]
        .as_ref()
        .unwrap();
    let mut other = kept.connect().await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()";
    tell(&mut other, end).await;
    let lost = store.apply(vec![create(task())]).await.unwrap();
    assert!(matches!(&lost[0], Err(error) if error.is_unknown()), "{lost:?}");
    let made = store.apply(vec![create(task())]).await.unwrap();
    assert!(made[0].is_ok(), "{made:?}");
    assert_eq!(store.claim(wish("w", 10)).await.unwrap().len(), 2);
}

/// Postgres keeps no character 0; the store does.
#[tokio::test]
async fn every_character_is_kept() {
    let Some(kept) = database().await else { return };
    let processor = Processor::new(kept.open().await);
    let odd = "a\0b\u{1}c\u{1}\u{2}\u{1}\u{3}\u{0}";
    let mut new = task().with_payload(odd.into());
    new.title = odd.to_owned();
    new.spec = odd.to_owned();
    let id = new.id;
    processor.create(new).await.unwrap();
    processor.say(id, NewMessage::new(Role::User, odd)).await.unwrap();
    let lease = processor.claim(wish("w", 1)).await.unwrap().remove(0);
    let (title, spec) = (lease.task.title.clone(), lease.task.spec.clone());
    assert_eq!(
        (title.as_str(), spec.as_str(), &lease.task.payload),
        (odd, odd, &odd.into())
    );
    processor.complete(lease.fence(), odd.into()).await.unwrap();
    let read = processor.get(id).await.unwrap();
    assert_eq!((read.title.as_str(), read.result), (odd, Some(odd.into())));
    let said = processor.messages(id, Default::default()).await.unwrap();
    assert_eq!(said.messages[0].content, odd);
}

/// Without another clock, leases run by the server's.
#[tokio::test]
async fn time_is_the_servers() {
    let Some(kept) = database().await else { return };
    let store = kept.open().await;
    let mut other = kept.connect().await;
    let ms = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    let before: i64 = sqlx::query_scalar(ms).fetch_one(&mut other).await.unwrap();
    let now = store.now().await.unwrap().as_ms();
    let mut held = task();
    held.start = Start::At(aion_types::Timestamp::from_ms(before - 1));
    let done = store.apply(vec![create(held)]).await.unwrap();
    let lease = store
        .claim(wish("w", 1).with_lease_ms(60_000))
        .await
        .unwrap()
        .remove(0);
    let after: i64 = sqlx::query_scalar(ms).fetch_one(&mut other).await.unwrap();
    assert!((before..=after).contains(&now), "{before} {now} {after}");
    let until = lease.until.as_ms() - 60_000;
    assert!((before..=after).contains(&until), "{before} {until} {after}");
    assert!(
        matches!(&done[0], Ok(Done::Record(record)) if record.status == Status::Ready),
        "{done:?}"
    );
}
