//! The only place that writes results to standard output.
#![allow(clippy::print_stdout)]

use std::io::Write;

use crate::Error;

/// Writes one line; a reader that has gone away ends the output in silence.
pub fn line(text: &str) {
    let _closed = writeln!(std::io::stdout().lock(), "{text}");
}

/// Writes a document as indented JSON.
pub fn json(document: &impl serde::Serialize) {
    match serde_json::to_string_pretty(document) {
        Ok(text) => line(&text),
        Err(error) => failure(&error),
    }
}

/// Tells on standard error why a command failed.
pub fn failure(error: &dyn std::error::Error) {
    let _closed = writeln!(std::io::stderr().lock(), "aion: {}", aion_service::chain(error));
}

/// What to do about an error, where there is more to say than the error itself does.
pub fn advice(error: &Error) -> Option<&'static str> {
    match error {
        Error::ModelMissing { .. } | Error::PackageClient { .. } | Error::NoPython => {
            Some("`aion doctor` says what is missing")
        }
        _ => None,
    }
}

/// A table with aligned columns; the first row is the heading.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut out = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let pad = width.saturating_sub(cell.chars().count());
            out.push_str(cell);
            out.push_str(&" ".repeat(pad + 2));
        }
        text.push_str(out.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".into(), "b".into()], vec!["long".into(), "x".into()]];
        assert_eq!(table(&rows), "a     b\nlong  x\n");
    }
}
