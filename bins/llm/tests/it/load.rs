//! Many clients at once: what they share, who is turned away, and what is left when they go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aion_llm::testkit::{Faults, TinyModel};
use aion_llm::{Engine, EngineOptions, EngineStats};
use aion_llm_server::{LlmOptions, service};
use aion_service::{Access, ApiKey, Limits, ServeOptions, Server, protect};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::{ok, post, ready, send, text, wait_until_ready};

/// A service whose model never ends a text by itself, with the engine and its faults.
async fn held(options: EngineOptions, queue: usize) -> (axum::Router, Engine, Arc<Faults>) {
    let faults = Faults::new();
    let options = options.with_threads(1).with_faults(Arc::clone(&faults));
    let engine = Engine::load(&TinyModel::random(1).endless().source(), options).unwrap();
    let service = service(engine.clone(), LlmOptions::default().with_queue(queue));
    let router = service.into_router(&Limits::default());
    wait_until_ready(&router).await;
    (router, engine, faults)
}

async fn until(engine: &Engine, what: impl Fn(&EngineStats) -> bool) -> EngineStats {
    let begun = Instant::now();
    loop {
        let stats = engine.stats();
        if what(&stats) {
            return stats;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{stats:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn stream(tokens: usize) -> Value {
    json!({"prompt": "the inn", "max_tokens": tokens, "stream": true, "logprobs": 0})
}

const COMPLETIONS: &str = "/v1/completions";

/// A client that reads nothing holds a place and nobody up; the queue fills, the next request is turned away, and when
/// the client goes the one that waited is served.
#[tokio::test]
async fn a_full_queue_says_when_to_come_back() {
    let (router, engine, faults) = held(EngineOptions::default().with_sequences(1), 1).await;
    let short = json!({"prompt": "the inn", "max_tokens": 4});
    faults.hold();
    faults.allow(3);
    let mut slow = send(&router, Method::POST, COMPLETIONS, &stream(400)).await;
    assert!(slow.body_mut().frame().await.is_some());
    let waiting = tokio::spawn({
        let (router, short) = (router.clone(), short.clone());
        async move { post(&router, COMPLETIONS, &short).await.0 }
    });
    until(&engine, |stats| stats.waiting == 1).await;
    let turned_away = send(&router, Method::POST, COMPLETIONS, &short).await;
    assert_eq!(turned_away.status(), StatusCode::TOO_MANY_REQUESTS);
    let seconds: u32 = turned_away.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&seconds));
    let problem: Value = serde_json::from_str(&text(turned_away).await).unwrap();
    assert_eq!(problem["error"]["type"], "rate_limit_error");
    assert_eq!(problem["code"], "queue_full");
    drop(slow);
    faults.release();
    assert_eq!(waiting.await.unwrap(), StatusCode::OK);
    until(&engine, |stats| (stats.cancelled, stats.completed) == (1, 1)).await;
}

/// The prompts of one request get in together or not at all: no stream begins that would have to break off.
#[tokio::test]
async fn several_prompts_are_one_request() {
    let (router, engine, faults) = held(EngineOptions::default().with_sequences(1), 2).await;
    faults.hold();
    let running = tokio::spawn({
        let router = router.clone();
        async move {
            post(
                &router,
                COMPLETIONS,
                &json!({"prompt": "the inn", "max_tokens": 4}),
            )
            .await
            .0
        }
    });
    until(&engine, |stats| stats.reading == 1).await;
    let prompts = |n: usize, stream: bool| {
        let prompts: Vec<String> = (0..n).map(|i| format!("the inn {i}")).collect();
        json!({"prompt": prompts, "max_tokens": 4, "stream": stream})
    };
    for stream in [true, false] {
        let (status, problem) = post(&router, COMPLETIONS, &prompts(3, stream)).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::TOO_MANY_REQUESTS, &json!("queue_full"))
        );
        let (status, problem) = post(&router, COMPLETIONS, &prompts(4, stream)).await;
        assert_eq!(
            (status, &problem["error"]["param"]),
            (StatusCode::BAD_REQUEST, &json!("prompt"))
        );
        let mut one_is_bad = prompts(2, stream);
        one_is_bad["prompt"][1] = "long ".repeat(400).into();
        let (status, problem) = post(&router, COMPLETIONS, &one_is_bad).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::BAD_REQUEST, &json!("context_length_exceeded"))
        );
    }
    assert_eq!((engine.stats().waiting, engine.stats().requests), (0, 1));
    faults.release();
    assert_eq!(running.await.unwrap(), StatusCode::OK);
    let both = ok(&router, COMPLETIONS, &prompts(2, false)).await;
    assert_eq!(both["choices"].as_array().unwrap().len(), 2);
    let state = send(&router, Method::GET, "/state", &Value::Null).await;
    let state: Value = serde_json::from_str(&text(state).await).unwrap();
    assert_eq!(
        (&state["llm"]["requests"], &state["llm"]["completed"]),
        (&json!(2), &json!(3))
    );
}

