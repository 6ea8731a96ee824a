//! The scripted server as a tower service: from a script to bytes.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::http::{Request, Response, StatusCode};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};

use super::{Script, ScriptedModel};

/// The body of a scripted response.
pub type ScriptedBody = StreamBody<BoxStream<'static, Result<Frame<Bytes>, std::io::Error>>>;

/// Bytes of one chunk on the wire: small, so that events are split across chunks.
const CHUNK_BYTES: usize = 61;

impl<B> tower::Service<Request<B>> for ScriptedModel
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: std::fmt::Debug,
{
    type Response = Response<ScriptedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body
                .collect()
                .await
                .map(http_body_util::Collected::to_bytes)
                .unwrap_or_default();
            let asked: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let key = head
                .headers
                .get("authorization")
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned);
            let streamed = asked.get("stream") == Some(&Value::Bool(true));
            let script = server.next(&asked, key);
            Ok(respond(&script, streamed).await)
        })
    }
}

/// The answer of a script, whole or as server-sent events.
async fn respond(script: &Script, streamed: bool) -> Response<ScriptedBody> {
    match script {
        Script::Hang(time) => {
            tokio::time::sleep(*time).await;
            plain(StatusCode::GATEWAY_TIMEOUT, "text/plain", "late", None)
        }
        Script::Status {
            status,
            message,
            retry_after_s,
        } => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let body = json!({"error": {"message": message, "type": "scripted"}}).to_string();
            plain(status, "application/json", &body, *retry_after_s)
        }
        Script::Html(page) => plain(StatusCode::OK, "text/html; charset=utf-8", page, None),
        Script::Raw { content_type, body } => plain(StatusCode::OK, content_type, body, None),
        Script::CutAt { script, bytes } => {
            let (kind, body) = render(script, streamed);
            let cut = body.len().min(*bytes);
            let ending = if cut < body.len() {
                Ending::Broken
            } else {
                Ending::Clean
            };
            response(StatusCode::OK, kind, &body.as_bytes()[..cut], None, ending)
        }
        answer => {
            let (kind, body) = render(answer, streamed);
            plain(StatusCode::OK, kind, &body, None)
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Ending {
    Clean,
    Broken,
}

fn plain(status: StatusCode, kind: &str, body: &str, retry_after_s: Option<u64>) -> Response<ScriptedBody> {
    response(status, kind, body.as_bytes(), retry_after_s, Ending::Clean)
}

fn response(
    status: StatusCode,
    kind: &str,
    body: &[u8],
    retry_after_s: Option<u64>,
    ending: Ending,
) -> Response<ScriptedBody> {
    let mut frames: Vec<Result<Frame<Bytes>, std::io::Error>> = body
        .chunks(CHUNK_BYTES)
        .map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk))))
        .collect();
    if ending == Ending::Broken {
        frames.push(Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)));
    }
    let mut response = Response::new(StreamBody::new(stream::iter(frames).boxed()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Ok(value) = kind.parse() {
        headers.insert("content-type", value);
    }
    if let Some(seconds) = retry_after_s {
        headers.insert("retry-after", seconds.into());
    }
    response
}

/// What a script says: text, calls, finish reason.
fn content(script: &Script) -> (String, Vec<(String, String)>, Option<String>) {
    match script {
        Script::Text(text) => (text.clone(), Vec::new(), Some("stop".to_owned())),
        Script::Calls(calls) => (String::new(), calls.clone(), Some("tool_calls".to_owned())),
        Script::Finish { text, reason } => (text.clone(), Vec::new(), reason.clone()),
        _ => (String::new(), Vec::new(), None),
    }
}

fn usage(text: &str, calls: &[(String, String)]) -> Value {
    let written = text.len()
        + calls
            .iter()
            .map(|(name, arguments)| name.len() + arguments.len())
            .sum::<usize>();
    json!({"prompt_tokens": 10, "completion_tokens": written / 4 + 1, "total_tokens": written / 4 + 11,
        "persistence": {"R_mean": 2.5, "R_min": 1.25, "R_var": 0.5, "R_min_token_idx": 0, "R_harm": 2.0,
            "R_geo": 2.25, "frac_below_1": 0.0, "reference": "uniform", "n": written / 4 + 1}})
}

fn render(script: &Script, streamed: bool) -> (&'static str, String) {
    let (text, calls, reason) = content(script);
    if streamed {
        ("text/event-stream", events(&text, &calls, reason.as_deref()))
    } else {
        let calls_json: Vec<Value> = calls
            .iter()
            .enumerate()
            .map(|(i, call)| call_json(i, call))
            .collect();
        let mut message = json!({"role": "assistant", "content": text});
        if !calls_json.is_empty() {
            message["tool_calls"] = calls_json.into();
            message["content"] = Value::Null;
        }
        let body = json!({"id": "scripted", "object": "chat.completion", "model": "scripted",
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            "usage": usage(&text, &calls)});
        ("application/json", body.to_string())
    }
}

fn call_json(i: usize, (name, arguments): &(String, String)) -> Value {
    json!({"index": i, "id": format!("call_{i}"), "type": "function",
        "function": {"name": name, "arguments": arguments}})
}

/// A stream: text and arguments in small pieces, then the finish reason, then usage, then the mark.
fn events(text: &str, calls: &[(String, String)], reason: Option<&str>) -> String {
    let mut out = String::new();
    let mut event = |delta: Value, reason: Option<&str>| {
        let chunk = json!({"object": "chat.completion.chunk", "model": "scripted",
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]});
        out.push_str(&format!("data: {chunk}\n\n"));
    };
    for piece in pieces(text) {
        event(json!({"content": piece}), None);
    }
    for (i, call) in calls.iter().enumerate() {
        let mut opening = call_json(i, call);
        opening["function"]["arguments"] = "".into();
        event(json!({"tool_calls": [opening]}), None);
        for piece in pieces(&call.1) {
            event(
                json!({"tool_calls": [{"index": i, "function": {"arguments": piece}}]}),
                None,
            );
        }
    }
    if reason.is_some() {
        event(json!({}), reason);
    }
    let last = json!({"object": "chat.completion.chunk", "choices": [], "usage": usage(text, calls)});
    out.push_str(&format!("data: {last}\n\ndata: [DONE]\n\n"));
    out
}

fn pieces(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(7).map(|piece| piece.iter().collect()).collect()
}
