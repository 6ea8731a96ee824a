//! How a vocabulary writes bytes, and the bytes of every token.

use serde_json::Value as Json;

use crate::error::{Error, Result};

/// How the vocabulary writes bytes.
#[derive(Debug)]
pub(super) enum Spelling {
    /// Each byte is a printable character (GPT-2).
    ByteLevel(Vec<Option<u8>>),
    /// Spaces are a mark, unknown bytes are `<0xNN>` (SentencePiece).
    ByteFallback,
}

pub(super) const SPACE_MARK: char = '\u{2581}';

impl Spelling {
    pub(super) fn of(document: &Json) -> Result<Self> {
        let decoder = document["decoder"].to_string();
        if decoder.contains("\"ByteLevel\"") {
            return Ok(Self::byte_level());
        }
        if decoder.contains("\"ByteFallback\"") {
            return Ok(Self::ByteFallback);
        }
        Err(Error::Unsupported(
            "a tokenizer that is neither byte-level nor with byte fallback".into(),
        ))
    }

    pub(super) fn byte_level() -> Self {
        Self::ByteLevel(byte_of_char())
    }

    pub(super) fn bytes(&self, token: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel(map) => {
                let byte = |c: char| map.get(c as usize).copied().flatten();
                token
                    .chars()
                    .map(byte)
                    .collect::<Option<_>>()
                    .unwrap_or_else(|| token.as_bytes().to_vec())
            }
            Self::ByteFallback => match token.strip_prefix("<0x").and_then(|hex| hex.strip_suffix('>')) {
                Some(hex) if hex.len() == 2 => {
                    u8::from_str_radix(hex, 16).map_or_else(|_| Vec::new(), |b| vec![b])
                }
                _ => token.replace(SPACE_MARK, " ").into_bytes(),
            },
        }
    }
}

fn is_own_char(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The GPT-2 alphabet: printable bytes stand for themselves, the others for the characters from U+0100 on.
pub(crate) fn char_of_byte() -> Vec<char> {
    let mut next = 0x100u32;
    let mut fresh = || {
        next += 1;
        char::from_u32(next - 1).unwrap_or('\u{FFFD}')
    };
    (0..=u8::MAX)
        .map(|byte| {
            if is_own_char(byte) {
                char::from(byte)
            } else {
                fresh()
            }
        })
        .collect()
}

fn byte_of_char() -> Vec<Option<u8>> {
    let mut map = vec![None; 0x180];
    for (byte, c) in (0..=u8::MAX).zip(char_of_byte()) {
        map[c as usize] = Some(byte);
    }
    map
}

/// The bytes of every token, one after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct TokenBytes {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl TokenBytes {
    pub(super) fn push(&mut self, token: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(token);
        let end = u32::try_from(self.bytes.len());
        self.ends
            .push(end.map_err(|_| Error::Tokenizer("tokens of 4 GiB together".into()))?);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, token: u32) -> Option<&[u8]> {
        let at = token as usize;
        let end = *self.ends.get(at)? as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        self.bytes.get(start..end)
    }
}
