//! The model of a run: one of this machine, in process, or a server of any make.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aion_llm::{Engine, EngineOptions};
use aion_llm_server::LlmOptions;
use aion_loop::{
    ChatModel, InProcessTransport, NetworkTransport, OpenAiChat, OpenAiConfig, Streaming, Transport,
};
use aion_service::Limits;
use axum::Router;

use super::Style;
use crate::model::{ModelCache, ModelSource, Progress};
use crate::{Error, Result};

/// How long one answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(300);
/// The context that a local model is loaded with.
const LOCAL_CONTEXT: usize = 4_096;

/// Which model to use.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ModelChoice {
    /// A file of this machine, fetched first if it has to be.
    Local(ModelSource),
    /// An OpenAI-compatible server.
    Server(OpenAiConfig),
}

impl ModelChoice {
    /// Reads `--model`: a URL is a server, anything else a model of this machine. Without it, the
    /// server that `AION_OPENAI_BASEURL` names, else the default model.
    ///
    /// # Errors
    /// [`Error::BadModelName`], or an environment that names half a server.
    pub fn parse(text: Option<&str>, model_name: Option<&str>) -> Result<Self> {
        let env = |name: &str| std::env::var(name).ok();
        let is_url = |text: &str| text.starts_with("http://") || text.starts_with("https://");
        match text {
            Some(url) if is_url(url) => {
                let name = model_name.map(str::to_owned).or_else(|| env("AION_MODEL_NAME"));
                let mut config = OpenAiConfig::new(url, name.unwrap_or_else(|| "default".to_owned()));
                if let Some(key) = env("AION_OPENAI_API_KEY").or_else(|| env("AION_LLM_API_KEY")) {
                    config = config.with_api_key(key);
                }
                Ok(Self::Server(config))
            }
            Some(name) => Ok(Self::Local(name.parse()?)),
            None if env("AION_OPENAI_BASEURL").is_some_and(|url| !url.is_empty()) => {
                Ok(Self::Server(OpenAiConfig::from_env()?))
            }
            None => Ok(Self::Local(crate::model::DEFAULT_MODEL.into())),
        }
    }

    /// How such a model is asked unless told otherwise.
    pub fn style(&self) -> Style {
        match self {
            Self::Local(_) => Style::Small,
            Self::Server(_) => Style::Native,
        }
    }

    /// Makes the model ready to be asked.
    ///
    /// # Errors
    /// What stops the download or the loading.
    pub async fn load(&self, cache: &ModelCache, progress: &Progress) -> Result<LoadedModel> {
        match self {
            Self::Server(config) => {
                let transport = NetworkTransport::new(Duration::from_secs(10))?;
                let chat = chat(config.clone(), Arc::new(transport))?;
                Ok(LoadedModel {
                    name: config.model.clone(),
                    chat,
                    engine: None,
                })
            }
            Self::Local(source) => {
                let (cache, source, progress) = (cache.clone(), source.clone(), progress.clone());
                let (path, engine) = blocking(move || {
                    let path = cache.pull(&source, &progress)?;
                    let engine = load_engine(&path)?;
                    Ok((path, engine))
                })
                .await?;
                LoadedModel::local(&path, engine)
            }
        }
    }
}

/// A model that is ready.
#[derive(Debug, Clone)]
pub struct LoadedModel {
    /// Its name.
    pub name: String,
    /// How to ask it.
    pub chat: Arc<dyn ChatModel>,
    /// The engine, if it runs in this process.
    pub engine: Option<Engine>,
}

impl LoadedModel {
    /// The engine behind its own HTTP service, called without a socket.
    fn local(path: &Path, engine: Engine) -> Result<Self> {
        let name = engine.info().name.clone();
        let router: Router =
            aion_llm_server::service(engine.clone(), LlmOptions::default()).into_router(&Limits::default());
        tracing::debug!(path = %path.display(), "the model is loaded");
        Ok(Self {
            chat: in_process(router, &name)?,
            name,
            engine: Some(engine),
        })
    }
}

/// A model service of this process as a model.
pub(crate) fn in_process(router: Router, name: &str) -> Result<Arc<dyn ChatModel>> {
    let transport: InProcessTransport<_, axum::body::Body> = InProcessTransport::new(router);
    let config = OpenAiConfig::new("http://aion.invalid/v1", name);
    chat(config, Arc::new(transport))
}

fn chat(config: OpenAiConfig, transport: Arc<dyn Transport>) -> Result<Arc<dyn ChatModel>> {
    let chat = OpenAiChat::new(config, transport)?
        .with_streaming(Streaming::Off)
        .with_timeout(ANSWER_TIME);
    Ok(Arc::new(chat))
}

/// Loads the weights of a file or directory.
///
/// # Errors
/// [`Error::Engine`]
pub(crate) fn load_engine(path: &Path) -> Result<Engine> {
    let source = aion_llm::ModelSource::at(PathBuf::from(path));
    let options = EngineOptions::default().with_context_length(LOCAL_CONTEXT);
    Ok(Engine::load(&source, options)?)
}

/// Runs something that blocks or computes, off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::BadInput {
            what: "the model",
            problem: format!("could not be loaded: {error}"),
        }),
    }
}
