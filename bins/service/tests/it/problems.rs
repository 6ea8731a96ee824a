//! Every way in which a request can fail, through the router without a socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aion_service::{Limits, Problem, Service, parse_json};
use axum::body::Body;
use axum::response::IntoResponse;
use axum::{Router, routing::get as on_get};
use bytes::Bytes;
use http::Request;
use proptest::prelude::*;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;

use crate::sample::{Waiting, get, post, problem, send, service, text};

fn router() -> Router {
    service("sample").into_router(&Limits::default())
}

#[tokio::test]
async fn text_that_is_not_json_is_400_with_line_and_column() {
    let response = send(&router(), post("/orders", "{\"name\": \"a\",\n oops}")).await;
    let document = problem(response, 400, "invalid_json").await;
    assert!(
        document["detail"].as_str().unwrap().contains("line 2"),
        "{document}"
    );
}

#[tokio::test]
async fn cut_and_trailing_json_are_400() {
    for body in [
        "{\"name\": \"a\", \"lines\": [",
        "",
        "{\"name\":\"a\",\"lines\":[]} {}",
    ] {
        problem(send(&router(), post("/orders", body)).await, 400, "invalid_json").await;
    }
}

#[tokio::test]
async fn a_wrong_type_is_422_with_a_pointer() {
    let body = r#"{"name": "a", "lines": [{"count": 1}, {"count": 300}]}"#;
    let document = problem(send(&router(), post("/orders", body)).await, 422, "invalid_body").await;
    assert_eq!(document["pointer"], "/lines/1/count");
}

#[tokio::test]
async fn an_unknown_field_is_422_and_named() {
    let body = r#"{"name": "a", "lines": [{"count": 1, "price": 2}]}"#;
    let document = problem(send(&router(), post("/orders", body)).await, 422, "invalid_body").await;
    assert!(
        document["detail"]
            .as_str()
            .unwrap()
            .contains("unknown field `price`"),
        "{document}"
    );
    assert!(
        document["pointer"].as_str().unwrap().starts_with("/lines/0"),
        "{document}"
    );
}

#[tokio::test]
async fn a_missing_field_is_422() {
    let document = problem(send(&router(), post("/orders", "{}")).await, 422, "invalid_body").await;
    assert!(
        document["detail"]
            .as_str()
            .unwrap()
            .contains("missing field `name`"),
        "{document}"
    );
}

#[tokio::test]
async fn deep_json_is_refused_without_overflowing_the_stack() {
    let deep = "[".repeat(200_000);
    problem(
        send(&router(), post("/orders", deep.clone())).await,
        422,
        "invalid_body",
    )
    .await;
    let problem = parse_json::<Value>(deep.as_bytes()).unwrap_err();
    assert_eq!(problem.code(), "invalid_json");
}

#[tokio::test]
async fn another_content_type_is_415() {
    for content_type in ["text/plain", "application/jsonx", "multipart/form-data"] {
        let request = Request::post("/orders").header("content-type", content_type);
        let response = send(&router(), request.body(Body::from("{}")).unwrap()).await;
        problem(response, 415, "unsupported_media_type").await;
    }
    let bare = Request::post("/orders").body(Body::from("{}")).unwrap();
    problem(send(&router(), bare).await, 415, "unsupported_media_type").await;
}

#[tokio::test]
async fn json_types_with_parameters_and_suffixes_are_taken() {
    for content_type in [
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/ld+json",
    ] {
        let request = Request::post("/orders").header("content-type", content_type);
        let response = send(
            &router(),
            request.body(Body::from(r#"{"name":"a","lines":[]}"#)).unwrap(),
        )
        .await;
        assert_eq!(response.status(), 200, "{content_type}");
    }
}

/// A body of 64 KiB chunks that counts how many were asked for.
fn counted_body(chunks: usize) -> (Body, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let stream = futures::stream::iter((0..chunks).map(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 1 << 16]))
    }));
    (Body::from_stream(stream), asked)
}

