//! Names to addresses, without those where messages may not go.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::target::{TargetError, TargetPolicy};

/// Who knows the addresses of a name.
#[async_trait]
pub trait Lookup: fmt::Debug + Send + Sync + 'static {
    /// The addresses of a host.
    ///
    /// # Errors
    /// When nobody knows it.
    async fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The resolver of this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((host, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// Gives the client the addresses that it may connect to, so that it connects to no other: what is checked is
/// what is used, whatever the name resolves to a moment later.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    pub(super) lookup: Arc<dyn Lookup>,
    pub(super) policy: Arc<TargetPolicy>,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { lookup, policy } = self.clone();
        Box::pin(async move {
            let found = lookup.lookup(name.as_str()).await?;
            let allowed = found.into_iter().filter(|address| policy.allows(*address));
            // The port is that of the URL.
            let allowed: Vec<SocketAddr> = allowed.map(|address| (address, 0).into()).collect();
            if allowed.is_empty() {
                return Err(TargetError::ResolvesElsewhere.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
