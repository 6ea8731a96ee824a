//! Schedules over HTTP.

use http::StatusCode;
use serde_json::json;

use crate::client::{Client, problem, wanted};

#[tokio::test]
async fn a_schedule_makes_tasks() {
    for client in Client::each().await {
        let body = json!({"cron": "0 * * * *", "zone": "Europe/Berlin", "overlap": "skip",
            "task": {"kind": "report", "title": "Hourly", "payload": [1], "priority": 2.0,
                     "concurrency": {"key": "reports", "max": 2}}});
        let (status, put) = client.put("/v1/schedules/hourly", body).await;
        // 22:13:20 is followed by 23:00.
        assert_eq!(
            (status, &put["next_at"]),
            (StatusCode::OK, &json!(1_700_002_800_000_i64))
        );
        assert_eq!(
            (&put["task"]["priority"], &put["task"]["queue"]),
            (&json!(2), &json!("default"))
        );
        assert_eq!(client.get("/v1/schedules/hourly").await.1, put);
        client.clock.advance_ms(3_600_000);
        client.processor.tick().await.unwrap();
        let (_, tasks) = client.get("/v1/tasks?kind=report").await;
        let made = &tasks["tasks"][0];
        assert_eq!(
            (&made["title"], &made["payload"]),
            (&json!("Hourly"), &json!([1]))
        );
        let (_, after) = client.get("/v1/schedules").await;
        assert_eq!(after["schedules"][0]["last_task_id"], made["id"]);
        for _ in 0..2 {
            assert_eq!(
                client.delete("/v1/schedules/hourly").await.0,
                StatusCode::NO_CONTENT
            );
        }
        assert_eq!(
            problem(client.get("/v1/schedules/hourly").await),
            wanted(404, "not_found", "")
        );
    }
}

#[tokio::test]
async fn schedules_are_checked() {
    let client = Client::new();
    let with = |cron: &str, zone: &str, kind: &str| json!({"cron": cron, "zone": zone, "task": {"kind": kind, "title": "t"}});
    for (body, expected) in [
        (with("every day", "UTC", "k"), wanted(422, "invalid", "/cron")),
        (with("0 0 30 2 *", "UTC", "k"), wanted(422, "invalid", "/cron")),
        (
            with(&"0".repeat(300), "UTC", "k"),
            wanted(422, "over_limit", "/cron"),
        ),
        (with("@daily", "Mars/Base", "k"), wanted(422, "invalid", "/zone")),
        (with("@daily", "UTC", ""), wanted(422, "invalid", "/task/kind")),
        (json!({"cron": "@daily"}), wanted(422, "invalid_body", "")),
        (
            json!({"cron": "@daily", "task": {"kind": "k", "title": "t", "key": "mine"}}),
            wanted(422, "invalid_body", "/task/key"),
        ),
    ] {
        assert_eq!(
            problem(client.put("/v1/schedules/s", body.clone()).await),
            expected,
            "{body:.80}"
        );
    }
    assert_eq!(
        client.get("/v1/schedules").await.1,
        json!({"schedules": [], "next": null})
    );
}
