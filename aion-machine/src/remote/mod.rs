//! [`RemoteMachine`]: the machine of a server, over HTTP.

mod calls;
mod follow;
mod options;
mod workspace;

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

use self::calls::Calls;
pub use self::options::RemoteOptions;
use self::workspace::RemoteWorkspace;
use crate::wire::About;
use crate::{Capabilities, Enforcement, Machine, Result, Workspace, WorkspaceSpec};

/// The machine of an `aion-machine-server`: all that a machine on this host can, with the same errors.
///
/// Where a connection breaks, a request is sent again a few times. What changes something, and the start of an
/// execution, has a key of its own by which it happens once. Where the tries are used up, the error is
/// [`Error::Unreachable`](crate::Error::Unreachable), and a change may have happened; so it may where the server
/// itself ended in the middle of it and says `outcome_unknown`. An execution is followed by a stream that is taken
/// up again where it broke off. Dropping the execution kills it on the server, and so does a follower that gives up,
/// if the server can still be told.
///
/// ```no_run
/// # async fn run() -> Result<(), aion_machine::Error> {
/// use aion_machine::{ExecRequest, Machine, RelPath, RemoteMachine, RemoteOptions, WorkspaceSpec};
///
/// let machine = RemoteMachine::connect("http://127.0.0.1:9202", RemoteOptions::default()).await?;
/// let work = machine.open(&WorkspaceSpec::new(RelPath::parse("tasks/1")?)).await?;
/// println!("{}", work.exec(ExecRequest::new(["uname", "-a"])).await?.stdout.text());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct RemoteMachine {
    calls: Arc<Calls>,
    about: Arc<About>,
}

#[derive(Deserialize)]
struct Probed {
    report: Enforcement,
}

impl RemoteMachine {
    /// Asks the server at `base_url`, such as `http://127.0.0.1:9202`, what it is.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) if the address or a key cannot be one,
    /// [`Error::Unreachable`](crate::Error::Unreachable) if no machine answers.
    pub async fn connect(base_url: &str, options: RemoteOptions) -> Result<Self> {
        let calls = Arc::new(Calls::new(base_url, options)?);
        let about: About = calls.get("/v1/machine", None).await?;
        Ok(Self {
            calls,
            about: Arc::new(about),
        })
    }
}

#[async_trait]
impl Machine for RemoteMachine {
    fn id(&self) -> &str {
        &self.about.id
    }

    fn capabilities(&self) -> Capabilities {
        self.about.capabilities
    }

    async fn open(&self, spec: &WorkspaceSpec) -> Result<Arc<dyn Workspace>> {
        let work = RemoteWorkspace::new(Arc::clone(&self.calls), spec.cwd.clone(), self.capabilities());
        // The server opens it, and creates it, with its first request.
        work.open().await?;
        Ok(Arc::new(work))
    }

    async fn probe(&self) -> Result<Enforcement> {
        let probed: Probed = self.calls.get("/v1/enforcement", None).await?;
        Ok(probed.report)
    }
}
