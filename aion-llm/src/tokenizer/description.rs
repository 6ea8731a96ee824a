//! Descriptions of tokenizers: the words of a GGUF file, and the `tokenizer.json` that says the same.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper};

use super::encoder::{Encoder, Encoders, Words};
use super::pairs::{Pair, Pairs, Vocabulary, WholeWords};
use super::sentence_piece::Pieces;
use super::spelling::{SPACE_MARK, Spelling};
use crate::error::{Error, Result, shown};
use crate::gguf::{Gguf, Value};

/// Token type numbers of `tokenizer.ggml.token_type`.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// What the metadata of a GGUF file says of its tokenizer.
#[derive(Debug)]
pub(super) struct Described<'a> {
    pub(super) tokens: &'a [String],
    kinds: &'a [i64],
    pub(super) way: Way<'a>,
}

/// How text becomes tokens.
#[derive(Debug)]
pub(super) enum Way<'a> {
    /// Words of bytes, and a list of merges (`tokenizer.ggml.model` = `gpt2`).
    Bytes {
        merges: &'a [String],
        pre_tokenizer: Json,
        whole_words: WholeWords,
    },
    /// Pieces with scores, spaces among them (`tokenizer.ggml.model` = `llama`).
    Pieces {
        scores: &'a [f64],
        unknown: Option<u32>,
        /// Whether every text begins with a space.
        space: Space,
    },
}

/// Whether a space stands before every text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    Added,
    AsWritten,
}

impl<'a> Way<'a> {
    fn of(gguf: &'a Gguf) -> Result<Self> {
        let missing = || Error::Tokenizer("the file describes none".into());
        match gguf.get_str("tokenizer.ggml.model").ok_or_else(missing)? {
            "gpt2" => Self::bytes(gguf),
            "llama" => Self::pieces(gguf),
            other => Err(Error::Unsupported(format!(
                "tokenizer `{}`; known are `gpt2` and `llama`",
                shown(other)
            ))),
        }
    }

    fn bytes(gguf: &'a Gguf) -> Result<Self> {
        let name = gguf.get_str("tokenizer.ggml.pre").unwrap_or("gpt-2");
        let (pre_tokenizer, whole_words) = pre_tokenizer(name)?;
        Ok(Self::Bytes {
            merges: list(gguf, "merges", Value::as_texts)?,
            pre_tokenizer,
            whole_words,
        })
    }

    fn pieces(gguf: &'a Gguf) -> Result<Self> {
        let space = gguf.get("tokenizer.ggml.add_space_prefix");
        let unknown = gguf.get_u64("tokenizer.ggml.unknown_token_id");
        Ok(Self::Pieces {
            scores: list(gguf, "scores", Value::as_floats)?,
            unknown: unknown.and_then(|id| u32::try_from(id).ok()),
            space: match space.and_then(Value::as_bool) {
                Some(false) => Space::AsWritten,
                _ => Space::Added,
            },
        })
    }
}

impl<'a> Described<'a> {
    pub(super) fn of(gguf: &'a Gguf) -> Result<Self> {
        let way = Way::of(gguf)?;
        let tokens = list(gguf, "tokens", Value::as_texts)?;
        let kinds = list(gguf, "token_type", Value::as_integers).unwrap_or(&[]);
        if !kinds.is_empty() && kinds.len() != tokens.len() {
            return Err(Error::Tokenizer(format!(
                "{} tokens but {} token types",
                tokens.len(),
                kinds.len()
            )));
        }
        Ok(Self { tokens, kinds, way })
    }

    /// The tokens that are found in a text before it is cut into words.
    fn added(&self) -> impl Iterator<Item = (u32, &'a str, i64)> {
        let all = (0..).zip(self.tokens).zip(self.kinds);
        let all = all.map(|((id, text), kind)| (id, text.as_str(), *kind));
        all.filter(|(.., kind)| matches!(*kind, CONTROL | USER_DEFINED))
    }

