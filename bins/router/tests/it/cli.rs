//! `aion-router eval`, as somebody who has never seen it would try it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn eval(folder: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aion-router"));
    let command =
        command
            .current_dir(folder)
            .args(["eval", "--items", "items.jsonl", "--queries", "queries.jsonl"]);
    command
        .args(more)
        .env_remove("AION_ROUTER_MINILM")
        .output()
        .unwrap()
}

fn set() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (mut items, mut queries) = (String::new(), String::new());
    for (name, text) in [
        ("read_file", "Reads a file"),
        ("send_mail", "Sends a mail"),
        ("weather", "Rain at a place"),
    ] {
        items.push_str(&format!("{{\"name\": \"{name}\", \"text\": \"{text}\"}}\n"));
        for n in 0..8 {
            queries.push_str(&format!(
                "{{\"text\": \"{text} number {n}\", \"relevant\": [\"{name}\"]}}\n"
            ));
        }
    }
    fs::write(dir.path().join("items.jsonl"), items).unwrap();
    fs::write(dir.path().join("queries.jsonl"), queries).unwrap();
    dir
}

#[test]
fn a_table_json_and_a_picture() {
    let dir = set();
    let done = eval(dir.path(), &["--svg", "curve.svg"]);
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(
        said.contains("3 items, 12 questions") && said.contains("after learning from 12"),
        "{said}"
    );
    let picture = fs::read_to_string(dir.path().join("curve.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("learning"));
    let done = eval(dir.path(), &["--json"]);
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(report["words"]["recall_5"], 1.0);
    assert!(report["learned"]["bits"].as_f64().unwrap() < report["uniform_bits"].as_f64().unwrap());
}

#[test]
fn bad_files_are_named_with_the_line() {
    let dir = set();
    fs::write(
        dir.path().join("queries.jsonl"),
        "{\"text\": \"a\", \"relevant\": []}\n{\"text\": 1}\n",
    )
    .unwrap();
    let done = eval(dir.path(), &[]);
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(!done.status.success());
    assert!(
        said.contains("queries.jsonl") && said.contains("line 2"),
        "{said}"
    );
    fs::write(dir.path().join("queries.jsonl"), "").unwrap();
    let said = String::from_utf8(eval(dir.path(), &[]).stderr).unwrap();
    assert!(said.contains("two questions"), "{said}");
    fs::remove_file(dir.path().join("items.jsonl")).unwrap();
    let said = String::from_utf8(eval(dir.path(), &[]).stderr).unwrap();
    assert!(said.contains("items.jsonl"), "{said}");
}
