//! One connection of a program: understand, decide, connect, pass on.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::decision::{NetworkDecision, NetworkVerdict};
use super::head::{self, MAX_HEAD_BYTES, Wanted, What};
use super::host::Host;
use super::policy::{AllowList, NetworkRequest};

/// How many decisions are kept; the rest is only counted.
const MAX_DECISIONS: usize = 256;
/// How many addresses of a host are tried.
const MAX_ADDRESSES: usize = 4;
/// How long, and how many bytes, a refused client is still listened to.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 1 << 20;
/// How much is shown of a request that makes no sense, in characters.
const SHOWN_CHARS: usize = 100;

/// The proxy of one execution.
#[derive(Debug)]
pub(crate) struct Proxy {
    allow: AllowList,
    request: NetworkRequest,
    places: Semaphore,
    connections: AtomicU64,
    bytes_left: AtomicU64,
    decisions: Mutex<Vec<NetworkDecision>>,
}

impl Proxy {
    pub(crate) fn new(allow: AllowList, request: NetworkRequest) -> Self {
        let limits = allow.limits;
        Self {
            allow,
            request,
            places: Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)),
            connections: AtomicU64::new(0),
            bytes_left: AtomicU64::new(limits.total_bytes),
            decisions: Mutex::default(),
        }
    }

    fn decisions(&self) -> MutexGuard<'_, Vec<NetworkDecision>> {
        self.decisions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was decided so far.
    pub(crate) fn take_decisions(&self) -> Vec<NetworkDecision> {
        std::mem::take(&mut *self.decisions())
    }

    /// Notes a decision; gives its place among those that are kept.
    fn note(&self, decision: NetworkDecision) -> Option<usize> {
        tracing::debug!(host = decision.host, port = decision.port, verdict = ?decision.verdict, "network");
        let mut decisions = self.decisions();
        let place = decisions.len();
        (place < MAX_DECISIONS).then(|| {
            decisions.push(decision);
            place
        })
    }

    /// Serves one connection to its end.
    pub(crate) async fn serve(&self, mut client: TcpStream) {
        let Ok(_place) = self.places.try_acquire() else {
            self.note(NetworkDecision::new("", 0, NetworkVerdict::TooMany));
            return refuse(&mut client, NetworkVerdict::TooMany).await;
        };
        if self.connections.fetch_add(1, Ordering::Relaxed) >= self.allow.limits.total_connections {
            self.note(NetworkDecision::new("", 0, NetworkVerdict::TooMany));
            return refuse(&mut client, NetworkVerdict::TooMany).await;
        }
        let head = timeout(self.allow.limits.head_time, read_head(&mut client)).await;
        let Ok(Some((head, early))) = head else { return };
        let Ok(wanted) = head::parse(&head) else {
            self.note(NetworkDecision::new(shown(&head), 0, NetworkVerdict::Malformed));
            return refuse(&mut client, NetworkVerdict::Malformed).await;
        };
        match self.decide(&wanted).await {
            Ok((host, decision)) => {
                let place = self.note(decision);
                self.pass_on(client, host, wanted.what, &early, place).await;
            }
            Err(decision) => {
                let verdict = decision.verdict;
                self.note(decision);
                refuse(&mut client, verdict).await;
            }
        }
    }

    /// The connection that was asked for, or why there is none.
    async fn decide(&self, wanted: &Wanted) -> Result<(TcpStream, NetworkDecision), NetworkDecision> {
        let (host, port) = (&wanted.host, wanted.port);
        let decision = |verdict| NetworkDecision::new(host.to_string(), port, verdict);
        if !self.allow.allows_host(host, port) || !self.request.allows_host(host, port) {
            return Err(decision(NetworkVerdict::NotListed));
        }
        let time = self.allow.limits.connect_time;
        let addresses = match timeout(time, self.addresses(host)).await {
            Ok(Ok(addresses)) if !addresses.is_empty() => addresses,
            _ => return Err(decision(NetworkVerdict::Unresolved)),
        };
        // One that is not public among several is no mistake that should be looked past.
        if let Some(inside) = addresses
            .iter()
            .find(|address| !self.allow.allows_address(**address))
        {
            let mut refused = decision(NetworkVerdict::NotPublic);
            refused.address = Some(*inside);
            return Err(refused);
        }
        for address in addresses.into_iter().take(MAX_ADDRESSES) {
            let connecting = TcpStream::connect(SocketAddr::new(address, port));
            if let Ok(Ok(stream)) = timeout(time, connecting).await {
                let mut allowed = decision(NetworkVerdict::Allowed);
                allowed.address = Some(address);
                return Ok((stream, allowed));
            }
        }
        Err(decision(NetworkVerdict::Unreachable))
    }

    async fn addresses(&self, host: &Host) -> std::io::Result<Vec<IpAddr>> {
        match host {
            Host::Address(address) => Ok(vec![*address]),
            Host::Name(name) => self.allow.resolver.resolve(name).await,
        }
    }

    /// Passes bytes on until one side is done, or a limit is reached.
    async fn pass_on(
        &self,
        mut client: TcpStream,
        mut host: TcpStream,
        what: What,
        early: &[u8],
        place: Option<usize>,
    ) {
        let (from_client, to_client) = client.split();
        let (from_host, to_host) = host.split();
        let mut tally = Tally {
            proxy: self,
            place,
            sent: 0,
            received: 0,
        };
        let Tally { sent, received, .. } = &mut tally;
        match what {
            What::Tunnel => {
                let greeting = b"HTTP/1.1 200 Connection established\r\n\r\n";
                let (early, greeting) = ([early], [&greeting[..]]);
                let up = self.copy(&early, from_client, to_host, u64::MAX, sent);
                let down = self.copy(&greeting, from_host, to_client, u64::MAX, received);
                tokio::join!(up, down);
            }
            What::Request { head, body_bytes } => {
                let early = &early[..early.len().min(usize::try_from(body_bytes).unwrap_or(usize::MAX))];
                let rest = body_bytes - early.len() as u64;
                let first = [&head[..], early];
                let up = self.copy(&first, from_client.take(rest), to_host, rest, sent);
                let down = self.copy(&[], from_host, to_client, u64::MAX, received);
                // The answer is all that is waited for: a client may well not close its side.
                tokio::select! {
                    () = async { up.await; std::future::pending().await } => {}
                    () = down => {}
                }
            }
        }
    }

    /// Writes `first`, then what comes, at most `most` bytes of it; then says that there is no more.
    async fn copy(
        &self,
        first: &[&[u8]],
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        most: u64,
        count: &mut u64,
    ) {
        let idle = self.allow.limits.idle_time;
        for part in first {
            if !self.write(&mut to, part, idle).await {
                return;
            }
            *count += part.len() as u64;
        }
        let (mut buffer, mut left) = (vec![0; 16 << 10], most);
        while left > 0 {
            let Ok(Ok(n @ 1..)) = timeout(idle, from.read(&mut buffer)).await else {
                break;
            };
            if !self.write(&mut to, &buffer[..n], idle).await {
                return;
            }
            *count += n as u64;
            left = left.saturating_sub(n as u64);
        }
        // A request whose answer is awaited keeps its side open: some hosts take the end for a farewell.
        if most == u64::MAX {
            let _ = to.shutdown().await;
        }
    }

    /// Writes what the limit on bytes still allows. Says whether that was all of it.
    async fn write(&self, to: &mut (impl AsyncWrite + Unpin), bytes: &[u8], idle: Duration) -> bool {
        let len = bytes.len() as u64;
        let taken = self
            .bytes_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(len));
        taken.is_ok() && matches!(timeout(idle, to.write_all(bytes)).await, Ok(Ok(())))
    }
}

