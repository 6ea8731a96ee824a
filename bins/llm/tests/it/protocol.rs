//! What the endpoints answer.

use aion_llm_server::LlmOptions;
use base64::Engine as _;
use http::Method;
use serde_json::{Value, json};

use crate::{events, ok, ready, send, text};

fn chat(more: &Value) -> Value {
    let mut body = json!({
        "model": "tiny", "messages": [{"role": "user", "content": "the river"}],
        "temperature": 0.8, "seed": 7, "max_tokens": 20, "logit_bias": {}, "user": "someone",
    });
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    body
}

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn a_chat_reply_has_its_persistence() {
    let router = ready(LlmOptions::default()).await;
    let reply = ok(
        &router,
        CHAT,
        &chat(&json!({"logprobs": true, "top_logprobs": 2})),
    )
    .await;
    assert_eq!(
        (&reply["object"], &reply["model"]),
        (&json!("chat.completion"), &json!("tiny"))
    );
    let choice = &reply["choices"][0];
    assert_eq!(choice["message"]["role"], "assistant");
    assert_eq!(choice["finish_reason"], "length");
    let usage = &reply["usage"];
    assert_eq!(usage["completion_tokens"], 20);
    assert_eq!(usage["persistence"]["n"], 20);
    let logprobs = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!(logprobs.len(), 20);
    assert_eq!(logprobs[3]["top_logprobs"].as_array().unwrap().len(), 2);
    let ratios: Vec<f64> = logprobs
        .iter()
        .map(|token| token["persistence"].as_f64().unwrap())
        .collect();
    let mean = ratios.iter().sum::<f64>() / 20.0;
    assert!((mean - usage["persistence"]["R_mean"].as_f64().unwrap()).abs() < 1e-9);
    let uniform = 1.0 + 265f64.ln();
    let surprise = -logprobs[0]["logprob"].as_f64().unwrap();
    assert!((ratios[0] - uniform / (1.0 + surprise)).abs() < 1e-9);
    let again = ok(&router, CHAT, &chat(&json!({}))).await;
    assert_eq!(
        again["choices"][0]["message"], choice["message"],
        "the seed fixes the reply"
    );
}

