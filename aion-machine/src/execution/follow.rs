//! Reading along: events, where one stands among them, and the one who reads.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::feed::{Life, Shared};
use crate::{Error, Result};

/// One of the two streams that a program writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl OutputStream {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    /// Its usual name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// How many bytes of each stream a follower has seen or been told that they are lost. As text,
/// `STDOUT-STDERR`.
///
/// ```
/// use aion_machine::ExecCursor;
/// let cursor: ExecCursor = "120-33".parse()?;
/// assert_eq!((cursor.stdout, cursor.stderr), (120, 33));
/// assert_eq!(cursor.to_string(), "120-33");
/// assert!("120".parse::<ExecCursor>().is_err());
/// # Ok::<(), aion_machine::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ExecCursor {
    /// Bytes of standard output.
    pub stdout: u64,
    /// Bytes of standard error.
    pub stderr: u64,
}

impl ExecCursor {
    /// After so many bytes of each stream.
    pub fn new(stdout: u64, stderr: u64) -> Self {
        Self { stdout, stderr }
    }

    /// Its place in one of the streams.
    pub fn of(self, stream: OutputStream) -> u64 {
        match stream {
            OutputStream::Stdout => self.stdout,
            OutputStream::Stderr => self.stderr,
        }
    }

    /// The bytes of both streams together.
    pub fn total(self) -> u64 {
        self.stdout.saturating_add(self.stderr)
    }

    /// Where one stands after an event.
    #[must_use]
    pub fn past(self, event: &ExecEvent) -> Self {
        self.after(event.stream(), event.len())
    }

    pub(crate) fn after(mut self, stream: OutputStream, bytes: u64) -> Self {
        let at = match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        };
        *at = at.saturating_add(bytes);
        self
    }
}

impl fmt::Display for ExecCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.stdout, self.stderr)
    }
}

impl FromStr for ExecCursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('-');
        let numbers = parts.and_then(|(out, err)| Some((out.parse().ok()?, err.parse().ok()?)));
        let (stdout, stderr) = numbers
            .ok_or_else(|| Error::invalid("a place in an output is not `STDOUT-STDERR`, both in bytes"))?;
        Ok(Self { stdout, stderr })
    }
}

/// What a follower sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecEvent {
    /// The program wrote something.
    Output {
        /// Where to.
        stream: OutputStream,
        /// How many bytes of that stream came before.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// The program wrote more than is kept for a follower this slow; these bytes cannot be had any more.
    Omitted {
        /// Where to.
        stream: OutputStream,
        /// How many bytes of that stream came before.
        offset: u64,
        /// How many are missing.
        bytes: u64,
    },
}

impl ExecEvent {
    /// Which stream it is about.
    pub fn stream(&self) -> OutputStream {
        match self {
            Self::Output { stream, .. } | Self::Omitted { stream, .. } => *stream,
        }
    }

    /// How many bytes of its stream came before.
    pub fn offset(&self) -> u64 {
        match self {
            Self::Output { offset, .. } | Self::Omitted { offset, .. } => *offset,
        }
    }

    /// How many bytes it is about.
    fn len(&self) -> u64 {
        match self {
            Self::Output { bytes, .. } => bytes.len() as u64,
            Self::Omitted { bytes, .. } => *bytes,
        }
    }
}

/// Reads what a program writes, at its own pace. It does not keep the program alive.
#[derive(Debug)]
pub struct ExecFollower {
    shared: Arc<Shared>,
    changes: watch::Receiver<()>,
    cursor: ExecCursor,
}

impl ExecFollower {
    pub(super) fn new(shared: Arc<Shared>, cursor: ExecCursor) -> Self {
        let changes = shared.changes();
        Self {
            shared,
            changes,
            cursor,
        }
    }

    /// Where it stands: with this another follower goes on after the last event that came.
    pub fn cursor(&self) -> ExecCursor {
        self.cursor
    }

    /// The next event, or nothing after the end of the program and of all that it wrote. Dropping the
    /// future loses nothing.
    pub async fn next(&mut self) -> Option<ExecEvent> {
        loop {
            let (event, ended) = self.look();
            if event.is_some() || ended {
                return event;
            }
            // The sender is in `shared`, so this cannot fail.
            let _ = self.changes.changed().await;
        }
    }

    fn look(&mut self) -> (Option<ExecEvent>, bool) {
        self.changes.mark_unchanged();
        let state = self.shared.state();
        let event = state.replay.after(self.cursor);
        let ended = matches!(state.life, Life::Ended(_));
        drop(state);
        if let Some(event) = &event {
            self.cursor = self.cursor.past(event);
        }
        (event, ended)
    }
}
