//! A scripted model server: every way in which a model server behaves or misbehaves, on demand.
//!
//! [`ScriptedModel`] is a tower service for an [`InProcessTransport`](crate::InProcessTransport), and
//! listens on a socket of its own by [`ScriptedModel::listen`]. Each request takes the next
//! [`Script`] of the list; requests are kept, so that a test can assert on what was asked.

mod http;
mod service;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

pub use self::http::ScriptedServer;
pub use self::service::ScriptedBody;

/// One answer of the scripted server.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Script {
    /// Text, and nothing else.
    Text(String),
    /// Calls of tools: name and arguments as JSON text, well-formed or not.
    Calls(Vec<(String, String)>),
    /// Text with a finish reason of choice; none leaves it out.
    Finish {
        /// The text.
        text: String,
        /// The reason.
        reason: Option<String>,
    },
    /// A stream that breaks after so many bytes of the given answer.
    CutAt {
        /// The answer.
        script: Box<Script>,
        /// Bytes that arrive.
        bytes: usize,
    },
    /// An HTTP status with a JSON error, and how many seconds to wait if the server says so.
    Status {
        /// The status.
        status: u16,
        /// What it says.
        message: String,
        /// `Retry-After`.
        retry_after_s: Option<u64>,
    },
    /// An HTML page with status 200, as from a proxy.
    Html(String),
    /// Nothing at all, for so long.
    Hang(Duration),
    /// A body of choice with status 200.
    Raw {
        /// The content type.
        content_type: String,
        /// The body.
        body: String,
    },
}

impl Script {
    /// Text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// One call with well-formed arguments.
    pub fn call(name: impl Into<String>, arguments: &Value) -> Self {
        Self::Calls(vec![(name.into(), arguments.to_string())])
    }

    /// The answer of the JSON-schema protocol: one action.
    pub fn action(name: &str, arguments: &Value) -> Self {
        Self::Text(json!({"action": name, "arguments": arguments}).to_string())
    }

    /// A call of `finish`.
    pub fn finish(status: &str, summary: &str) -> Self {
        Self::call("finish", &json!({"status": status, "summary": summary}))
    }

    /// The same, broken off after `bytes` bytes.
    #[must_use]
    pub fn cut_at(self, bytes: usize) -> Self {
        Self::CutAt {
            script: Box::new(self),
            bytes,
        }
    }
}

/// What the server does when its list is empty.
type Fallback = Arc<dyn Fn(&Value) -> Script + Send + Sync>;

/// A model server that follows a script. Clones share one script.
///
/// ```
/// use std::sync::Arc;
/// use aion_loop::testkit::{Script, ScriptedModel};
/// use aion_loop::{ChatMessage, ChatModel, ChatRequest};
/// use aion_types::Role;
///
/// let server = ScriptedModel::new([Script::text("Hello.")]);
/// let model = server.chat();
/// let request = ChatRequest { messages: vec![ChatMessage::new(Role::User, "Hi")], max_tokens: 8, ..ChatRequest::default() };
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// assert_eq!(model.chat(&request).await?.text, "Hello.");
/// assert_eq!(server.requests()[0]["messages"][0]["content"], "Hi");
/// # Ok::<(), aion_loop::ModelError>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct ScriptedModel {
    inner: Arc<Mutex<Inner>>,
    fallback: Option<Fallback>,
}

#[derive(Debug, Default)]
struct Inner {
    scripts: VecDeque<Script>,
    requests: Vec<Value>,
    keys: Vec<Option<String>>,
}

impl std::fmt::Debug for ScriptedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptedModel").finish_non_exhaustive()
    }
}

impl ScriptedModel {
    /// A server with these answers in this order; then it answers 503.
    pub fn new(scripts: impl IntoIterator<Item = Script>) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                scripts: scripts.into_iter().collect(),
                ..Inner::default()
            })),
            fallback: None,
        }
    }

    /// A server that computes each answer from the request.
    pub fn answering(answer: impl Fn(&Value) -> Script + Send + Sync + 'static) -> Self {
        Self {
            fallback: Some(Arc::new(answer)),
            ..Self::new([])
        }
    }

    /// Adds an answer.
    pub fn push(&self, script: Script) {
        self.lock().scripts.push_back(script);
    }

    /// The bodies of all requests so far.
    pub fn requests(&self) -> Vec<Value> {
        self.lock().requests.clone()
    }

    /// The `Authorization` headers of all requests so far.
    pub fn authorizations(&self) -> Vec<Option<String>> {
        self.lock().keys.clone()
    }

    /// A client of this server without a socket; it asks once.
    ///
    /// # Panics
    /// Never: the address is a constant.
    pub fn chat(&self) -> crate::OpenAiChat {
        let config = crate::OpenAiConfig::new("http://scripted.invalid/v1", "scripted");
        let transport =
            Arc::new(crate::InProcessTransport::<_, http_body_util::Full<bytes::Bytes>>::new(self.clone()));
        let retry = crate::RetryPolicy {
            retries: 0,
            ..crate::RetryPolicy::default()
        };
        match crate::OpenAiChat::new(config, transport) {
            Ok(chat) => chat.with_retry(retry),
            Err(error) => panic!("a constant address: {error}"),
        }
    }

    fn next(&self, request: &Value, key: Option<String>) -> Script {
        let mut inner = self.lock();
        inner.requests.push(request.clone());
        inner.keys.push(key);
        let scripted = inner.scripts.pop_front();
        drop(inner);
        let computed = || self.fallback.as_ref().map(|answer| answer(request));
        scripted.or_else(computed).unwrap_or_else(|| Script::Status {
            status: 503,
            message: "the script is over".to_owned(),
            retry_after_s: None,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
