//! The scripted server on a socket: HTTP/1.1, one request a connection, nothing more than a test needs.

use std::net::SocketAddr;

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tower::ServiceExt;

use super::ScriptedModel;

/// The largest request that is read.
const MAX_REQUEST_BYTES: usize = 8 << 20;

/// A scripted server that listens; it stops when this is dropped.
#[derive(Debug)]
pub struct ScriptedServer {
    addr: SocketAddr,
    accepting: JoinHandle<()>,
}

impl ScriptedServer {
    /// The address for [`OpenAiConfig`](crate::OpenAiConfig): `http://127.0.0.1:PORT/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl ScriptedModel {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When there is none.
    pub async fn listen(&self) -> std::io::Result<ScriptedServer> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let addr = listener.local_addr()?;
        let model = self.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let model = model.clone();
                // A client that goes away in the middle is part of the play.
                tokio::spawn(async move { serve(model, stream).await.ok() });
            }
        });
        Ok(ScriptedServer { addr, accepting })
    }
}

async fn serve(model: ScriptedModel, mut stream: TcpStream) -> std::io::Result<()> {
    let Some(request) = read_request(&mut stream).await? else {
        return Ok(());
    };
    let Ok(response) = model.oneshot(request).await;
    let (head, mut body) = response.into_parts();
    let mut text = format!(
        "HTTP/1.1 {}\r\nconnection: close\r\ntransfer-encoding: chunked\r\n",
        head.status
    );
    for (name, value) in &head.headers {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
    }
    text.push_str("\r\n");
    stream.write_all(text.as_bytes()).await?;
    while let Some(frame) = body.next().await {
        // Broken off in the middle: the last chunk never comes.
        let Ok(data) = frame?.into_data() else { continue };
        stream
            .write_all(format!("{:x}\r\n", data.len()).as_bytes())
            .await?;
        stream.write_all(&data).await?;
        stream.write_all(b"\r\n").await?;
    }
    stream.write_all(b"0\r\n\r\n").await?;
    stream.shutdown().await
}

async fn read_request(stream: &mut TcpStream) -> std::io::Result<Option<http::Request<Full<Bytes>>>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8 << 10];
    loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = header(&head, "content-length")
                .and_then(|text| text.parse().ok())
                .unwrap_or(0);
            if length <= MAX_REQUEST_BYTES && bytes.len() >= end + 4 + length {
                let body = Full::new(Bytes::copy_from_slice(&bytes[end + 4..end + 4 + length]));
                let mut request = http::Request::new(body);
                if let Some(Ok(value)) = header(&head, "authorization").map(TryInto::try_into) {
                    request.headers_mut().insert("authorization", value);
                }
                return Ok(Some(request));
            }
        }
        let read = stream.read(&mut buffer).await?;
        if read == 0 || bytes.len() > MAX_REQUEST_BYTES {
            return Ok(None);
        }
        bytes.extend_from_slice(&buffer[..read]);
    }
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}
