//! Server-sent events from running completions.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, header};
use serde_json::Value;

use crate::choices::Choices;
use crate::generate::Step;

/// A comment is sent this often while nothing else is, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Turns steps into events.
pub(crate) trait Encoder: Send + 'static {
    /// Before the first step, of so many choices.
    fn begin(&mut self, choices: usize) -> Vec<Event>;
    /// For each step of the choice of this number.
    fn step(&mut self, choice: usize, step: Step) -> Vec<Event>;
    /// After the last step of all, unless one failed.
    fn end(&mut self) -> Vec<Event>;
}

/// One event.
#[derive(Debug)]
pub(crate) struct Event {
    name: Option<&'static str>,
    data: String,
}

impl Event {
    /// An event without a name.
    pub(crate) fn data(value: &Value) -> Self {
        Self {
            name: None,
            data: value.to_string(),
        }
    }

    /// An event with a name.
    pub(crate) fn named(name: &'static str, value: &Value) -> Self {
        Self {
            name: Some(name),
            data: value.to_string(),
        }
    }

    /// The mark after the last event of the older protocols.
    pub(crate) fn done() -> Self {
        Self {
            name: None,
            data: "[DONE]".into(),
        }
    }

    fn bytes(&self) -> Bytes {
        let name = self
            .name
            .map_or_else(String::new, |name| format!("event: {name}\n"));
        format!("{name}data: {}\n\n", self.data).into()
    }
}

struct Stream<E> {
    choices: Choices,
    encoder: E,
    ready: VecDeque<Bytes>,
    ended: bool,
}

/// The response that streams a generation.
pub(crate) fn response(choices: Choices, mut encoder: impl Encoder) -> Response {
    let ready = encoder.begin(choices.len()).iter().map(Event::bytes).collect();
    let stream = Stream {
        choices,
        encoder,
        ready,
        ended: false,
    };
    let body = Body::from_stream(futures::stream::unfold(stream, |mut stream| async {
        let chunk = stream.next().await?;
        Some((Ok::<_, Infallible>(chunk), stream))
    }));
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

impl<E: Encoder> Stream<E> {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Some(chunk);
            }
            if self.ended {
                return None;
            }
            match tokio::time::timeout(KEEP_ALIVE, self.choices.next()).await {
                Err(_) => return Some(Bytes::from_static(b": the model works\n\n")),
                Ok(None) => {
                    self.ended = true;
                    self.ready.extend(self.encoder.end().iter().map(Event::bytes));
                }
                Ok(Some((choice, step))) => {
                    self.ended = matches!(step, Step::Failed(_));
                    let events = self.encoder.step(choice, step);
                    self.ready.extend(events.iter().map(Event::bytes));
                }
            }
        }
    }
}
