//! The service's end of the way out: the listener that the supervisor hands over, and who accepts on it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::network::Proxy;

/// After this, accepting is tried again where the system had no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts on a listener inside, until it is ended or dropped.
#[derive(Debug)]
pub(super) struct Bridge {
    /// Dropped, it is the end.
    stop: oneshot::Sender<()>,
    accepting: JoinHandle<()>,
}

impl Bridge {
    pub(super) fn start(listener: OwnedFd, proxy: Arc<Proxy>) -> io::Result<Self> {
        let listener = std::net::TcpListener::from(listener);
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let (stop, stopped) = oneshot::channel();
        let accepting = tokio::spawn(accept(listener, proxy, stopped));
        Ok(Self { stop, accepting })
    }

    /// Cuts all connections off.
    pub(super) async fn end(self) {
        drop(self.stop);
        if let Err(error) = self.accepting.await {
            tracing::warn!(%error, "the proxy of an execution failed");
        }
    }
}

async fn accept(listener: TcpListener, proxy: Arc<Proxy>, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let proxy = Arc::clone(&proxy);
                    connections.spawn(async move { proxy.serve(client).await });
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
            _ = &mut stopped => break,
        }
    }
    connections.shutdown().await;
}
