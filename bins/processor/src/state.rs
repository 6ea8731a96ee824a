//! `GET /state`: what an agent should know of the tasks, in few words.

use aion_processor::{Order, Processor, TaskQuery};
use aion_service::{Problem, StateQuery, StateSource};
use aion_types::{Status, TaskId, TaskRecord};
use async_trait::async_trait;
use serde_json::{Map, Value, json};

use crate::problem::in_query;

/// Tasks that run, and tasks that ended last, shown at most.
const SHOWN: u32 = 10;
/// Characters of a title or an error that are shown.
const TEXT_CHARS: usize = 120;

/// The state of the processor.
#[derive(Debug)]
pub(crate) struct TaskState {
    processor: Processor,
}

impl TaskState {
    pub(crate) const fn new(processor: Processor) -> Self {
        Self { processor }
    }

    async fn brief(&self, query: &StateQuery) -> Result<Value, aion_processor::Error> {
        let own = match query.task_state.as_deref().and_then(task_of) {
            Some(id) => self.processor.find(id).await?,
            None => None,
        };
        let counts = self.processor.counts().await?;
        let running = TaskQuery::new()
            .with_statuses([Status::Running])
            .with_order(Order::Newest)
            .with_limit(SHOWN);
        let running = self.processor.tasks(running).await?.tasks;
        let ended = self.processor.ended(SHOWN).await?.tasks;
        let counts: Map<String, Value> = Status::ALL
            .into_iter()
            .map(|status| (status.as_str().to_owned(), counts.of(status).into()))
            .collect();
        let mut state = Map::new();
        if let Some(own) = &own {
            state.insert("task".to_owned(), task(own));
        }
        state.insert("counts".to_owned(), counts.into());
        state.insert("running".to_owned(), running.iter().map(line).collect());
        state.insert("ended".to_owned(), ended.iter().map(line).collect());
        let troubled = crate::webhooks::troubled(&self.processor).await?;
        if !troubled.is_empty() {
            state.insert("webhooks".to_owned(), troubled.into());
        }
        Ok(json!({ "processor": state }))
    }
}

#[async_trait]
impl StateSource for TaskState {
    async fn state(&self, query: &StateQuery) -> Result<Value, Problem> {
        self.brief(query).await.map_err(in_query)
    }

    async fn ready(&self) -> Result<(), String> {
        let metrics = self
            .processor
            .metrics()
            .await
            .map_err(|error| error.to_string())?;
        if metrics.full {
            return Err(
                "storage_full: the storage is full, and nothing is claimed until it has room".to_owned(),
            );
        }
        Ok(())
    }

    async fn measure(&self) {
        if let Err(error) = crate::size::measure(&self.processor).await {
            tracing::warn!(%error, "the size of the store cannot be read");
        }
    }
}

/// The task that `X-Task-State` names: its id, or a JSON object with the member `task_id`.
fn task_of(text: &str) -> Option<TaskId> {
    if let Ok(id) = text.trim().parse() {
        return Some(id);
    }
    let value: Value = serde_json::from_str(text).ok()?;
    value.get("task_id")?.as_str()?.parse().ok()
}

/// The caller's own task, in a few members that change only when the task does.
fn task(task: &TaskRecord) -> Value {
    let mut members = line(task);
    members["attempt"] = task.attempt.into();
    members["open_children"] = task.open_children.into();
    members["waiting_on"] = task.waiting_on.into();
    members["cancel_requested"] = task.cancel_requested.into();
    members
}

fn line(task: &TaskRecord) -> Value {
    let mut members = json!({
        "id": task.id.to_string(),
        "kind": task.kind,
        "title": clip(&task.title),
        "status": task.status.as_str(),
    });
    if let Some(error) = &task.error {
        members["error"] = clip(error).into();
    }
    members
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_names_a_task_in_two_ways() {
        let id = "01893d0e-7c00-7abc-8def-0123456789ab";
        let wanted = id.parse().ok();
        assert_eq!(task_of(id), wanted);
        assert_eq!(
            task_of(&format!(r#"{{"task_id": "{id}", "cwd": "a/b"}}"#)),
            wanted
        );
        for other in ["", "{}", "[1]", r#"{"task_id": 3}"#, "not json"] {
            assert_eq!(task_of(other), None);
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(clip(&"ü".repeat(200)).chars().count(), TEXT_CHARS + 3);
        assert_eq!(clip("short"), "short");
    }
}
