//! The service on a real port, until it is stopped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aion_processor::{HttpOptions, HttpTaskStore, Processor, TaskStore};
use aion_service::{ServeOptions, Server};
use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server, gone when this is.
pub(crate) struct Served {
    pub(crate) addr: SocketAddr,
    requests: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl Served {
    /// The service over a store, on a free port.
    pub(crate) async fn over(store: Arc<dyn TaskStore>) -> Self {
        Self::at(store, ServeOptions::loopback(0)).await
    }

    pub(crate) async fn at(store: Arc<dyn TaskStore>, options: ServeOptions) -> Self {
        let service = aion_processor_server::service(Processor::over(store));
        Self::router(service.into_router(&options.limits), options).await
    }

    /// Any router.
    pub(crate) async fn router(router: Router, options: ServeOptions) -> Self {
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        let counted = router.layer(from_fn(move |request: Request, next: Next| {
            count.fetch_add(1, Ordering::SeqCst);
            next.run(request)
        }));
        let server = Server::bind(counted, options.with_drain(Duration::ZERO))
            .await
            .unwrap();
        let addr = server.local_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            server.run(async { drop(stopped.await) }).await.unwrap();
        });
        Self {
            addr,
            requests,
            stop: Some(stop),
            running,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// How many requests came.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// A client without patience.
    pub(crate) fn client(&self) -> HttpTaskStore {
        HttpTaskStore::new(&self.url(), options()).unwrap()
    }

    /// Cuts every connection, and frees the port.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        (&mut self.running).await.unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

/// Three tries, soon after each other.
pub(crate) fn options() -> HttpOptions {
    HttpOptions::default()
        .with_retries(2)
        .with_pause(Duration::from_millis(5))
}
