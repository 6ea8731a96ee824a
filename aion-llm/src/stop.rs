//! The text of a stream: whole characters only, and never a part of a stop string.

use crate::error::{Error, Result};

const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 256;

/// Collects the bytes of tokens and releases the text that is safe to show.
///
/// A character that is split over tokens is held until it is whole; a text that may be the beginning of a stop string
/// is held until it is clear that it is not.
///
/// ```
/// use aion_llm::StopBuffer;
/// let mut buffer = StopBuffer::new(&["</end>".into()])?;
/// assert_eq!(buffer.push(b"ready </e").text, "ready ");
/// let last = buffer.push(b"nd> more");
/// assert!(last.stopped && last.text.is_empty());
/// # Ok::<(), aion_llm::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct StopBuffer {
    stops: Vec<String>,
    bytes: Vec<u8>,
    held: String,
    stopped: bool,
}

/// What a push set free.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Released {
    /// Text to show.
    pub text: String,
    /// Whether a stop string was met; it and all after it are dropped.
    pub stopped: bool,
}

impl StopBuffer {
    /// A buffer that looks for these strings.
    ///
    /// # Errors
    /// [`Error::Request`] for an empty string, one over 256 bytes, or more than 16.
    pub fn new(stops: &[String]) -> Result<Self> {
        let refuse = |reason: String| {
            Err(Error::Request {
                field: "stop",
                reason,
            })
        };
        if stops.len() > MAX_STOPS {
            return refuse(format!("{} strings, the limit is {MAX_STOPS}", stops.len()));
        }
        if stops
            .iter()
            .any(|stop| stop.is_empty() || stop.len() > MAX_STOP_BYTES)
        {
            return refuse(format!("a stop string has 1 to {MAX_STOP_BYTES} bytes"));
        }
        Ok(Self {
            stops: stops.to_vec(),
            bytes: Vec::new(),
            held: String::new(),
            stopped: false,
        })
    }

    /// Adds the bytes of a token.
    pub fn push(&mut self, bytes: &[u8]) -> Released {
        if self.stopped {
            return Released {
                stopped: true,
                ..Released::default()
            };
        }
        self.bytes.extend_from_slice(bytes);
        self.take_whole_characters();
        if let Some(at) = self.first_stop() {
            self.stopped = true;
            self.held.truncate(at);
            return Released {
                text: std::mem::take(&mut self.held),
                stopped: true,
            };
        }
        let kept = self.held.split_off(self.held.len() - self.possible_start());
        Released {
            text: std::mem::replace(&mut self.held, kept),
            stopped: false,
        }
    }

    /// The text that is left when no more tokens come.
    pub fn finish(&mut self) -> String {
        if self.stopped {
            return String::new();
        }
        let rest = std::mem::take(&mut self.bytes);
        self.held.push_str(&String::from_utf8_lossy(&rest));
        std::mem::take(&mut self.held)
    }

    /// Moves what is decided from bytes to text: an incomplete last character stays.
    fn take_whole_characters(&mut self) {
        loop {
            match std::str::from_utf8(&self.bytes) {
                Ok(text) => {
                    self.held.push_str(text);
                    self.bytes.clear();
                    return;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    self.held.push_str(&String::from_utf8_lossy(&self.bytes[..valid]));
                    let broken = error.error_len();
                    self.bytes.drain(..valid + broken.unwrap_or(0));
                    if broken.is_none() {
                        return;
                    }
                    self.held.push(char::REPLACEMENT_CHARACTER);
                }
            }
        }
    }

    fn first_stop(&self) -> Option<usize> {
        self.stops
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()))
            .min()
    }

    /// Bytes at the end that may be the beginning of a stop string.
    fn possible_start(&self) -> usize {
        let longest = |stop: &String| {
            (1..stop.len())
                .rev()
                .find(|n| stop.is_char_boundary(*n) && self.held.ends_with(&stop[..*n]))
        };
        self.stops.iter().filter_map(longest).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_split_character_waits_for_its_end() {
        let mut buffer = StopBuffer::new(&[]).unwrap();
        let bytes = "né".as_bytes();
        assert_eq!(buffer.push(&bytes[..2]).text, "n");
        assert_eq!(buffer.push(&bytes[2..]).text, "é");
        assert_eq!(buffer.push(&[0xFF, b'a']).text, "\u{FFFD}a");
        buffer.push(&bytes[1..2]);
        assert_eq!(buffer.finish(), "\u{FFFD}");
    }

    #[test]
    fn the_earliest_stop_string_wins() {
        let mut buffer = StopBuffer::new(&["long stop".into(), "op".into()]).unwrap();
        assert_eq!(
            buffer.push(b"a long st"),
            Released {
                text: "a ".into(),
                stopped: false
            }
        );
        assert_eq!(
            buffer.push(b"op"),
            Released {
                text: String::new(),
                stopped: true
            }
        );
        assert_eq!(
            (buffer.push(b"x").text, buffer.finish()),
            (String::new(), String::new())
        );
    }

    #[test]
    fn stop_strings_have_limits() {
        assert!(StopBuffer::new(&[String::new()]).is_err());
        assert!(StopBuffer::new(&["x".repeat(257)]).is_err());
        assert!(StopBuffer::new(&vec!["x".to_owned(); 17]).is_err());
    }

    proptest! {
        /// However the text is cut into tokens, what is released is the text up to the first stop string.
        #[test]
        fn cuts_do_not_matter(text in "[ab|é]{0,40}", cuts in proptest::collection::vec(1usize..5, 0..40)) {
            let stops = ["ab|".to_owned(), "é|".to_owned(), "bb".to_owned()];
            let expected = stops.iter().filter_map(|stop| text.find(stop.as_str())).min().unwrap_or(text.len());
            let mut buffer = StopBuffer::new(&stops).unwrap();
            let (mut shown, mut rest) = (String::new(), text.as_bytes());
            for cut in cuts.into_iter().chain(std::iter::repeat(3)) {
                if rest.is_empty() {
                    break;
                }
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                shown += &buffer.push(head).text;
                prop_assert!(text[..expected].starts_with(&shown));
                rest = tail;
            }
            shown += &buffer.finish();
            prop_assert_eq!(shown, &text[..expected]);
        }
    }
}
