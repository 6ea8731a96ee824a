//! A bound on what runs at once, over all workers: `cargo run -p aion-examples --example semaphore`
//!
//! Expect: six tasks want one of two printers; whoever has to wait takes no slot meanwhile; never more than two
//! print; when all is done nobody holds a printer.
#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aion_processor::worker::{Ctx, Worker};
use aion_processor::{Limits, MemTaskStore, NewPrimitive, NewTask, PrimitiveKind, Processor};
use aion_types::{Clock, Json, SystemClock, TaskId};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let processor = Processor::new(MemTaskStore::new(SystemClock, Limits::default()));
    let printers = NewPrimitive::new("printers", PrimitiveKind::Semaphore { permits: 2 });
    processor.declare(printers).await?;
    let mut jobs = Vec::new();
    for n in 1..=6 {
        let job = NewTask::new(TaskId::generate(SystemClock.now()), "print", format!("Page {n}"));
        jobs.push(processor.create(job.with_payload(Json::Int(n))).await?.id);
    }

    let (printing, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak) = (printing.clone(), most.clone());
    let worker = Worker::new(&processor).handle("print", move |ctx: Ctx, page: u32| {
        let (now, peak) = (now.clone(), peak.clone());
        async move {
            // The function ends here if both are taken, and runs again when it is its turn.
            let printer = ctx.acquire("printers").await?;
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            println!("page {page} is printed, token {}", printer.grant().token);
            printer.give_back().await?;
            Ok(())
        }
    });
    let printed = async {
        for job in jobs {
            // An error ends the wait, and shows below.
            let _ = processor.wait_for(job).await;
        }
    };
    worker.run(printed).await?;
    println!("at most {} at once", most.load(Ordering::SeqCst));
    println!("{} held at the end", processor.primitive("printers").await?.held);
    Ok(())
}
