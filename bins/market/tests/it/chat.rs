//! The language model over HTTP: what is sent, what is read, what is refused.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aion_market::predict::llm::{LlmBudget, LlmOptions, LlmPredictor};
use aion_market::{Predictor, TaskView};
use aion_market_server::HttpChat;
use aion_types::{PpmDist, Prob, SystemClock, TaskRecord, Timestamp};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use secrecy::SecretString;
use serde_json::{Value, json};

type Asked = Arc<Mutex<Vec<(Option<String>, Value)>>>;

/// How a server answers.
#[derive(Clone)]
struct Server {
    status: StatusCode,
    text: String,
    knows_schemas: bool,
    asked: Asked,
}

async fn answer(
    State(server): State<Server>,
    headers: HeaderMap,
    axum::Json(body): axum::Json<Value>,
) -> (StatusCode, String) {
    let key = headers
        .get("authorization")
        .map(|key| key.to_str().unwrap().to_owned());
    let refused = !server.knows_schemas && !body["response_format"].is_null();
    server.asked.lock().unwrap().push((key, body));
    if refused {
        return (StatusCode::BAD_REQUEST, "unknown field".to_owned());
    }
    (server.status, server.text)
}

/// A server on a port of its own, and its address.
async fn serve(status: u16, text: &str, knows_schemas: bool) -> (String, Asked) {
    let asked = Asked::default();
    let server = Server {
        status: StatusCode::from_u16(status).unwrap(),
        text: text.to_owned(),
        knows_schemas,
        asked: asked.clone(),
    };
    let router = Router::new()
        .route("/v1/chat/completions", post(answer))
        .with_state(server);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (base, asked)
}

fn completion(content: &str) -> String {
    json!({
        "choices": [{"message": {"role": "assistant", "content": content}}],
        "usage": {"total_tokens": 321},
    })
    .to_string()
}

async fn opinion(llm: &LlmPredictor) -> Result<Option<f64>, String> {
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    let task: TaskRecord = serde_json::from_value(json!({
        "id": id, "root_id": id, "depth": 0, "kind": "chat", "queue": "q", "title": "Copy a.txt",
        "spec": "", "status": "READY", "priority": 0, "lease_epoch": 0, "attempt": 1, "max_attempts": 3,
        "crash_count": 0, "open_children": 0, "waiting_on": 0, "version": 1, "created_at": 0,
        "updated_at": 0,
    }))
    .unwrap();
    let view = TaskView::new(&task, &[], Timestamp::from_ms(0));
    let price = PpmDist::binary(Prob::new(0.5).unwrap());
    match llm.predict(&view, &price).await {
        Ok(said) => Ok(said.map(|said| said.success.get())),
        Err(error) => Err(aion_service::chain(&*error)),
    }
}

fn llm(base: &str) -> LlmPredictor {
    let chat = HttpChat::new(base, "small").unwrap();
    let chat = chat.with_key(SecretString::from("sesame"));
    LlmPredictor::new(Arc::new(chat), Arc::new(SystemClock), LlmOptions::default()).unwrap()
}

