//! Where the model server is, from the environment.

use secrecy::SecretString;

use super::ModelError;

/// Where the model server is and which model to ask for. The key shows in no log.
#[derive(Debug, Clone)]
pub struct OpenAiConfig {
    /// Address up to and including the version, such as `http://127.0.0.1:8790/v1`.
    pub base_url: String,
    /// The key, sent as a bearer token.
    pub api_key: Option<SecretString>,
    /// The model's name.
    pub model: String,
}

impl OpenAiConfig {
    /// A server that needs no key.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            api_key: None,
            model: model.into(),
        }
    }

    /// Sets the key.
    #[must_use]
    pub fn with_api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(SecretString::from(key.into()));
        self
    }

    /// Reads `AION_OPENAI_BASEURL`, `AION_OPENAI_API_KEY` (or `AION_LLM_API_KEY`) and
    /// `AION_MODEL_NAME` (or `AION_LLM_MODEL_NAME`) through `lookup`.
    ///
    /// ```
    /// use aion_loop::OpenAiConfig;
    ///
    /// let lookup = |name: &str| match name {
    ///     "AION_OPENAI_BASEURL" => Some("http://127.0.0.1:8790/v1".to_owned()),
    ///     "AION_LLM_MODEL_NAME" => Some("smollm2".to_owned()),
    ///     _ => None,
    /// };
    /// let config = OpenAiConfig::from_lookup(lookup)?;
    /// assert_eq!(config.model, "smollm2");
    /// # Ok::<(), aion_loop::ModelError>(())
    /// ```
    ///
    /// # Errors
    /// [`ModelError::Config`] when the address or the model is not given.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ModelError> {
        let get = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| lookup(name).filter(|value| !value.trim().is_empty()))
        };
        let base_url = get(&["AION_OPENAI_BASEURL", "AION_LLM_BASEURL"])
            .ok_or_else(|| ModelError::Config("AION_OPENAI_BASEURL is not set".to_owned()))?;
        let model = get(&["AION_MODEL_NAME", "AION_LLM_MODEL_NAME"])
            .ok_or_else(|| ModelError::Config("AION_MODEL_NAME is not set".to_owned()))?;
        let api_key = get(&["AION_OPENAI_API_KEY", "AION_LLM_API_KEY"]);
        Ok(Self {
            base_url,
            api_key: api_key.map(SecretString::from),
            model,
        })
    }

    /// [`from_lookup`](Self::from_lookup) over the process environment.
    ///
    /// # Errors
    /// [`ModelError::Config`] when the address or the model is not given.
    pub fn from_env() -> Result<Self, ModelError> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }
}
