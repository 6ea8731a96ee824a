//! The service as a client on the network meets it: real sockets, a stream, odd methods and bytes.

use std::time::Duration;

use aion_market::Market;
use aion_service::{Limits, ServeOptions, Server};
use aion_trust::TrustLedger;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn served() -> String {
    let service = aion_market_server::service(Market::in_memory(), TrustLedger::in_memory());
    let router = service.into_router(&Limits::default());
    let server = Server::bind(router, ServeOptions::loopback(0)).await.unwrap();
    let addr = server.local_addr();
    tokio::spawn(server.run(std::future::pending()));
    addr.to_string()
}

/// Sends bytes and gives what came back until `until`, or until the end.
async fn talk(addr: &str, request: &[u8], until: &str) -> String {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let read = async {
        loop {
            let mut part = [0; 4096];
            let n = socket.read(&mut part).await.unwrap();
            answer.extend_from_slice(&part[..n]);
            let text = String::from_utf8_lossy(&answer);
            if n == 0 || (!until.is_empty() && text.contains(until)) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), read).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn send(addr: &str, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, Value) {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let answer = talk(addr, &[head.as_bytes(), body].concat(), "").await;
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn a_market_lives_over_sockets_and_its_stream_tells_of_it() {
    let addr = served().await;
    let post = async |path: &str, body: Value| {
        let (status, answer) = send(
            &addr,
            "POST",
            path,
            "application/json",
            body.to_string().as_bytes(),
        )
        .await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    };
    let market = post(
        "/v1/markets",
        json!({"question": "Will it rain?", "kind": "weather"}),
    )
    .await;
    let path = format!("/v1/markets/{}", market["id"].as_str().unwrap());
    let stream = format!("GET /v1/stream?type=market.resolved HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    let (told, _) = tokio::join!(talk(&addr, stream.as_bytes(), "\n\n"), async {
        let forecast = json!({"forecaster": "anna", "probabilities": [0.8, 0.2], "expected_version": 1.0});
        post(&format!("{path}/forecasts"), forecast).await;
        post(&format!("{path}/resolve"), json!({"outcome": "YES"})).await
    });
    assert!(told.contains("text/event-stream"), "{told}");
    assert!(
        told.contains("event: market.resolved") && told.contains("id: 3"),
        "{told}"
    );
}

/// Method, path, media type and body; status and code of the answer.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static [u8],
    u16,
    &'static str,
);

#[tokio::test]
async fn odd_methods_media_types_and_bytes_are_refused_by_name() {
    let addr = served().await;
    let json = "application/json";
    let cases: [Case; 9] = [
        ("DELETE", "/v1/markets", json, b"", 405, "method_not_allowed"),
        ("PUT", "/v1/score/batch", json, b"{}", 405, "method_not_allowed"),
        ("BREW", "/v1/markets", json, b"", 405, "method_not_allowed"),
        (
            "POST",
            "/v1/markets",
            "text/plain",
            b"{}",
            415,
            "unsupported_media_type",
        ),
        (
            "POST",
            "/v1/markets",
            json,
            b"{\"kind\": \"\xff\"}",
            400,
            "invalid_json",
        ),
        (
            "POST",
            "/v1/markets",
            json,
            b"{\"kind\": 1e999}",
            400,
            "invalid_json",
        ),
        (
            "POST",
            "/v1/markets",
            json,
            b"{\"kind\": null}",
            422,
            "invalid_body",
        ),
        (
            "POST",
            "/v1/scores",
            json,
            b"{\"rows\": [{\"probabilities\": [1, 0], \"outcome\": 1e30}]}",
            422,
            "invalid_body",
        ),
        ("GET", "/v1/nothing", json, b"", 404, "unknown_route"),
    ];
    for (method, path, kind, body, status, code) in cases {
        let (got, problem) = send(&addr, method, path, kind, body).await;
        assert_eq!(
            (got, problem["code"].as_str()),
            (status, Some(code)),
            "{method} {path}: {problem}"
        );
    }
}
