//! Tasks from their creation to their end, over HTTP.

use aion_processor::{MemTaskStore, NewTask};
use aion_types::{TaskId, Timestamp};
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::client::{Client, post};

#[tokio::test]
async fn a_task_goes_all_the_way() {
    let client = Client::new();
    let new = json!({"kind": "agent.run", "title": "Summarise", "spec": "notes.txt", "payload": {"dir": "a"}, "priority": 3});
    let task = client.ok("/v1/tasks", new).await;
    assert_eq!(
        (&task["status"], &task["payload"]["dir"], &task["depth"]),
        (&json!("READY"), &json!("a"), &json!(0))
    );
    let path = format!("/v1/tasks/{}", task["id"].as_str().unwrap());

    let claim = json!({"handler_id": "worker-1", "kinds": ["agent.run"], "lease_ms": 5_000});
    let lease = client.ok("/v1/claims", claim.clone()).await["leases"][0].clone();
    assert_eq!(
        (&lease["epoch"], &lease["until"]),
        (&json!(1), &json!(1_700_000_005_000_i64))
    );
    assert_eq!(client.ok("/v1/claims", claim).await, json!({"leases": []}));

    let persistence = json!({"R_harm": 2.4, "n": 4, "extra": [1, 2.5, null]});
    let message = json!({"epoch": 1, "role": "assistant", "content": "", "persistence": persistence,
        "tool_calls": [{"id": "c1", "name": "read_file", "arguments": "{}"}]});
    let said = client.ok(&format!("{path}/messages"), message).await;
    assert_eq!((&said["seq"], &said["persistence"]), (&json!(1), &persistence));
    let beat = client
        .ok(
            &format!("{path}/heartbeat"),
            json!({"epoch": 1, "lease_ms": 9_000}),
        )
        .await;
    assert_eq!(
        beat,
        json!({"until": 1_700_000_009_000_i64, "cancel_requested": false})
    );
    let head = client
        .ok(
            &format!("{path}/complete"),
            json!({"epoch": 1, "result": {"lines": 3}}),
        )
        .await;
    assert_eq!(head["status"], "COMPLETED");

    let (_, done) = client.get(&path).await;
    assert_eq!(
        (&done["status"], &done["result"], &done["attempt"]),
        (&json!("COMPLETED"), &json!({"lines": 3}), &json!(1))
    );
    let (_, messages) = client.get(&format!("{path}/messages?order=newest&limit=5")).await;
    assert_eq!(messages["messages"][0]["tool_calls"][0]["name"], "read_file");
    let (_, log) = client.get("/v1/events").await;
    let kinds: Vec<_> = log["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["kind"].clone())
        .collect();
    assert_eq!(kinds, ["created", "ready", "claimed", "message", "completed"]);
    assert_eq!(log["next"], 5);
}

#[tokio::test]
async fn a_lost_lease_is_a_conflict() {
    let client = Client::new();
    let (path, epoch) = client.claimed().await;
    client.clock.advance_ms(60_000);
    client.processor.tick().await.unwrap();
    let writes = [
        ("heartbeat", json!({"epoch": epoch})),
        (
            "messages",
            json!({"epoch": epoch, "role": "assistant", "content": "late"}),
        ),
        ("complete", json!({"epoch": epoch})),
        ("fail", json!({"epoch": epoch, "error": "late"})),
        ("release", json!({"epoch": epoch})),
        ("stop", json!({"epoch": epoch})),
        ("gather", json!({"epoch": epoch, "tasks": []})),
    ];
    for (what, body) in writes {
        let (status, problem) = client.post(&format!("{path}/{what}"), body).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::CONFLICT, &json!("lease_lost")),
            "{what}"
        );
    }
    let (_, task) = client.get(&path).await;
    assert_eq!(
        (&task["status"], &task["crash_count"]),
        (&json!("READY"), &json!(1))
    );
}

