//! The seven operations and what they refuse.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::support::{Server, call, local};

#[tokio::test]
async fn a_file_is_written_read_edited_found_and_executed() {
    let server = Server::new();
    let wrote = server
        .ok(call(
            "write_file",
            json!({"path": "src/a.sh", "content": "echo one\n"}),
        ))
        .await;
    assert_eq!(
        (&wrote["created"], &wrote["size_bytes"]),
        (&json!(true), &json!(9))
    );
    let read = server.ok(call("read_file", json!({"path": "src/a.sh"}))).await;
    assert_eq!(
        (&read["content"], &read["encoding"], &read["truncated"]),
        (&json!("echo one\n"), &json!("utf8"), &json!(false))
    );
    assert_eq!(read["etag"], wrote["etag"]);
    let edited = server
        .ok(call(
            "edit_file",
            json!({"path": "src/a.sh", "old": "one", "new": "two"}),
        ))
        .await;
    assert!(
        edited["diff"]
            .as_str()
            .unwrap()
            .ends_with("-echo one\n+echo two\n"),
        "{edited}"
    );
    let listed = server.ok(call("list_files", json!({}))).await;
    assert_eq!(
        listed["entries"],
        json!([{"path": "src", "kind": "directory", "size_bytes": 0}])
    );
    let globbed = server.ok(call("glob", json!({"pattern": "*.sh"}))).await;
    assert_eq!(globbed["paths"], json!(["src/a.sh"]));
    let found = server
        .ok(call("grep", json!({"pattern": "TWO", "ignore_case": true})))
        .await;
    assert_eq!(
        found["hits"],
        json!([{"path": "src/a.sh", "line": 1, "text": "echo two"}])
    );
    let ran = server
        .ok(call("exec", json!({"argv": ["sh", "a.sh"], "cwd": "src"})))
        .await;
    assert_eq!(
        (&ran["exit_code"], &ran["stdout"], &ran["timed_out"]),
        (&json!(0), &json!("two\n"), &json!(false))
    );
    let slow = server
        .ok(call("exec", json!({"argv": ["sleep", "60"], "timeout_s": 1})))
        .await;
    assert_eq!(slow["timed_out"], true);
}

#[tokio::test]
async fn lines_and_bytes_that_are_no_text() {
    let server = Server::new();
    std::fs::write(server.file("t"), "1\n2\n3\n").unwrap();
    let read = server
        .ok(call(
            "read_file",
            json!({"path": "t", "first_line": 2, "max_lines": 1}),
        ))
        .await;
    assert_eq!(
        (&read["content"], &read["truncated"]),
        (&json!("2\n"), &json!(true))
    );
    std::fs::write(server.file("b"), [0xFF, 0, 0xFE]).unwrap();
    let read = server.ok(call("read_file", json!({"path": "b"}))).await;
    assert_eq!(
        (&read["content"], &read["encoding"]),
        (&json!("\u{FFFD}\0\u{FFFD}"), &json!("lossy"))
    );
    let read = server
        .ok(call("read_file", json!({"path": "b", "encoding": "base64"})))
        .await;
    assert_eq!(
        (&read["content"], &read["encoding"]),
        (&json!("/wD+"), &json!("base64"))
    );
    std::fs::write(server.file("u"), b"\xFF\xFEh\0i\0").unwrap();
    let read = server.ok(call("read_file", json!({"path": "u"}))).await;
    assert_eq!(
        (&read["content"], &read["encoding"]),
        (&json!("hi"), &json!("utf16"))
    );
}

