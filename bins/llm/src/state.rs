//! What the service says about itself.

use aion_service::{Problem, StateQuery, StateSource};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::measure;
use crate::model::Model;

/// `{"llm": {...}}`: the model and how busy it is.
#[derive(Debug)]
pub(crate) struct ModelState(pub(crate) Model);

#[async_trait]
impl StateSource for ModelState {
    async fn state(&self, _query: &StateQuery) -> Result<Value, Problem> {
        let engine = self.0.engine().ok();
        let model = engine.map(|engine| {
            let info = engine.info();
            json!({
                "name": info.name,
                "parameters": info.config.n_parameters(),
                "context_length": info.context_length,
                "device": info.device,
                "threads": info.threads,
                "reference": info.reference,
                "calibration": info.calibration,
            })
        });
        let stats = engine.map(aion_llm::Engine::stats).unwrap_or_default();
        Ok(json!({"llm": {
            "model": model,
            "waiting": stats.waiting,
            "reading": stats.reading,
            "writing": stats.writing,
            "requests": stats.requests,
            "completed": stats.completed,
            "cancelled": stats.cancelled,
            "failed": stats.failed,
            "refused": stats.refused,
            "prompt_tokens": stats.read_tokens + stats.prefix.reused_tokens,
            "completion_tokens": stats.written_tokens,
            "cache_bytes": stats.cache,
            "prefix_cache": stats.prefix,
        }}))
    }

    async fn ready(&self) -> Result<(), String> {
        self.0
            .engine()
            .map(drop)
            .map_err(|error| error.0.detail().to_owned())
    }

    async fn measure(&self) {
        if let Ok(engine) = self.0.engine() {
            measure::publish(&engine.stats());
        }
    }
}
