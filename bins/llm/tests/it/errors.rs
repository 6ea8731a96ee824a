//! What cannot be done, and how it is said.

use aion_llm::testkit::TinyModel;
use aion_llm::{Engine, EngineOptions, ModelSource, gguf};
use aion_llm_server::{LlmOptions, service, service_loading};
use aion_service::Limits;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{engine, post, ready, send, text, wait_until_ready};

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
        ("n", json!(0), 400, "invalid_value"),
        ("n", json!(17), 400, "invalid_value"),
        ("model", json!("gpt-9"), 404, "model_not_found"),
        ("temperature", json!(-1), 400, "invalid_value"),
        ("temperature", json!(2.5), 400, "invalid_value"),
        ("frequency_penalty", json!(-2.5), 400, "invalid_value"),
        ("presence_penalty", json!(3), 400, "invalid_value"),
        ("repetition_penalty", json!(0), 400, "invalid_value"),
        ("min_p", json!(1.5), 400, "invalid_value"),
        ("top_k", json!(-7), 400, "invalid_value"),
        ("logit_bias", json!({"5": 101}), 400, "invalid_value"),
        ("logit_bias", json!({"five": 1}), 400, "invalid_value"),
        ("logit_bias", json!({"99999": 1}), 400, "invalid_value"),
        ("logit_bias", json!([1]), 422, "invalid_body"),
        ("top_logprobs", json!(3), 400, "invalid_value"),
        (
            "stream_options",
            json!({"include_usage": 1}),
            400,
            "invalid_value",
        ),
        ("frequency", json!(1), 400, "unknown_parameter"),
        ("store", json!(true), 400, "unsupported_parameter"),
        ("reasoning_effort", json!("high"), 400, "unsupported_parameter"),
        ("functions", json!([{"name": "f"}]), 400, "unsupported_parameter"),
        (
            "tools",
            json!([{"type": "custom", "custom": {"name": "x"}}]),
            400,
            "unsupported_tool",
        ),
        ("tools", json!({}), 400, "invalid_body"),
        ("structured_outputs", json!({"regex": "("}), 400, "invalid_schema"),
        (
            "structured_outputs",
            json!({"regex": "a", "json": {}}),
            400,
            "invalid_value",
        ),
        ("structured_outputs", json!({"choice": []}), 400, "invalid_value"),
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
        let param = problem["error"]["param"].as_str().unwrap_or_default();
        assert!(
            param.starts_with(field) || (field == "max_tokens" && param == "max_completion_tokens"),
            "{problem}"
        );
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
        ("/v1/completions", json!({"prompt": ["a", 7]})),
        ("/v1/completions", json!({"prompt": []})),
        ("/v1/completions", json!({"prompt": "a", "suffix": "b"})),
        ("/v1/completions", json!({"prompt": "a", "best_of": 3})),
        ("/v1/completions", json!({"prompt": "a", "max_tokens": 0})),
        ("/v1/completions", json!({"prompt": ["a", "b"], "n": 9})),
        ("/v1/completions", json!({"prompt": [1_000_000]})),
        ("/v1/responses", json!({"input": []})),
        (
            "/v1/responses",
            json!({"input": "x", "previous_response_id": "resp-1"}),
        ),
        ("/v1/responses", json!({"input": "x", "background": true})),
        (
            "/v1/responses",
            json!({"input": "x", "include": ["file_search_call.results"]}),
        ),
        (
            "/v1/responses",
            json!({"input": "x", "text": {"verbosity": "low"}}),
        ),
        (
            "/v1/responses",
            json!({"input": [{"type": "item_reference", "id": "1"}]}),
        ),
        (
            "/v1/responses",
            json!({"input": "x", "tools": [{"type": "web_search"}]}),
        ),
        ("/v1/embeddings", json!({"input": "x", "dimensions": 49})),
        ("/v1/embeddings", json!({"input": [[1_000_000]]})),
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

