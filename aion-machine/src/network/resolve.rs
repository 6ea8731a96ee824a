//! From names to addresses, by a resolver of the caller's choice.

use std::fmt::Debug;
use std::net::IpAddr;

use async_trait::async_trait;

/// Resolves names for the proxy.
#[async_trait]
pub trait Resolve: Debug + Send + Sync + 'static {
    /// The addresses of a name, none if it has none.
    ///
    /// # Errors
    /// If nobody can be asked, or the name has no address.
    async fn resolve(&self, name: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((name, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}
