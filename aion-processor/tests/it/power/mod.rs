//! Power fails at any moment: what was promised as [`Durability::Power`] is there, and nothing is half there.
//!
//! A storage layer below SQLite notes what is written and when it is flushed ([`vfs`]). From every beginning of
//! these notes the files are built as a disk could have them then ([`disk`]): without what was not flushed, or with
//! any part of it. The store itself then opens them.

mod disk;
mod vfs;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aion_processor::testkit::endurance::sound;
use aion_processor::{
    ClaimReq, Durability, Fence, GatherPolicy, Lease, MessageQuery, NewMessage, NewPrimitive, NewTask, Op,
    PrimitiveKind, Processor, SqliteOptions, SqliteTaskStore, TaskStore, Want, Write,
};
use aion_types::{Clock, HandlerId, Json, Role, Status, SystemClock, TaskId};
use proptest::test_runner::{RngAlgorithm, TestRng};
use sqlx::Connection;

use self::disk::{Change, Disk, Rest};
use self::vfs::{Notes, register};

/// What a caller was promised, or is about to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Promise {
    Created(TaskId),
    Said(TaskId),
    Completed(Fence),
    Blocked(TaskId),
    /// From now on it may be woken.
    MayWake(TaskId),
    /// From now on it may be gone.
    MayGo(TaskId),
    Gone(TaskId),
}

/// A session with a store, of which every write to a file is noted.
struct Session {
    processor: Processor,
    store: Arc<SqliteTaskStore>,
    notes: Arc<Notes>,
    promises: Vec<Promise>,
}

impl Session {
    async fn open(path: &Path, vfs: &str, notes: Arc<Notes>) -> Self {
        // Soon, so that it happens in the middle of a history.
        let options = SqliteOptions::default().with_vfs(vfs).with_log_pages(20);
        let store = Arc::new(SqliteTaskStore::open(path, options).await.unwrap());
        Self {
            processor: Processor::over(store.clone()),
            store,
            notes,
            promises: Vec::new(),
        }
    }

    fn promised(&mut self, promise: Promise) {
        self.promises.push(promise);
        self.notes.push(Change::Answered(self.promises.len()));
    }

    async fn create(&mut self, bytes: usize, above: Option<TaskId>) -> TaskId {
        let id = TaskId::generate(SystemClock.now());
        let mut new = NewTask::new(id, "power", "A task").with_payload("x".repeat(bytes).into());
        new.parent = above;
        self.processor.create(new).await.unwrap();
        self.promised(Promise::Created(id));
        id
    }

    async fn claim(&self, task: TaskId) -> Lease {
        let claim = ClaimReq::new(HandlerId::new("w").unwrap()).with_task(task);
        self.processor.claim(claim).await.unwrap().remove(0)
    }

    async fn complete(&mut self, lease: &Lease) {
        self.processor.complete(lease.fence(), Json::Null).await.unwrap();
        self.promised(Promise::Completed(lease.fence()));
    }

    /// A parent that gathers a child, which holds a semaphore and speaks; a tree that is removed.
    async fn live(&mut self, bytes: usize) {
        let one = NewPrimitive::new("one", PrimitiveKind::Semaphore { permits: 1 });
        self.processor.declare(one).await.unwrap();
        let parent = self.create(bytes, None).await;
        let child = self.create(bytes, Some(parent)).await;
        let lease = self.claim(parent).await;
        let gathered = self
            .processor
            .gather(lease.fence(), vec![child], GatherPolicy::All);
        gathered.await.unwrap();
        self.promised(Promise::Blocked(parent));
        let lease = self.claim(child).await;
        let want = Want::new(lease.fence(), "one");
        self.processor.acquire(want).await.unwrap();
        let message = NewMessage::new(Role::Assistant, "x".repeat(bytes));
        self.processor.append(lease.fence(), message).await.unwrap();
        self.promised(Promise::Said(child));
        self.promised(Promise::MayWake(parent));
        self.complete(&lease).await;
        let lone = self.create(bytes, None).await;
        let lease = self.claim(lone).await;
        self.complete(&lease).await;
        self.promised(Promise::MayGo(lone));
        self.processor.purge(lone).await.unwrap();
        self.promised(Promise::Gone(lone));
    }
}

