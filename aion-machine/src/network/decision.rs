//! What the proxy was asked and what it answered.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Why a connection was made, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum NetworkVerdict {
    /// It was made.
    Allowed,
    /// The request made no sense, or named the host in a way that could be read as another.
    Malformed,
    /// The host and port are not in the list.
    NotListed,
    /// The name has no address.
    Unresolved,
    /// An address of the host is not public, and not in a range that the operator allows.
    NotPublic,
    /// Nobody answered at the address.
    Unreachable,
    /// There were as many connections as there may be.
    TooMany,
}

/// One connection that a program asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NetworkDecision {
    /// The host in its one form; what was sent, escaped and shortened, where that is not one.
    pub host: String,
    /// The port; 0 where none was understood.
    pub port: u16,
    /// The address that was connected to, or was refused.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub address: Option<IpAddr>,
    /// The answer.
    pub verdict: NetworkVerdict,
    /// Bytes from the program to the host.
    pub sent_bytes: u64,
    /// Bytes from the host to the program.
    pub received_bytes: u64,
}

impl NetworkDecision {
    pub(super) fn new(host: impl Into<String>, port: u16, verdict: NetworkVerdict) -> Self {
        Self {
            host: host.into(),
            port,
            address: None,
            verdict,
            sent_bytes: 0,
            received_bytes: 0,
        }
    }
}
