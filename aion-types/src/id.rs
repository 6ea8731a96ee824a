//! Ids: UUID version 7 for what the system makes, checked names for what people name.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, Result, Timestamp};

/// 80 bits that no other call in this process gets: SipHash of a counter under a key that the
/// operating system seeds. Good for telling ids apart, not for secrets.
fn unique_bits() -> [u8; 10] {
    static KEYS: OnceLock<(RandomState, RandomState)> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let (high, low) = KEYS.get_or_init(|| (RandomState::new(), RandomState::new()));
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut bits = [0; 10];
    bits[..8].copy_from_slice(&high.hash_one(n).to_be_bytes());
    bits[8..].copy_from_slice(&low.hash_one(n).to_be_bytes()[..2]);
    bits
}

/// Lays out a UUID version 7: 48 bits of milliseconds, version, 74 free bits.
///
/// # Sources
/// RFC 9562, section 5.7.
fn uuid7(at: Timestamp, random: [u8; 10]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&at.as_ms().max(0).to_be_bytes()[2..]);
    bytes[6..].copy_from_slice(&random);
    bytes[6] = 0x70 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    bytes
}

fn write_uuid(bytes: [u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 15)];
        at += 2;
    }
    f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

fn parse_uuid(kind: &'static str, text: &str) -> Result<[u8; 16]> {
    let bad = |reason| Error::BadId { kind, reason };
    let raw = text.as_bytes();
    if raw.len() != 36 {
        return Err(bad("a UUID has 36 characters"));
    }
    let mut bytes = [0; 16];
    let mut digits = 0;
    for (i, c) in raw.iter().enumerate() {
        if matches!(i, 8 | 13 | 18 | 23) {
            if *c != b'-' {
                return Err(bad("a dash is missing"));
            }
            continue;
        }
        let digit = (*c as char).to_digit(16).ok_or(bad("not a hexadecimal digit"))?;
        bytes[digits / 2] = bytes[digits / 2] << 4 | digit as u8;
        digits += 1;
    }
    if bytes[6] >> 4 != 7 || bytes[8] >> 6 != 2 {
        return Err(bad("not a UUID version 7"));
    }
    Ok(bytes)
}

/// Reads an id without a text of its own.
struct Parsed<T>(PhantomData<T>);

impl<T: FromStr<Err = Error>> Visitor<'_> for Parsed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                deserializer.deserialize_str(Parsed(PhantomData))
            }
        }

        impl $name {
            /// A new id that sorts by `at`, then at random.
            pub fn generate(at: Timestamp) -> Self {
                Self(uuid7(at, unique_bits()))
            }

            /// The id with this time and these free bits; six of the 80 are taken by the UUID's
            /// version and variant.
            pub fn from_parts(at: Timestamp, random: [u8; 10]) -> Self {
                Self(uuid7(at, random))
            }

            /// The id with exactly these bytes.
            ///
            /// # Errors
            /// [`Error::BadId`] if they are no UUID version 7.
            pub fn from_bytes(bytes: [u8; 16]) -> Result<Self> {
                if bytes[6] >> 4 != 7 || bytes[8] >> 6 != 2 {
                    return Err(Error::BadId { kind: stringify!($name), reason: "not a UUID version 7" });
                }
                Ok(Self(bytes))
            }

            /// The 16 bytes, most significant first.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// The millisecond in which it was made.
            pub fn timestamp(&self) -> Timestamp {
                let mut ms = [0; 8];
                ms[2..].copy_from_slice(&self.0[..6]);
                Timestamp::from_ms(i64::from_be_bytes(ms))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_uuid(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                parse_uuid(stringify!($name), text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

uuid_id! {
    /// A task of the processor.
    ///
    /// ```
    /// use aion_types::{TaskId, Timestamp};
    ///
    /// let id = TaskId::generate(Timestamp::from_ms(1_700_000_000_000));
    /// assert_eq!(id.to_string().parse::<TaskId>()?, id);
    /// assert_eq!(id.timestamp(), Timestamp::from_ms(1_700_000_000_000));
    /// # Ok::<(), aion_types::Error>(())
    /// ```
    TaskId
}
uuid_id! {
    /// A market.
    MarketId
}
uuid_id! {
    /// One run of the agent loop on one task.
    RunId
}
uuid_id! {
    /// One ranking decision of the router.
    DecisionId
}

/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

fn check_name(kind: &'static str, text: &str) -> Result<()> {
    let bad = |reason| Err(Error::BadId { kind, reason });
    match text {
        "" => bad("it is empty"),
        _ if text.len() > MAX_NAME_BYTES => bad("it is longer than 128 bytes"),
        _ if text.chars().any(|c| c.is_control() || c.is_whitespace()) => {
            bad("it has a space or a control character")
        }
        _ => Ok(()),
    }
}

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// 1 to [`MAX_NAME_BYTES`] bytes, without spaces and control characters.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the text.
            ///
            /// # Errors
            /// [`Error::BadId`] if it is empty, too long, or has a space or control character.
            pub fn new(text: impl Into<String>) -> Result<Self> {
                let text = text.into();
                check_name(stringify!($name), &text)?;
                Ok(Self(text))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

name_id! {
    /// Who claims tasks: one worker of the processor.
    HandlerId
}
name_id! {
    /// Who forecasts: a predictor, an agent type or a person. `house` stands for moves nobody made.
    ForecasterId
}
name_id! {
    /// A type of agent, such as `worker`.
    AgentId
}

impl ForecasterId {
    /// The account of moves that nobody made: seeding and liquidity.
    pub fn house() -> Self {
        Self("house".to_owned())
    }
}
