//! The service through its router: types of agent, runs to their end, rest and resumption, refusals.
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

use std::sync::Arc;
use std::time::Duration;

use aion_loop::testkit::{Script, ScriptedModel};
use aion_loop::{ServiceLimits, Services, SqliteLoopStore, Toolset};
use aion_loop_server::{Models, Runner, openapi_json, service};
use aion_processor::{Limits, MemTaskStore, NewTask, Processor};
use aion_types::{Clock, Status, SystemClock, TaskId};
use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

struct Stage {
    processor: Processor,
    runner: Runner,
    router: Router,
}

impl Stage {
    async fn new(model: ScriptedModel) -> Self {
        let processor = Processor::new(MemTaskStore::new(SystemClock, Limits::default()));
        let store = Arc::new(SqliteLoopStore::in_memory().await.unwrap());
        let services = Services::new([], Toolset::default(), ServiceLimits::default());
        let runner = Runner::new(
            processor.clone(),
            store,
            services,
            Models::one(Arc::new(model.chat())),
        );
        let router = service(runner.clone()).into_router(&aion_service::Limits::default());
        Self {
            processor,
            runner,
            router,
        }
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json");
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let response = self
            .router
            .clone()
            .oneshot(request.body(body).unwrap())
            .await
            .unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.call("POST", path, Some(body)).await
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn task(&self) -> TaskId {
        let id = TaskId::generate(SystemClock.now());
        self.processor
            .create(NewTask::new(id, "agent.run", "Say done"))
            .await
            .unwrap();
        id
    }

    async fn start(&self, task: TaskId) -> Value {
        let (status, _) = self
            .post("/v1/agent-types", json!({"id": "worker", "steps": 5}))
            .await;
        assert_eq!(status, 200);
        let (status, run) = self
            .post("/v1/runs", json!({"task_id": task, "agent": "worker"}))
            .await;
        assert_eq!(status, 202, "{run}");
        run
    }

    /// The run once `there` holds of it.
    async fn until(&self, run: &Value, there: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/v1/runs/{}", run["run_id"].as_str().unwrap());
        for _ in 0..500 {
            let now = self.get(&path).await;
            if there(&now) {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never: {}", self.get(&path).await);
    }
}

#[tokio::test]
async fn a_run_goes_to_its_end() {
    let stage = Stage::new(ScriptedModel::new([Script::text("Done.")])).await;
    let task = stage.task().await;
    let run = stage.start(task).await;
    assert_eq!(run["goal"], "Say done");
    let ended = stage.until(&run, |run| run["status"] == "done").await;
    assert_eq!(
        (&ended["outcome"], &ended["steps"]),
        (&json!("the agent says it is done: Done."), &json!(1))
    );
    assert_eq!(stage.processor.get(task).await.unwrap().status, Status::Completed);
    let path = format!("/v1/runs/{}/steps", run["run_id"].as_str().unwrap());
    let steps = stage.get(&path).await;
    assert_eq!(steps["steps"][0]["text"], "Done.");
    assert_eq!(steps["steps"][0]["persistence"]["R_harm"], 2.0);
    assert!(
        stage.get(&format!("{path}?after=1")).await["steps"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        stage.get("/v1/runs?limit=1").await["runs"][0]["run_id"],
        run["run_id"]
    );
    let (status, problem) = stage
        .post(
            &format!("/v1/runs/{}/resume", run["run_id"].as_str().unwrap()),
            Value::Null,
        )
        .await;
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("run_ended")));
}

#[tokio::test]
async fn a_run_rests_and_goes_on() {
    let model = ScriptedModel::new([Script::Hang(Duration::from_secs(60))]);
    let stage = Stage::new(model.clone()).await;
    let task = stage.task().await;
    let run = stage.start(task).await;
    let path = format!("/v1/runs/{}", run["run_id"].as_str().unwrap());
    stage
        .until(&run, |run| run["going"] == true && run["steps"] == 1)
        .await;
    assert_eq!(stage.get("/state").await["loop"]["going"], 1);
    let (status, _) = stage.post(&format!("{path}/pause"), Value::Null).await;
    assert_eq!(status, 202);
    stage
        .until(&run, |run| run["going"] == false && run["status"] == "paused")
        .await;
    assert_eq!(stage.processor.get(task).await.unwrap().status, Status::Ready);
    model.push(Script::text("Rested."));
    let (status, again) = stage.post(&format!("{path}/resume"), Value::Null).await;
    assert_eq!((status.as_u16(), &again["run_id"]), (202, &run["run_id"]));
    stage.until(&run, |run| run["status"] == "done").await;
}

/// After an outage of its model a task rests for a while; whoever asks for it need not wait.
#[tokio::test]
async fn a_run_whose_model_was_down_goes_on_when_it_is_asked_to() {
    let down = Script::Html("<html>down</html>".into());
    let model = ScriptedModel::new([down.clone(), down.clone(), down]);
    let stage = Stage::new(model.clone()).await;
    let task = stage.task().await;
    let run = stage.start(task).await;
    stage
        .until(&run, |run| run["going"] == false && run["status"] == "paused")
        .await;
    let status = stage.processor.get(task).await.unwrap().status;
    assert_eq!(status, Status::Preparing);
    model.push(Script::text("Up again."));
    let path = format!("/v1/runs/{}/resume", run["run_id"].as_str().unwrap());
    let (status, _) = stage.post(&path, Value::Null).await;
    assert_eq!(status, 202);
    stage.until(&run, |run| run["status"] == "done").await;
}

#[tokio::test]
async fn stopping_lets_runs_rest() {
    let stage = Stage::new(ScriptedModel::new([Script::Hang(Duration::from_secs(60))])).await;
    let run = stage.start(stage.task().await).await;
    stage.until(&run, |run| run["steps"] == 1).await;
    stage.runner.stop().await;
    assert_eq!(stage.until(&run, |_| true).await["status"], "paused");
}

#[tokio::test]
async fn bad_requests_say_what_is_wrong() {
    let stage = Stage::new(ScriptedModel::new([])).await;
    let task = stage.task().await;
    let nobody = TaskId::generate(SystemClock.now());
    stage.post("/v1/agent-types", json!({"id": "worker"})).await;
    stage
        .post(
            "/v1/agent-types",
            json!({"id": "other", "model": "no such model"}),
        )
        .await;
    for (path, body, status, code, pointer) in [
        (
            "/v1/runs",
            json!({"task_id": task, "agent": "nobody"}),
            422,
            "unknown_agent_type",
            "/agent",
        ),
        (
            "/v1/runs",
            json!({"task_id": nobody, "agent": "worker"}),
            422,
            "unknown_task",
            "/task_id",
        ),
        (
            "/v1/runs",
            json!({"task_id": task, "agent": "other"}),
            422,
            "no_model",
            "",
        ),
        (
            "/v1/runs",
            json!({"task_id": "x", "agent": "worker"}),
            422,
            "invalid_body",
            "/task_id",
        ),
        (
            "/v1/agent-types",
            json!({"id": "a b"}),
            422,
            "invalid_body",
            "/id",
        ),
        (
            "/v1/agent-types",
            json!({"id": "a", "tools": ["nope"]}),
            422,
            "unknown_tool",
            "/tools",
        ),
        (
            "/v1/agent-types",
            json!({"id": "a", "steps": 0}),
            422,
            "out_of_range",
            "/steps",
        ),
        (
            "/v1/agent-types",
            json!({"id": "a", "stepz": 1}),
            422,
            "invalid_body",
            "/stepz",
        ),
    ] {
        let (got, problem) = stage.post(path, body.clone()).await;
        assert_eq!(
            (got.as_u16(), problem["code"].as_str().unwrap()),
            (status, code),
            "{body}: {problem}"
        );
        assert_eq!(
            problem["pointer"].as_str().unwrap_or_default(),
            pointer,
            "{body}: {problem}"
        );
    }
    let unknown = format!("/v1/runs/{nobody}");
    for path in [
        unknown.clone(),
        format!("{unknown}/steps"),
        "/v1/agent-types/none".to_owned(),
    ] {
        assert_eq!(stage.call("GET", &path, None).await.0, 404, "{path}");
    }
    assert_eq!(stage.call("GET", "/v1/runs?limit=0", None).await.0, 422);
    assert_eq!(stage.call("GET", "/v1/runs/not-an-id", None).await.0, 400);
}

#[tokio::test]
async fn a_claimed_task_is_not_started_twice() {
    let stage = Stage::new(ScriptedModel::new([Script::Hang(Duration::from_secs(60))])).await;
    let task = stage.task().await;
    let run = stage.start(task).await;
    let (status, problem) = stage
        .post("/v1/runs", json!({"task_id": task, "agent": "worker"}))
        .await;
    assert_eq!(
        (status.as_u16(), &problem["code"]),
        (409, &json!("task_not_ready"))
    );
    let decided = format!("/v1/runs/{}/decide", run["run_id"].as_str().unwrap());
    let (status, problem) = stage.post(&decided, json!({"results": []})).await;
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("wrong_phase")));
}

