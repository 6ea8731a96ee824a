//! The signed value of `X-Task-State`: which task calls, and which directory is its own.
//!
//! `PAYLOAD.MAC`, both in base64url without padding: the payload is a JSON object with the members
//! `task_id`, `cwd`, `exp` (seconds since 1970) and `kid`, and the other part is the HMAC-SHA256 of the
//! payload's text under the key of that name. Keys are rotated by keeping two for a while: the first one
//! signs, any of them verifies.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::RelPath;

/// The shortest secret, in bytes.
pub const MIN_SECRET_BYTES: usize = 32;
/// The longest signed value that is looked at, in bytes.
const MAX_SIGNED_BYTES: usize = 8 << 10;
const MAX_KEYS: usize = 8;
const MAX_KID_BYTES: usize = 64;
/// So that a signature for this purpose is none for another one under the same key.
const PURPOSE: &[u8] = b"aion-task-state-v1.";

/// Why a value is not believed, or keys are not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskStateError {
    /// A line that is not `NAME SECRET`, a secret that is too short, no key, too many, or a name twice.
    #[error(
        "a task key is a line `NAME SECRET`, the name of letters, digits, `-` and `_`, the secret of at \
         least {MIN_SECRET_BYTES} characters; between 1 and 8 of them are kept, with different names"
    )]
    BadKey,
    /// The value is not made as a signed one is.
    #[error("it is not a signed task state")]
    Malformed,
    /// The key is not one of ours.
    #[error("it is signed by a key that is not known")]
    UnknownKey,
    /// The signature does not fit.
    #[error("its signature is wrong")]
    Forged,
    /// Its time is over.
    #[error("its time is over")]
    Expired,
}

impl TaskStateError {
    /// A stable, short code.
    pub fn code(self) -> &'static str {
        match self {
            Self::BadKey => "task_key_invalid",
            Self::Malformed => "task_state_unsigned",
            Self::UnknownKey => "task_state_unknown_key",
            Self::Forged => "task_state_forged",
            Self::Expired => "task_state_expired",
        }
    }
}

/// What a signed value says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskClaims {
    /// The task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// The directory that it works in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<RelPath>,
    /// Until when it is valid, in seconds since 1970.
    pub exp: u64,
    /// The name of the key.
    pub kid: String,
}

/// The keys that sign and verify. No secret shows in a log.
///
/// ```
/// use aion_machine::{RelPath, TaskKeys, TaskStateError};
///
/// let old = TaskKeys::parse("k1 0123456789abcdef0123456789abcdef")?;
/// let signed = old.sign(Some("t1"), Some(&RelPath::parse("jobs/t1").unwrap()), 2_000_000_000);
///
/// // The new key signs from now on; what the old one signed stays good while it is kept.
/// let both = TaskKeys::parse("k2 fedcba9876543210fedcba9876543210\nk1 0123456789abcdef0123456789abcdef")?;
/// let claims = both.verify(&signed, 1_900_000_000)?;
/// assert_eq!((claims.task_id.as_deref(), claims.kid.as_str()), (Some("t1"), "k1"));
/// assert_eq!(both.verify(&signed, 2_000_000_000), Err(TaskStateError::Expired));
/// # Ok::<(), TaskStateError>(())
/// ```
pub struct TaskKeys(Vec<(String, SecretString)>);

impl fmt::Debug for TaskKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(kid, _)| kid)).finish()
    }
}

impl TaskKeys {
    /// Reads keys, one `NAME SECRET` a line, the one that signs first. Empty lines and lines that begin
    /// with `#` say nothing.
    ///
    /// # Errors
    /// [`TaskStateError::BadKey`].
    pub fn parse(text: &str) -> Result<Self, TaskStateError> {
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys: Vec<_> = lines.map(key).collect::<Result<_, _>>()?;
        let twice = keys
            .iter()
            .enumerate()
            .any(|(at, (kid, _))| keys[..at].iter().any(|(other, _)| other == kid));
        if keys.is_empty() || keys.len() > MAX_KEYS || twice {
            return Err(TaskStateError::BadKey);
        }
        Ok(Self(keys))
    }

