//! How a service is started: flags, then `AION_*` of the environment, then a TOML file.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Access, ApiKey, Limits, LogFormat, ServeError};

/// Flags that every server binary has; flatten them into its own (`#[command(flatten)]`).
///
/// A flag wins over its environment variable (`AION_LISTEN`, `AION_TIMEOUT_MS`, ...), and that wins over
/// the table `[serve]` of the file. The key itself is never a flag, for other users can read those.
#[derive(Debug, Clone, Default, Args, Serialize)]
#[command(next_help_heading = "Serving")]
pub struct ServeArgs {
    /// Address to listen on [env: AION_LISTEN]; outside loopback an API key is needed
    #[arg(long, value_name = "ADDR:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// File with the API key, or with sha256:HEX of it [env: AION_API_KEY_FILE, or the key: AION_API_KEY]
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
    /// Configuration file, TOML [env: AION_CONFIG]
    #[arg(long, value_name = "FILE", env = "AION_CONFIG", hide_env = true)]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Largest request body in bytes [env: AION_MAX_BODY_BYTES]
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body_bytes: Option<usize>,
    /// Time until an answer must begin, in milliseconds [env: AION_TIMEOUT_MS]
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Requests that run at once [env: AION_MAX_CONCURRENT]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<usize>,
    /// Time that running requests get after a stop signal, in milliseconds [env: AION_DRAIN_MS]
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_ms: Option<u64>,
    /// Log format [env: AION_LOG_FORMAT]
    #[arg(long = "log", value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
}

/// The settings as the sources give them together.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    listen: Option<SocketAddr>,
    api_key: Option<SecretText>,
    api_key_file: Option<PathBuf>,
    max_body_bytes: Option<usize>,
    timeout_ms: Option<u64>,
    max_concurrent: Option<usize>,
    drain_ms: Option<u64>,
    log_format: Option<LogFormat>,
}

/// A key on its way in; an all-digit key arrives from figment as a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum SecretText {
    Text(String),
    Number(u64),
}

const ENV_NAMES: [&str; 8] = [
    "listen",
    "api_key",
    "api_key_file",
    "max_body_bytes",
    "timeout_ms",
    "max_concurrent",
    "drain_ms",
    "log_format",
];

/// The secret that a variable of the environment holds; none if it is empty or not there.
pub fn secret(variable: &str) -> Option<SecretString> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
    value.map(SecretString::from)
}

impl ServeArgs {
    /// Puts flags, environment and file together; `default_port` on 127.0.0.1 if none names an address.
    ///
    /// # Errors
    /// A file or value that does not parse, an unknown key, a weak or unreadable API key.
    pub fn resolve(&self, default_port: u16) -> Result<ServeOptions, ServeError> {
        let environment = Env::prefixed("AION_").only(&ENV_NAMES).ignore(&["api_key"]);
        let mut sources = self.file().focus("serve").merge(environment);
        // Read as it stands: figment would take a key of digits for a number and lose its zeros.
        if let Ok(key) = std::env::var("AION_API_KEY") {
            sources = sources.merge(Serialized::default("api_key", key));
        }
        let settings: Settings = sources
            .merge(Serialized::defaults(self))
            .extract()
            .map_err(|error| ServeError::Config(Box::new(error)))?;
        settings.into_options(default_port)
    }

    /// A service's own table of the same file, under its own environment prefix: for `"market"` the
    /// table `[market]` and `AION_MARKET_*`. What `flags` serialises wins over both.
    ///
    /// # Errors
    /// [`ServeError::Config`] when a source does not parse or does not fit `T`.
    pub fn section<T: DeserializeOwned>(&self, name: &str, flags: &impl Serialize) -> Result<T, ServeError> {
        let prefix = format!("AION_{}_", name.to_ascii_uppercase());
        let figment = self
            .file()
            .focus(name)
            .merge(Env::prefixed(&prefix))
            .merge(Serialized::defaults(flags));
        figment
            .extract()
            .map_err(|error| ServeError::Config(Box::new(error)))
    }

    fn file(&self) -> Figment {
        self.config.iter().fold(Figment::new(), |figment, path| {
            figment.merge(Toml::file_exact(path))
        })
    }
}

impl Settings {
    fn into_options(self, default_port: u16) -> Result<ServeOptions, ServeError> {
        let defaults = ServeOptions::loopback(default_port);
        let limits = Limits {
            max_body_bytes: self.max_body_bytes.unwrap_or(defaults.limits.max_body_bytes),
            timeout: self
                .timeout_ms
                .map_or(defaults.limits.timeout, Duration::from_millis),
            max_concurrent: self.max_concurrent.unwrap_or(defaults.limits.max_concurrent),
        };
        if limits.max_concurrent == 0 || limits.timeout.is_zero() {
            return Err(ServeError::Setting {
                name: "max_concurrent and timeout_ms",
                expected: "above 0",
            });
        }
        let api_key = match (self.api_key, self.api_key_file) {
            (_, Some(path)) => Some(read_key(&path)?),
            (Some(text), None) => Some(ApiKey::new(&text.into_secret())?),
            (None, None) => None,
        };
        Ok(ServeOptions {
            listen: self.listen.unwrap_or(defaults.listen),
            api_key,
            limits,
            max_connections: defaults.max_connections,
            drain: self.drain_ms.map_or(defaults.drain, Duration::from_millis),
            log_format: self.log_format.unwrap_or_default(),
        })
    }
}

impl SecretText {
    fn into_secret(self) -> SecretString {
        match self {
            Self::Text(text) => text.into(),
            Self::Number(number) => number.to_string().into(),
        }
    }
}

fn read_key(path: &Path) -> Result<ApiKey, ServeError> {
    let text = std::fs::read_to_string(path).map_err(|source| ServeError::KeyFile {
        path: path.to_owned(),
        source,
    })?;
    ApiKey::new(&text.into())
}

/// Where and how to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServeOptions {
    /// The address; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The key that callers need; optional on loopback only.
    pub api_key: Option<ApiKey>,
    /// What a request may cost.
    pub limits: Limits,
    /// How many connections are open at once; more wait to be accepted.
    pub max_connections: usize,
    /// How long running requests may go on after a stop signal.
    pub drain: Duration,
    /// How the log is written.
    pub log_format: LogFormat,
}

impl ServeOptions {
    /// 127.0.0.1 without a key, the default limits, 1,024 connections, 10 s to drain.
    pub fn loopback(port: u16) -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
            api_key: None,
            limits: Limits::default(),
            max_connections: 1024,
            drain: Duration::from_secs(10),
            log_format: LogFormat::default(),
        }
    }

    /// Sets the address.
    #[must_use]
    pub fn with_listen(mut self, listen: SocketAddr) -> Self {
        self.listen = listen;
        self
    }

    /// Sets the key that callers need.
    #[must_use]
    pub fn with_api_key(mut self, api_key: ApiKey) -> Self {
        self.api_key = Some(api_key);
        self
    }

    /// Sets the limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how many connections are open at once.
    #[must_use]
    pub fn with_max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// Sets how long running requests may go on after a stop signal.
    #[must_use]
    pub fn with_drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// Who may call under these options.
    ///
    /// # Errors
    /// [`ServeError::NeedsKey`] outside loopback without a key.
    pub fn access(&self) -> Result<Access, ServeError> {
        match &self.api_key {
            Some(key) => Ok(Access::Key(key.clone())),
            None if self.listen.ip().is_loopback() => Ok(Access::Local),
            None => Err(ServeError::NeedsKey(self.listen)),
        }
    }
}
