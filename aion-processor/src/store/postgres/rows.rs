//! The tree of the engine inside one transaction of Postgres.

use aion_types::{EventKind, Json, MessageRecord, Status, TaskId, Timestamp};

use super::codec::{self, int, storage, text, to_text};
use super::put::{Happened, Made, Said, bytes};
use super::sql;
use super::tx::Tx;
use crate::engine::row::{Body, Row};
use crate::engine::rows::{Outcome, Rows};
use crate::{ClaimReq, Error, Result};

impl Rows for Tx<'_> {
    async fn row(&mut self, id: TaskId) -> Result<Option<Row>> {
        self.find(id).await
    }

    async fn body(&mut self, row: &Row) -> Result<Body> {
        if self.made.contains_key(&row.ord) || self.endings.contains_key(&row.ord) {
            self.flush_tasks().await?;
        }
        let found = self.one(sqlx::query(sql::BODY).bind(int(row.ord))).await?;
        let found = found.ok_or_else(|| Error::Corrupt(format!("task {} has no body", row.id)))?;
        codec::body(&found, 0)
    }

    async fn keyed(&mut self, parent: Option<TaskId>, key: &str) -> Result<Option<Row>> {
        if let Some(id) = self.keys.get(&(parent, key.to_owned())).copied() {
            return self.find(id).await;
        }
        let parent = parent.map_or_else(Vec::new, bytes);
        let statement = sqlx::query_scalar::<_, Vec<u8>>(sql::KEYED)
            .bind(parent)
            .bind(text(key));
        let found = statement
            .fetch_optional(self.server().await?)
            .await
            .map_err(storage)?;
        match found {
            Some(id) => self.find(codec::task_id(&id)?).await,
            None => Ok(None),
        }
    }

    async fn insert(&mut self, row: &mut Row, body: &Body, key: Option<&str>) -> Result<()> {
        self.writes += 1;
        self.last_ord += 1;
        row.ord = self.last_ord;
        self.count(None, row);
        self.lonely.insert(row.ord);
        self.know(row.id, Some(row.clone()));
        if let Some(key) = key {
            self.keys.insert((row.parent_id, key.to_owned()), row.id);
        }
        let made = Made {
            id: row.id,
            body: body.clone(),
            key: key.map(str::to_owned),
        };
        self.made.insert(row.ord, made);
        Ok(())
    }

    async fn put(&mut self, row: &Row, was: Status) -> Result<()> {
        self.writes += 1;
        if row.status != was {
            self.count(Some(was), row);
            self.keep(row.clone());
            return Ok(());
        }
        let Some(mut known) = self.find(row.id).await? else {
            return Err(Error::Corrupt(format!("task {} is not there", row.id)));
        };
        known.lease_until = row.lease_until;
        known.cancel_requested = row.cancel_requested;
        known.open_children = row.open_children;
        known.waiting_on = row.waiting_on;
        known.gather_failed = row.gather_failed;
        known.messages = row.messages;
        known.version = row.version;
        known.updated_at = row.updated_at;
        known.holds = row.holds;
        known.purging = row.purging;
        self.keep(known);
        Ok(())
    }

    async fn put_gated(&mut self, row: &Row) -> Result<()> {
        self.writes += 1;
        self.ready += u32::from(!row.gated);
        self.shelf.clear();
        let Some(mut known) = self.find(row.id).await? else {
            return Err(Error::Corrupt(format!("task {} is not there", row.id)));
        };
        known.gated = row.gated;
        self.keep(known);
        Ok(())
    }

    async fn put_outcome(&mut self, row: &Row, outcome: &Outcome) -> Result<()> {
        self.writes += 1;
        self.endings.entry(row.ord).or_default().add(outcome)
    }

    async fn event(&mut self, row: &Row, kind: EventKind, body: Json, at: Timestamp) -> Result<u64> {
        self.writes += 1;
        self.last_seq += 1;
        self.events.push(Happened {
            seq: self.last_seq,
            task: row.id,
            root: row.root_id,
            kind,
            body: to_text(&body)?,
            at,
        });
        Ok(self.last_seq)
    }

    async fn keyed_message(&mut self, row: &Row, key: &str) -> Result<Option<MessageRecord>> {
        self.flush_messages().await?;
        let statement = sqlx::query(sql::KEYED_MESSAGE).bind(int(row.ord));
        let found = self.one(statement.bind(text(key))).await?;
        found.map(|found| codec::message(row.id, &found)).transpose()
    }

    async fn insert_message(&mut self, row: &Row, message: &MessageRecord, key: Option<&str>) -> Result<()> {
        self.writes += 1;
        self.messages.push(Said::new(row, message, key)?);
        Ok(())
    }

    async fn ready(&mut self, claim: &ClaimReq) -> Result<Vec<(Row, Body)>> {
        self.find_ready(claim).await
    }

    async fn ready_queues(&mut self, from: &str, limit: u32) -> Result<Vec<String>> {
        self.find_ready_queues(from, limit).await
    }

    async fn first_gated(&mut self, key: &str) -> Result<Option<Row>> {
        self.flush_tasks().await?;
        let statement = sqlx::query(sql::FIRST_GATED).bind(text(key)).bind(true);
        Ok(self.rows(statement).await?.pop())
    }

    async fn last_placed(&mut self, key: &str) -> Result<Option<Row>> {
        self.flush_tasks().await?;
        let statement = sqlx::query(sql::LAST_PLACED).bind(text(key)).bind(false);
        Ok(self.rows(statement).await?.pop())
    }

    async fn expired(&mut self, now: Timestamp, limit: u32) -> Result<Vec<Row>> {
        self.flush_tasks().await?;
        self.rows(sqlx::query(sql::EXPIRED).bind(now.as_ms()).bind(i64::from(limit)))
            .await
    }

    async fn delayed(&mut self, now: Timestamp, limit: u32) -> Result<Vec<Row>> {
        self.flush_tasks().await?;
        self.rows(sqlx::query(sql::DELAYED).bind(now.as_ms()).bind(i64::from(limit)))
            .await
    }

    async fn children(&mut self, parent: TaskId, after: u64, limit: u32) -> Result<Vec<Row>> {
        self.flush_tasks().await?;
        let statement = sqlx::query(sql::CHILDREN).bind(bytes(parent)).bind(int(after));
        self.rows(statement.bind(i64::from(limit))).await
    }

    async fn wait(&mut self, waiter: &Row, child: &Row) -> Result<()> {
        self.writes += 1;
        self.lonely.remove(&child.ord);
        self.deps.insert((child.ord, waiter.ord));
        Ok(())
    }

    async fn take_waiters(&mut self, child: &Row) -> Result<Vec<TaskId>> {
        if self.lonely.contains(&child.ord) {
            return Ok(Vec::new());
        }
        self.flush_tasks().await?;
        self.flush_deps().await?;
        let statement = sqlx::query_scalar::<_, Vec<u8>>(sql::WAITERS).bind(int(child.ord));
        let found = statement.fetch_all(self.server().await?).await.map_err(storage)?;
        if !found.is_empty() {
            self.write(sqlx::query("DELETE FROM dep WHERE child = $1").bind(int(child.ord)))
                .await?;
        }
        self.lonely.insert(child.ord);
        found.iter().map(|bytes| codec::task_id(bytes)).collect()
    }

    async fn drop_waits(&mut self, waiter: &Row) -> Result<()> {
        self.flush_deps().await?;
        self.write(sqlx::query("DELETE FROM dep WHERE waiter = $1").bind(int(waiter.ord)))
            .await
    }

    async fn open_in_tree(&mut self, root: TaskId) -> Result<Option<TaskId>> {
        self.flush_tasks().await?;
        let statement = sqlx::query_scalar::<_, Vec<u8>>(sql::OPEN_IN_TREE).bind(bytes(root));
        let found = statement
            .fetch_optional(self.server().await?)
            .await
            .map_err(storage)?;
        found.map(|bytes| codec::task_id(&bytes)).transpose()
    }

    async fn purge(&mut self, root: TaskId, max: u32) -> Result<u32> {
        self.flush().await?;
        let statement = sqlx::query_as::<_, (i64, i64)>(sql::NEWEST_IN_TREE).bind(bytes(root));
        let newest = statement
            .bind(i64::from(max))
            .fetch_all(self.server().await?)
            .await;
        let newest = newest.map_err(storage)?;
        let Some((from, _)) = newest.last() else {
            return Ok(0);
        };
        for (_, status) in &newest {
            self.tally[codec::status(*status)? as usize] -= 1;
        }
        for sql in sql::PURGE {
            self.write(sqlx::query(sql).bind(bytes(root)).bind(*from)).await?;
        }
        let gone = |row: &Row| row.root_id == root && int(row.ord) >= *from;
        self.known.retain(|_, row| !row.as_ref().is_some_and(gone));
        self.keys.clear();
        self.shelf.clear();
        Ok(newest.len() as u32)
    }
}
