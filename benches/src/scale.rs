//! What one operation costs in a store of many rows, and what memory many tasks need.

use std::path::Path;
use std::time::{Duration, Instant};

use aion_processor::{
    ClaimReq, Durability, Fence, GatherPolicy, MessageQuery, NewMessage, NewTask, Op, Order, Processor,
    Result, SqliteOptions, SqliteTaskStore,
};
use aion_types::{Clock, HandlerId, Role, SystemClock, TaskId};

use crate::cycles::{Crew, Step, apply, complete, fill, work};

/// How often each operation is timed: so many turns of so many.
const TIMES: usize = 520;
const TURN: usize = 20;
const PAGE: u32 = 100;

/// Median times of single operations, end to end.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    /// A claim of one task.
    pub claim: Duration,
    /// The end of a child that a parent gathers.
    pub gather: Duration,
    /// A page of messages from the middle.
    pub page: Duration,
}

/// Files of two sizes, which take turns.
#[derive(Debug)]
pub struct Beside {
    /// In the small one.
    pub few: Costs,
    /// In the large one.
    pub many: Costs,
}

/// Fills two files with so many ready tasks and so many messages of one task each, and times single operations in both by
/// turns, so that whatever the machine does meanwhile happens to both.
///
/// # Errors
/// A failure of the storage.
pub async fn costs(dir: &Path, few: usize, many: usize) -> Result<Beside> {
    let mut files = [
        Timed::fill(&dir.join("few"), few).await?,
        Timed::fill(&dir.join("many"), many).await?,
    ];
    for _ in 0..TIMES / TURN {
        for file in &mut files {
            file.turn().await?;
        }
    }
    let [few, many] = files;
    Ok(Beside {
        few: few.costs().await?,
        many: many.costs().await?,
    })
}

/// A file whose operations are timed.
struct Timed {
    processor: Processor,
    claim: ClaimReq,
    parent: TaskId,
    /// Those that the parent still waits for.
    children: Vec<TaskId>,
    teller: TaskId,
    /// Where the next page of messages begins.
    middle: u64,
    claims: Vec<Duration>,
    gathers: Vec<Duration>,
    pages: Vec<Duration>,
}

impl Timed {
    async fn fill(dir: &Path, rows: usize) -> Result<Self> {
        std::fs::create_dir(dir).map_err(|error| unfit(&error))?;
        let processor = open(dir).await?;
        let (parent, children) = gathered(&processor).await?;
        let teller = told(&processor, rows).await?;
        fill(&processor, rows, 64).await?;
        flush(dir)?;
        Ok(Self {
            processor,
            claim: claim_of("timer")?,
            parent,
            children,
            teller,
            middle: (rows / 2) as u64,
            claims: Vec::new(),
            gathers: Vec::new(),
            pages: Vec::new(),
        })
    }

    async fn turn(&mut self) -> Result<()> {
        for child in self.children.split_off(self.children.len() - TURN) {
            let started = Instant::now();
            self.processor.claim(self.claim.clone()).await?;
            self.claims.push(started.elapsed());
            let named = self.claim.clone().with_task(child);
            let lease = self.processor.claim(named).await?.remove(0);
            let started = Instant::now();
            complete(&self.processor, &lease, Durability::Process).await?;
            self.gathers.push(started.elapsed());
            self.page().await?;
        }
        Ok(())
    }

    async fn page(&mut self) -> Result<()> {
        let middle = MessageQuery {
            order: Order::Oldest,
            from: self.middle,
            limit: PAGE,
        };
        self.middle += 1;
        let started = Instant::now();
        let page = self.processor.messages(self.teller, middle).await?;
        self.pages.push(started.elapsed());
        assert_eq!(page.messages.len(), PAGE as usize, "a whole page");
        Ok(())
    }

    async fn costs(self) -> Result<Costs> {
        let woken = self.processor.get(self.parent).await?;
        assert_eq!(woken.waiting_on, 0, "all children have ended");
        Ok(Costs {
            claim: median(self.claims),
            gather: median(self.gathers),
            page: median(self.pages),
        })
    }
}

fn unfit(error: &std::io::Error) -> aion_processor::Error {
    aion_processor::Error::Corrupt(error.to_string())
}

/// Waits until the disk has what was filled in, for its writing is not what is timed.
fn flush(dir: &Path) -> Result<()> {
    let flushed = ["processor.db", "processor.db-wal"]
        .iter()
        .try_for_each(|name| std::fs::File::open(dir.join(name))?.sync_all());
    flushed.map_err(|error| unfit(&error))
}

async fn open(dir: &Path) -> Result<Processor> {
    let store = SqliteTaskStore::open(dir.join("processor.db"), SqliteOptions::default()).await?;
    Ok(Processor::new(store))
}

fn claim_of(name: &str) -> Result<ClaimReq> {
    let handler = HandlerId::new(name).map_err(|error| aion_processor::Error::Corrupt(error.to_string()))?;
    Ok(ClaimReq::new(handler).with_durability(Durability::Process))
}