/// A history: what was done to the files, and what was promised meanwhile.
struct History {
    notes: Vec<Change>,
    promises: Vec<Promise>,
}

impl History {
    /// Two sessions one after the other, so many lives each; `vfs` must be a name of its own.
    async fn write(vfs: &str, lives: usize, bytes: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("processor.db");
        let notes = register(vfs);
        let mut promises = Vec::new();
        for _ in 0..2 {
            let mut session = Session::open(&path, vfs, notes.clone()).await;
            session.promises = promises;
            for _ in 0..lives {
                session.live(bytes).await;
            }
            session.store.close().await;
            promises = session.promises;
        }
        let notes = notes.taken();
        Self { notes, promises }
    }

    /// Cuts the power before every `every`th note that matters; gives how many cuts that were, and the first that
    /// broke a promise.
    async fn cut(&self, rest: &mut Rest, every: usize) -> Result<usize, String> {
        let (mut disk, mut cuts, mut points) = (Disk::default(), 0, 0);
        for (n, note) in self.notes.iter().enumerate() {
            // If all is lost that was not flushed, what is left stays the same until flushed content changes,
            // and promises only grow.
            if disk.firms(note) || matches!(rest, Rest::Some(_)) {
                points += 1;
                if points % every == 0 {
                    cuts += 1;
                    let looked = look(&disk, rest, &self.promises[..disk.answered]).await;
                    looked.map_err(|fault| format!("power off before note {n}, {note:.40?}: {fault}"))?;
                }
            }
            disk.push(note);
        }
        look(&disk, rest, &self.promises).await?;
        Ok(cuts + 1)
    }

    fn count(&self, wanted: impl Fn(&Change) -> bool) -> usize {
        self.notes.iter().filter(|note| wanted(note)).count()
    }
}

/// Memory where there is some to write to: thousands of small databases.
fn fast() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    if shared.is_dir() {
        shared
    } else {
        std::env::temp_dir()
    }
}

/// Opens what a power cut left: sound, with everything that was promised, and it goes on.
async fn look(disk: &Disk, rest: &mut Rest, promises: &[Promise]) -> Result<(), String> {
    let directory = tempfile::tempdir_in(fast()).unwrap();
    let path = directory.path().join("processor.db");
    disk.cut(&path, rest);
    let store = SqliteTaskStore::open(&path, SqliteOptions::default()).await;
    let store = Arc::new(store.map_err(|error| format!("does not open: {error:?}"))?);
    let processor = Processor::over(store.clone());
    let verdict = integrity(&path).await;
    if verdict != "ok" {
        return Err(format!("integrity: {verdict}"));
    }
    for promise in promises {
        if !kept(&processor, *promise, promises).await {
            return Err(format!("lost: {promise:?}"));
        }
    }
    let fault = sound(&processor).await.map_err(|error| format!("{error:?}"))?;
    fault.map_or(Ok(()), Err)?;
    let id = TaskId::generate(SystemClock.now());
    processor.create(NewTask::new(id, "power", "Next")).await.unwrap();
    store.close().await;
    Ok(())
}

async fn integrity(path: &Path) -> String {
    let url = format!("sqlite://{}?mode=ro", path.display());
    let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let verdict = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_one(&mut conn)
        .await;
    verdict.unwrap_or_else(|error| error.to_string())
}

