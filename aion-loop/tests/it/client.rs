//! The model client against every way in which a server misbehaves.

use std::sync::Arc;
use std::time::Duration;

use aion_loop::testkit::{Script, ScriptedModel};
use aion_loop::{
    ChatMessage, ChatModel, ChatRequest, FinishReason, InProcessTransport, ModelError, NetworkTransport,
    OpenAiChat, OpenAiConfig, ResponseSchema, RetryPolicy, Streaming, Transport,
};
use aion_types::Role;
use bytes::Bytes;
use http_body_util::Full;
use serde_json::json;

fn ask() -> ChatRequest {
    ChatRequest {
        messages: vec![ChatMessage::new(Role::User, "Hi")],
        max_tokens: 64,
        ..ChatRequest::default()
    }
}

fn patient(server: &ScriptedModel, retries: usize) -> OpenAiChat {
    let transport = Arc::new(InProcessTransport::<_, Full<Bytes>>::new(server.clone()));
    let config = OpenAiConfig::new("http://scripted.invalid/v1/", "m").with_api_key("sk-planted-secret");
    let retry = RetryPolicy {
        retries,
        min_delay: Duration::from_millis(10),
        max_delay: Duration::from_secs(60),
    };
    OpenAiChat::new(config, transport).unwrap().with_retry(retry)
}

async fn once(script: Script) -> Result<aion_loop::ChatReply, ModelError> {
    ScriptedModel::new([script]).chat().chat(&ask()).await
}