#[tokio::test]
async fn a_hundred_megabytes_are_413_and_never_buffered() {
    let (body, asked) = counted_body(1600);
    problem(
        send(&router(), post("/orders", body)).await,
        413,
        "body_too_large",
    )
    .await;
    assert!(
        asked.load(Ordering::Relaxed) <= 17,
        "{asked:?} chunks of 64 KiB were read for a limit of 1 MiB"
    );
}

#[tokio::test]
async fn an_announced_hundred_megabytes_are_413_before_the_first_byte() {
    let (body, asked) = counted_body(1600);
    let mut request = post("/orders", body);
    request
        .headers_mut()
        .insert("content-length", "104857600".parse().unwrap());
    problem(send(&router(), request).await, 413, "body_too_large").await;
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_passes() {
    let router = service("sample").into_router(&Limits::default().with_max_body_bytes(100));
    let fill = " ".repeat(100 - r#"{"name":"a","lines":[]}"#.len());
    let body = format!(r#"{{"name":"a","lines":[]}}{fill}"#);
    assert_eq!(send(&router, post("/orders", body.clone())).await.status(), 200);
    problem(
        send(&router, post("/orders", body + " ")).await,
        413,
        "body_too_large",
    )
    .await;
}

#[tokio::test]
async fn parameters_that_do_not_parse_are_400() {
    problem(
        send(&router(), get("/orders/x?limit=1")).await,
        400,
        "invalid_path",
    )
    .await;
    problem(
        send(&router(), get("/orders/1?limit=x")).await,
        400,
        "invalid_query",
    )
    .await;
    problem(send(&router(), get("/orders/1")).await, 400, "invalid_query").await;
    assert_eq!(text(send(&router(), get("/orders/1?limit=2")).await).await, "3");
}

#[tokio::test]
async fn unknown_route_is_404_and_wrong_method_405_with_allow() {
    problem(send(&router(), get("/nothing")).await, 404, "unknown_route").await;
    let response = send(&router(), get("/orders")).await;
    assert_eq!(response.headers()["allow"], "POST");
    problem(response, 405, "method_not_allowed").await;
}

#[tokio::test]
async fn panics_and_causes_stay_inside() {
    for path in ["/panic", "/broken"] {
        let document = problem(send(&router(), get(path)).await, 500, "internal").await;
        assert!(!document.to_string().contains("secret"), "{document}");
    }
}

#[tokio::test]
async fn a_slow_handler_is_504_unless_its_path_may_be_slow() {
    let router = service("sample").into_router(&Limits::default().with_timeout(Duration::from_millis(20)));
    problem(send(&router, get("/slow")).await, 504, "timeout").await;
    assert_eq!(send(&router, get("/patient")).await.status(), 200);
}

#[tokio::test]
async fn path_limits_hold_under_a_prefix() {
    let inner = service("sample").into_router(&Limits::default().with_timeout(Duration::from_millis(20)));
    let router = Router::new().nest("/mounted", inner);
    problem(send(&router, get("/mounted/slow")).await, 504, "timeout").await;
    assert_eq!(send(&router, get("/mounted/patient")).await.status(), 200);
}

#[tokio::test]
async fn a_full_service_sheds_load_but_stays_observable() {
    let router = service("sample").into_router(&Limits::default().with_max_concurrent(1));
    let busy = tokio::spawn({
        let router = router.clone();
        async move { send(&router, get("/slow")).await.status() }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let response = send(&router, get("/orders/1?limit=2")).await;
    assert_eq!(response.headers()["retry-after"], "1");
    let document = problem(response, 503, "overloaded").await;
    assert_eq!(document["retry_after_s"], 1);
    assert_eq!(send(&router, get("/healthz")).await.status(), 200);
    assert_eq!(send(&router, get("/metrics")).await.status(), 200);
    assert_eq!(busy.await.unwrap(), 200);
    assert_eq!(
        send(&router, get("/orders/1?limit=2")).await.status(),
        200,
        "the place is free again"
    );
}

#[tokio::test]
async fn rejections_of_plain_axum_extractors_are_problems_too() {
    let document = problem(send(&router(), post("/plain", "{]")).await, 400, "rejected").await;
    assert!(
        document["detail"].as_str().unwrap().contains("JSON"),
        "{document}"
    );
}

#[tokio::test]
async fn state_depends_on_the_task_and_readiness_says_what_is_missing() {
    let request = Request::get("/state")
        .header("x-task-state", "task-7")
        .body(Body::empty())
        .unwrap();
    assert_eq!(
        text(send(&router(), request).await).await,
        r#"{"sample":{"task":"task-7"}}"#
    );
    let waiting = Service::new("waiting", 1, OpenApiRouter::new(), Arc::new(Waiting));
    let both = Service::combine("both", 2, [service("sample"), waiting]).into_router(&Limits::default());
    let state: Value = serde_json::from_str(&text(send(&both, get("/state")).await).await).unwrap();
    assert_eq!(
        state,
        serde_json::json!({"sample": {"task": null}, "waiting": true})
    );
    let document = problem(send(&both, get("/readyz")).await, 503, "not_ready").await;
    assert_eq!(document["detail"], "the store is not open yet");
}

#[tokio::test]
async fn a_good_request_id_is_kept_and_a_bad_one_replaced() {
    for (sent, kept) in [("abc-1", true), (&"x".repeat(129), false), ("a b", false)] {
        let request = Request::get("/healthz")
            .header("x-request-id", sent)
            .body(Body::empty())
            .unwrap();
        let response = send(&router(), request).await;
        assert_eq!(response.headers()["x-request-id"] == *sent, kept, "{sent}");
    }
}

#[tokio::test]
async fn a_handler_may_choose_its_own_caching() {
    let routes = OpenApiRouter::new().route(
        "/asset",
        on_get(|| async { ([("cache-control", "max-age=60")], "asset").into_response() }),
    );
    let router = Service::new("assets", 1, routes, Arc::new(Waiting)).into_router(&Limits::default());
    assert_eq!(
        send(&router, get("/asset")).await.headers()["cache-control"],
        "max-age=60"
    );
}

#[test]
fn constructors_carry_their_status_and_round_trip_through_json() {
    let all = [
        (400, Problem::bad_request("a", "b")),
        (401, Problem::unauthorized()),
        (403, Problem::forbidden("a", "b")),
        (404, Problem::not_found("a", "b").about("/tasks/1")),
        (409, Problem::conflict("a", "b")),
        (412, Problem::precondition_failed("a", "b")),
        (413, Problem::payload_too_large("a", "b")),
        (422, Problem::unprocessable("a", "b").at("/x~1y")),
        (429, Problem::too_many("a", "b", 7)),
        (500, Problem::internal("cause")),
        (503, Problem::unavailable("a", "b")),
    ];
    for (status, problem) in all {
        assert_eq!(problem.status().as_u16(), status);
        let text = serde_json::to_string(&problem).unwrap();
        assert_eq!(serde_json::from_str::<Problem>(&text).unwrap(), problem);
    }
    assert!(size_of::<Problem>() <= 128, "a Result with a Problem stays small");
}

proptest! {
    /// No bytes make the parser panic, and a refusal is always a 400 or a 422.
    #[test]
    fn any_bytes_are_a_value_or_a_4xx(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        if let Err(problem) = parse_json::<crate::sample::Order>(&bytes) {
            prop_assert!(matches!(problem.status().as_u16(), 400 | 422));
        }
    }

    /// A pointer, followed in the document that was refused, leads to the wrong value (RFC 6901).
    #[test]
    fn a_pointer_leads_to_the_wrong_value(key in "[a-z~/]{1,6}", before in 0usize..4) {
        let mut list = vec![serde_json::json!(1); before];
        list.push(serde_json::json!("wrong"));
        let document = serde_json::json!({ key: list });
        let text = serde_json::to_vec(&document).unwrap();
        let refused = parse_json::<std::collections::BTreeMap<String, Vec<u8>>>(&text).unwrap_err();
        prop_assert_eq!(document.pointer(refused.pointer().unwrap()), Some(&serde_json::json!("wrong")));
    }
}
