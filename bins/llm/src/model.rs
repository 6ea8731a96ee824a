//! The model, once it is loaded: a thread of its own loads it, and no async thread ever waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use aion_llm::{Engine, Error as ModelError, Ticket};
use aion_service::Problem;

use crate::error::{ApiError, ApiResult};

type Loaded = Result<Engine, String>;

/// A handle to the model.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    loaded: Arc<OnceLock<Loaded>>,
}

impl Model {
    /// Starts to load the engine, which then lets so many requests wait.
    pub(crate) fn start(load: impl FnOnce() -> Loaded + Send + 'static, queue: usize) -> Self {
        let model = Self {
            loaded: Arc::default(),
        };
        let loaded = Arc::clone(&model.loaded);
        let thread = std::thread::Builder::new().name("aion-llm-load".into());
        let spawned = thread.spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(load))
                .unwrap_or_else(|_| Err("loading the model failed".into()));
            match &result {
                Ok(engine) => engine.limit_queue(queue),
                Err(reason) => tracing::error!(%reason, "no model"),
            }
            drop(loaded.set(result));
        });
        if let Err(error) = spawned {
            drop(model.loaded.set(Err(format!("no thread: {error}"))));
        }
        model
    }

    /// A model that is never there: for the API document alone.
    pub(crate) fn absent() -> Self {
        let loaded = Arc::new(OnceLock::from(Err("this service has no model".to_owned())));
        Self { loaded }
    }

    /// The engine, once it is loaded.
    pub(crate) fn engine(&self) -> ApiResult<&Engine> {
        match self.loaded.get() {
            Some(Ok(engine)) => Ok(engine),
            Some(Err(reason)) => Err(ApiError(
                Problem::unavailable("model_missing", reason.clone()).retry_after(60),
            )),
            None => Err(ApiError(
                Problem::unavailable("model_loading", "the model is being loaded").retry_after(2),
            )),
        }
    }

    /// Runs a short piece of work on a thread that may block, and waits for its result.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<T> {
        let engine = self.engine()?.clone();
        let done = tokio::task::spawn_blocking(move || work(&engine));
        done.await
            .unwrap_or_else(|error| Err(ApiError(Problem::internal(error))))
    }

    /// Asks for something and waits for it; who stops waiting cancels it.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        start: impl FnOnce(&Engine) -> Result<Ticket<T>, ModelError> + Send + 'static,
    ) -> ApiResult<T> {
        let ticket = self.call(|engine| Ok(start(engine)?)).await?;
        Ok(ticket.finish().await?)
    }
}