#[tokio::test]
async fn a_forecast_comes_over_http() {
    let text = completion(r#"{"probabilities": {"SUCCESS": 0.75, "FAILED": 0.25}}"#);
    let (base, asked) = serve(200, &text, true).await;
    let llm = llm(&base);
    assert_eq!(opinion(&llm).await, Ok(Some(0.75)));
    assert_eq!(llm.usage().tokens_today, 321);
    let asked = asked.lock().unwrap();
    let (key, body) = &asked[0];
    assert_eq!(key.as_deref(), Some("Bearer sesame"));
    assert_eq!(
        (&body["model"], &body["max_tokens"]),
        (&json!("small"), &json!(200))
    );
    let schema = &body["response_format"]["json_schema"]["schema"];
    assert_eq!(schema["required"], json!(["probabilities"]));
}

#[tokio::test]
async fn a_server_without_schemas_is_asked_without() {
    let text = completion(r#"{"probabilities": [0.5, 0.5]}"#);
    let (base, asked) = serve(200, &text, false).await;
    let llm = llm(&base);
    for _ in 0..2 {
        assert_eq!(opinion(&llm).await, Ok(Some(0.5)));
    }
    let with_schema = |(_, body): &(_, Value)| !body["response_format"].is_null();
    let asked: Vec<bool> = asked.lock().unwrap().iter().map(with_schema).collect();
    assert_eq!(asked, [true, false, false]);
}

#[tokio::test]
async fn every_other_answer_is_a_reason_and_no_forecast() {
    let long = "x".repeat((1 << 20) + 1);
    for (status, text, reason) in [
        (500, "oops", "answered 500"),
        (401, "who are you", "answered 401"),
        (302, "elsewhere", "answered 302"),
        (200, "<html>", "cannot be read"),
        (200, r#"{"choices": []}"#, "has no text"),
        (
            200,
            r#"{"choices": [{"message": {"content": null}}]}"#,
            "has no text",
        ),
        (200, long.as_str(), "longer than"),
    ] {
        let (base, _) = serve(status, text, true).await;
        let error = opinion(&llm(&base)).await.unwrap_err();
        assert!(error.contains(reason), "{status}: {error}");
        assert!(!error.contains("sesame"), "{error}");
    }
    let error = opinion(&llm("http://127.0.0.1:1/v1")).await.unwrap_err();
    assert!(error.contains("cannot be reached"), "{error}");
}

#[tokio::test]
async fn a_text_that_is_no_forecast_is_refused() {
    for (said, reason) in [
        ("It will surely work.", "no JSON object"),
        (r#"{"p": 1}"#, "no \"probabilities\""),
        (
            r#"{"probabilities": {"SUCCESS": 0.9, "FAILED": 0.9}}"#,
            "sum to 1.8",
        ),
        (
            r#"{"probabilities": {"SUCCESS": "0.9", "FAILED": 0.1}}"#,
            "no number",
        ),
        (r#"{"probabilities": [1]}"#, "1 probabilities for 2 outcomes"),
    ] {
        let (base, _) = serve(200, &completion(said), true).await;
        let llm = llm(&base);
        let error = opinion(&llm).await.unwrap_err();
        assert!(error.contains(reason), "{said}: {error}");
        // It was paid for all the same.
        let usage = llm.usage();
        assert_eq!((usage.calls, usage.failed, usage.tokens_today), (1, 1, 321));
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    let hanging = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await.unwrap());
        }
    });
    let chat = HttpChat::new(&base, "small").unwrap();
    let options = LlmOptions::default().with_timeout(Duration::from_millis(50));
    let llm = LlmPredictor::new(Arc::new(chat), Arc::new(SystemClock), options).unwrap();
    let error = opinion(&llm).await.unwrap_err();
    assert!(error.contains("no answer within 50 ms"), "{error}");
    assert_eq!(llm.usage().failed, 1);
    hanging.abort();
}

#[tokio::test]
async fn a_call_over_the_budget_is_not_made() {
    let text = completion(r#"{"probabilities": [0.5, 0.5]}"#);
    let (base, asked) = serve(200, &text, true).await;
    let chat = HttpChat::new(&base, "small").unwrap();
    let options = LlmOptions::default().with_budget(LlmBudget::default().with_calls_per_day(2));
    let llm = LlmPredictor::new(Arc::new(chat), Arc::new(SystemClock), options).unwrap();
    for expected in [Some(0.5), Some(0.5), None] {
        assert_eq!(opinion(&llm).await, Ok(expected));
    }
    assert_eq!((asked.lock().unwrap().len(), llm.usage().withheld), (2, 1));
}

/// Whoever reads what became of a predictor does not read its address, which may be a key.
#[tokio::test]
async fn a_server_that_is_away_is_not_told_by_its_address() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/sesame/v1", nobody.local_addr().unwrap());
    drop(nobody);
    let told = opinion(&llm(&base)).await.unwrap_err();
    assert!(
        told.contains("cannot be reached") && !told.contains("sesame"),
        "{told}"
    );
}

#[test]
fn the_environment_names_the_server() {
    let set = |name: &str| match name {
        "AION_OPENAI_BASEURL" => Some("http://127.0.0.1:8790/v1".to_owned()),
        "AION_LLM_MODEL_NAME" => Some("small".to_owned()),
        _ => None,
    };
    assert!(HttpChat::from_lookup(set).unwrap().is_some());
    assert!(HttpChat::from_lookup(|_| None).unwrap().is_none());
    let without_model = |name: &str| set(name).filter(|_| name == "AION_OPENAI_BASEURL");
    let error = HttpChat::from_lookup(without_model).unwrap_err();
    assert_eq!(error.to_string(), "AION_MODEL_NAME is not set");
    assert!(HttpChat::new("ftp://x", "m").is_err());
    assert!(
        !format!(
            "{:?}",
            HttpChat::new("http://x", "m").unwrap().with_key("sesame".into())
        )
        .contains("sesame")
    );
}
