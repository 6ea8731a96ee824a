//! Real weights: the whole demo on our own engine, and on a model server that we did not write.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use aion_cli::demo::DemoReport;
use aion_cli::model::{DEFAULT_MODEL, ModelCache};

use crate::invariants;
use crate::world::{World, finish, said};

async fn demo(world: &World, more: &[&str]) -> DemoReport {
    let mut args = vec!["demo", "--json"];
    args.extend(more);
    let output = finish(world.aion(&args)).await;
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn check_all(world: &World, report: &DemoReport) {
    let node = world.node().await;
    for run in &report.runs {
        invariants::check(&node, run).await;
    }
    assert!(invariants::check_traces(&node).await > 0);
}

/// Both rounds of the demo on our engine: the invariants hold, what cannot be done is not done, and
/// the second round's prices beat chance.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the model: .ci/e2e"]
async fn our_engine_runs_the_demo_twice() {
    let world = World::with(&[]);
    let first = demo(&world, &[]).await;
    assert_eq!(first.runs.len(), 6);
    check_all(&world, &first).await;
    let impossible = first
        .runs
        .iter()
        .find(|run| run.kind == "demo.impossible")
        .unwrap();
    assert_eq!(impossible.outcome, aion_cli::run::RunOutcome::Failed);
    let every_step_measured = first
        .runs
        .iter()
        .flat_map(|run| &run.steps)
        .all(|step| step.persistence.is_some());
    assert!(
        every_step_measured,
        "our engine reports the persistence of every answer"
    );
    let second = demo(&world, &[]).await;
    check_all(&world, &second).await;
    let score = second.mean_log_score.unwrap().get();
    assert!(score > -1.0, "mean log score of the second round: {score} bits");
}

/// llama.cpp's own server, from a Python package.
struct LlamaServer {
    child: Child,
    url: String,
    _until_dropped: ChildStdin,
}

impl LlamaServer {
    fn start() -> Self {
        let model = ModelCache::from_env()
            .unwrap()
            .find(&DEFAULT_MODEL.into())
            .unwrap();
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/llama_server.py");
        let python = std::env::var("AION_XLLAMACPP_PYTHON").unwrap();
        let mut child = Command::new(python)
            .arg(script)
            .arg(model)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let until_dropped = child.stdin.take().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut url)
            .unwrap();
        Self {
            child,
            url: url.trim().to_owned(),
            _until_dropped: until_dropped,
        }
    }
}

impl Drop for LlamaServer {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _waited = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the model and xllamacpp: .ci/e2e"]
async fn an_unrelated_server_runs_the_demo() {
    if std::env::var("AION_SKIP_XLLAMACPP").is_ok_and(|value| value == "1") {
        eprintln!("skipped by AION_SKIP_XLLAMACPP=1");
        return;
    }
    let server = LlamaServer::start();
    let world = World::with(&[]);
    let report = demo(&world, &["--model", &server.url, "--style", "small"]).await;
    assert_eq!(report.runs.len(), 6);
    check_all(&world, &report).await;
}
