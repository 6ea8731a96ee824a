//! The Prometheus text, read back by a strict little parser.

use std::collections::BTreeMap;

use aion_service::{Limits, Service};

use crate::sample::{get, send, service, text};

/// Samples by series, such as `name{a="b"}`.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut typed = Vec::new();
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(
                ["counter", "gauge", "histogram", "summary"].contains(&kind),
                "{line}"
            );
            typed.push(name.to_owned());
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(
                typed.iter().any(|name| series.starts_with(name.as_str())),
                "no TYPE before {line}"
            );
            let fresh = samples
                .insert(series.to_owned(), value.parse().unwrap())
                .is_none();
            assert!(fresh, "twice: {line}");
        }
    }
    samples
}

async fn scrape(router: &axum::Router) -> BTreeMap<String, f64> {
    let response = send(router, get("/metrics")).await;
    assert!(
        response.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    parse(&text(response).await)
}

fn sum(samples: &BTreeMap<String, f64>, name: &str, labels: &[&str]) -> f64 {
    let wanted = |series: &str| series.starts_with(name) && labels.iter().all(|label| series.contains(label));
    samples
        .iter()
        .filter(|(series, _)| wanted(series))
        .map(|(_, value)| value)
        .sum()
}

#[tokio::test]
async fn two_services_in_one_process_count_apart() {
    let one = service("one").into_router(&Limits::default());
    let two = service("two").into_router(&Limits::default());
    for _ in 0..3 {
        send(&one, get("/orders/1?limit=1")).await;
    }
    send(&one, get("/orders/x?limit=1")).await;
    send(&two, get("/nothing-at-all")).await;
    let samples = scrape(&two).await;
    let orders = "path=\"/orders/{id}\"";
    let of_one = ["service=\"one\"", orders, "status=\"200\""];
    assert_eq!(sum(&samples, "http_requests_total", &of_one), 3.0);
    assert_eq!(
        sum(
            &samples,
            "http_requests_total",
            &["service=\"one\"", "status=\"400\""]
        ),
        1.0
    );
    assert_eq!(
        sum(
            &samples,
            "http_requests_total",
            &["service=\"two\"", "path=\"unmatched\""]
        ),
        1.0
    );
    let timed = ["service=\"one\"", orders];
    assert_eq!(sum(&samples, "http_request_duration_seconds_count", &timed), 4.0);
    let infinity = ["service=\"one\"", orders, "le=\"+Inf\""];
    assert_eq!(
        sum(&samples, "http_request_duration_seconds_bucket", &infinity),
        4.0
    );
}

#[tokio::test]
async fn in_flight_returns_to_zero_also_when_the_client_leaves() {
    let router = service("leaving").into_router(&Limits::default());
    let request = tokio::spawn({
        let router = router.clone();
        async move { send(&router, get("/slow")).await.status() }
    });
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let running = ["service=\"leaving\""];
    assert_eq!(
        sum(&scrape(&router).await, "http_requests_in_flight", &running),
        2.0,
        "it, and the scrape"
    );
    request.abort();
    let _ = request.await;
    assert_eq!(
        sum(&scrape(&router).await, "http_requests_in_flight", &running),
        1.0
    );
}

#[tokio::test]
async fn labels_of_a_combined_service_name_the_part() {
    let whole = Service::combine("whole", 1, [service("part")]).into_router(&Limits::default());
    send(&whole, get("/orders/1?limit=1")).await;
    send(&whole, get("/state")).await;
    let samples = scrape(&whole).await;
    assert_eq!(sum(&samples, "http_requests_total", &["service=\"part\""]), 1.0);
    assert_eq!(
        sum(
            &samples,
            "http_requests_total",
            &["service=\"whole\"", "path=\"/state\""]
        ),
        1.0
    );
}
