//! Pictures of calibration and of learning, as SVG text: no dependency, no font file, no script.
//!
//! A picture names itself to screen readers (`title`, `desc`), keeps a tooltip on every point, tells
//! series apart by dashes and markers as well as by colour, and follows the light or dark scheme of
//! the reader. The same input gives the same bytes.
//!
//! ```
//! use aion_market::diagram::{self, DiagramOptions};
//! use aion_market::reliability::Reliability;
//!
//! let curve = Reliability::of(&[0.1, 0.3, 0.8, 0.9], &[0.0, 1.0, 1.0, 1.0], 5)?;
//! let svg = diagram::reliability(&curve, &DiagramOptions::new("Anna"));
//! assert!(svg.starts_with("<svg") && svg.contains("<title id=\"aion-title\">Anna</title>"));
//! # Ok::<(), aion_market::Error>(())
//! ```

mod learning;
mod reliability;
mod svg;

pub use learning::{Series, learning};
pub use reliability::reliability;

/// The most characters of a title, a note or a name that are drawn.
const MAX_TEXT: usize = 80;

/// What is written on a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiagramOptions {
    title: String,
    note: Option<String>,
    id: String,
}

impl DiagramOptions {
    /// A picture of this title.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            note: None,
            id: "aion".to_owned(),
        }
    }

    /// Writes a line below the title, in place of the one with the numbers.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Sets how the ids of the picture begin: pictures in one page need different ones. Only ASCII
    /// letters, digits and hyphens are kept.
    #[must_use]
    pub fn with_id(mut self, id: &str) -> Self {
        self.id = id
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
            .collect();
        self
    }
}
