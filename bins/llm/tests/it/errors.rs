//! What cannot be done, and how it is said.

use aion_llm_server::{LlmOptions, service_loading};
use aion_service::Limits;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{engine, post, ready, send, wait_until_ready};

const CHAT: &str = "/v1/chat/completions";

fn hello() -> Value {
    json!({"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4})
}

#[tokio::test]
async fn bad_requests_say_what_and_where() {
    let router = ready(LlmOptions::default()).await;
    let image = json!([{"type": "image_url", "image_url": {"url": "x"}}]);
    let deep = (0..80).fold(json!({}), |inner, _| json!({"items": inner}));
    let schema = |schema: Value| json!({"type": "json_schema", "json_schema": {"schema": schema}});
    let cases = [
        ("n", json!(2), 400, "unsupported_value"),
        ("temperature", json!(-1), 400, "invalid_value"),
        ("temperature", json!("hot"), 422, "invalid_body"),
        ("top_p", json!(0), 400, "invalid_value"),
        ("stop", json!([""]), 400, "invalid_value"),
        ("max_tokens", json!(0), 400, "invalid_value"),
        ("messages", json!([]), 400, "invalid_value"),
        ("messages", json!([{"content": "x"}]), 400, "invalid_body"),
        (
            "messages",
            json!([{"role": "user", "content": image}]),
            400,
            "unsupported_content",
        ),
        (
            "messages",
            json!([{"role": "user", "content": "long ".repeat(400)}]),
            400,
            "context_length_exceeded",
        ),
        ("response_format", json!({"type": "yaml"}), 400, "invalid_value"),
        (
            "response_format",
            schema(json!({"$ref": "#/nothing"})),
            400,
            "invalid_schema",
        ),
        ("response_format", schema(deep), 400, "invalid_schema"),
        ("tool_choice", json!("required"), 400, "invalid_value"),
    ];
    for (field, value, status, code) in cases {
        let mut body = hello();
        body[field] = value.clone();
        let (got, problem) = post(&router, CHAT, &body).await;
        assert_eq!(
            (got.as_u16(), &problem["code"]),
            (status, &json!(code)),
            "{field} = {value}: {problem}"
        );
        assert_eq!(problem["error"]["code"], code);
        assert_eq!(problem["error"]["type"], "invalid_request_error");
        assert!(!problem["error"]["message"].as_str().unwrap().is_empty());
        assert!(problem["trace_id"].is_string(), "{problem}");
    }
    let mut streamed = hello();
    streamed["stream"] = true.into();
    streamed["response_format"] = schema(json!({"$ref": "#/nothing"}));
    let (status, _) = post(&router, CHAT, &streamed).await;
    assert_eq!(
        status,
        StatusCode::BAD_REQUEST,
        "a stream that cannot begin is an error, not a stream"
    );
}

#[tokio::test]
async fn other_endpoints_refuse_too() {
    let router = ready(LlmOptions::default()).await;
    let cases = [
        ("/v1/completions", json!({"prompt": ["a", "b"]})),
        ("/v1/completions", json!({"prompt": "a", "echo": true})),
        ("/v1/completions", json!({"prompt": [1_000_000]})),
        ("/v1/responses", json!({"input": []})),
        (
            "/v1/responses",
            json!({"input": "x", "previous_response_id": "resp-1"}),
        ),
        ("/v1/embeddings", json!({"input": []})),
        ("/v1/embeddings", json!({"input": ""})),
        ("/v1/score", json!({"input": ""})),
    ];
    for (path, body) in cases {
        let (status, problem) = post(&router, path, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path} {body}: {problem}");
    }
    let response = send(&router, Method::GET, "/v1/models/other", &Value::Null).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    let huge = json!({"input": "x".repeat(17 << 20)});
    let (status, problem) = post(&router, "/v1/score", &huge).await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::PAYLOAD_TOO_LARGE, &json!("body_too_large"))
    );
}

#[tokio::test]
async fn a_model_that_is_being_loaded_says_so() {
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let load = move || {
        gate.recv().map_err(|error| error.to_string())?;
        Ok(engine())
    };
    let router = service_loading(load, LlmOptions::default()).into_router(&Limits::default());
    let (status, problem) = post(&router, CHAT, &hello()).await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("model_loading"))
    );
    let ready = send(&router, Method::GET, "/readyz", &Value::Null).await;
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    open.send(()).unwrap();
    wait_until_ready(&router).await;
    assert_eq!(post(&router, CHAT, &hello()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_says_why() {
    let load = || Err("the file is gone".to_owned());
    let router = service_loading(load, LlmOptions::default()).into_router(&Limits::default());
    let problem = loop {
        let (status, problem) = post(&router, CHAT, &hello()).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        if problem["code"] != "model_loading" {
            break problem;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    assert_eq!(problem["code"], "model_missing");
    assert!(problem["detail"].as_str().unwrap().contains("the file is gone"));
}
