//! The head of one request to the proxy: what is wanted, and what is passed on.

use super::host::{Host, parse_port, split_port};
use crate::{Error, Result};

/// Longest head that is read, in bytes.
pub(super) const MAX_HEAD_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 100;
/// Headers between a client and its proxy, which the host is not told.
const OURS: [&str; 8] = [
    "connection",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "upgrade",
];

/// What a client wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) what: What,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Bytes in both directions.
    Tunnel,
    /// One request and its answer.
    Request {
        /// The head as the host gets it.
        head: Vec<u8>,
        /// How many bytes follow it.
        body_bytes: u64,
    },
}

/// Where the head ends, if it is all there.
pub(super) fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map(|at| at + 4)
}

/// Understands a whole head.
pub(super) fn parse(head: &[u8]) -> Result<Wanted> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(head);
    if !matches!(parsed, Ok(httparse::Status::Complete(_))) {
        return Err(Error::invalid("it is not a request of HTTP/1"));
    }
    let (Some(method), Some(target)) = (request.method, request.path) else {
        return Err(Error::invalid("it is not a request of HTTP/1"));
    };
    if method == "CONNECT" {
        let (host, port) = authority(target, None)?;
        let what = What::Tunnel;
        return Ok(Wanted { host, port, what });
    }
    let rest = target
        .get(..7)
        .filter(|scheme| scheme.eq_ignore_ascii_case("http://"));
    let rest = rest.map(|_| &target[7..]);
    let rest = rest.ok_or_else(|| Error::invalid("the target is not http:// and no CONNECT"))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, port) = authority(&rest[..end], Some(80))?;
    let body_bytes = body_bytes(request.headers)?;
    let head = passed_on(method, &rest[end..], &host, port, request.headers);
    let what = What::Request { head, body_bytes };
    Ok(Wanted { host, port, what })
}

fn authority(text: &str, default_port: Option<u16>) -> Result<(Host, u16)> {
    let (host, port) = split_port(text);
    let port = match (port, default_port) {
        (Some(port), _) => parse_port(port)?,
        (None, Some(port)) => port,
        (None, None) => return Err(Error::invalid("CONNECT names no port")),
    };
    Ok((Host::parse(host)?, port))
}

/// A body has a length, told once; with another encoding nobody could say where the request ends.
fn body_bytes(headers: &[httparse::Header<'_>]) -> Result<u64> {
    let named = |name: &'static str| {
        headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
    };
    if named("transfer-encoding").next().is_some() {
        return Err(Error::invalid("a body without a length is not passed on"));
    }
    let mut lengths = named("content-length");
    let length = lengths.next().map(|header| header.value);
    if lengths.next().is_some() {
        return Err(Error::invalid("the length of the body is told twice"));
    }
    let Some(length) = length else { return Ok(0) };
    let text = std::str::from_utf8(length).ok();
    let digits = text.filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    let length = digits.and_then(|text| text.parse().ok());
    length.ok_or_else(|| Error::invalid("the length of the body is not a number"))
}

/// The head that the host gets: its own name, one request for the connection, nothing that was for the proxy.
fn passed_on(method: &str, path: &str, host: &Host, port: u16, headers: &[httparse::Header<'_>]) -> Vec<u8> {
    let path = path.split('#').next().unwrap_or_default();
    let slash = if path.starts_with('/') { "" } else { "/" };
    let port = if port == 80 {
        String::new()
    } else {
        format!(":{port}")
    };
    let head = format!("{method} {slash}{path} HTTP/1.1\r\nHost: {host}{port}\r\nConnection: close\r\n");
    let mut head = head.into_bytes();
    for header in headers {
        if OURS.iter().any(|ours| header.name.eq_ignore_ascii_case(ours)) {
            continue;
        }
        head.extend_from_slice(header.name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(header.value);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(head: &str) -> Result<Wanted> {
        parse(head.as_bytes())
    }

    #[test]
    fn tunnels_and_requests_are_understood() {
        let tunnel = parsed("CONNECT Example.com:443 HTTP/1.1\r\nHost: other.example\r\n\r\n").unwrap();
        assert_eq!(
            (tunnel.host.to_string().as_str(), tunnel.port),
            ("example.com", 443)
        );
        assert_eq!(tunnel.what, What::Tunnel);
        let head = "GET http://example.com:8080/a?b#c HTTP/1.1\r\nHost: elsewhere.example\r\nAccept: */*\r\n\
            Proxy-Authorization: Basic c2VjcmV0\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\n";
        let wanted = parsed(head).unwrap();
        let What::Request { head, body_bytes } = wanted.what else {
            panic!();
        };
        let head = String::from_utf8(head).unwrap();
        assert_eq!(
            head,
            "GET /a?b HTTP/1.1\r\nHost: example.com:8080\r\nConnection: close\r\nAccept: */*\r\nContent-Length: 3\r\n\r\n"
        );
        assert_eq!((wanted.port, body_bytes), (8080, 3));
        let bare = parsed("HEAD http://example.com?x HTTP/1.0\r\n\r\n").unwrap();
        assert!(
            matches!(bare.what, What::Request { head, .. } if head.starts_with(b"HEAD /?x HTTP/1.1\r\n"))
        );
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for head in [
            "CONNECT evil.example\0.example.com:443 HTTP/1.1\r\n\r\n",
            "CONNECT evil.example%00.example.com:443 HTTP/1.1\r\n\r\n",
            "CONNECT example.com HTTP/1.1\r\n\r\n",
            "CONNECT example.com:443@evil.example:80 HTTP/1.1\r\n\r\n",
            "CONNECT http://example.com:443 HTTP/1.1\r\n\r\n",
            "GET /etc/passwd HTTP/1.1\r\nHost: example.com\r\n\r\n",
            "GET https://example.com/ HTTP/1.1\r\n\r\n",
            "GET http://example.com@evil.example/ HTTP/1.1\r\n\r\n",
            "GET http://evil.example\\@example.com/ HTTP/1.1\r\n\r\n",
            "GET http:///x HTTP/1.1\r\n\r\n",
            "POST http://a.example/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST http://a.example/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "POST http://a.example/ HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            "\r\n\r\n",
            "GET http://a.example/\r\n\r\n",
            "\u{16}\u{3}\u{1}\r\n\r\n",
        ] {
            assert!(parsed(head).is_err(), "{head:?}");
        }
    }
}
