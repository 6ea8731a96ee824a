//! Text to token ids and back, from the metadata of a GGUF file or from a `tokenizer.json`.

mod description;
mod encoder;
mod pairs;
mod sentence_piece;
mod spelling;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value as Json;

use self::description::{Described, Way};
pub(crate) use self::description::{gguf_document, pre_tokenizer_name};
use self::encoder::{Encoder, Encoders, Words};
#[cfg(feature = "testkit")]
pub(crate) use self::spelling::char_of_byte;
use self::spelling::{Spelling, TokenBytes};
use crate::error::{Error, Result};
use crate::gguf::{Gguf, Value};
use crate::options::ModelSource;

/// The longest text that is tokenised in one call, in bytes.
pub const MAX_TEXT_BYTES: usize = 8 << 20;

/// What to do with the text of a special token, such as `<|im_end|>`, inside the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Specials {
    /// It becomes the special token: for text that a template wrote.
    Recognise,
    /// It is spelled out as ordinary text: for what a user or a tool wrote.
    AsText,
}

/// Where a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nothing comes before it, or a special token does.
    Start,
    /// It goes on.
    Inside,
}

/// A tokenizer that can spell every byte, with the ids that matter to generation. Clones share the vocabulary.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    encoders: Encoders,
    token_bytes: TokenBytes,
    special: BTreeSet<u32>,
    special_texts: Vec<String>,
    stop: BTreeSet<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    adds_bos: bool,
}

/// Names under which chat models end a turn; any of them that is a special token stops generation.
const TURN_ENDS: [&str; 6] = [
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "</s>",
    "<|end|>",
];

