//! `Idempotency-Key` and entity tags of tasks.

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::client::{Client, post, problem, wanted};

async fn keyed(client: &Client, path: &str, body: &Value, key: &str) -> (StatusCode, Value) {
    let mut request = post(path, body);
    request
        .headers_mut()
        .insert("idempotency-key", key.parse().unwrap());
    client.ask(request).await
}

fn used() -> (u16, String, String) {
    wanted(422, "idempotency_key_used", "header:idempotency-key")
}

#[tokio::test]
async fn a_key_stands_for_one_request() {
    for client in Client::each().await {
        client.put("/v1/objects/notes", json!({"body": 1})).await;
        let task = json!({"kind": "k", "title": "t", "payload": {"a": 1.0, "b": [0.1, null]},
            "concurrency": {"key": "c", "max": 2}});
        let call = json!({"task": {"kind": "k", "title": "t", "payload": 7}, "mode": "exclusive"});
        let id = client.task().await;
        let message = json!({"role": "assistant", "content": "hi", "persistence": {"n": 1},
            "tool_calls": [{"id": "1", "name": "f", "arguments": "{}"}]});
        let said = format!("/v1/tasks/{id}/messages");
        for (path, body, others) in [
            (
                "/v1/tasks",
                &task,
                vec![
                    ("title", json!("other")),
                    ("payload", json!({})),
                    ("priority", json!(1)),
                    ("deadline", json!(5)),
                    ("concurrency", json!({"key": "c", "max": 3})),
                ],
            ),
            (
                "/v1/objects/notes/call",
                &call,
                vec![
                    ("mode", json!("shared")),
                    ("version", json!(9)),
                    ("task", json!({"kind": "k", "title": "t", "payload": 8})),
                ],
            ),
            (
                &said,
                &message,
                vec![
                    ("content", json!("ho")),
                    ("role", json!("user")),
                    ("persistence", json!(null)),
                    ("tool_calls", json!([])),
                ],
            ),
        ] {
            let key = format!("once {path:.14}");
            let first = keyed(&client, path, body, &key).await;
            assert_eq!(first.0, StatusCode::CREATED, "{path}: {}", first.1);
            let before = client.get("/v1/metrics").await.1["last_seq"].clone();
            assert_eq!(keyed(&client, path, body, &key).await, first, "{path}");
            for (member, value) in others {
                let mut other = body.clone();
                other[member] = value;
                assert_eq!(
                    problem(keyed(&client, path, &other, &key).await),
                    used(),
                    "{path} {member}"
                );
            }
            assert_eq!(client.get("/v1/metrics").await.1["last_seq"], before, "{path}");
        }
    }
}

#[tokio::test]
async fn an_item_is_put_once_under_a_key() {
    for client in Client::each().await {
        client
            .put("/v1/primitives/inbox", json!({"kind": "queue", "capacity": 1}))
            .await;
        let to = "/v1/primitives/inbox/signal";
        let put = json!({"signal": "put", "item": [1]});
        for _ in 0..3 {
            let (status, inbox) = keyed(&client, to, &put, "once").await;
            assert_eq!((status, &inbox["items"]), (StatusCode::OK, &json!(1)));
        }
        let other = json!({"signal": "put", "item": [2]});
        assert_eq!(problem(keyed(&client, to, &other, "once").await), used());
        assert_eq!(
            problem(keyed(&client, to, &other, "twice").await),
            wanted(409, "over_limit", "")
        );
    }
}

#[tokio::test]
async fn a_key_is_checked() {
    let client = Client::new();
    let body = json!({"kind": "k", "title": "t"});
    let long = "x".repeat(129);
    assert_eq!(
        problem(keyed(&client, "/v1/tasks", &body, &long).await),
        wanted(422, "over_limit", "/key")
    );
    let mut request = post("/v1/tasks", &body);
    let bytes = http::HeaderValue::from_bytes(b"\xff").unwrap();
    request.headers_mut().insert("idempotency-key", bytes);
    assert_eq!(
        problem(client.ask(request).await),
        wanted(400, "invalid_header", "header:idempotency-key")
    );
}

/// However often a request is repeated, nothing grows. `AION_REPEATS=1000000` takes the issue at its word.
#[tokio::test]
async fn repeats_grow_nothing() {
    let repeats = std::env::var("AION_REPEATS")
        .ok()
        .and_then(|text| text.parse().ok());
    let repeats: u32 = repeats.unwrap_or(1_000);
    for client in Client::each().await {
        let body = json!({"kind": "k", "title": "t"});
        let first = keyed(&client, "/v1/tasks", &body, "once").await.1;
        let before = client.get("/v1/metrics").await.1;
        for _ in 0..repeats {
            let again = keyed(&client, "/v1/tasks", &body, "once").await.1;
            assert_eq!(again["id"], first["id"]);
        }
        assert_eq!(client.get("/v1/metrics").await.1, before);
    }
}

#[tokio::test]
async fn a_task_that_has_not_changed_is_not_sent_again() {
    for client in Client::each().await {
        let (path, epoch) = client.claimed().await;
        let get = async |tag: Option<&str>| {
            let request = tag.iter().fold(Request::get(&path), |request, tag| {
                request.header("if-none-match", *tag)
            });
            let response = client.send(request.body(Body::empty()).unwrap()).await;
            let tag = response.headers()["etag"].to_str().unwrap().to_owned();
            (response.status().as_u16(), tag)
        };
        let (status, tag) = get(None).await;
        assert_eq!(status, 200);
        assert_eq!(get(Some(&tag)).await, (304, tag.clone()));
        client
            .ok(&format!("{path}/complete"), json!({"epoch": epoch}))
            .await;
        let (status, newer) = get(Some(&tag)).await;
        assert!(status == 200 && newer != tag);
    }
}

#[tokio::test]
async fn whole_numbers_may_have_a_fraction_of_zero() {
    let client = Client::new();
    let text = r#"{"kind": "k", "title": "t", "priority": 2.0, "max_attempts": 5e0, "payload": 2.0}"#;
    let request = Request::post("/v1/tasks").header("content-type", "application/json");
    let (status, task) = client.ask(request.body(Body::from(text)).unwrap()).await;
    assert_eq!(
        (status, &task["priority"], &task["max_attempts"]),
        (StatusCode::CREATED, &json!(2), &json!(5))
    );
    assert!(task["payload"].is_f64(), "what is not ours stays as it came");
    for bad in ["2.5", "1e20", "\"2\"", "null", "true"] {
        let text = format!(r#"{{"kind": "k", "title": "t", "priority": {bad}}}"#);
        let request = Request::post("/v1/tasks").header("content-type", "application/json");
        let found = problem(client.ask(request.body(Body::from(text)).unwrap()).await);
        assert_eq!(found, wanted(422, "invalid_body", "/priority"), "{bad}");
    }
}
