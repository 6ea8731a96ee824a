//! The store over HTTP: the conformance suite over real TCP, with every request and answer held against the document.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};

use aion_processor::{HttpTaskStore, Limits, MemTaskStore, Op, Processor, Query, task_store_tests};
use aion_service::ServeOptions;
use aion_types::ManualClock;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use http_body_util::BodyExt;
use jsonschema::Validator;
use serde_json::{Value, json};

use crate::client::Client;
use crate::served::{Served, options};

task_store_tests!(served);

async fn served(clock: ManualClock, limits: Limits) -> (HttpTaskStore, Served) {
    let processor = Processor::new(MemTaskStore::new(clock, limits));
    let options = ServeOptions::loopback(0);
    let router = aion_processor_server::service(processor).into_router(&options.limits);
    let served = Served::router(router.layer(from_fn(as_documented)), options).await;
    (
        HttpTaskStore::new(&served.url(), self::options()).unwrap(),
        served,
    )
}

/// What is asked at a path, and what it answers.
const SCHEMAS: [(&str, Option<&str>, &str); 6] = [
    ("/v1/store", None, "StoreInfo"),
    ("/v1/store/apply", Some("StoreWrites"), "StoreResults"),
    ("/v1/store/claim", Some("StoreClaims"), "StoreLeases"),
    ("/v1/store/read", Some("StoreAsk"), "StoreAnswer"),
    ("/v1/store/due", Some("StoreDue"), "StoreDueReport"),
    ("/v1/store/now", None, "StoreTime"),
];

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(&aion_processor_server::openapi_json()).unwrap());

fn schema(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}"), "components": DOCUMENT["components"]})
}

fn fits(name: &'static str, value: &Value) {
    static VALIDATORS: Mutex<BTreeMap<&str, Arc<Validator>>> = Mutex::new(BTreeMap::new());
    let make = || Arc::new(jsonschema::validator_for(&schema(name)).unwrap());
    let validator = Arc::clone(VALIDATORS.lock().unwrap().entry(name).or_insert_with(make));
    let wrong: Vec<_> = validator
        .iter_errors(value)
        .map(|error| error.to_string())
        .collect();
    assert!(wrong.is_empty(), "{name}: {wrong:?}\n{value}");
}

/// Answers are as the document says, and so are requests that were carried out.
async fn as_documented(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let Some((_, asked, given)) = SCHEMAS.iter().find(|(known, ..)| *known == path) else {
        return next.run(request).await;
    };
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let response = next
        .run(Request::from_parts(parts, Body::from(body.clone())))
        .await;
    let (parts, answer) = response.into_parts();
    let answer = answer.collect().await.unwrap().to_bytes();
    let value: Value = serde_json::from_slice(&answer).unwrap();
    if parts.status.is_success() {
        fits(given, &value);
        let results = value["results"].as_array();
        let refused = results.is_some_and(|all| all.iter().any(|one| one.get("error").is_some()));
        if let Some(asked) = asked.filter(|_| !refused) {
            fits(asked, &serde_json::from_slice(&body).unwrap());
        }
    } else {
        fits("StoreProblem", &value);
    }
    Response::from_parts(parts, Body::from(answer))
}

/// The names that a list of alternatives in the document has.
fn documented(name: &str) -> Vec<String> {
    let variants = DOCUMENT["components"]["schemas"][name]["oneOf"]
        .as_array()
        .unwrap();
    let mut names: Vec<String> = Vec::new();
    for variant in variants {
        let words = variant["enum"].as_array().into_iter().flatten();
        names.extend(words.map(|word| word.as_str().unwrap().to_owned()));
        names.extend(
            variant["properties"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name.clone()),
        );
    }
    names.sort();
    names
}