/// Each of these, and where the answer says that it is; the service lives on after all of them.
#[tokio::test]
async fn the_place_of_an_error_is_named() {
    let router = ready(LlmOptions::default()).await;
    let user = |content: Value| json!([{"role": "user", "content": content}]);
    let tool = |parameters: Value| json!([{"type": "function", "function": {"name": "f", "parameters": parameters}}]);
    let endless = json!({"type": "object", "properties": {"n": {"$ref": "#"}}, "required": ["n"]});
    let long = "long ".repeat(400);
    let chat = |more: Value| (CHAT, with(hello(), &more));
    let cases = [
        (
            chat(json!({"messages": user(json!("x")), "tools": tool(json!({"type": "string"}))})),
            "tools[0].function.parameters",
        ),
        (
            chat(json!({"tools": tool(endless.clone()), "tool_choice": "required"})),
            "tools[0].function.parameters",
        ),
        (
            chat(
                json!({"tools": tool(json!({})), "tool_choice": {"type": "function", "function": {"name": "g"}}}),
            ),
            "tool_choice",
        ),
        (
            chat(
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "e", "schema": endless}}}),
            ),
            "response_format",
        ),
        (
            chat(
                json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "file"}]}]}),
            ),
            "messages[0].content[1]",
        ),
        (
            chat(json!({"messages": [{"role": "wizard", "content": "a"}]})),
            "messages[0].role",
        ),
        (
            chat(json!({"messages": [{"role": "user"}]})),
            "messages[0].content",
        ),
        (chat(json!({"messages": user(json!(long))})), "messages"),
        (chat(json!({"n": 8, "max_tokens": 10_000})), "n"),
        (("/v1/completions", json!({"prompt": long})), "prompt"),
        (("/v1/responses", json!({"input": long})), "input"),
        (
            ("/v1/responses", json!({"input": "x", "max_output_tokens": 0})),
            "max_output_tokens",
        ),
        (
            (
                "/v1/responses",
                json!({"input": "x", "text": {"format": {"type": "json_schema", "name": "e", "schema": false}}}),
            ),
            "text.format",
        ),
        (("/v1/embeddings", json!({"input": long})), "input"),
        (
            ("/v1/embeddings", json!({"input": "x", "encoding_format": "hex"})),
            "encoding_format",
        ),
    ];
    for ((path, body), param) in cases {
        let (status, problem) = post(&router, path, &body).await;
        assert!(status.is_client_error(), "{body}: {problem}");
        assert_eq!(problem["error"]["param"], param, "{body}: {problem}");
    }
    assert_eq!(post(&router, CHAT, &hello()).await.0, StatusCode::OK);
}

fn with(mut body: Value, more: &Value) -> Value {
    let members = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(members);
    body
}

/// Weights whose logits are no numbers: the model's fault, said so, and nobody else suffers.
#[tokio::test]
async fn logits_that_are_no_numbers_are_an_error() {
    let options = EngineOptions::default().with_threads(1).with_name("tiny");
    let broken = Engine::load(&TinyModel::random(1).without_numbers().source(), options).unwrap();
    let router = service(broken, LlmOptions::default()).into_router(&Limits::default());
    wait_until_ready(&router).await;
    for _ in 0..2 {
        let (status, problem) = post(&router, CHAT, &hello()).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{problem}");
        assert_eq!(
            (&problem["error"]["code"], &problem["error"]["type"]),
            (&json!("model_failed"), &json!("server_error"))
        );
    }
    assert_eq!(
        send(&router, Method::GET, "/v1/models", &Value::Null)
            .await
            .status(),
        StatusCode::OK
    );
}