    fn pieces(&self, scores: &'a [f64], unknown: Option<u32>) -> Pieces<'a> {
        Pieces {
            tokens: self.tokens,
            kinds: self.kinds,
            scores,
            unknown,
        }
    }

    pub(super) fn spelling(&self) -> Spelling {
        match self.way {
            Way::Bytes { .. } => Spelling::byte_level(),
            Way::Pieces { .. } => Spelling::ByteFallback,
        }
    }

    /// What begins (`bos`) and ends (`eos`) a text where the file does not say: SentencePiece's own order.
    pub(super) fn usual_id(&self, key: &str) -> Option<u32> {
        let id = match (&self.way, key) {
            (Way::Pieces { .. }, "bos") => 1,
            (Way::Pieces { .. }, "eos") => 2,
            _ => return None,
        };
        (self.kinds.get(id as usize) == Some(&CONTROL)).then_some(id)
    }

    /// The tables and steps.
    pub(super) fn encoders(&self) -> Result<Encoders> {
        let vocabulary = Vocabulary::new(self.tokens)?;
        let added = self.added();
        let added = added.map(|(_, text, kind)| AddedToken::from(text, kind == CONTROL).normalized(false));
        let (mut encoder, inside) = match &self.way {
            Way::Bytes {
                merges,
                pre_tokenizer,
                whole_words,
            } => {
                let merges: Vec<Pair> = Pairs::listed(&vocabulary, merges).collect::<Result<_>>()?;
                let mut encoder = encoder(Pairs::new(vocabulary, merges, *whole_words));
                encoder.with_pre_tokenizer(Some(step::<PreTokenizerWrapper>(pre_tokenizer)?));
                (encoder, None)
            }
            Way::Pieces {
                scores,
                unknown,
                space,
            } => {
                let pieces = self.pieces(scores, *unknown);
                let merges = pieces.pairs(&vocabulary)?;
                let pairs = Pairs::new(vocabulary, merges, WholeWords::Merged);
                let mut encoder = encoder(pairs.with_fallback(pieces.unknown()));
                let normalizer = step::<NormalizerWrapper>(&spaces(*space))?;
                encoder
                    .with_normalizer(Some(normalizer))
                    .map_err(|error| failed(&error))?;
                let inside = (*space == Space::Added).then(|| step(&spaces(Space::AsWritten)));
                (encoder, inside.transpose()?)
            }
        };
        encoder.add_tokens(added).map_err(|error| failed(&error))?;
        Encoders::new(encoder, inside).map_err(|error| failed(&error))
    }

    /// The `tokenizer.json` that says the same.
    fn document(&self) -> Result<Json> {
        let ids = (0u32..).map(Json::from);
        let vocab: serde_json::Map<_, _> = self.tokens.iter().cloned().zip(ids).collect();
        let added = self.added();
        let added = added.map(|(id, text, kind)| added_token(id, text, kind == CONTROL));
        let mut document = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added.collect::<Vec<_>>(),
            "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocab,
            },
        });
        match &self.way {
            Way::Bytes {
                merges,
                pre_tokenizer,
                whole_words,
            } => {
                document["pre_tokenizer"] = pre_tokenizer.clone();
                document["decoder"] = byte_level(true);
                document["model"]["ignore_merges"] = (*whole_words == WholeWords::AsTheyAre).into();
                document["model"]["merges"] = words_of(merges)?;
            }
            Way::Pieces {
                scores,
                unknown,
                space,
            } => {
                document["normalizer"] = spaces(*space);
                document["decoder"] = words_again(*space);
                self.write_pieces(&mut document["model"], self.pieces(scores, *unknown))?;
            }
        }
        Ok(document)
    }

    fn write_pieces(&self, model: &mut Json, pieces: Pieces<'_>) -> Result<()> {
        let mut pairs = pieces.pairs(&Vocabulary::new(self.tokens)?)?;
        pairs.sort_by_key(|pair| pair.rank);
        let text = |id: u32| self.tokens.get(id as usize);
        let merges = pairs.iter().map(|pair| (text(pair.left), text(pair.right)));
        model["merges"] = json!(merges.collect::<Vec<_>>());
        model["unk_token"] = json!(pieces.unknown().and_then(text));
        (model["byte_fallback"], model["fuse_unk"]) = (true.into(), true.into());
        Ok(())
    }
}

/// Merges as pairs of texts.
fn words_of(merges: &[String]) -> Result<Json> {
    let pairs = merges.iter().map(|merge| {
        let no_pair = || Error::Tokenizer(format!("merge `{}` is no pair", shown(merge)));
        merge.split_once(' ').ok_or_else(no_pair)
    });
    pairs.collect::<Result<Vec<_>>>().map(|pairs| json!(pairs))
}

fn encoder(pairs: Pairs) -> Encoder {
    Encoder::new(Words::Pairs(Arc::new(pairs)))
}

fn failed(error: &tokenizers::Error) -> Error {
    Error::Tokenizer(error.to_string())
}

fn step<T: DeserializeOwned>(document: &Json) -> Result<T> {
    serde_json::from_value(document.clone()).map_err(|error| Error::Tokenizer(error.to_string()))
}

fn list<'a, T>(gguf: &'a Gguf, key: &str, of: impl Fn(&'a Value) -> Option<&'a [T]>) -> Result<&'a [T]> {
    let key = format!("tokenizer.ggml.{key}");
    let missing = || Error::Tokenizer(format!("`{key}` is missing"));
    gguf.get(&key).and_then(of).ok_or_else(missing)
}

/// What pieces do to spaces before they are cut.
fn spaces(space: Space) -> Json {
    let mark = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE_MARK});
    match space {
        Space::Added => {
            json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE_MARK}, mark]})
        }
        Space::AsWritten => mark,
    }
}

/// What a normalizer that puts a space before every text does to one that goes on.
pub(super) fn without_prefix(normalizer: &Json) -> Result<Option<NormalizerWrapper>> {
    let steps = normalizer["normalizers"].as_array();
    let is_prefix = |step: &Json| step["type"] == "Prepend" && step["prepend"] == json!(SPACE_MARK);
    let Some(steps) = steps.filter(|steps| steps.iter().any(is_prefix)) else {
        return Ok(None);
    };
    let rest: Vec<&Json> = steps.iter().filter(|step| !is_prefix(step)).collect();
    step(&json!({"type": "Sequence", "normalizers": rest})).map(Some)
}

/// What turns pieces into text.
fn words_again(space: Space) -> Json {
    let mark = json!({"type": "Replace", "pattern": {"String": SPACE_MARK}, "content": " "});
    let mut steps = vec![mark, json!({"type": "ByteFallback"}), json!({"type": "Fuse"})];
    if space == Space::Added {
        steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": steps})
}

/// The `tokenizer.json` that says the same as the metadata of a GGUF file.
pub(crate) fn gguf_document(gguf: &Gguf) -> Result<Json> {
    Described::of(gguf)?.document()
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
fn pre_tokenizer(name: &str) -> Result<(Json, WholeWords)> {
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
                WholeWords::Merged,
            ))
        }
        "gpt-2" | "gpt2" => Ok((byte_level(true), WholeWords::Merged)),
        "llama-bpe" | "llama3" => Ok((split(LLAMA_3), WholeWords::AsTheyAre)),
        "qwen2" => Ok((split(QWEN_2), WholeWords::Merged)),
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
