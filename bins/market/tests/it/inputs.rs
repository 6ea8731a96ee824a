//! What is refused, how, and where the problem points.

use http::StatusCode;
use serde_json::{Value, json};

use crate::client::{Client, TASK};

async fn refused(client: &Client, path: &str, body: Value, status: u16, code: &str, pointer: Option<&str>) {
    let (got, problem) = client.post(path, body.clone()).await;
    assert_eq!(got.as_u16(), status, "{path} {body}: {problem}");
    assert_eq!(problem["code"], code, "{path} {body}: {problem}");
    if let Some(pointer) = pointer {
        assert_eq!(problem["pointer"], pointer, "{path} {body}: {problem}");
    }
}

#[tokio::test]
async fn terms_that_cannot_be_are_refused() {
    let client = Client::new();
    let open = async |body, code, pointer| refused(&client, "/v1/markets", body, 422, code, pointer).await;
    open(json!({"kind": "k"}), "invalid", None).await;
    open(
        json!({"kind": "k", "question": "?", "task_id": TASK}),
        "invalid",
        None,
    )
    .await;
    open(
        json!({"kind": "k", "task_id": TASK, "id": TASK}),
        "invalid",
        Some("/id"),
    )
    .await;
    open(json!({"kind": "", "question": "?"}), "invalid", None).await;
    open(json!({"kind": "k", "question": "a\u{0}b"}), "invalid", None).await;
    open(
        json!({"kind": "k", "question": "?", "outcomes": ["one"]}),
        "invalid",
        None,
    )
    .await;
    open(
        json!({"kind": "k", "question": "?", "prior": [0.5, 0.6]}),
        "invalid",
        Some("/prior"),
    )
    .await;
    open(
        json!({"kind": "k", "question": "?", "prior": [1.5, -0.5]}),
        "invalid",
        Some("/prior/0"),
    )
    .await;
    open(
        json!({"kind": "k", "question": "?", "prior": [0.5, 0.25, 0.25]}),
        "invalid",
        None,
    )
    .await;
    open(
        json!({"kind": "k", "question": "?", "persistence_ratio": 0.0}),
        "invalid",
        Some("/persistence_ratio"),
    )
    .await;
    open(
        json!({"kind": "k", "question": "?", "persistence_ratio": 1.0, "prior": [0.5, 0.5]}),
        "invalid",
        None,
    )
    .await;
    open(
        json!({"kind": "k", "question": "?", "liquidity": 5.0}),
        "invalid",
        Some("/liquidity"),
    )
    .await;
    let zero = json!({"kind": "k", "question": "?", "maker": "lmsr", "liquidity": 0.0});
    open(zero, "invalid", Some("/liquidity")).await;
    open(
        json!({"kind": "k", "question": "?", "mood": "good"}),
        "invalid_body",
        None,
    )
    .await;
    open(
        json!({"kind": "k", "task_id": "no id"}),
        "invalid_body",
        Some("/task_id"),
    )
    .await;
    assert_eq!(client.get("/v1/markets").await.1["markets"], json!([]));
}

#[tokio::test]
async fn forecasts_that_cannot_be_are_refused_and_change_nothing() {
    let client = Client::new();
    let path = client.opened("pseudo_count").await;
    let forecasts = format!("{path}/forecasts");
    let body = |p: Value| json!({"forecaster": "anna", "probabilities": p});
    let bad = async |body, status, code, pointer| {
        refused(&client, &forecasts, body, status, code, pointer).await;
    };
    bad(body(json!([0.5, 0.6])), 422, "invalid", Some("/probabilities")).await;
    bad(body(json!([2.0, -1.0])), 422, "invalid", Some("/probabilities/0")).await;
    bad(body(json!([])), 422, "invalid", Some("/probabilities")).await;
    bad(body(json!([1.0])), 422, "invalid", Some("/probabilities")).await;
    bad(body(json!([0.2, 0.3, 0.5])), 422, "invalid", None).await;
    bad(
        body(json!(["x", 1])),
        422,
        "invalid_body",
        Some("/probabilities/0"),
    )
    .await;
    bad(
        body(json!([null, 1])),
        422,
        "invalid_body",
        Some("/probabilities/0"),
    )
    .await;
    bad(
        json!({"forecaster": "house", "probabilities": [0.5, 0.5]}),
        403,
        "reserved_account",
        None,
    )
    .await;
    bad(
        json!({"forecaster": "a b", "probabilities": [0.5, 0.5]}),
        422,
        "invalid_body",
        Some("/forecaster"),
    )
    .await;
    let stale = json!({"forecaster": "anna", "probabilities": [0.5, 0.5], "expected_version": 9});
    bad(stale, 412, "version_conflict", None).await;
    let heavy = json!({"forecaster": "anna", "probabilities": [0.5, 0.5], "weight": 1e5});
    bad(heavy, 422, "limit_reached", None).await;
    let light = json!({"forecaster": "anna", "probabilities": [0.5, 0.5], "weight": 0.0});
    bad(light, 422, "invalid", Some("/weight")).await;
    assert_eq!(client.get(&path).await.1["version"], 1);
    client
        .ok(&format!("{path}/resolve"), json!({"outcome": "YES"}))
        .await;
    bad(body(json!([0.5, 0.5])), 409, "closed", None).await;
}