fn new(parent: Option<TaskId>) -> NewTask {
    let task = NewTask::new(TaskId::generate(SystemClock.now()), "bench", "A task");
    match parent {
        // Behind all others, so that only claims by name find it.
        Some(parent) => task.with_parent(parent).with_priority(-1),
        None => task,
    }
}

/// A task that waits for its children, which are ready.
async fn gathered(processor: &Processor) -> Result<(TaskId, Vec<TaskId>)> {
    let parent = processor.create(new(None)).await?.id;
    let lease = processor
        .claim(claim_of("parent")?.with_task(parent))
        .await?
        .remove(0);
    let mut children = Vec::new();
    for _ in 0..TIMES {
        children.push(processor.create(new(Some(parent))).await?.id);
    }
    processor
        .gather(lease.fence(), children.clone(), GatherPolicy::All)
        .await?;
    Ok((parent, children))
}

/// A task with so many messages.
async fn told(processor: &Processor, messages: usize) -> Result<TaskId> {
    let task = processor.create(new(None)).await?.id;
    let lease = processor
        .claim(claim_of("teller")?.with_task(task).with_lease_ms(3_600_000))
        .await?
        .remove(0);
    let Fence { task, epoch } = lease.fence();
    for start in (0..messages.max(2 * TIMES)).step_by(500) {
        let say = |at| Op::Append {
            task,
            epoch: Some(epoch),
            message: Box::new(NewMessage::new(
                Role::Assistant,
                format!("message {at} of a long conversation"),
            )),
        };
        apply(processor, (start..start + 500).map(say), Durability::Process).await?;
    }
    Ok(task)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Resident memory while tasks went in and out.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Bytes after each tenth that was enqueued.
    pub enqueued: Vec<u64>,
    /// Bytes after each tenth that was drained.
    pub drained: Vec<u64>,
    /// How long both took.
    pub took: Duration,
}

/// Enqueues and drains so many tasks of 1 KB.
///
/// # Errors
/// A failure of the storage.
pub async fn memory(dir: &Path, tasks: usize) -> Result<Memory> {
    let processor = open(dir).await?;
    let started = Instant::now();
    let mut memory = Memory::default();
    for _ in 0..10 {
        fill(&processor, tasks / 10, 1_024).await?;
        memory.enqueued.push(resident());
    }
    for _ in 0..10 {
        let crew = Crew {
            workers: 64,
            step: Step::Together,
            most: Duration::from_secs(600),
            durability: Durability::Process,
        };
        drain(&processor, crew, tasks / 10).await?;
        memory.drained.push(resident());
    }
    memory.took = started.elapsed();
    Ok(memory)
}

/// So many tasks, in claims of one.
async fn drain(processor: &Processor, crew: Crew, tasks: usize) -> Result<()> {
    let workers: Vec<_> = (0..crew.workers)
        .map(|at| {
            let processor = processor.clone();
            let share = tasks / crew.workers + usize::from(at < tasks % crew.workers);
            tokio::spawn(async move {
                let claim = claim_of(&format!("worker-{at}"))?;
                for _ in 0..share {
                    let Some(lease) = processor.claim(claim.clone()).await?.pop() else {
                        break;
                    };
                    complete(&processor, &lease, crew.durability).await?;
                }
                Ok::<(), aion_processor::Error>(())
            })
        })
        .collect();
    for worker in workers {
        worker
            .await
            .map_err(|_| aion_processor::Error::Corrupt("a worker panicked".to_owned()))??;
    }
    Ok(())
}

/// Bytes of this process that lie in memory and in no file: 0 where Linux does not say.
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kb = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    kb.unwrap_or(0) * 1_024
}

/// How long the children of one parent took, by tenths.
///
/// # Errors
/// A failure of the storage.
pub async fn children(dir: &Path, count: usize) -> Result<Vec<Duration>> {
    let processor = open(dir).await?;
    let parent = processor.create(new(None)).await?.id;
    processor
        .claim(claim_of("parent")?.with_task(parent).with_lease_ms(3_600_000))
        .await?;
    for start in (0..count).step_by(500) {
        let ops = (start..count.min(start + 500)).map(|_| Op::Create(Box::new(new(Some(parent)))));
        apply(&processor, ops, Durability::Process).await?;
    }
    let mut tenths = Vec::new();
    for _ in 0..10 {
        let started = Instant::now();
        let crew = Crew {
            workers: 64,
            step: Step::Together,
            most: Duration::from_secs(600),
            durability: Durability::Process,
        };
        drain(&processor, crew, count / 10).await?;
        tenths.push(started.elapsed());
    }
    let left = work(
        &processor,
        Crew {
            workers: 1,
            step: Step::Together,
            most: Duration::from_secs(60),
            durability: Durability::Process,
        },
    )
    .await?;
    assert_eq!(left.done, count % 10, "nothing else is left");
    let open = processor.get(parent).await?.open_children;
    assert_eq!(open, 0, "all children have ended");
    Ok(tenths)
}
