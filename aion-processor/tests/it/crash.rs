//! The process dies at any moment: nothing that was acknowledged is lost, everything else happened
//! whole or not at all.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aion_processor::testkit::endurance::{Audit, Notes, Report, Work, settled, sound};
use aion_processor::{Error, PostgresOptions, PostgresTaskStore, Processor};

use crate::file::assert_sound;
use crate::postgres::database;

/// Where the writer in the other process works; without it that test does nothing.
const DIRECTORY: &str = "AION_PROCESSOR_CRASH_TEST";
/// The database that it works on; without it on a file in the directory.
const DATABASE: &str = "AION_PROCESSOR_CRASH_TEST_DATABASE";
/// How long the killing goes on, in seconds; longer where the machine is too busy to get much done.
const LENGTH: &str = "AION_KILL_SECONDS";
const LENGTH_S: u64 = 4;
const LONGEST: Duration = Duration::from_secs(90);
/// Answers that must have come for the test to say something.
const ENOUGH: u64 = 300;
/// Leases of the writer; what it held when it died is free after that.
const LEASE_MS: u64 = 200;
/// Kills between two audits.
const ROUND: u64 = 5;

/// Works until it is killed, and notes each answer in a file right after it came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other half of the kill tests, which start it"]
async fn writer() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else {
        return;
    };
    let processor = match std::env::var(DATABASE) {
        Ok(url) => open_postgres(&url).await,
        Err(_) => Processor::open(directory.join("processor.db")).await.unwrap(),
    };
    let notes = Notes::open(&directory.join("notes")).unwrap();
    let work = Work::default().with_lease_ms(LEASE_MS);
    work.run(&processor, &notes).await.unwrap();
}

async fn open_postgres(url: &str) -> Processor {
    let store = PostgresTaskStore::open(url, PostgresOptions::default()).await;
    Processor::new(store.unwrap())
}

fn spawn(directory: &Path, url: Option<&str>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "crash::writer", "--ignored"])
        .env(DIRECTORY, directory)
        .env_remove(DATABASE);
    if let Some(url) = url {
        command.env(DATABASE, url);
    }
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn length() -> Duration {
    let wanted = std::env::var(LENGTH).ok();
    Duration::from_secs(wanted.map_or(LENGTH_S, |seconds| seconds.parse().unwrap()))
}

/// Kills the writer again and again, and audits the store in between.
struct Killing {
    directory: tempfile::TempDir,
    started: Instant,
    kills: u64,
    read: usize,
    audit: Audit,
    total: Report,
}

impl Killing {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            started: Instant::now(),
            kills: 0,
            read: 0,
            audit: Audit::new(),
            total: Report::default(),
        }
    }

    fn goes_on(&self) -> bool {
        let (length, gone) = (length(), self.started.elapsed());
        gone < length || (self.total.acknowledged < ENOUGH && gone < length + LONGEST)
    }

    async fn round(&mut self, url: Option<&str>) {
        for _ in 0..ROUND {
            let mut child = spawn(self.directory.path(), url);
            let pause_ms = if self.started.elapsed() < length() {
                120
            } else {
                1_000
            };
            tokio::time::sleep(Duration::from_millis(pause_ms + self.kills * 37 % 200)).await;
            child.kill().unwrap();
            child.wait().unwrap();
            self.kills += 1;
        }
    }

    async fn check(&mut self, processor: &Processor) {
        let notes = std::fs::read_to_string(self.directory.path().join("notes")).unwrap_or_default();
        let report = self.audit.check(processor, &notes[self.read..]).await.unwrap();
        self.read = notes.len();
        assert_eq!(report.faults, Vec::<String>::new());
        self.total.acknowledged += report.acknowledged;
        self.total.completed += report.completed;
        self.total.unanswered_there += report.unanswered_there;
        self.total.unanswered_absent += report.unanswered_absent;
    }

    /// After the last kill: what the dead held is free again, and the log rebuilds the tree.
    async fn end(&self, processor: &Processor) -> String {
        assert_eq!(sound(processor).await.unwrap(), None);
        tokio::time::sleep(Duration::from_millis(LEASE_MS)).await;
        assert_eq!(settled(processor).await.unwrap(), None);
        assert_eq!(sound(processor).await.unwrap(), None);
        let Self { kills, total, .. } = self;
        assert!(*kills >= 5 && total.completed > 20, "{kills} kills, {total:?}");
        format!("{kills} kills, {total:?}")
    }
}

