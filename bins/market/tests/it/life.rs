//! Markets from their opening to the scores.

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::json;

use crate::client::{Client, TASK, post};

fn close(value: &serde_json::Value, expected: f64) {
    assert!(
        (value.as_f64().unwrap() - expected).abs() < 1e-6,
        "{value}, expected {expected}"
    );
}

#[tokio::test]
async fn a_task_is_forecast_resolved_and_scored() {
    let client = Client::new();
    let market = client
        .ok("/v1/markets", json!({"task_id": TASK, "kind": "agent.run"}))
        .await;
    assert_eq!(market["id"], TASK);
    assert_eq!(market["outcomes"], json!(["SUCCESS", "FAILED"]));
    let path = format!("/v1/markets/{TASK}");
    for (who, p) in [("anna", 0.8), ("ben", 0.3)] {
        let body = json!({"forecaster": who, "probabilities": [p, 1.0 - p]});
        client.ok(&format!("{path}/forecasts"), body).await;
    }
    close(&client.get(&path).await.1["probabilities"][0], 0.525);
    let report = client
        .ok(&format!("{path}/resolve"), json!({"outcome": "SUCCESS"}))
        .await;
    close(&report["forecasters"][0]["gain_bits"], 0.678_072);
    close(&report["forecasters"][1]["gain_bits"], -1.0);
    assert_eq!(
        client
            .ok(&format!("{path}/resolve"), json!({"outcome": "SUCCESS"}))
            .await,
        report
    );
    assert_eq!(client.get(&format!("{path}/report")).await.1, report);
    let leaders = client.get("/v1/leaderboard").await.1;
    assert_eq!(leaders["forecasters"][0]["forecaster"], "anna");
    let trust = client.get("/v1/trust").await.1;
    let of = |who: &str| {
        let accounts = trust["accounts"].as_array().unwrap();
        accounts.iter().find(|account| account["account"] == who).unwrap()["trust"]
            .as_f64()
            .unwrap()
    };
    assert!(of("anna") > 10.0 && of("ben") < 10.0);
    assert!((of("anna") + of("ben") + of("house") - 120.0).abs() < 1e-9);
    // The next market of its kind starts from what happened.
    let other = "018bcfe5-6800-7abc-8def-0123456789ac";
    let next = client
        .ok("/v1/markets", json!({"task_id": other, "kind": "agent.run"}))
        .await;
    close(&next["probabilities"][0], 2.0 / 3.0);
}

#[tokio::test]
async fn shares_are_quoted_and_traded_at_the_quote() {
    let client = Client::new();
    let path = client.opened("lmsr").await;
    let quote = client
        .ok(&format!("{path}/quote"), json!({"move_to": [0.8, 0.2]}))
        .await;
    close(&quote["cost"], 91.629_073);
    close(&quote["shares"][0], 138.629_436);
    let trade = json!({"forecaster": "anna", "move_to": [0.8, 0.2], "max_cost": 91.7});
    let fill = client.ok(&format!("{path}/trades"), trade).await;
    assert_eq!(fill["cost"], quote["cost"]);
    let dear = json!({"forecaster": "anna", "shares": [10.0, 0.0], "max_cost": 1.0});
    let (status, problem) = client.post(&format!("{path}/trades"), dear).await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (StatusCode::CONFLICT, Some("over_limit"))
    );
    let firm = json!({"forecaster": "bert", "probabilities": [0.9, 0.1], "max_cost": 1.0});
    let (status, problem) = client.post(&format!("{path}/forecasts"), firm).await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (StatusCode::CONFLICT, Some("over_limit"))
    );
    let report = client
        .ok(&format!("{path}/resolve"), json!({"outcome": "NO"}))
        .await;
    close(&report["forecasters"][0]["profit"], -91.629_073);
}

#[tokio::test]
async fn a_market_starts_from_the_persistence_of_its_task() {
    let client = Client::new();
    let open = json!({"task_id": TASK, "kind": "agent.run", "persistence_ratio": 3.0});
    let market = client.ok("/v1/markets", open).await;
    close(&market["probabilities"][0], 0.75);
}

#[tokio::test]
async fn a_key_makes_a_request_harmless_to_repeat() {
    let client = Client::new();
    let keyed = |path: &str, body| {
        let mut request = post(path, &body);
        request
            .headers_mut()
            .insert("idempotency-key", "key-1".parse().unwrap());
        request
    };
    let open = || {
        keyed(
            "/v1/markets",
            json!({"question": "Will it rain?", "kind": "weather"}),
        )
    };
    let first = client.ask(open()).await.1;
    assert_eq!(client.ask(open()).await.1, first);
    let path = format!("/v1/markets/{}/forecasts", first["id"].as_str().unwrap());
    let forecast = |p: f64| {
        keyed(
            &path,
            json!({"forecaster": "anna", "probabilities": [p, 1.0 - p]}),
        )
    };
    let fill = client.ask(forecast(0.8)).await;
    assert_eq!(client.ask(forecast(0.8)).await, fill);
    let (status, problem) = client.ask(forecast(0.7)).await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (StatusCode::CONFLICT, Some("key_reused"))
    );
}

