//! Standard Webhooks: messages that are signed when sent and verified before they are believed.
//!
//! A message has an id, the time of its sending, and a body; the signature is an HMAC-SHA256 over
//! `id.timestamp.body`. A key is replaced without a gap by keeping two for a while: the sender signs with all
//! of its keys, the receiver accepts any of its own.
//!
//! # Sources
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Names the message; the same in every attempt to deliver it.
pub const ID_HEADER: HeaderName = HeaderName::from_static("webhook-id");
/// When this attempt was sent, in seconds since 1970.
pub const TIMESTAMP_HEADER: HeaderName = HeaderName::from_static("webhook-timestamp");
/// Signatures, separated by spaces, each with its version: `v1,BASE64`.
pub const SIGNATURE_HEADER: HeaderName = HeaderName::from_static("webhook-signature");
/// How far a message's time may lie from the receiver's.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);

const PREFIX: &str = "whsec_";
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// More keys or signatures than that are nobody's rotation.
const MAX_KEYS: usize = 8;
const MAX_ID_BYTES: usize = 256;

/// Why a message is not believed, or keys are not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookError {
    /// A key that is not 24 to 64 bytes in base64, or no key, or too many.
    #[error("a webhook key is `whsec_` and 24 to 64 bytes in base64; between 1 and 8 of them are kept")]
    BadKey,
    /// A header that is missing or malformed.
    #[error("the header {0} is missing or malformed")]
    BadHeader(&'static str),
    /// A message that was sent too long ago, or too far in the future.
    #[error("the message's time is {seconds} s away from now; {tolerance} s are allowed")]
    OutOfTime {
        /// The distance in seconds.
        seconds: u64,
        /// What is allowed.
        tolerance: u64,
    },
    /// No signature fits any key.
    #[error("no signature of the message fits")]
    BadSignature,
}

/// The keys of a subscription: one, or several while they are rotated.
///
/// ```
/// use aion_service::webhook::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, WebhookKeys};
/// use http::HeaderMap;
///
/// let keys = WebhookKeys::new([&"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()])?;
/// let body = br#"{"test": 2432232314}"#;
/// let signature = keys.sign("msg_1", 1_614_265_330, body);
///
/// let mut headers = HeaderMap::new();
/// headers.insert(ID_HEADER, "msg_1".parse()?);
/// headers.insert(TIMESTAMP_HEADER, "1614265330".parse()?);
/// headers.insert(SIGNATURE_HEADER, signature.parse()?);
/// assert_eq!(keys.verify(&headers, body, 1_614_265_400)?, "msg_1");
/// assert!(keys.verify(&headers, b"{}", 1_614_265_400).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct WebhookKeys(Vec<SecretSlice<u8>>);

impl WebhookKeys {
    /// Takes keys as text, the newest first.
    ///
    /// # Errors
    /// [`WebhookError::BadKey`] for one that is malformed, for none, or for more than 8.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a SecretString>) -> Result<Self, WebhookError> {
        let keys: Vec<_> = keys.into_iter().map(decode).collect::<Result<_, _>>()?;
        if keys.is_empty() || keys.len() > MAX_KEYS {
            return Err(WebhookError::BadKey);
        }
        Ok(Self(keys))
    }

    /// The value of the signature header: a signature by every key.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let signatures = self.0.iter().map(|key| {
            let signature = STANDARD.encode(mac(key.expose_secret(), id, timestamp, body));
            format!("v1,{signature}")
        });
        signatures.collect::<Vec<_>>().join(" ")
    }

    /// The id of a message that one of the keys signed, at most [`TOLERANCE`] away from `now` (seconds since
    /// 1970). A receiver remembers ids, and answers a repeated one like the first.
    ///
    /// # Errors
    /// [`WebhookError`] says why the message is not believed.
    pub fn verify<'h>(&self, headers: &'h HeaderMap, body: &[u8], now: i64) -> Result<&'h str, WebhookError> {
        let id = header(headers, &ID_HEADER, "webhook-id")?;
        if id.is_empty() || id.len() > MAX_ID_BYTES {
            return Err(WebhookError::BadHeader("webhook-id"));
        }
        let timestamp = header(headers, &TIMESTAMP_HEADER, "webhook-timestamp")?;
        let timestamp: i64 = timestamp
            .parse()
            .map_err(|_| WebhookError::BadHeader("webhook-timestamp"))?;
        let seconds = now.abs_diff(timestamp);
        if seconds > TOLERANCE.as_secs() {
            return Err(WebhookError::OutOfTime {
                seconds,
                tolerance: TOLERANCE.as_secs(),
            });
        }
        let signatures = header(headers, &SIGNATURE_HEADER, "webhook-signature")?;
        let expected = self
            .0
            .iter()
            .map(|key| mac(key.expose_secret(), id, timestamp, body));
        let expected: Vec<_> = expected.collect();
        let fits = |offered: Vec<u8>| expected.iter().any(|mac| mac.as_slice().ct_eq(&offered).into());
        let offered = signatures.split(' ').take(MAX_KEYS).filter_map(signature);
        if offered.into_iter().any(fits) {
            Ok(id)
        } else {
            Err(WebhookError::BadSignature)
        }
    }
}

impl fmt::Debug for WebhookKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookKeys({} of them)", self.0.len())
    }
}

