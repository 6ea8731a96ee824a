//! Everything that a store holds, and what must be true of it.

use std::collections::BTreeMap;

use aion_processor::{
    EventQuery, MessageQuery, NameQuery, ObjectHead, Primitive, PrimitiveKind, Processor, Query, Replay,
    Replayed, Schedule, StepQuery, StepRecord, TaskQuery, Waits,
};
use aion_types::{EventKind, EventRecord, Json, MessageRecord, Status, TaskId, TaskRecord};
use futures::{StreamExt, stream};

/// Tasks that are read at once.
const AT_ONCE: usize = 8;

/// Everything that a store holds.
#[derive(Debug, PartialEq)]
pub(crate) struct World {
    tasks: Vec<TaskRecord>,
    keys: Vec<Option<(String, u32)>>,
    messages: Vec<MessageRecord>,
    steps: Vec<StepRecord>,
    events: Vec<EventRecord>,
    counts: [u64; 7],
    primitives: Vec<Primitive>,
    waits: Waits,
    objects: Vec<ObjectHead>,
    schedules: Vec<Schedule>,
}

impl World {
    pub(crate) async fn read(processor: &Processor) -> Self {
        let tasks = all_tasks(processor).await;
        let (mut messages, mut steps, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        let parts = tasks.iter().map(|task| async {
            let query = MessageQuery::new().with_limit(1_000);
            let said = processor.messages(task.id, query).await.unwrap().messages;
            let done = processor.steps(task.id, StepQuery::default()).await.unwrap();
            (said, done.steps, key_of(processor, task.id).await)
        });
        let mut parts = stream::iter(parts).buffered(AT_ONCE);
        while let Some((said, done, key)) = parts.next().await {
            messages.extend(said);
            steps.extend(done);
            keys.push(key);
        }
        drop(parts);
        Self {
            tasks,
            keys,
            messages,
            steps,
            events: all_events(processor).await,
            counts: processor.counts().await.unwrap().0,
            primitives: processor.primitives(NameQuery::default()).await.unwrap(),
            waits: processor.waits(None).await.unwrap(),
            objects: processor.objects(NameQuery::default()).await.unwrap(),
            schedules: processor.schedules(NameQuery::default()).await.unwrap(),
        }
    }

    pub(crate) fn check(&self) {
        self.check_log();
        self.check_story();
        self.check_counters();
        self.check_waits();
        self.check_lines();
        self.check_places();
    }

    fn find(&self, task: TaskId) -> &TaskRecord {
        self.tasks.iter().find(|record| record.id == task).unwrap()
    }

    /// The log alone tells where every task stands and what it holds.
    fn check_log(&self) {
        let mut replay = Replay::default();
        for event in &self.events {
            replay.push(event).unwrap();
        }
        for task in &self.tasks {
            assert_eq!(
                replay.get(task.id),
                Some(&Replayed::from(task)),
                "the log replays"
            );
        }
        let told: Vec<_> = replay
            .grants()
            .map(|(task, name, token)| (task, name.to_owned(), token))
            .collect();
        let holders = self.waits.holders.iter();
        let mut held: Vec<_> = holders
            .map(|h| (h.task, h.grant.primitive.clone(), h.grant.token))
            .collect();
        held.sort();
        assert_eq!(told, held, "the log tells of grants");
    }

    /// No epoch is given out twice, and whoever has ended stays so.
    fn check_story(&self) {
        let mut stories: BTreeMap<TaskId, (f64, bool)> = BTreeMap::new();
        for event in &self.events {
            let (epoch, ended) = stories.entry(event.task_id).or_default();
            let aside = matches!(
                event.kind,
                EventKind::Returned | EventKind::Message | EventKind::Purged
            );
            assert!(aside || !*ended, "{event:?} after the end");
            if event.kind == EventKind::Claimed {
                let given = event.body.get("epoch").and_then(Json::as_f64).unwrap();
                assert!(given > *epoch, "{event:?} after epoch {epoch}");
                *epoch = given;
            }
            *ended |= event.kind.is_terminal();
        }
    }

    fn check_counters(&self) {
        let mut open = BTreeMap::new();
        for task in &self.tasks {
            let running = task.status == Status::Running;
            assert_eq!(
                running,
                task.handler_id.is_some(),
                "one holder exactly while it runs"
            );
            assert_eq!(running, task.lease_until.is_some());
            assert_eq!(
                task.status == Status::Blocked,
                task.waiting_on > 0,
                "blocked is waiting"
            );
            assert_eq!(task.status.is_terminal(), task.finished_at.is_some());
            assert!(task.attempt <= task.max_attempts, "{task:?}");
            if let Some(parent) = task.parent_id.filter(|_| !task.status.is_terminal()) {
                *open.entry(parent).or_insert(0) += 1;
            }
        }
        for task in &self.tasks {
            let open = open.get(&task.id).copied().unwrap_or(0);
            assert_eq!(task.open_children, open, "open children are exact");
        }
        for status in Status::ALL {
            let counted = self.tasks.iter().filter(|task| task.status == status).count();
            assert_eq!(self.counts[status as usize], counted as u64, "{status}");
        }
    }

    /// Whoever is BLOCKED waits for exactly so many tasks that have not ended, or in one line.
    fn check_waits(&self) {
        let blocked = self.tasks.iter().filter(|task| task.status == Status::Blocked);
        for task in blocked {
            let gathers = self
                .waits
                .gathers
                .iter()
                .filter(|gather| gather.waiter == task.id);
            let lines = self.waits.waiters.iter().filter(|waiter| waiter.task == task.id);
            let (gathers, lines): (Vec<_>, Vec<_>) = (gathers.collect(), lines.collect());
            assert_eq!(task.waiting_on as usize, gathers.len() + lines.len());
            assert!(lines.is_empty() || gathers.is_empty());
            for gather in gathers {
                assert!(
                    !self.find(gather.task).status.is_terminal(),
                    "nobody waits for the dead"
                );
            }
        }
        let waiters = self.waits.waiters.iter().map(|waiter| waiter.task);
        for task in waiters.chain(self.waits.gathers.iter().map(|gather| gather.waiter)) {
            assert_eq!(self.find(task).status, Status::Blocked);
        }
    }

    /// What is held fits, only the living hold, and nobody waits for what is free.
    fn check_lines(&self) {
        for primitive in &self.primitives {
            let holders = || {
                self.waits
                    .holders
                    .iter()
                    .filter(|h| h.grant.primitive == primitive.name)
            };
            let line: Vec<_> = self
                .waits
                .waiters
                .iter()
                .filter(|w| w.primitive == primitive.name)
                .collect();
            let held: u32 = holders().map(|holder| holder.grant.units).sum();
            assert_eq!((primitive.held, primitive.waiting as usize), (held, line.len()));
            for holder in holders() {
                let status = self.find(holder.task).status;
                assert!(!status.is_terminal(), "{holder:?} is {status}");
            }
            let first = line.first().map_or(0, |waiter| waiter.units);
            let free = match primitive.kind {
                PrimitiveKind::Semaphore { permits } => {
                    assert!(held <= permits);
                    held + first <= permits
                }
                PrimitiveKind::Mutex => {
                    assert!(held <= 1);
                    held == 0
                }
                PrimitiveKind::Event => primitive.open,
                PrimitiveKind::Queue { .. } => primitive.items > 0,
                _ => false,
            };
            assert!(
                line.is_empty() || !free,
                "{primitive:?} is free, but {line:?} wait"
            );
        }
    }

    /// No key has more running than it has places.
    fn check_places(&self) {
        let mut running: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
        for (task, key) in self.tasks.iter().zip(&self.keys) {
            if let (Status::Running, Some((key, max))) = (task.status, key) {
                let entry = running.entry(key).or_insert((0, *max));
                entry.0 += 1;
            }
        }
        for (key, (running, max)) in running {
            assert!(running <= max, "{running} run with the key {key}");
        }
    }

    /// After everything was claimed that could be, each key has all places taken or nobody ready.
    pub(crate) fn check_idle(&self) {
        let ready = self
            .tasks
            .iter()
            .zip(&self.keys)
            .filter(|(task, _)| task.status == Status::Ready);
        for (task, key) in ready {
            let Some((key, max)) = key else {
                panic!("{task:?} was left over")
            };
            let all = self.tasks.iter().zip(&self.keys);
            let same = all.filter(|(_, known)| known.as_ref().is_some_and(|(known, _)| known == key));
            let running = same.filter(|(task, _)| task.status == Status::Running).count();
            assert_eq!(running, *max as usize, "{task:?} waits for a place that is free");
        }
    }
}

async fn all_tasks(processor: &Processor) -> Vec<TaskRecord> {
    let query = TaskQuery::new().with_limit(1_000);
    let page = processor.tasks(query).await.unwrap();
    assert!(page.next.is_none(), "a world is small");
    page.tasks
}

async fn all_events(processor: &Processor) -> Vec<EventRecord> {
    let mut events: Vec<EventRecord> = Vec::new();
    loop {
        let query = EventQuery {
            after: events.last().map_or(0, |event| event.seq),
            task: None,
            limit: 1_000,
        };
        let page = processor.events_of(query).await.unwrap();
        if page.events.is_empty() {
            return events;
        }
        events.extend(page.events);
    }
}

async fn key_of(processor: &Processor, task: TaskId) -> Option<(String, u32)> {
    let page = processor.store().read(Query::Copy(task)).await.unwrap();
    let aion_processor::Page::Copy(Some(copy)) = page else {
        panic!("{page:?}")
    };
    copy.concurrency
        .map(|concurrency| (concurrency.key, concurrency.max))
}
