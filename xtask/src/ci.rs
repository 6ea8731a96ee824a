//! The stages that a change must pass, in order, each with its time.
#![allow(clippy::print_stdout)] // this is a terminal program

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::{Error, Result, clients, command, fuzz_http, house, mcp_conformance};

/// What to run of the stages.
#[derive(Debug, Clone, Default, Args)]
pub struct CiArgs {
    /// Run only these stages; wgpu and cuda run only when they are named here
    #[arg(long, value_enum, value_name = "STAGE", num_args = 1..)]
    only: Vec<Stage>,
}

/// One stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// Formatting
    Fmt,
    /// House rules
    House,
    /// Licences, bans, sources and, where they can be fetched, advisories
    Deny,
    /// Lints, all targets
    Clippy,
    /// The tests
    Test,
    /// The tests of the machine as an ordinary user
    Sandbox,
    /// The vector kernels under AddressSanitizer
    Kernels,
    /// Documentation without a warning
    Doc,
    /// Benches in test mode
    Benches,
    /// Every example, run
    Examples,
    /// Generated requests to every server, held against its own document
    Schemathesis,
    /// The official conformance suite of the Model Context Protocol
    Mcp,
    /// The official OpenAI clients, with strict types, against the model's server
    Clients,
    /// The programs, end to end
    E2e,
    /// The language model on a software Vulkan driver
    Wgpu,
    /// The language model compiled for CUDA, and run where a card is
    Cuda,
}

/// The outcome of a stage.
struct Done {
    stage: Stage,
    took: Duration,
    result: Result<Note>,
}

/// What a stage has to say beside having passed.
type Note = String;

/// Runs the stages, goes on after a failure, and lists the times at the end.
///
/// # Errors
/// [`Error::Stages`] with the names of those that failed.
pub fn run(root: &Path, args: &CiArgs) -> Result<()> {
    let by_default = |stage: &Stage| args.only.is_empty() && !stage.is_opt_in();
    let wanted = |stage: &&Stage| by_default(stage) || args.only.contains(stage);
    let mut done = Vec::new();
    for stage in Stage::value_variants().iter().filter(wanted) {
        println!("\n==== {} ====", name(*stage));
        let started = Instant::now();
        let result = stage.run(root);
        let took = started.elapsed();
        let verdict = if result.is_ok() { "passed" } else { "FAILED" };
        println!(
            "==== {} {verdict} in {:.1} s ====",
            name(*stage),
            took.as_secs_f64()
        );
        if let Err(error) = &result {
            println!("{error}");
        }
        done.push(Done {
            stage: *stage,
            took,
            result,
        });
    }
    summary(&done)
}

impl Stage {
    /// Stages that build Burn once more for another device: minutes on a new machine.
    fn is_opt_in(self) -> bool {
        matches!(self, Self::Wgpu | Self::Cuda)
    }

    fn run(self, root: &Path) -> Result<Note> {
        let quiet = |()| Note::new();
        match self {
            Self::Fmt => cargo(root, &["fmt", "--all", "--check"]).map(quiet),
            Self::House => house::report(root).map(quiet),
            Self::Deny => deny(root),
            Self::Clippy => cargo(
                root,
                &[
                    "clippy",
                    "--locked",
                    "--workspace",
                    "--all-targets",
                    "--",
                    "-D",
                    "warnings",
                ],
            )
            .map(quiet),
            Self::Test => test(root),
            Self::Sandbox => script(root, ".ci/sandbox"),
            Self::Kernels => script(root, ".ci/kernels"),
            Self::Doc => doc(root).map(quiet),
            Self::Benches => cargo(root, &["test", "--locked", "--workspace", "--bench", "*"]).map(quiet),
            Self::Examples => examples(root),
            Self::Schemathesis => fuzz_http::run(root),
            Self::Mcp => mcp_conformance::run(root),
            Self::Clients => clients::run(root),
            Self::E2e => script(root, ".ci/e2e"),
            Self::Wgpu => script(root, ".ci/wgpu"),
            Self::Cuda => script(root, ".ci/cuda"),
        }
    }
}

fn cargo(root: &Path, args: &[&str]) -> Result<()> {
    command::run(command::cargo(root).args(args))
}

