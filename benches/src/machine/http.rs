//! Requests to a server on loopback, by several clients that each keep one connection.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::Serialize;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came of many requests.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Served {
    /// Requests a second.
    pub per_s: f64,
    /// The middle time of an answer, in seconds.
    pub p50_s: f64,
    /// The time within which 99 of 100 were answered, in seconds.
    pub p99_s: f64,
    /// Answers with status 200.
    pub ok: usize,
    /// The last answer's body.
    pub body: String,
}

/// Posts the same body so often, shared among the clients.
///
/// # Errors
/// If a connection fails, or an answer is no HTTP.
pub fn post(address: SocketAddr, path: &str, body: &str, clients: usize, requests: usize) -> Result<Served> {
    let each = requests.div_ceil(clients.max(1));
    let started = Instant::now();
    let results: Vec<Result<(Vec<Duration>, usize, String)>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|_| scope.spawn(move || client(address, path, body, each)))
            .collect();
        let ended = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        ended
            .map(|ended| ended.unwrap_or_else(|_| Err("a client panicked".into())))
            .collect()
    });
    let wall_s = started.elapsed().as_secs_f64();
    let (mut times, mut ok, mut last) = (Vec::new(), 0, String::new());
    for result in results {
        let (more, good, body) = result?;
        times.extend(more);
        ok += good;
        last = body;
    }
    times.sort_unstable();
    let at = |share: f64| {
        let index = (times.len() as f64 * share) as usize;
        times
            .get(index.min(times.len().saturating_sub(1)))
            .map_or(f64::NAN, Duration::as_secs_f64)
    };
    Ok(Served {
        per_s: times.len() as f64 / wall_s,
        p50_s: at(0.5),
        p99_s: at(0.99),
        ok,
        body: last,
    })
}

fn client(
    address: SocketAddr,
    path: &str,
    body: &str,
    requests: usize,
) -> Result<(Vec<Duration>, usize, String)> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let (mut times, mut ok, mut last) = (Vec::with_capacity(requests), 0, String::new());
    for _ in 0..requests {
        let started = Instant::now();
        writer.write_all(request.as_bytes())?;
        let (status, answer) = answer(&mut reader)?;
        times.push(started.elapsed());
        ok += usize::from(status == 200);
        last = answer;
    }
    Ok((times, ok, last))
}

/// The status and the body of one answer that says its length.
fn answer(reader: &mut impl BufRead) -> Result<(u16, String)> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).ok_or("no status line")?.parse()?;
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
