//! What the service says about itself.

use std::sync::atomic::Ordering;

use aion_service::{Problem, StateQuery, StateSource};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::model::Model;

/// `{"llm": {...}}`: the model and how busy it is.
#[derive(Debug)]
pub(crate) struct ModelState(pub(crate) Model);

#[async_trait]
impl StateSource for ModelState {
    async fn state(&self, _query: &StateQuery) -> Result<Value, Problem> {
        let meter = &self.0.meter;
        let model = self.0.engine().ok().map(|engine| {
            let info = engine.info();
            json!({
                "name": info.name,
                "parameters": info.config.n_parameters(),
                "context_length": info.context_length,
                "device": info.device,
                "reference": info.reference,
            })
        });
        Ok(json!({"llm": {
            "model": model,
            "waiting": meter.waiting.load(Ordering::Relaxed),
            "requests": meter.requests.load(Ordering::Relaxed),
            "prompt_tokens": meter.prompt_tokens.load(Ordering::Relaxed),
            "completion_tokens": meter.completion_tokens.load(Ordering::Relaxed),
        }}))
    }

    async fn ready(&self) -> Result<(), String> {
        self.0
            .engine()
            .map(drop)
            .map_err(|error| error.0.detail().to_owned())
    }
}
