//! Text to token ids and back, from the metadata of a GGUF file or from a `tokenizer.json`.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value as Json, json};

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

/// A byte-level tokenizer with the ids that matter to generation.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    recognising: tokenizers::Tokenizer,
    spelling: tokenizers::Tokenizer,
    token_bytes: Vec<Vec<u8>>,
    special: BTreeSet<u32>,
    special_texts: Vec<String>,
    stop: BTreeSet<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    adds_bos: bool,
}

/// Token type numbers of `tokenizer.ggml.token_type`.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

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
    /// Builds the tokenizer that a GGUF file describes (`tokenizer.ggml.model` = `gpt2`).
    ///
    /// # Errors
    /// [`Error::Unsupported`] for other kinds, [`Error::Tokenizer`] when vocabulary and merges contradict each other.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        match gguf.get_str("tokenizer.ggml.model") {
            Some("gpt2") => {}
            Some(other) => {
                return Err(Error::Unsupported(format!(
                    "tokenizer `{other}`; known is `gpt2`"
                )));
            }
            None => return Err(Error::Tokenizer("the file describes none".into())),
        }
        let document = gguf_document(gguf)?;
        let id = |key: &str| {
            gguf.get_u64(&format!("tokenizer.ggml.{key}_token_id"))
                .map(|id| id as u32)
        };
        let adds_bos = gguf
            .get("tokenizer.ggml.add_bos_token")
            .and_then(Value::as_bool)
            .unwrap_or(false);
        Self::from_document(&document)?.with_ids(id("bos"), [id("eos"), id("eot")], adds_bos)
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
        let named =
            |key: &str| token_text(&config[key]).and_then(|text| tokenizer.recognising.token_to_id(text));
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
        let bytes = serde_json::to_vec(document).map_err(|error| Error::Tokenizer(error.to_string()))?;
        let recognising =
            tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| Error::Tokenizer(e.to_string()))?;
        let mut spelling = recognising.clone();
        spelling.set_encode_special_tokens(true);
        let spelling_of = Spelling::of(document)?;
        let added = recognising.get_added_tokens_decoder();
        let special: BTreeSet<u32> = added
            .iter()
            .filter(|(_, t)| t.special)
            .map(|(id, _)| *id)
            .collect();
        let size = recognising
            .get_vocab(true)
            .into_values()
            .max()
            .map_or(0, |id| id as usize + 1);
        let token_bytes = (0..size as u32).map(|id| match (added.get(&id), recognising.id_to_token(id)) {
            (Some(token), _) => token.content.clone().into_bytes(),
            (None, Some(text)) => spelling_of.bytes(&text),
            (None, None) => Vec::new(),
        });
        Ok(Self {
            token_bytes: token_bytes.collect(),
            special_texts: special
                .iter()
                .filter_map(|id| added.get(id))
                .map(|t| t.content.clone())
                .collect(),
            stop: TURN_ENDS
                .iter()
                .filter_map(|t| recognising.token_to_id(t))
                .filter(|id| special.contains(id))
                .collect(),
            bos: None,
            eos: None,
            adds_bos: false,
            special,
            recognising,
            spelling,
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
        self.token_bytes.is_empty()
    }

    /// The ids of a text; no token is added before or after.
    ///
    /// # Errors
    /// [`Error::Request`] above [`MAX_TEXT_BYTES`], [`Error::Tokenizer`] when a character has no token.
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        if text.len() > MAX_TEXT_BYTES {
            let reason = format!("{} bytes, the limit is {MAX_TEXT_BYTES}", text.len());
            return Err(Error::Request {
                field: "prompt",
                reason,
            });
        }
        let tokenizer = match specials {
            Specials::Recognise => &self.recognising,
            Specials::AsText => &self.spelling,
        };
        let encoding = tokenizer
            .encode_fast(text, false)
            .map_err(|error| Error::Tokenizer(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of the ids; special tokens are left out, and bytes that are not UTF-8 become `U+FFFD`.
    #[must_use]
    pub fn decode(&self, tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens
            .iter()
            .flat_map(|id| self.text_bytes(*id))
            .copied()
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes that a token adds to the text; none for a special or unknown one.
    #[must_use]
    pub fn text_bytes(&self, token: u32) -> &[u8] {
        match self.token_bytes.get(token as usize) {
            Some(bytes) if !self.special.contains(&token) => bytes,
            _ => &[],
        }
    }

    /// The token's own spelling, special tokens included.
    #[must_use]
    pub fn spelling(&self, token: u32) -> String {
        self.token_bytes
            .get(token as usize)
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

/// How the vocabulary writes bytes.
enum Spelling {
    /// Each byte is a printable character (GPT-2).
    ByteLevel(Vec<Option<u8>>),
    /// Spaces are a mark, unknown bytes are `<0xNN>` (SentencePiece).
    ByteFallback,
}

const SPACE_MARK: char = '\u{2581}';

impl Spelling {
    fn of(document: &Json) -> Result<Self> {
        let decoder = document["decoder"].to_string();
        if decoder.contains("\"ByteLevel\"") {
            return Ok(Self::ByteLevel(byte_of_char()));
        }
        if decoder.contains("\"ByteFallback\"") {
            return Ok(Self::ByteFallback);
        }
        Err(Error::Unsupported(
            "a tokenizer that is neither byte-level nor with byte fallback".into(),
        ))
    }

    fn bytes(&self, token: &str) -> Vec<u8> {
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

/// The `tokenizer.json` that says the same as the metadata of a GGUF file.
pub(crate) fn gguf_document(gguf: &Gguf) -> Result<Json> {
    let texts = |key: &str| {
        gguf.get(&format!("tokenizer.ggml.{key}"))
            .and_then(Value::as_texts)
    };
    let tokens =
        texts("tokens").ok_or_else(|| Error::Tokenizer("`tokenizer.ggml.tokens` is missing".into()))?;
    let merges =
        texts("merges").ok_or_else(|| Error::Tokenizer("`tokenizer.ggml.merges` is missing".into()))?;
    let kinds = gguf
        .get("tokenizer.ggml.token_type")
        .and_then(Value::as_integers)
        .unwrap_or(&[]);
    if !kinds.is_empty() && kinds.len() != tokens.len() {
        return Err(Error::Tokenizer(format!(
            "{} tokens but {} token types",
            tokens.len(),
            kinds.len()
        )));
    }
    let vocab: serde_json::Map<_, _> = tokens.iter().cloned().zip((0u32..).map(Json::from)).collect();
    let pairs = merges
        .iter()
        .map(|merge| merge.split_once(' ').ok_or(merge))
        .collect::<Result<Vec<_>, _>>();
    let pairs = pairs.map_err(|merge| Error::Tokenizer(format!("merge `{merge}` is no pair")))?;
    let added = tokens
        .iter()
        .zip(kinds)
        .zip(0u32..)
        .filter(|((_, kind), _)| matches!(**kind, CONTROL | USER_DEFINED));
    let added: Vec<Json> = added
        .map(|((text, kind), id)| added_token(id, text, *kind == CONTROL))
        .collect();
    let (pre_tokenizer, ignore_merges) =
        pre_tokenizer(gguf.get_str("tokenizer.ggml.pre").unwrap_or("gpt-2"))?;
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": byte_level(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": ignore_merges, "vocab": vocab, "merges": pairs,
        },
    }))
}

fn added_token(id: u32, text: &str, special: bool) -> Json {
    json!({
        "id": id, "content": text, "special": special,
        "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
    })
}

fn byte_level(use_regex: bool) -> Json {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}

const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How text is cut before merging, by the name in `tokenizer.ggml.pre`, and whether whole words skip the merges.
fn pre_tokenizer(name: &str) -> Result<(Json, bool)> {
    let split = |regex: &str| {
        let split =
            json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        json!({"type": "Sequence", "pretokenizers": [split, byte_level(false)]})
    };
    match name {
        "smollm" => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            Ok((
                json!({"type": "Sequence", "pretokenizers": [digits, byte_level(true)]}),
                false,
            ))
        }
        "gpt-2" | "gpt2" => Ok((byte_level(true), false)),
        "llama-bpe" | "llama3" => Ok((split(LLAMA_3), true)),
        "qwen2" => Ok((split(QWEN_2), false)),
        other => Err(Error::Unsupported(format!(
            "pre-tokenizer `{other}`; known are smollm, gpt-2, llama-bpe, qwen2"
        ))),
    }
}

/// The names that [`pre_tokenizer`] knows, one for each way.
const PRE_TOKENIZERS: [&str; 4] = ["smollm", "gpt-2", "llama-bpe", "qwen2"];

/// The name in `tokenizer.ggml.pre` of how a `tokenizer.json` cuts text.
pub(crate) fn pre_tokenizer_name(document: &Json) -> Result<&'static str> {
    let wanted = plain_steps(&document["pre_tokenizer"]);
    let same = |name: &&str| pre_tokenizer(name).is_ok_and(|(steps, _)| plain_steps(&steps) == wanted);
    PRE_TOKENIZERS.into_iter().find(same).ok_or_else(|| {
        let shown: String = document["pre_tokenizer"].to_string().chars().take(200).collect();
        Error::Unsupported(format!(
            "the pre-tokenizer {shown} has no name in GGUF that is known here"
        ))
    })
}

/// The steps of a pre-tokenizer without what does not change its pieces.
fn plain_steps(steps: &Json) -> Vec<Json> {
    let list = match steps["pretokenizers"].as_array() {
        Some(list) => list.clone(),
        None => vec![steps.clone()],
    };
    let plain = |mut step: Json| {
        if let Some(fields) = step.as_object_mut() {
            fields.remove("trim_offsets");
            if fields.get("type").is_some_and(|kind| kind == "ByteLevel") {
                fields.entry("use_regex").or_insert(Json::Bool(true));
            }
        }
        step
    };
    list.into_iter().map(plain).collect()
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
