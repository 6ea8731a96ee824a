//! What bytes are as text.

use serde::{Deserialize, Serialize};

/// What the bytes of a file are.
///
/// A byte-order mark at the beginning of the file decides; without one, the bytes that were read do.
///
/// ```
/// use aion_machine::Encoding;
/// assert_eq!(Encoding::of("naïve".as_bytes()), Encoding::Utf8);
/// assert_eq!(Encoding::of(b"\xFF\xFEh\0i\0"), Encoding::Utf16Le);
/// assert_eq!(Encoding::of(b"na\xEFve"), Encoding::Latin1);
/// assert_eq!(Encoding::of(b"\x7FELF\x02\x01\0"), Encoding::Binary);
/// assert_eq!(Encoding::Latin1.decode(b"na\xEFve"), "naïve");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Encoding {
    /// UTF-8 text without a NUL.
    Utf8,
    /// The file begins with the mark of UTF-16 in little-endian order.
    Utf16Le,
    /// The file begins with the mark of UTF-16 in big-endian order.
    Utf16Be,
    /// Not UTF-8, and every byte is a letter, a sign or white space of Latin-1. A guess: any text in
    /// an encoding of one byte a character looks like this.
    Latin1,
    /// None of these.
    Binary,
}

impl Encoding {
    /// What a whole content is.
    pub fn of(content: &[u8]) -> Self {
        Self::marked(content).unwrap_or_else(|| Self::unmarked(content))
    }

    /// What the mark at the beginning of a file says.
    pub(crate) fn marked(head: &[u8]) -> Option<Self> {
        match head {
            [0xFF, 0xFE, ..] => Some(Self::Utf16Le),
            [0xFE, 0xFF, ..] => Some(Self::Utf16Be),
            _ => None,
        }
    }

    /// What bytes without a mark are.
    pub(crate) fn unmarked(bytes: &[u8]) -> Self {
        if bytes.contains(&0) {
            Self::Binary
        } else if std::str::from_utf8(bytes).is_ok() {
            Self::Utf8
        } else if bytes.iter().all(|b| is_latin1(*b)) {
            Self::Latin1
        } else {
            Self::Binary
        }
    }

    /// Whether a unit is two bytes.
    pub(crate) fn is_wide(self) -> bool {
        matches!(self, Self::Utf16Le | Self::Utf16Be)
    }

    /// The bytes as text, with U+FFFD for what is none in this encoding. A byte-order mark of UTF-16
    /// is left out.
    pub fn decode(self, bytes: &[u8]) -> String {
        match self {
            Self::Utf16Le => wide(bytes, u16::from_le_bytes),
            Self::Utf16Be => wide(bytes, u16::from_be_bytes),
            Self::Latin1 => bytes.iter().map(|b| char::from(*b)).collect(),
            Self::Utf8 | Self::Binary => String::from_utf8_lossy(bytes).into_owned(),
        }
    }
}

/// Printable in Latin-1, or white space.
fn is_latin1(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | 0x0B | 0x0C | b'\r' | 0x1B | 0x20..=0x7E | 0xA0..=0xFF)
}

fn wide(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    let mut text: String = char::decode_utf16(units)
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    if bytes.len() % 2 == 1 {
        text.push(char::REPLACEMENT_CHARACTER);
    }
    text.strip_prefix('\u{FEFF}').map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_mark_decides() {
        assert_eq!(Encoding::of(b"\xFF\xFE"), Encoding::Utf16Le);
        assert_eq!(Encoding::of(b"\xFE\xFF\0a"), Encoding::Utf16Be);
        assert_eq!(Encoding::of(b"\xFF"), Encoding::Latin1);
        assert_eq!(Encoding::of(b"a\0b"), Encoding::Binary);
        assert_eq!(Encoding::of(b"\x80"), Encoding::Binary);
        assert_eq!(Encoding::of(b""), Encoding::Utf8);
    }

    #[test]
    fn half_a_unit_is_said() {
        assert_eq!(Encoding::Utf16Le.decode(b"\xFF\xFEa\0b"), "a\u{FFFD}");
        assert_eq!(Encoding::Utf16Be.decode(b"\xD8\x00"), "\u{FFFD}");
    }

    proptest! {
        /// What was encoded as UTF-16 with its mark is found and comes back.
        #[test]
        fn utf_16_comes_back(text in "[^\u{FEFF}]{0,16}") {
            let le: Vec<u8> = "\u{FEFF}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
            let be: Vec<u8> = "\u{FEFF}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_be_bytes).collect();
            for (bytes, encoding) in [(le, Encoding::Utf16Le), (be, Encoding::Utf16Be)] {
                prop_assert_eq!(Encoding::of(&bytes), encoding);
                prop_assert_eq!(encoding.decode(&bytes), text.clone());
            }
        }

        /// Any bytes have an encoding and decode without a panic; text always as itself.
        #[test]
        fn anything_decodes(bytes in prop::collection::vec(any::<u8>(), 0..64), text in "[^\0]{0,16}") {
            let _ = Encoding::of(&bytes).decode(&bytes);
            prop_assert_eq!(Encoding::of(text.as_bytes()).decode(text.as_bytes()), text);
        }
    }
}
