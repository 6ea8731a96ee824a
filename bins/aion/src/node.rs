//! [`Node`]: every store, the market's observer and the sandbox of one data directory, opened once.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aion_loop::store::SqliteLoopStore;
use aion_loop::{InProcessTransport, OpenApiOptions, ServiceLimits, ServiceLink, Services, TaskStateSigner};
use aion_machine::{LocalMachine, LocalOptions, TaskKeys};
use aion_machine_server::MachineOptions;
use aion_market::{
    BaseRate, Market, MarketOptions, Observer, ObserverOptions, PersistencePredictor, Predictor,
    SqliteMarketStore,
};
use aion_processor::Processor;
use aion_router::{EngineOptions, HashingEmbedder, LiveError, LiveRouter, SqliteRouterStore};
use aion_service::{ApiKey, Limits, Service, StateSource};
use aion_types::{Clock, SystemClock, TaskId};
use axum::Router;

use crate::feed::ProcessorFeed;
use crate::trust::TrustBook;
use crate::{Error, Result};

/// How long a signature of which task calls is valid; one is made for each call.
const SIGNATURE_LIFE: Duration = Duration::from_secs(300);

/// The tools that a task gets, in the machine's names.
pub const TOOLS: [&str; 7] = [
    "read_file",
    "write_file",
    "edit_file",
    "list_files",
    "glob",
    "grep",
    "exec",
];

/// Everything that works on one data directory.
///
/// Files: `processor.db`, `market.db`, `trust.db`, `loop.db`, `router.db`, `work/` (the sandbox's root,
/// one directory a task), `machine/` (what calls were answered, and the audit log), `bases/` (what was
/// copied). If there is a file `task.keys`, one `NAME SECRET` a line, the machine believes only calls of tasks
/// that are signed by one of its keys, as those of the loop then are; and if there is a file `operator.key`, only who
/// sends its text in `X-Operator-Key` may read the audit log over HTTP.
pub struct Node {
    data: PathBuf,
    clock: Arc<dyn Clock>,
    processor: Processor,
    market: Market,
    observer: Observer,
    runs: Arc<SqliteLoopStore>,
    trust: TrustBook,
    catalog: LiveRouter,
    machine: LocalMachine,
    machine_router: Router,
    machine_state: Arc<dyn StateSource>,
    services: Services,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("data", &self.data)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// Opens the directory, and makes it if it is not there.
    ///
    /// # Errors
    /// A store that is in use, damaged or of a newer program; a sandbox that cannot be had.
    pub async fn open(data: &Path) -> Result<Self> {
        Self::open_with(data, LocalOptions::default()).await
    }

