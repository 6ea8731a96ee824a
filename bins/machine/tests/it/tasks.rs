//! Signed task states, and the audit log.

use std::process::Command;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aion_machine::{RelPath, TaskKeys};
use aion_machine_server::{ExecutionOptions, Unsigned};
use serde_json::{Value, json};

use crate::support::{Server, call, options};

const KEYS: &str = "new fedcba9876543210fedcba9876543210\nold 0123456789abcdef0123456789abcdef";

fn keys(text: &str) -> Arc<TaskKeys> {
    Arc::new(TaskKeys::parse(text).unwrap())
}

fn signed(key: &str, cwd: &str, life_s: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    keys(key).sign(
        Some("t1"),
        Some(&RelPath::parse(cwd).unwrap()),
        now.saturating_add_signed(life_s),
    )
}

fn write() -> Value {
    json!({"path": "f", "content": "x"})
}

#[tokio::test]
async fn only_signed_states_are_believed_where_there_are_keys() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(&dir).with_task_keys(keys(KEYS));
    let server = Server::of(dir, options);
    let (new, old) = (KEYS.lines().next().unwrap(), KEYS.lines().last().unwrap());
    for key in [new, old] {
        server
            .ok(call("write_file", write()).task(&signed(key, "jobs/1", 60)))
            .await;
    }
    assert!(server.file("jobs/1/f").exists());
    let refused = async |state: &str| server.problem(call("write_file", write()).task(state)).await;
    let unknown = "other 0123456789abcdef0123456789abcdef";
    let forged = "new 0123456789abcdef0123456789abcdef";
    for (state, code) in [
        (signed(new, "a", -1), "task_state_expired"),
        (signed(unknown, "a", 60), "task_state_unknown_key"),
        (signed(forged, "a", 60), "task_state_forged"),
        (r#"{"task_id": "t1"}"#.to_owned(), "task_state_unsigned"),
        ("a.b".to_owned(), "task_state_unsigned"),
    ] {
        assert_eq!(refused(&state).await, (401, code.to_owned()));
    }
    assert_eq!(
        server.problem(call("write_file", write())).await.1,
        "task_state_unsigned"
    );
    let (status, _) = server.get("/state", None).await;
    assert_eq!(status.as_u16(), 401);
    assert!(!server.file("a").exists());
}

#[tokio::test]
async fn without_keys_unsigned_states_are_believed_and_signed_ones_are_not() {
    let server = Server::new();
    server
        .ok(call("write_file", write()).task(r#"{"task_id": "t1"}"#))
        .await;
    let state = signed(KEYS.lines().next().unwrap(), "a", 60);
    let refused = server.problem(call("write_file", write()).task(&state)).await;
    assert_eq!(refused, (401, "task_state_unknown_key".to_owned()));
    let dir = tempfile::tempdir().unwrap();
    let strict = options(&dir).with_unsigned(Unsigned::Refuse);
    let server = Server::of(dir, strict);
    assert_eq!(server.problem(call("write_file", write())).await.0, 401);
    let dir = tempfile::tempdir().unwrap();
    let both = options(&dir)
        .with_task_keys(keys(KEYS))
        .with_unsigned(Unsigned::Accept);
    let server = Server::of(dir, both);
    server.ok(call("write_file", write())).await;
}

#[tokio::test]
async fn what_was_asked_allowed_and_denied_can_be_read_and_verified() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("audit");
    let options = options(&dir).with_audit(&log);
    let server = Server::of(dir, options);
    let task = r#"{"task_id": "t1"}"#;
    let secret = "hunter2-hunter2";
    server
        .ok(call("write_file", json!({"path": "f", "content": secret})).task(task))
        .await;
    let argv = json!(["sh", "-c", format!("echo {secret}"), "--password", secret]);
    server
        .ok(call("exec", json!({"argv": argv, "env": {"WORD": secret}})).task(task))
        .await;
    server
        .problem(call("exec", json!({"argv": ["true"], "env": {"MY_TOKEN": secret}})).task(task))
        .await;
    server
        .problem(call("read_file", json!({"path": "../etc/passwd"})).task(task))
        .await;
    server
        .problem(call("read_file", json!({"path": "f"})).task("x.y"))
        .await;
    let (_, page) = server.get("/v1/audit?limit=3", None).await;
    assert_eq!(
        (page["rows"].as_array().unwrap().len(), &page["next"]),
        (3, &json!(3))
    );
    let (_, page) = server.get("/v1/audit", None).await;
    let rows = page["rows"].as_array().unwrap();
    let seen: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["op"].as_str().unwrap(),
                row["outcome"].as_str().unwrap(),
                row["code"].as_str().unwrap_or(""),
            )
        })
        .collect();
    assert!(
        seen.starts_with(&[("write", "asked", ""), ("write", "done", "")]),
        "{seen:?}"
    );
    for expected in [
        ("exec", "asked", ""),
        ("exec", "done", ""),
        ("exec", "denied", "env_denied"),
        ("request", "denied", "invalid_body"),
        ("task_state", "denied", "task_state_unknown_key"),
    ] {
        assert!(seen.contains(&expected), "{expected:?} in {seen:?}");
    }
    let done = rows
        .iter()
        .find(|row| row["op"] == "exec" && row["outcome"] == "done")
        .unwrap();
    assert_eq!(
        (&done["end"]["exit_code"], &done["end"]["tier"], &done["task"]),
        (&json!(0), &json!("namespaces"), &json!("t1"))
    );
    let text = std::fs::read_to_string(log.join("audit-000000000001.jsonl")).unwrap();
    assert_eq!(
        text.matches(secret).count(),
        1,
        "only in the line of the shell, which nothing marks: {text}"
    );
    let verify = |known: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aion-machine-server"));
        command
            .arg("--audit")
            .arg(&log)
            .args(["audit", "verify", "--known", known]);
        command.output().unwrap()
    };
    let newest = format!("{}:{}", page["last"], page["last_hash"].as_str().unwrap());
    let good = verify(&newest);
    assert!(good.status.success(), "{good:?}");
    assert!(String::from_utf8_lossy(&good.stdout).contains(&newest));
    std::fs::write(
        log.join("audit-000000000001.jsonl"),
        text.replace("\"outcome\":\"denied\"", "\"outcome\":\"done\""),
    )
    .unwrap();
    let bad = verify(&newest);
    assert!(
        !bad.status.success() && String::from_utf8_lossy(&bad.stderr).contains("was changed"),
        "{bad:?}"
    );
}