impl Tokenizer {
    /// Builds the tokenizer that a GGUF file describes: byte-level merges (`tokenizer.ggml.model` = `gpt2`), or
    /// SentencePiece's pieces with scores (`llama`).
    ///
    /// # Errors
    /// [`Error::Unsupported`] for other kinds, [`Error::Tokenizer`] when vocabulary and merges contradict each other.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let described = Described::of(gguf)?;
        let id = |key: &str| {
            let id = gguf.get_u64(&format!("tokenizer.ggml.{key}_token_id"));
            // An id that is none is beyond every vocabulary.
            id.map(|id| u32::try_from(id).unwrap_or(u32::MAX))
                .or_else(|| described.usual_id(key))
        };
        let adds_bos = gguf
            .get("tokenizer.ggml.add_bos_token")
            .and_then(Value::as_bool)
            .unwrap_or(matches!(described.way, Way::Pieces { .. }));
        Self::build(
            described.encoders()?,
            &described.spelling(),
            described.tokens.len(),
        )?
        .with_ids(id("bos"), [id("eos"), id("eot")], adds_bos)
    }

    /// The tokenizer of a model, without its weights.
    ///
    /// # Errors
    /// As [`Tokenizer::from_gguf`] and [`Tokenizer::from_dir`].
    pub fn of(source: &ModelSource) -> Result<Self> {
        match source {
            ModelSource::Gguf(path) => Self::from_gguf(&Gguf::open(path)?),
            ModelSource::GgufBytes(bytes) => Self::from_gguf(&Gguf::from_bytes(bytes.clone())?),
            ModelSource::HubDir(dir) => Self::from_dir(dir),
        }
    }

    /// Reads `tokenizer.json`, and beside it `tokenizer_config.json` and `generation_config.json` when they are there.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Tokenizer`], or [`Error::Unsupported`] when it is not byte-level.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        let tokenizer = Self::from_json(&text)?;
        let config = read_json(&dir.join("tokenizer_config.json"));
        let generation = read_json(&dir.join("generation_config.json"));
        let named = |key: &str| {
            token_text(&config[key]).and_then(|text| tokenizer.encoders.recognising().token_to_id(text))
        };
        let bos = named("bos_token");
        let eos = [
            named("eos_token"),
            generation["eos_token_id"].as_u64().map(|id| id as u32),
        ];
        let more = generation["eos_token_id"].as_array().cloned().unwrap_or_default();
        let more: Vec<_> = more
            .iter()
            .filter_map(Json::as_u64)
            .map(|id| Some(id as u32))
            .collect();
        let adds_bos = config["add_bos_token"].as_bool().unwrap_or(false);
        tokenizer.with_ids(bos, eos.into_iter().chain(more), adds_bos)
    }

    /// Reads the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`], or [`Error::Unsupported`] when it is not byte-level.
    pub fn from_json(text: &str) -> Result<Self> {
        let document = serde_json::from_str(text).map_err(|error| Error::Tokenizer(error.to_string()))?;
        Self::from_document(&document)
    }

    fn from_document(document: &Json) -> Result<Self> {
        let text = document.to_string();
        let encoder: Encoder =
            serde_json::from_str(&text).map_err(|error| Error::Tokenizer(error.to_string()))?;
        let ids = encoder.get_vocab(true).into_values();
        let size = ids.max().map_or(0, |id| id as usize + 1);
        let inside = description::without_prefix(&document["normalizer"])?;
        let encoders = Encoders::new(encoder, inside).map_err(|error| Error::Tokenizer(error.to_string()))?;
        Self::build(encoders, &Spelling::of(document)?, size)
    }

    fn build(encoders: Encoders, spelling: &Spelling, size: usize) -> Result<Self> {
        let encoder = encoders.recognising();
        let added = encoder.get_added_tokens_decoder();
        let special: BTreeSet<u32> = added
            .iter()
            .filter(|(_, t)| t.special)
            .map(|(id, _)| *id)
            .collect();
        let mut token_bytes = TokenBytes::default();
        for id in 0..size as u32 {
            match (added.get(&id), words(encoder, id)) {
                (Some(token), _) => token_bytes.push(token.content.as_bytes())?,
                (None, Some(text)) => token_bytes.push(&spelling.bytes(&text))?,
                (None, None) => token_bytes.push(&[])?,
            }
        }
        let special_texts = special.iter().filter_map(|id| added.get(id));
        let stop = TURN_ENDS.iter().filter_map(|text| encoder.token_to_id(text));
        Ok(Self {
            token_bytes,
            special_texts: special_texts.map(|t| t.content.clone()).collect(),
            stop: stop.filter(|id| special.contains(id)).collect(),
            bos: None,
            eos: None,
            adds_bos: false,
            special,
            encoders,
        })
    }

    fn with_ids(
        mut self,
        bos: Option<u32>,
        stops: impl IntoIterator<Item = Option<u32>>,
        adds_bos: bool,
    ) -> Result<Self> {
        let size = self.len() as u32;
        let inside = |id: u32| match id < size {
            true => Ok(id),
            false => Err(Error::Tokenizer(format!(
                "special id {id}, but there are only {size} tokens"
            ))),
        };
        self.bos = bos.map(inside).transpose()?;
        for id in stops.into_iter().flatten() {
            self.stop.insert(inside(id)?);
            self.eos.get_or_insert(id);
        }
        self.adds_bos = adds_bos;
        Ok(self)
    }

    /// Number of ids.
    #[must_use]
    pub fn len(&self) -> usize {
        self.token_bytes.len()
    }

    /// Whether it knows no token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ids of a text; no token is added before or after, and a character without a token is left out.
    ///
    /// # Errors
    /// [`Error::Request`] above [`MAX_TEXT_BYTES`], [`Error::Tokenizer`] when the library fails.
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        self.encode_at(text, specials, Place::Start)
    }

    /// [`Tokenizer::encode`] of a text that may be the rest of another.
    pub(crate) fn encode_at(&self, text: &str, specials: Specials, place: Place) -> Result<Vec<u32>> {
        if text.len() > MAX_TEXT_BYTES {
            let reason = format!("{} bytes, the limit is {MAX_TEXT_BYTES}", text.len());
            return Err(Error::Request {
                field: "prompt",
                reason,
            });
        }
        let encoder = self.encoders.of(specials, place);
        let encoding = encoder
            .encode_fast(text, false)
            .map_err(|error| Error::Tokenizer(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of the ids; special tokens are left out, as is the space that the tokenizer puts before every text, and
    /// bytes that are not UTF-8 become `U+FFFD`.
    #[must_use]
    pub fn decode(&self, tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens
            .iter()
            .flat_map(|id| self.text_bytes(*id))
            .copied()
            .collect();
        let added = self.encoders.adds_space() && bytes.first() == Some(&b' ');
        String::from_utf8_lossy(&bytes[usize::from(added)..]).into_owned()
    }

    /// The bytes that a token adds to the text; none for a special or unknown one.
    #[must_use]
    pub fn text_bytes(&self, token: u32) -> &[u8] {
        match self.token_bytes.get(token) {
            Some(bytes) if !self.special.contains(&token) => bytes,
            _ => &[],
        }
    }

    /// The token's own spelling, special tokens included.
    #[must_use]
    pub fn spelling(&self, token: u32) -> String {
        self.token_bytes
            .get(token)
            .map_or_else(String::new, |b| String::from_utf8_lossy(b).into_owned())
    }

    /// Whether the token ends a reply.
    #[must_use]
    pub fn is_stop(&self, token: u32) -> bool {
        self.stop.contains(&token)
    }

    /// Whether the token is a control token.
    #[must_use]
    pub fn is_special(&self, token: u32) -> bool {
        self.special.contains(&token)
    }

    /// The token put before a raw prompt, for the models that want one.
    #[must_use]
    pub fn prefix(&self) -> Option<u32> {
        self.bos.filter(|_| self.adds_bos)
    }

    pub(crate) fn stop_tokens(&self) -> impl Iterator<Item = u32> + '_ {
        self.stop.iter().copied()
    }

    pub(crate) fn bos(&self) -> Option<u32> {
        self.bos
    }

    pub(crate) fn eos(&self) -> Option<u32> {
        self.eos
    }

    pub(crate) fn special_texts(&self) -> &[String] {
        &self.special_texts
    }

    pub(crate) fn bos_text(&self) -> String {
        self.bos.map_or_else(String::new, |id| self.spelling(id))
    }

    pub(crate) fn eos_text(&self) -> String {
        self.eos.map_or_else(String::new, |id| self.spelling(id))
    }
}

fn read_json(path: &Path) -> Json {
    std::fs::read_to_string(path)
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

fn token_text(value: &Json) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

/// The text of a token as the vocabulary has it.
fn words(encoder: &Encoder, id: u32) -> Option<Cow<'_, str>> {
    match encoder.get_model() {
        Words::Pairs(pairs) => pairs.vocabulary.text(id).map(Cow::Borrowed),
        Words::Library(_) => encoder.id_to_token(id).map(Cow::Owned),
    }
}
