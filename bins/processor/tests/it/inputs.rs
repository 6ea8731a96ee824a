//! Bad input: a 4xx that says what is wrong and where, and nothing written.

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::client::Client;

async fn assert_problem(client: &Client, path: &str, body: Value, wanted: (u16, &str, &str)) {
    let (status, problem) = client.post(path, body.clone()).await;
    let found = (
        status.as_u16(),
        problem["code"].as_str().unwrap_or(""),
        problem["pointer"].as_str().unwrap_or(""),
    );
    assert_eq!(found, wanted, "{path} {body:.100}: {problem}");
}

#[tokio::test]
async fn bodies_are_checked_member_by_member() {
    let client = Client::new();
    let long = "x".repeat(3_000_000);
    let cases = [
        (json!({"title": "t"}), (422, "invalid_body", "")),
        (
            json!({"kind": "k", "title": "t", "colour": "red"}),
            (422, "invalid_body", "/colour"),
        ),
        (
            json!({"kind": "k", "title": "t", "concurrency": ["c", 2]}),
            (422, "invalid_body", "/concurrency"),
        ),
        (
            json!({"kind": "k", "title": "t", "priority": "high"}),
            (422, "invalid_body", "/priority"),
        ),
        (
            json!({"kind": "k", "title": "t", "priority": 3_000_000_000_u64}),
            (422, "invalid_body", "/priority"),
        ),
        (
            json!({"kind": "k", "title": "t", "id": "7"}),
            (422, "invalid_body", "/id"),
        ),
        (json!({"kind": "", "title": "t"}), (422, "invalid", "/kind")),
        (json!({"kind": "k\u{0}", "title": "t"}), (422, "invalid", "/kind")),
        (
            json!({"kind": "k", "title": "t", "max_attempts": 0}),
            (422, "invalid", "/max_attempts"),
        ),
        (
            json!({"kind": "k", "title": "t", "max_attempts": 101}),
            (422, "over_limit", "/max_attempts"),
        ),
        (
            json!({"kind": "k", "title": "t", "run_after": -1}),
            (422, "invalid", "/run_after"),
        ),
        (
            json!({"kind": "k", "title": "t", "deadline": i64::MAX}),
            (422, "invalid", "/deadline"),
        ),
        (
            json!({"kind": "k", "title": long.clone()}),
            (413, "over_limit", "/title"),
        ),
        (
            json!({"kind": "k", "title": "t", "payload": long.clone()}),
            (413, "over_limit", "/payload"),
        ),
        (
            json!({"kind": "k", "title": "t", "spec": format!("{long}{long}")}),
            (413, "body_too_large", ""),
        ),
    ];
    for (body, wanted) in cases {
        assert_problem(&client, "/v1/tasks", body, wanted).await;
    }
    let (_, log) = client.get("/v1/events").await;
    assert_eq!(log["events"], json!([]));
}

#[tokio::test]
async fn holders_input_is_checked() {
    let client = Client::new();
    let (path, epoch) = client.claimed().await;
    let to = |what: &str| format!("{path}/{what}");
    let stranger = client.task().await;
    let cases = [
        (
            "/v1/claims".to_owned(),
            json!({"handler_id": "a b"}),
            (422, "invalid_body", "/handler_id"),
        ),
        (
            "/v1/claims".to_owned(),
            json!({"handler_id": "w", "max": 0}),
            (422, "invalid", "/max"),
        ),
        (
            "/v1/claims".to_owned(),
            json!({"handler_id": "w", "max": 1000}),
            (422, "over_limit", "/max"),
        ),
        (
            "/v1/claims".to_owned(),
            json!({"handler_id": "w", "lease_ms": 0}),
            (422, "invalid", "/lease_ms"),
        ),
        (
            "/v1/claims".to_owned(),
            json!({"handler_id": "w", "wait_ms": 60_000}),
            (422, "over_limit", "/wait_ms"),
        ),
        (
            to("heartbeat"),
            json!({"epoch": -1}),
            (422, "invalid_body", "/epoch"),
        ),
        (
            to("heartbeat"),
            json!({"epoch": epoch, "lease_ms": u64::MAX}),
            (422, "over_limit", "/lease_ms"),
        ),
        (
            to("messages"),
            json!({"role": "robot", "content": ""}),
            (422, "invalid_body", "/role"),
        ),
        (
            to("messages"),
            json!({"role": "user", "content": "x".repeat(2_000_000)}),
            (413, "over_limit", "/content"),
        ),
        (
            to("messages"),
            json!({"role": "user", "tool_calls": [{"id": 1}]}),
            (422, "invalid_body", "/tool_calls/0/id"),
        ),
        (
            to("fail"),
            json!({"epoch": epoch, "error": "e", "retry": "maybe"}),
            (422, "invalid_body", "/retry"),
        ),
        (
            to("gather"),
            json!({"epoch": epoch, "tasks": [stranger]}),
            (422, "invalid", "/tasks"),
        ),
        (
            to("stop"),
            json!({"epoch": epoch}),
            (409, "illegal_transition", ""),
        ),
        (
            to("cancel"),
            json!({"mode": "kill"}),
            (422, "invalid_body", "/mode"),
        ),
    ];
    let before = client.get(&path).await;
    for (path, body, wanted) in cases {
        assert_problem(&client, &path, body, wanted).await;
    }
    assert_eq!(client.get(&path).await, before);
}

