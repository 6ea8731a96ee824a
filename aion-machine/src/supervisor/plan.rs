//! What the service and the supervisor say to each other.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::trial::Trial;
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

/// Which user of the host executed programs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunAs {
    /// The service's own user; if that is root, user and group 65534 (`nobody`), who sees a workspace
    /// that belongs to root as its own. Where that cannot be had, nothing is executed.
    #[default]
    Unprivileged,
    /// This user and group. Only a service that is root can choose them.
    User {
        /// The user.
        uid: u32,
        /// Its only group.
        gid: u32,
    },
    /// The service's own user, even if it is root: without capabilities, but the owner of root's files.
    Service,
}

/// From `unprivileged`, `service` or `UID:GID`.
///
/// ```
/// use aion_machine::RunAs;
/// assert_eq!("1000:100".parse(), Ok(RunAs::User { uid: 1000, gid: 100 }));
/// assert!("root".parse::<RunAs>().is_err());
/// ```
impl FromStr for RunAs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let user = || {
            let (uid, gid) = text.split_once(':')?;
            let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
            Some(Self::User { uid, gid })
        };
        match text {
            "unprivileged" => Ok(Self::Unprivileged),
            "service" => Ok(Self::Service),
            _ => user().ok_or_else(|| format!("`{text}` is not unprivileged, service or UID:GID")),
        }
    }
}

/// The cgroup that was made for an execution, and what it holds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Cgroup {
    pub(crate) path: PathBuf,
    pub(crate) memory: bool,
    pub(crate) processes: bool,
    pub(crate) cpu: bool,
}

/// Where the supervisor is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Surroundings {
    /// On the host itself.
    #[default]
    Host,
    /// In namespaces and mounts that bubblewrap has made.
    Bubblewrap,
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
    pub(crate) run_as: RunAs,
    /// What of the workspace cannot be changed.
    pub(crate) protected: Vec<RelPath>,
    /// A program that leaves less than this free on the disk is ended.
    pub(crate) min_free_bytes: u64,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) surroundings: Surroundings,
    /// Instead of a program, an attack on the walls.
    pub(crate) trial: Option<Trial>,
    /// What is known to be missing.
    pub(crate) gaps: Vec<String>,
}

impl Plan {
    /// The limits that no cgroup holds.
    pub(super) fn watched(&self) -> ExecLimits {
        let mut limits = self.limits.clone();
        let group = self.cgroup.clone().unwrap_or_default();
        if group.memory {
            limits.total_memory_bytes = 0;
        }
        if group.processes {
            limits.processes = 0;
        }
        limits
    }
}

/// What a warden must know of an execution; the plan is for the execution's first process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Terms {
    /// Those that it holds.
    pub(crate) limits: ExecLimits,
    pub(crate) min_free_bytes: u64,
    pub(crate) outlet: Outlet,
}

impl Terms {
    pub(crate) fn of(plan: &Plan) -> Self {
        Self {
            limits: plan.watched(),
            min_free_bytes: plan.min_free_bytes,
            outlet: plan.outlet,
        }
    }
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
