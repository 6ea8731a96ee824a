//! The socket between the service and a supervisor.
//!
//! The runtime is asked to tell when there is something to read, and not each time there is room to write, which is always:
//! each such word would wake a thread.
//!
//! `unsafe`: registering only one direction demands a promise about the descriptor, which a socket of the standard library
//! that nobody else has can keep.
#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendFlags, recvmsg, send,
    sendmsg,
};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWriteExt, Interest, ReadBuf};

/// Our end.
#[derive(Debug)]
pub(super) struct Socket(AsyncFd<UnixStream>);

const AT_ONCE: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

impl Socket {
    /// Ours, and the one that a supervisor gets.
    pub(super) fn pair() -> io::Result<(Arc<Self>, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        // SAFETY: the socket has the same open descriptor as long as it lives, and here it never gives it away.
        let ours = unsafe { AsyncFd::register_with_interest(ours, Interest::READABLE) };
        let ours = ours.map_err(io::Error::from)?;
        Ok((Arc::new(Self(ours)), theirs.into()))
    }
}

/// The direction to the supervisor; dropping it closes that.
#[derive(Debug)]
pub(super) struct Orders(Arc<Socket>);

impl Orders {
    pub(super) fn over(socket: Arc<Socket>) -> Self {
        Self(socket)
    }

    /// Says one word. Whether there was room for it.
    pub(super) fn say(&self, word: u8) -> bool {
        send(self.0.0.get_ref(), &[word], AT_ONCE) == Ok(1)
    }

    /// Writes all of some parts; usually there is room for them at once.
    pub(super) async fn hand_over(&self, parts: [&[u8]; 3]) -> io::Result<()> {
        let socket = self.0.0.get_ref();
        let all = parts.map(IoSlice::new);
        let mut sent = match sendmsg(socket, &all, &mut SendAncillaryBuffer::default(), AT_ONCE) {
            Ok(sent) => sent,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => 0,
            Err(e) => return Err(e.into()),
        };
        if sent == parts.iter().map(|part| part.len()).sum::<usize>() {
            return Ok(());
        }
        let mut slowly = tokio::net::UnixStream::from_std(socket.try_clone()?)?;
        for part in parts {
            let done = sent.min(part.len());
            sent -= done;
            slowly.write_all(&part[done..]).await?;
        }
        Ok(())
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        // It may be closed on the other side already.
        let _ = self.0.0.get_ref().shutdown(Shutdown::Write);
    }
}

/// Reads bytes, and keeps the descriptor that came with them.
#[derive(Debug)]
pub(super) struct Receiving {
    socket: Arc<Socket>,
    received: Mutex<Option<OwnedFd>>,
}

impl Receiving {
    pub(super) fn new(socket: Arc<Socket>) -> Self {
        let received = Mutex::default();
        Self { socket, received }
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
        let message = recvmsg(
            self.socket.0.get_ref(),
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
        loop {
            let mut ready = ready!(self.socket.0.poll_read_ready(cx))?;
            let buffer = into.initialize_unfilled();
            match ready.try_io(|_| self.receive(buffer)) {
                Err(_would_block) => {}
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Ok(Ok(n)) => {
                    into.advance(n);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}
