//! The API document: complete, sound, and true of the answers.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::client::Client;

fn document() -> Value {
    serde_json::from_str(&aion_market_server::openapi_json()).unwrap()
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn every_operation_is_named_and_described() {
    let document = document();
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let operations = item
            .as_object()
            .unwrap()
            .iter()
            .filter(|(key, _)| *key == "get" || *key == "post");
        for (method, operation) in operations {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_owned()), "{name} twice");
            assert!(
                name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_'),
                "{name}"
            );
            let summary = operation["summary"].as_str();
            assert!(summary.is_some_and(|text| !text.is_empty()), "{method} {path}");
        }
    }
    let wanted = [
        "open_market",
        "get_market",
        "list_markets",
        "quote",
        "forecast",
        "trade",
        "resolve_market",
        "get_market_report",
        "leaderboard",
        "calibration",
        "score_batch",
        "list_trust",
        "close_market",
        "get_prob",
        "list_probs",
        "forecaster_score",
        "calibration_diagram",
        "score_columns",
        "list_market_events",
        "list_all_market_events",
        "stream_market_events",
        "list_predictors",
        "train_predictor",
        "list_alarms",
        "hear_processor",
    ];
    for name in wanted {
        assert!(names.contains(name), "{name}");
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

/// An answer has exactly the members that its schema names.
#[tokio::test]
async fn answers_have_the_members_of_their_schema() {
    let client = Client::new();
    let path = client.opened("pseudo_count").await;
    let forecast = json!({"forecaster": "anna", "probabilities": [0.8, 0.2]});
    let fill = client.ok(&format!("{path}/forecasts"), forecast).await;
    let report = client
        .ok(&format!("{path}/resolve"), json!({"outcome": "YES"}))
        .await;
    let batch = json!({"rows": [{"probabilities": [0.8, 0.2], "outcome": 0}]});
    let scores = client.ok("/v1/scores", batch).await;
    let calibration = client.get("/v1/calibration?forecaster=anna").await.1;
    let document = document();
    let columns = json!({"probabilities": [[0.5, 0.5]], "outcome": [0]});
    let id = path.rsplit('/').next().unwrap();
    let score = client.get("/v1/forecasters/anna/score").await.1;
    let history = client.get(&format!("{path}/events")).await.1;
    let log = client.get("/v1/events").await.1;
    let cases = [
        ("Losses", client.ok("/v1/score/batch?rule=log", columns).await),
        ("ProbView", client.get(&format!("{path}/prob")).await.1),
        ("ProbList", client.get(&format!("/v1/probs?ids={id}")).await.1),
        ("MarketScore", score["scores"][0].clone()),
        ("ForecasterScore", score),
        ("MarketEvent", history["events"][0].clone()),
        ("MarketEvents", history),
        ("LoggedEvent", log["events"][0].clone()),
        ("LogPage", log),
        ("Leaderboard", client.get("/v1/leaderboard").await.1),
        ("TrustList", client.get("/v1/trust").await.1),
        ("MarketInfo", client.get(&path).await.1),
        ("MarketList", client.get("/v1/markets").await.1),
        ("FillView", fill),
        ("ForecasterView", report["forecasters"][0].clone()),
        ("ReportView", report),
        ("ScoreView", scores["rows"][0].clone()),
        ("ScoreBatchView", scores),
        ("BinView", calibration["bins"][0].clone()),
        ("CalibrationView", calibration),
        (
            "StandingView",
            client.get("/v1/leaderboard").await.1["forecasters"][0].clone(),
        ),
        (
            "AccountView",
            client.get("/v1/trust").await.1["accounts"][0].clone(),
        ),
    ];
    for (name, answer) in cases {
        let schema = &document["components"]["schemas"][name]["properties"];
        let named: BTreeSet<_> = schema.as_object().unwrap().keys().collect();
        let given: BTreeSet<_> = answer.as_object().unwrap().keys().collect();
        assert_eq!(named, given, "{name}");
    }
}
