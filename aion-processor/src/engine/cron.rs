//! Schedules: tasks that are made when a cron pattern says so.

use aion_types::{TaskId, Timestamp};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;

use super::apply::Engine;
use super::check;
use super::named::read;
use super::rows::{Rows, Space};
use crate::{Done, Error, NewSchedule, NewTask, Overlap, Result, Schedule, Start};

/// Bytes of a cron pattern.
const MAX_PATTERN_BYTES: u64 = 256;

impl<R: Rows> Engine<'_, R> {
    pub(super) async fn put_schedule(&mut self, new: &NewSchedule) -> Result<Done> {
        check::name("name", &new.name)?;
        check::at_most("cron", new.cron.len() as u64, MAX_PATTERN_BYTES)?;
        check::new_task(&new.task, self.limits)?;
        if new.task.key.is_some() || new.task.start != Start::Now {
            return Err(Error::invalid("task", "it has a key or a start of its own"));
        }
        if new.task.fence.is_some() {
            return Err(Error::invalid("task", "it outlives every lease, and has a fence"));
        }
        let next_at = next_after(new, self.now)?;
        if next_at.is_none() {
            return Err(Error::invalid("cron", "it never comes"));
        }
        let before: Option<Schedule> = self.find(Space::Schedule, &new.name).await?;
        let same = |old: &&Schedule| (&old.spec.cron, &old.spec.zone) == (&new.cron, &new.zone);
        // A time that passed meanwhile is still to be made up for.
        let kept = before.as_ref().filter(same).and_then(|before| before.next_at);
        let schedule = Schedule {
            spec: new.clone(),
            next_at: kept.or(next_at),
            last_at: before.as_ref().and_then(|before| before.last_at),
            last_task: before.as_ref().and_then(|before| before.last_task),
            error: None,
        };
        self.keep_schedule(&schedule).await?;
        Ok(Done::Schedule(Box::new(schedule)))
    }

    pub(super) async fn drop_schedule(&mut self, name: &str) -> Result<Done> {
        self.rows.drop_named(Space::Schedule, name).await?;
        Ok(Done::Nothing)
    }

    /// Makes the tasks whose time has come; gives how many schedules were due and how many tasks
    /// were made.
    pub(super) async fn run_schedules(&mut self, limit: u32) -> Result<(u32, u32)> {
        let texts = self.rows.due_named(Space::Schedule, self.now, limit).await?;
        let mut made = 0;
        for text in &texts {
            let mut schedule: Schedule = read(text)?;
            made += u32::from(self.run_schedule(&mut schedule).await?);
            self.keep_schedule(&schedule).await?;
        }
        Ok((texts.len() as u32, made))
    }

    /// Whether a task was made. A task that is refused stops the schedule, which says why.
    async fn run_schedule(&mut self, schedule: &mut Schedule) -> Result<bool> {
        let Some(at) = schedule.next_at else {
            return Ok(false);
        };
        schedule.next_at = next_after(&schedule.spec, self.now)?;
        if schedule.spec.overlap == Overlap::Skip && self.is_open(schedule.last_task).await? {
            return Ok(false);
        }
        let new = task_of(&schedule.spec, at, self.now);
        match self.create(&new).await {
            Ok(_) => {
                schedule.last_at = Some(self.now);
                schedule.last_task = Some(new.id);
                Ok(true)
            }
            Err(error) if error.is_refusal() => {
                schedule.next_at = None;
                schedule.error = Some(error.to_string());
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn is_open(&mut self, task: Option<TaskId>) -> Result<bool> {
        let Some(task) = task else { return Ok(false) };
        let row = self.rows.row(task).await?;
        Ok(row.is_some_and(|row| !row.status.is_terminal()))
    }

    async fn keep_schedule(&mut self, schedule: &Schedule) -> Result<()> {
        self.store(Space::Schedule, &schedule.spec.name, schedule.next_at, schedule)
            .await
    }
}

/// The task of one time: the id tells name and time apart from every other.
fn task_of(spec: &NewSchedule, at: Timestamp, now: Timestamp) -> NewTask {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&at.as_ms().to_le_bytes())
        .update(spec.name.as_bytes());
    let mut tail = [0; 10];
    tail.copy_from_slice(&hasher.finalize().as_bytes()[..10]);
    NewTask {
        id: TaskId::from_parts(now, tail),
        ..spec.task.clone()
    }
}

/// The first time after `now`; none if there is none.
fn next_after(spec: &NewSchedule, now: Timestamp) -> Result<Option<Timestamp>> {
    let pattern = pattern(&spec.cron)?;
    let zone = TimeZone::get(&spec.zone)
        .map_err(|_| Error::invalid("zone", "there is no time zone of this name"))?;
    let here = jiff::Timestamp::from_millisecond(now.as_ms())
        .map_err(|error| Error::invalid("cron", error.to_string()))?
        .to_zoned(zone);
    let next = pattern.find_next_occurrence(&here, false).ok();
    Ok(next.map(|next| Timestamp::from_ms(next.timestamp().as_millisecond())))
}

fn pattern(text: &str) -> Result<Cron> {
    let parser = CronParser::builder()
        .seconds(Seconds::Optional)
        .year(Year::Disallowed)
        .build();
    let parsed = parser.parse(text);
    parsed.map_err(|error| Error::invalid("cron", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(cron: &str, zone: &str, now: &str) -> String {
        let now: jiff::Timestamp = now.parse().unwrap();
        let spec = NewSchedule::new(
            "n",
            cron,
            NewTask::new(TaskId::generate(Timestamp::from_ms(0)), "k", "t"),
        )
        .with_zone(zone);
        let next = next_after(&spec, Timestamp::from_ms(now.as_millisecond())).unwrap();
        let next = next.map(|at| jiff::Timestamp::from_millisecond(at.as_ms()).unwrap());
        next.map_or_else(|| "never".to_owned(), |at| at.to_string())
    }

    /// Worked times, also over the start of summer time in Berlin, on 29 March 2026, and its end on 25 October.
    #[test]
    fn times_are_those_of_the_place() {
        let cases = [
            (
                "*/15 * * * *",
                "UTC",
                "2026-01-01T00:07:00Z",
                "2026-01-01T00:15:00Z",
            ),
            (
                "*/15 * * * *",
                "UTC",
                "2026-01-01T00:15:00Z",
                "2026-01-01T00:30:00Z",
            ),
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-01-01T00:00:00Z",
                "2026-01-01T01:30:00Z",
            ),
            (
                "0 12 * * MON",
                "Europe/Berlin",
                "2026-07-01T00:00:00Z",
                "2026-07-06T10:00:00Z",
            ),
            (
                "*/20 * * * * *",
                "UTC",
                "2026-01-01T00:00:01Z",
                "2026-01-01T00:00:20Z",
            ),
            (
                "0 0 29 2 *",
                "UTC",
                "2026-01-01T00:00:00Z",
                "2028-02-29T00:00:00Z",
            ),
            ("0 0 30 2 *", "UTC", "2026-01-01T00:00:00Z", "never"),
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-03-29T00:00:00Z",
                "2026-03-29T01:00:00Z",
            ),
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-10-25T00:00:00Z",
                "2026-10-25T00:30:00Z",
            ),
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-10-25T00:30:00Z",
                "2026-10-26T01:30:00Z",
            ),
            (
                "*/30 * * * *",
                "Europe/Berlin",
                "2026-10-25T00:30:00Z",
                "2026-10-25T01:00:00Z",
            ),
            (
                "*/30 * * * *",
                "Europe/Berlin",
                "2026-03-29T00:30:00Z",
                "2026-03-29T01:00:00Z",
            ),
        ];
        for (cron, zone, now, wanted) in cases {
            assert_eq!(next(cron, zone, now), wanted, "{cron} {zone} after {now}");
        }
    }

    /// Nonsense is refused.
    #[test]
    fn bad_patterns_are_refused() {
        for text in ["", "* * * *", "61 * * * *", "* * * * * * * *", "hello"] {
            assert!(
                matches!(pattern(text), Err(Error::Invalid { what: "cron", .. })),
                "{text}"
            );
        }
    }
}