#[tokio::test]
async fn trees_have_a_depth_and_no_circles() {
    let client = Client::new();
    let mut ids = vec![client.task().await];
    let below = |parent: &str| json!({"kind": "k", "title": "t", "parent_id": parent});
    while ids.len() <= 64 {
        let child = client.ok("/v1/tasks", below(&ids[ids.len() - 1])).await;
        ids.push(child["id"].as_str().unwrap().to_owned());
    }
    assert_problem(
        &client,
        "/v1/tasks",
        below(&ids[64]),
        (422, "over_limit", "/parent_id"),
    )
    .await;
    let own = "01893d0e-7c00-7abc-8def-0123456789ab";
    let mut circle = below(own);
    circle["id"] = own.into();
    assert_problem(&client, "/v1/tasks", circle, (404, "task_not_found", "")).await;

    let claim = json!({"handler_id": "w", "task_id": ids[3]});
    let epoch = client.ok("/v1/claims", claim).await["leases"][0]["epoch"].clone();
    let path = format!("/v1/tasks/{}/gather", ids[3]);
    for waited in [&ids[3], &ids[2], &ids[0]] {
        let gather = json!({"epoch": epoch, "tasks": [waited]});
        assert_problem(&client, &path, gather, (422, "invalid", "/tasks")).await;
    }
    let many = json!({"epoch": epoch, "tasks": vec![&ids[4]; 10_001]});
    assert_problem(&client, &path, many, (422, "over_limit", "/tasks")).await;
    assert_eq!(
        client.get(&format!("/v1/tasks/{}", ids[3])).await.1["status"],
        "RUNNING"
    );
}

#[tokio::test]
async fn paths_and_queries_are_checked() {
    let client = Client::new();
    client.task().await;
    let nobody = "/v1/tasks/01893d0e-7c00-7abc-8def-0123456789ab";
    let cases = [
        ("/v1/tasks/7".to_owned(), (400, "invalid_path", "path:")),
        (
            "/v1/tasks/01893d0e-7c00-4abc-8def-0123456789ab".to_owned(),
            (400, "invalid_path", "path:"),
        ),
        (nobody.to_owned(), (404, "task_not_found", "")),
        (format!("{nobody}/messages"), (404, "task_not_found", "")),
        (format!("{nobody}/children"), (404, "task_not_found", "")),
        ("/v1/tasks?limit=0".to_owned(), (422, "invalid", "query:limit")),
        (
            "/v1/tasks?created_to=-1".to_owned(),
            (422, "invalid", "query:created_to"),
        ),
        (
            "/v1/tasks?limit=1001".to_owned(),
            (422, "over_limit", "query:limit"),
        ),
        (
            "/v1/tasks?limit=many".to_owned(),
            (400, "invalid_query", "query:"),
        ),
        (
            "/v1/tasks?status=HAPPY".to_owned(),
            (400, "invalid_query", "query:"),
        ),
        (
            "/v1/tasks?colour=red".to_owned(),
            (400, "invalid_query", "query:"),
        ),
        (
            "/v1/tasks?cursor=zzz".to_owned(),
            (422, "invalid", "query:cursor"),
        ),
        ("/v1/tasks?cursor=n1".to_owned(), (422, "invalid", "query:cursor")),
        ("/v1/events?after=-1".to_owned(), (400, "invalid_query", "query:")),
        (
            "/v1/tasks?text=%ff%fe".to_owned(),
            (400, "invalid_query", "query:"),
        ),
        ("/v1/nothing".to_owned(), (404, "unknown_route", "")),
    ];
    for (path, wanted) in cases {
        let (status, problem) = client.get(&path).await;
        let found = (
            status.as_u16(),
            problem["code"].as_str().unwrap_or(""),
            problem["pointer"].as_str().unwrap_or(""),
        );
        assert_eq!(found, wanted, "{path}: {problem}");
    }
}

#[tokio::test]
async fn malformed_json_and_headers_are_refused() {
    let client = Client::new();
    let bodies: [(&[u8], StatusCode, &str); 3] = [
        (b"{\"kind\": ", StatusCode::BAD_REQUEST, "invalid_json"),
        (
            b"{\"kind\": \"\xff\xfe\"}",
            StatusCode::BAD_REQUEST,
            "invalid_json",
        ),
        (b"[]", StatusCode::UNPROCESSABLE_ENTITY, "invalid_body"),
    ];
    for (body, wanted, code) in bodies {
        let request = Request::post("/v1/tasks")
            .header("content-type", "application/json")
            .body(Body::from(body.to_vec()));
        let (status, problem) = client.ask(request.unwrap()).await;
        assert_eq!((status, &problem["code"]), (wanted, &json!(code)), "{problem}");
    }
    let deep = format!(
        "{{\"kind\":\"k\",\"title\":\"t\",\"payload\":{}1{}}}",
        "[".repeat(5_000),
        "]".repeat(5_000)
    );
    let request = Request::post("/v1/tasks")
        .header("content-type", "application/json")
        .body(Body::from(deep));
    let (status, _) = client.ask(request.unwrap()).await;
    assert!(status.is_client_error());
    let request = Request::get("/v1/events/stream")
        .header("last-event-id", "x")
        .body(Body::empty())
        .unwrap();
    assert_eq!(client.ask(request).await.0, StatusCode::BAD_REQUEST);
}