/// The names that a type knows, as it says itself when it meets another.
fn known<T: serde::de::DeserializeOwned>() -> Vec<String> {
    let error = serde_json::from_str::<T>(r#"{"no such name": 1}"#)
        .err()
        .unwrap()
        .to_string();
    let (_, list) = error.split_once("expected one of ").unwrap();
    let quoted = list.split('`').skip(1).step_by(2);
    let mut names: Vec<_> = quoted.map(str::to_owned).collect();
    names.sort();
    names
}

/// A new operation or question is described, or this fails.
#[test]
fn the_document_names_every_operation_and_question() {
    assert_eq!(documented("StoreOp"), known::<Op>());
    assert_eq!(documented("StoreQuery"), known::<Query>());
    assert_eq!(documented("StoreDone"), known::<aion_processor::Done>());
}

#[tokio::test]
async fn the_time_and_the_schema_are_the_servers() {
    use aion_processor::TaskStore;
    use aion_types::Timestamp;

    let clock = ManualClock::at(Timestamp::from_ms(77));
    let store = Arc::new(MemTaskStore::new(clock, Limits::default()));
    let served = Served::over(store).await;
    assert_eq!(served.client().now().await.unwrap(), Timestamp::from_ms(77));
    assert_eq!(served.client().open_schema().await.unwrap().engine, "memory");
}

/// What a program in another language sends: members that have a default may be left out.
#[tokio::test]
async fn a_batch_by_hand_is_answered_one_by_one() {
    let client = Client::new();
    let id = "01893d0e-7c00-7abc-8def-0123456789ab";
    let writes = json!({"writes": [
        {"op": {"create": {"id": id, "kind": "demo", "title": "A task"}}},
        {"op": {"start": id}},
        {"op": {"declare": {"name": "gpu", "kind": "semaphore", "permits": 2}}, "durability": "process"},
    ]});
    let answer = client.ok("/v1/store/apply", writes).await;
    assert_eq!(answer["results"][0]["done"]["record"]["status"], "READY");
    let refused = &answer["results"][1]["error"];
    assert_eq!(
        (&refused["code"], &refused["from"]),
        (&json!("illegal_transition"), &json!("READY"))
    );
    assert_eq!(refused["detail"], "a task that is READY cannot start");
    assert_eq!(answer["results"][2]["done"]["primitive"]["permits"], 2);
    let claims = json!({"claims": [{"handler": "a"}, {"handler": "b"}], "wait_ms": 1_000});
    let answer = client.ok("/v1/store/claim", claims).await;
    assert_eq!(answer["results"][0]["done"][0]["task"]["id"], id);
    assert_eq!(answer["results"][1], json!({"done": []}));
}

#[tokio::test]
async fn a_bad_operation_is_pointed_at() {
    let client = Client::new();
    let task =
        json!({"create": {"id": "01893d0e-7c00-7abc-8def-0123456789ab", "kind": "demo", "title": "A task"}});
    let with = |op: Value| json!({"writes": [{"op": task}, {"op": op}]});
    let cases = [
        (
            with(json!({"create": {"id": "7", "kind": "demo", "title": "A task"}})),
            "/writes/1/op/create/id",
        ),
        (
            with(
                json!({"heartbeat": {"fence": {"task": task["create"]["id"], "epoch": 2.5}, "lease_ms": 1}}),
            ),
            "/writes/1/op/heartbeat/fence/epoch",
        ),
        (
            with(json!({"create": {"kindd": "demo"}})),
            "/writes/1/op/create/kindd",
        ),
        (with(json!({"dance": {}})), "/writes/1/op"),
        (json!({"writes": [], "more": 1}), "/more"),
    ];
    for (body, pointer) in cases {
        let (status, problem) = client.post("/v1/store/apply", body.clone()).await;
        assert_eq!(
            (status.as_u16(), &problem["code"]),
            (422, &json!("invalid_body")),
            "{problem}"
        );
        assert_eq!(problem["pointer"], pointer, "{problem}");
    }
    let (_, tasks) = client.get("/v1/tasks").await;
    assert_eq!(tasks["tasks"], json!([]), "nothing was done");
}

/// What the store refuses as a whole, it says twice: for people, and for programs.
#[tokio::test]
async fn refusals_are_problems_with_an_error() {
    let client = Client::new();
    let id = "01893d0e-7c00-7abc-8def-0123456789ab";
    let many: Vec<_> = (0..1_001).map(|_| json!({"op": {"start": id}})).collect();
    let cases = [
        ("apply", json!({"writes": many}), 422, "over_limit"),
        (
            "claim",
            json!({"claims": [], "wait_ms": 20_001}),
            422,
            "over_limit",
        ),
        (
            "claim",
            json!({"claims": vec![json!({"handler": "w"}); 257]}),
            422,
            "over_limit",
        ),
        ("read", json!({"query": {"children": id}}), 404, "task_not_found"),
        (
            "read",
            json!({"query": {"tasks": {"limit": 1_001}}}),
            422,
            "over_limit",
        ),
        ("due", json!({"limit": 10_001}), 422, "over_limit"),
        ("due", json!({"limit": 0}), 422, "invalid"),
    ];
    for (path, body, wanted, code) in cases {
        let (status, problem) = client.post(&format!("/v1/store/{path}"), body).await;
        assert_eq!(
            (status.as_u16(), &problem["code"]),
            (wanted, &json!(code)),
            "{problem}"
        );
        assert_eq!(problem["error"]["code"], code, "{problem}");
        fits("StoreProblem", &problem);
    }
    let (status, problem) = client.get("/v1/store/wake?after=9223372036854775808").await;
    assert_eq!(
        (status.as_u16(), &problem["code"]),
        (422, &json!("over_limit")),
        "{problem}"
    );
}
