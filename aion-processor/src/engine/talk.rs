//! Messages of a task.

use aion_types::{EventKind, MessageRecord, TaskId, Timestamp};

use super::apply::{Engine, check_fence};
use super::row::Row;
use super::rows::Rows;
use super::{check, log};
use crate::{Done, Error, NewMessage, Result};

impl<R: Rows> Engine<'_, R> {
    pub(super) async fn append(
        &mut self,
        task: TaskId,
        epoch: Option<u64>,
        new: &NewMessage,
    ) -> Result<Done> {
        check::message(new, self.limits)?;
        let mut row = self.load(task).await?;
        if let Some(key) = &new.key
            && let Some(first) = self.rows.keyed_message(&row, key).await?
        {
            return Ok(Done::Message(Box::new(first)));
        }
        may_append(&row, epoch)?;
        row.messages += 1;
        row.touch(self.now);
        let message = record_of(new, &row, self.now);
        self.rows
            .insert_message(&row, &message, new.key.as_deref())
            .await?;
        let told = log::message(&message);
        self.rows.event(&row, EventKind::Message, told, self.now).await?;
        self.rows.put(&row, row.status).await?;
        Ok(Done::Message(Box::new(message)))
    }
}

fn may_append(row: &Row, epoch: Option<u64>) -> Result<()> {
    if let Some(epoch) = epoch {
        return check_fence(row, epoch);
    }
    if row.status.is_terminal() {
        return Err(Error::IllegalTransition {
            from: row.status,
            input: "have new messages",
        });
    }
    Ok(())
}

fn record_of(new: &NewMessage, row: &Row, now: Timestamp) -> MessageRecord {
    MessageRecord {
        format: aion_types::Format::default(),
        task_id: row.id,
        seq: row.messages,
        role: new.role,
        content: new.content.clone(),
        tool_calls: new.tool_calls.clone(),
        tool_call_id: new.tool_call_id.clone(),
        persistence: new.persistence.clone(),
        created_at: now,
    }
}
