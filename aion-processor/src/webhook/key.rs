//! What messages are signed with.

use std::fmt;

use aion_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What keys of Standard Webhooks begin with.
const PREFIX: &str = "whsec_";
/// Bytes of a key.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A key to sign with, as text: `whsec_` and 24 to 64 bytes in base64. It never shows in a `Debug`; where the
/// store keeps it, it is plain text.
///
/// ```
/// use aion_processor::WebhookKey;
///
/// let key = WebhookKey::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
/// assert_eq!(format!("{key:?}"), "WebhookKey");
/// assert!(WebhookKey::new("whsec_short").is_err());
/// # Ok::<(), aion_processor::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WebhookKey(String);

impl WebhookKey {
    /// A key from its text.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not of this form.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let base64 = |c: u8| c.is_ascii_alphanumeric() || c == b'+' || c == b'/';
        let fits = text.strip_prefix(PREFIX).is_some_and(|rest| {
            let signs = rest.trim_end_matches('=');
            rest.len() % 4 == 0
                && rest.len() - signs.len() <= 2
                && BYTES.contains(&(signs.len() * 3 / 4))
                && signs.bytes().all(base64)
        });
        if fits {
            return Ok(Self(text));
        }
        Err(Error::invalid(
            "secret",
            "it is not whsec_ and 24 to 64 bytes in base64",
        ))
    }

    /// The text, for whoever signs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for WebhookKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookKey")
    }
}

impl TryFrom<String> for WebhookKey {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::new(text)
    }
}

impl From<WebhookKey> for String {
    fn from(key: WebhookKey) -> Self {
        key.0
    }
}

/// The keys of a webhook, as they are stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WebhookKeyring {
    pub(crate) current: WebhookKey,
    /// The one before, and until when it signs as well.
    pub(crate) previous: Option<(WebhookKey, Timestamp)>,
}

impl WebhookKeyring {
    /// The keys that sign at `now`, the newest first.
    pub(crate) fn at(&self, now: Timestamp) -> Vec<WebhookKey> {
        let previous = self.previous.iter().filter(|(_, until)| *until > now);
        let keys = std::iter::once(&self.current).chain(previous.map(|(key, _)| key));
        keys.cloned().collect()
    }
}