/// Notes what was passed on, however it ended.
struct Tally<'p> {
    proxy: &'p Proxy,
    place: Option<usize>,
    sent: u64,
    received: u64,
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        let mut decisions = self.proxy.decisions();
        if let Some(decision) = self.place.and_then(|place| decisions.get_mut(place)) {
            (decision.sent_bytes, decision.received_bytes) = (self.sent, self.received);
        }
    }
}

/// The head of a request, and what came after it already.
async fn read_head(client: &mut TcpStream) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    while bytes.len() <= MAX_HEAD_BYTES {
        if let Some(end) = head::end_of_head(&bytes) {
            let early = bytes.split_off(end);
            return Some((bytes, early));
        }
        match client.read(&mut buffer).await {
            Ok(n @ 1..) => bytes.extend_from_slice(&buffer[..n]),
            _ => return None,
        }
    }
    // More than a head may have: what is there makes no sense as one.
    Some((bytes, Vec::new()))
}

/// The first line, readable.
fn shown(head: &[u8]) -> String {
    let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
    let text = String::from_utf8_lossy(line);
    text.chars()
        .take(SHOWN_CHARS)
        .flat_map(char::escape_default)
        .collect()
}

async fn refuse(client: &mut TcpStream, verdict: NetworkVerdict) {
    let (status, why) = match verdict {
        NetworkVerdict::Malformed => ("400 Bad Request", "the request makes no sense to the proxy"),
        NetworkVerdict::NotListed => (
            "403 Forbidden",
            "this host and port are not in the list of what is allowed",
        ),
        NetworkVerdict::NotPublic => ("403 Forbidden", "the address of this host is not public"),
        NetworkVerdict::TooMany => ("503 Service Unavailable", "there are too many connections"),
        _ => ("502 Bad Gateway", "the host cannot be reached"),
    };
    let body = format!("{why}\n");
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    // Whoever does not read it has gone.
    let _ = client.write_all(answer.as_bytes()).await;
    let _ = client.shutdown().await;
    // Closing with bytes unread would take the answer back.
    let mut rest = client.take(LINGER_BYTES);
    let _ = timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
}
