//! The same service over a Postgres database.

use aion_processor::{PostgresOptions, PostgresTaskStore};
use aion_sql::testkit::TestDatabase;
use http::StatusCode;
use serde_json::json;

use crate::client::{Client, clock, problem, wanted};

#[tokio::test]
async fn the_service_works_over_postgres() {
    let Some(database) = TestDatabase::create().await else {
        return;
    };
    let clock = clock();
    let options = PostgresOptions::default().with_clock(clock.clone());
    let store = PostgresTaskStore::open(&database.url(), options).await.unwrap();
    let client = Client::with(clock, store, None);
    assert_eq!(client.get("/readyz").await.0, StatusCode::OK);

    client.put("/v1/primitives/gpu", json!({"kind": "mutex"})).await;
    client
        .put("/v1/objects/notes", json!({"body": {"lines": []}}))
        .await;
    client
        .put(
            "/v1/schedules/daily",
            json!({"cron": "@daily", "task": {"kind": "k", "title": "t"}}),
        )
        .await;
    let (path, epoch) = client.claimed().await;
    let acquired = client
        .ok(
            &format!("{path}/acquire"),
            json!({"epoch": epoch, "primitive": "gpu"}),
        )
        .await;
    assert_eq!(acquired["outcome"], "granted");
    assert_eq!(
        client.get("/v1/waits").await.1["holders"],
        json!([acquired["grant"]])
    );
    assert_eq!(client.get("/v1/objects/notes").await.1["version"], 1);
    assert!(client.get("/v1/schedules/daily").await.1["next_at"].is_i64());
    assert_eq!(
        problem(client.get("/v1/schedules/a%00b").await),
        wanted(404, "not_found", "")
    );

    client
        .ok(&format!("{path}/complete"), json!({"epoch": epoch}))
        .await;
    let (_, ended) = client.get("/v1/ended-roots?before=1700000000001").await;
    assert_eq!(ended["tasks"].as_array().unwrap().len(), 1);
    let (_, metrics) = client.get("/v1/metrics").await;
    assert!(metrics["database_bytes"].as_u64().unwrap() > 0);
    assert_eq!(metrics["free_bytes"], json!(null), "the server does not say");
    assert_eq!(client.delete(&path).await, (StatusCode::OK, json!({"tasks": 1})));
    drop(client);
    database.remove().await;
}
