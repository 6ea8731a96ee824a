//! Output that must match a JSON schema: which tokens may come next.
//!
//! The schema becomes a grammar over bytes; each step it says which tokens keep the text inside the grammar
//! (llguidance). The model's raw probabilities, and so every persistence figure, are taken before this filter.

use std::fmt;
use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value as Json, json};
use toktrie::{SimpleVob, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::error::{Error, Result};
use crate::tokenizer::{Specials, Tokenizer};

/// The longest schema, in bytes of JSON.
pub const MAX_SCHEMA_BYTES: usize = 256 << 10;

/// The deepest schema.
pub const MAX_SCHEMA_DEPTH: usize = 64;

/// Compiles schemas for one tokenizer.
pub(crate) struct GrammarFactory {
    factory: ParserFactory,
}

impl fmt::Debug for GrammarFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrammarFactory").finish_non_exhaustive()
    }
}

impl GrammarFactory {
    /// `vocab_size` is the model's: ids beyond the tokenizer's are never allowed.
    pub(crate) fn new(tokenizer: &Arc<Tokenizer>, vocab_size: usize) -> Result<Self> {
        let env: TokEnv = Arc::new(Vocabulary::new(tokenizer, vocab_size)?);
        let mut factory =
            ParserFactory::new_simple(&env).map_err(|error| Error::Tokenizer(error.to_string()))?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.verbose_errors = false;
        limits.max_grammar_size = 200_000;
        limits.max_lexer_states = 50_000;
        Ok(Self { factory })
    }

    /// Starts a text that must match the schema.
    pub(crate) fn start(&self, schema: &Json) -> Result<Constraint> {
        check_size(schema)?;
        let grammar = TopLevelGrammar::from_json_schema(compact(schema));
        let parser = self
            .factory
            .create_parser(grammar)
            .map_err(|error| Error::Schema(first_line(&error)))?;
        Ok(Constraint {
            matcher: Matcher::new(Ok(parser)),
        })
    }
}

fn first_line(error: &dyn fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or("unknown").to_owned()
}

fn check_size(schema: &Json) -> Result<()> {
    if !matches!(schema, Json::Object(_) | Json::Bool(true)) {
        return Err(Error::Schema("a schema is an object or `true`".into()));
    }
    if depth(schema, MAX_SCHEMA_DEPTH).is_none() {
        return Err(Error::Schema(format!(
            "it is nested deeper than {MAX_SCHEMA_DEPTH}"
        )));
    }
    match schema.to_string().len() {
        bytes if bytes > MAX_SCHEMA_BYTES => Err(Error::Schema(format!(
            "{bytes} bytes, the limit is {MAX_SCHEMA_BYTES}"
        ))),
        _ => Ok(()),
    }
}

/// The depth of a value, or `None` above `left`.
fn depth(value: &Json, left: usize) -> Option<usize> {
    let children: Vec<&Json> = match value {
        Json::Array(items) => items.iter().collect(),
        Json::Object(map) => map.values().collect(),
        _ => return Some(0),
    };
    let left = left.checked_sub(1)?;
    children.into_iter().try_fold(1, |deepest: usize, child| {
        depth(child, left).map(|d| deepest.max(d + 1))
    })
}

/// The same schema, asking for one space after `,` and `:` and no other: a small model that may write any amount of
/// white space writes it for ever.
fn compact(schema: &Json) -> Json {
    let mut schema = if schema.is_object() {
        schema.clone()
    } else {
        json!({})
    };
    if let Some(map) = schema.as_object_mut() {
        let spacing = json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "});
        map.entry("x-guidance").or_insert(spacing);
    }
    schema
}

/// A text on its way through a grammar.
pub(crate) struct Constraint {
    matcher: Matcher,
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constraint").finish_non_exhaustive()
    }
}

impl Constraint {
    /// The tokens that may come next; only end tokens once the text is whole.
    pub(crate) fn allowed(&mut self) -> Result<SimpleVob> {
        self.matcher
            .compute_mask_or_eos()
            .map_err(|error| Error::Schema(first_line(&error)))
    }

    /// Goes past a token. Whether the text is whole and nothing can follow.
    pub(crate) fn accept(&mut self, token: u32) -> Result<bool> {
        self.matcher
            .consume_token(token)
            .map_err(|error| Error::Schema(first_line(&error)))?;
        Ok(self.matcher.is_stopped())
    }
}

/// The tokenizer as the grammar engine sees it: the bytes of each token.
struct Vocabulary {
    trie: TokTrie,
    tokenizer: Arc<Tokenizer>,
}

impl Vocabulary {
    fn new(tokenizer: &Arc<Tokenizer>, vocab_size: usize) -> Result<Self> {
        let stops: Vec<TokenId> = tokenizer.stop_tokens().collect();
        let first = *stops
            .first()
            .ok_or_else(|| Error::Tokenizer("no token ends a text".into()))?;
        let words: Vec<Vec<u8>> = (0..vocab_size as u32).map(|id| word(tokenizer, id)).collect();
        let trie = TokTrie::from(&TokRxInfo::new(vocab_size as u32, first), &words);
        Ok(Self {
            trie: trie.with_eos_tokens(&stops),
            tokenizer: tokenizer.clone(),
        })
    }
}

/// A token's bytes; special tokens, and ids without a token, carry a mark that no text contains.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let marked = |text: String| [&[TokTrie::SPECIAL_TOKEN_MARKER], text.as_bytes()].concat();
    match tokenizer.text_bytes(id) {
        [] if tokenizer.is_special(id) => marked(tokenizer.spelling(id)),
        [] => marked(format!("<[{id}]>")),
        bytes => bytes.to_vec(),
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let encode = |text: &str| self.tokenizer.encode(text, Specials::AsText).unwrap_or_default();
        self.trie.tokenize_with_greedy_fallback(bytes, encode)
    }
}
