//! kill -9 at any moment, then `aion resume`: the same world in the end, and nothing done twice.

use std::process::Child;
use std::time::Duration;

use aion_cli::run::RunOutcome;
use aion_loop::testkit::{Script, ScriptedModel};
use serde_json::{Value, json};

use crate::invariants;
use crate::world::{World, files, finish, report, said};

const WRITES: usize = 6;

/// A model without memory: its next move follows from how many moves the prompt shows.
fn next_move(request: &Value) -> Script {
    let messages = request["messages"].as_array().unwrap();
    let done = messages
        .iter()
        .filter(|message| message["role"] == "assistant")
        .count();
    match done {
        n if n >= 2 * WRITES => Script::finish("SUCCESS", "all written"),
        n if n % 2 == 0 => Script::call(
            "write_file",
            &json!({"path": format!("f{}.txt", n / 2), "content": format!("{}\n", n / 2)}),
        ),
        n => Script::call(
            "exec",
            &json!({"argv": ["sh", "-c", format!("sleep 0.05; echo {} >> log.txt", n / 2)]}),
        ),
    }
}

fn kill(mut child: Child) {
    // SIGKILL, which nobody can prepare for.
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_ends_in_the_same_world() {
    let world = World::with(&[("a.txt", "one\n")]);
    let server = ScriptedModel::answering(next_move).listen().await.unwrap();
    let check = format!("test -s f{}.txt", WRITES - 1);
    let steps = (2 * WRITES + 6).to_string();
    let mut first = world.run(
        &server.base_url(),
        "Write six files",
        &check,
        &["--steps", &steps],
    );
    let child = first.spawn().unwrap();
    tokio::time::sleep(jitter(900)).await;
    kill(child);
    let resume = || world.aion(&["resume", "--model", &server.base_url(), "--json"]);
    let again = resume().spawn().unwrap();
    tokio::time::sleep(Duration::from_secs(11) + jitter(1_500)).await;
    kill(again);
    let output = finish(resume()).await;
    if said(&output).contains("no unfinished task") {
        return; // It had ended before the second kill, and so nothing was left to resume.
    }
    let last = report(&output);
    assert_eq!(last.outcome, RunOutcome::Success, "{}", said(&output));
    let written = files(&last.workspace);
    for n in 0..WRITES {
        assert!(
            written.contains(&(format!("f{n}.txt"), format!("{n}\n"))),
            "f{n}.txt: {written:?}"
        );
    }
    let log = written
        .iter()
        .find(|(name, _)| name == "log.txt")
        .map_or("", |(_, text)| text);
    let mut lines: Vec<_> = log.lines().collect();
    lines.sort_unstable();
    let before = lines.len();
    lines.dedup();
    assert_eq!(before, lines.len(), "a command ran twice: {log:?}");
    invariants::check(&world.node().await, &last).await;
}

/// Some time between 0 and `ms`, another one in every run.
fn jitter(ms: u64) -> Duration {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Duration::from_millis(200 + u64::from(now.subsec_nanos()) % ms)
}