    /// Signs with the first key. `exp` is in seconds since 1970.
    pub fn sign(&self, task_id: Option<&str>, cwd: Option<&RelPath>, exp: u64) -> String {
        let (kid, secret) = &self.0[0];
        let claims = TaskClaims {
            task_id: task_id.map(str::to_owned),
            cwd: cwd.cloned(),
            exp,
            kid: kid.clone(),
        };
        // A struct of texts and numbers can always be written.
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims).unwrap_or_default());
        let mac = URL_SAFE_NO_PAD.encode(mac(secret, &payload).finalize().into_bytes());
        format!("{payload}.{mac}")
    }

    /// Signs what a plain value says, JSON with `task_id` and sometimes `cwd`, for so long from now on; nothing
    /// if it says something else.
    pub fn sign_plain(&self, plain: &str, life: Duration) -> Option<String> {
        #[derive(Deserialize)]
        struct Plain {
            task_id: String,
            cwd: Option<RelPath>,
        }
        let Plain { task_id, cwd } = serde_json::from_str(plain).ok()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let exp = now.saturating_add(life).as_secs().saturating_add(1);
        Some(self.sign(Some(&task_id), cwd.as_ref(), exp))
    }

    /// What a value says that one of the keys signed, if its time is not over at `now` (seconds since
    /// 1970). Signatures are compared in constant time.
    ///
    /// # Errors
    /// [`TaskStateError`] says why it is not believed.
    pub fn verify(&self, text: &str, now: u64) -> Result<TaskClaims, TaskStateError> {
        if text.len() > MAX_SIGNED_BYTES {
            return Err(TaskStateError::Malformed);
        }
        let (payload, signature) = text.trim().split_once('.').ok_or(TaskStateError::Malformed)?;
        let claims: TaskClaims =
            serde_json::from_slice(&decode(payload)?).map_err(|_| TaskStateError::Malformed)?;
        let key = self.0.iter().find(|(kid, _)| *kid == claims.kid);
        let (_, secret) = key.ok_or(TaskStateError::UnknownKey)?;
        let fits = mac(secret, payload).verify_slice(&decode(signature)?);
        fits.map_err(|_| TaskStateError::Forged)?;
        if now >= claims.exp {
            return Err(TaskStateError::Expired);
        }
        Ok(claims)
    }
}

fn key(line: &str) -> Result<(String, SecretString), TaskStateError> {
    let (kid, secret) = line
        .split_once(char::is_whitespace)
        .ok_or(TaskStateError::BadKey)?;
    let secret = secret.trim();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if kid.len() > MAX_KID_BYTES || !kid.bytes().all(plain) || secret.len() < MIN_SECRET_BYTES {
        return Err(TaskStateError::BadKey);
    }
    Ok((kid.to_owned(), SecretString::from(secret.to_owned())))
}

fn decode(text: &str) -> Result<Vec<u8>, TaskStateError> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| TaskStateError::Malformed)
}

fn mac(secret: &SecretString, payload: &str) -> Hmac<Sha256> {
    // HMAC takes keys of any length.
    #[allow(clippy::expect_used)]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).expect("any key will do");
    mac.update(PURPOSE);
    mac.update(payload.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn keys(kid: &str, secret: &str) -> TaskKeys {
        TaskKeys::parse(&format!("# comment\n\n{kid}  {secret}\n")).unwrap()
    }

    #[test]
    fn what_is_not_signed_by_us_for_now_is_refused() {
        let ours = keys("a", SECRET);
        let signed = ours.sign(Some("t"), None, 100);
        assert_eq!(ours.verify(&signed, 99).unwrap().task_id.as_deref(), Some("t"));
        assert_eq!(ours.verify(&signed, 100), Err(TaskStateError::Expired));
        assert_eq!(
            keys("b", SECRET).verify(&signed, 0),
            Err(TaskStateError::UnknownKey)
        );
        let other = keys("a", "another-secret-of-at-least-32-characters");
        assert_eq!(other.verify(&signed, 0), Err(TaskStateError::Forged));
        // Another task under our signature.
        let (_, mac) = signed.split_once('.').unwrap();
        let forged = other.sign(Some("root"), None, 100);
        let (payload, _) = forged.split_once('.').unwrap();
        assert_eq!(
            ours.verify(&format!("{payload}.{mac}"), 0),
            Err(TaskStateError::Forged)
        );
        for text in ["", ".", "a.b", r#"{"task_id": "t"}"#, &"x".repeat(9000)] {
            assert_eq!(ours.verify(text, 0), Err(TaskStateError::Malformed), "{text}");
        }
    }

    #[test]
    fn bad_keys_are_refused_and_none_is_shown() {
        let two = format!("a {SECRET}\na {SECRET}");
        for text in ["", "a", "a short", &format!("a/b {SECRET}"), &two] {
            assert_eq!(
                TaskKeys::parse(text).unwrap_err(),
                TaskStateError::BadKey,
                "{text}"
            );
        }
        assert_eq!(format!("{:?}", keys("a", SECRET)), r#"["a"]"#);
    }

    proptest! {
        /// One changed character anywhere, and the value is worth nothing.
        #[test]
        fn every_character_counts(at in 0usize..120, with in "[A-Za-z0-9_-]") {
            let ours = keys("a", SECRET);
            let signed = ours.sign(Some("some-task"), None, u64::MAX);
            let at = at % signed.len();
            let changed = format!("{}{with}{}", &signed[..at], &signed[at + 1..]);
            prop_assume!(changed != signed);
            // The last character of a base64 text may have unused bits; the decoder refuses those.
            prop_assert!(ours.verify(&changed, 0).is_err());
        }
    }
}
