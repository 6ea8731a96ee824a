//! `cargo xtask soak`: workers that are killed for minutes or hours, while the store's promises are checked.

use std::path::Path;
use std::process::Command;

use clap::{Args, ValueEnum};

use crate::{Error, Result, command};

/// How long, and on which store.
#[derive(Debug, Clone, Args)]
pub struct SoakArgs {
    /// How long it goes on
    #[arg(long, default_value_t = 5.0, value_name = "N")]
    minutes: f64,
    /// The store that is kept busy; `postgres` starts a server of its own, which is killed, too
    #[arg(long, value_enum, default_value_t = Store::Sqlite)]
    store: Store,
    /// One JSON document at the end instead of words
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Store {
    /// A file
    Sqlite,
    /// A server
    Postgres,
}

/// Builds the program, runs it, and prints what it saw.
///
/// # Errors
/// When it cannot be built, or when a promise was not kept.
pub fn run(root: &Path, args: &SoakArgs) -> Result<()> {
    let program = build(root)?;
    let mut soak = Command::new(program);
    soak.current_dir(root).arg("run");
    soak.arg("--minutes").arg(args.minutes.to_string());
    if args.json {
        soak.arg("--json");
    }
    match args.store {
        Store::Sqlite => command::run(&mut soak),
        Store::Postgres => on_server(root, &mut soak),
    }
}

fn build(root: &Path) -> Result<std::path::PathBuf> {
    let mut cargo = command::cargo(root);
    cargo.args([
        "build",
        "--locked",
        "--release",
        "--package",
        "aion-benches",
        "--bin",
        "soak",
    ]);
    cargo.args([
        "--no-default-features",
        "--features",
        "soak",
        "--message-format",
        "json-render-diagnostics",
    ]);
    let programs = command::executables(&mut cargo)?;
    programs
        .into_iter()
        .next_back()
        .ok_or_else(|| Error::Missing("the path of soak".into()))
}

/// Runs it against a server of its own, which is stopped however it ends.
fn on_server(root: &Path, soak: &mut Command) -> Result<()> {
    let script = root.join(".ci/postgres");
    let settings = command::output(Command::new(&script).arg("start"))?;
    let (url, directory) = parse(&settings)?;
    soak.args(["--url", &url, "--kill-server"]);
    soak.arg(&script).args(["crash", &directory]);
    let done = command::run(soak);
    let stopped = command::output(Command::new(&script).args(["stop", &directory]));
    done.and(stopped.map(drop))
}

/// The URL and the directory in what `.ci/postgres start` says.
///
/// # Errors
/// When they are not there.
///
/// ```
/// let said = "export AION_TEST_POSTGRES=postgres://aion:x@127.0.0.1:5/postgres\nexport AION_TEST_POSTGRES_DIR=/tmp/x\n";
/// let (url, directory) = xtask::soak::parse(said)?;
/// assert_eq!((url.as_str(), directory.as_str()), ("postgres://aion:x@127.0.0.1:5/postgres", "/tmp/x"));
/// # Ok::<(), xtask::Error>(())
/// ```
pub fn parse(settings: &str) -> Result<(String, String)> {
    let value = |name: &str| {
        let mut lines = settings.lines();
        let found = lines.find_map(|line| {
            line.strip_prefix("export ")?
                .strip_prefix(name)?
                .strip_prefix('=')
        });
        found
            .map(str::to_owned)
            .ok_or_else(|| Error::Missing(format!("{name} in what .ci/postgres says")))
    };
    Ok((value("AION_TEST_POSTGRES")?, value("AION_TEST_POSTGRES_DIR")?))
}
