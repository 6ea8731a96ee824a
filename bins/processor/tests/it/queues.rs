//! What is claimed when: weights, concurrency keys, delays, and claims that come with an end.

use http::StatusCode;
use serde_json::{Value, json};

use crate::client::{Client, problem, wanted};

async fn kinds(client: &Client, claim: Value) -> Vec<String> {
    let leases = client.ok("/v1/claims", claim).await["leases"].clone();
    let leases = leases.as_array().unwrap().iter();
    leases
        .map(|lease| lease["task"]["kind"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn queues_share_by_weight() {
    for client in Client::each().await {
        let (status, set) = client.put("/v1/queues/large/weight", json!({"weight": 3})).await;
        assert_eq!((status, &set), (StatusCode::OK, &json!({"weight": 3})));
        for (queue, priority) in [("large", 0), ("small", 9)] {
            for _ in 0..8 {
                let new = json!({"kind": queue, "title": "t", "queue": queue, "priority": priority});
                client.ok("/v1/tasks", new).await;
            }
        }
        let got = kinds(&client, json!({"handler_id": "w", "max": 8, "order": "fair"})).await;
        assert_eq!(got.iter().filter(|kind| *kind == "large").count(), 6, "{got:?}");
        let got = kinds(&client, json!({"handler_id": "w", "max": 4, "order": "priority"})).await;
        assert_eq!(got, ["small"; 4]);
        for (path, body, expected) in [
            (
                "/v1/queues/q/weight",
                json!({"weight": 0}),
                wanted(422, "invalid", "/weight"),
            ),
            (
                "/v1/queues/q/weight",
                json!({"weight": 1_001}),
                wanted(422, "over_limit", "/weight"),
            ),
            (
                "/v1/queues/a%0Ab/weight",
                json!({"weight": 1}),
                wanted(422, "invalid", "path:queue"),
            ),
        ] {
            assert_eq!(problem(client.put(path, body).await), expected, "{path}");
        }
    }
}

#[tokio::test]
async fn tasks_with_one_key_run_so_many_at_a_time() {
    for client in Client::each().await {
        let new = json!({"kind": "k", "title": "t", "concurrency": {"key": "tenant-1", "max": 2}});
        for _ in 0..3 {
            client.ok("/v1/tasks", new.clone()).await;
        }
        let leases = client
            .ok("/v1/claims", json!({"handler_id": "w", "max": 9}))
            .await["leases"]
            .clone();
        assert_eq!(leases.as_array().unwrap().len(), 2);
        let done = json!({"epoch": leases[0]["epoch"], "claim": {"handler_id": "w"}});
        let path = |lease: &Value| format!("/v1/tasks/{}", lease["task"]["id"].as_str().unwrap());
        let next = client
            .ok(&format!("{}/complete-and-claim", path(&leases[0])), done.clone())
            .await;
        assert_eq!(
            (&next["task"]["status"], next["leases"].as_array().unwrap().len()),
            (&json!("COMPLETED"), 1)
        );
        let again = client
            .ok(&format!("{}/complete-and-claim", path(&leases[0])), done)
            .await;
        assert_eq!((&again["task"], &again["leases"]), (&next["task"], &json!([])));
        let to = format!("{}/complete-and-claim", path(&leases[1]));
        for (body, expected) in [
            (
                json!({"epoch": 9, "claim": {"handler_id": "w"}}),
                wanted(409, "lease_lost", ""),
            ),
            (
                json!({"epoch": 1, "claim": {"handler_id": "w", "max": 0}}),
                wanted(422, "invalid", "/claim/max"),
            ),
            (
                json!({"epoch": 1, "claim": {"handler_id": "w", "wait_ms": 5}}),
                wanted(422, "invalid", "/claim/wait_ms"),
            ),
            (
                json!({"epoch": 1, "claim": {"handler_id": "w", "lease_ms": 0}}),
                wanted(422, "invalid", "/claim/lease_ms"),
            ),
            (
                json!({"epoch": 1, "claim": {"handler_id": "w", "order": "any"}}),
                wanted(422, "invalid_body", "/claim/order"),
            ),
        ] {
            assert_eq!(problem(client.post(&to, body.clone()).await), expected, "{body}");
        }
        let reserved = json!({"kind": "k", "title": "t", "concurrency": {"key": "object:notes", "max": 1}});
        let refused = client.post("/v1/tasks", reserved).await;
        assert_eq!(problem(refused), wanted(422, "invalid", "/concurrency"));
    }
}

#[tokio::test]
async fn a_delayed_task_is_ready_when_its_time_has_come() {
    for client in Client::each().await {
        let at = 1_700_000_005_000_i64;
        let task = client
            .ok("/v1/tasks", json!({"kind": "k", "title": "t", "run_after": at}))
            .await;
        assert_eq!(
            (&task["status"], &task["run_after"]),
            (&json!("PREPARING"), &json!(at))
        );
        assert!(kinds(&client, json!({"handler_id": "w"})).await.is_empty());
        client.clock.advance_ms(5_000);
        assert_eq!(
            kinds(&client, json!({"handler_id": "w", "wait_ms": 1})).await,
            ["k"]
        );
    }
}

#[tokio::test]
async fn tasks_are_found_by_text_and_time() {
    for client in Client::each().await {
        for title in ["Write the report", "Read the REPORT", "Something else"] {
            client.ok("/v1/tasks", json!({"kind": "k", "title": title})).await;
            client.clock.advance_ms(1_000);
        }
        let count = async |query: &str| {
            let (status, page) = client.get(&format!("/v1/tasks?{query}")).await;
            assert_eq!(status, StatusCode::OK, "{page}");
            page["tasks"].as_array().unwrap().len()
        };
        assert_eq!(count("text=report").await, 2);
        assert_eq!(count("text=report&created_from=1700000001000").await, 1);
        assert_eq!(count("created_to=1700000001000").await, 1);
        assert_eq!(count("text=nothing&status=READY&kind=k").await, 0);
        for bad in ["created_from=soon", "text=a&text=b"] {
            let found = problem(client.get(&format!("/v1/tasks?{bad}")).await);
            assert_eq!(found, wanted(400, "invalid_query", "query:"), "{bad}");
        }
    }
}