#[tokio::test]
async fn orders_and_ends_that_cannot_be_are_refused() {
    let client = Client::new();
    let path = client.opened("lmsr").await;
    let (quote, resolve) = (format!("{path}/quote"), format!("{path}/resolve"));
    let bad = async |path: &str, body, status, code, pointer| {
        refused(&client, path, body, status, code, pointer).await;
    };
    bad(&quote, json!({}), 422, "invalid", None).await;
    bad(
        &quote,
        json!({"shares": [1, 0], "move_to": [0.5, 0.5]}),
        422,
        "invalid",
        None,
    )
    .await;
    bad(
        &quote,
        json!({"shares": [1e300, 0]}),
        422,
        "invalid",
        Some("/shares/0"),
    )
    .await;
    bad(&quote, json!({"shares": [1]}), 422, "invalid", None).await;
    bad(&quote, json!({"move_to": [1.0, 0.0]}), 422, "invalid", None).await;
    let sale = json!({"forecaster": "anna", "shares": [0.0, -1.0]});
    bad(&format!("{path}/trades"), sale, 409, "not_held", None).await;
    let large = json!({"forecaster": "anna", "shares": [1e6, 0.0]});
    bad(&format!("{path}/trades"), large, 409, "no_credit", None).await;
    bad(&resolve, json!({}), 422, "invalid", None).await;
    bad(
        &resolve,
        json!({"outcome": "MAYBE"}),
        422,
        "invalid",
        Some("/outcome"),
    )
    .await;
    bad(
        &resolve,
        json!({"outcome": "YES", "void": "x"}),
        422,
        "invalid",
        None,
    )
    .await;
    client.ok(&resolve, json!({"outcome": "YES"})).await;
    bad(&resolve, json!({"outcome": "NO"}), 409, "already_resolved", None).await;
    let reports = client.opened("pseudo_count").await;
    bad(
        &format!("{reports}/quote"),
        json!({"shares": [1, 0]}),
        409,
        "wrong_maker",
        None,
    )
    .await;
    let (status, problem) = client.get(&format!("{reports}/report")).await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (StatusCode::CONFLICT, Some("not_resolved"))
    );
}

#[tokio::test]
async fn unknown_things_and_odd_pages_are_refused() {
    let client = Client::new();
    let cases = [
        (format!("/v1/markets/{TASK}"), 404, "unknown_market"),
        (format!("/v1/markets/{TASK}/report"), 404, "unknown_market"),
        ("/v1/markets/nonsense".to_owned(), 400, "invalid_path"),
        ("/v1/markets?limit=0".to_owned(), 422, "over_limit"),
        ("/v1/markets?limit=1001".to_owned(), 422, "over_limit"),
        ("/v1/markets?limit=x".to_owned(), 400, "invalid_query"),
        ("/v1/markets?status=odd".to_owned(), 400, "invalid_query"),
        ("/v1/calibration?forecaster=nobody".to_owned(), 404, "no_scores"),
        (
            "/v1/calibration?forecaster=nobody&bins=0".to_owned(),
            422,
            "over_limit",
        ),
        ("/v1/trust?limit=100000".to_owned(), 422, "over_limit"),
    ];
    for (path, status, code) in cases {
        let (got, problem) = client.get(&path).await;
        assert_eq!(
            (got.as_u16(), problem["code"].as_str()),
            (status, Some(code)),
            "{path}: {problem}"
        );
    }
}

#[tokio::test]
async fn a_bad_row_of_a_batch_is_named() {
    let client = Client::new();
    let rows = |row: Value| json!({"rows": [{"probabilities": [0.5, 0.5], "outcome": 1}, row]});
    let bad =
        async |row, pointer| refused(&client, "/v1/scores", rows(row), 422, "invalid", Some(pointer)).await;
    bad(json!({"probabilities": [0.5, 0.4], "outcome": 0}), "/rows/1").await;
    bad(json!({"probabilities": [0.5, 0.5], "outcome": 2}), "/rows/1").await;
    bad(json!({"probabilities": [], "outcome": 0}), "/rows/1").await;
    refused(
        &client,
        "/v1/scores",
        json!({"rows": []}),
        422,
        "invalid",
        Some("/rows"),
    )
    .await;
    let bins = json!({"rows": [{"probabilities": [0.5, 0.5], "outcome": 1}], "bins": 0});
    refused(&client, "/v1/scores", bins, 422, "over_limit", Some("/bins")).await;
}
