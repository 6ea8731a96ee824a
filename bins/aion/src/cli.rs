//! The commands and their flags.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aion_loop::{Budget, SharedObserver, StepReport};
use aion_machine::{LocalOptions, RunAs};
use aion_processor_server::TargetArgs;
use aion_service::ServeArgs;
use aion_types::TaskId;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio_util::sync::CancellationToken;

use crate::demo::{self, DemoOptions};
use crate::doctor::{self, DoctorOptions};
use crate::model::convert::{self, CalibrateArgs, QuantizeArgs, UnigramArgs, json_or_text, overwrite};
use crate::model::{DEFAULT_MODEL, KNOWN_MODELS, ModelCache, ModelSource, Progress};
use crate::node::Node;
use crate::run::{self, LoadedModel, ModelChoice, RunOutcome, RunReport, RunRequest, Style};
use crate::up::{self, UpModel};
use crate::{Result, render, terminal};

/// The address of `aion up` unless told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:9300";
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Durable tasks, a sandbox, a local language model, a market that scores beliefs: in one program.
#[derive(Debug, Parser)]
#[command(name = "aion", version, about, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum Command {
    /// Work on a copy of a directory until a check passes
    Run(RunArgs),
    /// Go on with a task that was paused or broken off
    Resume(ResumeArgs),
    /// Six small real tasks, and what the market said of them beforehand
    Demo(DemoArgs),
    /// Serve everything on one port
    Up(UpArgs),
    /// Look at the models on this machine, or fetch one
    #[command(subcommand)]
    Model(ModelCommand),
    /// Say what is there, what is missing and what to do
    Doctor(DoctorArgs),
}

/// `aion model ...`
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum ModelCommand {
    /// List the models in the cache
    List {
        /// Print a JSON document
        #[arg(long)]
        json: bool,
    },
    /// Fetch a model unless it is there, and print its path
    Pull {
        /// smollm2, org/repo or org/repo/file.gguf
        #[arg(default_value = DEFAULT_MODEL.name)]
        name: ModelSource,
    },
    /// Print the path of a model that is there
    Path {
        /// smollm2, a file of the cache, a path, org/repo or org/repo/file.gguf
        #[arg(default_value = DEFAULT_MODEL.name)]
        name: ModelSource,
    },
    /// Say what a model is: its shape, its types, what lies beside it
    Inspect {
        /// smollm2, a file of the cache, or a path
        #[arg(default_value = DEFAULT_MODEL.name)]
        name: ModelSource,
        /// Print a JSON document
        #[arg(long)]
        json: bool,
    },
    /// Write a GGUF file with quantised weights, and say what they lose
    Quantize(QuantizeArgs),
    /// Count the tokens of a corpus; the counts lie beside the model, which then measures persistence against them
    Unigram(UnigramArgs),
    /// Fit what makes a probability of persistence to completions whose outcome is known; it lies beside the model
    Calibrate(CalibrateArgs),
    /// Write a model as a checkpoint directory: configuration, safetensors, tokenizer and a manifest with checksums
    Save {
        /// smollm2, a file of the cache, or a path
        name: ModelSource,
        /// The directory to write
        to: PathBuf,
        /// Replace a directory that is there
        #[arg(long)]
        force: bool,
    },
    /// Compare the files of a checkpoint directory with the checksums of its manifest
    Verify {
        /// The directory
        dir: PathBuf,
    },
}

/// Where everything is kept.
#[derive(Debug, Clone, Args)]
pub struct DataArgs {
    /// Directory of the databases and workspaces
    #[arg(long, value_name = "DIR", env = "AION_DATA", default_value = "data")]
    pub data: PathBuf,
    /// Who the programs of tasks are: unprivileged (this user, or nobody if that is root), service or UID:GID
    #[arg(
        long,
        value_name = "USER",
        env = "AION_MACHINE_RUN_AS",
        default_value = "unprivileged"
    )]
    run_as: RunAs,
}

impl DataArgs {
    async fn open(&self) -> Result<Node> {
        Node::open_with(&self.data, LocalOptions::default().with_run_as(self.run_as)).await
    }
}

/// Which model, and how it is asked.
#[derive(Debug, Clone, Args)]
pub struct ModelArgs {
    /// smollm2, a file, org/repo, or the URL of an OpenAI-compatible server [env: AION_OPENAI_BASEURL]
    #[arg(long, value_name = "NAME|URL|PATH")]
    model: Option<String>,
    /// The model's name on that server [env: AION_MODEL_NAME]
    #[arg(long, value_name = "NAME")]
    model_name: Option<String>,
    /// How it is asked; small for models of this machine, native for servers
    #[arg(long, value_enum)]
    style: Option<StyleArg>,
}

/// The values of `--style`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StyleArg {
    /// Native tool calls
    Native,
    /// One JSON object that the server's grammar enforces
    JsonSchema,
    /// The same, with prompts for models of a hundred million parameters
    Small,
}

