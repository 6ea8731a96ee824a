//! Prices, versions, closing, forecasters, diagrams.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::client::{Client, TASK, post};

fn get(path: &str, name: &'static str, value: &str) -> Request<Body> {
    Request::get(path)
        .header(name, value)
        .body(Body::empty())
        .unwrap()
}

#[tokio::test]
async fn the_version_of_a_market_is_its_etag() {
    let client = Client::new();
    let path = client.opened("pseudo_count").await;
    for place in [path.clone(), format!("{path}/prob")] {
        let first = client.raw(get(&place, "accept", "*/*")).await;
        assert_eq!((first.status.as_u16(), first.header("etag")), (200, "\"1\""));
        let again = client.raw(get(&place, "if-none-match", "W/\"7\", \"1\"")).await;
        assert_eq!((again.status.as_u16(), again.bytes.len()), (304, 0));
    }
    let forecast = |tag: &str, version: Option<u64>| {
        let mut body = json!({"forecaster": "anna", "probabilities": [0.8, 0.2]});
        if let Some(version) = version {
            body["expected_version"] = version.into();
        }
        let mut request = post(&format!("{path}/forecasts"), &body);
        request.headers_mut().insert("if-match", tag.parse().unwrap());
        request
    };
    let cases = [
        (forecast("\"9\"", None), 412, "version_conflict"),
        (forecast("9", None), 400, "invalid_header"),
        (forecast("\"1\"", Some(2)), 422, "invalid"),
    ];
    for (request, status, code) in cases {
        let answer = client.raw(request).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code));
    }
    assert_eq!(client.ask(forecast("\"1\"", Some(1))).await.1["version"], 2);
    assert_eq!(client.ask(forecast("*", None)).await.1["version"], 3);
    let changed = client.raw(get(&path, "if-none-match", "\"1\"")).await;
    assert_eq!((changed.status.as_u16(), changed.header("etag")), (200, "\"3\""));
}

#[tokio::test]
async fn several_prices_are_asked_for_at_once() {
    let client = Client::new();
    let first = client.opened("lmsr").await.rsplit('/').next().unwrap().to_owned();
    let prices = client.get(&format!("/v1/probs?ids={first},{TASK}")).await.1;
    assert_eq!(prices["probs"][0]["market_id"], *first);
    assert_eq!(prices["probs"][0]["probabilities"], json!([0.5, 0.5]));
    assert_eq!(prices["unknown"], json!([TASK]));
    let many = vec![TASK; 101].join(",");
    for ids in ["", "x", &format!("{TASK},"), many.as_str()] {
        let (status, problem) = client.get(&format!("/v1/probs?ids={ids}")).await;
        assert_eq!(
            (status.as_u16(), problem["pointer"].as_str()),
            (422, Some("query:ids")),
            "{ids}"
        );
    }
}

#[tokio::test]
async fn a_closed_market_waits_for_its_end() {
    let client = Client::new();
    let path = client.opened("pseudo_count").await;
    let close = json!({"reason": "the polls are closed"});
    let market = client.ok(&format!("{path}/close"), close.clone()).await;
    assert_eq!(
        (&market["status"], market["closed_at"].is_i64()),
        (&json!("open"), true)
    );
    assert_eq!(client.ok(&format!("{path}/close"), close).await, market);
    let late = json!({"forecaster": "anna", "probabilities": [0.8, 0.2]});
    let (status, problem) = client.post(&format!("{path}/forecasts"), late).await;
    assert_eq!((status.as_u16(), problem["code"].as_str()), (409, Some("closed")));
    client
        .ok(&format!("{path}/resolve"), json!({"mixture": [0.25, 0.75]}))
        .await;
    let (status, _) = client
        .post(&format!("{path}/close"), json!({"reason": "again"}))
        .await;
    assert_eq!(status.as_u16(), 409);
    let (status, _) = client.post(&format!("{path}/close"), json!({"reason": ""})).await;
    assert!(status.is_client_error());
}

