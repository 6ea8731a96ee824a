//! What actually held a process in: an honest report, made by the one who did it.

use serde::{Deserialize, Serialize};

/// What confines the files a process can touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum FileConfinement {
    /// Nothing.
    #[default]
    None,
    /// Landlock: no access outside the listed directories, though their names and sizes can be seen.
    Landlock,
    /// A file system of its own, in which nothing else exists.
    MountNamespace,
    /// Both.
    MountNamespaceAndLandlock,
}

/// What keeps a process off the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum NetworkConfinement {
    /// Nothing.
    #[default]
    None,
    /// No TCP by Landlock; UDP and others are open.
    LandlockTcp,
    /// No internet sockets at all, by a system call filter.
    Filter,
    /// A network of its own without any interface.
    Namespace,
    /// A network of its own, whose only way out is the proxy with the operator's list.
    NamespaceAndProxy,
}

/// What ends the whole process tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum ProcessConfinement {
    /// Nothing.
    #[default]
    None,
    /// The supervisor adopts every orphan and kills its descendants.
    Subreaper,
    /// The kernel kills everything in the namespace with its first process.
    PidNamespace,
}

/// What bounds a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum ResourceLimit {
    /// Nothing.
    #[default]
    None,
    /// A limit of each process (`setrlimit`), not of their sum.
    PerProcess,
    /// The supervisor looks at all of them together ten times a second, and ends what is above: for a
    /// moment they can be above.
    Watched,
    /// A limit of all of them together, held by the kernel.
    Total,
}

/// How strong a confinement is, as a whole. Higher is stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Tier {
    /// T0: not confined.
    None,
    /// T1: limits, a clean environment, and the tree can be killed.
    Limits,
    /// T2: T1, and files are confined, privileges cannot grow.
    #[default]
    Landlock,
    /// T3: T2, and everything else of the host (processes, network, mounts) is out of sight.
    Namespaces,
}

/// What held during one execution.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Enforcement {
    /// Files.
    pub files: FileConfinement,
    /// The Landlock version of the kernel; 0 where there is none.
    pub landlock_abi: u32,
    /// The network.
    pub network: NetworkConfinement,
    /// The process tree.
    pub processes: ProcessConfinement,
    /// Memory.
    pub memory: ResourceLimit,
    /// The number of processes.
    pub process_count: ResourceLimit,
    /// Processor time.
    #[serde(default)]
    pub cpu: ResourceLimit,
    /// What is written to disks.
    #[serde(default)]
    pub disk: ResourceLimit,
    /// What is kept of the outputs; the rest is read and thrown away.
    #[serde(default)]
    pub output: ResourceLimit,
    /// Whether a system call filter is in force.
    pub syscall_filter: bool,
    /// Whether all capabilities were dropped for good.
    pub capabilities_dropped: bool,
    /// Whether set-user-id programs gain nothing.
    pub no_new_privs: bool,
    /// The user of the host that the process runs as.
    pub uid: u32,
    /// The group.
    #[serde(default)]
    pub gid: u32,
    /// What was tried and did not work here, or is known to be open.
    pub gaps: Vec<String>,
}

impl Enforcement {
    /// The strongest tier whose every condition holds.
    ///
    /// ```
    /// use aion_machine::{Enforcement, Tier};
    /// assert_eq!(Enforcement::default().tier(), Tier::None);
    /// ```
    pub fn tier(&self) -> Tier {
        let limits = self.processes != ProcessConfinement::None && self.no_new_privs;
        let files = self.files != FileConfinement::None && self.capabilities_dropped;
        let alone = self.processes == ProcessConfinement::PidNamespace
            && matches!(
                self.network,
                NetworkConfinement::Namespace | NetworkConfinement::NamespaceAndProxy
            )
            && self.syscall_filter
            && self.files == FileConfinement::MountNamespaceAndLandlock;
        match (limits, files, alone) {
            (true, true, true) => Tier::Namespaces,
            (true, true, false) => Tier::Landlock,
            (true, false, _) => Tier::Limits,
            _ => Tier::None,
        }
    }
}
