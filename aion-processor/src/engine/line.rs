//! Holding primitives and waiting for them, first come, first served.
//!
//! A task that does not get what it wants at once is BLOCKED: its lease ends and its slot is free.
//! When it is its turn it gets the grant, becomes READY, and finds the grant when it is claimed and
//! asks again. All of it is rows, so that a restart loses no wake-up.

use aion_types::{EventKind, Json, Status, TaskId, Timestamp};

use super::apply::{Before, Engine};
use super::log;
use super::machine::Input;
use super::named::read;
use super::row::Row;
use super::rows::{Held, Rows, Space};
use super::{check, gate};
use crate::{Done, Error, Fence, Grant, Holder, Primitive, PrimitiveKind, Result, Return, Waiter, Want};

/// Waiters that one change lets through at most; [`due`](super::due) goes on.
pub(super) const LET_THROUGH: u32 = 64;

impl<R: Rows> Engine<'_, R> {
    pub(super) async fn primitive(&mut self, name: &str) -> Result<Primitive> {
        let found = self.find(Space::Primitive, name).await?;
        found.ok_or_else(|| Error::Unknown {
            what: "primitive",
            name: name.to_owned(),
        })
    }

    pub(super) async fn acquire(&mut self, want: &Want) -> Result<Done> {
        let mut row = self.held(want.fence).await?;
        let mut primitive = self.primitive(&want.primitive).await?;
        check_units(&primitive, want.units)?;
        want.until.map_or(Ok(()), |until| check::moment("until", until))?;
        if let Some(held) = self.rows.hold(&want.primitive, row.id).await? {
            return Ok(Done::Grant(held.holder.grant));
        }
        check::at_most("holds", u64::from(row.holds) + 1, self.limits.max_holds.into())?;
        let alone = primitive.waiting == 0 || primitive.kind.is_gate();
        if alone && gate::lets(&primitive, want.units, u64::MAX, self.now) {
            let grant = self.grant(&mut primitive, &mut row, want.units).await?;
            row.touch(self.now);
            self.rows.put(&row, row.status).await?;
            self.keep_primitive(&primitive).await?;
            return Ok(Done::Grant(grant));
        }
        if want.until.is_some_and(|until| until <= self.now) {
            return Ok(Done::Nothing);
        }
        if row.cancel_requested {
            return self.end(row, Input::Cancel, None, Json::Null).await;
        }
        self.line_up(row, primitive, want).await
    }

    async fn line_up(&mut self, mut row: Row, mut primitive: Primitive, want: &Want) -> Result<Done> {
        let waiting = u64::from(primitive.waiting) + 1;
        check::at_most("waiting", waiting, self.limits.max_waiting.into())?;
        primitive.ticket += 1;
        primitive.waiting += 1;
        let waiter = Waiter {
            task: row.id,
            primitive: primitive.name.clone(),
            place: primitive.ticket,
            units: want.units,
            until: want.until,
            since: self.now,
        };
        self.rows.insert_waiter(&waiter).await?;
        self.keep_primitive(&primitive).await?;
        row.waiting_on = 1;
        let waits = log::waits_in_line(&waiter.primitive, waiter.place, waiter.units);
        self.change(&mut row, Input::Block, waits).await?;
        Ok(Done::Head(row.head()))
    }

    /// Gives the task what it wants; the caller writes row and primitive.
    async fn grant(&mut self, primitive: &mut Primitive, row: &mut Row, units: u32) -> Result<Grant> {
        primitive.ticket += 1;
        primitive.held += units;
        let (mut place, mut item) = (0, None);
        if matches!(primitive.kind, PrimitiveKind::Queue { .. }) {
            let taken = self.rows.take_item(&primitive.name).await?;
            let (at, body) = taken
                .ok_or_else(|| Error::Corrupt(format!("the queue {} has lost an item", primitive.name)))?;
            (place, item) = (at, Some(body));
            primitive.items -= 1;
        }
        let grant = Grant {
            primitive: primitive.name.clone(),
            token: primitive.ticket,
            units,
            item,
            since: self.now,
        };
        let holder = Holder {
            task: row.id,
            grant: grant.clone(),
        };
        self.rows.insert_hold(&Held { holder, place }).await?;
        row.holds += 1;
        let told = log::grant(&grant);
        self.rows.event(row, EventKind::Acquired, told, self.now).await?;
        Ok(grant)
    }

    pub(super) async fn give_back(
        &mut self,
        fence: Fence,
        primitive: &str,
        token: u64,
        how: Return,
    ) -> Result<Done> {
        let mut row = self.held(fence).await?;
        let Some(held) = self.rows.hold(primitive, row.id).await? else {
            self.primitive(primitive).await?;
            return Ok(Done::Head(row.head()));
        };
        if held.holder.grant.token != token {
            return Err(Error::Conflict(format!(
                "the task holds {primitive} by the token {}, not {token}",
                held.holder.grant.token
            )));
        }
        self.take_back(&mut row, &held, how).await?;
        row.touch(self.now);
        self.rows.put(&row, row.status).await?;
        Ok(Done::Head(row.head()))
    }

    /// Takes back everything from a task whose lease ends; passes of gates only if it ends itself.
    /// The caller writes the row.
    pub(super) async fn give_back_all(&mut self, row: &mut Row) -> Result<()> {
        let how = match row.status {
            Status::Completed => Return::Done,
            _ => Return::Undone,
        };
        for held in self.rows.holds_of(row.id).await? {
            let kind = self.primitive(&held.holder.grant.primitive).await?.kind;
            if row.status.is_terminal() || !kind.is_gate() {
                self.take_back(row, &held, how).await?;
            }
        }
        Ok(())
    }

    async fn take_back(&mut self, row: &mut Row, held: &Held, how: Return) -> Result<()> {
        let grant = &held.holder.grant;
        let mut primitive = self.primitive(&grant.primitive).await?;
        self.rows.delete_hold(&grant.primitive, row.id).await?;
        row.holds = row.holds.saturating_sub(1);
        primitive.held = primitive.held.saturating_sub(grant.units);
        if let (Return::Undone, Some(item)) = (how, &grant.item) {
            self.rows.insert_item(&grant.primitive, held.place, item).await?;
            primitive.items += 1;
        }
        let told = log::grant(grant);
        self.rows.event(row, EventKind::Returned, told, self.now).await?;
        self.settle(primitive, LET_THROUGH).await
    }

    /// Lets through whoever may pass now, in the order of the line, and stores the primitive.
    pub(super) async fn settle(&mut self, mut primitive: Primitive, budget: u32) -> Result<()> {
        primitive.moving = false;
        for done in 0..=budget {
            if primitive.waiting == 0 {
                break;
            }
            let first = self.rows.first_waiter(&primitive.name).await?;
            let first =
                first.ok_or_else(|| Error::Corrupt(format!("nobody waits for {}", primitive.name)))?;
            if !gate::lets(&primitive, first.units, first.place, self.now) {
                primitive.passing = 0;
                break;
            }
            primitive.moving = done == budget;
            if !primitive.moving {
                self.let_through(&mut primitive, &first).await?;
            }
        }
        self.keep_primitive(&primitive).await
    }

    async fn let_through(&mut self, primitive: &mut Primitive, waiter: &Waiter) -> Result<()> {
        let mut row = self.load(waiter.task).await?;
        self.rows.delete_waiter(row.id).await?;
        primitive.waiting -= 1;
        self.grant(primitive, &mut row, waiter.units).await?;
        self.wake(row).await
    }

    /// A blocked task goes on.
    pub(super) async fn wake(&mut self, mut row: Row) -> Result<()> {
        let before = Before::of(&row);
        row.waiting_on = 0;
        row.gather = None;
        row.gather_failed = false;
        let made = row.step(Input::Wake, self.now)?;
        self.write(&mut row, before, Input::Wake, made, Json::Null).await
    }

    /// Takes a task that ends, or does not want to wait any longer, out of its line.
    pub(super) async fn leave_line(&mut self, task: TaskId) -> Result<()> {
        let waiter = self.rows.waiter(task).await?;
        let waiter = waiter.ok_or_else(|| Error::Corrupt(format!("task {task} is in no line")))?;
        self.rows.delete_waiter(task).await?;
        let mut primitive = self.primitive(&waiter.primitive).await?;
        primitive.waiting = primitive.waiting.saturating_sub(1);
        self.settle(primitive, LET_THROUGH).await
    }

    /// Whoever does not want to wait any longer is ready again, and finds nothing when it asks.
    pub(super) async fn give_up_waiting(&mut self, task: TaskId) -> Result<()> {
        if self.rows.waiter(task).await?.is_none() {
            // Somebody before it gave up, and so it was its turn.
            return Ok(());
        }
        self.leave_line(task).await?;
        let row = self.load(task).await?;
        self.wake(row).await
    }

    /// Goes on where more waiters may pass, or a lock has opened.
    pub(super) async fn drain(&mut self, limit: u32) -> Result<u32> {
        let texts = self.rows.due_named(Space::Primitive, self.now, limit).await?;
        let found = texts.len() as u32;
        for text in texts {
            self.settle(read(&text)?, LET_THROUGH).await?;
        }
        Ok(found)
    }

    pub(super) async fn keep_primitive(&mut self, primitive: &Primitive) -> Result<()> {
        let due = match primitive.kind {
            _ if primitive.moving => Some(self.now),
            PrimitiveKind::TimestampLock if primitive.waiting > 0 => primitive.until,
            _ => None,
        };
        self.store(
            Space::Primitive,
            &primitive.name,
            due.map(at_least_zero),
            primitive,
        )
        .await
    }
}

fn at_least_zero(at: Timestamp) -> Timestamp {
    at.max(Timestamp::from_ms(0))
}

fn check_units(primitive: &Primitive, units: u32) -> Result<()> {
    let most = match primitive.kind {
        PrimitiveKind::Semaphore { permits } => permits,
        _ => 1,
    };
    check::between("units", units.into(), most.into())
}
