//! `aion-processor-server`: the durable task tree over HTTP.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aion_processor::{Durability, Processor, SqliteOptions, SqliteTaskStore, TaskStore};
use aion_processor_server::{
    Archive, DEFAULT_PORT, Deliverer, DelivererOptions, HttpSender, Retention, ServiceOptions, TargetArgs,
    service_with,
};
use aion_service::ServeArgs;
use aion_types::HandlerId;
use clap::{Parser, ValueEnum};

/// How often leases and delayed starts are looked after.
const TICK: Duration = Duration::from_millis(250);
/// How often trees that have been kept for long enough are looked for.
const RETIRE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The durable task tree over HTTP: tasks, claims under a lease, messages, events.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The SQLite file with the tasks; made if it is not there
    #[arg(
        long,
        value_name = "FILE",
        env = "AION_PROCESSOR_DATABASE",
        default_value = "processor.db"
    )]
    database: PathBuf,
    /// A Postgres database with the tasks, instead of a file; other users of the machine can read flags, so give a
    /// password by the environment
    #[cfg(feature = "postgres")]
    #[arg(
        long,
        value_name = "URL",
        env = "AION_PROCESSOR_POSTGRES",
        hide_env_values = true
    )]
    postgres: Option<String>,
    /// A folder for the exports of trees that are removed; made if it is not there
    #[arg(long, value_name = "FOLDER", env = "AION_PROCESSOR_ARCHIVE")]
    archive: Option<PathBuf>,
    /// How long trees that have ended are kept before they are removed, into the archive if there is one; for ever if
    /// not given
    #[arg(long, value_name = "DAYS", env = "AION_PROCESSOR_RETAIN_DAYS")]
    retain_days: Option<u32>,
    /// What every acknowledged write survives at least
    #[arg(
        long,
        value_name = "WHAT",
        env = "AION_PROCESSOR_DURABILITY",
        default_value = "process"
    )]
    durability: Survives,
    #[command(flatten)]
    targets: TargetArgs,
    #[command(flatten)]
    serve: ServeArgs,
}

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Survives {
    /// The end of the process; ends of tasks, creates and messages a loss of power as well
    Process,
    /// A loss of power, claims and heartbeats included
    Power,
}

impl From<Survives> for Durability {
    fn from(survives: Survives) -> Self {
        match survives {
            Survives::Process => Self::Process,
            Survives::Power => Self::Power,
        }
    }
}

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            aion_service::report("aion-processor-server", &*error);
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let serving = cli.serve.resolve(DEFAULT_PORT)?;
    let targets = cli.targets.policy();
    let mut options = ServiceOptions::default().with_targets(targets.clone());
    let archive = cli.archive.as_deref().map(made).transpose()?;
    if let Some(archive) = &archive {
        options = options.with_archive(archive.clone());
    }
    let store = Store::open(&cli).await?;
    let processor = Processor::over(store.tasks());
    let retention = cli.retain_days.map(|days| {
        let kept = DAY * days;
        let retention = Retention::new(processor.clone(), kept, archive);
        tokio::spawn(async move { retention.run(RETIRE).await })
    });
    let clock = tokio::spawn({
        let processor = processor.clone();
        async move { processor.keep_time(TICK).await }
    });
    let sender = DelivererOptions::new(HandlerId::new(store.sender_name())?);
    let delivering = Deliverer::new(processor.clone(), HttpSender::new(targets)?, sender).start();
    let served = aion_service::run(service_with(processor, options), serving).await;
    delivering.stop().await;
    clock.abort();
    if let Some(retention) = retention {
        retention.abort();
    }
    store.close().await;
    Ok(served?)
}

fn made(folder: &Path) -> Result<Archive, Failure> {
    std::fs::create_dir_all(folder).map_err(|error| Opening {
        what: format!("the archive {} cannot be made", folder.display()),
        cause: error.into(),
    })?;
    Ok(Archive::new(folder))
}

/// Where the tasks are.
enum Store {
    Sqlite(Arc<SqliteTaskStore>),
    #[cfg(feature = "postgres")]
    Postgres(Arc<aion_processor::PostgresTaskStore>),
}

impl Store {
    async fn open(cli: &Cli) -> Result<Self, Failure> {
        #[cfg(feature = "postgres")]
        if let Some(url) = &cli.postgres {
            return Self::open_postgres(url, cli.durability.into()).await;
        }
        let options = SqliteOptions::default().with_durability(cli.durability.into());
        let store = SqliteTaskStore::open(&cli.database, options)
            .await
            .map_err(|error| Opening {
                what: format!("the database {} cannot be opened", cli.database.display()),
                cause: error.into(),
            })?;
        Ok(Self::Sqlite(Arc::new(store)))
    }

    #[cfg(feature = "postgres")]
    async fn open_postgres(url: &str, durability: Durability) -> Result<Self, Failure> {
        let options = aion_processor::PostgresOptions::default().with_durability(durability);
        let store = aion_processor::PostgresTaskStore::open(url, options)
            .await
            .map_err(|error| Opening {
                what: format!("the Postgres database {} cannot be opened", place_of(url)),
                cause: error.into(),
            })?;
        Ok(Self::Postgres(Arc::new(store)))
    }

    fn tasks(&self) -> Arc<dyn TaskStore> {
        match self {
            Self::Sqlite(store) => store.clone(),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.clone(),
        }
    }

    /// Who sends webhooks: of a file always the same one, also after a crash, for one process has it; of a server, which
    /// many may share, this process.
    fn sender_name(&self) -> String {
        match self {
            Self::Sqlite(_) => "aion-processor-server".to_owned(),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => format!(
                "aion-processor-server-{}",
                aion_types::TaskId::generate(aion_types::Clock::now(&aion_types::SystemClock))
            ),
        }
    }

    async fn close(&self) {
        match self {
            Self::Sqlite(store) => store.close().await,
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.close().await,
        }
    }
}

/// Host, port and database of a URL, without whoever connects and how.
#[cfg(feature = "postgres")]
fn place_of(url: &str) -> &str {
    let place = url.rsplit('@').next().unwrap_or_default();
    let place = place.rsplit("//").next().unwrap_or_default();
    place.split('?').next().unwrap_or_default()
}

/// Something that the server needs is not to be had.
#[derive(Debug)]
struct Opening {
    what: String,
    cause: Failure,
}

impl std::fmt::Display for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Opening {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.cause)
    }
}
