//! Names, lines, objects and the size of the file.

use aion_types::{Status, TaskId, Timestamp};
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Reader, column};
use crate::engine::named::read;
use crate::engine::rows::Space;
use crate::store::sqlite::codec::{self, int, storage};
use crate::store::{WAITS, page_size};
use crate::{Gather, Holder, Metrics, NameQuery, ObjectHead, ObjectRecord, Primitive, Result, Waits};

pub(in crate::store::sqlite) const NAMES: &str =
    "SELECT body FROM named WHERE space = ?1 AND name > ?2 ORDER BY name LIMIT ?3";
pub(in crate::store::sqlite) const HOLDERS: &str = "SELECT task, primitive, token, units, place, item, since FROM hold \
     INDEXED BY hold_primitive ORDER BY primitive, token LIMIT ?1";
pub(in crate::store::sqlite) const HOLDERS_OF: &str = "SELECT task, primitive, token, units, place, item, since FROM hold \
     INDEXED BY hold_primitive WHERE primitive = ?2 ORDER BY token LIMIT ?1";
pub(in crate::store::sqlite) const WAITERS: &str = "SELECT task, primitive, place, units, until, since FROM waiter \
     INDEXED BY waiter_line ORDER BY primitive, place LIMIT ?1";
pub(in crate::store::sqlite) const WAITERS_OF: &str = "SELECT task, primitive, place, units, until, since FROM waiter \
     INDEXED BY waiter_line WHERE primitive = ?2 ORDER BY place LIMIT ?1";
pub(in crate::store::sqlite) const GATHERS: &str = "SELECT w.uid, c.uid, w.gather FROM dep d JOIN task w ON w.ord = d.waiter \
     JOIN task c ON c.ord = d.child WHERE w.gather IS NOT NULL ORDER BY d.child, d.waiter LIMIT ?1";
pub(in crate::store::sqlite) const OLDEST: &str =
    "SELECT created_at FROM task INDEXED BY task_status WHERE status = ?1 ORDER BY ord LIMIT 1";

