//! Webhooks as a client of the service meets them.

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use super::receiver::Script;
use super::{KEY, deliverer};
use crate::client::Client;

async fn made(client: &Client) -> Value {
    client
        .ok(
            "/v1/webhooks",
            json!({"name": "hook", "url": "https://receiver.test/hook"}),
        )
        .await
}

async fn patch(client: &Client, tag: Option<&str>, body: Value) -> (StatusCode, Value) {
    let request = Request::patch("/v1/webhooks/hook").header("content-type", "application/json");
    let request = match tag {
        Some(tag) => request.header("if-match", tag),
        None => request,
    };
    client
        .ask(request.body(Body::from(body.to_string())).unwrap())
        .await
}

/// The secret is shown when it is made and when it is rotated, and never again.
#[tokio::test]
async fn a_secret_is_shown_once() {
    let client = Client::new();
    let answer = made(&client).await;
    let secret = answer["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_") && secret.len() == 50, "{secret}");
    let other = client
        .ok(
            "/v1/webhooks",
            json!({"name": "b", "url": "https://receiver.test/", "secret": KEY}),
        )
        .await;
    assert_eq!(other["secret"], KEY);
    let rotated = client.ok("/v1/webhooks/hook/rotate", json!({})).await;
    assert_ne!(rotated["secret"], answer["secret"]);
    assert_eq!(rotated["webhook"]["rotating_until"], 1_700_086_400_000_i64);
    client.ok("/v1/webhooks/hook/pause", json!({})).await;
    for path in ["/v1/webhooks", "/v1/webhooks/hook", "/state", "/v1/events"] {
        let text = client.get(path).await.1.to_string();
        assert!(
            !text.contains("whsec") && !text.contains("secret"),
            "{path}: {text}"
        );
    }
}

