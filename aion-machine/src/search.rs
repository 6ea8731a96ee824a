//! What is asked of glob and grep, and what comes back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{RelPath, Stat};

/// Whether `.gitignore` and `.ignore` files are honoured. `.git` itself is never searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum IgnoreRules {
    /// What they name is left out.
    #[default]
    Respect,
    /// They are files like others.
    Off,
}

/// Where a walk stops.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WalkLimits {
    /// How many entries are looked at.
    pub max_entries: usize,
    /// How long it may take.
    pub time: Duration,
    /// How deep directories are entered.
    pub max_depth: usize,
}

impl Default for WalkLimits {
    fn default() -> Self {
        Self {
            max_entries: 200_000,
            time: Duration::from_secs(10),
            max_depth: 64,
        }
    }
}

impl WalkLimits {
    /// Stops after so many entries.
    #[must_use]
    pub fn with_max_entries(mut self, max_entries: usize) -> Self {
        self.max_entries = max_entries;
        self
    }

    /// Stops after this time.
    #[must_use]
    pub fn with_time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }
}

/// A search for names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GlobRequest {
    /// A glob like `**/*.rs`. Without a slash it matches the file name at any depth.
    pub pattern: String,
    /// The directory to search below.
    pub path: RelPath,
    /// How many matches come back at most.
    pub max_hits: usize,
    /// Are ignore files honoured?
    pub ignore: IgnoreRules,
    /// Where the walk stops.
    pub limits: WalkLimits,
}

impl GlobRequest {
    /// Searches the whole workspace.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self {
            pattern: pattern.into(),
            path: RelPath::root(),
            max_hits: 1000,
            ignore: IgnoreRules::Respect,
            limits: WalkLimits::default(),
        }
    }

    /// Searches below this directory.
    #[must_use]
    pub fn with_path(mut self, path: RelPath) -> Self {
        self.path = path;
        self
    }

    /// Returns at most this many matches.
    #[must_use]
    pub fn with_max_hits(mut self, max_hits: usize) -> Self {
        self.max_hits = max_hits;
        self
    }

    /// Chooses whether ignore files are honoured.
    #[must_use]
    pub fn with_ignore(mut self, ignore: IgnoreRules) -> Self {
        self.ignore = ignore;
        self
    }

    /// Chooses where the walk stops.
    #[must_use]
    pub fn with_limits(mut self, limits: WalkLimits) -> Self {
        self.limits = limits;
        self
    }
}

/// What a glob found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct GlobOutput {
    /// Files and links whose path matches, in byte order of their paths.
    pub hits: Vec<Stat>,
    /// Whether a limit was reached, so that there may be more.
    pub truncated: bool,
}

/// How letters are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Case {
    /// `a` is not `A`.
    #[default]
    Sensitive,
    /// `a` is `A`.
    Insensitive,
}

/// A search for text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GrepRequest {
    /// A regular expression, matched line by line in time linear in the text.
    pub pattern: String,
    /// The directory to search below, or one file.
    pub path: RelPath,
    /// Only files whose path matches this glob.
    pub glob: Option<String>,
    /// How letters are compared.
    pub case: Case,
    /// How many lines around a match come back.
    pub context_lines: usize,
    /// How many matching lines come back at most.
    pub max_hits: usize,
    /// Longer lines are cut.
    pub max_line_bytes: usize,
    /// Larger files are not searched.
    pub max_file_bytes: u64,
    /// Are ignore files honoured?
    pub ignore: IgnoreRules,
    /// Where the walk stops.
    pub limits: WalkLimits,
}

impl GrepRequest {
    /// Searches the whole workspace.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self {
            pattern: pattern.into(),
            path: RelPath::root(),
            glob: None,
            case: Case::Sensitive,
            context_lines: 0,
            max_hits: 200,
            max_line_bytes: 500,
            max_file_bytes: 16 * 1024 * 1024,
            ignore: IgnoreRules::Respect,
            limits: WalkLimits::default(),
        }
    }

    /// Searches below this directory, or in this file.
    #[must_use]
    pub fn with_path(mut self, path: RelPath) -> Self {
        self.path = path;
        self
    }

    /// Searches only files whose path matches.
    #[must_use]
    pub fn with_glob(mut self, glob: impl Into<String>) -> Self {
        self.glob = Some(glob.into());
        self
    }

    /// Chooses how letters are compared.
    #[must_use]
    pub fn with_case(mut self, case: Case) -> Self {
        self.case = case;
        self
    }

    /// Returns this many lines around each match.
    #[must_use]
    pub fn with_context_lines(mut self, context_lines: usize) -> Self {
        self.context_lines = context_lines;
        self
    }

    /// Returns at most this many matching lines.
    #[must_use]
    pub fn with_max_hits(mut self, max_hits: usize) -> Self {
        self.max_hits = max_hits;
        self
    }

    /// Chooses whether ignore files are honoured.
    #[must_use]
    pub fn with_ignore(mut self, ignore: IgnoreRules) -> Self {
        self.ignore = ignore;
        self
    }

    /// Chooses where the walk stops.
    #[must_use]
    pub fn with_limits(mut self, limits: WalkLimits) -> Self {
        self.limits = limits;
        self
    }
}

/// One matching line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct GrepHit {
    /// The file.
    pub path: RelPath,
    /// The number of the line, from 1.
    pub line: u64,
    /// The line without its end, cut at `max_line_bytes`.
    pub text: String,
    /// Lines before it, where context was asked for.
    pub before: Vec<String>,
    /// Lines after it.
    pub after: Vec<String>,
}

impl GrepHit {
    /// A line without its surroundings.
    pub fn new(path: RelPath, line: u64, text: impl Into<String>) -> Self {
        Self {
            path,
            line,
            text: text.into(),
            before: Vec::new(),
            after: Vec::new(),
        }
    }
}

/// What a grep found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct GrepOutput {
    /// By path, then by line.
    pub hits: Vec<GrepHit>,
    /// How many files were searched.
    pub files_searched: u64,
    /// How many files were left out because they are binary, too large, or could not be read.
    pub files_skipped: u64,
    /// Whether a limit was reached, so that there may be more.
    pub truncated: bool,
}