async fn kept(processor: &Processor, promise: Promise, all: &[Promise]) -> bool {
    let found = async |id| processor.find(id).await.unwrap();
    let may_go = |id| all.contains(&Promise::MayGo(id));
    match promise {
        Promise::Created(id) => found(id).await.is_some() || may_go(id),
        Promise::Said(id) => {
            let messages = processor.messages(id, MessageQuery::new()).await;
            messages.is_ok_and(|page| page.messages.len() == 1)
        }
        Promise::Completed(Fence { task, epoch }) => {
            let stands = found(task).await.map(|task| (task.status, task.lease_epoch));
            stands == Some((Status::Completed, epoch)) || (stands.is_none() && may_go(task))
        }
        Promise::Blocked(id) => {
            let woken = all.contains(&Promise::MayWake(id));
            let status = found(id).await.map(|task| task.status);
            status == Some(Status::Blocked) || (woken && status == Some(Status::Ready))
        }
        Promise::Gone(id) => found(id).await.is_none(),
        Promise::MayWake(_) | Promise::MayGo(_) => true,
    }
}

fn any_rest() -> Rest {
    Rest::Some(Box::new(TestRng::deterministic_rng(RngAlgorithm::ChaCha)))
}

/// After every beginning of a short history, whatever the disk kept of what was not flushed.
#[tokio::test]
async fn every_power_cut_keeps_what_was_promised() {
    let history = History::write("noted-short", 1, 100).await;
    let flushes = history.count(|note| matches!(note, Change::Sync(_)));
    let lost = history.cut(&mut Rest::Lost, 1).await.unwrap();
    assert!(lost > 20 && lost <= flushes + 3, "{lost} cuts, {flushes} flushes");
    let some = history.cut(&mut any_rest(), 1).await.unwrap();
    assert_eq!(some, history.notes.len() + 1);
    println!(
        "{} notes, {flushes} flushes, {lost} and {some} cuts",
        history.notes.len()
    );
}

/// The same, sampled, of a history in which the log is written back to the file while work goes on.
#[tokio::test]
async fn power_cuts_while_the_log_is_written_back() {
    let history = History::write("noted-long", 6, 200_000).await;
    let written_back = |note: &Change| matches!(note, Change::Write(disk::Named::Main, ..));
    let in_work = &history.notes[history.notes.len() / 20..history.notes.len() / 3];
    assert!(
        in_work.iter().any(written_back),
        "the log was not written back early"
    );
    let lost = history.cut(&mut Rest::Lost, 6).await.unwrap();
    let some = history
        .cut(&mut any_rest(), history.notes.len() / 30)
        .await
        .unwrap();
    println!("{} notes, {lost} and {some} cuts", history.notes.len());
}

/// Without flushes these tests fail: a write that was only promised to outlive the process is lost, and so is
/// everything on a disk that does not flush when it is told to.
#[tokio::test]
async fn power_cuts_are_felt() {
    let directory = tempfile::tempdir().unwrap();
    let notes = register("noted-careless");
    let mut session = Session::open(&directory.path().join("p.db"), "noted-careless", notes.clone()).await;
    let id = TaskId::generate(SystemClock.now());
    let create = Op::Create(Box::new(NewTask::new(id, "power", "A task")));
    let write = Write::from(create).with_durability(Durability::Process);
    session.store.apply(vec![write]).await.unwrap()[0]
        .clone()
        .unwrap();
    session.promised(Promise::Created(id));
    let careless = History {
        notes: notes.taken(),
        promises: session.promises,
    };
    let found = careless.cut(&mut Rest::Lost, 1).await;
    assert!(
        found.as_ref().is_err_and(|fault| fault.contains("lost")),
        "{found:?}"
    );

    let mut deaf = History::write("noted-deaf", 1, 100).await;
    deaf.notes.retain(|note| !matches!(note, Change::Sync(_)));
    let found = deaf.cut(&mut Rest::Lost, 1).await;
    assert!(
        found.as_ref().is_err_and(|fault| fault.contains("lost")),
        "{found:?}"
    );
    let found = deaf.cut(&mut any_rest(), 1).await;
    assert!(found.is_err(), "a disk that forgets at random");
}
