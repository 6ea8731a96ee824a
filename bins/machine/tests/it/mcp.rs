//! The tools over the Model Context Protocol, by an unrelated client: over HTTP, and over standard input and output.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aion_machine_server::mcp::{self, McpOptions};
use aion_machine_server::{MachineOptions, service};
use aion_service::Limits;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request, StatusCode};
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, ClientRequest, ErrorCode,
    ProgressNotificationParam,
};
use rmcp::service::{NotificationContext, PeerRequestOptions, RunningService, ServiceError};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use rmcp::{ClientHandler, RoleClient, ServiceExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::support::local;

/// A client that remembers what it was told while a call ran.
#[derive(Debug, Clone, Default)]
struct Listener(Arc<Mutex<Vec<ProgressNotificationParam>>>);

impl ClientHandler for Listener {
    async fn on_progress(&self, told: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.0.lock().unwrap().push(told);
    }
}

/// Operations that are tools here, and are not offered to models over HTTP.
const MORE: [&str; 7] = [
    "stat",
    "make_directory",
    "remove",
    "move",
    "apply_patch",
    "snapshot",
    "diff",
];

type Client = RunningService<RoleClient, Listener>;

/// A served directory.
struct Served {
    dir: TempDir,
    url: String,
}

fn router(dir: &TempDir, mcp: McpOptions) -> Router {
    let options = MachineOptions::new(dir.path().join("work"))
        .with_local(local())
        .with_mcp(mcp);
    service(options).unwrap().into_router(&Limits::default())
}

impl Served {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let app = router(&dir, McpOptions::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{}", listener.local_addr().unwrap(), mcp::PATH);
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { dir, url }
    }

    async fn client(&self, task: &str) -> Client {
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut config = StreamableHttpClientTransportConfig::with_uri(self.url.as_str());
        let name = HeaderName::from_static("x-task-state");
        config.custom_headers = HashMap::from([(name, HeaderValue::from_str(task).unwrap())]);
        let transport = StreamableHttpClientTransport::with_client(reqwest::Client::new(), config);
        Listener::default().serve(transport).await.unwrap()
    }
}

fn params(tool: &'static str, arguments: &Value) -> CallToolRequestParams {
    CallToolRequestParams::new(tool).with_arguments(arguments.as_object().unwrap().clone())
}

async fn call(client: &Client, tool: &'static str, arguments: Value) -> CallToolResult {
    client.call_tool(params(tool, &arguments)).await.unwrap()
}

/// The structured content of a call that went well; its text says the same.
async fn ok(client: &Client, tool: &'static str, arguments: Value) -> Value {
    let result = call(client, tool, arguments).await;
    assert_ne!(result.is_error, Some(true), "{tool}: {result:?}");
    let value = result.structured_content.unwrap();
    let text = &result.content[0].as_text().unwrap().text;
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), value);
    value
}

/// The code of a call that did not.
async fn code(client: &Client, tool: &'static str, arguments: Value) -> String {
    let result = call(client, tool, arguments).await;
    assert_eq!(result.is_error, Some(true), "{tool}: {result:?}");
    assert_eq!(
        result.structured_content, None,
        "it would have to be of the output schema"
    );
    let problem: Value = serde_json::from_str(&result.content[0].as_text().unwrap().text).unwrap();
    problem["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_tool_of_the_document_is_listed_with_its_schemas_and_hints() {
    let served = Served::start().await;
    let client = served.client("{}").await;
    let tools = client.list_all_tools().await.unwrap();
    let listed: Vec<&str> = tools.iter().map(|tool| &*tool.name).collect();
    let options = MachineOptions::new(served.dir.path().join("other")).with_local(local());
    let document: Value = serde_json::from_str(&service(options).unwrap().openapi_json()).unwrap();
    let mut tagged: Vec<&str> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(path, methods)| methods["post"]["tags"] == json!(["tool"]) && !path.contains('{'))
        .map(|(_, methods)| methods["post"]["operationId"].as_str().unwrap())
        .collect();
    tagged.extend(MORE);
    tagged.sort_unstable();
    assert_eq!(listed, tagged);
    for name in [
        "read_file",
        "write_file",
        "edit_file",
        "list_files",
        "glob",
        "grep",
        "exec",
    ] {
        assert!(listed.contains(&name), "{name}");
    }
    for tool in &tools {
        let input = tool.schema_as_json_value();
        assert_eq!(input["type"], "object", "{}", tool.name);
        assert!(!input.to_string().contains("#/components"), "{input}");
        assert!(tool.output_schema.is_some() && tool.description.as_ref().unwrap().len() > 10);
        let hints = tool.annotations.as_ref().unwrap();
        assert_eq!(hints.open_world_hint, Some(false), "{}", tool.name);
        let reads = ["read_file", "list_files", "glob", "grep"].contains(&&*tool.name);
        assert!(!reads || hints.read_only_hint == Some(true), "{}", tool.name);
        let changes = ["write_file", "edit_file", "exec"].contains(&&*tool.name);
        assert!(!changes || hints.destructive_hint == Some(true), "{}", tool.name);
    }
}