/// A template that loops, calls itself, or refuses a role.
#[tokio::test]
async fn templates_that_fail_are_an_error_of_the_messages() {
    let templates = [
        "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ raise_exception('only user and assistant roles') }}",
    ];
    for template in templates {
        let source = TinyModel::random(1).gguf();
        let source = source.with("tokenizer.chat_template", gguf::Value::Text(template.into()));
        let options = EngineOptions::default().with_threads(1);
        let engine = Engine::load(&ModelSource::GgufBytes(source.bytes()), options).unwrap();
        let router = service(engine, LlmOptions::default()).into_router(&Limits::default());
        wait_until_ready(&router).await;
        let (status, problem) = post(&router, CHAT, &hello()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{template}: {problem}");
        assert_eq!(problem["error"]["code"], "invalid_messages", "{problem}");
        assert_eq!(problem["error"]["param"], "messages", "{problem}");
        let (status, _) = post(
            &router,
            "/v1/completions",
            &json!({"prompt": "a", "max_tokens": 1}),
        )
        .await;
        assert_eq!(status, StatusCode::OK, "the service lives on");
    }
}

/// Random bytes of a random model: whatever tokens make half characters, no answer has broken text.
#[tokio::test]
async fn characters_across_tokens_stay_whole() {
    let source = TinyModel::random(1).endless().source();
    let engine = Engine::load(&source, EngineOptions::default().with_threads(1)).unwrap();
    let router = service(engine, LlmOptions::default()).into_router(&Limits::default());
    wait_until_ready(&router).await;
    for seed in 0..5 {
        let body = json!({"prompt": "é", "seed": seed, "temperature": 2, "max_tokens": 150, "stream": true, "logprobs": 1});
        let response = send(&router, Method::POST, "/v1/completions", &body).await;
        let streamed = text(response).await;
        let chunks = streamed.lines().filter_map(|line| line.strip_prefix("data: {"));
        let parsed = chunks.map(|chunk| serde_json::from_str::<Value>(&format!("{{{chunk}")).unwrap());
        let joined: String = parsed
            .map(|chunk| {
                chunk["choices"][0]["text"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect();
        let whole = post(&router, "/v1/completions", &with(body, &json!({"stream": false})))
            .await
            .1;
        assert_eq!(whole["choices"][0]["text"], joined.as_str());
    }
}

/// A bad request is one for all its completions, whichever of them hears of it first.
#[tokio::test]
async fn several_completions_share_their_error() {
    let router = ready(LlmOptions::default()).await;
    let impossible = json!({"type": "json_schema", "json_schema": {"schema": {"$ref": "#/nothing"}}});
    for _ in 0..100 {
        let body = with(hello(), &json!({"n": 8, "response_format": impossible}));
        let (status, problem) = post(&router, CHAT, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
    }
}

/// Whatever a client writes, an error repeats only the beginning of it.
#[tokio::test]
async fn errors_do_not_repeat_long_texts() {
    let router = ready(LlmOptions::default()).await;
    let long = "é".repeat(50_000);
    let user = |content: Value| json!([{"role": "user", "content": content}]);
    let tool = |name: &str| json!([{"type": "function", "function": {"name": name}}]);
    let chat = |more: Value| (CHAT, with(hello(), &more));
    let responses = |more: Value| ("/v1/responses", with(json!({"input": "x"}), &more));
    let cases = [
        chat(json!({"model": long})),
        chat(json!({long.as_str(): 1})),
        chat(json!({"logit_bias": {long.as_str(): 1}})),
        chat(json!({"logit_bias": {long.as_str(): long}})),
        chat(json!({"temperature": long})),
        chat(json!({"messages": [{"role": long, "content": "x"}]})),
        chat(json!({"messages": user(json!([{"type": long}]))})),
        chat(json!({"tools": [{"type": long}]})),
        chat(json!({"tools": tool(&long)})),
        chat(json!({"tools": tool("f"), "tool_choice": {"type": "function", "function": {"name": long}}})),
        chat(
            json!({"tools": tool("f"), "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto",
            "tools": [{"type": "function", "function": {"name": long}}]}}}),
        ),
        chat(json!({"response_format": {"type": long}})),
        chat(json!({"structured_outputs": {"regex": format!("({long}")}})),
        chat(json!({"structured_outputs": {"grammar": format!("start: {long}")}})),
        chat(json!({"response_format": {"type": "json_schema",
            "json_schema": {"schema": {"type": "object", "properties": {long.as_str(): false}, "required": [long]}}}})),
        chat(json!({"reasoning_effort": long})),
        responses(json!({"input": [{"type": long}]})),
        responses(json!({"include": [long]})),
        responses(json!({"tools": [{"type": long}]})),
        ("/v1/embeddings", json!({"input": "x", "encoding_format": long})),
        ("/v1/embeddings", json!({"input": "x", "model": long})),
        ("/v1/completions", json!({"prompt": "x", "stop": {"a": long}})),
    ];
    for (path, body) in cases {
        let (status, problem) = post(&router, path, &body).await;
        assert!(status.is_client_error(), "{path}: {status}");
        let shown: String = body.to_string().chars().take(60).collect();
        let bytes = problem.to_string().len();
        assert!(bytes < 2_500, "{path} {shown}: {bytes} bytes");
    }
}