#[tokio::test]
async fn types_of_agent_are_kept() {
    let stage = Stage::new(ScriptedModel::new([])).await;
    let small = json!({"id": "small", "system": "Be brief.", "protocol": "json_schema", "tokens": 9_000, "steps": 4,
        "seconds": 60, "shortlist": 3, "core": ["read_file"], "tools": [], "model": "m"});
    assert_eq!(
        stage.post("/v1/agent-types", small.clone()).await,
        (StatusCode::OK, small.clone())
    );
    assert_eq!(stage.get("/v1/agent-types/small").await, small);
    stage.post("/v1/agent-types", json!({"id": "large"})).await;
    let names = |list: Value| -> Vec<String> {
        list["agent_types"]
            .as_array()
            .unwrap()
            .iter()
            .map(|kind| kind["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(stage.get("/v1/agent-types").await), ["large", "small"]);
    assert_eq!(
        names(stage.get("/v1/agent-types?after=large&limit=9").await),
        ["small"]
    );
}

#[test]
fn the_document_derives_into_tools() {
    let document: Value = serde_json::from_str(&openapi_json()).unwrap();
    let derived = aion_loop::tools_from_openapi(&document, "loop", &Default::default()).unwrap();
    let names: Vec<&str> = derived.tools.iter().map(|tool| tool.name.as_str()).collect();
    for name in [
        "start_run",
        "get_run",
        "list_runs",
        "pause_run",
        "resume_run",
        "decide_run",
        "list_steps",
    ] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert!(derived.skipped.is_empty(), "{:?}", derived.skipped);
}
