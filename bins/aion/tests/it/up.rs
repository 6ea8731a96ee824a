//! `aion up`: every service on one port.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aion_loop::{NetworkTransport, Transport, read_body};
use serde_json::{Value, json};

use crate::world::{SECRET, World};

struct Up {
    child: Child,
    url: String,
}

impl Up {
    fn start(world: &World) -> Self {
        Self::of(world, world.aion(&["up", "--listen", "127.0.0.1:0"]))
    }

    fn of(world: &World, mut command: Command) -> Self {
        let cache = world.data().join("no-models");
        let mut child = command.env("AION_CACHE", cache).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, url }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let request = http::Request::get(format!("{}{path}", self.url));
        self.send(request.body(bytes::Bytes::new()).unwrap()).await
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = http::Request::post(format!("{}{path}", self.url));
        let request = request.header("content-type", "application/json");
        self.send(request.body(body.to_string().into()).unwrap()).await
    }

    async fn send(&self, request: http::Request<bytes::Bytes>) -> (u16, Value) {
        let transport = NetworkTransport::new(Duration::from_secs(5)).unwrap();
        let response = transport.send(request).await.unwrap();
        let status = response.status().as_u16();
        let body = read_body(response.into_body(), 1 << 22).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _waited = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_answers_below_its_name() {
    let world = World::with(&[]);
    let up = Up::start(&world);
    for name in ["processor", "machine", "market", "loop", "llm", "router"] {
        let (status, document) = up.get(&format!("/{name}/openapi.json")).await;
        assert_eq!(status, 200, "{name}");
        assert!(document["paths"].as_object().unwrap().len() > 4, "{name}");
    }
    let (status, state) = up.get("/state").await;
    assert_eq!(status, 200, "{state}");
    assert!(state.as_object().unwrap().len() >= 3, "{state}");
    let (status, tasks) = up.get("/processor/v1/tasks").await;
    assert_eq!(status, 200, "{tasks}");
    // There is no model here: the OpenAI paths are there and say so.
    let (status, problem) = up.get("/v1/models").await;
    assert_eq!(status, 503, "{problem}");
    let (status, problem) = up.get("/v1/nothing").await;
    assert_eq!((status, &problem["code"]), (404, &Value::from("unknown_route")));
    assert_eq!(up.get("/nothing").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_market_follows_the_tasks_of_the_same_process() {
    let world = World::with(&[]);
    let up = Up::start(&world);
    let (_, listed) = up.get("/market/v1/predictors").await;
    let names: Vec<&str> = listed["predictors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["base_rate", "beta_history", "logistic", "persistence", "ensemble"]
    );
    let task = json!({"kind": "agent.run", "title": "t", "spec": "s"});
    let (status, task) = up.post("/processor/v1/tasks", &task).await;
    assert!((200..300).contains(&status), "{status}: {task}");
    let id = task["id"].as_str().unwrap();
    let market = until(&up, id, "open").await;
    assert!(market["forecasts"].as_u64().unwrap() >= 1, "{market}");
    let claim = json!({"handler_id": "worker-1", "kinds": ["agent.run"], "lease_ms": 60_000});
    let lease = up.post("/processor/v1/claims", &claim).await.1["leases"][0].clone();
    let done = json!({"epoch": lease["epoch"], "result": {}});
    let (status, done) = up
        .post(&format!("/processor/v1/tasks/{id}/complete"), &done)
        .await;
    assert!((200..300).contains(&status), "{status}: {done}");
    assert_eq!(until(&up, id, "resolved").await["executor"], "worker-1");
    let path = "/market/v1/predictors/logistic/train";
    let (status, trained) = up.post(path, &json!({"markets": 10})).await;
    assert_eq!((status, &trained["markets"]), (200, &json!(1)), "{trained}");
}

/// With keys in the data directory the machine believes only who signs, and shows its log only to the operator.
#[tokio::test(flavor = "multi_thread")]
async fn with_task_keys_only_signed_calls_reach_the_machine() {
    const KEYS: &str = "k 0123456789abcdef0123456789abcdef";
    const OPERATOR: &str = "the operator of this house";
    let world = World::with(&[]);
    std::fs::create_dir_all(world.data()).unwrap();
    std::fs::write(world.data().join("task.keys"), KEYS).unwrap();
    std::fs::write(world.data().join("operator.key"), OPERATOR).unwrap();
    let up = Up::start(&world);
    let write = async |state: Option<String>| {
        let mut request = http::Request::post(format!("{}/machine/v1/write_file", up.url))
            .header("content-type", "application/json");
        if let Some(state) = state {
            request = request.header("x-task-state", state);
        }
        let body = json!({"path": "f", "content": "x"}).to_string();
        up.send(request.body(body.into()).unwrap()).await
    };
    let signed = |keys: &str| {
        let keys = aion_machine::TaskKeys::parse(keys).unwrap();
        let cwd = aion_machine::RelPath::parse("jobs/1").unwrap();
        Some(keys.sign(Some("t1"), Some(&cwd), u64::MAX >> 12))
    };
    let plain = Some(json!({"task_id": "t1", "cwd": "jobs/1"}).to_string());
    for (state, code) in [
        (None, "task_state_unsigned"),
        (plain, "task_state_unsigned"),
        (signed("k fedcba9876543210fedcba9876543210"), "task_state_forged"),
        (
            signed("l 0123456789abcdef0123456789abcdef"),
            "task_state_unknown_key",
        ),
    ] {
        let (status, problem) = write(state).await;
        assert_eq!((status, &problem["code"]), (401, &json!(code)));
    }
    let file = world.data().join("work/jobs/1/f");
    assert!(!file.exists());
    let (status, wrote) = write(signed(KEYS)).await;
    assert_eq!(status, 200, "{wrote}");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "x");
    assert_eq!(up.get("/machine/v1/audit").await.0, 403);
    let request =
        http::Request::get(format!("{}/machine/v1/audit", up.url)).header("x-operator-key", OPERATOR);
    let (status, page) = up.send(request.body(bytes::Bytes::new()).unwrap()).await;
    assert_eq!(status, 200, "{page}");
    let rows = page["rows"].as_array().unwrap();
    let count = |outcome: &str| rows.iter().filter(|row| row["outcome"] == outcome).count();
    assert_eq!(
        (count("denied"), count("asked"), count("done")),
        (5, 1, 1),
        "{page}"
    );
    assert_eq!(
        (&rows[4]["op"], &rows[4]["task"]),
        (&json!("write"), &json!("t1"))
    );
}

/// A chat server on a port of its own that gives everything a chance of 0.9, and who asked it.
async fn hopeful() -> (String, Arc<Mutex<Vec<(String, Value)>>>) {
    let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
    let kept = asked.clone();
    let answer = async move |headers: http::HeaderMap, axum::Json(body): axum::Json<Value>| {
        let key = headers["authorization"].to_str().unwrap().to_owned();
        kept.lock().unwrap().push((key, body));
        let content = r#"{"probabilities": {"SUCCESS": 0.9, "FAILED": 0.1}}"#;
        axum::Json(json!({
            "choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
            "usage": {"total_tokens": 200},
        }))
    };
    let router = axum::Router::new().route("/v1/chat/completions", axum::routing::post(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_language_model_forecasts_within_its_budget() {
    let world = World::with(&[]);
    let (url, asked) = hopeful().await;
    let mut command = world.aion(&["up", "--listen", "127.0.0.1:0", "--llm-calls-per-day", "2"]);
    command
        .env("AION_OPENAI_BASEURL", &url)
        .env("AION_MODEL_NAME", "hopeful");
    let up = Up::of(&world, command);
    for n in 0..3 {
        let task = json!({"kind": "agent.run", "title": format!("errand {n}"), "spec": "s"});
        let (status, task) = up.post("/processor/v1/tasks", &task).await;
        assert!((200..300).contains(&status), "{status}: {task}");
        until(&up, task["id"].as_str().unwrap(), "open").await;
    }
    let mut llm = Value::Null;
    for _ in 0..400 {
        let (_, listed) = up.get("/market/v1/predictors").await;
        let all = listed["predictors"].as_array().unwrap();
        llm = all.iter().find(|one| one["id"] == "llm").unwrap().clone();
        if llm["silent"] == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((&llm["asked"], &llm["spoke"]), (&json!(3), &json!(2)), "{llm}");
    assert_eq!((&llm["silent"], &llm["failed"]), (&json!(1), &json!(0)), "{llm}");
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 2);
    let (key, body) = &asked[0];
    assert_eq!(
        (key.as_str(), &body["model"]),
        (format!("Bearer {SECRET}").as_str(), &json!("hopeful"))
    );
    assert!(
        body["messages"][1]["content"]
            .as_str()
            .unwrap()
            .contains("errand"),
        "{body}"
    );
    let (_, events) = up.get("/market/v1/events?type=market.forecast&limit=100").await;
    let events = events["events"].as_array().unwrap();
    assert_eq!(
        events
            .iter()
            .filter(|event| event["body"]["forecaster"] == "llm")
            .count(),
        2,
        "{events:?}"
    );
}

/// The market of a task once it stands so.
async fn until(up: &Up, task: &str, status: &str) -> Value {
    for _ in 0..400 {
        let (found, market) = up.get(&format!("/market/v1/markets/{task}")).await;
        if found == 200 && market["status"] == status {
            return market;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the market of {task} never was {status}");
}
