//! The model behind a bounded queue: one thread of its own runs it, so no async thread ever computes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use aion_llm::Engine;
use aion_service::Problem;
use tokio::sync::mpsc;

use crate::error::{ApiError, ApiResult};

type Job = Box<dyn FnOnce(&Engine) + Send>;
type Loaded = Result<Engine, String>;

/// A handle to the model's thread.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    jobs: mpsc::Sender<Job>,
    loaded: Arc<OnceLock<Loaded>>,
    pub(crate) meter: Arc<Meter>,
}

/// What was done so far.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) requests: AtomicU64,
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) completion_tokens: AtomicU64,
    pub(crate) waiting: AtomicUsize,
}

impl Model {
    /// Starts the thread, which first loads the engine.
    pub(crate) fn start(load: impl FnOnce() -> Loaded + Send + 'static, queue: usize) -> Self {
        let (jobs, inbox) = mpsc::channel(queue);
        let model = Self {
            jobs,
            loaded: Arc::default(),
            meter: Arc::default(),
        };
        let (loaded, meter) = (Arc::clone(&model.loaded), Arc::clone(&model.meter));
        let thread = std::thread::Builder::new().name("aion-llm".into());
        if let Err(error) = thread.spawn(move || run(load, inbox, &loaded, &meter)) {
            drop(model.loaded.set(Err(format!("no thread: {error}"))));
        }
        model
    }

    /// A model that is never there: for the API document alone.
    pub(crate) fn absent() -> Self {
        let (jobs, _) = mpsc::channel(1);
        let loaded = Arc::new(OnceLock::from(Err("this service has no model".to_owned())));
        Self {
            jobs,
            loaded,
            meter: Arc::default(),
        }
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

    /// Puts work in the queue, or says that it is full.
    pub(crate) fn submit(&self, job: impl FnOnce(&Engine) + Send + 'static) -> ApiResult<()> {
        self.engine()?;
        self.meter.waiting.fetch_add(1, Ordering::Relaxed);
        self.jobs.try_send(Box::new(job)).map_err(|error| {
            self.meter.waiting.fetch_sub(1, Ordering::Relaxed);
            match error {
                mpsc::error::TrySendError::Full(_) => busy(),
                mpsc::error::TrySendError::Closed(_) => {
                    ApiError(Problem::internal("the model's thread has ended"))
                }
            }
        })
    }

    /// Runs a short piece of work and waits for its result.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<T> {
        let (reply, result) = tokio::sync::oneshot::channel();
        self.submit(move |engine| {
            if !reply.is_closed() {
                drop(reply.send(work(engine)));
            }
        })?;
        result
            .await
            .unwrap_or_else(|_| Err(ApiError(Problem::internal("the model failed"))))
    }
}

fn busy() -> ApiError {
    ApiError(Problem::too_many(
        "queue_full",
        "the model has more work than it may queue",
        1,
    ))
}

fn run(
    load: impl FnOnce() -> Loaded,
    mut inbox: mpsc::Receiver<Job>,
    loaded: &OnceLock<Loaded>,
    meter: &Meter,
) {
    let result =
        catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|_| Err("loading the model failed".into()));
    if let Err(reason) = &result {
        tracing::error!(%reason, "no model");
    }
    let Ok(engine) = loaded.get_or_init(|| result) else {
        return;
    };
    while let Some(job) = inbox.blocking_recv() {
        meter.waiting.fetch_sub(1, Ordering::Relaxed);
        // Whoever waits for the answer sees its channel close; the engine starts over with an empty cache.
        if catch_unwind(AssertUnwindSafe(|| job(engine))).is_err() {
            tracing::error!("a request made the model panic");
        }
    }
}
