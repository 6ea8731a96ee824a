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

use crate::served::{Served, options};

task_store_tests!(|clock, limits| served(clock, limits));

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

/// The kit's own server works without a clock of the process: the time is the store's.
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
