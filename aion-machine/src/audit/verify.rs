//! Does the chain hold?

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use super::row;
use super::writer::{Anchor, files};

/// A chain that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// How many rows there are.
    pub rows: u64,
    /// The number of the last row that is not kept any more; 0 if all are.
    pub anchor_seq: u64,
    /// The number of the newest row.
    pub last_seq: u64,
    /// Its hash.
    pub last_hash: String,
    /// Bytes of half a row at the end: of a process that writes now, or was killed while it wrote.
    pub torn_bytes: u64,
}

/// Where and how a chain is broken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditBreak {
    /// A file cannot be read.
    #[error("the audit log cannot be read")]
    Io(#[from] std::io::Error),
    /// A row is not as it was written.
    #[error("row {seq} ({file}, line {line}) was changed")]
    Changed {
        /// The number that it should have.
        seq: u64,
        /// In which file.
        file: String,
        /// In which line, from 1.
        line: u64,
    },
    /// Rows were removed, put in or put elsewhere.
    #[error("after row {after} comes row {found} ({file}, line {line}): rows were removed, added or moved")]
    OutOfOrder {
        /// The row before.
        after: u64,
        /// The row that follows.
        found: u64,
        /// In which file.
        file: String,
        /// In which line, from 1.
        line: u64,
    },
    /// A row that was there once is not there any more, or another one is.
    #[error("row {seq} with the hash {hash} is not in the log: rows at its end were removed or replaced")]
    Missing {
        /// The number of the row.
        seq: u64,
        /// Its hash.
        hash: String,
    },
}