/// Whoever names its user gets its turn before another user's second request.
#[tokio::test]
async fn users_take_turns() {
    for name in ["user", "safety_identifier", "prompt_cache_key"] {
        let (router, engine, faults) = held(EngineOptions::default().with_sequences(1), 16).await;
        faults.hold();
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut all = Vec::new();
        for (i, who) in ["anna", "anna", "anna", "ben"].into_iter().enumerate() {
            let (router, order) = (router.clone(), Arc::clone(&order));
            let mut body = json!({"prompt": "the inn", "max_tokens": 20});
            body[name] = who.into();
            all.push(tokio::spawn(async move {
                ok(&router, COMPLETIONS, &body).await;
                order.lock().unwrap().push(i);
            }));
            until(&engine, |stats| stats.reading + stats.waiting == i + 1).await;
        }
        faults.release();
        for one in all {
            one.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [0, 1, 3, 2], "{name}");
        let (status, problem) = post(&router, COMPLETIONS, &json!({"prompt": "x", name: 5})).await;
        assert_eq!(
            (status, &problem["error"]["param"]),
            (StatusCode::BAD_REQUEST, &json!(name))
        );
    }
}

/// A hundred connections, cut while their texts are being made or wait, leave no work behind.
#[tokio::test]
async fn a_hundred_dropped_connections_leave_nothing() {
    let (router, engine, faults) = held(EngineOptions::default().with_sequences(10), 200).await;
    let server = Server::bind(router, ServeOptions::loopback(0)).await.unwrap();
    let addr = server.local_addr();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async move { drop(stopped.await) }));
    faults.hold();
    let body = stream(480).to_string();
    let request = format!(
        "POST {COMPLETIONS} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut sockets = Vec::new();
    for _ in 0..100 {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        sockets.push(socket);
    }
    until(&engine, |stats| stats.waiting + stats.reading == 100).await;
    faults.allow(30);
    let mut streaming = vec![false; sockets.len()];
    let begun = Instant::now();
    while streaming.iter().filter(|begun| **begun).count() < 10 {
        for (socket, streaming) in sockets.iter().zip(&mut streaming) {
            let mut start = [0u8; 64];
            if let Ok(read) = socket.try_read(&mut start) {
                assert!(*streaming || start[..read].starts_with(b"HTTP/1.1 200"));
                *streaming = true;
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(sockets);
    faults.release();
    let stats = until(&engine, |stats| {
        stats.waiting + stats.reading + stats.writing == 0
    })
    .await;
    assert_eq!((stats.cancelled, stats.completed, stats.failed), (100, 0, 0));
    assert_eq!((stats.cache.reserved, stats.cache.used), (0, 0));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(engine.stats().passes, stats.passes, "nothing runs for nobody");
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_panic_of_the_model_is_one_clients_trouble() {
    let (router, _, faults) = held(EngineOptions::default(), 16).await;
    let ask = |prompt: &str| json!({"prompt": prompt, "max_tokens": 4});
    faults.panic_at(b'!'.into());
    let (status, problem) = post(&router, COMPLETIONS, &ask("boom!")).await;
    assert_eq!(
        (status, &problem["error"]["type"]),
        (StatusCode::INTERNAL_SERVER_ERROR, &json!("server_error"))
    );
    assert!(
        !problem.to_string().contains("asked for"),
        "the cause is for the log: {problem}"
    );
    ok(&router, COMPLETIONS, &ask("the inn")).await;
    ok(&router, "/v1/embeddings", &json!({"input": "the inn"})).await;
    assert_eq!(
        post(&router, "/v1/score", &json!({"input": "boom!"})).await.0,
        StatusCode::INTERNAL_SERVER_ERROR
    );
}

#[tokio::test]
async fn what_can_never_fit_is_a_bad_request() {
    let (router, _, _) = held(EngineOptions::default().with_cache_bytes(80_000), 16).await;
    let (status, problem) = post(&router, COMPLETIONS, &json!({"prompt": "x", "max_tokens": 500})).await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::BAD_REQUEST, &json!("cache_memory_exceeded"))
    );
    assert_eq!(problem["error"]["param"], "max_tokens");
    assert!(problem["detail"].as_str().unwrap().contains("MiB"), "{problem}");
}

#[tokio::test]
async fn a_prompt_that_comes_again_is_found_in_the_cache() {
    let router = ready(LlmOptions::default()).await;
    let words = "the river and the inn and the ferry ".repeat(6);
    let chat = |last: &str| {
        json!({"messages": [{"role": "system", "content": words}, {"role": "user", "content": last}],
            "temperature": 0, "max_tokens": 4})
    };
    let cached = |reply: &Value| {
        reply["usage"]["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap()
    };
    let first = ok(&router, "/v1/chat/completions", &chat("who?")).await;
    assert_eq!(cached(&first), 0);
    let second = ok(&router, "/v1/chat/completions", &chat("where?")).await;
    assert!(cached(&second) >= 128, "{}", second["usage"]);
    let again = ok(&router, "/v1/chat/completions", &chat("who?")).await;
    assert!(cached(&again) >= 128 && again["choices"][0]["message"] == first["choices"][0]["message"]);
    let get = async |path: &str| text(send(&router, Method::GET, path, &Value::Null).await).await;
    let state: Value = serde_json::from_str(&get("/state").await).unwrap();
    let prefix = &state["llm"]["prefix_cache"];
    assert_eq!((&prefix["hits"], &prefix["misses"]), (&json!(2), &json!(1)));
    assert_eq!(prefix["reused_tokens"], cached(&second) + cached(&again));
    assert!(state["llm"]["cache_bytes"]["kept"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn prometheus_sees_the_load() {
    let router = ready(LlmOptions::default()).await;
    ok(
        &router,
        COMPLETIONS,
        &json!({"prompt": "the inn", "max_tokens": 9, "temperature": 0}),
    )
    .await;
    let metrics = text(send(&router, Method::GET, "/metrics", &Value::Null).await).await;
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {metrics}"))
            .trim()
            .parse::<f64>()
            .unwrap()
    };
    for (name, least) in [
        ("aion_llm_completion_tokens_total", 1.0),
        ("aion_llm_prompt_tokens_total{source=\"computed\"}", 4.0),
        ("aion_llm_requests_total{outcome=\"completed\"}", 1.0),
        ("aion_llm_requests_total{outcome=\"refused\"}", 0.0),
        ("aion_llm_passes_total", 2.0),
        ("aion_llm_prefix_lookups_total{result=\"miss\"}", 1.0),
        ("aion_llm_queue_depth", 0.0),
        ("aion_llm_active_sequences{state=\"writing\"}", 0.0),
        ("aion_llm_cache_bytes{kind=\"limit\"}", 1.0),
        ("aion_llm_time_to_first_token_seconds_count", 1.0),
        ("aion_llm_inter_token_seconds_count", 1.0),
    ] {
        assert!(value(name) >= least, "{name}: {}", value(name));
    }
}

const KEY: &str = "a key for the tests";

#[tokio::test]
async fn the_dashboard_is_a_page_on_its_own() {
    let key = ApiKey::new(&KEY.into()).unwrap();
    let router = protect(ready(LlmOptions::default()).await, Access::Key(key));
    let response = send(&router, Method::GET, "/dashboard", &Value::Null).await;
    assert_eq!(response.status(), StatusCode::OK, "the page needs no key");
    assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    let policy = response.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"));
    let page = text(response).await;
    for wrong in [
        "innerHTML",
        "http:",
        "https:",
        "<link",
        "src=",
        "eval(",
        "onclick",
        "style=\"",
    ] {
        assert!(!page.contains(wrong), "{wrong}");
    }
    assert_eq!(page.matches("<script>").count(), 1);
    let state = send(&router, Method::GET, "/state", &Value::Null).await;
    assert_eq!(state.status(), StatusCode::UNAUTHORIZED, "what it shows does");
    let script = page
        .split_once("<script>")
        .unwrap()
        .1
        .split_once("</script>")
        .unwrap()
        .0;
    parses(script);
}

/// Where node is, the script is checked by it.
fn parses(script: &str) {
    let path = std::env::temp_dir().join(format!("aion-dashboard-{}.js", std::process::id()));
    std::fs::write(&path, script).unwrap();
    let checked = std::process::Command::new("node")
        .arg("--check")
        .arg(&path)
        .output();
    std::fs::remove_file(&path).unwrap();
    match checked {
        Ok(output) => assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(_) => eprintln!("skipped: no node, so the script was not parsed"),
    }
}
