//! Children, and waiting for them without a slot: `cargo run -p aion-examples --example gather`
//!
//! Expect: a worker that runs one task at a time counts the words of a book by a child for each chapter. The parent
//! makes the children, waits without holding the only slot, and runs again when the last of them has ended.
#![allow(clippy::print_stdout)]

use aion_processor::worker::{Ctx, Failure, Worker};
use aion_processor::{GatherPolicy, Limits, MemTaskStore, NewTask, Processor};
use aion_types::{Clock, Json, SystemClock, TaskId};

const BOOK: [&str; 3] = [
    "Call me Ishmael. Some years ago - never mind how long precisely",
    "I stuffed a shirt or two into my old carpet-bag",
    "Entering that gable-ended Spouter-Inn, you found yourself in a wide, low, straggling entry",
];

async fn count_book(ctx: Ctx, (): ()) -> Result<usize, Failure> {
    println!("the parent runs, epoch {}", ctx.fence().epoch);
    let mut chapters = Vec::new();
    for (n, text) in BOOK.iter().enumerate() {
        // The name makes it the same child in every run.
        chapters.push(ctx.spawn(format!("chapter {}", n + 1), "chapter", text).await?);
    }
    let mut words = 0;
    for chapter in ctx.gather(&chapters, GatherPolicy::All).await? {
        let counted: usize = chapter.result()?;
        println!("  {}: {counted} words", chapter.task().title);
        words += counted;
    }
    Ok(words)
}

async fn count_chapter(ctx: Ctx, text: String) -> Result<usize, Failure> {
    println!("  {} runs", ctx.task().title);
    Ok(text.split_whitespace().count())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let processor = Processor::new(MemTaskStore::new(SystemClock, Limits::default()));
    let book = NewTask::new(TaskId::generate(SystemClock.now()), "book", "Count the words");
    let book = processor.create(book.with_payload(Json::Null)).await?.id;
    let counted = async {
        // An error ends the wait, and shows when the book is read.
        let _ = processor.wait_for(book).await;
    };
    Worker::new(&processor)
        .with_slots(1)
        .handle("book", count_book)
        .handle("chapter", count_chapter)
        .run(counted)
        .await?;
    let book = processor.get(book).await?;
    println!("{}: {} words", book.status, serde_json::to_string(&book.result)?);
    Ok(())
}
