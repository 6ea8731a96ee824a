//! A task that outlives its worker: `cargo run -p aion-examples --example durable_task`
//!
//! Expect: worker `a` claims and vanishes; its late write is refused; worker `b` goes on with the
//! messages that `a` left, and completes the task; the log tells the story in order.
#![allow(clippy::print_stdout)]

use aion_processor::{
    ClaimReq, Limits, MessageQuery, NewMessage, NewTask, Processor, SqliteOptions, SqliteTaskStore,
};
use aion_types::{Clock, HandlerId, Json, ManualClock, Role, TaskId, Timestamp};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    // Time is a parameter: this clock stands still until it is moved.
    let clock = ManualClock::at(Timestamp::from_ms(0));
    let options = SqliteOptions::default()
        .with_clock(clock.clone())
        .with_limits(Limits::default());
    let store = SqliteTaskStore::open(dir.path().join("tasks.db"), options).await?;
    let processor = Processor::new(store);

    let id = TaskId::generate(clock.now());
    let task = NewTask::new(id, "report", "Write the report").with_spec("One page on tomatoes.");
    processor.create(task).await?;

    let claim =
        |name: &str| Ok::<_, aion_types::Error>(ClaimReq::new(HandlerId::new(name)?).with_lease_ms(5_000));
    let a = processor.claim(claim("a")?).await?.remove(0);
    processor
        .append(a.fence(), NewMessage::new(Role::Assistant, "An outline."))
        .await?;
    println!("a holds epoch {} until {}", a.epoch, a.until);

    // `a` is silent for longer than its lease.
    clock.advance_ms(6_000);
    let due = processor.tick().await?;
    println!("{} lease ran out", due.expired);

    let b = loop {
        // A lost lease may cost a pause; time is ours here.
        clock.advance_ms(60_000);
        processor.tick().await?;
        if let Some(lease) = processor.claim(claim("b")?).await?.pop() {
            break lease;
        }
    };
    println!("b holds epoch {}", b.epoch);
    let late = processor
        .append(a.fence(), NewMessage::new(Role::Assistant, "Too late."))
        .await;
    println!(
        "a's late write: {}",
        late.err().map_or_else(String::new, |error| error.to_string())
    );

    let messages = processor.messages(id, MessageQuery::new()).await?.messages;
    println!("b reads: {}", messages[0].content);
    processor.complete(b.fence(), Json::from("The report.")).await?;

    for event in processor.events(0, 100).await?.events {
        println!("{:>3} {}", event.seq, event.kind.as_str());
    }
    Ok(())
}