#[tokio::test]
async fn bad_requests_are_problems_with_codes() {
    let server = Server::new();
    server
        .ok(call("write_file", json!({"path": "t", "content": "aa"})))
        .await;
    std::os::unix::fs::symlink("/etc", server.file("etc")).unwrap();
    let cases: Vec<(&str, Value, u16, &str)> = vec![
        ("read_file", json!({"path": "../t"}), 422, "invalid_body"),
        ("read_file", json!({"path": "/etc/passwd"}), 422, "invalid_body"),
        ("read_file", json!({"path": "a\u{0}b"}), 422, "invalid_body"),
        (
            "read_file",
            json!({"path": "t", "surprise": 1}),
            422,
            "invalid_body",
        ),
        (
            "read_file",
            json!({"path": "t", "max_lines": 0}),
            422,
            "invalid_request",
        ),
        (
            "grep",
            json!({"pattern": "a", "context_lines": 11}),
            422,
            "invalid_request",
        ),
        ("read_file", json!({"path": "none"}), 404, "not_found"),
        ("read_file", json!({"path": "."}), 422, "wrong_kind"),
        ("read_file", json!({"path": "etc/passwd"}), 403, "path_escapes"),
        (
            "write_file",
            json!({"path": "etc/x", "content": ""}),
            403,
            "path_escapes",
        ),
        (
            "write_file",
            json!({"path": "t", "content": "", "mode": "create_new"}),
            409,
            "already_exists",
        ),
        (
            "write_file",
            json!({"path": "t", "content": "", "if_match": "0"}),
            412,
            "conflict",
        ),
        (
            "write_file",
            json!({"path": "t", "content": "x".repeat(11 << 20)}),
            413,
            "too_large",
        ),
        (
            "write_file",
            json!({"path": "t", "content": "x".repeat(30 << 20)}),
            413,
            "body_too_large",
        ),
        (
            "edit_file",
            json!({"path": "t", "old": "b", "new": "c"}),
            422,
            "edit_not_found",
        ),
        (
            "edit_file",
            json!({"path": "t", "old": "a", "new": "c"}),
            422,
            "edit_ambiguous",
        ),
        ("glob", json!({"pattern": "["}), 422, "invalid_pattern"),
        ("grep", json!({"pattern": "("}), 422, "invalid_pattern"),
        ("exec", json!({"argv": []}), 422, "invalid_request"),
        (
            "exec",
            json!({"argv": ["no-such-program"]}),
            422,
            "program_not_found",
        ),
        (
            "exec",
            json!({"argv": ["true"], "timeout_s": 0}),
            422,
            "invalid_request",
        ),
        (
            "exec",
            json!({"argv": ["true"], "env": {"LD_PRELOAD": "x"}}),
            403,
            "env_denied",
        ),
    ];
    for (operation, body, status, code) in cases {
        let shown: String = body.to_string().chars().take(100).collect();
        assert_eq!(
            server.problem(call(operation, body)).await,
            (status, code.to_owned()),
            "{operation} {shown}"
        );
    }
    assert_eq!(std::fs::read_to_string(server.file("t")).unwrap(), "aa");
}

/// What is no path, no text and no patch is said to be so, and nothing is half-written.
#[tokio::test]
async fn what_cannot_be_said_or_does_not_fit_is_refused() {
    let server = Server::new();
    let paths = [
        "a/".repeat(3000),
        "n".repeat(256),
        "a\u{202E}txt.exe".to_owned(),
        "a\nb".to_owned(),
        "a/../../b".to_owned(),
    ];
    for path in paths {
        for (operation, body) in [
            ("write_file", json!({"path": path, "content": "x"})),
            ("workspace/write", json!({"path": path, "content": {"text": "x"}})),
            ("workspace/remove", json!({"path": path, "mode": "tree"})),
        ] {
            let refused = server.problem(call(operation, body)).await;
            assert_eq!(refused, (422, "invalid_body".to_owned()), "{operation} {path:?}");
        }
    }
    let raw = b"{\"path\": \"a\xC3\", \"content\": \"x\"}".to_vec();
    let request = axum::http::Request::post("/v1/write_file")
        .header("content-type", "application/json")
        .body(axum::body::Body::from(raw))
        .unwrap();
    let answer = tower::ServiceExt::oneshot(server.router.clone(), request)
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 400);
    server
        .ok(call("write_file", json!({"path": "t", "content": "a\nb\n"})))
        .await;
    let patch = |text: &str| call("workspace/patch", json!({"path": "t", "patch": text}));
    for (text, code) in [
        ("@@ -1,2 +1,2 @@\n a\n-x\n+y\n", "patch_rejected"),
        ("@@ -1 +1 @@\n-a\n+1\n@@ -9 +9 @@\n-z\n+2\n", "patch_rejected"),
        ("no patch", "invalid_patch"),
    ] {
        assert_eq!(
            server.problem(patch(text)).await,
            (422, code.to_owned()),
            "{text}"
        );
    }
    assert_eq!(std::fs::read_to_string(server.file("t")).unwrap(), "a\nb\n");
    assert_eq!(std::fs::read_dir(server.file("")).unwrap().count(), 1);
    let huge = json!({"pattern": "((a{1000}){1000}){1000}"});
    assert_eq!(
        server.problem(call("grep", huge)).await,
        (422, "invalid_pattern".to_owned())
    );
    for name in 0..1200 {
        std::fs::write(server.file(&format!("f{name}")), "").unwrap();
    }
    let found = server.ok(call("glob", json!({"pattern": "**"}))).await;
    assert_eq!(found["truncated"], true);
}

