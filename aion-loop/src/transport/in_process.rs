//! [`InProcessTransport`]: a tower service in this process as a transport.

use std::fmt;
use std::marker::PhantomData;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use http_body::Body;
use http_body_util::BodyStream as Frames;
use tower::{Service, ServiceExt};

use super::{BodyStream, BoxError, Transport, TransportError};

/// Calls a `tower::Service` (such as an axum router) directly: no socket, no serialised headers.
///
/// Every request gets a clone of the service, so requests run side by side.
///
/// ```
/// use aion_loop::{InProcessTransport, Transport, read_body};
/// use bytes::Bytes;
/// use http_body_util::Full;
///
/// let echo = tower::service_fn(|request: http::Request<Full<Bytes>>| async move {
///     Ok::<_, std::convert::Infallible>(http::Response::new(request.into_body()))
/// });
/// let transport = InProcessTransport::new(echo);
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let response = transport.send(http::Request::new(Bytes::from("hello"))).await?;
/// assert_eq!(read_body(response.into_body(), 100).await?, "hello");
/// # Ok::<(), aion_loop::TransportError>(()) }).unwrap();
/// ```
pub struct InProcessTransport<S, B> {
    service: S,
    body: PhantomData<fn(B)>,
}

impl<S, B> InProcessTransport<S, B> {
    /// A transport into `service`.
    pub fn new(service: S) -> Self {
        Self {
            service,
            body: PhantomData,
        }
    }
}

impl<S, B> fmt::Debug for InProcessTransport<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcessTransport").finish_non_exhaustive()
    }
}

#[async_trait]
impl<S, B, R> Transport for InProcessTransport<S, B>
where
    S: Service<http::Request<B>, Response = http::Response<R>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: From<Bytes> + Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    async fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<BodyStream>, TransportError> {
        let response = self
            .service
            .clone()
            .oneshot(request.map(B::from))
            .await
            .map_err(|error| TransportError::Broken(error.into()))?;
        Ok(response.map(|body| {
            Box::pin(Frames::new(Box::pin(body)).filter_map(|frame| {
                std::future::ready(match frame {
                    Ok(frame) => frame.into_data().ok().map(Ok),
                    Err(error) => Some(Err(TransportError::Broken(error.into()))),
                })
            })) as BodyStream
        }))
    }
}
