//! How requests reach services: over the network, or straight into a tower service without sockets.

mod in_process;
#[cfg(feature = "network")]
mod network;

use std::fmt::Debug;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};

pub use in_process::InProcessTransport;
#[cfg(feature = "network")]
pub use network::NetworkTransport;

/// The body of a response as it arrives.
pub type BodyStream = Pin<Box<dyn Stream<Item = Result<Bytes, TransportError>> + Send>>;

/// Carries one HTTP request to a service and its response back.
#[async_trait]
pub trait Transport: Debug + Send + Sync + 'static {
    /// Sends the request; the body of the response is still to be read.
    ///
    /// # Errors
    /// [`TransportError`] when no response came. A status such as 500 is a response.
    async fn send(&self, request: http::Request<Bytes>)
    -> Result<http::Response<BodyStream>, TransportError>;
}

/// Why a request got no whole response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// No connection: the request was certainly not sent.
    #[error("no connection")]
    Connect(#[source] BoxError),
    /// The connection broke: the request may have had its effect.
    #[error("the connection broke")]
    Broken(#[source] BoxError),
    /// The time was up: the request may have had its effect.
    #[error("no response within {after_ms} ms")]
    Timeout {
        /// The time that was allowed.
        after_ms: u64,
    },
    /// The response is over the limit.
    #[error("the response is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The request is none: a malformed address or header.
    #[error("not a request")]
    Request(#[source] BoxError),
}

/// Any error of a lower layer.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl TransportError {
    /// Whether the service may have seen the request.
    pub fn may_have_arrived(&self) -> bool {
        !matches!(self, Self::Connect(_) | Self::Request(_))
    }

    /// Whether the same request may well get through a little later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Broken(_) | Self::Timeout { .. })
    }
}

/// Reads a whole body of at most `limit` bytes.
///
/// # Errors
/// [`TransportError::TooLarge`] beyond the limit, or what broke on the way.
pub async fn read_body(mut body: BodyStream, limit: usize) -> Result<Bytes, TransportError> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk?;
        if whole.len() + chunk.len() > limit {
            return Err(TransportError::TooLarge { limit });
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}