/// Acknowledged creates, claims, messages and ends are all there, whatever was not acknowledged is whole or absent,
/// no epoch was given twice and no task completed twice, the log rebuilds the tree, and what the dead held is free.
#[tokio::test]
async fn a_killed_process_loses_nothing() {
    let mut killing = Killing::new();
    let path = killing.directory.path().join("processor.db");
    while killing.goes_on() {
        killing.round(None).await;
        let processor = Processor::open(&path).await.unwrap();
        killing.check(&processor).await;
    }
    let processor = Processor::open(&path).await.unwrap();
    assert_sound(&path, &processor).await;
    println!("{}", killing.end(&processor).await);
    assert_sound(&path, &processor).await;
}

/// The same of a process that writes to a server.
#[tokio::test]
async fn a_killed_process_loses_nothing_on_a_server() {
    let Some(kept) = database().await else { return };
    let url = kept.url();
    let mut killing = Killing::new();
    let processor = open_postgres(&url).await;
    while killing.goes_on() {
        killing.round(Some(&url)).await;
        killing.check(&processor).await;
    }
    println!("{}", killing.end(&processor).await);
}

/// While one process has the file, another is told so, by its name; when the first one is killed, it gets it.
#[tokio::test]
async fn a_second_process_is_told_that_the_file_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("processor.db");
    let mut child = spawn(directory.path(), None);
    let began = Instant::now();
    while std::fs::metadata(directory.path().join("notes")).is_err() {
        assert!(began.elapsed() < LONGEST, "the other process does not begin");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refused = Processor::open(&path).await;
    assert!(
        matches!(&refused, Err(Error::InUse(found)) if *found == path),
        "{refused:?}"
    );
    let said = refused.unwrap_err().to_string();
    assert!(
        said.contains("processor.db is in use by another process"),
        "{said}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    Processor::open(&path).await.unwrap();
}

/// The audit finds what is broken: a lost task, a lost end, an epoch that two got.
#[tokio::test]
async fn the_audit_finds_what_is_broken() {
    use aion_processor::testkit::endurance::Note;
    use aion_processor::{Fence, Limits, MemTaskStore, NewTask};
    use aion_types::{SystemClock, TaskId, Timestamp};

    let id = |n| TaskId::from_parts(Timestamp::from_ms(1), [n; 10]);
    let processor = Processor::new(MemTaskStore::new(SystemClock, Limits::default()));
    let new = NewTask::new(id(1), "alone", "A task").with_payload("x".into());
    processor.create(new).await.unwrap();
    let asked = |task| Note::Asked { task, root: task };
    let fence = Fence {
        task: id(1),
        epoch: 1,
    };
    let cases = [
        (vec![asked(id(2)), Note::Created(id(2))], "is lost"),
        (vec![asked(id(1)), Note::Claimed(fence)], "but 1 was given"),
        (
            vec![asked(id(1)), Note::Claimed(fence), Note::Claimed(fence)],
            "given twice",
        ),
        (vec![asked(id(1)), Note::Completed(fence)], "which nobody got"),
        (vec![asked(id(1)), Note::Said(fence)], "0 messages"),
        (vec![Note::Created(id(1))], "was not asked for"),
    ];
    for (notes, wanted) in cases {
        let text: String = notes.iter().map(|note| format!("{note}\n")).collect();
        let report = Audit::new().check(&processor, &text).await.unwrap();
        assert!(
            report.faults.iter().any(|fault| fault.contains(wanted)),
            "{wanted}: {report:?}"
        );
    }
    let text = format!("{}\n{}\n{}\n", asked(id(1)), Note::Created(id(1)), asked(id(3)));
    let report = Audit::new().check(&processor, &text).await.unwrap();
    assert_eq!(
        (report.faults, report.acknowledged, report.unanswered_absent),
        (vec![], 1, 1)
    );
}
