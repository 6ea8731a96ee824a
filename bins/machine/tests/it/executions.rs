//! Executions that are started, followed, killed and asked for later.

use std::time::Duration;

use aion_machine_server::ExecutionOptions;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::{Server, call, options};

/// The events of a stream after a place: name, id, data.
async fn events(server: &Server, id: &str, after: Option<&str>) -> Vec<(String, String, Value)> {
    let mut request = Request::get(format!("/v1/executions/{id}/events"));
    if let Some(after) = after {
        request = request.header("last-event-id", after);
    }
    let response = server
        .router
        .clone()
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let field = |block: &str, name: &str| {
        let lines = block
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned));
        lines.collect::<Vec<_>>().join("\n")
    };
    let blocks = text.split("\n\n").filter(|block| block.contains("event: "));
    blocks
        .map(|block| {
            let data = serde_json::from_str(&field(block, "data")).unwrap();
            (field(block, "event"), field(block, "id"), data)
        })
        .collect()
}

async fn start(server: &Server, argv: Value) -> String {
    let (status, body) = server.send(call("executions", json!({"argv": argv}))).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    body["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_execution_is_followed_and_its_stream_resumed() {
    let server = Server::new();
    let id = start(
        &server,
        json!([
            "sh",
            "-c",
            r"echo one; sleep 0.2; printf '\377' >&2; sleep 0.2; printf two"
        ]),
    )
    .await;
    let all = events(&server, &id, None).await;
    let names: Vec<_> = all
        .iter()
        .map(|(name, id, _)| (name.as_str(), id.as_str()))
        .collect();
    assert_eq!(
        names,
        [
            ("stdout", "4-0"),
            ("stderr", "4-1"),
            ("stdout", "7-1"),
            ("ended", "7-1")
        ]
    );
    assert_eq!(all[0].2, json!({"offset": 0, "text": "one\n"}));
    assert_eq!(all[1].2, json!({"offset": 0, "base64": "/w=="}));
    let end = &all[3].2["result"];
    assert_eq!(
        (&end["exit_code"], &end["ending"], &end["tier"]),
        (&json!(0), &json!("itself"), &json!("namespaces"))
    );
    assert_eq!(
        end["stdout"],
        json!({"head": {"text": "one\ntwo"}, "tail": {"text": ""}, "total_bytes": 7})
    );
    let rest = events(&server, &id, Some("2-1")).await;
    assert_eq!(rest[0].2, json!({"offset": 2, "text": "e\n"}));
    assert_eq!(rest.last().unwrap().0, "ended");
    let (status, known) = server.get(&format!("/v1/executions/{id}"), None).await;
    assert_eq!(
        (status, &known["state"], &known["stdout_bytes"]),
        (StatusCode::OK, &json!("ended"), &json!(7))
    );
    let (_, list) = server.get("/v1/executions", None).await;
    assert_eq!(list["executions"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn another_task_does_not_see_it() {
    let server = Server::new();
    let id = start(&server, json!(["true"])).await;
    let (status, body) = server
        .get(&format!("/v1/executions/{id}"), Some(r#"{"cwd": "other"}"#))
        .await;
    assert_eq!(
        (status.as_u16(), &body["code"]),
        (404, &json!("unknown_execution"))
    );
    let (_, list) = server.get("/v1/executions", Some(r#"{"cwd": "other"}"#)).await;
    assert_eq!(list["executions"], json!([]));
}

#[tokio::test]
async fn a_killed_one_ends_and_says_so() {
    let server = Server::new();
    let id = start(&server, json!(["sleep", "600"])).await;
    let request = Request::delete(format!("/v1/executions/{id}"))
        .body(Body::empty())
        .unwrap();
    let killed = server.router.clone().oneshot(request).await.unwrap();
    assert_eq!(killed.status(), StatusCode::ACCEPTED);
    let all = tokio::time::timeout(Duration::from_secs(20), events(&server, &id, None))
        .await
        .unwrap();
    assert_eq!(all.last().unwrap().2["result"]["ending"], "killed");
}

#[tokio::test]
async fn what_cannot_be_started_is_a_problem_and_what_cannot_be_executed_is_in_the_stream() {
    let server = Server::new();
    let refused = async |body: Value| server.problem(call("executions", body)).await;
    assert_eq!(
        refused(json!({"argv": []})).await,
        (422, "invalid_request".to_owned())
    );
    assert_eq!(
        refused(json!({"argv": ["true"], "env": {"LD_PRELOAD": "x"}})).await,
        (403, "env_denied".to_owned())
    );
    assert_eq!(refused(json!({"argv": ["true"], "cwd": "../.."})).await.0, 422);
    assert_eq!(
        refused(json!({"argv": ["true"], "limits": {"wall_ms": 99_000_000}}))
            .await
            .0,
        422
    );
    assert_eq!(
        refused(json!({"argv": ["true"], "stdin": {"base64": "?"}}))
            .await
            .0,
        422
    );
    let id = start(&server, json!(["no-such-program"])).await;
    let all = events(&server, &id, None).await;
    let problem = &all.last().unwrap().2["problem"];
    assert_eq!(
        (&problem["code"], &problem["error"]["program"]),
        (&json!("program_not_found"), &json!("no-such-program"))
    );
    let (status, body) = server.get("/v1/executions/none/events", None).await;
    assert_eq!(
        (status.as_u16(), &body["code"]),
        (404, &json!("unknown_execution"))
    );
}

#[tokio::test]
async fn a_key_starts_it_once_also_over_a_restart() {
    let server = Server::new();
    let body = json!({"argv": ["sh", "-c", "echo x >> log"]});
    let (_, first) = server.send(call("executions", body.clone()).key("k")).await;
    let (_, again) = server.send(call("executions", body.clone()).key("k")).await;
    assert_eq!(first, again);
    events(&server, first["id"].as_str().unwrap(), None).await;
    let server = server.restart();
    let (status, after) = server.send(call("executions", body).key("k")).await;
    assert_eq!((status, &after), (StatusCode::CREATED, &first));
    let (status, _) = server
        .get(&format!("/v1/executions/{}", first["id"].as_str().unwrap()), None)
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(std::fs::read_to_string(server.file("log")).unwrap(), "x\n");
}

#[tokio::test]
async fn caps_are_said_with_when_to_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let few = ExecutionOptions::default().with_max_per_task(1).with_max_kept(2);
    let options = options(&dir).with_executions(few);
    let server = Server::of(dir, options);
    let own = |task: &str| format!(r#"{{"cwd": "{task}"}}"#);
    let sleep = || json!({"argv": ["sleep", "600"]});
    let (status, _) = server.send(call("executions", sleep()).task(&own("a"))).await;
    assert_eq!(status, StatusCode::CREATED);
    for operation in ["executions", "exec"] {
        let (status, body) = server.send(call(operation, sleep()).task(&own("a"))).await;
        assert_eq!(
            (status.as_u16(), &body["code"], &body["retry_after_s"]),
            (429, &json!("task_busy"), &json!(1))
        );
    }
    assert_eq!(
        server.send(call("executions", sleep()).task(&own("b"))).await.0,
        StatusCode::CREATED
    );
    let full = server.problem(call("executions", sleep()).task(&own("c"))).await;
    assert_eq!(full, (503, "busy".to_owned()));
}

/// A client that goes away takes what it waits for with it.
#[tokio::test]
async fn a_collected_execution_ends_with_its_request() {
    let server = Server::new();
    let request = server.send(call(
        "exec",
        json!({"argv": ["sh", "-c", "sleep 1; echo late > late"]}),
    ));
    assert!(
        tokio::time::timeout(Duration::from_millis(400), request)
            .await
            .is_err()
    );
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(!server.file("late").exists());
    server
        .ok(call(
            "exec",
            json!({"argv": ["sh", "-c", "sleep 1; echo late > late"]}),
        ))
        .await;
    assert!(server.file("late").exists());
}

/// A refusal for want of room comes before anything runs, and leaves the key free.
#[tokio::test]
async fn what_cannot_be_kept_is_not_started() {
    let dir = tempfile::tempdir().unwrap();
    let one = ExecutionOptions::default().with_max_kept(1);
    let options = options(&dir).with_executions(one);
    let server = Server::of(dir, options);
    let first = start(&server, json!(["sleep", "600"])).await;
    let touch = || call("executions", json!({"argv": ["touch", "ran"]})).key("k");
    assert_eq!(server.problem(touch()).await, (503, "busy".to_owned()));
    server.delete(&format!("/v1/executions/{first}")).await;
    events(&server, &first, None).await;
    assert!(!server.file("ran").exists());
    let (status, body) = server.send(touch()).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    events(&server, body["id"].as_str().unwrap(), None).await;
    assert!(server.file("ran").exists());
}

/// Wherever a command line is shown, what looks like a secret is not.
#[tokio::test]
async fn no_secret_of_a_command_line_is_shown() {
    let server = Server::new();
    let secret = "hunter2-hunter2";
    let argv = json!(["true", "--password", secret, format!("--api-key={secret}")]);
    server.ok(call("exec", json!({"argv": argv}))).await;
    let (_, collected) = server.get("/state", None).await;
    let id = start(&server, argv).await;
    let ended = events(&server, &id, None).await;
    let (_, status) = server.get(&format!("/v1/executions/{id}"), None).await;
    let (_, state) = server.get("/state", None).await;
    assert_eq!(state["last_exec"], collected["last_exec"]);
    assert_eq!(state["last_exec"]["ended"], "exit code 0");
    for shown in [collected, json!(ended.last().unwrap().2), status, state] {
        assert!(!shown.to_string().contains(secret), "{shown}");
    }
}