#[tokio::test]
async fn a_price_limit_holds_and_liquidity_may_grow() {
    let client = Client::new();
    let path = client.opened("lmsr").await;
    let trade = |max: f64| json!({"forecaster": "anna", "shares": [50.0, 0.0], "price_limits": [{"outcome": 0, "max": max}]});
    let (status, problem) = client.post(&format!("{path}/trades"), trade(0.6)).await;
    assert_eq!(
        (status.as_u16(), problem["code"].as_str()),
        (409, Some("over_price_limit"))
    );
    client.ok(&format!("{path}/trades"), trade(0.63)).await;
    let (status, problem) = client.post(&format!("{path}/trades"), trade(1.5)).await;
    assert_eq!(
        (status.as_u16(), problem["pointer"].as_str()),
        (422, Some("/price_limits/0/max"))
    );
    let grown = client.opened("liquidity_sensitive").await;
    assert_eq!(client.get(&grown).await.1["maker"], "liquidity_sensitive");
    client
        .ok(&format!("{grown}/quote"), json!({"shares": [10.0, 0.0]}))
        .await;
    let odd = json!({"question": "q", "kind": "k", "maker": "lmsr", "commission": 0.1});
    let (status, problem) = client.post("/v1/markets", odd).await;
    assert_eq!(
        (status.as_u16(), problem["pointer"].as_str()),
        (422, Some("/commission"))
    );
}

/// A client with `n` markets that anna foresaw and ben did not.
async fn scored(n: usize) -> Client {
    let client = Client::new();
    for _ in 0..n {
        let path = client.opened("pseudo_count").await;
        for (who, p) in [("anna", 0.8), ("ben", 0.3)] {
            let body = json!({"forecaster": who, "probabilities": [p, 1.0 - p]});
            client.ok(&format!("{path}/forecasts"), body).await;
        }
        client
            .ok(&format!("{path}/resolve"), json!({"outcome": "YES"}))
            .await;
    }
    client
}

#[tokio::test]
async fn a_forecaster_has_a_score_and_pages_of_markets() {
    let client = scored(3).await;
    let first = client.get("/v1/forecasters/anna/score?limit=2").await.1;
    let sum: f64 = first["gain_bits"].as_f64().unwrap();
    assert_eq!(
        (&first["markets"], first["scores"].as_array().unwrap().len()),
        (&json!(3), 2)
    );
    assert!((first["mean_gain_bits"].as_f64().unwrap() * 3.0 - sum).abs() < 1e-9);
    let next = first["next"].as_str().unwrap();
    let rest = client
        .get(&format!("/v1/forecasters/anna/score?limit=2&after={next}"))
        .await
        .1;
    assert_eq!(
        (rest["scores"].as_array().unwrap().len(), &rest["next"]),
        (1, &Value::Null)
    );
    let shown = [&first["scores"][0], &first["scores"][1], &rest["scores"][0]];
    let gains: f64 = shown
        .iter()
        .map(|score| score["gain_bits"].as_f64().unwrap())
        .sum();
    assert!((gains - sum).abs() < 1e-9);
    for (path, status) in [
        ("/v1/forecasters/nobody/score", 404),
        ("/v1/forecasters/anna/score?after=odd", 422),
        ("/v1/forecasters/anna/score?limit=0", 422),
        ("/v1/forecasters/a%20b/score", 400),
    ] {
        assert_eq!(client.get(path).await.0.as_u16(), status, "{path}");
    }
}

#[tokio::test]
async fn lists_of_forecasters_are_paged_too() {
    let client = scored(1).await;
    for (path, list, all) in [
        ("/v1/leaderboard", "forecasters", 2),
        ("/v1/trust", "accounts", 3),
    ] {
        let (mut after, mut seen) = (String::new(), 0);
        loop {
            let page = client.get(&format!("{path}?limit=1{after}")).await.1;
            seen += page[list].as_array().unwrap().len();
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(seen, all, "{path}");
        assert_eq!(client.get(&format!("{path}?after=nobody")).await.0.as_u16(), 422);
    }
}

#[tokio::test]
async fn calibration_is_a_picture_for_whoever_asks_for_one() {
    let client = scored(2).await;
    let path = "/v1/calibration?forecaster=anna";
    let json = client.raw(get(path, "accept", "application/json")).await;
    assert_eq!(
        (json.header("content-type"), &json.json()["n"]),
        ("application/json", &json!(2))
    );
    let accepted = client.raw(get(path, "accept", "image/svg+xml,*/*;q=0.8")).await;
    let named = client
        .raw(get("/v1/calibration.svg?forecaster=anna&bins=5", "accept", "*/*"))
        .await;
    for picture in [accepted, named] {
        assert_eq!(picture.header("content-type"), "image/svg+xml");
        assert!(
            picture
                .header("content-security-policy")
                .contains("default-src 'none'")
        );
        let svg = String::from_utf8(picture.bytes).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("Calibration of anna"));
    }
    let missing = client
        .raw(get("/v1/calibration.svg?forecaster=nobody", "accept", "*/*"))
        .await;
    assert_eq!(
        (missing.status.as_u16(), missing.code().as_str()),
        (404, "no_scores")
    );
}

