//! What the operator allows, and what a request wants of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aion_types::AddressRange;
use aion_types::address::is_public;
use serde::{Deserialize, Serialize};

use super::host::{Host, HostPattern};
use super::resolve::{Resolve, SystemResolver};

/// Whether executions have a way to the network. Only the operator's configuration says so.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum NetworkPolicy {
    /// None.
    #[default]
    Off,
    /// What a list allows, by a proxy. It needs a network namespace; where there is none, nothing is executed that
    /// was to have it.
    Allow(AllowList),
}

/// What the proxy of one execution may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyLimits {
    /// Connections at one time.
    pub connections: usize,
    /// Connections in all.
    pub total_connections: u64,
    /// Bytes in both directions, of all connections.
    pub total_bytes: u64,
    /// How long the head of a request may take to arrive.
    pub head_time: Duration,
    /// How long resolving and connecting may take.
    pub connect_time: Duration,
    /// How long a connection may be silent.
    pub idle_time: Duration,
}

impl Default for ProxyLimits {
    fn default() -> Self {
        Self {
            connections: 32,
            total_connections: 4096,
            total_bytes: 1 << 30,
            head_time: Duration::from_secs(10),
            connect_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(120),
        }
    }
}

impl ProxyLimits {
    /// Bounds the connections at one time.
    #[must_use]
    pub fn with_connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Bounds the bytes of all connections.
    #[must_use]
    pub fn with_total_bytes(mut self, total_bytes: u64) -> Self {
        self.total_bytes = total_bytes;
        self
    }

    /// Bounds how long the head of a request may take.
    #[must_use]
    pub fn with_head_time(mut self, head_time: Duration) -> Self {
        self.head_time = head_time;
        self
    }

    /// Bounds how long a connection may be silent.
    #[must_use]
    pub fn with_idle_time(mut self, idle_time: Duration) -> Self {
        self.idle_time = idle_time;
        self
    }
}

/// Which hosts may be reached, and where they may be.
///
/// ```
/// use aion_machine::{AllowList, LocalOptions, NetworkPolicy};
/// let list = AllowList::new()
///     .with_host("*.crates.io".parse()?)
///     .with_host("registry.example.internal:8080".parse()?)
///     .with_range("10.1.0.0/16".parse().unwrap());
/// let options = LocalOptions::default().with_network(NetworkPolicy::Allow(list));
/// # let _ = options;
/// # Ok::<(), aion_machine::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AllowList {
    /// What may be named.
    pub hosts: Vec<HostPattern>,
    /// Addresses that may be connected to beside public ones.
    pub ranges: Vec<AddressRange>,
    /// What the proxy of one execution may use.
    pub limits: ProxyLimits,
    /// Who resolves names.
    pub resolver: Arc<dyn Resolve>,
}

impl Default for AllowList {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            ranges: Vec::new(),
            limits: ProxyLimits::default(),
            resolver: Arc::new(SystemResolver),
        }
    }
}

impl AllowList {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows these hosts.
    #[must_use]
    pub fn with_host(mut self, pattern: HostPattern) -> Self {
        self.hosts.push(pattern);
        self
    }

    /// Allows addresses of this range as well; they can be of the host's own network.
    #[must_use]
    pub fn with_range(mut self, range: AddressRange) -> Self {
        self.ranges.push(range);
        self
    }

    /// Chooses what the proxy of one execution may use.
    #[must_use]
    pub fn with_limits(mut self, limits: ProxyLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Chooses who resolves names.
    #[must_use]
    pub fn with_resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Whether an address may be connected to, whatever its name.
    pub fn allows_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.ranges.iter().any(|range| range.contains(address))
    }

    pub(super) fn allows_host(&self, host: &Host, port: u16) -> bool {
        self.hosts.iter().any(|pattern| pattern.matches(host, port))
    }
}

/// What one request wants of what the operator allows. It can never be more.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum NetworkRequest {
    /// All of it.
    #[default]
    Granted,
    /// Nothing.
    Off,
    /// What is in this list too.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    Only(Vec<HostPattern>),
}

impl NetworkRequest {
    pub(super) fn allows_host(&self, host: &Host, port: u16) -> bool {
        match self {
            Self::Granted => true,
            Self::Off => false,
            Self::Only(hosts) => hosts.iter().any(|pattern| pattern.matches(host, port)),
        }
    }
}
