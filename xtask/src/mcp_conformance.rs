//! The official conformance suite of the Model Context Protocol, against the machine's server.
//!
//! The suite (`@modelcontextprotocol/conformance`, a Node.js program of a fixed version, in a directory of its own)
//! runs every server scenario over HTTP. Those that ask for the fixture tools, resources and prompts of the suite's own
//! "everything server" cannot pass against a server that has other tools; they are listed, each with its reason, in
//! `bins/machine/tests/mcp_conformance.yml`. A scenario that fails without being listed there fails the stage, and so
//! does a listed one that passes.
#![allow(clippy::print_stdout)] // this is a terminal program

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::fuzz_http::{Server, build};
use crate::node::Node;
use crate::peers::python;
use crate::{Error, Result, command};

const SUITE: &str = "@modelcontextprotocol/conformance";
const VERSION: &str = "0.1.16";
const SERVER: &str = "aion-machine-server";
const EXPECTED: &str = "bins/machine/tests/mcp_conformance.yml";
const MAX_WAIT: std::time::Duration = std::time::Duration::from_secs(30);

/// Runs the suite; one line about it.
///
/// # Errors
/// [`Error::Stages`] when a scenario ends otherwise than the list says; what cannot be had, built or run.
pub fn run(root: &Path) -> Result<String> {
    let node = Node::find()?;
    let suite = suite(&node)?;
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

/// Where the suite is; it is installed on the first call, and again when its version changes.
fn suite(node: &Node) -> Result<PathBuf> {
    let dir = python::cache_dir()?.join("peers/mcp-conformance").join(VERSION);
    let script = dir.join("node_modules").join(SUITE).join("dist/index.js");
    node.install(&dir, &script, &[&format!("{SUITE}@{VERSION}")])?;
    Ok(script)
}
