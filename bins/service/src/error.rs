//! Why a service does not start, or ends.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a service does not start, or ends.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Outside loopback a key is a must.
    #[error(
        "{0} is reachable from other machines: give an API key (--api-key-file or AION_API_KEY) \
         or listen on 127.0.0.1"
    )]
    NeedsKey(SocketAddr),
    /// The key is too short to be one, or its hash is malformed.
    #[error("an API key has at least 16 bytes, or is sha256: and 64 hexadecimal digits")]
    WeakKey,
    /// The file with the key cannot be read.
    #[error("the API key file {path} cannot be read")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Flags, environment and file do not make a configuration.
    #[error("the configuration is not valid")]
    Config(#[source] Box<figment::Error>),
    /// A setting is out of its range.
    #[error("{name} must be {expected}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// The address is taken, or not ours.
    #[error("cannot listen on {addr}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A log format or filter that does not exist.
    #[error("{0} is not a log filter")]
    LogFilter(String),
}
