//! What the service and the supervisor say to each other.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Ending, Enforcement, ExecLimits, RelPath, Tier};

/// Whether kernel namespaces are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Namespaces {
    /// Where the kernel allows it; otherwise without, which is a lower tier.
    #[default]
    WherePossible,
    /// Not at all.
    Never,
}

/// Whether there is a way to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outlet {
    #[default]
    None,
    /// A listener of the program's own network, on which the service accepts.
    Proxy,
}

/// What to execute, and under what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: RelPath,
    /// Path, device and inode of the workspace: another directory at that path is not accepted.
    pub(crate) root: String,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) read_only: Vec<PathBuf>,
    pub(crate) limits: ExecLimits,
    pub(crate) required: Tier,
    pub(crate) namespaces: Namespaces,
    pub(crate) outlet: Outlet,
    /// What is known to be missing.
    pub(crate) gaps: Vec<String>,
}

/// What the supervisor says, one JSON document a line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// The walls stand; the program is started next.
    Confined { enforcement: Enforcement },
    /// A listener for what the program wants of the network comes with this line.
    Listening,
    /// Namespaces were entered and turned out to be of no use; nothing was started. It can be tried
    /// without them, by a new supervisor, since there is no way back for this one.
    NoNamespaces { reason: String },
    /// They do not stand as high as they must; nothing was started.
    Refused { gaps: Vec<String> },
    /// The program cannot be executed.
    NoProgram { reason: String },
    /// The working directory is not there.
    NoDirectory { reason: String },
    /// Something else went wrong.
    Failed { reason: String },
    /// Everything has ended.
    Ended {
        code: Option<i32>,
        signal: Option<i32>,
        ending: Ending,
    },
}

/// What the service may say after the plan, one byte each. Any other byte, or that the line closes, kills
/// everything at once.
pub(crate) mod word {
    /// End the program: `SIGTERM` to all, and after the grace of the limits `SIGKILL`.
    pub(crate) const END: u8 = b't';
}
