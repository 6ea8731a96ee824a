//! Who may call: keys, hosts and origins.

use aion_service::{Access, ApiKey, Limits, ServeError, ServeOptions, protect};
use axum::Router;
use axum::body::Body;
use http::Request;

use crate::sample::{problem, send, service, text};

const KEY: &str = "a key of many words";

fn with_key() -> Router {
    let key = ApiKey::new(&KEY.into()).unwrap();
    protect(service("keyed").into_router(&Limits::default()), Access::Key(key))
}

fn local() -> Router {
    protect(service("local").into_router(&Limits::default()), Access::Local)
}

fn state_with(headers: &[(&str, &str)]) -> Request<Body> {
    let request = headers
        .iter()
        .fold(Request::get("/state"), |request, (name, value)| {
            request.header(*name, *value)
        });
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn a_key_is_needed_for_everything_but_healthz() {
    let good = format!("Bearer {KEY}");
    assert_eq!(
        send(&with_key(), state_with(&[("authorization", &good)]))
            .await
            .status(),
        200
    );
    assert_eq!(
        send(&with_key(), crate::sample::get("/healthz")).await.status(),
        200
    );
    let page = send(&with_key(), crate::sample::get("/dashboard")).await;
    assert_eq!(
        page.status(),
        404,
        "a page may be there, and this service has none"
    );
    for path in [
        "/state",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/orders/1?limit=1",
        "/nothing",
        "//healthz",
    ] {
        problem(
            send(&with_key(), crate::sample::get(path)).await,
            401,
            "unauthorized",
        )
        .await;
    }
}

/// A 401 tells nothing: whatever was wrong with the key, the answer is the same but for its id.
#[tokio::test]
async fn every_401_looks_the_same() {
    let almost = format!("Bearer {}", &KEY[..KEY.len() - 1]);
    let basic = format!("Basic {KEY}");
    let mut shapes = Vec::new();
    for value in ["", "Bearer", "Bearer ", "Bearer x", &almost, &basic, KEY] {
        let request = state_with(&[("authorization", value), ("x-request-id", "same")]);
        let response = send(&with_key(), request).await;
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        let headers = format!("{:?}", response.headers());
        shapes.push((headers, problem(response, 401, "unauthorized").await));
    }
    assert!(shapes.windows(2).all(|pair| pair[0] == pair[1]), "{shapes:#?}");
}

#[tokio::test]
async fn without_a_key_only_local_hosts_are_served() {
    for host in [
        "localhost",
        "LOCALHOST:9400",
        "127.0.0.1:1",
        "127.1.2.3",
        "[::1]:9400",
    ] {
        assert_eq!(
            send(&local(), state_with(&[("host", host)])).await.status(),
            200,
            "{host}"
        );
    }
    let foreign = [
        "example.org",
        "localhost.example.org",
        "127.0.0.1.nip.io:80",
        "10.0.0.1",
        "[::2]",
        "",
        "local host",
        "0.0.0.0",
    ];
    for host in foreign {
        problem(
            send(&local(), state_with(&[("host", host)])).await,
            403,
            "host_not_local",
        )
        .await;
    }
    problem(send(&local(), state_with(&[])).await, 403, "host_not_local").await;
}

#[tokio::test]
async fn without_a_key_foreign_pages_may_not_call() {
    for origin in [
        "https://example.org",
        "null",
        "http://localhost.example.org",
        "garbage",
    ] {
        let request = state_with(&[("host", "localhost"), ("origin", origin)]);
        problem(send(&local(), request).await, 403, "origin_not_local").await;
    }
    let page = state_with(&[("host", "localhost:8090"), ("origin", "http://127.0.0.1:8090")]);
    assert_eq!(send(&local(), page).await.status(), 200);
}

#[tokio::test]
async fn a_key_makes_the_host_irrelevant() {
    let good = format!("bearer {KEY}");
    let request = state_with(&[("host", "aion.example.org"), ("authorization", &good)]);
    let response = send(&with_key(), request).await;
    assert_eq!(text(response).await, r#"{"sample":{"task":null}}"#);
}

#[test]
fn outside_loopback_a_key_is_a_must() {
    let open = ServeOptions::loopback(0).with_listen("0.0.0.0:9400".parse().unwrap());
    assert!(matches!(open.access(), Err(ServeError::NeedsKey(_))));
    let key = ApiKey::new(&KEY.into()).unwrap();
    assert_eq!(open.with_api_key(key.clone()).access().unwrap(), Access::Key(key));
    assert_eq!(ServeOptions::loopback(0).access().unwrap(), Access::Local);
}

#[test]
fn a_key_may_be_given_as_its_hash() {
    let half = "sha256:6ad2ea01c6e1b6f3d0b9ae1f4a04bb1d";
    assert!(
        matches!(ApiKey::new(&half.into()), Err(ServeError::WeakKey)),
        "half a hash is none"
    );
    let whole = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert!(
        ApiKey::new(&whole.into()).unwrap().matches("hello"),
        "FIPS 180-4 of 'hello'"
    );
    assert!(matches!(
        ApiKey::new(&"sha256:zz".into()),
        Err(ServeError::WeakKey)
    ));
    assert!(matches!(ApiKey::new(&"short".into()), Err(ServeError::WeakKey)));
    assert!(matches!(ApiKey::new(&"  \n".into()), Err(ServeError::WeakKey)));
}