#[tokio::test]
async fn a_holder_that_lost_its_lease_makes_no_tasks() {
    for client in Client::each().await {
        let (path, epoch) = client.claimed().await;
        let id = path.rsplit('/').next().unwrap();
        let child = |epoch: u64| json!({"kind": "k", "title": "t", "parent_id": id, "fence": {"task_id": id, "epoch": epoch}});
        let made = client.ok("/v1/tasks", child(epoch)).await;
        assert_eq!(made["parent_id"], id);
        let (status, problem) = client.ask(post("/v1/tasks", &child(epoch + 1))).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::CONFLICT, &json!("lease_lost"))
        );
        let (_, children) = client.get(&format!("{path}/children")).await;
        assert_eq!(children["tasks"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_parent_gathers_its_children() {
    let client = Client::new();
    let (path, epoch) = client.claimed().await;
    let parent = path.rsplit('/').next().unwrap();
    let child = client
        .ok(
            "/v1/tasks",
            json!({"kind": "k", "title": "t", "parent_id": parent}),
        )
        .await;
    let gather = json!({"epoch": epoch, "tasks": [child["id"]], "policy": "all"});
    let head = client.ok(&format!("{path}/gather"), gather).await;
    assert_eq!(
        (&head["status"], &head["waiting_on"]),
        (&json!("BLOCKED"), &json!(1))
    );
    let lease = client.ok("/v1/claims", json!({"handler_id": "w"})).await["leases"][0].clone();
    let end = format!("/v1/tasks/{}/fail", child["id"].as_str().unwrap());
    client
        .ok(
            &end,
            json!({"epoch": lease["epoch"], "error": "no", "retry": "never"}),
        )
        .await;
    assert_eq!(client.get(&path).await.1["status"], "FAILED");
    let (_, children) = client.get(&format!("{path}/children?status=FAILED")).await;
    assert_eq!(children["tasks"][0]["error"], "no");
    let (_, evidence) = client.get(&format!("{path}/evidence")).await;
    assert_eq!(
        (&evidence["failed_children"], &evidence["retries"]),
        (&json!(1), &json!(0))
    );
}

#[tokio::test]
async fn a_held_task_starts_and_a_cancelled_one_stops() {
    let client = Client::new();
    let held = client
        .ok("/v1/tasks", json!({"kind": "k", "title": "t", "held": "yes"}))
        .await;
    assert_eq!(held["status"], "PREPARING");
    let path = format!("/v1/tasks/{}", held["id"].as_str().unwrap());
    let (status, head) = client
        .ask(
            Request::post(format!("{path}/start"))
                .body(Body::empty())
                .unwrap(),
        )
        .await;
    assert_eq!((status, &head["status"]), (StatusCode::OK, &json!("READY")));
    let lease = client.ok("/v1/claims", json!({"handler_id": "w"})).await["leases"][0].clone();
    assert_eq!(
        client.ok(&format!("{path}/cancel"), json!({})).await["status"],
        "RUNNING"
    );
    let beat = client
        .ok(&format!("{path}/heartbeat"), json!({"epoch": lease["epoch"]}))
        .await;
    assert_eq!(beat["cancel_requested"], true);
    assert_eq!(
        client
            .ok(&format!("{path}/stop"), json!({"epoch": lease["epoch"]}))
            .await["status"],
        "CANCELLED"
    );
}

#[tokio::test]
async fn an_idempotency_key_makes_repeats_harmless() {
    let client = Client::new();
    let create = || {
        let mut request = post("/v1/tasks", &json!({"kind": "k", "title": "t"}));
        request
            .headers_mut()
            .insert("idempotency-key", "once".parse().unwrap());
        request
    };
    let (_, first) = client.ask(create()).await;
    let (status, again) = client.ask(create()).await;
    assert_eq!((status, &again["id"]), (StatusCode::CREATED, &first["id"]));
    let path = format!("/v1/tasks/{}/messages", first["id"].as_str().unwrap());
    let one = client
        .ok(&path, json!({"role": "user", "content": "a", "key": "m1"}))
        .await;
    assert_eq!(
        client
            .ok(&path, json!({"role": "user", "content": "b", "key": "m1"}))
            .await,
        one
    );
    let (_, log) = client.get("/v1/events").await;
    assert_eq!(log["events"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn lists_go_on_at_their_cursor() {
    let client = Client::new();
    for _ in 0..5 {
        client.task().await;
    }
    let (mut path, mut seen) = ("/v1/tasks?limit=2&order=newest".to_owned(), 0);
    loop {
        let (status, page) = client.get(&path).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        seen += page["tasks"].as_array().unwrap().len();
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/tasks?limit=2&order=newest&cursor={next}");
    }
    assert_eq!(seen, 5);
}

#[tokio::test]
async fn the_stream_goes_on_after_the_last_event() {
    let client = Client::new();
    let id = client.task().await;
    let request = Request::get("/v1/events/stream")
        .header("last-event-id", "1")
        .body(Body::empty())
        .unwrap();
    let response = client.send(request).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let first = frame(&mut body).await;
    assert!(first.contains("id: 2"), "{first}");
    assert!(first.contains(&id), "{first}");
    client.ok(&format!("/v1/tasks/{id}/cancel"), json!({})).await;
    assert!(frame(&mut body).await.contains("cancelled"));
}

/// A place that the log has not come to is one of another log: what lies between would never be told.
#[tokio::test]
async fn no_stream_goes_on_ahead_of_the_log() {
    let client = Client::new();
    client.task().await;
    for ahead in [3, u64::MAX] {
        let request = Request::get("/v1/events/stream")
            .header("last-event-id", ahead)
            .body(Body::empty())
            .unwrap();
        let (status, problem) = client.ask(request).await;
        assert_eq!(
            (status, &problem["code"], &problem["pointer"]),
            (
                StatusCode::UNPROCESSABLE_ENTITY,
                &json!("cursor_ahead"),
                &json!("header:last-event-id")
            )
        );
        for path in ["/v1/events", "/v1/events/stream"] {
            let (status, problem) = client.get(&format!("{path}?after={ahead}")).await;
            assert_eq!(
                (status, &problem["code"]),
                (StatusCode::UNPROCESSABLE_ENTITY, &json!("cursor_ahead"))
            );
        }
    }
    assert_eq!(client.get("/v1/events?after=2").await.0, StatusCode::OK);
}

async fn frame(body: &mut Body) -> String {
    let frame = tokio::time::timeout(std::time::Duration::from_secs(10), body.frame()).await;
    let data = frame
        .expect("an event in time")
        .unwrap()
        .unwrap()
        .into_data()
        .unwrap();
    String::from_utf8(data.to_vec()).unwrap()
}

#[tokio::test]
async fn the_state_is_small_and_shows_the_callers_task_first() {
    let client = Client::new();
    for n in 0..40 {
        let id = TaskId::generate(Timestamp::from_ms(n));
        client
            .processor
            .create(NewTask::new(id, "k", "x".repeat(1_000)))
            .await
            .unwrap();
    }
    client
        .ok("/v1/claims", json!({"handler_id": "w", "max": 30}))
        .await;
    let (path, _) = client.claimed().await;
    let id = path.rsplit('/').next().unwrap();
    let named = format!(r#"{{"task_id":"{id}","cwd":"."}}"#);
    let request = Request::get("/state")
        .header("x-task-state", named)
        .body(Body::empty())
        .unwrap();
    let (status, state) = client.ask(request).await;
    assert_eq!(status, StatusCode::OK);
    let state = &state["processor"];
    assert_eq!(
        (&state["task"]["id"], &state["task"]["status"]),
        (&json!(id), &json!("RUNNING"))
    );
    assert_eq!(
        (&state["counts"]["READY"], &state["counts"]["RUNNING"]),
        (&json!(10), &json!(31))
    );
    assert_eq!(state["running"].as_array().unwrap().len(), 10);
    assert!(state.to_string().len() < 6_000);
    let (_, without) = client.get("/state").await;
    assert_eq!(without["processor"]["task"], Value::Null);
}

#[tokio::test]
async fn a_full_storage_says_so() {
    let client = Client::over(|clock, limits| MemTaskStore::new(clock, limits).with_max_rows(30));
    let mut answers = Vec::new();
    for _ in 0..30 {
        answers.push(client.post("/v1/tasks", json!({"kind": "k", "title": "t"})).await);
    }
    let (status, problem) = answers.pop().unwrap();
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::INSUFFICIENT_STORAGE, &json!("storage_full"))
    );
    let (status, _) = client.get("/v1/tasks").await;
    assert_eq!(status, StatusCode::OK, "reading goes on");
}
