//! Receivers of messages: one behind a socket that can misbehave, and one without a socket.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aion_processor::Outcome;
use aion_processor_server::{HttpSender, Lookup, Outgoing, Patience, Plain, Sender, TargetPolicy};
use aion_service::webhook::WebhookKeys;
use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a receiver does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Answers with this status.
    Answer(u16),
    /// Answers with this status, a header `Retry-After` and a body.
    Busy(u64),
    /// Points elsewhere, to itself.
    Redirect,
    /// Says nothing.
    Hang,
    /// Says 200 and then a byte now and then, for ever.
    Drip,
    /// Says a byte of its status now and then, for ever.
    DripStatus,
    /// Ends the connection without a word, at once.
    Reset,
    /// Answers with nonsense.
    Nonsense,
    /// Says 200 and then megabytes, for ever.
    Flood,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The id of a message that one of the keys signed at about `now` in seconds.
    pub(crate) fn verified(&self, keys: &[&str], now: i64) -> Result<String, String> {
        let keys: Vec<SecretString> = keys.iter().map(|key| (*key).into()).collect();
        let keys = WebhookKeys::new(&keys).unwrap();
        let id = keys.verify(&self.headers, &self.body, now);
        id.map(str::to_owned).map_err(|error| error.to_string())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A receiver behind a socket, until it is dropped.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) addr: SocketAddr,
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    /// Does these acts, one a request, and the last of them from then on.
    pub(crate) async fn new(acts: impl Into<VecDeque<Act>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let acts = Arc::new(Mutex::new(acts.into()));
        let task = tokio::spawn(accept(listener, Arc::clone(&requests), acts));
        Self { addr, requests, task }
    }

    /// The address by a name that only [`Names`] knows.
    pub(crate) fn url(&self) -> String {
        format!("http://receiver.test:{}/hook?token=secret", self.addr.port())
    }

    pub(crate) fn seen(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

async fn accept(listener: TcpListener, requests: Arc<Mutex<Vec<Request>>>, acts: Arc<Mutex<VecDeque<Act>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (requests, acts) = (Arc::clone(&requests), Arc::clone(&acts));
        tokio::spawn(async move {
            // A client that goes away in the middle is one of the cases.
            let _ = converse(stream, &requests, &acts).await;
        });
    }
}

async fn converse(
    mut stream: TcpStream,
    requests: &Mutex<Vec<Request>>,
    acts: &Mutex<VecDeque<Act>>,
) -> io::Result<()> {
    while let Some(request) = read(&mut stream).await? {
        requests.lock().unwrap().push(request);
        let act = {
            let mut acts = acts.lock().unwrap();
            let next = acts.front().copied().unwrap();
            if acts.len() > 1 {
                acts.pop_front();
            }
            next
        };
        perform(&mut stream, act).await?;
        if act == Act::Reset {
            return Ok(());
        }
    }
    Ok(())
}

async fn perform(stream: &mut TcpStream, act: Act) -> io::Result<()> {
    let pause = || tokio::time::sleep(Duration::from_millis(20));
    let text = match act {
        Act::Answer(status) => format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"),
        Act::Busy(seconds) => {
            format!("HTTP/1.1 503 X\r\nretry-after: {seconds}\r\ncontent-length: 2\r\n\r\nno")
        }
        Act::Redirect => {
            "HTTP/1.1 307 X\r\nlocation: http://receiver.test/elsewhere\r\ncontent-length: 0\r\n\r\n"
                .to_owned()
        }
        Act::Nonsense => "NONSENSE\r\n\r\n".to_owned(),
        Act::Drip | Act::Flood => "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n".to_owned(),
        Act::Hang | Act::DripStatus | Act::Reset => String::new(),
    };
    stream.write_all(text.as_bytes()).await?;
    match act {
        Act::Hang => std::future::pending().await,
        Act::Drip => loop {
            stream.write_all(b"x").await?;
            pause().await;
        },
        Act::DripStatus => loop {
            stream.write_all(b"H").await?;
            pause().await;
        },
        Act::Flood => loop {
            stream.write_all(&[b'x'; 65_536]).await?;
        },
        _ => Ok(()),
    }
}

/// The next request; none at the end of the connection.
async fn read(stream: &mut TcpStream) -> io::Result<Option<Request>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
    let mut headers = HeaderMap::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        headers.insert(
            name.parse::<HeaderName>().unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    let length = headers.get("content-length");
    let length: usize = length.map_or(0, |value| value.to_str().unwrap().parse().unwrap());
    let mut body = bytes.split_off(end);
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(Request { path, headers, body }))
}

/// Names and their addresses, each asked for one after the other, and the last of them from then on.
#[derive(Debug)]
pub(crate) struct Names(Mutex<VecDeque<Vec<IpAddr>>>);

impl Names {
    pub(crate) fn new(answers: &[&[&str]]) -> Self {
        let parse = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        Self(Mutex::new(answers.iter().map(parse).collect()))
    }
}

#[async_trait]
impl Lookup for Names {
    async fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if host != "receiver.test" {
            return Err(io::Error::other("nobody knows it"));
        }
        let mut answers = self.0.lock().unwrap();
        let next = answers.front().cloned().unwrap_or_default();
        if answers.len() > 1 {
            answers.pop_front();
        }
        Ok(next)
    }
}

/// Sends to this host by http, and waits only a little.
pub(crate) fn near(names: Names) -> HttpSender {
    let policy = TargetPolicy::default()
        .with_plain(Plain::Allowed)
        .with_range("127.0.0.1".parse().unwrap());
    HttpSender::with(policy, names, patience()).unwrap()
}

pub(crate) fn patience() -> Patience {
    Patience {
        connect: Duration::from_millis(300),
        answer: Duration::from_millis(300),
    }
}

/// A receiver without a socket: `answer` says what it does with a message.
pub(crate) struct Script<F>(pub(crate) F);

impl<F> std::fmt::Debug for Script<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Script")
    }
}

#[async_trait]
impl<F: Fn(&Outgoing) -> Outcome + Send + Sync + 'static> Sender for Script<F> {
    async fn send(&self, message: &Outgoing) -> Outcome {
        tokio::task::yield_now().await;
        (self.0)(message)
    }
}
