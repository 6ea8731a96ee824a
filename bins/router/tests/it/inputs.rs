//! Bad input: a 4xx that says what and where, and nothing has changed.

use axum::body::Body;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::client::{Client, tools};

const UNKNOWN: &str = "018bcfe5-6800-7abc-8def-0123456789ab";

#[tokio::test]
async fn a_bad_item_leaves_the_others_out_too() {
    let client = Client::new();
    let good = json!({"surface": "tool", "name": "good"});
    let long = "x".repeat(300_000);
    for (bad, pointer) in [
        (json!({"surface": "", "name": "a"}), "/items/1/surface"),
        (json!({"surface": "tool", "name": ""}), "/items/1"),
        (json!({"surface": "tool", "name": "a b"}), "/items/1"),
        (
            json!({"surface": "tool", "name": "a", "id": "a b"}),
            "/items/1/id",
        ),
        (json!({"surface": "tool", "name": "a", "text": long}), "/items/1"),
        (
            json!({"surface": "tool", "name": "a", "renderings": []}),
            "/items/1",
        ),
        (
            json!({"surface": "tool", "name": "a", "renderings": [{"text": "b", "tokens": 2}, {"text": "c", "tokens": 2}]}),
            "/items/1",
        ),
        (
            json!({"surface": "tool", "name": "a", "renderings": [{"text": "b", "tokens": 1.5}]}),
            "/items/1/renderings/0/tokens",
        ),
        (
            json!({"surface": "tool", "name": "a", "schema": long, "renderings": [{"text": "b"}]}),
            "/items/1/schema",
        ),
        (json!({"surface": "tool"}), "/items/1"),
        (
            json!({"surface": "tool", "name": "a", "colour": "red"}),
            "/items/1/colour",
        ),
    ] {
        let (status, problem) = client.put("/v1/items", json!({"items": [good, bad]})).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
        assert_eq!(problem["pointer"], pointer, "{problem}");
    }
    for items in [json!([]), Value::from(vec![good.clone(); 1_001])] {
        let (status, problem) = client.put("/v1/items", json!({ "items": items })).await;
        assert_eq!(
            (status, &problem["pointer"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!("/items"))
        );
    }
    let (_, page) = client.get("/v1/items").await;
    assert_eq!(page["items"], json!([]));
}

#[tokio::test]
async fn a_bad_question_is_refused_by_place() {
    let client = Client::new();
    client.fill(tools()).await;
    let tool = json!([{"surface": "tool"}]);
    for (body, code) in [
        (json!({"text": "a", "total_tokens": 9, "surfaces": []}), "invalid"),
        (
            json!({"text": "a", "total_tokens": 9, "surfaces": [{"surface": "tool"}, {"surface": "tool"}]}),
            "surface_twice",
        ),
        (
            json!({"text": "a", "total_tokens": 9, "surfaces": [{"surface": "tool", "floor_tokens": 10}]}),
            "floors_over_budget",
        ),
        (
            json!({"text": "a", "total_tokens": 9, "surfaces": [{"surface": "tool", "max_items": 5_000}]}),
            "over_limit",
        ),
        (
            json!({"text": "a", "total_tokens": 9, "surfaces": tool, "recent": ["a b"]}),
            "invalid",
        ),
        (
            json!({"text": "x".repeat(1 << 21), "total_tokens": 9, "surfaces": tool}),
            "invalid",
        ),
    ] {
        let (status, problem) = client.post("/v1/rank", body).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!(code)),
            "{problem}"
        );
    }
    for body in [
        json!({"text": "a", "total_tokens": -1, "surfaces": tool}),
        json!({"text": "a", "total_tokens": 1.5, "surfaces": tool}),
        json!({"text": 7, "total_tokens": 1, "surfaces": tool}),
        json!({"total_tokens": 1, "surfaces": tool}),
    ] {
        let (status, problem) = client.post("/v1/rank", body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
        assert!(problem["pointer"].is_string(), "{problem}");
    }
}

