//! Items: what an agent could use, with its words, its renderings and where it comes from.

use std::fmt;
use std::str::FromStr;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::text::{MAX_TERM_CHARS, clean, signature, terms};
use crate::tokens::TokenCounter;

/// The longest id or name, in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// The longest text of an item, in bytes.
pub const MAX_TEXT_BYTES: usize = 256 * 1024;
/// Characters of the first line that the second rendering shows.
const MAX_LINE_CHARS: usize = 200;
/// Words of an unverified item's text that count: long texts are how items are smuggled in.
pub(crate) const UNVERIFIED_WORDS: usize = 32;
/// Characters of an item that are embedded; a model looks at some 256 tokens.
const MAX_EMBEDDED_CHARS: usize = 2_048;
/// The most renderings of an item.
pub const MAX_RENDERINGS: usize = 3;

/// The kind of thing that an item is; each kind has its own budget and its own statistics.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Surface {
    /// Something to call.
    Tool,
    /// A way of working.
    Process,
    /// A file.
    File,
    /// A text to read.
    Doc,
    /// A rule to keep.
    Norm,
    /// A market.
    Market,
    /// Somebody to hand work to.
    Handler,
    /// Any other kind.
    Custom(String),
}

impl Surface {
    /// The name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Tool => "tool",
            Self::Process => "process",
            Self::File => "file",
            Self::Doc => "doc",
            Self::Norm => "norm",
            Self::Market => "market",
            Self::Handler => "handler",
            Self::Custom(name) => name,
        }
    }
}

impl FromStr for Surface {
    type Err = Error;

    /// The surface of a name; any other name is that of a custom one.
    fn from_str(name: &str) -> Result<Self> {
        check_length("the name of a surface", name, MAX_NAME_BYTES - 1)?;
        let known = [
            Self::Tool,
            Self::Process,
            Self::File,
            Self::Doc,
            Self::Norm,
            Self::Market,
            Self::Handler,
        ];
        let found = known.into_iter().find(|surface| surface.as_str() == name);
        Ok(found.unwrap_or_else(|| Self::Custom(name.to_owned())))
    }
}

/// The id of an item, unique in its catalog: 1 to 512 bytes without spaces, control and other invisible characters.
///
/// One of up to 24 bytes is copied without an allocation: rankings copy hundreds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ItemId(CompactString);

impl ItemId {
    /// Checks the text.
    ///
    /// # Errors
    /// [`Error`] if it is empty, too long, or has a space, a control character, or another one that is not seen.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        if clean(&text) != text {
            return Err(Error::BadText { what: "an id" });
        }
        Self::stored(text)
    }

    /// One that was written down before, when some invisible characters were taken.
    fn stored(text: String) -> Result<Self> {
        check_length("an id", &text, 2 * MAX_NAME_BYTES)?;
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(Error::BadText { what: "an id" });
        }
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ItemId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::stored(text)
    }
}

impl From<ItemId> for String {
    fn from(id: ItemId) -> Self {
        id.0.into()
    }
}

/// The words of an item, by where they stand.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Fields {
    /// What it is called.
    pub name: String,
    /// What it is for.
    pub text: String,
    /// Names and descriptions of its parameters.
    pub parameters: String,
    /// Words that it is filed under.
    pub tags: Vec<String>,
}

/// One way to show an item to a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendering {
    /// What is shown.
    pub text: String,
    /// What it costs in tokens of the model that will read it.
    pub tokens: u32,
}

impl Rendering {
    /// A text with its cost, as the caller's tokenizer counts it.
    pub fn new(text: impl Into<String>, tokens: u32) -> Self {
        Self {
            text: text.into(),
            tokens,
        }
    }
}

/// Where an item comes from, and so how far its own words may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// Part of this system.
    #[default]
    Builtin,
    /// From a provider that somebody has vouched for.
    Verified,
    /// From anybody: its words count less, and few of one provider are picked.
    Unverified,
}

/// A digest of everything that an item says; it changes when any of it changes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// The digest with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentHash({self})")
    }
}

/// Something that an agent could use.
///
/// ```
/// use aion_router::{Item, Rendering, Surface};
///
/// let item = Item::new(Surface::Tool, "read_file", "Reads a file")?
///     .with_tags(["files", "io"])?
///     .with_renderings(vec![Rendering::new("read_file", 3), Rendering::new("read_file: Reads a file", 9)])?
///     .pinned();
/// assert_eq!(item.id().as_str(), "tool:read_file");
/// assert!(Item::new(Surface::Tool, "", "no name").is_err());
/// # Ok::<(), aion_router::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    id: ItemId,
    surface: Surface,
    fields: Fields,
    renderings: Vec<Rendering>,
    provider: String,
    provenance: Provenance,
    pinned: bool,
}

