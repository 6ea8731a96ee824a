//! One task through all of it: `cargo run -p aion-examples --example round_trip`
//!
//! A scripted model stands in for the real one, so that this runs in a second; `aion run` does the
//! same with weights. Expect: two steps with prices, the check's verdict, R_T with its factors, bits
//! and trust, and the line of training text.
#![allow(clippy::print_stdout)]

use std::sync::Arc;

use aion_cli::demo::write_traces;
use aion_cli::node::Node;
use aion_cli::render;
use aion_cli::run::{self, RunRequest};
use aion_loop::testkit::{Script, ScriptedModel};
use aion_loop::{ChatModel, StepReport};
use serde_json::json;
use tokio_util::sync::CancellationToken;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // First of all: the sandbox starts this very program as the supervisor of what it executes.
    aion_machine::supervisor::run_if_requested();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(round_trip())
}

async fn round_trip() -> Result<(), Box<dyn std::error::Error>> {
    let home = tempfile::tempdir()?;
    let dir = home.path().join("project");
    std::fs::create_dir(&dir)?;
    std::fs::write(dir.join("shopping.txt"), "milk\nbread\nmilk\n")?;

    let node = Node::open(&home.path().join("data")).await?;
    let model = ScriptedModel::new([
        Script::call("read_file", &json!({"path": "shopping.txt"})),
        Script::call(
            "exec",
            &json!({"argv": ["sh", "-c", "sort -u shopping.txt > once.txt"]}),
        ),
    ]);
    let model: Arc<dyn ChatModel> = Arc::new(model.chat());

    let check = "[ \"$(wc -l < once.txt)\" -eq 2 ]";
    let request = RunRequest::new("Write once.txt: every line of shopping.txt once", &dir, check);
    let task = run::create(&node, &request).await?;
    let watcher = Arc::new(|step: &StepReport| println!("{}", render::step(step)));
    let report = run::work(&node, task, &model, Some(watcher), &CancellationToken::new()).await?;
    println!("{}", render::report(&report));

    for (path, lines) in write_traces(&node).await? {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        println!("{name}: {lines} lines");
    }
    println!("the original is untouched: {}", !dir.join("once.txt").exists());
    Ok(())
}