#[tokio::test]
async fn hard_questions_are_answered() {
    let client = Client::new();
    let nothing = client.rank("anything", 100, 0).await;
    assert_eq!(
        (&nothing["picks"], &nothing["none"]),
        (&json!([]), &json!([1.0])),
        "an empty catalog"
    );
    client.fill(tools()).await;
    let nothing = client.rank("anything", 0, 0).await;
    assert_eq!(nothing["tokens"], 0, "no budget");
    assert_eq!(
        nothing["state"], "degraded",
        "the pinned item does not fit: {nothing}"
    );
    let large = json!([{"surface": "tool", "name": "large", "renderings": [{"text": "x", "tokens": 4_000_000_000_u32}]}]);
    client.fill(large).await;
    let shortlist = client.rank("large", 50, 0).await;
    assert!(shortlist["tokens"].as_u64().unwrap() <= 50);
    let hostile = format!("\u{202e}\u{0}{} ; DROP TABLE item; --", "word ".repeat(100_000));
    assert!(client.rank(&hostile, 50, 0).await["picks"].is_array());
    let whole =
        json!({"text": "a", "total_tokens": 5.0, "surfaces": [{"surface": "tool", "max_items": 1.0}]});
    assert_eq!(
        client.post("/v1/rank", whole).await.0,
        StatusCode::OK,
        "2.0 is a whole number"
    );
}

#[tokio::test]
async fn unknown_things_are_not_found() {
    let client = Client::new();
    for (method, path, body) in [
        (Method::GET, "/v1/items/tool:none".to_owned(), Body::empty()),
        (Method::DELETE, "/v1/items/tool:none".to_owned(), Body::empty()),
        (Method::GET, format!("/v1/decisions/{UNKNOWN}"), Body::empty()),
        (
            Method::POST,
            format!("/v1/decisions/{UNKNOWN}/outcome"),
            Body::from(r#"{"used": []}"#),
        ),
    ] {
        let (status, problem) = client.ask(method, &path, body).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}: {problem}");
        assert!(problem["code"].as_str().unwrap().starts_with("unknown_"));
    }
}

#[tokio::test]
async fn other_bad_values_say_where() {
    let client = Client::new();
    client.fill(tools()).await;
    let id = client.rank("a", 10, 0).await["decision_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let outcome = format!("/v1/decisions/{id}/outcome");
    for (path, body) in [
        (outcome.as_str(), json!({"used": ["a b"]})),
        (outcome.as_str(), json!({"used": vec!["tool:exec"; 257]})),
        ("/v1/items/tool:exec/approve", json!({"content_hash": "abc"})),
        ("/v1/evaluate", json!({})),
        ("/v1/evaluate", json!({"policy": "mixture", "decisions": []})),
        ("/v1/evaluate", json!({"decisions": []})),
        ("/v1/evaluate", json!({"policy": "mixture", "last": 0})),
        ("/v1/evaluate", json!({"policy": "mixture", "min_effective": 0})),
        ("/v1/embeddings", json!({"input": []})),
        ("/v1/embeddings", json!({"input": ["x".repeat(70_000)]})),
        ("/v1/imports", json!({"format": "openapi", "document": []})),
        ("/v1/imports", json!({"format": "markdown", "document": 1})),
        (
            "/v1/imports",
            json!({"format": "mcp", "document": [], "file": ""}),
        ),
    ] {
        let (status, problem) = client.post(path, body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{path}: {problem}");
    }
    let chance = json!({"decisions": [{"propensity": 0.0, "target": 1.0, "reward": 1.0}]});
    assert_eq!(client.post("/v1/evaluate", chance).await.0, StatusCode::CONFLICT);
    let (status, _) = client.post(&outcome, json!({"used": ["tool:exec"]})).await;
    assert_eq!(status, StatusCode::OK, "a refused outcome has changed nothing");
    for path in [
        "/v1/items?limit=0",
        "/v1/items?limit=1001",
        "/v1/items?after=a%20b",
        "/v1/changes?limit=0",
    ] {
        assert_eq!(
            client.get(path).await.0,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{path}"
        );
    }
}
