//! Words: what is left out of a text, and how the rest becomes terms.

/// The longest term, in characters; the rest of a longer one is left out.
pub(crate) const MAX_TERM_CHARS: usize = 40;

/// A text without characters that hide or reorder others: controls but for line breaks and tabs,
/// zero-width characters, and those that turn the direction of writing.
///
/// ```
/// assert_eq!(aion_router::text::clean("safe\u{202e}txt\u{200b}\u{7}\n"), "safetxt\n");
/// ```
pub fn clean(text: &str) -> String {
    text.chars().filter(|c| !is_hidden(*c)).collect()
}

fn is_hidden(c: char) -> bool {
    let control = c.is_control() && !matches!(c, '\n' | '\t');
    let format = matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    );
    control || format
}

/// The terms of a text: lower-case words and numbers, with `camelCase` and `snake_case` taken apart
/// and English plurals reduced.
///
/// ```
/// let terms: Vec<String> = aion_router::text::terms("Reads fileNames, HTTPServer v2 queries").collect();
/// assert_eq!(terms, ["read", "file", "name", "http", "server", "v", "2", "query"]);
/// ```
pub fn terms(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric())
        .flat_map(pieces)
        .filter(|term| !term.is_empty())
}

/// The parts of a word between changes of case and between letters and digits.
fn pieces(word: &str) -> Vec<String> {
    let chars: Vec<char> = word.chars().collect();
    let mut pieces = Vec::new();
    let mut piece = String::new();
    for (i, c) in chars.iter().enumerate() {
        if i > 0 && is_border(chars[i - 1], *c, chars.get(i + 1).copied()) {
            pieces.push(stem(std::mem::take(&mut piece)));
        }
        if piece.chars().count() < MAX_TERM_CHARS {
            piece.extend(c.to_lowercase());
        }
    }
    pieces.push(stem(piece));
    pieces
}

fn is_border(before: char, c: char, after: Option<char>) -> bool {
    let rises = before.is_lowercase() && c.is_uppercase();
    let ends_capitals = before.is_uppercase() && c.is_uppercase() && after.is_some_and(char::is_lowercase);
    rises || ends_capitals || before.is_numeric() != c.is_numeric()
}

/// Reduces English plurals, and nothing else.
///
/// # Sources
/// D. Harman, How effective is suffixing?, 1991: the "S" stemmer.
fn stem(mut word: String) -> String {
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| word.ends_with(suffix));
    let is_plural = match ends(&["es"]) {
        true => !ends(&["aes", "ees", "oes"]),
        false => ends(&["s"]) && !ends(&["us", "ss"]),
    };
    if ends(&["ies"]) && !ends(&["eies", "aies"]) && word.len() > 4 {
        word.truncate(word.len() - 3);
        word.push('y');
    } else if word.len() > 3 && is_plural {
        word.pop();
    }
    word
}

/// Whether `text` names `name` as a whole: as an identifier that is no plain word, or in quotes.
///
/// A plain word in flowing text (`search for it`) names nothing; `search_web`, `` `search` `` and a
/// text that is nothing but the name do.
///
/// ```
/// use aion_router::text::names;
///
/// assert!(names("call read_file now", "read_file"));
/// assert!(names("use `search` here", "search"));
/// assert!(names("search", "search"));
/// assert!(!names("search for it", "search"));
/// assert!(!names("read_files", "read_file"));
/// ```
pub fn names(text: &str, name: &str) -> bool {
    if name.is_empty() {
        return false;
    }
    if text.trim() == name {
        return true;
    }
    let special = is_identifier(name);
    text.match_indices(name).any(|(start, found)| {
        let before = text[..start].chars().next_back();
        let after = text[start + found.len()..].chars().next();
        let quoted = before.is_some_and(is_quote) && after.is_some_and(is_quote);
        let whole = !before.is_some_and(is_word) && !after.is_some_and(is_word);
        quoted || (special && whole)
    })
}

fn is_identifier(name: &str) -> bool {
    let mut before = ' ';
    name.chars().any(|c| {
        let inner_capital = before.is_lowercase() && c.is_uppercase();
        before = c;
        inner_capital || c.is_numeric() || matches!(c, '_' | '-' | '.' | '/' | ':')
    })
}

fn is_quote(c: char) -> bool {
    matches!(c, '`' | '"' | '\'')
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-')
}

/// A name as it is spoken: its words, without underscores, dots and inner capitals.
///
/// ```
/// assert_eq!(aion_router::text::spoken("get_weatherNow.v2"), "get weather Now v2");
/// ```
pub fn spoken(name: &str) -> String {
    let mut spoken = String::with_capacity(name.len() + 4);
    let mut before = ' ';
    for c in name.chars() {
        if !c.is_alphanumeric() {
            spoken.push(' ');
        } else {
            if before.is_lowercase() && c.is_uppercase() {
                spoken.push(' ');
            }
            spoken.push(c);
        }
        before = c;
    }
    spoken
}

/// A 64-bit digest in which nearly equal texts differ in few bits.
///
/// # Sources
/// M. Charikar, Similarity estimation techniques from rounding algorithms, 2002.
///
/// ```
/// use aion_router::text::signature;
///
/// let apart = |a: &str, b: &str| (signature(a) ^ signature(b)).count_ones();
/// let text = "Sends an e-mail message to an address, with a subject, a body and attached files";
/// assert_eq!(apart(text, &text.to_uppercase()), 0);
/// assert!(apart(text, "Reads the newest rows of a table in the database of the shop") > 12);
/// ```
pub fn signature(text: &str) -> u64 {
    let mut votes = [0_i32; 64];
    let mut before = 0_u64;
    for term in terms(&text.to_lowercase()) {
        let hash = hash_of(term.as_bytes());
        for hash in [hash, mix(before.rotate_left(17) ^ hash)] {
            for (bit, vote) in votes.iter_mut().enumerate() {
                *vote += if hash >> bit & 1 == 1 { 1 } else { -1 };
            }
        }
        before = hash;
    }
    let bits = votes.iter().enumerate().filter(|(_, vote)| **vote > 0);
    bits.fold(0, |signature, (bit, _)| signature | 1 << bit)
}

/// FNV-1a, mixed: the same on every machine and in every version.
pub(crate) fn hash_of(bytes: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv))
}

/// The finaliser of splitmix64: every bit of the input changes half of the output.
pub(crate) const fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
