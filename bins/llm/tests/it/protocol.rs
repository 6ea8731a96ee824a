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
    let (name, arguments, finish) = streamed_call(&events(&router, CHAT, &ask(true)).await);
    assert_eq!(
        (json!(name), json!(arguments)),
        (function["name"].clone(), function["arguments"].clone())
    );
    assert_eq!(finish, "tool_calls");
}

/// The name, the arguments and the end of a streamed call.
fn streamed_call(events: &[String]) -> (String, String, String) {
    let (mut name, mut arguments, mut finish) = (String::new(), String::new(), String::new());
    for chunk in events
        .iter()
        .filter_map(|event| serde_json::from_str::<Value>(event).ok())
    {
        let choice = &chunk["choices"][0];
        let call = &choice["delta"]["tool_calls"][0];
        name += call["function"]["name"].as_str().unwrap_or_default();
        arguments += call["function"]["arguments"].as_str().unwrap_or_default();
        finish += choice["finish_reason"].as_str().unwrap_or_default();
        assert!(call.is_null() || call["index"] == 0);
    }
    (name, arguments, finish)
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
    let body =
        json!({"model": "tiny", "prompt": "the other", "temperature": 0, "max_tokens": 8, "logprobs": 3});
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

#[tokio::test]
async fn several_choices_come_side_by_side() {
    let router = ready(LlmOptions::default()).await;
    let whole = ok(&router, CHAT, &chat(&json!({"n": 3, "logprobs": true}))).await;
    let choices = whole["choices"].as_array().unwrap();
    let contents: Vec<&Value> = choices
        .iter()
        .map(|choice| &choice["message"]["content"])
        .collect();
    assert_eq!(contents.len(), 3);
    assert!(
        contents[0] != contents[1] && contents[1] != contents[2],
        "each has a seed of its own"
    );
    let one = ok(&router, CHAT, &chat(&json!({}))).await;
    assert_eq!(
        &one["choices"][0]["message"]["content"], contents[0],
        "the first has the seed of the request"
    );
    assert_eq!(whole["usage"]["completion_tokens"], 60);
    assert_eq!(
        whole["usage"]["prompt_tokens"], one["usage"]["prompt_tokens"],
        "the prompt counts once"
    );
    assert_eq!(whole["usage"]["persistence"]["n"], 60);
    let stream = chat(&json!({"n": 3, "stream": true, "stream_options": {"include_usage": true}}));
    let mut texts = vec![String::new(); 3];
    let mut usage = Value::Null;
    for chunk in events(&router, CHAT, &stream)
        .await
        .iter()
        .filter_map(|event| serde_json::from_str::<Value>(event).ok())
    {
        for choice in chunk["choices"].as_array().unwrap() {
            let index = choice["index"].as_u64().unwrap() as usize;
            texts[index] += choice["delta"]["content"].as_str().unwrap_or_default();
        }
        usage = chunk["usage"].clone();
    }
    assert_eq!(
        texts.iter().map(|text| json!(text)).collect::<Vec<_>>(),
        contents.into_iter().cloned().collect::<Vec<_>>()
    );
    for key in ["prompt_tokens", "completion_tokens", "persistence"] {
        assert_eq!(usage[key], whole["usage"][key]);
    }
}

#[tokio::test]
async fn penalties_and_biases_reach_the_sampler() {
    let router = ready(LlmOptions::default()).await;
    let greedy = json!({"temperature": 0, "max_tokens": 40, "logprobs": true});
    let tokens = async |more: &Value| -> Vec<String> {
        let mut body = chat(&greedy);
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let reply = ok(&router, CHAT, &body).await;
        let content = reply["choices"][0]["logprobs"]["content"]
            .as_array()
            .unwrap()
            .clone();
        content
            .iter()
            .map(|token| token["token"].as_str().unwrap().to_owned())
            .collect()
    };
    let distinct = |tokens: &[String]| tokens.iter().collect::<std::collections::HashSet<_>>().len();
    let plain = tokens(&json!({})).await;
    let zero = json!({"frequency_penalty": 0, "presence_penalty": 0, "repetition_penalty": 1, "logit_bias": {"65": 0}});
    assert_eq!(plain, tokens(&zero).await);
    let varied =
        tokens(&json!({"frequency_penalty": 2, "presence_penalty": 2, "repetition_penalty": 10})).await;
    assert!(distinct(&varied) > distinct(&plain), "{plain:?} {varied:?}");
    // The byte-level tokenizer of the tiny model: the id of `A` is its place among the printable characters.
    let forced = tokens(&json!({"logit_bias": {"32": 100}})).await;
    assert_eq!(distinct(&forced), 1);
    let banned = tokens(&json!({"logit_bias": {"32": -100}})).await;
    assert!(!banned.contains(&forced[0]));
}

#[tokio::test]
async fn a_regex_a_grammar_and_a_choice_shape_the_reply() {
    let router = ready(LlmOptions::default()).await;
    let content = async |structured: Value| -> String {
        let reply = ok(
            &router,
            CHAT,
            &chat(&json!({"structured_outputs": structured, "max_tokens": 60})),
        )
        .await;
        reply["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let date = content(json!({"regex": "[0-9]{4}-[0-9]{2}"})).await;
    assert!(date.len() == 7 && date.as_bytes()[4] == b'-', "{date}");
    assert!(["yes", "n\"o"].contains(&content(json!({"choice": ["yes", "n\"o"]})).await.as_str()));
    assert_eq!(content(json!({"grammar": "start: A A\nA: \"ab\""})).await, "abab");
    assert_eq!(content(json!({"json": {"const": [1]}})).await, "[1]");
    let body = json!({"prompt": "x", "max_tokens": 20, "structured_outputs": {"regex": "k{3}"}});
    assert_eq!(
        ok(&router, "/v1/completions", &body).await["choices"][0]["text"],
        "kkk"
    );
    let body = json!({"input": "x", "structured_outputs": {"regex": "k{3}"}});
    let reply = ok(&router, "/v1/responses", &body).await;
    assert_eq!(reply["output"][0]["content"][0]["text"], "kkk");
}

#[tokio::test]
async fn prompts_come_back_with_their_probabilities() {
    let router = ready(LlmOptions::default()).await;
    let path = "/v1/completions";
    let ask = |more: Value| {
        let mut body = json!({"prompt": ["the inn", "an other"], "temperature": 0, "max_tokens": 3, "echo": true,
            "logprobs": 1, "n": 2});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let whole = ok(&router, path, &ask(json!({}))).await;
    let choices = whole["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 4);
    assert!(choices[1]["text"].as_str().unwrap().starts_with("the inn"));
    assert!(choices[2]["text"].as_str().unwrap().starts_with("an other"));
    let logprobs = &choices[0]["logprobs"];
    let list = |key: &str| logprobs[key].as_array().unwrap();
    let n = list("tokens").len();
    assert!(
        ["token_logprobs", "top_logprobs", "text_offset", "persistence"]
            .iter()
            .all(|key| list(key).len() == n)
    );
    assert!(list("token_logprobs")[0].is_null() && list("token_logprobs")[1].is_number());
    let text: String = list("tokens")
        .iter()
        .map(|token| token.as_str().unwrap())
        .collect();
    assert!(text.starts_with("the inn"), "{text}");
    let scored = ok(&router, "/v1/score", &json!({"input": "the inn"})).await;
    let surprise = scored["tokens"][0]["surprise_nats"].as_f64().unwrap();
    assert!((list("token_logprobs")[1].as_f64().unwrap() + surprise).abs() < 1e-6);
    let only = ok(&router, path, &ask(json!({"max_tokens": 0, "n": 1}))).await;
    assert_eq!(
        (&only["choices"][0]["text"], &only["usage"]["completion_tokens"]),
        (&json!("the inn"), &json!(0))
    );
    let streamed = events(&router, path, &ask(json!({"stream": true}))).await;
    let mut texts = vec![String::new(); 4];
    for chunk in streamed
        .iter()
        .filter_map(|event| serde_json::from_str::<Value>(event).ok())
    {
        let choice = &chunk["choices"][0];
        texts[choice["index"].as_u64().unwrap() as usize] += choice["text"].as_str().unwrap();
    }
    assert_eq!(
        texts.iter().map(|text| json!(text)).collect::<Vec<_>>(),
        choices.iter().map(|c| c["text"].clone()).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn calls_are_items_of_a_response() {
    let router = ready(LlmOptions::default()).await;
    let flag = json!({"type": "object", "properties": {"all": {"type": "boolean"}}, "required": ["all"],
        "additionalProperties": false});
    let body = json!({"input": "list", "tools": [{"type": "function", "name": "list", "parameters": flag, "strict": true}],
        "tool_choice": "required", "parallel_tool_calls": false, "seed": 1, "max_output_tokens": 99});
    let whole = ok(&router, "/v1/responses", &body).await;
    assert_eq!(whole["status"], "completed");
    let call = &whole["output"][0];
    assert_eq!(
        (&call["type"], &call["name"], &call["status"]),
        (&json!("function_call"), &json!("list"), &json!("completed"))
    );
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert!(arguments["all"].is_boolean());
    let mut stream = body.clone();
    stream["stream"] = true.into();
    let events: Vec<Value> = events(&router, "/v1/responses", &stream)
        .await
        .iter()
        .map(|e| serde_json::from_str(e).unwrap())
        .collect();
    let names: Vec<&str> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        names[..3],
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added"
        ]
    );
    assert_eq!(
        names[names.len() - 3..],
        [
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.completed"
        ]
    );
    let deltas: String = events
        .iter()
        .filter(|event| event["type"] == "response.function_call_arguments.delta")
        .map(|event| event["delta"].as_str().unwrap())
        .collect();
    assert_eq!(json!(deltas), call["arguments"]);
    // The conversation goes on with the call and its output.
    let input = json!([{"role": "user", "content": "list"},
        {"type": "function_call", "call_id": call["call_id"], "name": "list", "arguments": call["arguments"]},
        {"type": "function_call_output", "call_id": call["call_id"], "output": "[]"}]);
    let next = ok(
        &router,
        "/v1/responses",
        &json!({"input": input, "max_output_tokens": 4}),
    )
    .await;
    assert_eq!(next["output"][0]["type"], "message");
}

#[tokio::test]
async fn a_response_reports_probabilities_when_they_are_included() {
    let router = ready(LlmOptions::default()).await;
    let body = json!({"input": "the inn", "temperature": 0, "max_output_tokens": 6, "top_logprobs": 2,
        "include": ["message.output_text.logprobs"]});
    let whole = ok(&router, "/v1/responses", &body).await;
    let part = &whole["output"][0]["content"][0];
    let logprobs = part["logprobs"].as_array().unwrap();
    assert_eq!(logprobs.len(), 6);
    assert!(
        logprobs[0]["persistence"].is_number() && logprobs[0]["top_logprobs"].as_array().unwrap().len() == 2
    );
    let mut stream = body.clone();
    stream["stream"] = true.into();
    let events = events(&router, "/v1/responses", &stream).await;
    let deltas = events
        .iter()
        .filter_map(|e| serde_json::from_str::<Value>(e).ok())
        .filter(|event| event["type"] == "response.output_text.delta");
    let streamed: Vec<Value> = deltas
        .flat_map(|event| event["logprobs"].as_array().unwrap().clone())
        .collect();
    assert!(!streamed.is_empty() && streamed.iter().all(|entry| logprobs.contains(entry)));
}

/// A sentence encoder beside the model: its vectors are those of the reference, and both can be asked.
#[cfg(feature = "minilm")]
#[tokio::test]
async fn a_sentence_encoder_answers_beside_the_model() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../aion-router/tests/data/tiny-bert"
    );
    let encoder = aion_llm_server::MiniLmEncoder::from_folder(folder.as_ref()).unwrap();
    let encoder: std::sync::Arc<dyn aion_llm_server::TextEncoder> = std::sync::Arc::new(encoder);
    let service =
        aion_llm_server::service_with_encoder(|| Ok(crate::engine()), LlmOptions::default(), Some(encoder));
    let router = service.into_router(&aion_service::Limits::default());
    crate::wait_until_ready(&router).await;
    let golden: Value =
        serde_json::from_str(&std::fs::read_to_string(format!("{folder}/golden.json")).unwrap()).unwrap();
    let golden: Vec<&Value> = golden
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["text"] != "")
        .collect();
    let texts: Vec<&Value> = golden.iter().map(|row| &row["text"]).collect();
    let reply = ok(&router, "/v1/embeddings", &json!({"input": texts})).await;
    assert_eq!(reply["model"], "tiny-bert");
    for (row, item) in golden.iter().zip(reply["data"].as_array().unwrap()) {
        let pairs = row["vector"]
            .as_array()
            .unwrap()
            .iter()
            .zip(item["embedding"].as_array().unwrap());
        for (wanted, got) in pairs {
            assert!(
                (wanted.as_f64().unwrap() - got.as_f64().unwrap()).abs() < 1e-4,
                "{row}"
            );
        }
    }
    let short = ok(
        &router,
        "/v1/embeddings",
        &json!({"input": "x", "model": "tiny-bert", "dimensions": 3}),
    )
    .await;
    let vector = short["data"][0]["embedding"].as_array().unwrap();
    let norm: f64 = vector.iter().map(|x| x.as_f64().unwrap().powi(2)).sum();
    assert!(vector.len() == 3 && (norm - 1.0).abs() < 1e-5);
    let by_model = ok(
        &router,
        "/v1/embeddings",
        &json!({"input": [[104, 105]], "model": "tiny"}),
    )
    .await;
    assert_eq!(by_model["data"][0]["embedding"].as_array().unwrap().len(), 48);
    let models: Value =
        serde_json::from_str(&text(send(&router, Method::GET, "/v1/models", &Value::Null).await).await)
            .unwrap();
    assert_eq!(models["data"][1]["id"], "tiny-bert");
    let (status, _) = crate::post(
        &router,
        "/v1/embeddings",
        &json!({"input": "x", "model": "other"}),
    )
    .await;
    assert_eq!(status, http::StatusCode::NOT_FOUND);
}