fn decode(key: &SecretString) -> Result<SecretSlice<u8>, WebhookError> {
    let text = key.expose_secret().trim();
    let bytes = STANDARD.decode(text.strip_prefix(PREFIX).unwrap_or(text));
    let bytes = bytes.map_err(|_| WebhookError::BadKey)?;
    if !KEY_BYTES.contains(&bytes.len()) {
        return Err(WebhookError::BadKey);
    }
    Ok(SecretSlice::from(bytes))
}

fn mac(key: &[u8], id: &str, timestamp: i64, body: &[u8]) -> [u8; 32] {
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(key) else {
        unreachable!("an HMAC takes a key of any length");
    };
    let mac = mac
        .chain_update(id)
        .chain_update(".")
        .chain_update(timestamp.to_string())
        .chain_update(".")
        .chain_update(body);
    mac.finalize().into_bytes().into()
}

fn header<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
    what: &'static str,
) -> Result<&'h str, WebhookError> {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.ok_or(WebhookError::BadHeader(what))
}

/// The bytes of one `v1` signature; other versions are not ours to judge.
fn signature(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text.strip_prefix("v1,")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SENT: i64 = 1_614_265_330;

    fn keys(of: &[&str]) -> WebhookKeys {
        let of: Vec<SecretString> = of.iter().map(|&key| key.into()).collect();
        WebhookKeys::new(&of).unwrap()
    }

    fn headers(id: &str, timestamp: &str, signature: &str) -> HeaderMap {
        let parts = [
            (ID_HEADER, id),
            (TIMESTAMP_HEADER, timestamp),
            (SIGNATURE_HEADER, signature),
        ];
        parts
            .map(|(name, value)| (name, value.parse().unwrap()))
            .into_iter()
            .collect()
    }

    /// What the reference library (standardwebhooks 1.0, Python) signs.
    #[test]
    fn signs_as_the_reference_does() {
        let signature = keys(&[OLD]).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", SENT, BODY);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_key_is_rotated_without_a_gap() {
        let both = keys(&[NEW, OLD]).sign("a", SENT, BODY);
        let message = headers("a", &SENT.to_string(), &both);
        for receiver in [&[OLD][..], &[NEW], &[NEW, OLD]] {
            assert_eq!(keys(receiver).verify(&message, BODY, SENT), Ok("a"));
        }
        let old = headers("a", &SENT.to_string(), &keys(&[OLD]).sign("a", SENT, BODY));
        assert_eq!(
            keys(&[NEW]).verify(&old, BODY, SENT),
            Err(WebhookError::BadSignature)
        );
    }

    #[test]
    fn nothing_of_a_message_can_be_changed() {
        let signed = keys(&[OLD]).sign("a", SENT, BODY);
        let verify = |id: &str, time: i64, body: &[u8]| {
            keys(&[OLD])
                .verify(&headers(id, &time.to_string(), &signed), body, SENT)
                .map(drop)
        };
        assert_eq!(verify("a", SENT, BODY), Ok(()));
        assert_eq!(verify("b", SENT, BODY), Err(WebhookError::BadSignature));
        assert_eq!(verify("a", SENT + 1, BODY), Err(WebhookError::BadSignature));
        assert_eq!(verify("a", SENT, b"{}"), Err(WebhookError::BadSignature));
    }

    #[test]
    fn old_and_early_messages_are_refused() {
        let signed = keys(&[OLD]).sign("a", SENT, BODY);
        let message = headers("a", &SENT.to_string(), &signed);
        for now in [SENT - 300, SENT + 300] {
            assert!(keys(&[OLD]).verify(&message, BODY, now).is_ok());
        }
        for now in [SENT - 301, SENT + 301, i64::MAX, i64::MIN] {
            let refused = keys(&[OLD]).verify(&message, BODY, now);
            assert!(matches!(refused, Err(WebhookError::OutOfTime { .. })), "{now}");
        }
    }

    #[test]
    fn malformed_headers_are_named() {
        let good = keys(&[OLD]).sign("a", SENT, BODY);
        let refused = |id, time, signature: &str| {
            keys(&[OLD])
                .verify(&headers(id, time, signature), BODY, SENT)
                .unwrap_err()
        };
        assert_eq!(
            refused("", "1614265330", &good),
            WebhookError::BadHeader("webhook-id")
        );
        for time in ["", "now", "1614265330.5", "99999999999999999999"] {
            assert_eq!(
                refused("a", time, &good),
                WebhookError::BadHeader("webhook-timestamp")
            );
        }
        for signature in ["", "v1,", "v1,!", "v2,AAAA", &good[3..], "v1a,AAAA v1"] {
            assert_eq!(refused("a", "1614265330", signature), WebhookError::BadSignature);
        }
        let missing = keys(&[OLD]).verify(&HeaderMap::new(), BODY, SENT).unwrap_err();
        assert_eq!(missing, WebhookError::BadHeader("webhook-id"));
    }

    #[test]
    fn keys_have_a_length_and_never_show() {
        for bad in ["", "whsec_", "whsec_c2hvcnQ=", "whsec_no base64"] {
            assert_eq!(WebhookKeys::new([&bad.into()]).unwrap_err(), WebhookError::BadKey);
        }
        assert_eq!(WebhookKeys::new([]).unwrap_err(), WebhookError::BadKey);
        assert_eq!(format!("{:?}", keys(&[OLD])), "WebhookKeys(1 of them)");
    }
}