#[tokio::test]
async fn a_stream_says_the_same_as_the_whole() {
    let router = ready(LlmOptions::default()).await;
    let whole = ok(&router, CHAT, &chat(&json!({}))).await;
    let stream = chat(&json!({"stream": true, "stream_options": {"include_usage": true}}));
    let mut events = events(&router, CHAT, &stream).await;
    assert_eq!(events.pop().unwrap(), "[DONE]");
    let chunks: Vec<Value> = events
        .iter()
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String = chunks
        .iter()
        .filter_map(|c| c["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, whole["choices"][0]["message"]["content"]);
    let [.., finish, usage] = chunks.as_slice() else {
        panic!("{chunks:?}")
    };
    assert_eq!(finish["choices"][0]["finish_reason"], "length");
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["persistence"], whole["usage"]["persistence"]);
}

#[tokio::test]
async fn a_schema_shapes_the_reply() {
    let router = ready(LlmOptions::default()).await;
    let schema = json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
        "additionalProperties": false});
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "answer", "strict": true, "schema": schema}});
    let reply = ok(
        &router,
        CHAT,
        &chat(&json!({"response_format": format, "max_tokens": 60})),
    )
    .await;
    let content = reply["choices"][0]["message"]["content"].as_str().unwrap();
    let value: Value = serde_json::from_str(content).unwrap();
    assert!(value["ok"].is_boolean() && value.as_object().unwrap().len() == 1);
    assert_eq!(reply["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn a_forced_tool_becomes_a_call() {
    let router = ready(LlmOptions::default()).await;
    let tool = |name: &str, parameters: Value| json!({"type": "function", "function": {"name": name, "parameters": parameters}});
    let flag = json!({"type": "object", "properties": {"all": {"type": "boolean"}}, "required": ["all"],
        "additionalProperties": false});
    let tools = json!([
        tool("list", flag),
        tool("stop", json!({"type": "object", "maxProperties": 0}))
    ]);
    let chosen = json!({"type": "function", "function": {"name": "list"}});
    let ask = |stream: bool| {
        chat(&json!({"tools": tools, "tool_choice": chosen, "max_tokens": 99, "stream": stream}))
    };
    let reply = ok(&router, CHAT, &ask(false)).await;
    let choice = &reply["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let function = &choice["message"]["tool_calls"][0]["function"];
    assert_eq!(function["name"], "list");
    let arguments: Value = serde_json::from_str(function["arguments"].as_str().unwrap()).unwrap();
    assert!(arguments["all"].is_boolean());
    let events = events(&router, CHAT, &ask(true)).await;
    let streamed = events
        .iter()
        .filter_map(|event| serde_json::from_str::<Value>(event).ok());
    let calls: Vec<Value> = streamed
        .map(|c| c["choices"][0]["delta"]["tool_calls"][0].clone())
        .filter(|c| !c.is_null())
        .collect();
    assert_eq!((calls.len(), &calls[0]["function"]), (1, function));
}

#[tokio::test]
async fn a_stop_string_never_shows() {
    let router = ready(LlmOptions::default()).await;
    let free = ok(&router, CHAT, &chat(&json!({}))).await;
    let free = free["choices"][0]["message"]["content"]
        .as_str()
        .unwrap()
        .to_owned();
    let stop: String = free.chars().skip(4).take(2).collect();
    let reply = ok(&router, CHAT, &chat(&json!({"stop": stop}))).await;
    assert_eq!(reply["choices"][0]["finish_reason"], "stop");
    assert_eq!(
        reply["choices"][0]["message"]["content"],
        free[..free.find(&stop).unwrap()]
    );
}

#[tokio::test]
async fn a_text_is_continued() {
    let router = ready(LlmOptions::default()).await;
    let body = json!({"model": "x", "prompt": "the other", "temperature": 0, "max_tokens": 8, "logprobs": 3});
    let whole = ok(&router, "/v1/completions", &body).await;
    assert_eq!(whole["object"], "text_completion");
    assert_eq!(
        whole["choices"][0]["logprobs"]["token_logprobs"]
            .as_array()
            .unwrap()
            .len(),
        8
    );
    assert_eq!(whole["usage"]["persistence"]["n"], 8);
    let stream = json!({"prompt": "the other", "temperature": 0, "max_tokens": 8, "stream": true});
    let events = events(&router, "/v1/completions", &stream).await;
    let chunks = events
        .iter()
        .filter_map(|event| serde_json::from_str::<Value>(event).ok());
    let text: String = chunks
        .filter_map(|c| c["choices"][0]["text"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(text, whole["choices"][0]["text"]);
    let tokens = ok(
        &router,
        "/v1/completions",
        &json!({"prompt": [104, 105], "max_tokens": 1}),
    )
    .await;
    assert_eq!(tokens["usage"]["prompt_tokens"], 2);
}

#[tokio::test]
async fn responses_have_named_events() {
    let router = ready(LlmOptions::default()).await;
    let body = json!({"input": [{"role": "user", "content": [{"type": "input_text", "text": "the inn"}]}],
        "instructions": "short", "temperature": 0, "max_output_tokens": 6});
    let whole = ok(&router, "/v1/responses", &body).await;
    assert_eq!(
        (&whole["object"], &whole["status"]),
        (&json!("response"), &json!("incomplete"))
    );
    assert_eq!(whole["incomplete_details"]["reason"], "max_output_tokens");
    let text = whole["output"][0]["content"][0]["text"].as_str().unwrap();
    assert_eq!(whole["usage"]["persistence"]["n"], 6);
    let mut stream = body.clone();
    stream["stream"] = true.into();
    let events: Vec<Value> = events(&router, "/v1/responses", &stream)
        .await
        .iter()
        .map(|e| serde_json::from_str(e).unwrap())
        .collect();
    assert_eq!(events[0]["type"], "response.created");
    assert!(
        events
            .iter()
            .enumerate()
            .all(|(i, event)| event["sequence_number"] == i)
    );
    let deltas: String = events
        .iter()
        .filter(|event| event["type"] == "response.output_text.delta")
        .map(|event| event["delta"].as_str().unwrap())
        .collect();
    assert_eq!(deltas, text);
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.incomplete");
    assert_eq!(
        last["response"]["usage"]["persistence"],
        whole["usage"]["persistence"]
    );
}

#[tokio::test]
async fn embeddings_come_in_both_encodings() {
    let router = ready(LlmOptions::default()).await;
    let ask = |format: &str| json!({"input": ["the inn", "4711"], "encoding_format": format});
    let floats = ok(&router, "/v1/embeddings", &ask("float")).await;
    let coded = ok(&router, "/v1/embeddings", &ask("base64")).await;
    for i in 0..2 {
        let text = coded["data"][i]["embedding"].as_str().unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        let vector: Vec<f32> = bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        let numbers = floats["data"][i]["embedding"].as_array().unwrap();
        assert_eq!(vector.len(), 48);
        assert!(
            numbers
                .iter()
                .zip(&vector)
                .all(|(a, b)| (a.as_f64().unwrap() - f64::from(*b)).abs() < 1e-6)
        );
        assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-4);
    }
}

#[tokio::test]
async fn a_given_text_is_scored() {
    let router = ready(LlmOptions::default()).await;
    let reply = ok(&router, "/v1/score", &json!({"input": "the other inn"})).await;
    let tokens = reply["tokens"].as_array().unwrap();
    assert_eq!(reply["persistence"]["n"], tokens.len());
    let text: String = tokens
        .iter()
        .map(|token| token["text"].as_str().unwrap())
        .collect();
    assert_eq!(text, " other inn");
}

#[tokio::test]
async fn the_model_and_the_state_are_told() {
    let router = ready(LlmOptions::default()).await;
    let get = async |path: &str| -> Value {
        serde_json::from_str(&text(send(&router, Method::GET, path, &Value::Null).await).await).unwrap()
    };
    assert_eq!(get("/v1/models").await["data"][0]["id"], "tiny");
    assert_eq!(get("/v1/models/tiny").await["object"], "model");
    ok(&router, CHAT, &chat(&json!({}))).await;
    let state = get("/state").await;
    assert_eq!(state["llm"]["model"]["name"], "tiny");
    assert_eq!(
        (&state["llm"]["requests"], &state["llm"]["completion_tokens"]),
        (&json!(1), &json!(20))
    );
    assert_eq!(state["llm"]["waiting"], 0);
    let metrics = text(send(&router, Method::GET, "/metrics", &Value::Null).await).await;
    assert!(metrics.contains("aion_llm_completion_tokens_total"), "{metrics}");
}

#[test]
fn the_document_needs_no_model() {
    let document: Value = serde_json::from_str(&aion_llm_server::openapi_json()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    for path in [
        "/v1/chat/completions",
        "/v1/responses",
        "/v1/embeddings",
        "/v1/models",
        "/state",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
}
