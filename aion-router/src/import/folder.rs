//! Files and docs from a folder.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ignore::WalkBuilder;

use super::{Imported, Importer, MAX_PARTS, Part, Skipped, bad_document, markdown};
use crate::error::{Error, Result};
use crate::item::Surface;

/// Bytes of a file that are read for its first words.
const HEAD_BYTES: u64 = 4_096;
/// Bytes of a Markdown file that are read.
const MARKDOWN_BYTES: u64 = 1 << 20;
/// Bytes of the words of a file.
const WORDS_BYTES: usize = 600;
/// How deep folders are entered.
const MAX_DEPTH: usize = 32;

/// The files of a folder, in the order of their paths: every text file as a [`Surface::File`] with its first
/// words, every section of a Markdown file as a [`Surface::Doc`].
///
/// `.gitignore` is honoured, hidden files are passed over, links are not followed. Files that cannot be read
/// and files that are no text are skipped and named.
///
/// # Errors
/// [`Error::BadDocument`] if the folder cannot be read, [`Error::LimitReached`] for more than 10,000 files and
/// sections.
pub fn folder(root: impl AsRef<Path>, importer: &Importer<'_>) -> Result<Imported> {
    let root = root.as_ref();
    let shown = root.display().to_string();
    if !root.is_dir() {
        return Err(bad_document(&shown, "it is no folder that can be read"));
    }
    let mut imported = Imported::default();
    let walk = WalkBuilder::new(root)
        .max_depth(Some(MAX_DEPTH))
        .require_git(false)
        .sort_by_file_path(Path::cmp)
        .build();
    for entry in walk {
        let entry = entry.map_err(|error| bad_document(&shown, error.to_string()))?;
        let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
        if let Some(name) = entry.path().strip_prefix(root).ok().filter(|_| is_file) {
            file(entry.path(), &name.to_string_lossy(), importer, &mut imported)?;
        }
    }
    Ok(imported.without_doubles())
}

fn file(path: &Path, name: &str, importer: &Importer<'_>, imported: &mut Imported) -> Result<()> {
    let is_markdown = Path::new(name)
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("md"));
    let text = match read(path, if is_markdown { MARKDOWN_BYTES } else { HEAD_BYTES }) {
        Ok(text) => text,
        Err(reason) => return imported.skip(name, reason),
    };
    if !is_markdown {
        let part = Part {
            name: name.to_owned(),
            text: first_words(&text),
            ..Part::default()
        };
        return imported.take(name.to_owned(), importer.item(Surface::File, &part));
    }
    let sections = markdown(name, &text, &Surface::Doc, importer)?;
    for item in sections.items {
        imported.take(name.to_owned(), Ok(item))?;
    }
    imported.skipped.extend(sections.skipped);
    Ok(())
}

/// The start of a file as text; why not, if it is none.
fn read(path: &Path, bytes: u64) -> std::result::Result<String, String> {
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(bytes).read_to_end(&mut head))
        .map_err(|error| error.to_string())?;
    if head.contains(&0) {
        return Err("it is no text".to_owned());
    }
    match String::from_utf8(head) {
        Ok(text) => Ok(text),
        // The cut may have gone through a character.
        Err(error) if error.utf8_error().error_len().is_none() => {
            let valid = error.utf8_error().valid_up_to();
            Ok(String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned())
        }
        Err(_) => Err("it is no UTF-8".to_owned()),
    }
}

/// The first words of a file, without the marks of comments.
fn first_words(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| line.trim_matches(|c: char| c.is_whitespace() || "/*#!;-".contains(c)));
    let mut words = String::new();
    for line in lines.filter(|line| !line.is_empty()) {
        if words.len() + line.len() > WORDS_BYTES {
            break;
        }
        words.push_str(line);
        words.push('\n');
    }
    words
}

impl Imported {
    fn skip(&mut self, at: &str, reason: String) -> Result<()> {
        if self.items.len() + self.skipped.len() >= MAX_PARTS {
            let what = "the number of files of a folder";
            return Err(Error::LimitReached {
                what,
                limit: MAX_PARTS,
            });
        }
        self.skipped.push(Skipped {
            at: at.to_owned(),
            reason,
        });
        Ok(())
    }
}