#[tokio::test]
async fn calibration_says_how_sure_its_frequencies_are() {
    let client = scored(10).await;
    let view = client.get("/v1/calibration?forecaster=anna").await.1;
    let close = |value: &Value, expected: f64| {
        assert!((value.as_f64().unwrap() - expected).abs() < 1e-6, "{value}");
    };
    close(&view["mce"], 0.2);
    close(&view["ece"], 0.2);
    close(&view["sharpness"], 0.0);
    // Ten of ten: Wilson's lower end is 10 / (10 + 1.96^2).
    let bin = &view["bins"][0];
    close(&bin["frequency"], 1.0);
    close(&bin["frequency_lower"], 0.722_467);
    close(&bin["frequency_upper"], 1.0);
}

#[tokio::test]
async fn two_forecasters_are_compared_on_the_markets_that_both_were_in() {
    let client = scored(60).await;
    let alone = client.opened("pseudo_count").await;
    let body = json!({"forecaster": "anna", "probabilities": [0.1, 0.9]});
    client.ok(&format!("{alone}/forecasts"), body).await;
    client
        .ok(&format!("{alone}/resolve"), json!({"outcome": "YES"}))
        .await;
    let compared = client.get("/v1/compare?a=anna&b=ben").await.1;
    assert_eq!((&compared["n"], &compared["better"]), (&json!(60), &json!("a")));
    // Brier 0.08 against 0.98, each time.
    let of = |view: &Value, name: &str| view[name].as_f64().unwrap();
    assert!((of(&compared, "mean") - 0.9).abs() < 1e-9);
    assert!(of(&compared, "lower") > 0.0 && of(&compared, "upper") >= 0.9);
    assert!(of(&compared, "p_value") < 0.01 && of(&compared, "e_a_better") > 100.0);
    assert!(of(&compared, "e_b_better") < 1.0);
    let turned = client.get("/v1/compare?a=ben&b=anna&alpha=0.05").await.1;
    assert_eq!(turned["better"], "b");
    assert!((of(&turned, "mean") + 0.9).abs() < 1e-9);
    assert!((of(&turned, "upper") + of(&compared, "lower")).abs() < 1e-12);
    let constant = client.get("/v1/compare?a=anna&b=ben&assumption=constant").await.1;
    assert!(of(&constant, "lower") > of(&compared, "lower"), "{constant}");
    let alike = client.get("/v1/compare?a=anna&b=anna").await.1;
    assert_eq!((&alike["better"], of(&alike, "mean")), (&json!("open"), 0.0));
}

#[tokio::test]
async fn a_comparison_says_what_it_stands_for_and_goes_on() {
    let client = scored(3).await;
    let before = client.get("/v1/compare?a=anna&b=ben").await.1;
    assert_eq!((&before["n"], &before["complete"]), (&json!(3), &json!(true)));
    let at = |view: &Value, name: &str| view[name].as_i64().unwrap();
    assert!(at(&before, "first_resolved_at") <= at(&before, "last_resolved_at"));
    let path = client.opened("pseudo_count").await;
    for (who, p) in [("anna", 0.2), ("ben", 0.9)] {
        let body = json!({"forecaster": who, "probabilities": [p, 1.0 - p]});
        client.ok(&format!("{path}/forecasts"), body).await;
    }
    client
        .ok(&format!("{path}/resolve"), json!({"outcome": "YES"}))
        .await;
    let after = client.get("/v1/compare?a=anna&b=ben").await.1;
    assert_eq!(
        (&after["n"], &after["first_resolved_at"]),
        (&json!(4), &before["first_resolved_at"])
    );
    // (3 * 0.9 - 1.26) / 4
    assert!((after["mean"].as_f64().unwrap() - 0.36).abs() < 1e-9, "{after}");
    let nobody = client.get("/v1/compare?a=anna&b=house&alpha=0.1").await.1;
    assert_eq!(nobody["n"], 4);
}

