//! Listening, and stopping without cutting anybody off.

use std::future::{Future, IntoFuture};
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{ServeError, ServeOptions, Service, access, init_tracing};

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
        Ok(Self {
            listener,
            local_addr,
            router: access::protect(router, access),
            drain: options.drain,
        })
    }

    /// The address with its real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `stop` is ready, then drains.
    ///
    /// # Errors
    /// [`ServeError::Server`] when the listener fails.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let stopping = CancellationToken::new();
        let shutdown = stopping.clone().cancelled_owned();
        let server = axum::serve(self.listener, self.router).with_graceful_shutdown(shutdown);
        let mut server = pin!(server.into_future());
        tokio::select! {
            ended = &mut server => return ended.map_err(ServeError::Server),
            () = stop => stopping.cancel(),
        }
        match tokio::time::timeout(self.drain, server).await {
            Ok(ended) => ended.map_err(ServeError::Server),
            Err(_) => {
                tracing::warn!(drain_ms = self.drain.as_millis(), "requests were cut off");
                Ok(())
            }
        }
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
