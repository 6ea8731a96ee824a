//! Work that notes every answer, and the audit of a store against the notes: what kill tests are made of.
//!
//! One process does the [`Work`] until it is killed. Another one then opens the store and holds it against the
//! notes ([`Audit`]). Notes are lines of text in a file, written by one call each: they outlive the process, but
//! not the machine.

mod audit;
mod note;
mod work;

pub use audit::{Audit, Report, settled, sound};
pub use note::{Note, Notes};
pub use work::Work;
