//! What primitives are told, and whom they let through.

use aion_types::{Json, Timestamp};

use super::apply::Engine;
use super::check;
use super::line::LET_THROUGH;
use super::rows::{Rows, Space};
use crate::{Done, Error, NewPrimitive, Primitive, PrimitiveKind, Result, Signal};

/// Whether a primitive lets somebody through who wants so many units and has this place in the line.
pub(super) fn lets(primitive: &Primitive, units: u32, place: u64, now: Timestamp) -> bool {
    match primitive.kind {
        // Fewer permits than were asked for: all of them will do.
        PrimitiveKind::Semaphore { permits } => primitive.held.saturating_add(units.min(permits)) <= permits,
        PrimitiveKind::Mutex => primitive.held == 0,
        PrimitiveKind::Event => primitive.open || place <= primitive.passing,
        PrimitiveKind::TimestampLock => {
            primitive.until.is_none_or(|until| until <= now) || place <= primitive.passing
        }
        PrimitiveKind::Queue { .. } => primitive.items > 0,
    }
}

/// Keys of puts that a queue knows.
const KEYS: usize = 64;

impl<R: Rows> Engine<'_, R> {
    pub(super) async fn declare(&mut self, new: &NewPrimitive) -> Result<Done> {
        check::primitive(new, self.limits)?;
        let found: Option<Primitive> = self.find(Space::Primitive, &new.name).await?;
        let Some(mut primitive) = found else {
            let primitive = fresh(new);
            self.keep_primitive(&primitive).await?;
            return Ok(Done::Primitive(primitive));
        };
        if std::mem::discriminant(&primitive.kind) != std::mem::discriminant(&new.kind) {
            let (name, kind) = (&new.name, primitive.kind.as_str());
            return Err(Error::Conflict(format!("{name} is a {kind}")));
        }
        if primitive.kind != new.kind {
            primitive.kind = new.kind;
            self.settle(primitive, LET_THROUGH).await?;
        }
        self.primitive(&new.name).await.map(Done::Primitive)
    }

    pub(super) async fn undeclare(&mut self, name: &str) -> Result<Done> {
        let primitive = self.primitive(name).await?;
        if primitive.held > 0 || primitive.waiting > 0 {
            return Err(Error::Conflict(format!("{name} is in use")));
        }
        self.rows.drop_items(name).await?;
        self.rows.drop_named(Space::Primitive, name).await?;
        Ok(Done::Nothing)
    }

    pub(super) async fn signal(&mut self, name: &str, signal: &Signal) -> Result<Done> {
        let mut primitive = self.primitive(name).await?;
        match (primitive.kind, signal) {
            (PrimitiveKind::Event, Signal::Set) => primitive.open = true,
            (PrimitiveKind::Event, Signal::Reset) => {
                if primitive.open {
                    primitive.passing = primitive.ticket;
                }
                primitive.open = false;
            }
            (PrimitiveKind::Event, Signal::Pulse) => primitive.passing = primitive.ticket,
            (PrimitiveKind::TimestampLock, Signal::ShutUntil(until)) => {
                check::moment("until", *until)?;
                if primitive.until.is_none_or(|until| until <= self.now) {
                    primitive.passing = primitive.ticket;
                }
                primitive.until = Some(*until).filter(|until| *until > self.now);
            }
            (PrimitiveKind::Queue { capacity }, Signal::Put(item)) => {
                self.put(&mut primitive, capacity, item).await?;
            }
            (PrimitiveKind::Queue { capacity }, Signal::PutOnce { key, item }) => {
                check::name("key", key)?;
                let put = (hash(key.as_bytes()), hash(&json_bytes(item)?));
                match primitive.puts.iter().find(|before| before.0 == put.0) {
                    Some(before) if *before == put => return Ok(Done::Primitive(primitive)),
                    Some(_) => return Err(Error::Conflict(format!("the key {key} stands for another item"))),
                    None => {}
                }
                self.put(&mut primitive, capacity, item).await?;
                let old = (primitive.puts.len() + 1).saturating_sub(KEYS);
                primitive.puts.drain(..old);
                primitive.puts.push(put);
            }
            (kind, _) => {
                let why = format!("{name} is a {}", kind.as_str());
                return Err(Error::invalid("signal", why));
            }
        }
        self.settle(primitive, LET_THROUGH).await?;
        self.primitive(name).await.map(Done::Primitive)
    }
}

impl<R: Rows> Engine<'_, R> {
    /// Adds an item; the caller writes the primitive.
    async fn put(&mut self, primitive: &mut Primitive, capacity: u32, item: &Json) -> Result<()> {
        check::json("item", item, self.limits.max_item_bytes)?;
        check::at_most("items", u64::from(primitive.items) + 1, capacity.into())?;
        primitive.ticket += 1;
        primitive.items += 1;
        self.rows
            .insert_item(&primitive.name, primitive.ticket, item)
            .await
    }
}

fn json_bytes(item: &Json) -> Result<Vec<u8>> {
    serde_json::to_vec(item).map_err(|error| Error::invalid("item", error.to_string()))
}

fn hash(bytes: &[u8]) -> u64 {
    let mut bits = [0; 8];
    bits.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    u64::from_le_bytes(bits)
}

fn fresh(new: &NewPrimitive) -> Primitive {
    Primitive {
        name: new.name.clone(),
        kind: new.kind,
        ticket: 0,
        held: 0,
        waiting: 0,
        items: 0,
        open: false,
        until: None,
        passing: 0,
        moving: false,
        puts: Vec::new(),
    }
}
