//! Prometheus metrics: one recorder per process, one label per service.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use metrics::{Recorder, counter, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// Requests by service, method, path pattern and status.
pub const REQUESTS_TOTAL: &str = "http_requests_total";
/// Time until the response began, in seconds, by service, method and path pattern.
pub const REQUEST_SECONDS: &str = "http_request_duration_seconds";
/// Requests that have no response yet, by service.
pub const IN_FLIGHT: &str = "http_requests_in_flight";

const BUCKETS_S: [f64; 12] = [
    0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0,
];
/// Raw histogram samples are folded into buckets this often, so that they never pile up unscraped.
const UPKEEP_EVERY: u64 = 1024;

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
static RECORDED: AtomicU64 = AtomicU64::new(0);

/// The process's recorder. The first caller installs it; where the program has installed another
/// recorder before, ours still renders (and stays empty), and the program's own exporter has the data.
pub(crate) fn handle() -> &'static PrometheusHandle {
    RECORDER.get_or_init(|| {
        let recorder = build();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed; /metrics stays empty");
        }
        handle
    })
}

fn build() -> PrometheusRecorder {
    let builder = PrometheusBuilder::new();
    // The only failure is an empty list of buckets.
    let builder = builder
        .set_buckets(&BUCKETS_S)
        .unwrap_or_else(|_| PrometheusBuilder::new());
    let recorder = builder.build_recorder();
    recorder.describe_counter(REQUESTS_TOTAL.into(), None, "Requests answered.".into());
    recorder.describe_histogram(
        REQUEST_SECONDS.into(),
        None,
        "Seconds until the response began.".into(),
    );
    recorder.describe_gauge(IN_FLIGHT.into(), None, "Requests without a response yet.".into());
    recorder
}

/// The metrics of the process as Prometheus text.
pub(crate) fn render() -> String {
    handle().render()
}

/// Counts a request as running until dropped, also when its client goes away.
#[derive(Debug)]
pub(crate) struct InFlight(&'static str);

impl InFlight {
    pub(crate) fn enter(service: &'static str) -> Self {
        gauge!(IN_FLIGHT, "service" => service).increment(1.0);
        Self(service)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        gauge!(IN_FLIGHT, "service" => self.0).decrement(1.0);
    }
}

/// Records one answered request. `path` is the matched pattern, so that labels stay few.
pub(crate) fn record(service: &'static str, method: &Method, path: &str, status: StatusCode, took: Duration) {
    let (method, path) = (method_label(method), path.to_owned());
    let status = status.as_str().to_owned();
    counter!(REQUESTS_TOTAL, "service" => service, "method" => method, "path" => path.clone(), "status" => status)
        .increment(1);
    histogram!(REQUEST_SECONDS, "service" => service, "method" => method, "path" => path)
        .record(took.as_secs_f64());
    if RECORDED.fetch_add(1, Ordering::Relaxed) % UPKEEP_EVERY == UPKEEP_EVERY - 1 {
        handle().run_upkeep();
    }
}

/// Clients choose the method, so that only the known ones become labels.
fn method_label(method: &Method) -> &'static str {
    const KNOWN: [(&Method, &str); 7] = [
        (&Method::GET, "GET"),
        (&Method::POST, "POST"),
        (&Method::PUT, "PUT"),
        (&Method::PATCH, "PATCH"),
        (&Method::DELETE, "DELETE"),
        (&Method::HEAD, "HEAD"),
        (&Method::OPTIONS, "OPTIONS"),
    ];
    KNOWN
        .iter()
        .find(|(known, _)| *known == method)
        .map_or("other", |(_, label)| *label)
}