    /// The same, with programs held in as `local` says.
    ///
    /// # Errors
    /// Those of [`Node::open`].
    pub async fn open_with(data: &Path, local: LocalOptions) -> Result<Self> {
        let created = std::fs::create_dir_all(data).and_then(|()| data.canonicalize());
        let data = created.map_err(|e| Error::io("create", data, e))?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let processor = Processor::open(data.join("processor.db")).await?;
        let store = Arc::new(SqliteMarketStore::open(data.join("market.db")).await?);
        let market = Market::new(store, Arc::clone(&clock), MarketOptions::default());
        let observer = observer(&processor, &market)?;
        let runs = Arc::new(SqliteLoopStore::open(data.join("loop.db")).await?);
        let trust = TrustBook::open(&data.join("trust.db"), Arc::clone(&clock)).await?;
        let catalog = catalog(&data.join("router.db")).await?;
        let keys = task_keys(&data)?;
        let machine_service = machine_service(&data, &local, keys.as_ref())?;
        let machine_state = machine_service.state();
        let machine_router = machine_service.into_router(&Limits::default());
        let work = data.join("work");
        let machine = LocalMachine::open_root(&work, local).map_err(|e| Error::io("open", &work, e))?;
        let services = tools_of(machine_router.clone(), keys).await?;
        Ok(Self {
            data,
            clock,
            processor,
            market,
            observer,
            runs,
            trust,
            catalog,
            machine,
            machine_router,
            machine_state,
            services,
        })
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The clock of every store.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The task tree.
    pub fn processor(&self) -> &Processor {
        &self.processor
    }

    /// The market.
    pub fn market(&self) -> &Market {
        &self.market
    }

    /// Who opens, feeds and resolves markets.
    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Runs, intents and steps.
    pub fn runs(&self) -> &Arc<SqliteLoopStore> {
        &self.runs
    }

    /// Trust of agents and predictors.
    pub fn trust(&self) -> &TrustBook {
        &self.trust
    }

    /// What agents could use, and what was learned of its use.
    pub fn catalog(&self) -> &LiveRouter {
        &self.catalog
    }

    /// The sandbox.
    pub fn machine(&self) -> &LocalMachine {
        &self.machine
    }

    /// The machine's HTTP service, called without a socket.
    pub fn machine_router(&self) -> &Router {
        &self.machine_router
    }

    /// What the machine says of itself.
    pub fn machine_state(&self) -> Arc<dyn StateSource> {
        Arc::clone(&self.machine_state)
    }

    /// The tools that agents get, in process.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// The directory of a task, from the sandbox's root.
    pub fn cwd_of(task: TaskId) -> String {
        format!("tasks/{task}")
    }

    /// The directory of a task on this host.
    pub fn workspace(&self, task: TaskId) -> PathBuf {
        self.data.join("work").join(Self::cwd_of(task))
    }

    /// Where it is written what a task began with.
    pub(crate) fn base_of(&self, task: TaskId) -> PathBuf {
        self.data.join("bases").join(format!("{task}.json"))
    }
}

/// The router over its file; texts are compared by their spelling.
async fn catalog(file: &Path) -> Result<LiveRouter, LiveError> {
    let store = Arc::new(SqliteRouterStore::open(file).await?);
    LiveRouter::open(store, Arc::new(HashingEmbedder), EngineOptions::default()).await
}

fn observer(processor: &Processor, market: &Market) -> Result<Observer> {
    let predictors: Vec<Arc<dyn Predictor>> = vec![
        Arc::new(BaseRate::new(market.clone())?),
        Arc::new(PersistencePredictor::new(market.clone())?),
    ];
    let feed = Arc::new(ProcessorFeed::new(processor.clone()));
    Ok(Observer::new(
        market.clone(),
        feed,
        predictors,
        ObserverOptions::default(),
    ))
}

/// The machine service over the data directory.
fn machine_service(data: &Path, local: &LocalOptions, keys: Option<&Arc<TaskKeys>>) -> Result<Service> {
    let mut options = MachineOptions::new(data.join("work"))
        .with_local(local.clone())
        .with_journal(data.join("machine"))
        .with_audit(data.join("machine/audit"));
    if let Some(keys) = keys {
        options = options.with_task_keys(Arc::clone(keys));
    }
    if let Some((path, text)) = text_of(data, "operator.key")? {
        let key = ApiKey::new(&text.into());
        let key = key.map_err(|e| Error::io("read", &path, std::io::Error::other(e)))?;
        options = options.with_operator_key(key);
    }
    Ok(aion_machine_server::service(options)?)
}

/// The keys of the data directory that sign which task calls the machine, if it has some.
fn task_keys(data: &Path) -> Result<Option<Arc<TaskKeys>>> {
    let Some((path, text)) = text_of(data, "task.keys")? else {
        return Ok(None);
    };
    let keys = TaskKeys::parse(&text).map_err(|e| Error::io("read", &path, std::io::Error::other(e)))?;
    Ok(Some(Arc::new(keys)))
}

/// A file of the data directory and what is in it, if it is there.
fn text_of(data: &Path, name: &str) -> Result<Option<(PathBuf, String)>> {
    let path = data.join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", &path, e)),
    }
}

/// Signs for the machine of this process.
#[derive(Debug)]
struct Signing(Arc<TaskKeys>);

impl TaskStateSigner for Signing {
    fn sign(&self, plain: &str) -> Option<String> {
        self.0.sign_plain(plain, SIGNATURE_LIFE)
    }
}

/// The machine's operations as tools, called without a socket.
async fn tools_of(router: Router, keys: Option<Arc<TaskKeys>>) -> Result<Services> {
    let transport: InProcessTransport<_, axum::body::Body> = InProcessTransport::new(router);
    let mut link = ServiceLink::in_process("machine", Arc::new(transport));
    if let Some(keys) = keys {
        link = link.with_signer(Arc::new(Signing(keys)));
    }
    let options = OpenApiOptions::default().with_only(TOOLS);
    Ok(Services::discover([(link, options)], ServiceLimits::default()).await?)
}
