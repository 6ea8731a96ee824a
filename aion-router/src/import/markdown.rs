//! Docs from Markdown, one a section.

use std::ops::Range;

use pulldown_cmark::{Event, HeadingLevel, Parser, Tag, TagEnd};

use super::{Imported, Importer, Part, bad_document};
use crate::error::Result;
use crate::item::{MAX_TEXT_BYTES, Surface};

/// The most bytes of one file.
const MAX_FILE_BYTES: usize = 64 * MAX_TEXT_BYTES;

/// The sections of a Markdown file as items of a surface, [`Surface::Doc`] for most: what stands before the
/// first heading is called by the file, each section by the file and the headings that lead to it.
///
/// ```
/// use aion_router::Surface;
/// use aion_router::import::{Importer, markdown};
///
/// let text = "# Guide\nRead me.\n## Setup\nRun it.\n```\n# not a heading\n```\n";
/// let imported = markdown("guide.md", text, &Surface::Doc, &Importer::default())?;
/// let names: Vec<&str> = imported.items.iter().map(|item| &*item.fields().name).collect();
/// assert_eq!(names, ["guide.md#guide", "guide.md#guide/setup"]);
/// assert!(imported.items[1].fields().text.contains("not a heading"));
/// # Ok::<(), aion_router::Error>(())
/// ```
///
/// # Errors
/// [`Error::BadDocument`](crate::Error::BadDocument) for a file above 16 MiB,
/// [`Error::LimitReached`](crate::Error::LimitReached) for more than 10,000 sections.
pub fn markdown(file: &str, text: &str, surface: &Surface, importer: &Importer<'_>) -> Result<Imported> {
    if text.len() > MAX_FILE_BYTES {
        let reason = format!("it has {} bytes, at most {MAX_FILE_BYTES} are read", text.len());
        return Err(bad_document(file, reason));
    }
    let mut imported = Imported::default();
    for section in sections(text) {
        let body = text[section.body.clone()].trim();
        if body.is_empty() && section.titles.is_empty() {
            continue;
        }
        let path: Vec<String> = section.titles.iter().map(|title| anchor(title)).collect();
        let mark = if path.is_empty() { "" } else { "#" };
        let part = Part {
            name: format!("{file}{mark}{}", path.join("/")),
            text: format!("{}\n{body}", section.titles.last().map_or("", String::as_str))
                .trim()
                .to_owned(),
            tags: section.titles,
            ..Part::default()
        };
        let at = format!("{file}:{}", line_of(text, section.body.start));
        imported.take(at, importer.item(surface.clone(), &part))?;
    }
    Ok(imported.without_doubles())
}

struct Section {
    /// The headings that lead to it, its own last.
    titles: Vec<String>,
    body: Range<usize>,
}

/// The sections in their order; headings inside code are none.
fn sections(text: &str) -> Vec<Section> {
    let mut sections = vec![Section {
        titles: Vec::new(),
        body: 0..text.len(),
    }];
    let mut above: Vec<(HeadingLevel, String)> = Vec::new();
    let mut title: Option<String> = None;
    for (event, range) in Parser::new(text).into_offset_iter() {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                if let Some(open) = sections.last_mut() {
                    open.body.end = range.start;
                }
                above.retain(|(other, _)| *other < level);
                title = Some(String::new());
            }
            Event::Text(words) | Event::Code(words) => {
                if let Some(title) = &mut title {
                    title.push_str(&words);
                }
            }
            Event::End(TagEnd::Heading(level)) => {
                above.push((level, title.take().unwrap_or_default()));
                sections.push(Section {
                    titles: above.iter().map(|(_, title)| title.clone()).collect(),
                    body: range.end..text.len(),
                });
            }
            _ => {}
        }
    }
    sections
}

/// A heading as it stands in links: lower case, words joined by `-`.
fn anchor(title: &str) -> String {
    let words = title.split(|c: char| !c.is_alphanumeric());
    let words: Vec<String> = words
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.join("-")
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].bytes().filter(|byte| *byte == b'\n').count() + 1
}
