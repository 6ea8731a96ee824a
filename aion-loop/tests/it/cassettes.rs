//! Recorded exchanges with real model servers, replayed through the client.
//!
//! They are third-party data outside this repository: `AION_DATA` says where. Unset, this says so and
//! passes; set, every chat completion must parse.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aion_loop::testkit::{Script, ScriptedModel};
use aion_loop::{
    ChatMessage, ChatModel, ChatRequest, InProcessTransport, ModelError, OpenAiChat, OpenAiConfig,
    RetryPolicy,
};
use aion_types::Role;
use bytes::Bytes;
use http_body_util::Full;
use serde::Deserialize;
use serde_yaml_ng::Value;

#[derive(Deserialize)]
struct Exchange {
    when: Value,
    then: Then,
}

#[derive(Deserialize)]
struct Then {
    #[serde(default)]
    status: u16,
    #[serde(default)]
    header: Vec<Header>,
    #[serde(default)]
    body: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    name: String,
    value: String,
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_some_and(|end| end == "yaml") {
            out.push(path);
        }
    }
}

async fn replay(then: &Then) -> Result<aion_loop::ChatReply, ModelError> {
    let kind = then
        .header
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-type"));
    let body = then.body.clone().unwrap_or_default();
    let script = if (200..300).contains(&then.status) {
        Script::Raw {
            content_type: kind.map(|kind| kind.value.clone()).unwrap_or_default(),
            body,
        }
    } else {
        Script::Status {
            status: then.status,
            message: body,
            retry_after_s: None,
        }
    };
    let server = ScriptedModel::new([script]);
    let transport = Arc::new(InProcessTransport::<_, Full<Bytes>>::new(server));
    let none = RetryPolicy {
        retries: 0,
        ..RetryPolicy::default()
    };
    let chat = OpenAiChat::new(OpenAiConfig::new("http://replay.invalid/v1", "m"), transport)
        .unwrap()
        .with_retry(none);
    let request = ChatRequest {
        messages: vec![ChatMessage::new(Role::User, "x")],
        max_tokens: 1,
        ..ChatRequest::default()
    };
    chat.chat(&request).await
}

#[tokio::test]
async fn every_recorded_chat_completion_parses() {
    let Some(data) = std::env::var_os("AION_DATA") else {
        eprintln!("AION_DATA is not set: no recorded exchanges were replayed");
        return;
    };
    let root = Path::new(&data).join("cassettes");
    let mut paths = Vec::new();
    files(&root, &mut paths);
    assert!(!paths.is_empty(), "AION_DATA promises cassettes in {root:?}");
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    let mut count = |what| *counts.entry(what).or_default() += 1;
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            let exchange =
                Exchange::deserialize(document).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            let to = exchange
                .when
                .get("path")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            if !to.ends_with("/chat/completions") {
                count("other paths, not ours");
                continue;
            }
            let (status, streamed) = (
                exchange.then.status,
                exchange.then.body.as_deref().unwrap_or("").starts_with("data:"),
            );
            match replay(&exchange.then).await {
                Ok(reply) => {
                    assert!(
                        (200..300).contains(&status),
                        "{path:?}: a refusal was taken for a reply"
                    );
                    count(if streamed { "streams" } else { "whole answers" });
                    count_parts(&reply, &mut count);
                    for call in &reply.tool_calls {
                        assert!(!call.name.is_empty(), "{path:?}: a call without a name");
                    }
                }
                Err(ModelError::Status { .. }) if !(200..300).contains(&status) => count("refusals, typed"),
                Err(ModelError::Status { .. }) if streamed => count("errors inside a stream, typed"),
                Err(error) => panic!("{path:?}: {error}"),
            }
        }
    }
    eprintln!("{counts:#?}");
    assert!(counts["streams"] > 20 && counts["whole answers"] > 100);
    assert!(counts["with calls"] > 50 && counts["with usage"] > 100);
}

fn count_parts(reply: &aion_loop::ChatReply, count: &mut impl FnMut(&'static str)) {
    if !reply.text.is_empty() {
        count("with text");
    }
    if !reply.tool_calls.is_empty() {
        count("with calls");
    }
    if reply.usage.total().is_some() {
        count("with usage");
    }
    if reply.text.is_empty() && reply.tool_calls.is_empty() {
        count(if reply.reasoning.is_empty() {
            "empty"
        } else {
            "reasoning alone"
        });
    }
}
