//! The language model that forecasts in the market of `aion up`: a server's, or the one of this process.
//!
//! It is off unless it may be asked so many times a day, and the market waits for no answer of it.

use std::sync::Arc;
use std::time::Duration;

use aion_loop::{
    ChatMessage, ChatModel, ChatRequest, InProcessTransport, OpenAiChat, OpenAiConfig, ResponseSchema,
    RetryPolicy,
};
use aion_market::predict::llm::{self, ChatAnswer, ChatError, ChatPrompt, LlmBudget, LlmOptions};
use aion_market::{LlmPredictor, Predictor};
use aion_market_server::HttpChat;
use aion_types::{Clock, Role};
use async_trait::async_trait;
use axum::Router;

use crate::Result;

/// How long one answer may take: a model on a processor reads a page in seconds, and the observer gives up
/// after a minute.
const ANSWER_TIME: Duration = Duration::from_secs(55);
/// What fits beside the rules and the answer into the context of a small model of this machine.
const LOCAL_PROMPT_BYTES: usize = 6_000;

/// The predictor `llm`, if it may be asked at all: the server that `AION_OPENAI_BASEURL` names through
/// `lookup`, else the model of this process behind `openai`.
///
/// # Errors
/// An environment that names half a server, or a name that no model has.
pub fn language_model(
    calls_per_day: u32,
    clock: &Arc<dyn Clock>,
    openai: &Router,
    name: &str,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Option<Arc<dyn Predictor>>> {
    if calls_per_day == 0 {
        return Ok(None);
    }
    let budget = LlmBudget::default().with_calls_per_day(calls_per_day);
    let options = LlmOptions::default()
        .with_budget(budget)
        .with_timeout(ANSWER_TIME);
    let (model, options): (Arc<dyn llm::ChatModel>, _) = match HttpChat::from_lookup(lookup)? {
        Some(server) => (Arc::new(server), options),
        None => (
            Arc::new(InProcess::new(openai.clone(), name)?),
            options.with_max_prompt_bytes(LOCAL_PROMPT_BYTES),
        ),
    };
    let predictor = LlmPredictor::new(model, Arc::clone(clock), options)?;
    Ok(Some(Arc::new(predictor)))
}

/// The model of this process, asked without a socket.
#[derive(Debug)]
struct InProcess(OpenAiChat);

impl InProcess {
    fn new(openai: Router, name: &str) -> Result<Self> {
        let transport: InProcessTransport<_, axum::body::Body> = InProcessTransport::new(openai);
        let config = OpenAiConfig::new("http://aion.invalid/v1", name);
        // A call is paid for when it is made: none is made twice.
        let once = RetryPolicy {
            retries: 0,
            ..RetryPolicy::default()
        };
        let chat = OpenAiChat::new(config, Arc::new(transport))?
            .with_retry(once)
            .with_timeout(ANSWER_TIME);
        Ok(Self(chat))
    }
}

#[async_trait]
impl llm::ChatModel for InProcess {
    async fn complete(&self, prompt: &ChatPrompt) -> Result<ChatAnswer, ChatError> {
        let request = ChatRequest {
            messages: vec![
                ChatMessage::new(Role::System, prompt.system.clone()),
                ChatMessage::new(Role::User, prompt.user.clone()),
            ],
            response_schema: Some(ResponseSchema {
                name: "forecast".to_owned(),
                schema: prompt.schema.clone(),
            }),
            max_tokens: prompt.max_tokens,
            temperature: Some(0.0),
            ..ChatRequest::default()
        };
        let reply = self.0.chat(&request).await?;
        let answer = ChatAnswer::new(reply.text);
        Ok(match reply.usage.total() {
            Some(tokens) => answer.with_tokens(tokens),
            None => answer,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aion_market::TaskView;
    use aion_types::{PpmDist, Prob, SystemClock, TaskRecord, Timestamp};
    use axum::routing::post;
    use serde_json::{Value, json};

    /// A chat service that says what it is given, if it is asked for JSON of some schema.
    fn saying(text: &'static str) -> Router {
        let answer = async move |axum::Json(asked): axum::Json<Value>| {
            assert_eq!(asked["response_format"]["type"], "json_schema", "{asked}");
            axum::Json(json!({
                "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 40, "completion_tokens": 2},
            }))
        };
        Router::new().route("/v1/chat/completions", post(answer))
    }

    fn task() -> TaskRecord {
        let id = "01890a5d-ac96-774b-bcce-b302099a8057";
        serde_json::from_value(json!({
            "id": id, "root_id": id, "depth": 0, "kind": "chat", "queue": "q", "title": "Copy a.txt",
            "spec": "", "status": "READY", "priority": 0, "lease_epoch": 0, "attempt": 1,
            "max_attempts": 3, "crash_count": 0, "open_children": 0, "waiting_on": 0, "version": 1,
            "created_at": 0, "updated_at": 0,
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn the_model_of_this_process_is_asked_without_a_socket() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let openai = saying(r#"{"probabilities": {"SUCCESS": 0.7, "FAILED": 0.3}}"#);
        let off = language_model(0, &clock, &openai, "small", |_| None).unwrap();
        assert!(off.is_none());
        let llm = language_model(1, &clock, &openai, "small", |_| None)
            .unwrap()
            .unwrap();
        let (task, price) = (task(), PpmDist::binary(Prob::new(0.5).unwrap()));
        let view = TaskView::new(&task, &[], Timestamp::from_ms(0));
        let said = llm.predict(&view, &price).await.unwrap().unwrap();
        assert!((said.success.get() - 0.7).abs() < 1e-12);
        // One call a day.
        assert!(llm.predict(&view, &price).await.unwrap().is_none());
    }

    #[test]
    fn half_a_server_is_refused() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let half = |name: &str| (name == "AION_OPENAI_BASEURL").then(|| "http://127.0.0.1:1/v1".to_owned());
        assert!(language_model(1, &clock, &Router::new(), "small", half).is_err());
    }
}
