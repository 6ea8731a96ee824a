//! How large the store is, and what happens when it is full.

use aion_processor::SqliteOptions;
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::json;

use crate::client::{Client, problem, wanted};

async fn text(client: &Client, path: &str) -> (StatusCode, String) {
    let response = client.send(Request::get(path).body(Body::empty()).unwrap()).await;
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn sizes_counts_and_ages_are_told() {
    let memory = Client::new();
    assert_eq!(
        memory.get("/v1/metrics").await.1["free_bytes"],
        json!(null),
        "nobody knows"
    );
    let client = Client::on_sqlite(SqliteOptions::default()).await;
    for _ in 0..3 {
        client.task().await;
        client.clock.advance_ms(2_000);
    }
    let (_, metrics) = client.get("/v1/metrics").await;
    assert!(metrics["database_bytes"].as_u64().unwrap() > 4_096 && metrics["free_bytes"].is_u64());
    assert_eq!(
        (&metrics["full"], &metrics["last_seq"]),
        (&json!(false), &json!(6))
    );
    assert_eq!(
        metrics["statuses"][1],
        json!({"status": "READY", "tasks": 3, "oldest": 1_700_000_000_000_i64})
    );
    assert_eq!(metrics["statuses"].as_array().unwrap().len(), 7);
    let (status, prometheus) = text(&client, "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    for name in [
        "aion_processor_tasks{status=\"READY\"}",
        "aion_processor_oldest_task_age_seconds{status=\"READY\"}",
        "aion_processor_database_bytes",
        "aion_processor_storage_full",
        "# HELP aion_processor_tasks Tasks by status.",
    ] {
        assert!(prometheus.contains(name), "{name} in {prometheus}");
    }
}

#[tokio::test]
async fn nothing_to_do_is_done_at_once() {
    for client in Client::each().await {
        for (path, body) in [
            ("/v1/store/apply", json!({"writes": []})),
            ("/v1/store/claim", json!({"claims": [], "wait_ms": 20_000})),
        ] {
            let answer = client.post(path, body);
            let answer = tokio::time::timeout(std::time::Duration::from_secs(10), answer).await;
            assert_eq!(answer.unwrap().0, StatusCode::OK, "{path}");
        }
    }
}

#[tokio::test]
async fn a_full_store_says_so_and_goes_on_when_it_has_room() {
    let client = Client::on_sqlite(SqliteOptions::default().with_max_pages(200)).await;
    assert_eq!(text(&client, "/readyz").await.0, StatusCode::OK);
    let new = json!({"kind": "k", "title": "t", "payload": "x".repeat(50_000)});
    let mut refused = None;
    for _ in 0..100 {
        let answer = client.post("/v1/tasks", new.clone()).await;
        if !answer.0.is_success() {
            refused = Some(answer);
            break;
        }
    }
    assert_eq!(problem(refused.unwrap()), wanted(507, "storage_full", ""));
    assert_eq!(client.get("/v1/metrics").await.1["full"], true);
    let (status, body) = text(&client, "/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("storage_full"), "{body}");
    assert_eq!(text(&client, "/healthz").await.0, StatusCode::OK);
    let (_, prometheus) = text(&client, "/metrics").await;
    assert!(
        prometheus.contains("aion_processor_storage_full 1"),
        "{prometheus}"
    );
    // Room comes from what is removed.
    let (_, page) = client.get("/v1/tasks").await;
    for task in page["tasks"].as_array().unwrap() {
        let path = format!("/v1/tasks/{}", task["id"].as_str().unwrap());
        // An end needs room for its event, which a full file may not have.
        if client
            .post(&format!("{path}/cancel"), json!({}))
            .await
            .0
            .is_success()
        {
            assert_eq!(client.delete(&path).await.0, StatusCode::OK);
        }
    }
    assert_eq!(client.get("/v1/metrics").await.1["full"], false);
    assert_eq!(text(&client, "/readyz").await.0, StatusCode::OK);
    client.ok("/v1/tasks", new).await;
}
