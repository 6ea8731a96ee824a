//! [`NetworkTransport`]: services over TCP and TLS.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;

use super::{BodyStream, Transport, TransportError};

/// Sends requests by reqwest, with rustls over ring; connections are kept and shared by its clones.
///
/// Redirects are not followed: a key is never carried to another host.
#[derive(Debug, Clone)]
pub struct NetworkTransport {
    client: reqwest::Client,
}

impl NetworkTransport {
    /// A transport that gives up on a connection after `connect_timeout`.
    ///
    /// # Errors
    /// [`TransportError::Request`] when TLS cannot be set up.
    pub fn new(connect_timeout: Duration) -> Result<Self, TransportError> {
        // Fails only where a provider is set already, and then that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| TransportError::Request(error.into()))?;
        Ok(Self { client })
    }
}

#[async_trait]
impl Transport for NetworkTransport {
    async fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<BodyStream>, TransportError> {
        let request =
            reqwest::Request::try_from(request).map_err(|error| TransportError::Request(error.into()))?;
        let response = self.client.execute(request).await.map_err(sort)?;
        let mut whole = http::Response::new(());
        *whole.status_mut() = response.status();
        *whole.headers_mut() = response.headers().clone();
        let body = response.bytes_stream().map(|chunk| chunk.map_err(sort));
        Ok(whole.map(|()| Box::pin(body) as BodyStream))
    }
}

/// Which of ours it is; the address is taken out, since it may carry a key.
fn sort(error: reqwest::Error) -> TransportError {
    let error = error.without_url();
    if error.is_connect() {
        TransportError::Connect(error.into())
    } else if error.is_builder() || error.is_request() && error.is_redirect() {
        TransportError::Request(error.into())
    } else {
        TransportError::Broken(error.into())
    }
}
