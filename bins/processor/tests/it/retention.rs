//! Several servers on one database, each of which removes what ended long ago.

use std::collections::BTreeMap;
use std::time::Duration;

use aion_processor::{EventQuery, PostgresOptions, PostgresTaskStore, Processor};
use aion_processor_server::{Archive, Retention};
use aion_sql::testkit::TestDatabase;
use aion_types::{EventKind, ManualClock};
use serde_json::json;

use crate::client::{Client, clock};
use crate::trees::{end, export, status_of, tree};

async fn store(database: &TestDatabase, clock: &ManualClock) -> PostgresTaskStore {
    let options = PostgresOptions::default()
        .with_clock(clock.clone())
        .with_connections(4);
    PostgresTaskStore::open(&database.url(), options).await.unwrap()
}

/// The trees that the log says were removed, and how often it says so.
async fn removed(processor: &Processor) -> BTreeMap<String, u32> {
    let (mut query, mut removed) = (EventQuery::default(), BTreeMap::new());
    query.limit = 1_000;
    loop {
        let page = processor.events_of(query).await.unwrap();
        if page.events.is_empty() {
            return removed;
        }
        for event in page.events {
            if event.kind == EventKind::Purged {
                *removed.entry(event.task_id.to_string()).or_default() += 1;
            }
        }
        query.after = page.next;
    }
}

/// Two servers that remove trees at once, into one folder: each tree is removed once, what is kept of it is whole, and
/// what must stay does.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_servers_keep_every_tree_once_and_whole() {
    let Some(database) = TestDatabase::create().await else {
        return;
    };
    let (clock, folder) = (clock(), tempfile::tempdir().unwrap());
    let client = Client::with(clock.clone(), store(&database, &clock).await, None);
    // Its root has ended, but not what is below.
    let open = tree(&client).await;
    client
        .ok(&format!("/v1/tasks/{}/cancel", open[0]), json!({}))
        .await;
    let mut exported = BTreeMap::new();
    let mut servers = Vec::new();
    for _ in 0..2 {
        let processor = Processor::new(store(&database, &clock).await);
        let archive = Archive::new(folder.path());
        let retention = Retention::new(processor, Duration::ZERO, Some(archive));
        servers.push(tokio::spawn(async move {
            // A failure would only be logged by `run`.
            loop {
                retention.round().await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }));
    }
    for _ in 0..4 {
        for _ in 0..8 {
            let ids = tree(&client).await;
            end(&client, &ids[0]).await;
            exported.insert(ids[0].clone(), export(&client, &ids[0]).await);
        }
        clock.advance_ms(1);
    }
    let gone = async {
        while removed(&client.processor).await.len() < exported.len() {
            assert!(
                servers.iter().all(|server| !server.is_finished()),
                "a round failed"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone)
        .await
        .expect("all trees go");
    // Rounds that had listed the last ones before come to their end.
    tokio::time::sleep(Duration::from_millis(200)).await;
    for server in servers {
        assert!(!server.is_finished(), "a round failed");
        server.abort();
    }
    let times = removed(&client.processor).await;
    assert!(times.values().all(|times| *times == 1), "{times:?}");
    let mut files = BTreeMap::new();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        files.insert(name, std::fs::read_to_string(path).unwrap());
    }
    let wanted = exported
        .into_iter()
        .map(|(root, lines)| (format!("{root}.jsonl"), lines));
    assert_eq!(files, wanted.collect::<BTreeMap<_, _>>());
    for (task, status) in open.iter().zip(["CANCELLED", "READY", "READY", "READY"]) {
        assert_eq!(status_of(&client, task).await, status);
    }
    drop(client);
    database.remove().await;
}