#[tokio::test]
async fn a_void_market_pays_back_and_scores_nobody() {
    let client = Client::new();
    let path = client.opened("lmsr").await;
    client
        .ok(
            &format!("{path}/trades"),
            json!({"forecaster": "anna", "move_to": [0.9, 0.1]}),
        )
        .await;
    let report = client
        .ok(&format!("{path}/resolve"), json!({"void": "nobody looked"}))
        .await;
    assert_eq!(report["happened"], json!(null));
    assert_eq!(report["forecasters"][0]["profit"], 0.0);
    assert_eq!(client.get(&path).await.1["void"], "nobody looked");
    assert_eq!(client.get("/v1/leaderboard").await.1["forecasters"], json!([]));
}

#[tokio::test]
async fn batches_are_scored_row_by_row() {
    let client = Client::new();
    let rows = json!([
        {"probabilities": [0.8, 0.2], "outcome": 0},
        {"probabilities": [1.0, 0.0], "outcome": 1},
    ]);
    let scores = client.ok("/v1/scores", json!({"rows": rows, "bins": 5})).await;
    close(&scores["rows"][0]["loss_bits"], 0.321_928);
    assert_eq!(scores["rows"][1]["loss_bits"], json!(null));
    assert_eq!(scores["mean_loss_bits"], json!(null));
    close(&scores["mean_brier"], (0.08 + 2.0) / 2.0);
    assert_eq!(scores["calibration"]["n"], 2);
}

#[tokio::test]
async fn the_state_is_small_and_hides_the_price_of_ones_own_task() {
    let client = Client::new();
    client
        .ok("/v1/markets", json!({"task_id": TASK, "kind": "agent.run"}))
        .await;
    for n in 0..40 {
        let question = format!("{} {n}?", "Will it rain ".repeat(70));
        let market = client
            .ok("/v1/markets", json!({"question": question, "kind": "weather"}))
            .await;
        if n % 2 == 0 {
            let path = format!("/v1/markets/{}", market["id"].as_str().unwrap());
            let forecaster = format!("f{n}");
            let body = json!({"forecaster": forecaster, "probabilities": [0.8, 0.2]});
            client.ok(&format!("{path}/forecasts"), body).await;
            client
                .ok(&format!("{path}/resolve"), json!({"outcome": "YES"}))
                .await;
        }
    }
    let state = client.get("/state").await.1;
    assert_eq!(state["market"]["open"].as_array().unwrap().len(), 10);
    assert_eq!(state["market"]["ended"].as_array().unwrap().len(), 5);
    assert_eq!(state["market"]["leaders"].as_array().unwrap().len(), 5);
    assert!(state["market"]["ended"][0]["gain_bits"].is_number());
    assert_eq!(state["market"]["ended"][0]["happened"], "YES");
    assert!(
        state.to_string().len() < 6_000,
        "{} bytes",
        state.to_string().len()
    );

    let client = Client::new();
    client
        .ok("/v1/markets", json!({"task_id": TASK, "kind": "agent.run"}))
        .await;
    assert_eq!(client.get("/state").await.1["market"]["open"][0]["id"], TASK);
    let own = Request::get("/state")
        .header("x-task-state", TASK)
        .body(Body::empty())
        .unwrap();
    assert_eq!(client.ask(own).await.1["market"]["open"], json!([]));
}

#[tokio::test]
async fn lists_go_on_where_a_page_ended() {
    let client = Client::new();
    for _ in 0..5 {
        client.opened("pseudo_count").await;
    }
    let first = client.get("/v1/markets?limit=3").await.1;
    let next = first["next"].as_str().unwrap();
    let second = client.get(&format!("/v1/markets?limit=3&before={next}")).await.1;
    assert_eq!(
        (
            first["markets"].as_array().unwrap().len(),
            second["markets"].as_array().unwrap().len()
        ),
        (3, 2)
    );
    assert_eq!(second["next"], json!(null));
    let none = client.get("/v1/markets?status=resolved&kind=weather").await.1;
    assert_eq!(none["markets"], json!([]));
}

#[tokio::test]
async fn whoever_works_on_a_task_cannot_bet_on_it_nor_end_its_market() {
    let client = Client::new();
    client
        .ok("/v1/markets", json!({"task_id": TASK, "kind": "agent.run"}))
        .await;
    let path = format!("/v1/markets/{TASK}");
    let from_the_task = |what: &str, body| {
        let mut request = post(&format!("{path}/{what}"), &body);
        let state = json!({"task_id": TASK, "cwd": "."}).to_string();
        request
            .headers_mut()
            .insert("x-task-state", state.parse().unwrap());
        request
    };
    let cases = [
        (
            "forecasts",
            json!({"forecaster": "somebody-else", "probabilities": [0.9, 0.1]}),
        ),
        (
            "trades",
            json!({"forecaster": "somebody-else", "move_to": [0.9, 0.1]}),
        ),
        ("resolve", json!({"outcome": "SUCCESS"})),
    ];
    for (what, body) in cases {
        let (status, problem) = client.ask(from_the_task(what, body)).await;
        assert_eq!(
            (status, problem["code"].as_str()),
            (StatusCode::FORBIDDEN, Some("own_task")),
            "{what}"
        );
    }
    assert_eq!(client.get(&path).await.1["version"], 1);
}
