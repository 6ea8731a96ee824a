//! `aion-loop-server`: agents that work on the tasks of a processor, over HTTP.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aion_loop::store::SqliteLoopStore;
use aion_loop::{
    ChatModel, IdempotencyKeys, NetworkTransport, OpenAiChat, OpenAiConfig, OpenApiOptions, ServiceLimits,
    ServiceLink, Services, TaskStateSigner, Transport,
};
use aion_loop_server::{DEFAULT_PORT, Models, Runner, service};
use aion_machine::TaskKeys;
use aion_processor::Processor;
use aion_service::ServeArgs;
use clap::Parser;

/// How often leases and delayed starts are looked after.
const TICK: Duration = Duration::from_millis(250);

/// Operations that every Aion service has and no agent needs.
const SHARED: [&str; 5] = ["get_state", "healthz", "readyz", "metrics", "openapi"];
/// The processor's store, which is for programs: its operations are no tools.
const STORE: [&str; 7] = [
    "store_info",
    "store_apply",
    "store_claim",
    "store_read",
    "store_due",
    "store_now",
    "store_wake",
];

/// What the machine offers to programs and operators: executions as streams, the operations of a workspace one to
/// one, the audit log. The tools for agents are beside them.
const MACHINE: [&str; 22] = [
    "enforcement",
    "machine",
    "list_audit",
    "start_execution",
    "list_executions",
    "get_execution",
    "kill_execution",
    "follow_execution",
    "workspace_read",
    "workspace_write",
    "workspace_edit",
    "workspace_patch",
    "workspace_stat",
    "workspace_list",
    "workspace_mkdir",
    "workspace_remove",
    "workspace_move",
    "workspace_glob",
    "workspace_grep",
    "workspace_snapshot",
    "workspace_diff",
    "workspace_watch",
];
/// How long a signature of which task calls is valid; one is made for each call.
const SIGNATURE_LIFE: Duration = Duration::from_secs(300);

/// Agents that work on tasks, over HTTP. The model is the one of AION_OPENAI_BASEURL and AION_MODEL_NAME.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The SQLite file with runs, steps and types of agent; made if it is not there
    #[arg(
        long,
        value_name = "FILE",
        env = "AION_LOOP_DATABASE",
        default_value = "loop.db"
    )]
    database: PathBuf,
    /// The SQLite file with the tasks; no other process may have it open
    #[arg(
        long,
        value_name = "FILE",
        env = "AION_PROCESSOR_DATABASE",
        default_value = "processor.db"
    )]
    tasks: PathBuf,
    /// A service whose operations are tools, such as machine=http://127.0.0.1:9202; may be repeated
    #[arg(long = "service", value_name = "NAME=URL", value_parser = named_url)]
    services: Vec<(String, String)>,
    /// A file with the keys that sign X-Task-State for the service called machine, one `NAME SECRET` a line
    #[arg(long, value_name = "FILE", env = "AION_TASK_KEYS_FILE")]
    task_keys: Option<PathBuf>,
    #[command(flatten)]
    serve: ServeArgs,
}

/// Signs for the machine.
#[derive(Debug)]
struct Signing(TaskKeys);

impl TaskStateSigner for Signing {
    fn sign(&self, plain: &str) -> Option<String> {
        self.0.sign_plain(plain, SIGNATURE_LIFE)
    }
}

fn named_url(text: &str) -> Result<(String, String), String> {
    let (name, url) = text.split_once('=').ok_or("write NAME=URL")?;
    Ok((name.to_owned(), url.to_owned()))
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            aion_service::report("aion-loop-server", &*error);
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<(), Box<dyn std::error::Error>> {
    let serving = cli.serve.resolve(DEFAULT_PORT)?;
    let transport: Arc<dyn Transport> = Arc::new(NetworkTransport::new(Duration::from_secs(10))?);
    let processor = Processor::open(&cli.tasks).await?;
    let store = Arc::new(SqliteLoopStore::open(&cli.database).await?);
    let signer = match &cli.task_keys {
        Some(path) => Some(Arc::new(Signing(TaskKeys::parse(&std::fs::read_to_string(
            path,
        )?)?))),
        None => None,
    };
    let services = discover(&cli.services, &transport, signer).await?;
    let runner = Runner::new(processor.clone(), store, services, models(&transport)?);
    let clock = tokio::spawn(async move { processor.keep_time(TICK).await });
    let served = aion_service::run(service(runner.clone()), serving).await;
    runner.stop().await;
    clock.abort();
    Ok(served?)
}

async fn discover(
    links: &[(String, String)],
    transport: &Arc<dyn Transport>,
    signer: Option<Arc<Signing>>,
) -> aion_loop::Result<Services> {
    let options = OpenApiOptions::default()
        .with_keys(IdempotencyKeys::WhereDeclared)
        .without(SHARED.into_iter().chain(STORE).chain(MACHINE));
    let links = links.iter().map(|(name, url)| {
        let link = ServiceLink::new(name, url, Arc::clone(transport));
        let link = match &signer {
            Some(signer) if name == "machine" => link.with_signer(Arc::clone(signer) as _),
            _ => link,
        };
        (link, options.clone())
    });
    Services::discover(links, ServiceLimits::default()).await
}

/// The model of the environment, and others of the same server by name; none if it names none.
fn models(transport: &Arc<dyn Transport>) -> Result<Models, aion_loop::ModelError> {
    if std::env::var_os("AION_OPENAI_BASEURL").is_none() {
        return Ok(Models::none());
    }
    let config = OpenAiConfig::from_env()?;
    let chat = OpenAiChat::new(config.clone(), Arc::clone(transport))?;
    let transport = Arc::clone(transport);
    Ok(Models::one(Arc::new(chat)).with_maker(move |name| {
        let config = OpenAiConfig {
            model: name.to_owned(),
            ..config.clone()
        };
        let chat = OpenAiChat::new(config, Arc::clone(&transport)).ok()?;
        Some(Arc::new(chat) as Arc<dyn ChatModel>)
    }))
}