/// Checks every row of a directory. `known` is the number and hash of a row that was the newest once: with
/// it, the removal of rows at the end is seen too.
///
/// # Errors
/// [`AuditBreak`] at the first row that does not fit.
pub fn verify(dir: &Path, known: Option<(u64, &str)>) -> Result<Verified, AuditBreak> {
    let anchor = Anchor::read(dir)?;
    let (mut seq, mut hash, anchor_seq) = (anchor.seq, anchor.hash, anchor.seq);
    let (mut rows, mut torn_bytes) = (0, 0);
    let mut seen = known.is_none_or(|(number, _)| number <= anchor_seq);
    let files = files(dir)?;
    for (at, (_, path)) in files.iter().enumerate() {
        let file = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned();
        let mut reader = BufReader::new(File::open(path)?);
        let (mut text, mut line) = (Vec::new(), 0);
        while reader.read_until(b'\n', &mut text)? > 0 {
            line += 1;
            let whole = text.pop_if(|b| *b == b'\n').is_some();
            if !whole && at + 1 == files.len() {
                torn_bytes = text.len() as u64;
                break;
            }
            let row = std::str::from_utf8(&text)
                .ok()
                .filter(|_| whole)
                .and_then(row::parse);
            let Some(row) = row else {
                return Err(AuditBreak::Changed {
                    seq: seq + 1,
                    file,
                    line,
                });
            };
            text.clear();
            if row.seq <= anchor_seq {
                // Left over from letting go of old files.
                continue;
            }
            if row.seq != seq + 1 || row.prev != hash {
                return Err(AuditBreak::OutOfOrder {
                    after: seq,
                    found: row.seq,
                    file,
                    line,
                });
            }
            (seq, hash, rows) = (row.seq, row.hash, rows + 1);
            seen |= known.is_some_and(|(number, known)| number == seq && known == hash);
        }
    }
    match known.filter(|_| !seen) {
        Some((seq, hash)) => Err(AuditBreak::Missing {
            seq,
            hash: hash.to_owned(),
        }),
        None => Ok(Verified {
            rows,
            anchor_seq,
            last_seq: seq,
            last_hash: hash,
            torn_bytes,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{AuditEvent, AuditLog, AuditOptions, AuditSink, Outcome};
    use super::*;
    use crate::RelPath;

    fn fill(dir: &Path, options: AuditOptions, rows: u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let log = AuditLog::open(dir, options).unwrap();
        for number in 0..rows {
            let event = AuditEvent::new("read", RelPath::root())
                .with_task(Some(format!("t{}", number % 2)))
                .with_what(serde_json::json!({"path": format!("f{number}"), "hash": "no"}))
                .with_outcome(Outcome::Done, None);
            runtime.block_on(log.record(event)).unwrap();
        }
    }

    fn lines(dir: &Path) -> Vec<String> {
        let (_, path) = files(dir).unwrap().remove(0);
        let text = std::fs::read_to_string(path).unwrap();
        text.split_inclusive('\n').map(str::to_owned).collect()
    }

    fn put(dir: &Path, lines: &[String]) {
        let (_, path) = files(dir).unwrap().remove(0);
        std::fs::write(path, lines.concat()).unwrap();
    }

    #[test]
    fn a_chain_goes_on_over_restarts_and_is_read_by_page() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), AuditOptions::default(), 3);
        fill(dir.path(), AuditOptions::default(), 2);
        let verified = verify(dir.path(), None).unwrap();
        assert_eq!((verified.rows, verified.last_seq, verified.torn_bytes), (5, 5, 0));
        let log = AuditLog::open(dir.path(), AuditOptions::default()).unwrap();
        assert!(
            AuditLog::open(dir.path(), AuditOptions::default()).is_err(),
            "one writer"
        );
        let page = log.page(1, 2, None).unwrap();
        assert_eq!(
            (page.rows.len(), page.rows[0].seq, page.next, page.last),
            (2, 2, 3, 5)
        );
        let own = log.page(0, 9, Some("t1")).unwrap();
        assert_eq!(own.rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [2, 5]);
        assert_eq!(log.page(5, 9, None).unwrap().rows, []);
    }

    #[test]
    fn a_changed_a_removed_and_a_moved_row_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), AuditOptions::default(), 5);
        let good = lines(dir.path());
        let newest = verify(dir.path(), None).unwrap().last_hash;
        let broken = |lines: &[String]| {
            put(dir.path(), lines);
            verify(dir.path(), None).unwrap_err()
        };
        let mut changed = good.clone();
        changed[2] = changed[2].replace("f2", "f9");
        assert!(matches!(
            broken(&changed),
            AuditBreak::Changed { seq: 3, line: 3, .. }
        ));
        let removed: Vec<_> = good
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != 2)
            .map(|(_, l)| l.clone())
            .collect();
        assert!(matches!(
            broken(&removed),
            AuditBreak::OutOfOrder {
                after: 2,
                found: 4,
                ..
            }
        ));
        let mut moved = good.clone();
        moved.swap(1, 2);
        assert!(matches!(
            broken(&moved),
            AuditBreak::OutOfOrder {
                after: 1,
                found: 3,
                ..
            }
        ));
        // A row that was made anew, with a hash that fits: the next one does not.
        let mut forged = good.clone();
        let event = AuditEvent::new("read", RelPath::root()).with_outcome(Outcome::Done, None);
        let prev = row::parse(good[1].trim_end()).unwrap().hash;
        forged[2] = row::line(3, 0, &prev, &event).unwrap().0;
        assert!(matches!(
            broken(&forged),
            AuditBreak::OutOfOrder {
                after: 3,
                found: 4,
                ..
            }
        ));
        // Rows at the end can go unseen, unless somebody remembers the newest one.
        put(dir.path(), &good[..3]);
        assert_eq!(verify(dir.path(), None).unwrap().last_seq, 3);
        let known = verify(dir.path(), Some((5, &newest))).unwrap_err();
        assert!(matches!(known, AuditBreak::Missing { seq: 5, .. }));
        put(dir.path(), &good);
        assert!(verify(dir.path(), Some((5, &newest))).is_ok());
    }

    #[test]
    fn half_a_row_at_the_end_is_taken_away_and_said() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), AuditOptions::default(), 2);
        let mut torn = lines(dir.path());
        torn.push("{\"seq\":3,\"at_".to_owned());
        put(dir.path(), &torn);
        assert_eq!(verify(dir.path(), None).unwrap().torn_bytes, 13);
        fill(dir.path(), AuditOptions::default(), 1);
        let verified = verify(dir.path(), None).unwrap();
        assert_eq!((verified.rows, verified.torn_bytes), (4, 0));
        assert!(lines(dir.path())[2].contains("audit_recovered"));
    }

    #[test]
    fn old_files_go_and_the_rest_still_holds() {
        let dir = tempfile::tempdir().unwrap();
        let small = AuditOptions::default()
            .with_max_file_bytes(2000)
            .with_max_bytes(8000);
        fill(dir.path(), small.clone(), 200);
        let verified = verify(dir.path(), None).unwrap();
        assert_eq!(verified.last_seq, 200);
        assert!(verified.anchor_seq > 100, "{verified:?}");
        let bytes: u64 = files(dir.path())
            .unwrap()
            .iter()
            .map(|(_, p)| p.metadata().unwrap().len())
            .sum();
        assert!(bytes < 12_000, "{bytes}");
        // Without the anchor, or with the oldest kept file gone, it does not.
        let (_, oldest) = files(dir.path()).unwrap().remove(0);
        std::fs::remove_file(oldest).unwrap();
        assert!(matches!(
            verify(dir.path(), None),
            Err(AuditBreak::OutOfOrder { .. })
        ));
        let aged = tempfile::tempdir().unwrap();
        let short = AuditOptions::default()
            .with_max_file_bytes(2000)
            .with_max_age(Duration::ZERO);
        fill(aged.path(), short, 100);
        assert!(files(aged.path()).unwrap().len() <= 2);
        assert!(verify(aged.path(), None).is_ok());
    }
}