impl Reader<'_> {
    pub(super) async fn one<T: DeserializeOwned>(&self, space: Space, name: &str) -> Result<Vec<T>> {
        let statement =
            sqlx::query_scalar::<_, String>("SELECT body FROM named WHERE space = ?1 AND name = ?2");
        let statement = statement.bind(space as i64).bind(name.to_owned());
        let texts = statement.fetch_all(self.pool).await.map_err(storage)?;
        texts.iter().map(|text| read(text)).collect()
    }

    pub(super) async fn names<T: DeserializeOwned>(&self, space: Space, query: &NameQuery) -> Result<Vec<T>> {
        let limit = page_size(query.limit, self.max_page)?;
        let statement = sqlx::query_scalar::<_, String>(NAMES)
            .bind(space as i64)
            .bind(query.after.clone().unwrap_or_default())
            .bind(limit);
        let texts = statement.fetch_all(self.pool).await.map_err(storage)?;
        texts.iter().map(|text| read(text)).collect()
    }

    pub(super) async fn holds(&self, task: TaskId) -> Result<Waits> {
        let statement = sqlx::query(super::super::sql::HOLDS_OF).bind(task.as_bytes().to_vec());
        let rows = statement.fetch_all(self.pool).await.map_err(storage)?;
        Ok(Waits {
            holders: rows.iter().map(holder).collect::<Result<_>>()?,
            ..Waits::default()
        })
    }

    pub(super) async fn waits(&self, name: Option<&str>) -> Result<Waits> {
        let mut waits = Waits {
            holders: self.lines(HOLDERS, HOLDERS_OF, name, holder).await?,
            waiters: self.lines(WAITERS, WAITERS_OF, name, codec::waiter).await?,
            ..Waits::default()
        };
        if name.is_none() {
            let statement = sqlx::query(GATHERS).bind(i64::from(WAITS) + 1);
            let rows = statement.fetch_all(self.pool).await.map_err(storage)?;
            waits.gathers = rows.iter().map(gather).collect::<Result<_>>()?;
        }
        let held = waits.holders.iter().map(|holder| &holder.grant.primitive);
        let names = held.chain(waits.waiters.iter().map(|waiter| &waiter.primitive));
        let names: std::collections::BTreeSet<String> = names.cloned().collect();
        for name in names {
            let found: Vec<Primitive> = self.one(Space::Primitive, &name).await?;
            waits.primitives.extend(found);
        }
        waits.cut_to(WAITS);
        Ok(waits)
    }

    async fn lines<T>(
        &self,
        all: &'static str,
        of_one: &'static str,
        name: Option<&str>,
        each: impl Fn(&SqliteRow) -> Result<T>,
    ) -> Result<Vec<T>> {
        let limit = i64::from(WAITS) + 1;
        let statement = match name {
            None => sqlx::query(all).bind(limit),
            Some(name) => sqlx::query(of_one).bind(limit).bind(name.to_owned()),
        };
        let rows = statement.fetch_all(self.pool).await.map_err(storage)?;
        rows.iter().map(each).collect()
    }

    pub(super) async fn object(&self, name: &str, version: Option<u64>) -> Result<Option<Box<ObjectRecord>>> {
        let Some(head) = self.one::<ObjectHead>(Space::Object, name).await?.pop() else {
            return Ok(None);
        };
        let version = version.unwrap_or(head.version);
        let sql = "SELECT body FROM object_version WHERE name = ?1 AND version = ?2";
        let statement = sqlx::query_scalar::<_, String>(sql).bind(name.to_owned());
        let body = statement.bind(int(version)).fetch_optional(self.pool).await;
        let Some(body) = body.map_err(storage)? else {
            return Ok(None);
        };
        let body = read(&body)?;
        Ok(Some(Box::new(ObjectRecord { head, version, body })))
    }

    pub(super) async fn metrics(&self, full: bool) -> Result<Metrics> {
        let page = self
            .number("SELECT page_size FROM pragma_page_size")
            .await?
            .unwrap_or(0);
        let pages = self
            .number("SELECT page_count FROM pragma_page_count")
            .await?
            .unwrap_or(0);
        let free = self
            .number("SELECT freelist_count FROM pragma_freelist_count")
            .await?
            .unwrap_or(0);
        let last = self
            .number("SELECT seq FROM sqlite_sequence WHERE name = 'event'")
            .await?;
        let first = self.number("SELECT at FROM event ORDER BY seq LIMIT 1").await?;
        let mut oldest = [None; Status::ALL.len()];
        for status in Status::ALL {
            let statement = sqlx::query_scalar::<_, i64>(OLDEST).bind(status as i64);
            let found = statement.fetch_optional(self.pool).await.map_err(storage)?;
            oldest[status as usize] = found.map(Timestamp::from_ms);
        }
        Ok(Metrics {
            bytes: (pages * page).unsigned_abs(),
            free_bytes: Some((free * page).unsigned_abs()),
            last_seq: last.unwrap_or(0).unsigned_abs(),
            oldest_event: first.map(Timestamp::from_ms),
            oldest,
            full,
        })
    }

    async fn number(&self, sql: &'static str) -> Result<Option<i64>> {
        let statement = sqlx::query(sql);
        let row = statement.fetch_optional(self.pool).await.map_err(storage)?;
        row.map(|row| row.try_get(0).map_err(storage)).transpose()
    }
}

fn holder(row: &SqliteRow) -> Result<Holder> {
    Ok(codec::held(row)?.holder)
}

fn gather(row: &SqliteRow) -> Result<Gather> {
    let task = |index| codec::task_id(row.try_get(index).map_err(storage)?);
    Ok(Gather {
        waiter: task(0)?,
        task: task(1)?,
        policy: codec::policy(column(row, 2)?)?,
    })
}
