//! Requests made from a server's own document, valid and invalid ones: does it answer as the document says?
//!
//! Each server runs by itself in an empty directory, on loopback, with its defaults. schemathesis (a Python program, in
//! an environment of its own) reads `/openapi.json` and sends what follows from it: examples, edges of every schema,
//! random values, wrong values, and chains of operations. An answer of 5xx, or with a status, a content type, a header
//! or a body that the document does not have, or that takes what the document forbids, fails the stage with the `curl`
//! command that asks for it again; so does a run that left an operation out or came to few requests. Streams that never
//! end are for other tests, and no request waits long for work (`.ci/fuzz_http.py`).
#![allow(clippy::print_stdout)] // this is a terminal program

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::peers::python;
use crate::{Error, Result, command};

const PACKAGES: [&str; 1] = ["schemathesis==4.32.5"];
const SERVERS: [&str; 6] = [
    "aion-market-server",
    "aion-processor-server",
    "aion-machine-server",
    "aion-loop-server",
    "aion-router-server",
    MODEL_SERVER,
];
/// It needs the small model of `.ci/model`.
const MODEL_SERVER: &str = "aion-llm-server";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_schema_conformance,response_headers_conformance,unsupported_method,allow_header_conformance,\
    negative_data_rejection";
/// Streams that end only when their reader does.
const ENDLESS: [&str; 5] = [
    "stream_events",
    "store_wake",
    "follow_execution",
    "workspace_watch",
    "stream_market_events",
];
/// For each server: six of them stay under three minutes.
const SECONDS: &str = "25";
/// Requests that each server is sent at least.
const FEWEST: u32 = 150;
const SEED: &str = "20261122";

/// Tries every server; one line for each.
///
/// # Errors
/// [`Error::Stages`] with the servers that answered otherwise than their document says; what cannot be built or run.
pub fn run(root: &Path) -> Result<String> {
    let python = python::interpreter("schemathesis", &PACKAGES)?;
    let built = build(root)?;
    let (mut lines, mut failed) = (Vec::new(), Vec::new());
    for name in SERVERS {
        let program = built
            .iter()
            .find(|program| program.file_stem().is_some_and(|stem| stem == name))
            .ok_or_else(|| Error::Missing(format!("the path of {name}")))?;
        let settings = settings(root, name)?;
        let verdict = attempt(root, &python, program, &settings)?;
        println!("{name}: {}", verdict.line);
        lines.push(format!("{name}: {}", verdict.line));
        if !verdict.passed {
            failed.push(name);
        }
    }
    if failed.is_empty() {
        Ok(lines.join("\n"))
    } else {
        Err(Error::Stages(failed.join(", ")))
    }
}

/// Builds the binaries with the whole workspace, as the tests are built.
pub(crate) fn build(root: &Path) -> Result<Vec<PathBuf>> {
    let mut cargo = command::cargo(root);
    cargo.args(["build", "--locked", "--workspace", "--bins"]);
    command::executables(cargo.args(["--message-format", "json-render-diagnostics"]))
}

struct Verdict {
    passed: bool,
    line: String,
}

/// What a server needs to be told: the model's has a window so small that no request takes long.
fn settings(root: &Path, name: &str) -> Result<Vec<(&'static str, String)>> {
    if name != MODEL_SERVER {
        return Ok(Vec::new());
    }
    let model = command::output(&mut command::script(root, ".ci/model"))?;
    Ok(vec![
        ("AION_LLM_MODEL", model.trim().to_owned()),
        ("AION_LLM_CONTEXT", "96".to_owned()),
    ])
}

/// One server from its start to its end.
fn attempt(root: &Path, python: &Path, program: &Path, settings: &[(&str, String)]) -> Result<Verdict> {
    let scratch = command::scratch()?;
    let settings: Vec<_> = settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let mut server = Server::start_with(program, scratch.path(), &settings)?;
    let done = schemathesis(root, python, &server.url, scratch.path())
        .output()
        .map_err(|source| Error::Start {
            program: "schemathesis".to_owned(),
            source,
        })?;
    let said = String::from_utf8_lossy(&done.stdout);
    let alive = server.is_alive();
    let passed = done.status.success() && alive && is_thorough(&said);
    if !passed {
        println!("{said}{}", String::from_utf8_lossy(&done.stderr));
        println!("---- the end of its log ----\n{}", server.log_end()?);
    }
    let ended = if alive { "" } else { "the server ended; " };
    Ok(Verdict {
        passed,
        line: format!("{ended}{}", case_count(&said)),
    })
}

