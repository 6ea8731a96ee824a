//! Names, lines, objects and steps in memory.

use std::ops::Bound;

use aion_types::{Json, TaskId, Timestamp};

use super::world::World;
use crate::engine::row::Row;
use crate::engine::rows::{Held, LineRows, NamedRows, ObjectRows, Space, StepRows};
use crate::{Result, StepRecord, Waiter};

impl NamedRows for World {
    async fn named(&mut self, space: Space, name: &str) -> Result<Option<String>> {
        let found = self.named.get(&(space, name.to_owned()));
        Ok(found.map(|(_, text)| text.clone()))
    }

    async fn put_named(
        &mut self,
        space: Space,
        name: &str,
        due: Option<Timestamp>,
        text: &str,
    ) -> Result<()> {
        self.drop_named(space, name).await?;
        self.named_due
            .extend(due.map(|due| (space, due, name.to_owned())));
        self.named
            .insert((space, name.to_owned()), (due, text.to_owned()));
        Ok(())
    }

    async fn drop_named(&mut self, space: Space, name: &str) -> Result<()> {
        if let Some((Some(due), _)) = self.named.remove(&(space, name.to_owned())) {
            self.named_due.remove(&(space, due, name.to_owned()));
        }
        Ok(())
    }

    async fn names(&mut self, space: Space, after: &str, limit: u32) -> Result<Vec<(String, String)>> {
        let after = Bound::Excluded((space, after.to_owned()));
        let all = self.named.range((after, Bound::Unbounded));
        let all = all.take_while(|((known, _), _)| *known == space);
        let found = all.map(|((_, name), (_, text))| (name.clone(), text.clone()));
        Ok(found.take(limit as usize).collect())
    }

    async fn due_named(&mut self, space: Space, now: Timestamp, limit: u32) -> Result<Vec<String>> {
        let first = (space, Timestamp::from_ms(i64::MIN), String::new());
        let due = self.named_due.range(first..);
        let due = due.take_while(|(known, due, _)| *known == space && *due <= now);
        let texts = due.filter_map(|(_, _, name)| self.named.get(&(space, name.clone())));
        let first = texts.take(limit as usize);
        Ok(first.map(|(_, text)| text.clone()).collect())
    }
}

impl LineRows for World {
    async fn hold(&mut self, primitive: &str, task: TaskId) -> Result<Option<Held>> {
        Ok(self.holds.get(&(primitive.to_owned(), task)).cloned())
    }

    async fn holds_of(&mut self, task: TaskId) -> Result<Vec<Held>> {
        let all = self.holds.values();
        Ok(all.filter(|held| held.holder.task == task).cloned().collect())
    }

    async fn insert_hold(&mut self, held: &Held) -> Result<()> {
        let key = (held.holder.grant.primitive.clone(), held.holder.task);
        self.holds.insert(key, held.clone());
        Ok(())
    }

    async fn delete_hold(&mut self, primitive: &str, task: TaskId) -> Result<()> {
        self.holds.remove(&(primitive.to_owned(), task));
        Ok(())
    }

    async fn waiter(&mut self, task: TaskId) -> Result<Option<Waiter>> {
        Ok(self.line.get(&task).cloned())
    }

    async fn insert_waiter(&mut self, waiter: &Waiter) -> Result<()> {
        self.line.insert(waiter.task, waiter.clone());
        Ok(())
    }

    async fn delete_waiter(&mut self, task: TaskId) -> Result<()> {
        self.line.remove(&task);
        Ok(())
    }

    async fn first_waiter(&mut self, primitive: &str) -> Result<Option<Waiter>> {
        let line = self.line.values().filter(|waiter| waiter.primitive == primitive);
        Ok(line.min_by_key(|waiter| waiter.place).cloned())
    }

    async fn impatient(&mut self, now: Timestamp, limit: u32) -> Result<Vec<Waiter>> {
        let all = self.line.values();
        let mut due: Vec<_> = all
            .filter(|waiter| waiter.until.is_some_and(|until| until <= now))
            .cloned()
            .collect();
        due.sort_by_key(|waiter| (waiter.until, waiter.task));
        due.truncate(limit as usize);
        Ok(due)
    }

    async fn insert_item(&mut self, queue: &str, place: u64, body: &Json) -> Result<()> {
        self.items.insert((queue.to_owned(), place), body.clone());
        Ok(())
    }

    async fn take_item(&mut self, queue: &str) -> Result<Option<(u64, Json)>> {
        let range = (queue.to_owned(), 0)..=(queue.to_owned(), u64::MAX);
        let first = self.items.range(range).next().map(|(key, _)| key.clone());
        Ok(first.and_then(|key| self.items.remove(&key).map(|body| (key.1, body))))
    }

    async fn drop_items(&mut self, queue: &str) -> Result<()> {
        self.items.retain(|(name, _), _| name != queue);
        Ok(())
    }
}

impl ObjectRows for World {
    async fn insert_version(&mut self, name: &str, version: u64, body: &Json) -> Result<()> {
        self.versions.insert((name.to_owned(), version), body.clone());
        Ok(())
    }

    async fn drop_versions(&mut self, name: &str, before: u64) -> Result<()> {
        self.versions
            .retain(|(known, version), _| known != name || *version >= before);
        Ok(())
    }
}

impl StepRows for World {
    async fn step(&mut self, row: &Row, name: &str) -> Result<Option<StepRecord>> {
        let mut all = self.steps.range((row.ord, 0)..=(row.ord, u64::MAX));
        let found = all.find(|(_, (step, _))| step.name == name);
        Ok(found.map(|(_, (step, _))| step.clone()))
    }

    async fn last_step(&mut self, row: &Row) -> Result<(u64, u64)> {
        let mut all = self.steps.range((row.ord, 0)..=(row.ord, u64::MAX));
        let last = all.next_back();
        Ok(last.map_or((0, 0), |((_, seq), (_, bytes))| (*seq, *bytes)))
    }

    async fn insert_step(&mut self, row: &Row, step: &StepRecord, bytes: u64) -> Result<()> {
        self.steps.insert((row.ord, step.seq), (step.clone(), bytes));
        Ok(())
    }
}
