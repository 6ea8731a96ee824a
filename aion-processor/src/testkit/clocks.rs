//! Cases about clocks that are set back and forth, as machines and people do.

use std::collections::BTreeSet;

use aion_types::{Json, Status};

use super::{Bench, wish};
use crate::{Acquired, Error, NameQuery, NewPrimitive, NewSchedule, PrimitiveKind, Start, TaskQuery, Want};

const HOUR_MS: i64 = 3_600_000;

async fn tick(bench: &Bench) -> u32 {
    bench.processor.tick().await.expect("time is kept").expired
}

/// A clock that is set back ends nothing and starts nothing, and its holder goes on.
pub async fn a_clock_set_back_ends_nothing(bench: Bench) {
    let lease = bench.claimed(bench.task()).await;
    let later = bench.clock_now().plus_ms(1_000);
    let delayed = bench.create(bench.task().with_start(Start::At(later))).await;
    bench.clock.advance_ms(-HOUR_MS);
    assert_eq!(tick(&bench).await, 0);
    let beat = bench.processor.heartbeat(lease.fence(), 60_000).await;
    assert_eq!(
        beat.expect("it holds the task").until,
        bench.clock_now().plus_ms(60_000)
    );
    assert_eq!(bench.get(delayed.id).await.status, Status::Preparing);
    bench.clock.advance_ms(59_999);
    assert_eq!(tick(&bench).await, 0);
    let done = bench.processor.complete(lease.fence(), Json::Null).await;
    assert_eq!(done.expect("it ends").status, Status::Completed);
}

/// A clock that jumps ends leases; when it is set back again, the old holder stays fenced.
pub async fn a_clock_set_forth_fences_the_holder(bench: Bench) {
    let old = bench.claimed(bench.task()).await;
    bench.clock.advance_ms(HOUR_MS);
    assert_eq!(tick(&bench).await, 1);
    bench.clock.advance_ms(-HOUR_MS);
    let refused = bench.processor.heartbeat(old.fence(), 60_000).await;
    assert!(matches!(refused, Err(Error::LeaseLost { .. })), "{refused:?}");
    let new = bench.claim().await;
    assert_eq!((new.task.id, new.epoch), (old.task.id, old.epoch + 1));
    for _ in 0..5 {
        bench.clock.advance_ms(-HOUR_MS);
        assert_eq!(tick(&bench).await, 0);
    }
    let refused = bench.processor.complete(old.fence(), Json::Null).await;
    assert!(matches!(refused, Err(Error::LeaseLost { .. })), "{refused:?}");
    bench
        .processor
        .complete(new.fence(), Json::Null)
        .await
        .expect("it holds the task");
}

/// A schedule makes no task twice for the same time, however often its clock shows it.
pub async fn schedules_repeat_no_time(bench: Bench) {
    let task = bench.task();
    let schedule = NewSchedule::new("hourly", "0 * * * *", task);
    bench
        .processor
        .put_schedule(schedule)
        .await
        .expect("the schedule is put");
    let (mut last, mut made) = (None, 0);
    for step_ms in [
        HOUR_MS,
        -HOUR_MS,
        HOUR_MS,
        -3 * HOUR_MS,
        3 * HOUR_MS,
        HOUR_MS,
        -HOUR_MS,
    ] {
        bench.clock.advance_ms(step_ms);
        made += bench.processor.tick().await.expect("time is kept").scheduled;
        let all = bench.processor.schedules(NameQuery::default()).await;
        let next = all.expect("they are read")[0].next_at;
        assert!(next >= last, "{next:?} after {last:?}");
        last = next;
    }
    assert_eq!(made, 2, "the clock passed two full hours for the first time");
    let tasks = bench
        .processor
        .tasks(TaskQuery::new())
        .await
        .expect("they are read")
        .tasks;
    let ids: BTreeSet<_> = tasks.iter().map(|task| task.id).collect();
    assert_eq!((tasks.len(), ids.len()), (2, 2));
}

/// A wait that ends in time ends when the clock says so, not when it is set back; the grant comes once.
pub async fn waits_survive_clocks(bench: Bench) {
    let mutex = NewPrimitive::new("mutex", PrimitiveKind::Mutex);
    bench.processor.declare(mutex).await.expect("it is declared");
    let holder = bench.claimed(bench.task()).await;
    let waiter = bench.claimed(bench.task()).await;
    let held = bench.processor.acquire(Want::new(holder.fence(), "mutex")).await;
    assert!(matches!(held, Ok(Acquired::Granted(_))), "{held:?}");
    let mut want = Want::new(waiter.fence(), "mutex");
    want.until = Some(bench.clock_now().plus_ms(1_000));
    bench.processor.acquire(want).await.expect("it waits");
    bench.clock.advance_ms(-HOUR_MS);
    assert_eq!(bench.processor.tick().await.expect("time is kept").gave_up, 0);
    bench.clock.advance_ms(HOUR_MS + 1_000);
    assert_eq!(bench.processor.tick().await.expect("time is kept").gave_up, 1);
    bench.clock.advance_ms(-HOUR_MS);
    assert_eq!(bench.processor.tick().await.expect("time is kept").gave_up, 0);
    assert_eq!(bench.get(waiter.task.id).await.status, Status::Ready);
    let again = bench
        .processor
        .claim(wish("worker").with_task(waiter.task.id))
        .await
        .expect("answered");
    assert_eq!(again.len(), 1);
}
