//! A real socket, a raw client, and a stop that lets requests finish.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aion_service::{ApiKey, Limits, ServeError, ServeOptions, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::sample::service;

struct Running {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), ServeError>>,
}

async fn start(options: ServeOptions) -> Running {
    let server = Server::bind(service("served").into_router(&Limits::default()), options)
        .await
        .unwrap();
    let addr = server.local_addr();
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = tokio::spawn(server.run(async move { drop(stopped.await) }));
    Running { addr, stop, ended }
}

async fn raw(addr: SocketAddr, request: &str) -> String {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

fn get(path: &str, host: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn a_raw_client_is_served_on_an_ephemeral_port() {
    let server = start(ServeOptions::loopback(0)).await;
    let host = server.addr.to_string();
    let answer = raw(server.addr, &get("/state", &host)).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with(r#"{"sample":{"task":null}}"#), "{answer}");
    let rebound = raw(server.addr, &get("/state", "evil.example")).await;
    assert!(rebound.starts_with("HTTP/1.1 403 "), "{rebound}");
    server.stop.send(()).unwrap();
    server.ended.await.unwrap().unwrap();
    assert!(
        TcpStream::connect(server.addr).await.is_err(),
        "the port is closed"
    );
}

#[tokio::test]
async fn garbage_and_giant_headers_are_4xx() {
    let server = start(ServeOptions::loopback(0)).await;
    let garbage = raw(server.addr, "this is not http\r\n\r\n").await;
    assert!(garbage.starts_with("HTTP/1.1 400 "), "{garbage}");
    let giant = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "y".repeat(1 << 20)
    );
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    let _ = socket.write_all(giant.as_bytes()).await;
    let mut answer = [0u8; 12];
    let read = socket.read(&mut answer).await.unwrap_or(0);
    assert!(read == 0 || answer.starts_with(b"HTTP/1.1 431"), "{answer:?}");
}

#[tokio::test]
async fn a_stop_lets_a_running_request_finish() {
    let server = start(ServeOptions::loopback(0)).await;
    let client = tokio::spawn(async move { raw(server.addr, &get("/slow", "localhost")).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.stop.send(()).unwrap();
    assert!(client.await.unwrap().starts_with("HTTP/1.1 200 OK"));
    server.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_waits_no_longer_than_the_drain_time() {
    let server = start(ServeOptions::loopback(0).with_drain(Duration::from_millis(50))).await;
    let _client = tokio::spawn(async move { raw(server.addr, &get("/patient", "localhost")).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let started = Instant::now();
    server.stop.send(()).unwrap();
    server.ended.await.unwrap().unwrap();
    assert!(
        started.elapsed() < Duration::from_millis(350),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_cut_off_request_ends_with_the_server() {
    let server = start(ServeOptions::loopback(0).with_drain(Duration::from_millis(20))).await;
    let client = tokio::spawn(async move { raw(server.addr, &get("/patient", "localhost")).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.stop.send(()).unwrap();
    server.ended.await.unwrap().unwrap();
    let answer = tokio::time::timeout(Duration::from_millis(300), client)
        .await
        .expect("closed at once");
    assert_eq!(answer.unwrap(), "", "nobody gets half an answer");
}

#[tokio::test]
async fn connections_over_the_limit_wait_and_are_served_later() {
    let server = start(ServeOptions::loopback(0).with_max_connections(1)).await;
    let first = TcpStream::connect(server.addr).await.unwrap();
    let second = tokio::spawn(async move { raw(server.addr, &get("/healthz", "localhost")).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!second.is_finished(), "the only place is taken");
    drop(first);
    assert!(second.await.unwrap().starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn several_requests_share_a_connection() {
    let server = start(ServeOptions::loopback(0)).await;
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    for _ in 0..3 {
        socket
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .unwrap();
        let mut answer = [0u8; 512];
        let read = socket.read(&mut answer).await.unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 200 OK"));
    }
}

#[tokio::test]
async fn a_key_is_asked_for_on_the_wire() {
    let key = ApiKey::new(&"a key of many words".into()).unwrap();
    let server = start(ServeOptions::loopback(0).with_api_key(key)).await;
    assert!(
        raw(server.addr, &get("/state", "any.example"))
            .await
            .starts_with("HTTP/1.1 401 ")
    );
    assert!(
        raw(server.addr, &get("/healthz", "any.example"))
            .await
            .starts_with("HTTP/1.1 200 ")
    );
}

#[tokio::test]
async fn a_taken_port_and_an_open_address_without_a_key_are_errors() {
    let server = start(ServeOptions::loopback(0)).await;
    let again = ServeOptions::loopback(server.addr.port());
    let router = service("served").into_router(&Limits::default());
    assert!(matches!(
        Server::bind(router.clone(), again).await,
        Err(ServeError::Bind { .. })
    ));
    let open = ServeOptions::loopback(0).with_listen("0.0.0.0:0".parse().unwrap());
    assert!(matches!(
        Server::bind(router, open).await,
        Err(ServeError::NeedsKey(_))
    ));
}
