//! What happened: by page, by cursor, and as a stream that goes on where it broke off.

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::client::Client;

async fn busy() -> (Client, String) {
    let client = Client::new();
    let path = client.opened("pseudo_count").await;
    for p in [0.8, 0.7] {
        let body = json!({"forecaster": "anna", "probabilities": [p, 1.0 - p]});
        client.ok(&format!("{path}/forecasts"), body).await;
    }
    client.opened("lmsr").await;
    client
        .ok(&format!("{path}/resolve"), json!({"outcome": "YES"}))
        .await;
    (client, path)
}

fn types(page: &Value) -> Vec<&str> {
    let events = page["events"].as_array().unwrap();
    events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn the_history_of_a_market_is_read_by_cursor() {
    let (client, path) = busy().await;
    let first = client.get(&format!("{path}/events?limit=3")).await.1;
    assert_eq!(
        types(&first),
        ["market.opened", "market.forecast", "market.forecast"]
    );
    assert_eq!(first["events"][1]["body"]["forecaster"], "anna");
    assert_eq!(first["next"], 3);
    let rest = client.get(&format!("{path}/events?after=3")).await.1;
    assert_eq!(
        (types(&rest), &rest["next"]),
        (vec!["market.resolved"], &json!(4))
    );
    let end = client.get(&format!("{path}/events?after=4")).await.1;
    assert_eq!(end, json!({"events": [], "next": 4}));
    let far = client.get(&format!("{path}/events?after={}", i64::MAX)).await.1;
    assert_eq!(far["events"], json!([]));
    for list in [
        format!("{path}/events"),
        "/v1/events".to_owned(),
        "/v1/stream".to_owned(),
    ] {
        let (status, problem) = client.get(&format!("{list}?after={}", u64::MAX)).await;
        assert_eq!(
            (status.as_u16(), problem["pointer"].as_str()),
            (422, Some("query:after")),
            "{list}"
        );
    }
}

#[tokio::test]
async fn ends_of_markets_are_read_by_cursor_and_none_is_missed() {
    let (client, path) = busy().await;
    let all = client.get("/v1/events").await.1;
    let expected = [
        "market.opened",
        "market.forecast",
        "market.forecast",
        "market.opened",
        "market.resolved",
    ];
    assert_eq!(types(&all), expected);
    let ends = client.get("/v1/events?type=market.resolved").await.1;
    assert_eq!(types(&ends), ["market.resolved"]);
    let id = path.rsplit('/').next().unwrap();
    assert_eq!(ends["events"][0]["market_id"], id);
    let next = ends["next"].as_u64().unwrap();
    let other = client.opened("pseudo_count").await;
    client
        .ok(&format!("{other}/resolve"), json!({"void": "nobody looked"}))
        .await;
    let ends = client
        .get(&format!("/v1/events?type=market.resolved&after={next}"))
        .await
        .1;
    assert_eq!(ends["events"][0]["body"]["resolution"]["reason"], "nobody looked");
    assert_eq!(types(&ends).len(), 1);
    let one = client.get("/v1/events?limit=1&after=1").await.1;
    assert_eq!(
        (one["events"][0]["place"].as_u64(), &one["next"]),
        (Some(2), &json!(2))
    );
}

/// The ids and types of the first `n` events of a stream.
async fn read(body: &mut Body, n: usize) -> Vec<(u64, String)> {
    let (mut text, mut events) = (String::new(), Vec::new());
    while events.len() < n {
        let frame = body.frame().await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        while let Some(end) = text.find("\n\n") {
            let message: String = text.drain(..end + 2).collect();
            let field = |name: &str| {
                let line = message.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap().trim().to_owned()
            };
            let data: Value = serde_json::from_str(&field("data:")).unwrap();
            assert_eq!(data["place"].to_string(), field("id:"));
            events.push((data["place"].as_u64().unwrap(), field("event:")));
        }
    }
    events
}

#[tokio::test]
async fn a_stream_gives_what_was_and_what_comes_and_goes_on_after_a_break() {
    let (client, _) = busy().await;
    let open = |header: Option<&str>, query: &str| {
        let mut request = Request::get(format!("/v1/stream{query}"));
        if let Some(id) = header {
            request = request.header("last-event-id", id);
        }
        request.body(Body::empty()).unwrap()
    };
    let mut stream = client.stream(open(None, "")).await;
    let seen = read(&mut stream, 5).await;
    assert_eq!(
        seen.iter().map(|(place, _)| *place).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5]
    );
    let (told, ()) = tokio::join!(read(&mut stream, 1), async {
        client.opened("pseudo_count").await;
    });
    assert_eq!(told, [(6, "market.opened".to_owned())]);
    drop(stream);
    let mut again = client.stream(open(Some("4"), "?after=0")).await;
    assert_eq!(
        read(&mut again, 2).await,
        [(5, "market.resolved".to_owned()), (6, "market.opened".to_owned())]
    );
    let mut ends = client.stream(open(None, "?type=market.resolved")).await;
    assert_eq!(read(&mut ends, 1).await[0].0, 5);
    for id in ["x", "-1", "18446744073709551615"] {
        let bad = client.raw(open(Some(id), "")).await;
        assert_eq!(
            (bad.status.as_u16(), bad.code().as_str()),
            (400, "invalid_header"),
            "{id}"
        );
    }
}
