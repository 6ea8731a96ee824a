//! Files of older versions: each opens, and what is in it goes on.

use std::path::{Path, PathBuf};

use aion_processor::{
    ClaimOrder, ClaimReq, Fence, Processor, SqliteOptions, SqliteTaskStore, StepQuery, TaskStore, Want,
};
use aion_types::{HandlerId, Json, ManualClock, Status, TaskId, Timestamp};

use crate::file::assert_sound;

const NOW_MS: i64 = 1_700_000_010_000;

fn fixture(version: u32) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    folder.join(format!("version-{version}.db"))
}

fn id(n: u8) -> TaskId {
    TaskId::from_parts(Timestamp::from_ms(1_700_000_000_000), [n; 10])
}

/// A copy of the file of a version, opened.
async fn opened(version: u32, directory: &Path) -> (Processor, PathBuf) {
    let path = directory.join("processor.db");
    std::fs::copy(fixture(version), &path).unwrap();
    let clock = ManualClock::at(Timestamp::from_ms(NOW_MS));
    let options = SqliteOptions::default().with_clock(clock);
    let store = SqliteTaskStore::open(&path, options).await.unwrap();
    (Processor::new(store), path)
}

/// There is a file of every version before this one, each says so itself, and each opens soundly.
#[tokio::test]
async fn every_older_version_opens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new.db");
    let store = SqliteTaskStore::open(&path, SqliteOptions::default())
        .await
        .unwrap();
    let newest = store.open_schema().await.unwrap().version;
    assert!(newest >= 5);
    for version in 1..newest {
        let header = std::fs::read(fixture(version)).unwrap();
        assert_eq!(header[60..64], version.to_be_bytes(), "user_version");
        let directory = tempfile::tempdir().unwrap();
        let (processor, path) = opened(version, directory.path()).await;
        assert_sound(&path, &processor).await;
    }
}

/// A file of the third version opens with its steps, which are not done again, with who holds and who waits, and with
/// the shares of its queues.
#[tokio::test]
async fn the_third_version_opens() {
    let directory = tempfile::tempdir().unwrap();
    let (processor, path) = opened(3, directory.path()).await;
    let stands = async |n| processor.get(id(n)).await.unwrap().status;
    let steps = processor.steps(id(0), StepQuery::default()).await.unwrap().steps;
    let names: Vec<_> = steps.iter().map(|step| (step.seq, step.name.as_str())).collect();
    assert_eq!(names, [(1, "charged"), (2, "mailed")]);
    let order = Fence {
        task: id(0),
        epoch: 2,
    };
    let again = processor.step(order, "charged", Json::Int(8)).await.unwrap();
    assert_eq!((again.seq, again.result), (1, Json::Int(7)));
    let next = processor.step(order, "sent", Json::Null).await.unwrap();
    assert_eq!(next.seq, 3);
    processor.complete(order, Json::Null).await.unwrap();
    let rows: Json = serde_json::from_str(r#"{"rows": 3.5}"#).unwrap();
    assert_eq!(processor.get(id(1)).await.unwrap().result, Some(rows));

    let (holder, waiter) = (id(2), id(3));
    assert_eq!(
        (stands(2).await, stands(3).await),
        (Status::Running, Status::Blocked)
    );
    let fence = Fence {
        task: holder,
        epoch: 1,
    };
    processor.complete(fence, Json::Null).await.unwrap();
    assert_eq!(stands(3).await, Status::Ready, "the semaphore goes on");

    // What their queues got is known; the one that counts three times as much has a single task left.
    let claim = ClaimReq::new(HandlerId::new("new").unwrap()).with_order(ClaimOrder::Fair);
    let mut taken = processor.claim(claim.with_max(5)).await.unwrap();
    let queues: Vec<_> = taken.iter().map(|lease| lease.task.queue.as_str()).collect();
    assert_eq!(queues, ["big", "small", "small", "small", "small"]);
    let small = taken.iter().position(|lease| lease.task.id == waiter);
    let again = taken.swap_remove(small.unwrap());
    let granted = processor
        .acquire(Want::new(again.fence(), "printers"))
        .await
        .unwrap();
    assert!(
        matches!(granted, aion_processor::Acquired::Granted(_)),
        "{granted:?}"
    );
    assert_sound(&path, &processor).await;
}
