//! A sentence encoder beside the model: who waits for it, who is turned away, and what is left when an asker goes.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use aion_llm_server::{LlmOptions, TextEncoder, service_with_encoder};
use aion_service::Limits;
use axum::Router;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{engine, ok, post, send, text, wait_until_ready};

const EMBEDDINGS: &str = "/v1/embeddings";

/// Encodes when it is let, and notes what it was given.
#[derive(Debug, Default)]
struct Slow {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Calls that may end.
    allowed: usize,
    /// Texts of the calls that began.
    texts: Vec<String>,
    calls: usize,
}

impl Slow {
    fn allow(&self, calls: usize) {
        self.state.lock().unwrap().allowed += calls;
        self.changed.notify_all();
    }

    fn texts(&self) -> Vec<String> {
        self.state.lock().unwrap().texts.clone()
    }

    async fn until(&self, what: impl Fn(&State) -> bool) {
        let begun = Instant::now();
        while !what(&self.state.lock().unwrap()) {
            assert!(begun.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl TextEncoder for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    fn dimensions(&self) -> usize {
        1
    }

    fn encode(&self, texts: &[&str]) -> Result<(Vec<Vec<f32>>, usize), String> {
        let mut state = self.state.lock().unwrap();
        state.calls += 1;
        state.texts.extend(texts.iter().map(|text| (*text).to_owned()));
        while state.allowed == 0 {
            state = self.changed.wait(state).unwrap();
        }
        state.allowed -= 1;
        if texts.contains(&"panic") {
            drop(state);
            panic!("as asked");
        }
        Ok((texts.iter().map(|_| vec![1.0]).collect(), texts.len()))
    }
}

/// One request at a time, and one that waits.
async fn narrow() -> (Router, Arc<Slow>) {
    let slow = Arc::new(Slow::default());
    let options = LlmOptions::default().with_encodings(1).with_queue(1);
    let service = service_with_encoder(|| Ok(engine()), options, Some(slow.clone()));
    let router = service.into_router(&Limits::default());
    wait_until_ready(&router).await;
    (router, slow)
}

fn asked(router: &Router, input: Value) -> tokio::task::JoinHandle<(StatusCode, Value)> {
    let router = router.clone();
    tokio::spawn(async move { post(&router, EMBEDDINGS, &json!({ "input": input })).await })
}

#[tokio::test]
async fn those_that_find_no_place_are_told_when_to_come_back() {
    let (router, slow) = narrow().await;
    let first = asked(&router, json!("first"));
    slow.until(|state| state.calls == 1).await;
    let second = asked(&router, json!("second"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let third = json!({"input": "third"});
    let turned_away = send(&router, Method::POST, EMBEDDINGS, &third).await;
    assert_eq!(turned_away.status(), StatusCode::TOO_MANY_REQUESTS);
    let seconds: u32 = turned_away.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&seconds));
    slow.allow(usize::MAX);
    assert_eq!(first.await.unwrap().0, StatusCode::OK);
    assert_eq!(second.await.unwrap().0, StatusCode::OK);
    assert_eq!(slow.texts(), ["first", "second"]);
    let problem: Value = serde_json::from_str(&text(turned_away).await).unwrap();
    assert_eq!(problem["error"]["code"], "queue_full");
    ok(&router, EMBEDDINGS, &json!({"input": "fifth"})).await;
}

fn asked_by(router: &Router, user: &'static str, input: &'static str) -> tokio::task::JoinHandle<StatusCode> {
    let router = router.clone();
    let body = json!({"input": input, "user": user});
    tokio::spawn(async move { post(&router, EMBEDDINGS, &body).await.0 })
}

/// Clients that wait get turns one after the other, and who goes away loses its own alone.
#[tokio::test]
async fn one_client_with_many_texts_keeps_nobody_out() {
    let slow = Arc::new(Slow::default());
    let options = LlmOptions::default().with_encodings(1).with_queue(4);
    let service = service_with_encoder(|| Ok(engine()), options, Some(slow.clone()));
    let router = service.into_router(&Limits::default());
    wait_until_ready(&router).await;
    let mut asked = vec![asked_by(&router, "greedy", "first")];
    slow.until(|state| state.calls == 1).await;
    for (user, input) in [
        ("greedy", "a"),
        ("greedy", "gone"),
        ("greedy", "b"),
        ("modest", "c"),
    ] {
        asked.push(asked_by(&router, user, input));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let gone = asked.remove(2);
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    slow.allow(usize::MAX);
    for reply in asked {
        assert_eq!(reply.await.unwrap(), StatusCode::OK);
    }
    assert_eq!(slow.texts(), ["first", "a", "c", "b"]);
}

#[tokio::test]
async fn a_length_that_no_vector_has_is_refused_before_the_work() {
    let (router, slow) = narrow().await;
    let body = json!({"input": "x", "dimensions": 2});
    let (status, problem) = post(&router, EMBEDDINGS, &body).await;
    assert_eq!(
        (status, &problem["error"]["param"]),
        (StatusCode::BAD_REQUEST, &json!("dimensions"))
    );
    assert!(slow.texts().is_empty());
}

#[tokio::test]
async fn what_nobody_waits_for_is_not_encoded() {
    let (router, slow) = narrow().await;
    let many: Vec<String> = (0..40).map(|i| format!("text {i}")).collect();
    let leaves_early = asked(&router, json!(many));
    slow.until(|state| state.calls == 1).await;
    let leaves_before = asked(&router, json!("never"));
    tokio::time::sleep(Duration::from_millis(20)).await;
    leaves_before.abort();
    leaves_early.abort();
    assert!(
        leaves_before.await.unwrap_err().is_cancelled() && leaves_early.await.unwrap_err().is_cancelled()
    );
    slow.allow(usize::MAX);
    // The one place is free again, and the next text is encoded after a part of the first request only.
    let reply = ok(&router, EMBEDDINGS, &json!({"input": ["last", "of all"]})).await;
    assert_eq!(reply["usage"]["prompt_tokens"], 2);
    let texts = slow.texts();
    assert!(
        texts.len() < 20 && texts.ends_with(&["last".to_owned(), "of all".to_owned()]),
        "{texts:?}"
    );
    assert!(!texts.contains(&"never".to_owned()));
}

#[tokio::test]
async fn an_encoder_that_panics_keeps_no_place() {
    let (router, slow) = narrow().await;
    slow.allow(usize::MAX);
    for _ in 0..5 {
        let (status, problem) = post(&router, EMBEDDINGS, &json!({"input": "panic"})).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{problem}");
    }
    let reply = ok(&router, EMBEDDINGS, &json!({"input": many_texts()})).await;
    assert_eq!(reply["data"].as_array().unwrap().len(), 9);
}

fn many_texts() -> Vec<String> {
    (0..9).map(|i| i.to_string()).collect()
}