/// The line of the report that counts the requests.
///
/// ```
/// let report = "Test cases:\n  4580 generated, 4580 passed\n\nSeed: 1\n";
/// assert_eq!(xtask::fuzz_http::case_count(report), "4580 generated, 4580 passed");
/// ```
pub fn case_count(report: &str) -> &str {
    let counts = report.lines().skip_while(|line| !line.starts_with("Test cases:"));
    counts.map(str::trim).nth(1).unwrap_or("no request was made")
}

/// Whether every operation that was meant to be tried was, and there were requests enough.
///
/// ```
/// let report = |tested, cases| {
///     format!("  Selected: 69/71\n  Tested: {tested}\nTest cases:\n  {cases} generated, 1 skipped\n")
/// };
/// assert!(xtask::fuzz_http::is_thorough(&report(69, 700)));
/// assert!(!xtask::fuzz_http::is_thorough(&report(19, 700)));
/// assert!(!xtask::fuzz_http::is_thorough(&report(69, 70)));
/// ```
pub fn is_thorough(report: &str) -> bool {
    let number = |label: &str| {
        let found = report.lines().find_map(|line| line.trim().strip_prefix(label))?;
        let digits = found.trim().split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse::<u32>().ok()
    };
    let cases = case_count(report).split(' ').next();
    number("Selected:").is_some_and(|selected| number("Tested:") == Some(selected))
        && cases.and_then(|cases| cases.parse().ok()) >= Some(FEWEST)
}

fn schemathesis(root: &Path, python: &Path, url: &str, dir: &Path) -> Command {
    let mut command = Command::new(python.with_file_name("schemathesis"));
    command
        .current_dir(dir)
        .stdin(Stdio::null())
        .env("PYTHONPATH", root.join(".ci"))
        .env("SCHEMATHESIS_HOOKS", "fuzz_http")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(["--no-color", "run", &format!("{url}/openapi.json")])
        .args(["--wait-for-schema", "30", "--request-timeout", "25"])
        .args(["--checks", CHECKS, "--mode", "all"])
        .args(["--phases", "examples,coverage,fuzzing,stateful"])
        .args(["--max-time", SECONDS, "--seed", SEED, "--continue-on-failure"])
        .args(["--warnings", "off", "--output-sanitize", "false"])
        .args(["--generation-database", "none"]);
    for operation in ENDLESS {
        command.args(["--exclude-operation-id", operation]);
    }
    command
}

/// A server that runs until this is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    log: PathBuf,
}

impl Server {
    pub(crate) fn start(program: &Path, dir: &Path) -> Result<Self> {
        Self::start_with(program, dir, &[])
    }

    /// The same with settings in its environment.
    pub(crate) fn start_with(program: &Path, dir: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        let log = dir.join("server.log");
        let failed = |source| Error::File {
            path: log.clone(),
            source,
        };
        let out = File::create(&log).map_err(failed)?;
        let err = out.try_clone().map_err(failed)?;
        // The port is free now and named to the server at once; should somebody take it, the server says so and ends.
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        drop(listener);
        let mut program = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AION_")) {
            program.env_remove(name);
        }
        program
            .current_dir(dir)
            .envs(settings.iter().copied())
            .env("AION_LISTEN", addr.to_string())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        let child = program
            .spawn()
            .map_err(|source| command::not_started(&program, source))?;
        Ok(Self {
            child,
            url: format!("http://{addr}"),
            log,
        })
    }

    /// Waits until it listens.
    pub(crate) fn wait(&mut self, most: Duration) -> Result<()> {
        let addr = self.url.trim_start_matches("http://").to_owned();
        let began = Instant::now();
        while TcpStream::connect(&addr).is_err() {
            if began.elapsed() > most || !self.is_alive() {
                let log = self.log_end()?;
                return Err(Error::Missing(format!(
                    "a server at {addr}; its log ends:\n{log}"
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    pub(crate) fn log_end(&self) -> Result<String> {
        let text = command::read(&self.log)?;
        let lines: Vec<_> = text.lines().collect();
        Ok(lines[lines.len().saturating_sub(20)..].join("\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
