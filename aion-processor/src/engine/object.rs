//! Objects: named context with a version, and calls that work on it.

use aion_types::Json;

use super::apply::Engine;
use super::check;
use super::rows::{Rows, Space};
use crate::{Call, CallMode, Concurrency, Done, Error, Expect, NewTask, ObjectHead, PutObject, Result};

impl<R: Rows> Engine<'_, R> {
    pub(super) async fn put_object(&mut self, put: &PutObject) -> Result<Done> {
        check::name("name", &put.name)?;
        check::json("body", &put.body, self.limits.max_object_bytes)?;
        let by = match put.fence {
            Some(fence) => Some(self.held(fence).await?.id),
            None => None,
        };
        let before = self.object(&put.name).await?;
        expects(&put.name, before.as_ref(), put.expect)?;
        let version = 1 + match &before {
            Some(head) => head.version,
            None => self.largest_gone().await?,
        };
        let first = before.as_ref().map_or(version, |head| head.oldest);
        let kept = u64::from(self.limits.max_object_versions.max(1));
        let head = ObjectHead {
            name: put.name.clone(),
            version,
            oldest: (version + 1).saturating_sub(kept).max(first),
            by,
            created_at: before.as_ref().map_or(self.now, |head| head.created_at),
            updated_at: self.now,
        };
        self.rows.insert_version(&put.name, version, &put.body).await?;
        if before.is_some_and(|before| before.oldest < head.oldest) {
            self.rows.drop_versions(&put.name, head.oldest).await?;
        }
        self.store(Space::Object, &put.name, None, &head).await?;
        Ok(Done::Object(head))
    }

    pub(super) async fn drop_object(&mut self, name: &str, expect: Expect) -> Result<Done> {
        let head = self.known_object(name).await?;
        expects(name, Some(&head), expect)?;
        let gone = self.largest_gone().await?.max(head.version);
        self.store(Space::Gone, "", None, &gone).await?;
        self.rows.drop_versions(name, u64::MAX).await?;
        self.rows.drop_named(Space::Object, name).await?;
        Ok(Done::Nothing)
    }

    /// Spawns a task that works on a version. An equal call gives the task that is there, with the
    /// version that it was made with.
    pub(super) async fn call(&mut self, call: &Call) -> Result<Done> {
        let head = self.known_object(&call.object).await?;
        let parent = match call.fence {
            Some(fence) => Some(self.held(fence).await?.id),
            None => call.task.parent,
        };
        check::new_task(&call.task, self.limits)?;
        if call.mode == CallMode::Exclusive && call.task.concurrency.is_some() {
            return Err(Error::invalid(
                "concurrency",
                "an exclusive call has that of its object",
            ));
        }
        let mut new = NewTask {
            parent,
            ..call.task.clone()
        };
        let version = match self.version_of_before(&new).await? {
            Some(version) => version,
            None => {
                let expect = call.version.map_or(Expect::Any, Expect::Version);
                expects(&call.object, Some(&head), expect)?;
                head.version
            }
        };
        new.payload = payload(&call.object, version, &call.task.payload);
        if call.mode == CallMode::Exclusive {
            let key = format!("{}{}", check::CALLS, call.object);
            new.concurrency = Some(Concurrency { key, max: 1 });
        }
        check::json("payload", &new.payload, self.limits.max_payload_bytes)?;
        self.create_checked(&new).await
    }

    /// The version with which this task was called before.
    async fn version_of_before(&mut self, new: &NewTask) -> Result<Option<u64>> {
        let mut there = self.rows.row(new.id).await?;
        if let (None, Some(key)) = (&there, &new.key) {
            there = self.rows.keyed(new.parent, key).await?;
        }
        let Some(there) = there else { return Ok(None) };
        let body = self.rows.body(&there).await?;
        let version = body
            .payload
            .get("object")
            .and_then(|object| object.get("version"));
        Ok(match version {
            Some(Json::Int(version)) => u64::try_from(*version).ok(),
            _ => None,
        })
    }

    /// The largest version of an object that was removed: new ones begin above it, so that no version of a name ever
    /// comes again. One number does for all names, however many come and go.
    async fn largest_gone(&mut self) -> Result<u64> {
        Ok(self.find(Space::Gone, "").await?.unwrap_or_default())
    }

    async fn object(&mut self, name: &str) -> Result<Option<ObjectHead>> {
        self.find(Space::Object, name).await
    }

    async fn known_object(&mut self, name: &str) -> Result<ObjectHead> {
        self.object(name).await?.ok_or_else(|| Error::Unknown {
            what: "object",
            name: name.to_owned(),
        })
    }
}

fn expects(name: &str, found: Option<&ObjectHead>, expect: Expect) -> Result<()> {
    let found = found.map(|head| head.version);
    let fits = match expect {
        Expect::Any => true,
        Expect::Absent => found.is_none(),
        Expect::Version(version) => found == Some(version),
    };
    if fits {
        return Ok(());
    }
    Err(Error::Conflict(match found {
        Some(version) => format!("the object {name} is at version {version}"),
        None => format!("there is no object {name}"),
    }))
}

/// What the handler of a call gets.
fn payload(object: &str, version: u64, input: &Json) -> Json {
    let version = Json::Int(version.try_into().unwrap_or(i64::MAX));
    let object = Json::object([("name", Json::from(object)), ("version", version)]);
    Json::object([("object", object), ("input", input.clone())])
}