impl Item {
    /// An item with the id `surface:name`, shown by its name at a cost of one token for four bytes
    /// until it is given renderings.
    ///
    /// Control and direction characters are removed from its text.
    ///
    /// # Errors
    /// [`Error`] for a name or text that is too long, or a name with spaces or invisible characters.
    pub fn new(surface: Surface, name: &str, text: &str) -> Result<Self> {
        check_length("a name", name, MAX_NAME_BYTES)?;
        check_length("the name of a surface", surface.as_str(), MAX_NAME_BYTES - 1)?;
        let id = ItemId::new(format!("{}:{name}", surface.as_str()))?;
        let fields = Fields {
            text: checked_text("a text", text)?,
            name: name.to_owned(),
            ..Fields::default()
        };
        let tokens = u32::try_from(fields.name.len().div_ceil(4)).unwrap_or(u32::MAX);
        let renderings = vec![Rendering::new(fields.name.clone(), tokens)];
        let (provider, provenance) = ("builtin".to_owned(), Provenance::Builtin);
        Ok(Self {
            id,
            surface,
            fields,
            renderings,
            provider,
            provenance,
            pinned: false,
        })
    }

    /// Sets an id of the caller's own.
    #[must_use]
    pub fn with_id(mut self, id: ItemId) -> Self {
        self.id = id;
        self
    }

    /// Sets names and descriptions of its parameters.
    ///
    /// # Errors
    /// [`Error::Length`] if they are too long.
    pub fn with_parameters(mut self, parameters: &str) -> Result<Self> {
        self.fields.parameters = checked_text("parameters", parameters)?;
        Ok(self)
    }

    /// Sets the words that it is filed under.
    ///
    /// # Errors
    /// [`Error`] for more than 64, or one that is too long.
    pub fn with_tags<'a>(mut self, tags: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let tags: Vec<&str> = tags.into_iter().collect();
        if tags.len() > 64 {
            return Err(Error::LimitReached {
                what: "the number of tags",
                limit: 64,
            });
        }
        tags.iter()
            .try_for_each(|tag| check_length("a tag", tag, MAX_NAME_BYTES))?;
        self.fields.tags = tags.into_iter().map(clean).collect();
        Ok(self)
    }

    /// Sets the ways to show it, from the cheapest to the fullest. Control and direction characters are removed.
    ///
    /// # Errors
    /// [`Error::Renderings`] unless there are 1 to 3, each with more tokens than the one before and
    /// the first with at least one.
    pub fn with_renderings(mut self, mut renderings: Vec<Rendering>) -> Result<Self> {
        let grows = renderings.windows(2).all(|pair| pair[0].tokens < pair[1].tokens);
        let costs = renderings.first().is_some_and(|first| first.tokens > 0);
        if !grows || !costs || renderings.len() > MAX_RENDERINGS {
            return Err(Error::Renderings);
        }
        for rendering in &mut renderings {
            check_length("a rendering", &rendering.text, MAX_TEXT_BYTES)?;
            rendering.text = clean(&rendering.text);
        }
        self.renderings = renderings;
        Ok(self)
    }

    /// Gives it up to three renderings, counted: the name, the name with the first line of the text, and
    /// all of it with the schema. One that is no dearer than the one before is left out.
    ///
    /// ```
    /// use aion_router::{ByteTokens, Item, Surface};
    ///
    /// let item = Item::new(Surface::Tool, "read_file", "Reads a file.\nThe path is relative.")?
    ///     .with_counted_renderings(r#"{"type":"object"}"#, &ByteTokens)?;
    /// let tokens: Vec<u32> = item.renderings().iter().map(|rendering| rendering.tokens).collect();
    /// assert_eq!(tokens, [3, 6, 16]);
    /// # Ok::<(), aion_router::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Length`] if all of it together is too long.
    pub fn with_counted_renderings(self, schema: &str, counter: &dyn TokenCounter) -> Result<Self> {
        let (name, text) = (&self.fields.name, &self.fields.text);
        let line: String = text
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .take(MAX_LINE_CHARS)
            .collect();
        let full = format!("{name}: {text}\n{}", checked_text("a schema", schema)?);
        let texts = [
            name.clone(),
            format!("{name}: {line}"),
            full.trim_end().to_owned(),
        ];
        let mut renderings: Vec<Rendering> = Vec::with_capacity(texts.len());
        for text in texts {
            let tokens = counter.count(&text).max(1);
            if renderings.last().is_none_or(|before| before.tokens < tokens) {
                renderings.push(Rendering::new(text, tokens));
            }
        }
        self.with_renderings(renderings)
    }

    /// Sets where it comes from.
    ///
    /// # Errors
    /// [`Error::Length`] for a provider's name that is empty or too long.
    pub fn with_provider(mut self, provider: &str, provenance: Provenance) -> Result<Self> {
        check_length("a provider", provider, MAX_NAME_BYTES)?;
        (self.provider, self.provenance) = (clean(provider), provenance);
        Ok(self)
    }

    /// Marks it as always wanted.
    #[must_use]
    pub const fn pinned(mut self) -> Self {
        self.pinned = true;
        self
    }

    /// Its id.
    pub const fn id(&self) -> &ItemId {
        &self.id
    }

    /// What kind of thing it is.
    pub const fn surface(&self) -> &Surface {
        &self.surface
    }

    /// Its words.
    pub const fn fields(&self) -> &Fields {
        &self.fields
    }

    /// The ways to show it, from the cheapest to the fullest.
    pub fn renderings(&self) -> &[Rendering] {
        &self.renderings
    }

    /// Who provides it.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// How far its words may be believed.
    pub const fn provenance(&self) -> Provenance {
        self.provenance
    }

    /// Whether it is always wanted.
    pub const fn is_pinned(&self) -> bool {
        self.pinned
    }

    /// The words that an embedding is made of: name, text and parameters, cut where nobody vouches for it. A catalog may
    /// believe it more or less than it says: see [`Catalog::embedded_text`](crate::Catalog::embedded_text).
    pub fn embedded_text(&self) -> String {
        self.embedded_as(self.provenance)
    }

    /// The same where its words are believed so far.
    pub(crate) fn embedded_as(&self, standing: Provenance) -> String {
        let Fields {
            name,
            text,
            parameters,
            ..
        } = &self.fields;
        let read = |text: &str| match standing {
            Provenance::Builtin | Provenance::Verified => text.to_owned(),
            Provenance::Unverified => first_words(text),
        };
        let (text, parameters) = (read(text), read(parameters));
        let spoken = crate::text::spoken(name);
        let whole = match (text.is_empty(), parameters.is_empty()) {
            (_, true) => format!("{spoken}: {text}"),
            (_, false) => format!("{spoken}: {text} {parameters}"),
        };
        first_chars(&whole, MAX_EMBEDDED_CHARS)
    }

    /// What copies are told by: as much of the text as is read where nobody vouches for it, or else of the parameters.
    pub(crate) fn signature(&self) -> u64 {
        let of = |text: &str| {
            let read: Vec<String> = terms(text).take(UNVERIFIED_WORDS).collect();
            signature(&read.join(" "))
        };
        match of(&self.fields.text) {
            0 => of(&self.fields.parameters),
            text => text,
        }
    }

    /// The tokens of its fullest rendering.
    pub fn full_tokens(&self) -> u32 {
        self.renderings.last().map_or(0, |rendering| rendering.tokens)
    }

    /// The digest of everything that it says.
    pub fn content_hash(&self) -> ContentHash {
        let mut hasher = blake3::Hasher::new();
        let mut part = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        part(self.surface.as_str());
        part(&self.fields.name);
        part(&self.fields.text);
        part(&self.fields.parameters);
        part(&self.fields.tags.len().to_string());
        self.fields.tags.iter().for_each(|tag| part(tag));
        for rendering in &self.renderings {
            part(&rendering.text);
            part(&rendering.tokens.to_string());
        }
        part(&self.provider);
        part(&format!("{:?} {}", self.provenance, self.pinned));
        ContentHash(*hasher.finalize().as_bytes())
    }
}