#[tokio::test]
async fn text_calls_and_usage_come_through_whole_and_streamed() {
    let calls = vec![
        ("f".to_owned(), r#"{"a": "é\n\"x\""}"#.to_owned()),
        ("g".to_owned(), "{}".to_owned()),
    ];
    for streaming in [Streaming::Off, Streaming::On] {
        let server = ScriptedModel::new([Script::text("Grüße, Welt"), Script::Calls(calls.clone())]);
        let chat = server.chat().with_streaming(streaming);
        let text = chat.chat(&ask()).await.unwrap();
        assert_eq!(
            (text.text.as_str(), &text.finish),
            ("Grüße, Welt", &FinishReason::Stop)
        );
        assert_eq!(text.usage.summary().unwrap().r_harm, 2.0);
        assert!(text.usage.total().unwrap() > 10);
        let called = chat.chat(&ask()).await.unwrap();
        let got: Vec<_> = called
            .tool_calls
            .iter()
            .map(|c| (c.name.clone(), c.arguments.clone()))
            .collect();
        assert_eq!(got, calls);
        assert_eq!(called.finish, FinishReason::ToolCalls);
    }
}

/// A stream that is cut at any byte gives the whole reply or an error, never a part of it.
#[tokio::test]
async fn a_stream_cut_at_every_byte_is_whole_or_an_error() {
    for script in [
        Script::text("Some words, é and more."),
        Script::Calls(vec![
            ("put".into(), r#"{"path":"ü.txt","n":12}"#.into()),
            ("get".into(), "{}".into()),
        ]),
    ] {
        let whole = ScriptedModel::new([script.clone()])
            .chat()
            .with_streaming(Streaming::On)
            .chat(&ask())
            .await
            .unwrap();
        let (mut cut, mut kept) = (0, 0);
        for bytes in 0..6_000 {
            let server = ScriptedModel::new([script.clone().cut_at(bytes)]);
            match server.chat().with_streaming(Streaming::On).chat(&ask()).await {
                Ok(reply) => {
                    assert_eq!(
                        (&reply.text, &reply.tool_calls),
                        (&whole.text, &whole.tool_calls),
                        "at {bytes}"
                    );
                    kept += 1;
                    if reply == whole && kept > 300 {
                        break;
                    }
                }
                Err(ModelError::StreamCut { .. }) => {
                    assert_eq!(kept, 0, "a longer part cannot be worse, at {bytes}");
                    cut += 1;
                }
                Err(other) => panic!("at {bytes}: {other}"),
            }
        }
        assert!(cut > 300 && kept > 100, "{cut} {kept}");
    }
}

#[tokio::test]
async fn a_body_cut_anywhere_is_an_error() {
    for bytes in [0, 1, 50, 200, 300] {
        let error = once(Script::text("Some words").cut_at(bytes)).await.unwrap_err();
        assert!(
            matches!(error, ModelError::Transport(_) | ModelError::NotJson { .. }),
            "{error}"
        );
        assert!(error.is_transient());
    }
}

#[tokio::test]
async fn odd_finish_reasons_are_kept() {
    for (reason, finish) in [
        (Some("stop"), FinishReason::Stop),
        (Some("eos_token"), FinishReason::Stop),
        (Some("length"), FinishReason::Length),
        (Some("content_filter"), FinishReason::ContentFilter),
        (Some(""), FinishReason::Other(String::new())),
        (Some("tired"), FinishReason::Other("tired".into())),
        (None, FinishReason::Other(String::new())),
    ] {
        let script = Script::Finish {
            text: "x".into(),
            reason: reason.map(str::to_owned),
        };
        assert_eq!(once(script).await.unwrap().finish, finish);
    }
}

#[tokio::test]
async fn html_is_an_error_that_shows_how_it_begins() {
    let page = "<html>\n  <body>Bad   gateway</body>".to_owned() + &" x".repeat(9_000);
    let error = once(Script::Html(page)).await.unwrap_err();
    let ModelError::NotJson {
        content_type,
        snippet,
    } = &error
    else {
        panic!("{error}")
    };
    assert!(content_type.starts_with("text/html"));
    assert!(snippet.starts_with("<html> <body>Bad gateway") && snippet.len() <= 200);
}

#[tokio::test]
async fn json_that_is_no_completion_is_an_error() {
    let raw = |body: &str| Script::Raw {
        content_type: "application/json".into(),
        body: body.into(),
    };
    assert!(matches!(
        once(raw(r#"{"hello": 1}"#)).await,
        Err(ModelError::Shape { .. })
    ));
    assert!(matches!(
        once(raw("nonsense")).await,
        Err(ModelError::NotJson { .. })
    ));
    assert!(matches!(
        once(raw(r#"{"error": {"message": "no", "code": 429}}"#)).await,
        Err(ModelError::Status { status: 429, .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_429_is_asked_again_when_the_server_wants() {
    let busy = |after| Script::Status {
        status: 429,
        message: "slow down".into(),
        retry_after_s: after,
    };
    let server = ScriptedModel::new([busy(Some(7)), busy(None), Script::text("ok")]);
    let began = tokio::time::Instant::now();
    assert_eq!(patient(&server, 3).chat(&ask()).await.unwrap().text, "ok");
    assert!(began.elapsed() >= Duration::from_secs(7), "{:?}", began.elapsed());
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_wait_is_bounded_and_so_are_the_tries() {
    let busy = Script::Status {
        status: 503,
        message: "no".into(),
        retry_after_s: Some(86_400),
    };
    let server = ScriptedModel::new(vec![busy; 9]);
    let began = tokio::time::Instant::now();
    assert!(patient(&server, 2).chat(&ask()).await.is_err());
    assert_eq!(server.requests().len(), 3);
    assert!(began.elapsed() <= Duration::from_secs(121));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_final() {
    for status in [400, 401, 404, 422] {
        let refuse = Script::Status {
            status,
            message: "bad key sk-planted-secret given".into(),
            retry_after_s: None,
        };
        let server = ScriptedModel::new([refuse, Script::text("never")]);
        let error = patient(&server, 5).chat(&ask()).await.unwrap_err();
        assert_eq!(server.requests().len(), 1);
        assert_eq!(
            server.authorizations()[0].as_deref(),
            Some("Bearer sk-planted-secret")
        );
        let shown = format!("{error} {error:?} {:?}", patient(&server, 0));
        assert!(!shown.contains("planted"), "{shown}");
        assert!(shown.contains("[key]"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hang_ends() {
    let server = ScriptedModel::new([Script::Hang(Duration::from_secs(3_000)), Script::text("late")]);
    let chat = patient(&server, 0).with_timeout(Duration::from_secs(9));
    assert!(matches!(
        chat.chat(&ask()).await,
        Err(ModelError::Timeout { after_ms: 9_000 })
    ));
}

#[tokio::test]
async fn an_answer_over_the_limit_is_refused() {
    for streaming in [Streaming::Off, Streaming::On] {
        let server = ScriptedModel::new([Script::text("x".repeat(50_000))]);
        let chat = server
            .chat()
            .with_streaming(streaming)
            .with_max_body_bytes(10_000);
        assert!(matches!(
            chat.chat(&ask()).await,
            Err(ModelError::TooLarge { limit: 10_000 })
        ));
    }
}

#[tokio::test]
async fn the_request_says_what_was_asked() {
    let server = ScriptedModel::new([Script::text("{}")]);
    let schema = json!({"type": "object"});
    let request = ChatRequest {
        response_schema: Some(ResponseSchema {
            name: "action".into(),
            schema: schema.clone(),
        }),
        temperature: Some(0.0),
        seed: Some(7),
        ..ask()
    };
    server
        .chat()
        .with_streaming(Streaming::On)
        .chat(&request)
        .await
        .unwrap();
    let body = &server.requests()[0];
    assert_eq!(
        body["response_format"],
        json!({"type": "json_schema",
        "json_schema": {"name": "action", "strict": true, "schema": schema}})
    );
    assert_eq!(
        (&body["stream"], &body["stream_options"]["include_usage"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(
        (&body["seed"], &body["temperature"], &body["max_tokens"]),
        (&json!(7), &json!(0.0), &json!(64))
    );
    assert_eq!(body["model"], "scripted");
}

#[tokio::test]
async fn the_same_over_a_socket() {
    let server = ScriptedModel::new([
        Script::text("one"),
        Script::call("f", &json!({"a": 1})).cut_at(150),
        Script::Status {
            status: 500,
            message: "boom".into(),
            retry_after_s: None,
        },
    ]);
    let listening = server.listen().await.unwrap();
    let transport = Arc::new(NetworkTransport::new(Duration::from_secs(5)).unwrap());
    let config = OpenAiConfig::new(listening.base_url(), "m");
    let none = RetryPolicy {
        retries: 0,
        ..RetryPolicy::default()
    };
    let chat = OpenAiChat::new(config, transport)
        .unwrap()
        .with_retry(none)
        .with_streaming(Streaming::On);
    assert_eq!(chat.chat(&ask()).await.unwrap().text, "one");
    assert!(matches!(
        chat.chat(&ask()).await,
        Err(ModelError::StreamCut { .. })
    ));
    assert!(matches!(
        chat.chat(&ask()).await,
        Err(ModelError::Status { status: 500, .. })
    ));
}

#[tokio::test]
async fn nobody_there_is_no_connection() {
    let transport = NetworkTransport::new(Duration::from_secs(5)).unwrap();
    let request = http::Request::get("http://127.0.0.1:1/")
        .body(Bytes::new())
        .unwrap();
    let error = transport.send(request).await.err().unwrap();
    assert!(!error.may_have_arrived(), "{error:?}");
    let lost = http::Request::get("not-an-address").body(Bytes::new()).unwrap();
    assert!(!transport.send(lost).await.err().unwrap().may_have_arrived());
}

#[test]
fn the_environment_names_are_honoured() {
    let config = |pairs: &'static [(&str, &str)]| {
        OpenAiConfig::from_lookup(move |name| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, v)| (*v).to_owned())
        })
    };
    let found = config(&[
        ("AION_OPENAI_BASEURL", "http://x/v1"),
        ("AION_LLM_MODEL_NAME", "m"),
        ("AION_LLM_API_KEY", "k"),
    ]);
    let found = found.unwrap();
    assert_eq!(
        (found.base_url.as_str(), found.model.as_str()),
        ("http://x/v1", "m")
    );
    assert!(found.api_key.is_some() && !format!("{found:?}").contains("\"k\""));
    assert!(matches!(
        config(&[("AION_MODEL_NAME", "m")]),
        Err(ModelError::Config(_))
    ));
}
