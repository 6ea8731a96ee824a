//! Output that must match a JSON schema, a regular expression or a grammar: which tokens may come next.
//!
//! All of them become a grammar over bytes; each step it says which tokens keep the text inside the grammar
//! (llguidance). The model's raw probabilities, and so every persistence figure, are taken before this filter.

use std::fmt;
use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value as Json, json};
use toktrie::{SimpleVob, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::error::{Error, Result, shown};
use crate::request::OutputFormat;
use crate::schema;
use crate::tokenizer::{Place, Specials, Tokenizer};

/// The longest schema (in bytes of JSON), regular expression or grammar.
pub const MAX_SCHEMA_BYTES: usize = 256 << 10;

/// The deepest schema.
pub const MAX_SCHEMA_DEPTH: usize = 64;

/// The deepest brackets, and the most complements, of a regular expression or grammar: their readers are recursive.
const MAX_NESTING: usize = 200;

/// The most rules of a grammar, and the most references of a schema: a chain of them is followed recursively.
const MAX_LINKS: usize = 1_000;

/// The stack on which a grammar is compiled, which holds the longest chain.
const STACK_BYTES: usize = 256 << 20;

/// Compiles grammars for one tokenizer.
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

    /// Starts a text of this format; none when it may be any text.
    pub(crate) fn start(&self, format: &OutputFormat) -> Result<Option<Constraint>> {
        let grammar = match format {
            OutputFormat::Text => return Ok(None),
            OutputFormat::JsonObject => of_schema(&json!({"type": "object"}))?,
            OutputFormat::JsonSchema(schema) => of_schema(schema)?,
            OutputFormat::Regex(pattern) => {
                check_text(pattern)?;
                TopLevelGrammar::from_regex(pattern)
            }
            OutputFormat::Lark(grammar) => {
                check_text(grammar)?;
                TopLevelGrammar::from_lark(grammar.clone())
            }
        };
        self.compile(grammar).map(Some)
    }

    /// Compiles on a stack that is large enough: one that overflows ends the process.
    fn compile(&self, grammar: TopLevelGrammar) -> Result<Constraint> {
        let compile = || {
            let parser = self.factory.create_parser(grammar);
            let parser = parser.map_err(|error| Error::Schema(first_line(&error)))?;
            Constraint::new(Matcher::new(Ok(parser)))
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
            let compiling = thread.spawn_scoped(scope, compile).map_err(|error| {
                Error::Unsupported(format!("constrained output: no thread to compile on: {error}"))
            })?;
            compiling
                .join()
                .unwrap_or_else(|_| Err(Error::Panicked("compiling a grammar".to_owned())))
        })
    }
}

fn of_schema(schema: &Json) -> Result<TopLevelGrammar> {
    check_schema(schema)?;
    Ok(TopLevelGrammar::from_json_schema(compact(
        schema,
        Strictness::Exact,
    )))
}

fn check_text(text: &str) -> Result<()> {
    if text.len() > MAX_SCHEMA_BYTES {
        let bytes = text.len();
        return Err(Error::Schema(format!(
            "{bytes} bytes, the limit is {MAX_SCHEMA_BYTES}"
        )));
    }
    let (mut depth, mut deepest, mut complements) = (0usize, 0, 0);
    for c in text.bytes() {
        match c {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'~' => complements += 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if text.lines().filter(|line| line.contains(':')).count() > MAX_LINKS {
        return Err(Error::Schema(format!("more than {MAX_LINKS} rules")));
    }
    if deepest.max(complements) > MAX_NESTING {
        return Err(Error::Schema(format!("it is nested deeper than {MAX_NESTING}")));
    }
    Ok(())
}

fn first_line(error: &dyn fmt::Display) -> String {
    shown(error.to_string().lines().next().unwrap_or("unknown")).to_owned()
}

/// Refuses a schema that is too large, or that no finite value matches.
pub(crate) fn check_schema(schema: &Json) -> Result<()> {
    check_size(schema)?;
    match schema::impossible(schema) {
        Some(place) => Err(Error::Schema(format!(
            "no finite value matches it, because of {place}"
        ))),
        None => Ok(()),
    }
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
    let text = schema.to_string();
    if text.len() > MAX_SCHEMA_BYTES {
        let bytes = text.len();
        return Err(Error::Schema(format!(
            "{bytes} bytes, the limit is {MAX_SCHEMA_BYTES}"
        )));
    }
    if text.matches("\"$ref\"").count() > MAX_LINKS {
        return Err(Error::Schema(format!("more than {MAX_LINKS} references")));
    }
    Ok(())
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

/// What a schema's keywords that no grammar can hold do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// They are an error.
    Exact,
    /// They are left out.
    Lenient,
}

/// The same schema, asking for one space after `,` and `:` and no other: a small model that may write any amount of
/// white space writes it for ever.
pub(crate) fn compact(schema: &Json, strictness: Strictness) -> Json {
    let mut schema = if schema.is_object() {
        schema.clone()
    } else {
        json!({})
    };
    if let Some(map) = schema.as_object_mut() {
        let mut spacing =
            json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "});
        if strictness == Strictness::Lenient {
            spacing["lenient"] = true.into();
        }
        map.entry("x-guidance").or_insert(spacing);
    }
    schema
}

/// A text on its way through a grammar.
pub(crate) struct Constraint {
    matcher: Matcher,
    /// What may come first, until it was asked for.
    first: Option<SimpleVob>,
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constraint").finish_non_exhaustive()
    }
}

impl Constraint {
    /// Fails here, before any token is made, when none can begin.
    fn new(matcher: Matcher) -> Result<Self> {
        let mut constraint = Self { matcher, first: None };
        let first = constraint.allowed()?;
        if first.num_set() == 0 {
            return Err(Error::Schema("no text matches it".into()));
        }
        constraint.first = Some(first);
        Ok(constraint)
    }

    /// The same text once more, to be gone on with by itself.
    pub(crate) fn fork(&self) -> Self {
        Self {
            matcher: self.matcher.deep_clone(),
            first: self.first.clone(),
        }
    }

    /// The tokens that may come next; only end tokens once the text is whole.
    pub(crate) fn allowed(&mut self) -> Result<SimpleVob> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
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
        let encode = |text: &str| {
            let tokens = self.tokenizer.encode_at(text, Specials::AsText, Place::Inside);
            tokens.unwrap_or_default()
        };
        self.trie.tokenize_with_greedy_fallback(bytes, encode)
    }
}