#[tokio::test]
async fn the_log_is_outside_and_can_be_off() {
    let server = Server::new();
    let long = format!("/v1/audit?task={}", "0".repeat(129));
    assert_eq!(server.get(&long, None).await.0, 422);
    let (status, body) = server.get("/v1/audit", None).await;
    assert_eq!((status.as_u16(), &body["code"]), (404, &json!("audit_off")));
    let dir = tempfile::tempdir().unwrap();
    let inside = options(&dir).with_audit(dir.path().join("work/audit"));
    assert!(matches!(
        aion_machine_server::service(inside),
        Err(aion_machine_server::OpenError::AuditInside { .. })
    ));
}

/// Whatever is asked has a row, wherever it is answered; only reading the log has none.
#[tokio::test]
async fn every_request_has_its_row() {
    let dir = tempfile::tempdir().unwrap();
    let few = ExecutionOptions::default().with_max_per_task(1);
    let options = options(&dir)
        .with_audit(dir.path().join("audit"))
        .with_executions(few);
    let server = Server::of(dir, options);
    let task = r#"{"task_id": "t1", "cwd": "."}"#;
    let mut after = 0;
    let mut rows = async || {
        let (_, page) = server.get(&format!("/v1/audit?after={after}"), None).await;
        after = page["last"].as_u64().unwrap();
        let rows = page["rows"].as_array().unwrap().clone();
        let word = |value: &Value| value.as_str().unwrap_or("").to_owned();
        rows.iter()
            .map(|row| {
                let words = ["op", "outcome", "code", "task"].map(|name| word(&row[name]));
                words.join(" ").trim_end().to_owned()
            })
            .collect::<Vec<_>>()
    };
    let sleep = || call("executions", json!({"argv": ["sleep", "600"]})).task(task);
    let (_, started) = server.send(sleep().key("k")).await;
    assert_eq!(rows().await, ["exec asked  t1"]);
    server.send(sleep().key("k")).await;
    assert_eq!(rows().await, ["request done  t1"], "answered by the key");
    let other = json!({"argv": ["true"]});
    server
        .send(call("executions", other.clone()).key("k").task(task))
        .await;
    server.send(call("executions", other.clone()).task(task)).await;
    server.send(call("exec", other).task(task)).await;
    let long = json!({"argv": ["true"], "limits": {"wall_ms": 99_000_000}});
    server.send(call("executions", long).task(task)).await;
    let refused = [
        "request denied idempotency_key_reused t1",
        "request denied task_busy t1",
        "request denied task_busy t1",
        "request denied invalid_request t1",
    ];
    assert_eq!(rows().await, refused);
    let path = format!("/v1/executions/{}", started["id"].as_str().unwrap());
    server.get(&path, Some(task)).await;
    server.get("/v1/executions", Some(task)).await;
    server.get("/v1/executions/none", Some(task)).await;
    let reads = [
        "request done  t1",
        "request done  t1",
        "request denied unknown_execution t1",
    ];
    assert_eq!(rows().await, reads);
    server.delete(&path).await;
    server.get(&format!("{path}/events"), None).await;
    let mut seen = rows().await;
    seen.sort();
    assert_eq!(seen, ["exec done  t1", "kill asked", "kill done", "request done"]);
    server.get("/v1/enforcement", None).await;
    assert_eq!(rows().await, ["probe asked", "probe done"]);
    assert_eq!(rows().await, [""; 0]);
}

/// Where tasks are told apart, what all of them do is the operator's.
#[tokio::test]
async fn the_log_and_the_probe_are_the_operators() {
    let key = "an operator's own key";
    let api_key = || aion_service::ApiKey::new(&key.into()).unwrap();
    let paths = ["/v1/audit", "/v1/enforcement"];
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("audit");
    let signed_only = options(&dir).with_task_keys(keys(KEYS)).with_audit(&log);
    let server = Server::of(dir, signed_only.clone());
    for path in paths {
        let (status, body) = server.operate(path, key).await;
        assert_eq!((status.as_u16(), &body["code"]), (403, &json!("operator_only")));
    }
    let dir = server.close();
    let server = Server::of(dir, signed_only.with_operator_key(api_key()));
    for path in paths {
        assert_eq!(server.get(path, None).await.0.as_u16(), 403);
        assert_eq!(
            server.operate(path, "an operator's old key").await.0.as_u16(),
            403
        );
        assert_eq!(server.operate(path, key).await.0.as_u16(), 200);
    }
    let (_, page) = server.operate("/v1/audit", key).await;
    let denied = page["rows"].as_array().unwrap().iter();
    assert_eq!(denied.filter(|row| row["code"] == "operator_only").count(), 6);
    let dir = tempfile::tempdir().unwrap();
    let named = options(&dir).with_operator_key(api_key());
    let server = Server::of(dir, named);
    assert_eq!(server.get("/v1/enforcement", None).await.0.as_u16(), 403);
    assert_eq!(server.get("/v1/machine", None).await.0.as_u16(), 200);
}
