//! Who may call: a bearer key, and on loopback without one a guard against web pages.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::uri::Authority;
use http::{HeaderMap, Uri, header};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::envelope::{ensure_request_id, scope};
use crate::{Problem, ServeError};

/// The shortest key that is accepted, in bytes.
pub const MIN_KEY_BYTES: usize = 16;

/// The SHA-256 of the API key: all that a service keeps of it.
///
/// ```
/// use aion_service::ApiKey;
/// let key = ApiKey::new(&"correct horse battery".into())?;
/// assert!(key.matches("correct horse battery"));
/// assert!(!key.matches("correct horse batterY"));
/// assert_eq!(format!("{key:?}"), "ApiKey(..)");
/// # Ok::<(), aion_service::ServeError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey([u8; 32]);

impl ApiKey {
    /// Takes a key in plain text, or `sha256:` and the 64 hexadecimal digits of its hash.
    ///
    /// # Errors
    /// [`ServeError::WeakKey`] for a key under 16 bytes or a hash that is not one.
    pub fn new(secret: &SecretString) -> Result<Self, ServeError> {
        let text = secret.expose_secret().trim();
        if let Some(digits) = text.strip_prefix("sha256:") {
            return parse_hash(digits).map(Self).ok_or(ServeError::WeakKey);
        }
        if text.len() < MIN_KEY_BYTES {
            return Err(ServeError::WeakKey);
        }
        Ok(Self(Sha256::digest(text.as_bytes()).into()))
    }

    /// Whether `offered` is the key, in time that does not depend on where they differ.
    pub fn matches(&self, offered: &str) -> bool {
        let offered: [u8; 32] = Sha256::digest(offered.as_bytes()).into();
        self.0.ct_eq(&offered).into()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

fn parse_hash(digits: &str) -> Option<[u8; 32]> {
    let nibbles: Vec<u8> = digits
        .chars()
        .map(|digit| digit.to_digit(16).map(|nibble| nibble as u8))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = nibbles
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect();
    (nibbles.len() == 64).then(|| bytes.try_into().ok()).flatten()
}

/// Who may call a router over the network.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// `Authorization: Bearer KEY` on everything except `/healthz` and `/dashboard`, a page without data that asks
    /// for the key.
    Key(ApiKey),
    /// No key, for loopback only. The `Host`, and the `Origin` if there is one, must be local names, so
    /// that a web page can neither rebind its name to this port nor post to it.
    Local,
}

/// Puts `access` in front of a router.
pub fn protect(router: Router, access: Access) -> Router {
    router.layer(from_fn_with_state(Arc::new(access), check))
}

async fn check(State(access): State<Arc<Access>>, mut request: Request, next: Next) -> Response {
    let id = ensure_request_id(&mut request);
    match verdict(&access, &request) {
        Ok(()) => next.run(request).await,
        Err(problem) => scope(id, async { problem.into_response() }).await,
    }
}

fn verdict(access: &Access, request: &Request) -> Result<(), Problem> {
    match access {
        Access::Key(_) if matches!(request.uri().path(), "/healthz" | "/dashboard") => Ok(()),
        Access::Key(key) => match bearer(request.headers()) {
            Some(offered) if key.matches(offered) => Ok(()),
            _ => Err(Problem::unauthorized()),
        },
        Access::Local => require_local(request),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

fn require_local(request: &Request) -> Result<(), Problem> {
    let sent = request
        .headers()
        .get(header::HOST)
        .map(|host| host.to_str().unwrap_or_default());
    let host = sent
        .or_else(|| request.uri().authority().map(Authority::as_str))
        .unwrap_or_default();
    if !host
        .parse()
        .is_ok_and(|authority: Authority| is_local(authority.host()))
    {
        return Err(Problem::forbidden(
            "host_not_local",
            "without a key only local names are served",
        ));
    }
    let Some(origin) = request.headers().get(header::ORIGIN) else {
        return Ok(());
    };
    let origin: Option<Uri> = origin.to_str().ok().and_then(|origin| origin.parse().ok());
    if origin.as_ref().and_then(Uri::host).is_some_and(is_local) {
        return Ok(());
    }
    Err(Problem::forbidden(
        "origin_not_local",
        "without a key only local pages may call",
    ))
}

fn is_local(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
