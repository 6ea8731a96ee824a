//! Listening, and stopping without cutting anybody off.
//!
//! The accept loop is our own, because `axum::serve` bounds neither the connections nor the time that a
//! client takes to send its headers.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{ServeError, ServeOptions, Service, access, init_tracing};

/// How long a connection may be silent before, or between, requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// After this, accepting is tried again where the system had no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Serves until SIGTERM or Ctrl-C, then lets running requests finish within the drain time.
///
/// # Errors
/// [`ServeError::NeedsKey`] outside loopback without a key; an address that cannot be bound.
pub async fn serve(router: Router, options: ServeOptions) -> Result<(), ServeError> {
    Server::bind(router, options).await?.run(stop_signal()).await
}

/// What the `main` of a server does: logging, then the service with its limits behind [`serve`].
///
/// # Errors
/// As [`serve`], and a log filter that does not parse.
pub async fn run(service: Service, options: ServeOptions) -> Result<(), ServeError> {
    init_tracing(options.log_format)?;
    let name = service.name();
    let server = Server::bind(service.into_router(&options.limits), options).await?;
    tracing::info!(service = name, addr = %server.local_addr(), "listening");
    server.run(stop_signal()).await
}

/// A bound address with a router behind its access rule, not yet serving.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    router: Router,
    drain: Duration,
    places: Arc<Semaphore>,
}

impl Server {
    /// Binds the address, so that its port is known before the first request.
    ///
    /// # Errors
    /// As [`serve`].
    pub async fn bind(router: Router, options: ServeOptions) -> Result<Self, ServeError> {
        let access = options.access()?;
        let addr = options.listen;
        let bind_error = |source| ServeError::Bind { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(bind_error)?;
        let local_addr = listener.local_addr().map_err(bind_error)?;
        let places = Arc::new(Semaphore::new(
            options.max_connections.clamp(1, Semaphore::MAX_PERMITS),
        ));
        Ok(Self {
            listener,
            local_addr,
            router: access::protect(router, access),
            drain: options.drain,
            places,
        })
    }

    /// The address with its real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `stop` is ready, then drains.
    ///
    /// # Errors
    /// None at present: a connection that fails is logged, and the others go on.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let (connections, cut) = (GracefulShutdown::new(), CancellationToken::new());
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                (stream, place) = self.accept() => self.spawn(stream, place, &connections, &cut),
                () = &mut stop => break,
            }
        }
        drop(self.listener);
        if tokio::time::timeout(self.drain, connections.shutdown())
            .await
            .is_err()
        {
            tracing::warn!(drain_ms = self.drain.as_millis(), "requests were cut off");
            cut.cancel();
        }
        Ok(())
    }

    /// The next connection; without a free place the others wait in the system's queue.
    async fn accept(&self) -> (TcpStream, Option<OwnedSemaphorePermit>) {
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return (stream, place),
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn spawn(
        &self,
        stream: TcpStream,
        place: Option<OwnedSemaphorePermit>,
        connections: &GracefulShutdown,
        cut: &CancellationToken,
    ) {
        drop(stream.set_nodelay(true)); // only ever a matter of speed
        let service = TowerToHyperService::new(self.router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let (connection, cut) = (connections.watch(connection), cut.clone());
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => drop(ended.inspect_err(|error| tracing::debug!(%error, "connection"))),
                () = cut.cancelled() => {}
            }
            drop(place);
        });
    }
}

/// Ready at SIGTERM or Ctrl-C. A signal that cannot be watched never comes.
pub async fn stop_signal() {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = interrupted => {}
        () = terminated() => {}
    }
}

#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending::<()>().await;
}