/// How far the words of a digest may be believed, by where they come from and what was approved; and what is approved
/// then: the first thing that a vouched-for provider says is what it is held to.
pub(crate) fn standing(
    declared: Provenance,
    approved: Option<ContentHash>,
    hash: ContentHash,
) -> (Provenance, Option<ContentHash>) {
    match (declared, approved) {
        (Provenance::Builtin, _) => (Provenance::Builtin, approved),
        (Provenance::Verified, None) => (Provenance::Verified, Some(hash)),
        (_, Some(approved)) if approved == hash => (Provenance::Verified, Some(approved)),
        _ => (Provenance::Unverified, approved),
    }
}

/// The words of a text until their terms are as many as count where nobody vouches for it, none of them longer than a
/// term can be: what an index reads of it, so that an embedding says no more.
fn first_words(text: &str) -> String {
    let mut left = UNVERIFIED_WORDS;
    let words = text.split_whitespace().map_while(|word| {
        let word = first_chars(word, MAX_TERM_CHARS);
        left = left.checked_sub(terms(&word).count())?;
        Some(word)
    });
    words.take(UNVERIFIED_WORDS).collect::<Vec<_>>().join(" ")
}

fn first_chars(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

fn checked_text(what: &'static str, text: &str) -> Result<String> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(Error::Length {
            what,
            found: text.len(),
            limit: MAX_TEXT_BYTES,
        });
    }
    Ok(clean(text))
}

fn check_length(what: &'static str, text: &str, limit: usize) -> Result<()> {
    if (1..=limit).contains(&text.len()) {
        return Ok(());
    }
    Err(Error::Length {
        what,
        found: text.len(),
        limit,
    })
}