#[tokio::test]
async fn a_webhook_lives_and_goes() {
    let client = Client::new();
    let webhook = made(&client).await["webhook"].clone();
    assert_eq!(
        (&webhook["state"], &webhook["version"]),
        (&json!("active"), &json!(1))
    );
    let twice = client
        .post("/v1/webhooks", json!({"name": "hook", "url": "https://x.test"}))
        .await;
    assert_eq!(
        (twice.0, &twice.1["code"]),
        (StatusCode::CONFLICT, &json!("conflict"))
    );
    let filter = json!({"events": ["completed"], "task_kinds": ["agent.run"], "root_id": null});
    let (status, changed) = patch(&client, Some("\"1\""), json!({"filter": filter})).await;
    assert_eq!((status, &changed["filter"]), (StatusCode::OK, &filter));
    let (status, stale) = patch(&client, Some("\"1\""), json!({})).await;
    assert_eq!(
        (status, &stale["code"]),
        (StatusCode::PRECONDITION_FAILED, &json!("other_version"))
    );
    assert_eq!(
        patch(&client, Some("x"), json!({})).await.0,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(patch(&client, Some("*"), json!({})).await.1["version"], 3);
    assert_eq!(
        client.ok("/v1/webhooks/hook/pause", json!({})).await["state"],
        "paused"
    );
    assert_eq!(
        client.ok("/v1/webhooks/hook/resume", json!({})).await["state"],
        "active"
    );
    let list = client.get("/v1/webhooks?limit=1").await.1;
    assert_eq!(
        (list["webhooks"].as_array().unwrap().len(), &list["next"]),
        (1, &json!("hook"))
    );
    let rest = client.get("/v1/webhooks?limit=1&after=hook").await.1;
    assert_eq!(rest, json!({"webhooks": [], "next": null}));
    let delete = || Request::delete("/v1/webhooks/hook").body(Body::empty()).unwrap();
    assert_eq!(client.ask(delete()).await.0, StatusCode::NO_CONTENT);
    assert_eq!(client.ask(delete()).await.0, StatusCode::NOT_FOUND);
}

/// Tests, failures, dead letters and replays, as an operator sees them.
#[tokio::test]
async fn deliveries_are_seen_and_sent_again() {
    let client = Client::new();
    made(&client).await;
    let asked = client.post("/v1/webhooks/hook/ping", json!({})).await;
    assert_eq!(asked.0, StatusCode::ACCEPTED);
    let pinged = Script(|message: &aion_processor_server::Outgoing| {
        let body: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
        assert_eq!(
            (&body["type"], &body["data"]["webhook"]),
            (&json!("webhook.ping"), &json!("hook"))
        );
        aion_processor::Outcome::accepted(204)
    });
    deliverer(&client.processor, pinged, "one")
        .catch_up()
        .await
        .unwrap();
    let ping = client.get("/v1/webhooks/hook").await.1["ping"].clone();
    assert_eq!(ping["attempt"]["status"], 204);
    client.task().await;
    let broken = Script(|_: &aion_processor_server::Outgoing| {
        aion_processor::Outcome::failed(Some(500), "the receiver answered 500")
    });
    let broken = deliverer(&client.processor, broken, "one");
    for _ in 0..18 {
        broken.catch_up().await.unwrap();
        client.clock.advance_ms(2 * 86_400_000);
        client.ok("/v1/webhooks/hook/resume", json!({})).await;
    }
    let troubled = client.get("/state").await.1["processor"]["webhooks"][0].clone();
    assert_eq!(
        (&troubled["name"], &troubled["dead"]),
        (&json!("hook"), &json!(1))
    );
    let letters = client.get("/v1/webhooks/hook/dead-letters").await.1;
    assert_eq!(letters["deliveries"][0]["attempts"], 18);
    assert_eq!(letters["deliveries"][0]["event"]["kind"], "created");
    let waiting = client.get("/v1/webhooks/hook/deliveries").await.1;
    assert_eq!(waiting["deliveries"].as_array().unwrap().len(), 1);
    let missing = client
        .post("/v1/webhooks/hook/dead-letters/retry", json!({"seq": 77}))
        .await;
    assert_eq!(
        (missing.0, &missing.1["code"]),
        (StatusCode::NOT_FOUND, &json!("not_found"))
    );
    let again = client
        .ok("/v1/webhooks/hook/dead-letters/retry", json!({"seq": 1.0}))
        .await;
    assert_eq!((&again["dead"], &again["parked"]), (&json!(0), &json!(2)));
    let replayed = client.ok("/v1/webhooks/hook/replay", json!({"after": 0})).await;
    assert_eq!((&replayed["cursor"], &replayed["parked"]), (&json!(0), &json!(0)));
}

/// What is not valid says where, and changes nothing.
#[tokio::test]
async fn bad_webhooks_are_refused() {
    let client = Client::new();
    let cases = [
        (json!({"name": "a", "url": "http://receiver.test/"}), "/url"),
        (json!({"name": "a", "url": "https://169.254.169.254/"}), "/url"),
        (json!({"name": "a", "url": "https://[::1]/"}), "/url"),
        (json!({"name": "a", "url": "no"}), "/url"),
        (json!({"name": "", "url": "https://x.test"}), "/name"),
        (
            json!({"name": "a", "url": "https://x.test", "secret": "whsec_x"}),
            "/secret",
        ),
        (
            json!({"name": "a", "url": "https://x.test", "after": 9}),
            "/after",
        ),
        (
            json!({"name": "a", "url": "https://x.test", "filter": {"events": ["x"]}}),
            "/filter/events/0",
        ),
        (
            json!({"name": "a", "url": "https://x.test", "filter": {"root_id": "x"}}),
            "/filter/root_id",
        ),
        (
            json!({"name": "a", "url": "https://x.test", "filter": {"task_kinds": [""]}}),
            "/task_kinds",
        ),
    ];
    for (body, pointer) in cases {
        let (status, problem) = client.post("/v1/webhooks", body.clone()).await;
        assert_eq!(
            (status, &problem["pointer"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!(pointer)),
            "{body}"
        );
    }
    assert_eq!(client.get("/v1/webhooks").await.1["webhooks"], json!([]));
    for path in ["", "/deliveries", "/dead-letters"] {
        let answer = client.get(&format!("/v1/webhooks/none{path}")).await;
        assert_eq!(answer.0, StatusCode::NOT_FOUND, "{path}");
    }
    for path in ["pause", "resume", "ping"] {
        let answer = client.post(&format!("/v1/webhooks/none/{path}"), json!({})).await;
        assert_eq!(answer.0, StatusCode::NOT_FOUND, "{path}");
    }
}
