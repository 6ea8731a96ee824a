//! `aion run` against a model server that follows a script.

use aion_cli::run::RunOutcome;
use aion_loop::testkit::{Script, ScriptedModel};
use serde_json::json;

use crate::invariants;
use crate::world::{SECRET, World, files, finish, report, said};

#[tokio::test(flavor = "multi_thread")]
async fn a_task_goes_all_the_way_round() {
    let world = World::with(&[("notes.txt", &format!("api_key = {SECRET}\nbread\n"))]);
    let model = ScriptedModel::new([
        Script::call("read_file", &json!({"path": "notes.txt"})),
        Script::call("write_file", &json!({"path": "list.md", "content": "- bread\n"})),
        Script::finish("SUCCESS", "listed"),
    ]);
    let server = model.listen().await.unwrap();
    let command = world.run(
        &server.base_url(),
        "List what is in notes.txt",
        "grep -q bread list.md",
        &[],
    );
    let output = finish(command).await;
    assert!(output.status.success(), "{}", said(&output));
    let report = report(&output);
    assert_eq!(report.outcome, RunOutcome::Success);
    assert_eq!(report.files.len(), 1);
    assert!(!world.dir().join("list.md").exists(), "the original was touched");
    let node = world.node().await;
    invariants::check(&node, &report).await;
    assert!(invariants::check_traces(&node).await > 0);
    assert!(!said(&output).contains("Bearer"));
}

/// With keys in the data directory the loop signs for its tasks, and the log says for which.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_signs_what_it_asks_of_the_machine() {
    let world = World::with(&[("a.txt", "one\n")]);
    std::fs::create_dir_all(world.data()).unwrap();
    let keys = "k 0123456789abcdef0123456789abcdef";
    std::fs::write(world.data().join("task.keys"), keys).unwrap();
    let model = ScriptedModel::new([
        Script::call("write_file", &json!({"path": "b.txt", "content": "two\n"})),
        Script::finish("SUCCESS", "done"),
    ]);
    let server = model.listen().await.unwrap();
    let output = finish(world.run(&server.base_url(), "Write b.txt", "grep -q two b.txt", &[])).await;
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(report(&output).outcome, RunOutcome::Success);
    let log = world.data().join("machine/audit/audit-000000000001.jsonl");
    let rows: Vec<serde_json::Value> = std::fs::read_to_string(log)
        .unwrap()
        .lines()
        .map(|row| serde_json::from_str(row).unwrap())
        .collect();
    let writes: Vec<_> = rows.iter().filter(|row| row["op"] == "write").collect();
    assert_eq!(writes.len(), 2, "{rows:?}");
    assert!(writes.iter().all(|row| row["task"].is_string()), "{writes:?}");
    assert!(rows.iter().all(|row| row["outcome"] != "denied"), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_has_the_last_word_and_apply_is_asked_for() {
    let world = World::with(&[("a.txt", "one\n")]);
    let boast = || Script::finish("SUCCESS", "done");
    let model = ScriptedModel::new([boast(), boast(), boast()]);
    let server = model.listen().await.unwrap();
    let lying = finish(world.run(
        &server.base_url(),
        "Write b.txt",
        "test -s b.txt",
        &["--steps", "3", "--apply"],
    ))
    .await;
    assert_eq!(lying.status.code(), Some(1), "{}", said(&lying));
    assert_eq!(report(&lying).outcome, RunOutcome::Failed);

    model.push(Script::call(
        "write_file",
        &json!({"path": "b.txt", "content": "two\n"}),
    ));
    model.push(Script::call(
        "edit_file",
        &json!({"path": "a.txt", "old": "one", "new": "1"}),
    ));
    let check = "grep -q two b.txt && grep -q 1 a.txt";
    let honest = finish(world.run(&server.base_url(), "Write b.txt", check, &["--apply"])).await;
    assert!(honest.status.success(), "{}", said(&honest));
    assert!(report(&honest).applied);
    let expected = [
        ("a.txt".to_owned(), "1\n".to_owned()),
        ("b.txt".to_owned(), "two\n".to_owned()),
    ];
    assert_eq!(files(&world.dir()), expected);
    let node = world.node().await;
    for output in [&lying, &honest] {
        invariants::check(&node, &report(output)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_server_that_misbehaves_does_no_harm() {
    let world = World::with(&[("a.txt", "one\n")]);
    let write = || Script::call("write_file", &json!({"path": "b.txt", "content": "two\n"}));
    let model = ScriptedModel::new([
        Script::Html("<html>busy</html>".into()),
        write().cut_at(20),
        Script::Status {
            status: 429,
            message: "slow down".into(),
            retry_after_s: Some(1),
        },
        Script::Calls(vec![("write_file".into(), "{\"path\": ".into())]),
        Script::call("write_file", &json!({"path": "../../escape.txt", "content": "x"})),
        Script::call("no_such_tool", &json!({})),
        write(),
    ]);
    let server = model.listen().await.unwrap();
    let output = finish(world.run(
        &server.base_url(),
        "Write b.txt",
        "grep -q two b.txt",
        &["--steps", "20"],
    ))
    .await;
    let report = report(&output);
    if report.outcome == RunOutcome::Paused {
        // A page instead of an answer is not transient: the run rests, and is taken up again.
        let resumed = finish(world.aion(&["resume", "--model", &server.base_url(), "--json"])).await;
        assert!(resumed.status.success(), "{}", said(&resumed));
    } else {
        assert_eq!(report.outcome, RunOutcome::Success, "{}", said(&output));
    }
    assert!(!world.data().join("work/escape.txt").exists());
    assert!(!world.data().join("escape.txt").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_before_anything_happens() {
    let world = World::with(&[("a.txt", "one\n")]);
    let dir = world.dir();
    let dir = dir.to_str().unwrap();
    let nowhere = "http://127.0.0.1:9/v1";
    let cases: [(&[&str], &str); 4] = [
        (
            &["run", "", "--dir", dir, "--check", "true", "--model", nowhere],
            "goal is empty",
        ),
        (
            &[
                "run",
                "x",
                "--dir",
                "/no/such/dir",
                "--check",
                "true",
                "--model",
                nowhere,
            ],
            "no directory",
        ),
        (
            &["run", "x", "--dir", dir, "--check", " ", "--model", nowhere],
            "check is empty",
        ),
        (&["resume", "--model", nowhere], "no unfinished task"),
    ];
    for (args, expected) in cases {
        let output = finish(world.aion(args)).await;
        assert!(!output.status.success());
        assert!(said(&output).contains(expected), "{}", said(&output));
    }
}