impl From<StyleArg> for Style {
    fn from(arg: StyleArg) -> Self {
        match arg {
            StyleArg::Native => Self::Native,
            StyleArg::JsonSchema => Self::JsonSchema,
            StyleArg::Small => Self::Small,
        }
    }
}

/// Flags of `aion run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// What is to be done
    goal: String,
    /// The directory; a copy of it is worked on
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The command that decides, run by sh in the copy: exit code 0 is success
    #[arg(long, value_name = "COMMAND")]
    check: String,
    /// Most calls of the model
    #[arg(long, value_name = "N", default_value_t = 12)]
    steps: u32,
    /// Most tokens, read and written
    #[arg(long, value_name = "N", default_value_t = 60_000)]
    tokens: u64,
    /// Most seconds of work
    #[arg(long, value_name = "S", default_value_t = 900)]
    seconds: u64,
    /// Kind of task; the market keeps base rates by kind
    #[arg(long, default_value = "run")]
    kind: String,
    /// Seed of the sampler
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Carry changed files back to DIR if the check passes
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    data: DataArgs,
    /// Print a JSON document instead
    #[arg(long)]
    json: bool,
}

/// Flags of `aion resume`.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// The task; the newest unfinished one if none is given
    task: Option<TaskId>,
    /// Carry changed files back if the check passes
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    data: DataArgs,
    /// Print a JSON document instead
    #[arg(long)]
    json: bool,
}

/// Flags of `aion demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Only this task
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Seed of the sampler
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    data: DataArgs,
    /// Print a JSON document instead
    #[arg(long)]
    json: bool,
}

/// Flags of `aion up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// smollm2, a file of the cache, a path, or org/repo; nothing is fetched
    #[arg(long, value_name = "NAME|PATH", default_value = DEFAULT_MODEL.name)]
    model: ModelSource,
    /// How many times a day a language model forecasts in the market, at most 4 times a task; 0 for never. It is
    /// the one of AION_OPENAI_BASEURL, AION_OPENAI_API_KEY and AION_MODEL_NAME, else that of --model
    #[arg(
        long,
        value_name = "CALLS",
        env = "AION_MARKET_LLM_CALLS_PER_DAY",
        default_value_t = 0
    )]
    llm_calls_per_day: u32,
    /// How long trees of tasks that have ended are kept before they are removed; for ever if not given
    #[arg(long, value_name = "DAYS", env = "AION_PROCESSOR_RETAIN_DAYS")]
    retain_days: Option<u32>,
    #[command(flatten)]
    targets: TargetArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    serve: ServeArgs,
}

/// Flags of `aion doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The address that `aion up` will use
    #[arg(long, value_name = "ADDR:PORT", default_value = DEFAULT_LISTEN)]
    listen: SocketAddr,
    /// Print a JSON document
    #[arg(long)]
    json: bool,
}

/// Does what the command line says.
///
/// # Errors
/// What the command could not do.
pub async fn dispatch(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Run(args) => run_task(args).await,
        Command::Resume(args) => resume(args).await,
        Command::Demo(args) => run_demo(args).await,
        Command::Up(args) => serve(args).await.map(|()| ExitCode::SUCCESS),
        Command::Model(command) => model(command).map(|()| ExitCode::SUCCESS),
        Command::Doctor(args) => examine(args).await,
    }
}

impl ModelArgs {
    async fn load(&self) -> Result<(LoadedModel, Style)> {
        let choice = ModelChoice::parse(self.model.as_deref(), self.model_name.as_deref())?;
        let style = self.style.map_or_else(|| choice.style(), Style::from);
        let cache = ModelCache::from_env()?;
        let model = choice.load(&cache, &Progress::on_terminal()).await?;
        Ok((model, style))
    }
}

async fn run_task(args: RunArgs) -> Result<ExitCode> {
    let node = args.data.open().await?;
    let (model, style) = args.model.load().await?;
    let budget = Budget {
        tokens: args.tokens,
        steps: args.steps,
        seconds: args.seconds,
    };
    let request = RunRequest::new(args.goal, args.dir, args.check)
        .with_kind(args.kind)
        .with_budget(budget)
        .with_style(style)
        .with_seed(args.seed);
    let task = run::create(&node, &request).await?;
    work_and_tell(&node, task, &model, Output::of(args.json, args.apply)).await
}

async fn resume(args: ResumeArgs) -> Result<ExitCode> {
    let node = args.data.open().await?;
    let task = match args.task {
        Some(task) => task,
        None => run::newest_open(&node).await?,
    };
    let (model, _) = args.model.load().await?;
    work_and_tell(&node, task, &model, Output::of(args.json, args.apply)).await
}

/// What becomes of the result.
#[derive(Debug, Clone, Copy)]
struct Output {
    form: Form,
    apply: Apply,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Apply {
    Never,
    OnSuccess,
}

impl Output {
    fn of(json: bool, apply: bool) -> Self {
        Self {
            form: if json { Form::Json } else { Form::Text },
            apply: if apply { Apply::OnSuccess } else { Apply::Never },
        }
    }

