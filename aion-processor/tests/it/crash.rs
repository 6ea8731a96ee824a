//! The process dies at any moment: nothing that was acknowledged is lost, everything else happened
//! whole or not at all.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aion_processor::{
    Acquired, ClaimReq, Error, NewMessage, NewPrimitive, NewTask, PrimitiveKind, Processor, Want,
};
use aion_types::{Clock, HandlerId, Json, Role, Status, SystemClock, TaskId};

use crate::file::assert_sound;

/// Where the writer in the other process works; without it that test does nothing.
const DIRECTORY: &str = "AION_PROCESSOR_CRASH_TEST";
/// How long the killing goes on; longer where the machine is too busy to get much done.
const LENGTH: Duration = Duration::from_secs(4);
const LONGEST: Duration = Duration::from_secs(60);
/// Leases of the writer; what it held when it died is free after that.
const LEASE_MS: u64 = 200;

/// Works until it is killed, and notes each answer in a file right after it came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other half of a_killed_process_loses_nothing, which starts it"]
async fn writer() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else {
        return;
    };
    let processor = Processor::open(directory.join("processor.db")).await.unwrap();
    processor
        .declare(NewPrimitive::new("two", PrimitiveKind::Semaphore { permits: 2 }))
        .await
        .unwrap();
    let acks = OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join("acks"))
        .unwrap();
    let acks = Arc::new(acks);
    let workers: Vec<_> = (0..8)
        .map(|n| tokio::spawn(work(processor.clone(), acks.clone(), n)))
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
}

async fn work(processor: Processor, acks: Arc<File>, n: u32) {
    let claim = ClaimReq::new(HandlerId::new(format!("worker-{n}")).unwrap()).with_lease_ms(LEASE_MS);
    loop {
        let new = NewTask::new(TaskId::generate(SystemClock.now()), "crash", "A task")
            .with_payload("x".repeat(500).into());
        let made = processor.create(new).await.unwrap();
        note(&acks, "created", made.id, 0);
        processor.tick().await.unwrap();
        let Some(lease) = processor.claim(claim.clone()).await.unwrap().pop() else {
            continue;
        };
        // Half of the tasks go on only when it is their turn.
        let wants = n.is_multiple_of(2);
        if wants {
            match processor.acquire(Want::new(lease.fence(), "two")).await {
                Ok(Acquired::Granted(_)) => {}
                // Somebody else goes on with it when it is its turn, or when its lease is over.
                Ok(_) | Err(Error::LeaseLost { .. }) => continue,
                Err(error) => panic!("{error}"),
            }
        }
        let message = NewMessage::new(Role::Assistant, "working").with_key("once");
        // The lease may be lost when the machine is slow: then nothing was acknowledged.
        if processor.append(lease.fence(), message).await.is_ok() {
            note(&acks, "said", lease.task.id, lease.epoch);
        }
        if processor.complete(lease.fence(), Json::Null).await.is_ok() {
            note(&acks, "completed", lease.task.id, lease.epoch);
        }
    }
}

/// Only tasks that may still go on hold the semaphore, no more than fit, and nobody waits in vain.
async fn assert_line(processor: &Processor) {
    let waits = processor.waits(None).await.unwrap();
    for holder in &waits.holders {
        assert_eq!(processor.get(holder.task).await.unwrap().status, Status::Ready);
    }
    for waiter in &waits.waiters {
        assert_eq!(processor.get(waiter.task).await.unwrap().status, Status::Blocked);
    }
    let two = processor.primitive("two").await.unwrap();
    let counted = (two.held as usize, two.waiting as usize);
    assert_eq!(counted, (waits.holders.len(), waits.waiters.len()));
    assert!(two.held <= 2 && (two.waiting == 0 || two.held == 2), "{two:?}");
}

fn note(mut acks: &File, what: &str, task: TaskId, epoch: u64) {
    acks.write_all(format!("{what} {task} {epoch}\n").as_bytes())
        .unwrap();
}

fn spawn(directory: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "crash::writer", "--ignored"])
        .env(DIRECTORY, directory);
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills the writer again and again. Acknowledged creates, messages and ends are all there, no task
/// was completed under two epochs, the log rebuilds the tree, and what the dead held is free again.
#[tokio::test]
async fn a_killed_process_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let mut kills = 0_u64;
    let acks = directory.path().join("acks");
    let little_done = || std::fs::metadata(&acks).map_or(0, |acks| acks.len()) < 16_000;
    while started.elapsed() < LENGTH || (little_done() && started.elapsed() < LONGEST) {
        let mut child = spawn(directory.path());
        let pause_ms = if started.elapsed() < LENGTH { 120 } else { 1_000 };
        tokio::time::sleep(Duration::from_millis(pause_ms + kills * 37 % 200)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    let path = directory.path().join("processor.db");
    let processor = Processor::open(&path).await.unwrap();
    assert_sound(&path, &processor).await;
    let acks = std::fs::read_to_string(&acks).unwrap();
    let mut completed = BTreeSet::new();
    for line in acks.lines() {
        let mut words = line.split(' ');
        let (what, task, epoch) = (
            words.next().unwrap(),
            words.next().unwrap(),
            words.next().unwrap(),
        );
        let task = processor.get(task.parse().unwrap()).await.unwrap();
        match what {
            "said" => assert_eq!(
                processor
                    .messages(task.id, Default::default())
                    .await
                    .unwrap()
                    .messages
                    .len(),
                1
            ),
            "completed" => {
                assert_eq!(
                    (task.status, task.lease_epoch.to_string().as_str()),
                    (Status::Completed, epoch)
                );
                assert!(completed.insert(task.id), "{} was completed twice", task.id);
            }
            _ => {}
        }
    }
    assert!(
        kills >= 5 && completed.len() > 20,
        "{kills} kills, {} completed",
        completed.len()
    );
    tokio::time::sleep(Duration::from_millis(LEASE_MS)).await;
    while processor.tick().await.unwrap().more {}
    assert_eq!(
        processor.counts().await.unwrap().of(Status::Running),
        0,
        "orphans are reclaimed"
    );
    assert_line(&processor).await;
    assert_sound(&path, &processor).await;
    println!(
        "{kills} kills, {} answers, {} completed",
        acks.lines().count(),
        completed.len()
    );
}
