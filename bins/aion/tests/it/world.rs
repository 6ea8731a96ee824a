//! A data directory, a directory to work on, and the program under test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use aion_cli::node::Node;
use aion_cli::run::RunReport;
use tempfile::TempDir;

/// A key that must never turn up anywhere.
///
/// It has no form that keys usually have: only its value can give it away.
pub(crate) const SECRET: &str = "planted with care 7741";

/// Directories that are gone with the test.
pub(crate) struct World {
    root: TempDir,
}

impl World {
    /// A world with these files to work on.
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("dir");
        std::fs::create_dir(&dir).unwrap();
        for (name, content) in files {
            std::fs::write(dir.join(name), content).unwrap();
        }
        Self { root }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.root.path().join("dir")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// The program with this world's data directory and a key in its environment.
    pub(crate) fn aion(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aion"));
        command
            .args(args)
            .env("AION_DATA", self.data())
            .env("AION_OPENAI_API_KEY", SECRET)
            .env_remove("AION_OPENAI_BASEURL")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// `aion run` against a model server.
    pub(crate) fn run(&self, url: &str, goal: &str, check: &str, more: &[&str]) -> Command {
        let dir = self.dir();
        let mut args = vec![
            "run",
            goal,
            "--dir",
            dir.to_str().unwrap(),
            "--check",
            check,
            "--model",
            url,
            "--json",
        ];
        args.extend(more);
        self.aion(&args)
    }

    /// The stores, opened after the program has ended.
    pub(crate) async fn node(&self) -> Node {
        Node::open(&self.data()).await.unwrap()
    }
}

/// The document that the program printed.
pub(crate) fn report(output: &Output) -> RunReport {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

/// All that the program printed.
pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Runs a command on a thread of its own, so that an in-process server can answer it.
pub(crate) async fn finish(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

/// Every file below a directory, with its content.
pub(crate) fn files(dir: &Path) -> Vec<(String, String)> {
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    found.sort();
    found
}