    fn watcher(self) -> Option<SharedObserver> {
        match self.form {
            Form::Json => None,
            Form::Text => Some(Arc::new(|step: &StepReport| terminal::line(&render::step(step)))),
        }
    }
}

async fn work_and_tell(node: &Node, task: TaskId, model: &LoadedModel, output: Output) -> Result<ExitCode> {
    if output.form == Form::Text {
        terminal::line(&format!("task {task}, model {}", model.name));
    }
    let pause = pause_on_interrupt();
    let mut report = run::work(node, task, &model.chat, output.watcher(), &pause).await?;
    if output.apply == Apply::OnSuccess && report.outcome == RunOutcome::Success {
        run::apply(node, task).await?;
        report.applied = true;
    }
    match output.form {
        Form::Json => terminal::json(&report),
        Form::Text => terminal::line(&render::report(&report)),
    }
    Ok(exit_code(&report))
}

fn exit_code(report: &RunReport) -> ExitCode {
    match report.outcome {
        RunOutcome::Success => ExitCode::SUCCESS,
        RunOutcome::Failed | RunOutcome::Cancelled => ExitCode::FAILURE,
        RunOutcome::Paused => ExitCode::from(3),
    }
}

/// Cancelled by the first Ctrl-C or SIGTERM; the second ends the program as usual.
fn pause_on_interrupt() -> CancellationToken {
    let pause = CancellationToken::new();
    let token = pause.clone();
    tokio::spawn(async move {
        aion_service::stop_signal().await;
        eprintln!("pausing; once more to end at once");
        token.cancel();
        aion_service::stop_signal().await;
        std::process::exit(130);
    });
    pause
}

async fn run_demo(args: DemoArgs) -> Result<ExitCode> {
    let node = args.data.open().await?;
    let (model, style) = args.model.load().await?;
    let options = DemoOptions {
        only: args.only,
        style,
        seed: args.seed,
        ..DemoOptions::default()
    };
    let output = Output::of(args.json, false);
    let watcher = |task: &demo::DemoTask| {
        if output.form == Form::Text {
            terminal::line(&format!("\n{}: {}", task.name, task.goal));
        }
        output.watcher()
    };
    let report = demo::demo(&node, &model.chat, &options, &watcher, &pause_on_interrupt()).await?;
    match output.form {
        Form::Json => terminal::json(&report),
        Form::Text => terminal::line(&format!("\n{}", demo::as_text(&report))),
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: UpArgs) -> Result<()> {
    let options = args.serve.resolve(up::DEFAULT_PORT)?;
    aion_service::init_tracing(options.log_format)?;
    let node = args.data.open().await?;
    let model = UpModel {
        source: args.model,
        cache: ModelCache::from_env()?,
        forecasts_per_day: args.llm_calls_per_day,
    };
    let kept = args.retain_days.map(|days| DAY * days);
    up::up(&node, model, args.targets.policy(), kept, options).await
}

fn model(command: ModelCommand) -> Result<()> {
    let cache = ModelCache::from_env()?;
    match command {
        ModelCommand::Inspect { name, json } => convert::inspect(&cache, &name, json_or_text(json))?,
        ModelCommand::Quantize(args) => convert::quantize(&cache, &args)?,
        ModelCommand::Unigram(args) => convert::unigram(&cache, &args)?,
        ModelCommand::Calibrate(args) => convert::calibrate(&cache, &args)?,
        ModelCommand::Save { name, to, force } => convert::save(&cache, &name, &to, overwrite(force))?,
        ModelCommand::Verify { dir } => convert::verify(&dir)?,
        ModelCommand::List { json: true } => terminal::json(&cache.list()?),
        ModelCommand::List { json: false } => list(&cache)?,
        ModelCommand::Path { name } => terminal::line(&cache.find(&name)?.display().to_string()),
        ModelCommand::Pull { name } => {
            let path = cache.pull(&name, &Progress::on_terminal())?;
            terminal::line(&path.display().to_string());
        }
    }
    Ok(())
}

fn list(cache: &ModelCache) -> Result<()> {
    let models = cache.list()?;
    for model in &models {
        let mib = model.bytes as f64 / (1u64 << 20) as f64;
        terminal::line(&format!("{mib:9.1} MiB  {}", model.name));
    }
    for known in KNOWN_MODELS {
        if !models.iter().any(|model| model.name == known.file_name) {
            terminal::line(&format!("    to fetch  {} ({})", known.name, known.file_name));
        }
    }
    Ok(())
}

async fn examine(args: DoctorArgs) -> Result<ExitCode> {
    let report = doctor::examine(&DoctorOptions {
        data: args.data.data,
        run_as: args.data.run_as,
        cache: ModelCache::from_env()?,
        listen: args.listen,
    })
    .await;
    if args.json {
        terminal::json(&report);
    } else {
        terminal::line(&doctor::as_text(&report));
    }
    Ok(if report.healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
