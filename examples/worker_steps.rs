//! A function that survives its process: `cargo run -p aion-examples --example worker_steps`
//!
//! Expect: the first worker charges the card and is gone before it ships; the second one does not charge again,
//! and ships. What is in a step is done once; what is outside of one runs in every run.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use aion_processor::worker::{Ctx, Failure, Worker};
use aion_processor::{NewTask, Processor, SqliteOptions, SqliteTaskStore, StepQuery};
use aion_types::{Clock, ManualClock, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Order {
    item: String,
    cents: u32,
}

#[derive(Serialize, Deserialize)]
struct Receipt {
    number: u32,
}

async fn fulfil(ctx: Ctx, order: Order) -> Result<String, Failure> {
    println!("run {} begins", ctx.fence().epoch);
    let receipt = ctx
        .step("charge", async {
            println!("  charging {} cents", order.cents);
            Ok(Receipt { number: 17 })
        })
        .await?;
    if ctx.fence().epoch == 1 {
        println!("  the power fails");
        std::future::pending::<()>().await;
    }
    ctx.step("ship", async {
        println!("  shipping {}", order.item);
        Ok(format!("{} shipped for receipt {}", order.item, receipt.number))
    })
    .await
}

fn worker(processor: &Processor) -> Worker {
    Worker::new(processor)
        .with_lease(Duration::from_secs(30))
        .handle("order", fulfil)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    // Time is a parameter: this clock stands still until it is moved.
    let clock = ManualClock::at(Timestamp::from_ms(0));
    let options = SqliteOptions::default().with_clock(clock.clone());
    let processor = Processor::new(SqliteTaskStore::open(directory.path().join("shop.db"), options).await?);

    let order = NewTask::new(TaskId::generate(clock.now()), "order", "An order");
    let payload = serde_json::from_str(r#"{"item": "a teapot", "cents": 4200}"#)?;
    let order = processor.create(order.with_payload(payload)).await?.id;

    let first = tokio::spawn(worker(&processor).run(std::future::pending()));
    while processor
        .steps(order, StepQuery::default())
        .await?
        .steps
        .is_empty()
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Nobody says goodbye: the lease runs out.
    first.abort();
    clock.advance_ms(30_000);

    let shipped = async {
        // An error ends the wait, and shows when the order is read.
        let _ = processor.wait_for(order).await;
    };
    worker(&processor).run(shipped).await?;
    let order = processor.get(order).await?;
    println!("{}: {}", order.status, serde_json::to_string(&order.result)?);
    for step in processor.steps(order.id, StepQuery::default()).await?.steps {
        println!("step {} {}", step.seq, step.name);
    }
    Ok(())
}