#[tokio::test]
async fn files_are_written_read_edited_and_found() {
    let served = Served::start().await;
    let client = served.client(r#"{"task_id": "t1"}"#).await;
    let wrote = ok(
        &client,
        "write_file",
        json!({"path": "a/b.txt", "content": "milk\n"}),
    )
    .await;
    assert_eq!(
        (&wrote["created"], &wrote["size_bytes"]),
        (&json!(true), &json!(5))
    );
    let edit = json!({"path": "a/b.txt", "old": "milk", "new": "oat milk"});
    ok(&client, "edit_file", edit).await;
    let read = ok(&client, "read_file", json!({"path": "a/b.txt"})).await;
    assert_eq!(read["content"], "oat milk\n");
    let found = ok(&client, "grep", json!({"pattern": "^oat"})).await;
    assert_eq!(found["hits"][0]["path"], "a/b.txt");
    let on_disk = served.dir.path().join("work/tasks/t1/a/b.txt");
    assert_eq!(std::fs::read_to_string(on_disk).unwrap(), "oat milk\n");
    // Another task is another directory.
    let other = served.client(r#"{"task_id": "t2"}"#).await;
    assert_eq!(
        code(&other, "read_file", json!({"path": "a/b.txt"})).await,
        "not_found"
    );
}

#[tokio::test]
async fn failures_are_tool_errors_with_the_code_of_the_problem() {
    let served = Served::start().await;
    let client = served.client("{}").await;
    let nothing = json!({"path": "none"});
    assert_eq!(code(&client, "read_file", nothing).await, "not_found");
    let outside = code(&client, "read_file", json!({"path": "../etc/passwd"})).await;
    assert!(
        ["invalid_path", "invalid_body"].contains(&outside.as_str()),
        "{outside}"
    );
    ok(&client, "write_file", json!({"path": "t", "content": "a"})).await;
    let edit = json!({"path": "t", "old": "zzz", "new": "y"});
    assert_eq!(code(&client, "edit_file", edit).await, "edit_not_found");
    assert_eq!(
        code(&client, "grep", json!({"pattern": "("})).await,
        "invalid_pattern"
    );
    let strange = code(&client, "read_file", json!({"path": "t", "colour": 3})).await;
    assert!(!strange.is_empty());
    let program = json!({"argv": ["no-such-program"]});
    assert_eq!(code(&client, "exec", program).await, "program_not_found");
    let unknown = client
        .call_tool(params("format_disk", &json!({})))
        .await
        .unwrap_err();
    let ServiceError::McpError(error) = unknown else {
        panic!("{unknown:?}");
    };
    assert_eq!(error.code, ErrorCode::INVALID_PARAMS);
    let bad = served.client(r#"{"cwd": "../elsewhere"}"#).await;
    let refused = code(&bad, "list_files", json!({})).await;
    assert!(refused.contains("task_state"), "{refused}");
}

#[tokio::test]
async fn what_a_program_changed_is_told_by_two_snapshots() {
    let served = Served::start().await;
    let client = served.client(r#"{"task_id": "t3"}"#).await;
    ok(&client, "write_file", json!({"path": "a", "content": "1\n"})).await;
    let before = ok(&client, "snapshot", json!({})).await;
    ok(
        &client,
        "exec",
        json!({"argv": ["sh", "-c", "echo 2 > a; echo x > b"]}),
    )
    .await;
    ok(&client, "make_directory", json!({"path": "d"})).await;
    ok(&client, "move", json!({"from": "b", "to": "d/b"})).await;
    let after = ok(&client, "snapshot", json!({})).await;
    let compare = json!({"from": before["snapshot"], "to": after["snapshot"]});
    let diff = ok(&client, "diff", compare).await;
    let text = diff.to_string();
    assert!(text.contains("-1\\n+2") && text.contains("d/b"), "{text}");
    let stat = ok(&client, "stat", json!({"path": "d/b"})).await;
    assert_eq!((&stat["kind"], &stat["size_bytes"]), (&json!("file"), &json!(2)));
    ok(&client, "remove", json!({"path": "d/b"})).await;
    assert_eq!(code(&client, "stat", json!({"path": "d/b"})).await, "not_found");
}

#[tokio::test]
async fn a_program_runs_and_its_caller_hears_of_it() {
    let served = Served::start().await;
    let client = served.client("{}").await;
    let ran = ok(
        &client,
        "exec",
        json!({"argv": ["sh", "-c", "echo begun; sleep 1.3; echo done; exit 3"]}),
    )
    .await;
    assert_eq!(
        (&ran["exit_code"], &ran["stdout"]),
        (&json!(3), &json!("begun\ndone\n"))
    );
    let told = client.service().0.lock().unwrap().clone();
    assert!(told.is_sorted_by(|a, b| a.progress < b.progress), "{told:?}");
    let words: Vec<_> = told.iter().filter_map(|told| told.message.as_deref()).collect();
    assert_eq!(words.first(), Some(&"begun\n"), "{words:?}");
    assert!(words.contains(&"running for 1 s"), "{words:?}");
}

/// Processes that were started to sleep so long.
fn sleeping(seconds: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| {
            String::from_utf8_lossy(line)
                .split('\0')
                .any(|word| word == seconds)
        })
        .count()
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what}");
}

#[tokio::test]
async fn a_cancelled_call_ends_what_it_executes() {
    let served = Served::start().await;
    let client = served.client("{}").await;
    let seconds = format!("61.{}1", std::process::id());
    let arguments = json!({"argv": ["sh", "-c", format!("setsid sleep {seconds} & sleep {seconds}")]});
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(params("exec", &arguments)));
    let handle = client
        .send_cancellable_request(request, PeerRequestOptions::no_options())
        .await
        .unwrap();
    eventually("it never ran", || sleeping(&seconds) >= 2).await;
    handle
        .cancel(Some("not needed any more".to_owned()))
        .await
        .unwrap();
    eventually("it runs on", || sleeping(&seconds) == 0).await;
    // The session goes on.
    ok(&client, "list_files", json!({})).await;
}

#[tokio::test]
async fn a_closed_session_ends_what_it_executes() {
    let served = Served::start().await;
    let client = served.client("{}").await;
    let seconds = format!("61.{}2", std::process::id());
    let request = params("exec", &json!({"argv": ["sleep", seconds]}));
    let peer = client.peer().clone();
    let running = tokio::spawn(async move { peer.call_tool_once(request).await });
    eventually("it never ran", || sleeping(&seconds) >= 1).await;
    client.cancel().await.unwrap();
    eventually("it runs on", || sleeping(&seconds) == 0).await;
    assert!(running.await.unwrap().is_err());
}

/// The first message of a session, as a request without any client.
fn greeting(host: &str, origin: Option<&str>) -> Request<Body> {
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let mut request = Request::post(mcp::PATH)
        .header("host", host)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream");
    if let Some(origin) = origin {
        request = request.header("origin", origin);
    }
    request.body(Body::from(hello.to_string())).unwrap()
}

#[tokio::test]
async fn other_hosts_and_origins_are_refused_unless_they_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let app = router(&dir, McpOptions::default());
    let answer = async |app: &Router, host, origin| {
        let answered = app.clone().oneshot(greeting(host, origin)).await.unwrap();
        answered.status()
    };
    for (host, origin) in [
        ("localhost:9202", None),
        ("127.0.0.1", None),
        ("[::1]:9202", Some("http://localhost:3000")),
    ] {
        assert_eq!(
            answer(&app, host, origin).await,
            StatusCode::OK,
            "{host} {origin:?}"
        );
    }
    for (host, origin) in [
        ("evil.example", None),
        ("localhost.evil.example:9202", None),
        ("localhost", Some("https://evil.example")),
        ("localhost", Some("null")),
        ("localhost", Some("http://localhost.evil.example")),
    ] {
        assert_eq!(
            answer(&app, host, origin).await,
            StatusCode::FORBIDDEN,
            "{host} {origin:?}"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let named = McpOptions::default()
        .with_allowed_host("tools.example.com")
        .with_allowed_origin("https://app.example.com:443");
    let app = router(&dir, named);
    let (host, origin) = ("tools.example.com", "https://app.example.com");
    assert_eq!(answer(&app, host, Some(origin)).await, StatusCode::OK);
}

#[tokio::test]
async fn sessions_are_bounded_and_end_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let few = McpOptions::default()
        .with_max_sessions(2)
        .with_session_idle(Duration::from_millis(1500));
    let app = router(&dir, few);
    let greet = async || app.clone().oneshot(greeting("localhost", None)).await.unwrap();
    let first = greet().await;
    let id = first.headers()["mcp-session-id"].clone();
    assert_eq!(greet().await.status(), StatusCode::OK);
    let full = greet().await;
    assert_eq!(full.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(full.headers().contains_key("retry-after"));
    let goodbye = Request::delete(mcp::PATH)
        .header("host", "localhost")
        .header("mcp-session-id", id)
        .body(Body::empty())
        .unwrap();
    assert!(app.clone().oneshot(goodbye).await.unwrap().status().is_success());
    assert_eq!(greet().await.status(), StatusCode::OK);
    // Nobody says anything: all of them end.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(greet().await.status(), StatusCode::OK);
    assert_eq!(greet().await.status(), StatusCode::OK);
}

#[tokio::test]
async fn one_client_over_standard_input_and_output() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_aion-machine-server"));
    command
        .arg("--data-root")
        .arg(dir.path().join("work"))
        .arg("--journal")
        .arg(dir.path().join("keys"))
        .arg("--audit")
        .arg(dir.path().join("audit"))
        .args(["mcp", "--task", r#"{"cwd": "jobs/7"}"#])
        .kill_on_drop(true);
    let transport = TokioChildProcess::new(command).unwrap();
    let client = Listener::default().serve(transport).await.unwrap();
    assert!(client.list_all_tools().await.unwrap().len() >= 7);
    ok(&client, "write_file", json!({"path": "x", "content": "1"})).await;
    assert!(dir.path().join("work/jobs/7/x").is_file());
    let ran = ok(&client, "exec", json!({"argv": ["ls"]})).await;
    assert_eq!(ran["stdout"], "x\n");
    client.cancel().await.unwrap();
}