#[tokio::test]
async fn pages_of_markets_and_of_alarms_end_where_the_list_does() {
    let client = Client::new();
    let mut surprised = Vec::new();
    for n in 0..5 {
        // Each of a kind of its own, so that no base rate tempers the price.
        let open =
            json!({"question": "Will it hold?", "kind": format!("bridge {n}"), "outcomes": ["YES", "NO"]});
        let market = client.ok("/v1/markets", open).await;
        let path = format!("/v1/markets/{}", market["id"].as_str().unwrap());
        for i in 0..9 {
            let body = json!({"forecaster": format!("f{i}"), "probabilities": [0.99, 0.01]});
            client.ok(&format!("{path}/forecasts"), body).await;
        }
        let outcome = if n % 2 == 0 { "NO" } else { "YES" };
        client
            .ok(&format!("{path}/resolve"), json!({"outcome": outcome}))
            .await;
        if n % 2 == 0 {
            surprised.push(path.rsplit('/').next().unwrap().to_owned());
        }
    }
    for (path, id, expected) in [("/v1/alarms", "market_id", 3), ("/v1/markets", "id", 5)] {
        let (mut before, mut seen, mut pages) = (String::new(), Vec::new(), 0);
        loop {
            let page = client
                .get(&format!("{path}?limit=1&status=resolved{before}"))
                .await
                .1;
            let markets = page["markets"].as_array().unwrap();
            seen.extend(markets.iter().map(|one| one[id].as_str().unwrap().to_owned()));
            pages += 1;
            let Some(next) = page["next"].as_str() else { break };
            before = format!("&before={next}");
        }
        assert_eq!(seen.len(), expected, "{path}");
        // A last page may look at markets without an alarm.
        assert!((expected..=expected + 1).contains(&pages), "{path}: {pages}");
        assert!(seen.is_sorted_by(|a, b| a > b), "{path}: {seen:?}");
        if expected == 3 {
            surprised.sort_by(|a, b| b.cmp(a));
            assert_eq!(seen, surprised);
        }
    }
    let none = client.get("/v1/alarms?status=open").await.1;
    assert_eq!((&none["markets"], &none["next"]), (&json!([]), &Value::Null));
    assert_eq!(client.get("/v1/alarms?limit=0").await.0.as_u16(), 422);
    assert_eq!(client.get("/v1/alarms?before=odd").await.0.as_u16(), 400);
}

#[tokio::test]
async fn forecasters_who_never_met_are_not_compared() {
    let client = scored(1).await;
    for who in ["carl", "dora"] {
        let path = client.opened("pseudo_count").await;
        let body = json!({"forecaster": who, "probabilities": [0.5, 0.5]});
        client.ok(&format!("{path}/forecasts"), body).await;
        client
            .ok(&format!("{path}/resolve"), json!({"outcome": "YES"}))
            .await;
    }
    let view = client.get("/v1/compare?a=carl&b=dora").await.1;
    assert_eq!(
        (&view["n"], &view["better"], &view["p_value"]),
        (&json!(0), &json!("open"), &json!(1.0))
    );
    for (query, status) in [
        ("a=anna&b=nobody", 404),
        ("a=nobody&b=anna", 404),
        ("a=anna&b=ben&alpha=0", 422),
        ("a=anna&b=ben&alpha=NaN", 422),
        ("a=anna", 400),
        ("a=anna&b=ben&assumption=odd", 400),
    ] {
        let found = client.get(&format!("/v1/compare?{query}")).await.0;
        assert_eq!(found.as_u16(), status, "{query}");
    }
}
