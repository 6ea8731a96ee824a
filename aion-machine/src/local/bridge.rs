//! The service's end of the way out: the listener that the supervisor hands over, and who accepts on it.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::TcpListener;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::network::Proxy;

/// After this, accepting is tried again where the system had no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Reads bytes, and keeps the descriptor that came with them.
#[derive(Debug)]
pub(super) struct Receiving {
    half: OwnedReadHalf,
    received: Mutex<Option<OwnedFd>>,
}

impl Receiving {
    pub(super) fn new(half: OwnedReadHalf) -> Self {
        let received = Mutex::default();
        Self { half, received }
    }

    /// What came last.
    pub(super) fn take(&self) -> Option<OwnedFd> {
        self.received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let socket: &tokio::net::UnixStream = self.half.as_ref();
        let message = recvmsg(
            socket,
            &mut [IoSliceMut::new(buffer)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
        )?;
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut descriptors) = part {
                let last = descriptors.next_back();
                *self.received.lock().unwrap_or_else(PoisonError::into_inner) = last;
            }
        }
        Ok(message.bytes)
    }
}

impl AsyncRead for Receiving {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket: &tokio::net::UnixStream = self.half.as_ref();
        loop {
            ready!(socket.poll_read_ready(cx))?;
            let buffer = into.initialize_unfilled();
            match socket.try_io(Interest::READABLE, || self.receive(buffer)) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
                Ok(n) => {
                    into.advance(n);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

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