#[tokio::test]
async fn the_header_chooses_the_directory() {
    let server = Server::new();
    let states = [
        (r#"{"task_id": "t1", "cwd": "jobs/one"}"#, "jobs/one"),
        ("eyJ0YXNrX2lkIjoidDEiLCJjd2QiOiJqb2JzL3R3byJ9", "jobs/two"),
        (r#"{"task_id": "t1", "run": 7}"#, "tasks/t1"),
        ("{}", "."),
    ];
    for (state, cwd) in states {
        server
            .ok(call("write_file", json!({"path": "t", "content": cwd})).task(state))
            .await;
        assert_eq!(std::fs::read_to_string(server.file(cwd).join("t")).unwrap(), cwd);
        let (_, seen) = server.get("/state", Some(state)).await;
        assert_eq!(seen["cwd"], cwd);
    }
    for state in [
        r#"{"cwd": "../x"}"#,
        r#"{"cwd": "/"}"#,
        r#"{"task_id": "../x"}"#,
        "nonsense!",
        "{",
    ] {
        let refused = server.problem(call("list_files", json!({})).task(state)).await;
        assert_eq!(refused, (400, "invalid_task_state".to_owned()), "{state}");
    }
}

/// The JSON difference of two states is one line a changed file.
#[tokio::test]
async fn the_state_shows_what_changed() {
    let server = Server::new();
    server
        .ok(call("write_file", json!({"path": "a/b", "content": "1"})))
        .await;
    let (status, before) = server.get("/state", None).await;
    assert_eq!(status, StatusCode::OK);
    let hash = aion_machine::Etag::of(b"1").as_str()[..8].to_owned();
    assert_eq!(
        before,
        json!({"cwd": ".", "files": {"a/b": format!("1 bytes #{hash}")}})
    );
    server
        .ok(call("write_file", json!({"path": "a/b", "content": "2"})))
        .await;
    server.ok(call("exec", json!({"argv": ["touch", "new"]}))).await;
    let (_, after) = server.get("/state", None).await;
    assert_ne!(before["files"]["a/b"], after["files"]["a/b"]);
    assert_eq!(after["files"]["new"], "0 bytes #af1349b9");
    assert_eq!(
        after["last_exec"],
        json!({"command": "touch new", "ended": "exit code 0"})
    );
}

/// Files beyond those shown, and ignored ones, are in the state by count and digest.
#[tokio::test]
async fn no_change_of_a_file_is_without_a_trace_in_the_state() {
    let server = Server::new();
    for i in 0..120 {
        std::fs::write(server.file(&format!("f{i:03}")), "1").unwrap();
    }
    std::fs::write(server.file(".gitignore"), "out/\n").unwrap();
    for dir in ["out", ".git"] {
        std::fs::create_dir(server.file(dir)).unwrap();
        std::fs::write(server.file(dir).join("x"), "1").unwrap();
    }
    let (_, first) = server.get("/state", None).await;
    assert_eq!(first["files"].as_object().unwrap().len(), 100);
    assert!(first["files"].get("out/x").is_none());
    assert_eq!(first["more"]["count"], 22, ".gitignore, out/x and 120 less 100");
    let (_, again) = server.get("/state", None).await;
    assert_eq!(first, again, "nothing happened");
    std::fs::write(server.file(".git/x"), "22").unwrap();
    assert_eq!(first, server.get("/state", None).await.1, "version control's own");
    let mut last = first;
    for hidden in ["f119", "out/x", "out/new"] {
        std::fs::write(server.file(hidden), "22").unwrap();
        let (_, next) = server.get("/state", None).await;
        assert_eq!(last["files"], next["files"]);
        assert_ne!(last["more"], next["more"], "{hidden}");
        last = next;
    }
    assert_eq!(last["more"]["count"], 23);
}

/// A small request for gigabytes is refused before they are made, with a key as without.
#[tokio::test]
async fn an_edit_cannot_ask_for_more_than_a_file_may_have() {
    let server = Server::new();
    std::fs::write(server.file("t"), "y\n".repeat(1 << 21)).unwrap();
    let edit = json!({"path": "t", "old": "y\n", "new": "z".repeat(2 << 10), "every": true});
    for call in [call("edit_file", edit.clone()), call("edit_file", edit).key("k")] {
        assert_eq!(server.problem(call).await, (413, "too_large".to_owned()));
    }
    assert_eq!(std::fs::metadata(server.file("t")).unwrap().len(), 4 << 20);
}

#[test]
fn more_output_than_can_be_kept_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let options = aion_machine_server::MachineOptions::new(dir.path()).with_local(local());
    let error = aion_machine_server::service(options.with_output_bytes(usize::MAX))
        .map(drop)
        .unwrap_err();
    assert!(
        matches!(error, aion_machine_server::OpenError::OutputBytes { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn the_document_has_seven_tools_with_flat_bodies() {
    let server = Server::new();
    let (_, document) = server.get("/openapi.json", None).await;
    let mut tools = Vec::new();
    for item in document["paths"].as_object().unwrap().values() {
        let Some(post) = item.get("post") else { continue };
        if post["tags"] != json!(["tool"]) {
            continue;
        }
        let name = post["operationId"].as_str().unwrap().to_owned();
        let reference = post["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            .as_str()
            .unwrap();
        let schema = document.pointer(&reference[1..]).unwrap();
        assert_eq!(schema["additionalProperties"], false, "{name}");
        for (member, of) in schema["properties"].as_object().unwrap() {
            // What may be null is one of two, and says what it is beside its reference.
            let of = of.pointer("/oneOf/0").unwrap_or(of);
            assert!(
                of["description"].is_string() || of.get("allOf").is_some() || of.get("$ref").is_some(),
                "{name}.{member}: {of}"
            );
        }
        let headers = post["parameters"].as_array().unwrap();
        assert!(headers.iter().any(|h| h["name"] == "Idempotency-Key"), "{name}");
        tools.push((name, schema["required"].clone()));
    }
    tools.sort_by(|a, b| a.0.cmp(&b.0));
    let want = [
        ("edit_file", json!(["path", "old", "new"])),
        ("exec", json!(["argv"])),
        ("glob", json!(["pattern"])),
        ("grep", json!(["pattern"])),
        ("list_files", Value::Null),
        ("read_file", json!(["path"])),
        ("write_file", json!(["path", "content"])),
    ];
    assert_eq!(tools, want.map(|(name, required)| (name.to_owned(), required)));
}

#[tokio::test]
async fn the_operator_sees_what_holds() {
    let server = Server::new();
    let (status, seen) = server.get("/v1/enforcement", None).await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        ["namespaces", "landlock"].contains(&seen["tier"].as_str().unwrap()),
        "{seen}"
    );
    assert_eq!(seen["report"]["no_new_privs"], true);
}

#[test]
fn a_journal_inside_the_data_root_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = aion_machine_server::MachineOptions::new(dir.path()).with_journal(dir.path().join("keys"));
    let error = aion_machine_server::service(options.with_local(local()))
        .map(drop)
        .unwrap_err();
    assert!(
        matches!(error, aion_machine_server::OpenError::JournalInside { .. }),
        "{error}"
    );
}
