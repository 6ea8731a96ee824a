//! A disk that is really full: a small file system in memory, where the machine lets us mount one.
#![allow(clippy::print_stderr)] // a skipped test says so

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use aion_processor::{CancelMode, ClaimReq, Error, NewTask, Processor, SqliteOptions, SqliteTaskStore};
use aion_types::{Clock, HandlerId, Json, Status, SystemClock, TaskId};

use crate::file::assert_sound;

/// A file system of a few megabytes; gone when it is dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    /// None where mounting is not allowed, which is said.
    fn mount(mib: u32) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let options = format!("size={mib}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "aion-test"])
            .arg(directory.path())
            .output();
        if mounted.as_ref().is_ok_and(|done| done.status.success()) {
            return Some(Self(directory));
        }
        let why = mounted.map_or_else(
            |error| error.to_string(),
            |done| String::from_utf8_lossy(&done.stderr).trim().to_owned(),
        );
        eprintln!("SKIPPED: a small file system cannot be mounted here: {why}");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn grow(&self, mib: u32) {
        let options = format!("remount,size={mib}m");
        let grown = Command::new("mount")
            .args(["-o", &options])
            .arg(self.path())
            .status();
        assert!(grown.unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, for a store may still close its file.
        let gone = Command::new("umount").arg("-l").arg(self.path()).status();
        assert!(gone.is_ok_and(|status| status.success()));
    }
}

fn task(bytes: usize) -> NewTask {
    NewTask::new(TaskId::generate(SystemClock.now()), "test", "A task").with_payload("x".repeat(bytes).into())
}

fn claim() -> ClaimReq {
    ClaimReq::new(HandlerId::new("w").unwrap())
}

/// Creates until the disk is full; gives what was acknowledged.
async fn fill(processor: &Processor, bytes: usize) -> Vec<TaskId> {
    let mut made = Vec::new();
    loop {
        match processor.create(task(bytes)).await {
            Ok(task) => made.push(task.id),
            Err(error) => {
                assert!(matches!(error, Error::Full), "{error:?}");
                return made;
            }
        }
        assert!(made.len() < 10_000, "the disk is never full");
    }
}

/// Every acknowledged task is there, the store says that it is full and hands out nothing, and when the disk has
/// room again it goes on by itself.
#[tokio::test]
async fn a_full_disk_loses_nothing() {
    let Some(disk) = Disk::mount(4) else { return };
    let path = disk.path().join("processor.db");
    let store = SqliteTaskStore::open(&path, SqliteOptions::default())
        .await
        .unwrap();
    let store = Arc::new(store);
    let processor = Processor::over(store.clone());
    let made = fill(&processor, 20_000).await;
    assert!(made.len() > 20, "{} tasks", made.len());
    let metrics = processor.metrics().await.unwrap();
    assert!(metrics.full, "{metrics:?}");
    // One claim in a while is let through to see whether there is room; it takes nothing and so proves nothing.
    processor.claim(claim().with_max(0)).await.ok();
    for _ in 0..3 {
        assert!(matches!(processor.claim(claim()).await, Err(Error::Full)));
    }
    for id in &made {
        assert_eq!(processor.get(*id).await.unwrap().status, Status::Ready);
    }
    let refused = processor.cancel(made[0], CancelMode::Ask).await;
    assert!(
        refused.is_ok() || matches!(refused, Err(Error::Full)),
        "{refused:?}"
    );
    disk.grow(64);
    assert_sound(&path, &processor).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let lease = processor.claim(claim()).await.unwrap().remove(0);
    processor.complete(lease.fence(), Json::Null).await.unwrap();
    assert!(!processor.metrics().await.unwrap().full);
    processor.create(task(20_000)).await.unwrap();
    store.close().await;
    let again = Processor::open(&path).await.unwrap();
    for id in &made {
        assert!(again.find(*id).await.unwrap().is_some());
    }
    assert_sound(&path, &again).await;
}

/// A process that dies on a full disk finds everything again, also before there is room.
#[tokio::test]
async fn a_full_disk_opens_again() {
    let Some(disk) = Disk::mount(4) else { return };
    let path = disk.path().join("processor.db");
    let store = SqliteTaskStore::open(&path, SqliteOptions::default())
        .await
        .unwrap();
    let processor = Processor::new(store);
    let made = fill(&processor, 3_000).await;
    drop(processor);
    let opened = SqliteTaskStore::open(&path, SqliteOptions::default()).await;
    match opened {
        Ok(store) => {
            let processor = Processor::new(store);
            for id in &made {
                assert!(processor.find(*id).await.unwrap().is_some());
            }
        }
        // Opening writes a little: what it finds full it says.
        Err(error) => assert!(matches!(error, Error::Full), "{error:?}"),
    }
    disk.grow(64);
    let processor = Processor::open(&path).await.unwrap();
    for id in &made {
        assert!(processor.find(*id).await.unwrap().is_some());
    }
    assert_sound(&path, &processor).await;
}