/// The README's test command. The counts of its many binaries are added up into one closing line.
fn test(root: &Path) -> Result<Note> {
    let mut cargo = command::cargo(root);
    cargo
        .args(["test", "--locked", "--workspace", "--no-fail-fast"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = cargo
        .spawn()
        .map_err(|source| command::not_started(&cargo, source))?;
    let mut tally = Tally::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            tally.add_line(&line);
            println!("{line}");
        }
    }
    let status = child
        .wait()
        .map_err(|source| command::not_started(&cargo, source))?;
    println!("\n{}", tally.line());
    command::succeeded(&cargo, status)?;
    Ok(tally.line())
}

/// The counts of several test binaries.
///
/// ```
/// let mut tally = xtask::ci::Tally::default();
/// tally.add_line("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s");
/// tally.add_line("test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
/// assert_eq!(tally.line(), "7 passed, 2 failed, 1 skipped");
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Tally {
    /// Adds the closing line of a test binary; any other line changes nothing.
    pub fn add_line(&mut self, line: &str) {
        let Some((_, counts)) = line
            .split_once("test result: ")
            .and_then(|(_, rest)| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split("; ") {
            let Some((number, what)) = count.split_once(' ') else {
                continue;
            };
            let number: u64 = number.parse().unwrap_or(0);
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    /// The closing line for all of them.
    pub fn line(&self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.ignored
        )
    }
}

fn doc(root: &Path) -> Result<()> {
    let mut cargo = command::cargo(root);
    cargo
        .args(["doc", "--locked", "--workspace", "--no-deps"])
        .env("RUSTDOCFLAGS", "-D warnings");
    command::run(&mut cargo)
}

/// Licences, bans and sources always; advisories where their database can be fetched.
fn deny(root: &Path) -> Result<Note> {
    let found = command::output(command::cargo(root).args(["deny", "--version"]));
    if found.is_err() {
        return Err(Error::Missing(
            "cargo-deny (.ci/run installs it; or `cargo install --locked cargo-deny`)".into(),
        ));
    }
    cargo(
        root,
        &["deny", "--all-features", "check", "licenses", "bans", "sources"],
    )?;
    match command::output(command::cargo(root).args(["deny", "fetch", "db"])) {
        Ok(_) => cargo(root, &["deny", "--all-features", "check", "advisories"]).map(|()| Note::new()),
        Err(_) => Ok("advisories SKIPPED: their database cannot be fetched from here".to_owned()),
    }
}

/// Builds every example of the workspace and runs them from its root.
///
/// They are built with the whole workspace, because one package alone would get other features of its dependencies,
/// and so another build of all of them.
fn examples(root: &Path) -> Result<Note> {
    let mut cargo = command::cargo(root);
    cargo.args([
        "build",
        "--locked",
        "--workspace",
        "--examples",
        "--message-format",
        "json-render-diagnostics",
    ]);
    let programs = command::executables(&mut cargo)?;
    for program in &programs {
        println!("-- {}", program.file_stem().unwrap_or_default().to_string_lossy());
        command::run(Command::new(program).current_dir(root))?;
    }
    Ok(format!("{} examples ran", programs.len()))
}

/// A stage that is a script of its own.
fn script(root: &Path, name: &str) -> Result<Note> {
    if !root.join(name).is_file() {
        return Err(Error::Missing(name.to_owned()));
    }
    command::run(&mut command::script(root, name)).map(|()| Note::new())
}

fn name(stage: Stage) -> String {
    stage
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

fn summary(done: &[Done]) -> Result<()> {
    println!("\nstage          seconds  result");
    for Done { stage, took, result } in done {
        let verdict = match result {
            Ok(note) if note.is_empty() => "passed".to_owned(),
            Ok(note) => format!("passed ({})", note.replace('\n', "\n                         ")),
            Err(_) => "FAILED".to_owned(),
        };
        println!("{:<12} {:>9.1}  {verdict}", name(*stage), took.as_secs_f64());
    }
    let total: f64 = done.iter().map(|one| one.took.as_secs_f64()).sum();
    println!("{:<12} {total:>9.1}", "total");
    let failed: Vec<_> = done
        .iter()
        .filter(|one| one.result.is_err())
        .map(|one| name(one.stage))
        .collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Error::Stages(failed.join(", ")))
    }
}
